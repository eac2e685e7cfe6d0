//! The command line as typed; it looks nothing up.

mod confinement;
mod files;
mod grammar;
mod init;
mod limits;

pub use confinement::{Confinement, Effort, Filter, PathAccess, PathRule, Ports, Scope};
pub use files::{Access, Files, Open, Secret};
pub use init::{Init, Target};
pub use limits::{Limits, Resource, Session, Ulimit};

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Error, bail};

use crate::address::Listen;
use crate::capabilities::CapSet;
use crate::failure::hinted;
use crate::ids::octal;
use crate::line_ends::{self, Trace};
use crate::prefix;
use crate::userspec::{Part, UserSpec};
use grammar::{Typed, given, many, one, path, placed, text};

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
    /// `--keep-keyring`.
    pub keyring: Keyring,
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
    /// What the command may reach and call.
    pub confinement: Confinement,
    /// `--ulimit` and its like.
    pub limits: Limits,
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

crate::sys::plain!(
    enum Verbosity {
        Quiet,
        Verbose,
    }
);

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

/// Which session keyring the command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// A new one, where ids change.
    Own,
    /// The one that was there.
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
    /// The option that was typed, which is what messages name: under `--if-root` each `--chown` may be left undone, too.
    pub option: &'static str,
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

/// Reads the command line, its first element being the program's own name.
pub fn parse(arguments: &[&'static CStr]) -> Result<Request, Error> {
    let typed = arguments.get(1..).unwrap_or_default();
    // Without options there is nothing for clap to do, and building its tables is what costs most here.
    match typed.first() {
        Some(first) if !first.to_bytes().starts_with(b"-") => operands(typed, None),
        _ => with_options(typed),
    }
}

fn with_options(typed: &[&'static CStr]) -> Result<Request, Error> {
    let (options, count) = grammar::read(typed).map_err(|error| match typed.iter().find_map(|word| foreign(word)) {
        Some(trace) => hinted(format!("{error:#}"), trace.mending_of_the_source()),
        None => error,
    })?;
    if given(&options, "help") {
        return Ok(Request::Print(HELP));
    }
    if given(&options, "version") {
        return Ok(Request::Print(VERSION));
    }
    let (ours, operands_typed) = typed.split_at_checked(typed.len() - count).unwrap_or_default();
    refuse_foreign(ours)?;
    operands(operands_typed, Some(&options))
}

fn foreign(word: &CStr) -> Option<Trace> {
    line_ends::trace(word.to_bytes())
}

/// A script in CR LF has a carriage return at the end of each line's last word. In the value of a variable one may be meant.
fn refuse_foreign(words: &[&'static CStr]) -> Result<(), Error> {
    let mut before = c"";
    for &word in words {
        let is_variable = before == c"--env" || word.to_bytes().starts_with(b"--env=");
        if let Some(trace) = foreign(word).filter(|_| !is_variable) {
            return Err(hinted(format!("'{}' {trace}", crate::failure::lossy(word)), trace.mending_of_the_source()));
        }
        before = word;
    }
    Ok(())
}

/// USER [--] COMMAND [ARG...]
fn operands(operands: &[&'static CStr], options: Option<&Typed>) -> Result<Request, Error> {
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
            keyring: Keyring::Own,
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
            confinement: Confinement::default(),
            limits: Limits::default(),
        }
    }

    fn read_options(&mut self, options: &Typed) -> Result<(), Error> {
        let given = |name| given(options, name);
        if given("if-root") {
            self.switch = Switch::IfRoot;
        }
        if given("allow-new-privs") {
            self.new_privileges = NewPrivileges::AsFound;
        }
        if given("keep-keyring") {
            self.keyring = Keyring::AsFound;
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
        self.confinement = Confinement::read(options)?;
        self.limits = Limits::read(options)?;
        self.read_what_the_command_gets(options)
    }

    fn read_identity(&mut self, options: &Typed) -> Result<(), Error> {
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

    fn read_chores(&mut self, options: &Typed) -> Result<(), Error> {
        self.mkdir = many(options, "mkdir").map(Mkdir::parse).collect::<Result<_, _>>()?;
        self.listen = many(options, "listen").map(|typed| Listen::parse(text("listen", typed)?)).collect::<Result<_, _>>()?;
        for (index, listen) in self.listen.iter().enumerate() {
            if self.listen.iter().take(index).any(|earlier| earlier.collides_with(listen)) {
                bail!("--listen {listen}: the address is given twice");
            }
        }
        let mut chown = Vec::new();
        for (name, option, demand) in
            [("chown", "--chown", Demand::Must), ("chown-if-possible", "--chown-if-possible", Demand::May)]
        {
            for (place, typed) in placed(options, name) {
                chown.push((place, Chown { path: path(name, typed)?, demand, option }));
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

    fn read_what_the_command_gets(&mut self, options: &Typed) -> Result<(), Error> {
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
                // file:/data has no mode.
                if mode.is_none() && bytes.get(colon..).unwrap_or_default().contains(&b'/') {
                    prefix::refuse_in_path("--mkdir", bytes)?;
                }
                (path, mode.with_context(why)?)
            }
        };
        Ok(Self { path: path("mkdir", OsStr::from_bytes(path_bytes))?, mode })
    }
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
