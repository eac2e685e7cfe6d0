//! The command line as typed. The only file that knows clap; it looks nothing up.

mod files;

pub use files::{Access, Files, Open, Secret};

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Error, anyhow, bail};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::address::Listen;
use crate::capabilities::CapSet;
use crate::failure::{ALIKE, hinted, likeness};
use crate::ids::octal;
use crate::userspec::{Part, UserSpec};

mod init;

pub use init::{Init, Target};

/// What to do.
pub enum Request {
    /// Run, or tell what a run would do.
    Run(Box<Args>),
    /// Print a text to stdout and be done.
    Print(&'static str),
}

/// Everything that was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// Run, or tell.
    pub mode: Mode,
    /// Who the command is to run as.
    pub spec: UserSpec,
    /// COMMAND and its arguments.
    pub command: Vec<&'static CStr>,
    /// `--groups`.
    pub groups: Option<Vec<Part>>,
    /// `--if-root`.
    pub switch: Switch,
    /// `--keep-cap`.
    pub keep_capabilities: CapSet,
    /// `--allow-new-privs`.
    pub new_privileges: NewPrivileges,
    /// `--keep-fd`.
    pub keep_fds: Vec<RawFd>,
    /// `--clear-env`.
    pub inherited_environment: InheritedEnvironment,
    /// `--env`: whole `NAME=VALUE` entries.
    pub env: Vec<CString>,
    /// `--unset-env`: names.
    pub unset_env: Vec<Vec<u8>>,
    /// `--chdir`.
    pub chdir: Option<CString>,
    /// `--umask`.
    pub umask: Option<u32>,
    /// `--mkdir`, in order.
    pub mkdir: Vec<Mkdir>,
    /// `--chown` and `--chown-if-possible`, in order.
    pub chown: Vec<Chown>,
    /// `--chown-policy`.
    pub chown_policy: ChownPolicy,
    /// `--listen`, in order.
    pub listen: Vec<Listen>,
    /// `--init` and what belongs to it.
    pub init: Option<Box<Init>>,
    /// `--secret` and `--open`.
    pub files: Files,
    /// `--verbose`.
    pub verbosity: Verbosity,
}

/// Whether this is the real thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Do it.
    Run,
    /// Print the plan for people.
    Tell,
    /// Print the plan for programs.
    TellJson,
}

/// How much is said on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// What went wrong.
    Quiet,
    /// Each thing that went wrong.
    Verbose,
}

/// Who switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Whoever starts it, or it is an error.
    Always,
    /// Only who has the right to; anybody else runs as who they are.
    IfRoot,
}

/// Whether an execve may add rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewPrivileges {
    /// no_new_privs is set.
    Forbidden,
    /// no_new_privs stays as it was.
    AsFound,
}

/// Where the command's environment starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InheritedEnvironment {
    /// From what stepdown was given.
    Kept,
    /// From nothing.
    Cleared,
}

/// One `--mkdir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mkdir {
    /// The directory.
    pub path: CString,
    /// Its permission bits.
    pub mode: u32,
}

/// One `--chown` or `--chown-if-possible`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chown {
    /// The top of the tree.
    pub path: CString,
    /// What to make of entries that can't be changed.
    pub demand: Demand,
}

/// Whether a chore must succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Or the command does not run.
    Must,
    /// Or one warning says so.
    May,
}

/// When a tree is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChownPolicy {
    /// At every start.
    Always,
    /// Only where the top of the tree belongs to somebody else.
    OnRootMismatch,
}

/// What `--version` prints.
pub const VERSION: &str = concat!("stepdown ", env!("CARGO_PKG_VERSION"), "\n");

/// What `--help` prints: one screen.
pub const HELP: &str = include_str!("help.txt");

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    OneValue,
    Values,
    PerhapsAFormat,
}

const OPTIONS: [(&str, Takes); 28] = [
    ("groups", Takes::OneValue),
    ("if-root", Takes::Nothing),
    ("mkdir", Takes::Values),
    ("chown", Takes::Values),
    ("chown-if-possible", Takes::Values),
    ("chown-policy", Takes::OneValue),
    ("listen", Takes::Values),
    ("secret", Takes::Values),
    ("open", Takes::Values),
    ("keep-cap", Takes::Values),
    ("allow-new-privs", Takes::Nothing),
    ("keep-fd", Takes::Values),
    ("env", Takes::Values),
    ("unset-env", Takes::Values),
    ("clear-env", Takes::Nothing),
    ("chdir", Takes::OneValue),
    ("umask", Takes::OneValue),
    ("init", Takes::Nothing),
    ("rewrite", Takes::Values),
    ("signal-group", Takes::Nothing),
    ("drain", Takes::OneValue),
    ("kill-after", Takes::OneValue),
    ("grace", Takes::OneValue),
    ("exit-as", Takes::Values),
    ("dry-run", Takes::PerhapsAFormat),
    ("verbose", Takes::Nothing),
    ("help", Takes::Nothing),
    ("version", Takes::Nothing),
];

/// Reads the command line, its first element being the program's own name.
pub fn parse(arguments: &[&'static CStr]) -> Result<Request, Error> {
    let typed = arguments.get(1..).unwrap_or_default();
    // Without options there is nothing for clap to do, and building its tables is what costs most here.
    match typed.first() {
        Some(first) if !first.to_bytes().starts_with(b"-") => operands(typed, None),
        _ => with_options(typed),
    }
}

// Apart, because a caller that it became part of would make room for all of clap on the stack of every run.
#[inline(never)]
fn with_options(typed: &[&'static CStr]) -> Result<Request, Error> {
    let words = typed.iter().map(|word| OsStr::from_bytes(word.to_bytes()));
    // clap takes its time and memory for each option it knows. It reads a line the same whether or not it knows
    // those that no word begins like; but it must know all to say what is wrong with the line.
    let spelled = |name: &str| {
        typed.iter().any(|word| word.to_bytes().strip_prefix(b"--").is_some_and(|word| word.starts_with(name.as_bytes())))
    };
    let matches = command(spelled)
        .try_get_matches_from(words.clone())
        .or_else(|_| command(|_| true).try_get_matches_from(words))
        .map_err(|error| explain(&error))?;
    if given(&matches, "help") {
        return Ok(Request::Print(HELP));
    }
    if given(&matches, "version") {
        return Ok(Request::Print(VERSION));
    }
    // Operands are the tail of the line, so their count tells where they begin.
    let count = matches.get_raw("operands").map_or(0, Iterator::count);
    operands(typed.get(typed.len() - count..).unwrap_or_default(), Some(&matches))
}

/// USER [--] COMMAND [ARG...]
fn operands(operands: &[&'static CStr], options: Option<&ArgMatches>) -> Result<Request, Error> {
    let Some((user, command)) = operands.split_first() else {
        return Err(usage("no USER is given"));
    };
    let command = match command.split_first() {
        Some((&first, rest)) if first == c"--" => rest,
        _ => command,
    };
    if command.is_empty() {
        return Err(usage(&format!("no COMMAND is given for USER '{}'", crate::failure::lossy(user))));
    }
    let mut args = Args::new(UserSpec::parse(OsStr::from_bytes(user.to_bytes()))?, command.to_vec());
    if let Some(options) = options {
        args.read_options(options)?;
    }
    Ok(Request::Run(Box::new(args)))
}

fn usage(what: &str) -> Error {
    hinted(what, "stepdown [OPTIONS] USER[:GROUP] [--] COMMAND [ARG...]; see stepdown --help")
}

/// The options that are wanted, and those that have a letter.
fn command(wanted: impl Fn(&str) -> bool) -> Command {
    let options = OPTIONS.iter().filter(|(name, _)| ["help", "version"].contains(name) || wanted(name)).map(|&(name, takes)| {
        let option = Arg::new(name).long(name).value_parser(value_parser!(OsString));
        match takes {
            Takes::Nothing => option.action(ArgAction::SetTrue).value_parser(value_parser!(bool)),
            Takes::OneValue => option.action(ArgAction::Set).allow_hyphen_values(true),
            Takes::Values => option.action(ArgAction::Append).allow_hyphen_values(true),
            Takes::PerhapsAFormat => option.num_args(0..=1).require_equals(true).default_missing_value("text"),
        }
    });
    let operands = Arg::new("operands").num_args(1..).trailing_var_arg(true).value_parser(value_parser!(OsString));
    Command::new("stepdown")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(options)
        .mut_arg("help", |help| help.short('h'))
        .mut_arg("version", |version| version.short('V'))
        .arg(operands)
}

/// clap's reasons, in our words.
fn explain(error: &clap::Error) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    let typed = context(ContextKind::InvalidArg);
    // clap writes `--umask <umask>`; the option alone is what was typed.
    let option = typed.split([' ', '[', '=']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let near = context(ContextKind::SuggestedArg);
            // clap takes what is less alike for a neighbour, too.
            let alike = likeness(typed.trim_start_matches('-'), near.trim_start_matches('-')) > ALIKE;
            let hint = if !alike { "see stepdown --help".to_owned() } else { format!("did you mean {near}?") };
            hinted(format!("unknown option {typed}"), hint)
        }
        ErrorKind::ArgumentConflict => anyhow!("{option} is given twice"),
        ErrorKind::TooManyValues => anyhow!("{option} takes no value"),
        ErrorKind::InvalidValue | ErrorKind::NoEquals => anyhow!("{option} needs a value"),
        kind => anyhow!("the command line can't be read: {kind}"),
    }
}

impl Args {
    /// A line without options.
    #[must_use]
    pub fn new(spec: UserSpec, command: Vec<&'static CStr>) -> Self {
        Self {
            mode: Mode::Run,
            spec,
            command,
            groups: None,
            switch: Switch::Always,
            keep_capabilities: CapSet::EMPTY,
            new_privileges: NewPrivileges::Forbidden,
            keep_fds: Vec::new(),
            inherited_environment: InheritedEnvironment::Kept,
            env: Vec::new(),
            unset_env: Vec::new(),
            chdir: None,
            umask: None,
            mkdir: Vec::new(),
            chown: Vec::new(),
            chown_policy: ChownPolicy::Always,
            listen: Vec::new(),
            init: None,
            files: Files::default(),
            verbosity: Verbosity::Quiet,
        }
    }

    fn read_options(&mut self, options: &ArgMatches) -> Result<(), Error> {
        let given = |name| given(options, name);
        if given("if-root") {
            self.switch = Switch::IfRoot;
        }
        if given("allow-new-privs") {
            self.new_privileges = NewPrivileges::AsFound;
        }
        if given("clear-env") {
            self.inherited_environment = InheritedEnvironment::Cleared;
        }
        if given("verbose") {
            self.verbosity = Verbosity::Verbose;
        }
        self.read_identity(options)?;
        self.read_chores(options)?;
        self.init = init::read(options)?;
        self.files = Files::read(options)?;
        self.read_what_the_command_gets(options)
    }

    fn read_identity(&mut self, options: &ArgMatches) -> Result<(), Error> {
        if let Some(format) = one(options, "dry-run")? {
            self.mode = match format {
                "text" => Mode::Tell,
                "json" => Mode::TellJson,
                other => bail!("--dry-run={other}: the formats are text and json"),
            };
        }
        if let Some(list) = one(options, "groups")? {
            self.groups = Some(Part::parse_list(list).with_context(|| format!("--groups '{list}'"))?);
        }
        for list in many(options, "keep-cap") {
            let set = CapSet::parse(text("keep-cap", list)?).map_err(|why| {
                hinted(
                    format!("--keep-cap '{}': {why}", list.to_string_lossy()),
                    "names are those of capabilities(7): NET_BIND_SERVICE,CHOWN",
                )
            })?;
            self.keep_capabilities.0 |= set.0;
        }
        Ok(())
    }

    fn read_chores(&mut self, options: &ArgMatches) -> Result<(), Error> {
        self.mkdir = many(options, "mkdir").map(Mkdir::parse).collect::<Result<_, _>>()?;
        self.listen = many(options, "listen").map(|typed| Listen::parse(text("listen", typed)?)).collect::<Result<_, _>>()?;
        for (index, listen) in self.listen.iter().enumerate() {
            if self.listen.iter().take(index).any(|earlier| earlier.collides_with(listen)) {
                bail!("--listen {listen}: the address is given twice");
            }
        }
        let mut chown = Vec::new();
        for (option, demand) in [("chown", Demand::Must), ("chown-if-possible", Demand::May)] {
            // clap panics where it is asked for the places of an option that it does not know.
            if many(options, option).next().is_some() {
                let places = options.indices_of(option).into_iter().flatten();
                for (place, typed) in places.zip(many(options, option)) {
                    chown.push((place, Chown { path: path(option, typed)?, demand }));
                }
            }
        }
        chown.sort_by_key(|(place, _)| *place);
        self.chown = chown.into_iter().map(|(_, chown)| chown).collect();
        self.chown_policy = match one(options, "chown-policy")? {
            None | Some("always") => ChownPolicy::Always,
            Some("on-root-mismatch") => ChownPolicy::OnRootMismatch,
            Some(other) => bail!("--chown-policy '{other}': the policies are always and on-root-mismatch"),
        };
        Ok(())
    }

    fn read_what_the_command_gets(&mut self, options: &ArgMatches) -> Result<(), Error> {
        for typed in many(options, "keep-fd") {
            let typed = text("keep-fd", typed)?;
            let number = crate::ids::decimal(typed.as_bytes()).ok().and_then(|number| RawFd::try_from(number).ok());
            self.keep_fds.push(number.with_context(|| format!("--keep-fd '{typed}': a descriptor is a number from 0 on"))?);
        }
        self.env = many(options, "env").map(assignment).collect::<Result<_, _>>()?;
        self.unset_env = many(options, "unset-env").map(variable_name).collect::<Result<_, _>>()?;
        if let Some(typed) = many(options, "chdir").next() {
            self.chdir = Some(path("chdir", typed)?);
        }
        if let Some(typed) = one(options, "umask")? {
            self.umask = Some(octal(typed, 0o777).with_context(|| format!("--umask '{typed}': a mask is octal, 0 to 777"))?);
        }
        Ok(())
    }
}

impl Mkdir {
    fn parse(typed: &OsString) -> Result<Self, Error> {
        let bytes = typed.as_bytes();
        let (path_bytes, mode) = match bytes.iter().rposition(|&byte| byte == b':') {
            None => (bytes, 0o755),
            Some(colon) => {
                let (path, mode) = bytes.split_at(colon);
                let mode = std::str::from_utf8(mode.get(1..).unwrap_or_default()).ok().and_then(|mode| octal(mode, 0o7777));
                let why =
                    || format!("--mkdir '{}': behind the last colon stands a mode, octal, 0 to 7777", typed.to_string_lossy());
                (path, mode.with_context(why)?)
            }
        };
        Ok(Self { path: path("mkdir", OsStr::from_bytes(path_bytes))?, mode })
    }
}

// An error of try_get_* says that clap was not told of the option, because no word spells it.

fn given(options: &ArgMatches, name: &str) -> bool {
    options.try_get_one(name).ok().flatten().copied().unwrap_or(false)
}

fn many<'a>(options: &'a ArgMatches, name: &str) -> impl Iterator<Item = &'a OsString> {
    options.try_get_many::<OsString>(name).ok().flatten().into_iter().flatten()
}

fn one<'a>(options: &'a ArgMatches, name: &str) -> Result<Option<&'a str>, Error> {
    many(options, name).next().map(|typed| text(name, typed)).transpose()
}

fn text<'a>(option: &str, typed: &'a OsStr) -> Result<&'a str, Error> {
    typed.to_str().with_context(|| format!("--{option} '{}': it is not UTF-8", typed.to_string_lossy()))
}

fn path(option: &str, typed: &OsStr) -> Result<CString, Error> {
    if typed.is_empty() {
        bail!("--{option}: the path is empty");
    }
    Ok(CString::new(typed.as_bytes())?)
}

fn assignment(typed: &OsString) -> Result<CString, Error> {
    let named = typed.as_bytes().iter().position(|&byte| byte == b'=').is_some_and(|place| place > 0);
    if !named {
        bail!("--env '{}': write NAME=VALUE", typed.to_string_lossy());
    }
    Ok(CString::new(typed.clone().into_vec())?)
}

fn variable_name(typed: &OsString) -> Result<Vec<u8>, Error> {
    if typed.is_empty() || typed.as_bytes().contains(&b'=') {
        bail!("--unset-env '{}': write the NAME alone", typed.to_string_lossy());
    }
    Ok(typed.clone().into_vec())
}
