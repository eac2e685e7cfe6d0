//! What the manual says of a start and a command line: whether the command runs, and what it has then.
//!
//! Where the manual leaves it open whether a run is refused, [`Forecast::may`] says so. What the command has when it
//! runs is never open: there is nothing that would be more than was planned.

use std::collections::{BTreeMap, BTreeSet};

use super::line::{Choice, Line, Program};
use super::scene::Scene;
use super::space::Space;
use super::start::{SETGID, SETUID, Start};
use super::who::{Readers, Target};
use crate::report::Report;

const DAC: u64 = 1 << 1 | 1 << 2;
const CHOWN: u64 = 1;
const SETPCAP: u64 = 1 << 8;
const SYS_NICE: u64 = 1 << 23;
const SYS_RESOURCE: u64 = 1 << 24;
const REFUSED: i32 = 125;

/// The start as the kernel tells it, which is what stepdown finds.
pub struct Begun<'a> {
    pub start: &'a Start,
    pub report: &'a Report,
    pub environment: BTreeMap<String, String>,
}

/// What is to come of it.
#[derive(Debug, Default)]
pub struct Forecast {
    /// Why it is refused for certain, and the exit code.
    pub must: Vec<(i32, String)>,
    /// Why it may be refused: the manual does not say.
    pub may: Vec<(i32, String)>,
    /// Likewise, and only trying tells: a dry run may not know.
    pub tried: Vec<(i32, String)>,
    /// What the command has if it runs; none where nobody could say who it would be.
    pub promise: Option<Promise>,
}

/// What the command has.
#[derive(Debug)]
pub struct Promise {
    pub target: Target,
    /// Ascending.
    pub groups: Vec<u32>,
    /// In all five sets.
    pub kept: u64,
    /// Left as it was found, and idle.
    pub bounding: u64,
    pub no_new_privs: bool,
    /// Runs as who started it, who does not switch.
    pub bystander: bool,
    /// Number, and what it leads to.
    pub descriptors: BTreeMap<u64, String>,
    /// Those that belong to the target.
    pub own_pipes: BTreeSet<u64>,
    pub umask: String,
    pub directory: String,
    /// By the number of the resource; those that differ from the start.
    pub limits: BTreeMap<usize, (u64, u64)>,
    pub nice: i64,
    pub oom_score_adj: Option<i32>,
    pub new_session: bool,
    /// None where it is left open.
    pub death_signal: Option<i64>,
    pub environment: BTreeMap<String, String>,
    /// Directories that exist, with their mode where it is said; trees that belong to the target.
    pub made: Vec<(&'static str, u32)>,
    pub owned: Vec<&'static str>,
}

impl Begun<'_> {
    fn set(&self, name: &str) -> u64 {
        self.report.capabilities(name).iter().map(|number| 1 << number).sum()
    }

    /// Whether all of these are effective.
    pub fn has(&self, capabilities: u64) -> bool {
        self.set("effective") & capabilities == capabilities
    }

    fn is(&self, target: &Target) -> bool {
        self.report.uids() == [u64::from(target.uid); 3] && self.report.gids() == [u64::from(target.gid); 3]
    }

    fn groups(&self) -> Vec<u32> {
        self.report.groups().iter().map(|&gid| u32::try_from(gid).expect("a gid")).collect()
    }
}

/// The forecast.
pub fn forecast(begun: &Begun<'_>, line: &Line, scene: &Scene) -> Forecast {
    let mut forecast = Forecast::default();
    let told = &mut forecast;
    if line.choices.iter().any(|choice| matches!(choice, Choice::Mistake(_))) {
        told.must(REFUSED, "a mistake on the command line");
    }
    let (uids, gids) = (begun.report.uids(), begun.report.gids());
    if uids[0] != uids[1] || gids[0] != gids[1] || begun.report.number("secure") != 0 {
        told.must(REFUSED, "run set-user-ID");
    }
    let list = line.choices.iter().find_map(|choice| if let Choice::Groups(list) = choice { Some(*list) } else { None });
    let owner = |name: &str| scene.owner_seen(begun.start.space, name);
    let target = Readers { environment: &begun.environment, owner: &owner }.target(&line.user, list);
    let target = match target {
        Ok(target) => target,
        Err(why) => {
            told.must(REFUSED, format!("USER: {why}"));
            return forecast;
        }
    };
    if line.user.starts_with('@') && !scene.is_plain(begun) {
        told.may(REFUSED, "whose directory it is looks different from here");
    }
    let (target, groups, bystander) = role(begun, line, target, told);
    let mut promise = Promise {
        kept: 0,
        bounding: 0,
        no_new_privs: true,
        bystander,
        descriptors: BTreeMap::new(),
        own_pipes: BTreeSet::new(),
        umask: begun.report.text("umask").to_owned(),
        directory: begun.report.text("directory").to_owned(),
        limits: BTreeMap::new(),
        nice: begun.report.number("nice"),
        oom_score_adj: None,
        new_session: line.has(&Choice::NewSession),
        // What the process that stays passes on is another chapter.
        death_signal: (!line.stays()).then(|| begun.report.number("parent_death_signal")),
        environment: environment(begun, line, &target, bystander),
        made: Vec::new(),
        owned: Vec::new(),
        target,
        groups,
    };
    privileges(begun, line, &mut promise, told);
    descriptors(begun, line, &mut promise, told);
    limits(begun, line, &mut promise, told);
    scene.chores(begun, line, &mut promise, told);
    place(begun, line, scene, &mut promise, told);
    command(line, scene, &promise, told);
    forecast.promise = Some(promise);
    forecast
}

impl Forecast {
    pub fn must(&mut self, code: i32, why: impl Into<String>) {
        self.must.push((code, why.into()));
    }

    pub fn may(&mut self, code: i32, why: &str) {
        self.may.push((code, why.to_owned()));
    }

    pub fn tried(&mut self, code: i32, why: &str) {
        self.tried.push((code, why.to_owned()));
    }

    /// Whether it is known for certain what comes of it.
    pub fn is_open(&self) -> bool {
        self.must.is_empty() && !(self.may.is_empty() && self.tried.is_empty())
    }

    /// The exit codes with which it may be refused.
    pub fn codes(&self) -> Vec<i32> {
        self.must.iter().chain(&self.may).chain(&self.tried).map(|(code, _)| *code).collect()
    }
}

/// Who it runs as in the end, with which groups, and whether nobody switches: "How it can be started".
fn role(begun: &Begun<'_>, line: &Line, target: Target, told: &mut Forecast) -> (Target, Vec<u32>, bool) {
    let space = begun.start.space;
    let (found, planned) = (begun.groups(), target.groups.clone());
    let changes_groups = begun.has(SETGID) && !space.denies_setgroups();
    let listed = line.choices.iter().any(|choice| matches!(choice, Choice::Groups(_)));
    let may_stay = |gid: &u32| planned.contains(gid) || *gid != 0 && !listed;
    if begun.is(&target) && !changes_groups && found.iter().all(may_stay) {
        return (target, found, false);
    }
    let same_uid = begun.report.uids() == [u64::from(target.uid); 3];
    if begun.has(SETGID) && (same_uid || begun.has(SETUID)) {
        if !changes_groups {
            told.must(REFUSED, "setgroups is denied");
        }
        if planned.iter().chain([&target.gid, &target.uid]).any(|&id| space.outside(id).is_none()) {
            told.must(REFUSED, "the user namespace lacks that id");
        }
        return (target, planned, false);
    }
    if !line.has(&Choice::IfRoot) {
        told.must(REFUSED, "started as neither root nor the target");
        return (target, planned, false);
    }
    let one = |ids: Vec<u64>| u32::try_from(ids[0]).expect("an id");
    let (uid, gid) = (one(begun.report.uids()), one(begun.report.gids()));
    if uid == 0 && target.uid != 0 {
        told.must(REFUSED, "--if-root never runs as uid 0 where that is not written out");
    }
    (Target { uid, gid, groups: found.clone(), entry: None }, found, true)
}

fn environment(begun: &Begun<'_>, line: &Line, target: &Target, bystander: bool) -> BTreeMap<String, String> {
    let mut all = if line.has(&Choice::ClearEnv) { BTreeMap::new() } else { begun.environment.clone() };
    all.retain(|name, _| !name.starts_with("LISTEN_"));
    if !bystander {
        ["HOME", "USER", "LOGNAME", "SHELL"].into_iter().for_each(|name| drop(all.remove(name)));
        let [name, home, shell] = target.entry.unwrap_or_default();
        let home = if home.is_empty() { "/" } else { home };
        for (variable, value) in [("HOME", home), ("USER", name), ("LOGNAME", name), ("SHELL", shell)] {
            if !value.is_empty() {
                all.insert(variable.to_owned(), value.to_owned());
            }
        }
    }
    for choice in &line.choices {
        match choice {
            Choice::Env(name, value) => drop(all.insert((*name).to_owned(), (*value).to_owned())),
            Choice::UnsetEnv(name) => drop(all.remove(*name)),
            _ => {}
        }
    }
    all
}

/// "All five capability sets empty, no_new_privs set", `--keep-cap`, `--allow-new-privs`.
fn privileges(begun: &Begun<'_>, line: &Line, promise: &mut Promise, told: &mut Forecast) {
    for choice in &line.choices {
        if let Choice::KeepCap(names) = choice {
            promise.kept |= names.iter().map(|(_, number)| 1 << number).sum::<u64>();
        }
    }
    let kept = promise.kept;
    if kept & begun.set("permitted") != kept || kept & begun.set("bounding") != kept {
        told.must(REFUSED, "a capability that is not there can't be kept");
    }
    if kept != 0 && begun.report.number("securebits") != 0 {
        told.tried(REFUSED, "securebits may forbid the ambient set");
    }
    promise.bounding = if begun.has(SETPCAP) { kept } else { begun.set("bounding") };
    if line.has(&Choice::AllowNewPrivs) {
        promise.no_new_privs = begun.report.number("no_new_privs") == 1;
        if !promise.no_new_privs && promise.bounding & !kept != 0 {
            told.must(REFUSED, "the bounding set can't be dropped");
        }
    }
}

/// "Descriptors 0, 1, 2, --keep-fd N, and any N that an argument names. All others are closed."
fn descriptors(begun: &Begun<'_>, line: &Line, promise: &mut Promise, told: &mut Forecast) {
    let target = |fd: u64| begun.report.descriptor(fd).and_then(|one| Some((one["target"].as_str()?, one["kind"].as_str()?)));
    let mut wanted: Vec<u64> = vec![0, 1, 2];
    for choice in &line.choices {
        let Choice::KeepFd(fd) = choice else { continue };
        let fd = u64::try_from(*fd).expect("a descriptor");
        if target(fd).is_none() {
            told.must(REFUSED, "a descriptor that is closed can't be kept");
        }
        wanted.push(fd);
    }
    let named: Vec<u64> = line.named.iter().map(|(_, fd)| u64::try_from(*fd).expect("a descriptor")).collect();
    wanted.extend(named.iter().filter(|&&fd| target(fd).is_some()));
    for &fd in &wanted {
        let leads_to = target(fd).map_or("/dev/null", |(target, _)| target);
        promise.descriptors.insert(fd, leads_to.to_owned());
    }
    // To give a file away takes CAP_CHOWN, and an owner that the namespace maps.
    // Who is the target already has what it was started with.
    let switches = begun.has(SETUID | SETGID | CHOWN) && !begun.is(&promise.target);
    if switches && begun.start.space == Space::None && !promise.bystander {
        let own = [0, 1, 2].into_iter().chain(named).filter(|&fd| target(fd).is_some_and(|(_, kind)| kind == "pipe"));
        promise.own_pipes = own.collect();
    }
}

/// `--ulimit` and its like: what takes more than the start has is refused.
fn limits(begun: &Begun<'_>, line: &Line, promise: &mut Promise, told: &mut Forecast) {
    let raises = begun.has(SYS_RESOURCE) && begun.start.space == Space::None;
    let unsaid = begun.has(SYS_RESOURCE) && !raises;
    for choice in &line.choices {
        match *choice {
            Choice::Ulimit { resource, soft, hard, .. } => {
                promise.limits.insert(resource, (soft, hard));
                let now = begun.report.0["limits"][resource][1].as_u64().unwrap_or(u64::MAX);
                if hard > now && unsaid {
                    told.tried(REFUSED, "CAP_SYS_RESOURCE in a user namespace");
                } else if hard > now && !raises {
                    told.must(REFUSED, "to raise a hard limit takes CAP_SYS_RESOURCE");
                }
            }
            Choice::Nice(nice) => {
                promise.nice = nice.into();
                let lower = i64::from(nice) < begun.report.number("nice");
                if lower && !(begun.has(SYS_NICE) && begun.start.space == Space::None) {
                    // RLIMIT_NICE may allow it.
                    told.tried(REFUSED, "to lower nice takes CAP_SYS_NICE");
                }
            }
            Choice::OomScoreAdj(score) => {
                promise.oom_score_adj = Some(score);
                let now: i32 = begun.report.text("oom_score_adj").parse().unwrap_or(1000);
                if score < now && !raises {
                    told.tried(REFUSED, "to lower the score takes CAP_SYS_RESOURCE");
                }
            }
            Choice::Pdeathsig(_, number) => promise.death_signal = Some(number.into()),
            _ => {}
        }
    }
    let leads = begun.report.number("process_group") == begun.report.number("pid");
    let leads_session = begun.report.number("session") == begun.report.number("pid");
    if promise.new_session && leads && !leads_session && !line.stays() {
        told.must(REFUSED, "what leads a process group can't begin a session");
    }
}

/// `--chdir`, `--umask`: as the target.
fn place(begun: &Begun<'_>, line: &Line, scene: &Scene, promise: &mut Promise, told: &mut Forecast) {
    for choice in &line.choices {
        match *choice {
            Choice::Umask(mask) => promise.umask = format!("{mask:04o}"),
            Choice::Chdir(name) => {
                promise.directory = scene.path(name);
                let made = promise.made.iter().any(|(made, _)| *made == name);
                if !made && ["none", "new", "plain"].contains(&name) {
                    told.must(REFUSED, "no such directory");
                }
                let root = begun.start.space.outside(promise.target.uid) == Some(0);
                if name == "closed" && !root && promise.kept & DAC != 0 {
                    told.tried(REFUSED, "a capability that may not reach this far");
                } else if name == "closed" && !root {
                    told.must(REFUSED, "a directory that the target may not enter");
                    told.tried(REFUSED, "and root can't tell who may");
                }
                if promise.made.iter().any(|(_, mode)| mode & 0o500 == 0) {
                    told.may(REFUSED, "a mode that the target gets");
                }
            }
            _ => {}
        }
    }
}

/// "Exit codes": 127 not found, 126 can't be run.
fn command(line: &Line, scene: &Scene, promise: &Promise, told: &mut Forecast) {
    match line.program {
        Program::Report => {}
        Program::Missing => told.must(127, "no such command"),
        Program::Plain => told.must(126, "a command that nobody may execute"),
        Program::Searched => {
            let path = promise.environment.get("PATH").map_or("", String::as_str);
            if !path.split(':').any(|element| element == scene.programs) {
                told.must(127, "not in PATH");
            }
        }
    }
}
