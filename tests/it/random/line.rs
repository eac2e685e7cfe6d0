//! A command line: options of which each may be right, wrong, or too much for who starts.

use super::dice::Dice;
use super::start::Start;
use super::words::{BAD_USERS, CAPABILITIES, GROUPS, MISTAKES, RIGHT_USERS, USERS, VARIABLES};

/// One option, as it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Groups(&'static str),
    IfRoot,
    KeepCap(Vec<(&'static str, u32)>),
    AllowNewPrivs,
    KeepFd(i32),
    Env(&'static str, &'static str),
    UnsetEnv(&'static str),
    ClearEnv,
    /// Below the combination's directory; empty for `/`.
    Chdir(&'static str),
    Umask(u32),
    Init(&'static [&'static str]),
    Ulimit {
        name: &'static str,
        resource: usize,
        soft: u64,
        hard: u64,
    },
    Nice(i32),
    OomScoreAdj(i32),
    NewSession,
    Pdeathsig(&'static str, i32),
    Mkdir(&'static str, Option<u32>),
    Chown(&'static str),
    ChownIfPossible(&'static str),
    /// What can't be meant at all.
    Mistake(&'static [&'static str]),
}

/// COMMAND.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The report, by its path.
    Report,
    /// The same, as a name to be looked for in PATH.
    Searched,
    /// Nothing is there.
    Missing,
    /// A file that nobody may execute.
    Plain,
}

/// What the starter types.
#[derive(Debug)]
pub struct Line {
    pub choices: Vec<Choice>,
    pub user: String,
    pub program: Program,
    /// Words behind the program that name descriptors.
    pub named: Vec<(String, i32)>,
    /// `--` in front of COMMAND.
    pub dashes: bool,
    /// `--option=value`, not two words.
    pub joined: bool,
}

impl Line {
    /// The one that the dice say; it often asks for what its starter has.
    pub fn random(dice: &mut Dice, start: &Start) -> Self {
        let mut choices = Vec::new();
        // A line of many random parts has something wrong in it nearly always.
        let careful = dice.percent(60);
        if dice.percent(15) {
            choices.push(Choice::Groups(dice.pick(GROUPS)));
        }
        if dice.percent(15) {
            choices.push(Choice::IfRoot);
        }
        privileges(dice, start, &mut choices);
        surroundings(dice, start, &mut choices);
        limits(dice, &mut choices);
        chores(dice, &mut choices);
        if dice.percent(8) {
            choices.push(Choice::Mistake(dice.pick(MISTAKES)));
        }
        choices.retain(|choice| !careful || choice.may_be_right(start));
        dice.shuffle(&mut choices);
        let numbers: Vec<i32> = start.strays.iter().map(|(fd, _)| *fd).chain([1, 9, 30]).collect();
        let named = dice
            .some(&numbers, 8)
            .into_iter()
            .map(|fd| (dice.pick(&["/dev/fd/#", "/proc/self/fd/#", "--config=/dev/fd/#"]).replace('#', &fd.to_string()), fd));
        Self {
            choices,
            named: named.collect(),
            user: if careful { right_user(dice, start) } else { user(dice, start) },
            program: match dice.below(100) {
                _ if careful => Program::Report,
                0..=80 => Program::Report,
                81..=92 => Program::Searched,
                93..=97 => Program::Missing,
                _ => Program::Plain,
            },
            dashes: dice.percent(30),
            joined: dice.percent(50),
        }
    }

    /// Whether an option is there.
    pub fn has(&self, choice: &Choice) -> bool {
        self.choices.contains(choice)
    }

    /// Whether a process stays, and the command is its child.
    pub fn stays(&self) -> bool {
        self.choices.iter().any(|choice| matches!(choice, Choice::Init(_)))
    }

    /// Its words, with another option in front if need be; `at` is the combination's directory.
    pub fn words(&self, first: Option<&str>, at: &str, program: &str, to: &str) -> Vec<String> {
        let mut words: Vec<String> = first.into_iter().map(str::to_owned).collect();
        for choice in &self.choices {
            let (option, value) = choice.typed(at);
            match value {
                None => words.extend(option.iter().map(|word| (*word).to_owned())),
                Some(value) if self.joined => words.push(format!("{}={value}", option[0])),
                Some(value) => words.extend([option[0].to_owned(), value]),
            }
        }
        words.push(self.user.replace("@", &format!("@{at}/")));
        words.extend(self.dashes.then(|| "--".to_owned()));
        words.extend([program, "--to", to].map(str::to_owned));
        words.extend(self.named.iter().map(|(word, _)| word.clone()));
        words
    }
}

impl Choice {
    /// Whether nothing is known to be wrong with it.
    fn may_be_right(&self, start: &Start) -> bool {
        let all = start.bounding == u64::MAX && (start.uids[0] == 0 || start.ambient == u64::MAX);
        match self {
            Self::Mistake(_)
            | Self::Groups("nosuch" | "$PUID,50" | "$PGID" | "${UNSET:-0}")
            | Self::Chdir("none" | "plain" | "new") => false,
            Self::Chown("none") => false,
            Self::AllowNewPrivs | Self::Ulimit { .. } | Self::KeepCap(_) => all,
            Self::KeepFd(fd) => start.strays.iter().any(|(open, _)| open == fd),
            _ => true,
        }
    }

    fn typed(&self, at: &str) -> (Vec<&'static str>, Option<String>) {
        let path = |name: &str| if name.is_empty() { "/".to_owned() } else { format!("{at}/{name}") };
        let one = |option: &'static str, value: String| (vec![option], Some(value));
        match self {
            Self::Groups(list) => one("--groups", (*list).to_owned()),
            Self::IfRoot => (vec!["--if-root"], None),
            Self::KeepCap(names) => one("--keep-cap", names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",")),
            Self::AllowNewPrivs => (vec!["--allow-new-privs"], None),
            Self::KeepFd(fd) => one("--keep-fd", fd.to_string()),
            Self::Env(name, value) => one("--env", format!("{name}={value}")),
            Self::UnsetEnv(name) => one("--unset-env", (*name).to_owned()),
            Self::ClearEnv => (vec!["--clear-env"], None),
            Self::Chdir(name) => one("--chdir", path(name)),
            Self::Umask(mask) => one("--umask", format!("{mask:03o}")),
            Self::Init(options) => ([&["--init"], *options].concat(), None),
            Self::Ulimit { name, soft, hard, .. } if soft == hard => one("--ulimit", format!("{name}={soft}")),
            Self::Ulimit { name, soft, hard, .. } => one("--ulimit", format!("{name}={soft}:{hard}")),
            Self::Nice(value) => one("--nice", value.to_string()),
            Self::OomScoreAdj(score) => one("--oom-score-adj", score.to_string()),
            Self::NewSession => (vec!["--new-session"], None),
            Self::Pdeathsig(name, _) => one("--pdeathsig", (*name).to_owned()),
            Self::Mkdir(name, None) => one("--mkdir", path(name)),
            Self::Mkdir(name, Some(mode)) => one("--mkdir", format!("{}:{mode:o}", path(name))),
            Self::Chown(name) => one("--chown", path(name)),
            Self::ChownIfPossible(name) => one("--chown-if-possible", path(name)),
            Self::Mistake(words) => (words.to_vec(), None),
        }
    }
}

/// One that can be had, by who may switch or is it already.
fn right_user(dice: &mut Dice, start: &Start) -> String {
    if start.uids[0] != 0 || dice.percent(20) {
        let entry = if start.uids[0] == 1000 { "node" } else { "games" };
        let by_name = [5, 1000].contains(&start.uids[0]) && dice.percent(75);
        return if by_name { entry.to_owned() } else { format!("{}:{}", start.uids[0], start.gids[0]) };
    }
    dice.pick(RIGHT_USERS).to_owned()
}

fn user(dice: &mut Dice, start: &Start) -> String {
    // Who may not switch is told so most of the time, and that need not be seen so often.
    if start.uids[0] != 0 && dice.percent(60) {
        return match start.uids[0] {
            1000 if dice.percent(60) => "node".to_owned(),
            5 => "games".to_owned(),
            uid => format!("{uid}:{}", start.gids[0]),
        };
    }
    match dice.below(100) {
        0..=49 => dice.pick(USERS).to_owned(),
        50..=69 => format!("{}:{}", start.uids[0], start.gids[0]),
        70..=83 => dice.pick(VARIABLES).to_owned(),
        84..=93 => {
            dice.pick(&["@data", "@data", "@theirs", "@theirs", "@link", "@link", "@none", "@roots", "@groups"]).to_owned()
        }
        _ => dice.pick(BAD_USERS).to_owned(),
    }
}

fn privileges(dice: &mut Dice, start: &Start, choices: &mut Vec<Choice>) {
    if dice.percent(20) {
        let had = start.bounding & (start.ambient | if start.uids[0] == 0 { u64::MAX } else { 0 });
        let had: Vec<_> = CAPABILITIES.iter().copied().filter(|(_, number)| had >> number & 1 == 1).collect();
        let of = if dice.percent(8) { CAPABILITIES } else { &had };
        let mut kept = dice.some(of, 25);
        if kept.is_empty() && !of.is_empty() {
            kept.push(dice.pick(of));
        }
        if !kept.is_empty() {
            choices.push(Choice::KeepCap(kept));
        }
    }
    if dice.percent(15) {
        choices.push(Choice::AllowNewPrivs);
    }
}

fn surroundings(dice: &mut Dice, start: &Start, choices: &mut Vec<Choice>) {
    let numbers: Vec<i32> = start.strays.iter().map(|(fd, _)| *fd).collect();
    choices.extend(dice.some(&numbers, 25).into_iter().map(Choice::KeepFd));
    if dice.percent(3) {
        choices.push(Choice::KeepFd(dice.pick(&[9, 30, 2000])));
    }
    let set = [("ADDED", "x y"), ("HOME", "/elsewhere"), ("PUID", "1"), ("PATH", "/nowhere"), ("KEPT", "")];
    choices.extend(dice.some(&set, 6).into_iter().map(|(name, value)| Choice::Env(name, value)));
    let unset = ["SHELL", "USER", "UNSET", "LOGNAME"];
    choices.extend(dice.some(&unset, 6).into_iter().map(Choice::UnsetEnv));
    if dice.percent(8) {
        choices.push(Choice::ClearEnv);
    }
    if dice.percent(15) {
        choices.push(Choice::Chdir(dice.pick(&["", "open", "open", "closed", "data", "data", "none", "new", "plain"])));
    }
    if dice.percent(15) {
        choices.push(Choice::Umask(dice.pick(&[0, 0o22, 0o27, 0o77, 0o777])));
    }
    if dice.percent(12) {
        let options: &[&[&str]] =
            &[&[], &["--grace", "0"], &["--signal-group"], &["--exit-as", "7=8"], &["--rewrite", "TERM=QUIT"]];
        choices.push(Choice::Init(dice.pick(options)));
    }
}

fn limits(dice: &mut Dice, choices: &mut Vec<Choice>) {
    let limits: [(&str, usize, u64, u64); 5] = [
        ("nofile", 7, 64, 4096),
        ("core", 4, 0, 1 << 30),
        ("nproc", 6, 5000, 100_000),
        ("sigpending", 11, 100, 100_000),
        ("rtprio", 14, 0, 99),
    ];
    for (name, resource, least, most) in dice.some(&limits, 3) {
        let soft = least + dice.below(most - least);
        let hard = if dice.percent(50) { soft } else { soft + dice.below(most - soft) };
        choices.push(Choice::Ulimit { name, resource, soft, hard });
    }
    if dice.percent(6) {
        choices.push(Choice::Nice(dice.pick(&[-20, -1, 0, 5, 19])));
    }
    if dice.percent(6) {
        choices.push(Choice::OomScoreAdj(dice.pick(&[-1000, -1, 0, 1, 500, 1000])));
    }
    if dice.percent(6) {
        choices.push(Choice::NewSession);
    }
    if dice.percent(6) {
        let (name, number) = dice.pick(&[("TERM", 15), ("SIGKILL", 9), ("1", 1), ("RTMIN", 34)]);
        choices.push(Choice::Pdeathsig(name, number));
    }
}

fn chores(dice: &mut Dice, choices: &mut Vec<Choice>) {
    if dice.percent(8) {
        choices
            .push(Choice::Mkdir(dice.pick(&["new", "new", "data", "a/b"]), dice.pick(&[None, None, Some(0o700), Some(0o2770)])));
    }
    if dice.percent(10) {
        choices.push(Choice::Chown(dice.pick(&["data", "data", "theirs", "new", "none", "plain"])));
    }
    if dice.percent(4) {
        choices.push(Choice::ChownIfPossible(dice.pick(&["data", "theirs"])));
    }
}
