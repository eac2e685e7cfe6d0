//! What the command may reach and call: decided in the plan, opened and compiled while root, in force from just before
//! the command starts. The process that stays with `--init` is not confined.
//!
//! | | |
//! |---|---|
//! | files and ports | [`landlock`] |
//! | system calls | [`seccomp`] |
//! | the terminal of a process above; TCP by its other names | [`guards`] |
//! | what was said to be in force is tried | `trial` |

pub mod bpf;
pub mod guards;
pub mod landlock;
pub mod seccomp;
mod trial;

use std::ffi::CStr;

use anyhow::{Error, bail};
use nix::errno::Errno;

use crate::acquire::files::{self, Kinds};
use crate::cli::{self, Effort, Filter};
use crate::descriptors::Terminal;
use crate::failure::{call, hinted, lossy};
use crate::host::Host;
use crate::plan::{NoNewPrivs, Plan};
use crate::procfs;
use crate::sys;
use bpf::Program;
use landlock::{Rules, Told};

/// What this kernel can enforce, read where the command line makes it matter.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// Landlock's ABI, or why there is none.
    pub landlock: Option<Result<u32, Errno>>,
    /// Whether there are filters of system calls.
    pub filters: Option<Result<(), Errno>>,
    /// The release, as `major.minor`.
    pub release: Option<(u32, u32)>,
    /// The first port that needs no capability (ip_unprivileged_port_start).
    pub first_free_port: Option<u16>,
}

/// What the plan says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Landlock's part, as far as this kernel enforces it.
    pub rules: Option<Rules>,
    /// `--seccomp`.
    pub filter: Option<Filter>,
    /// Small filters of our own.
    pub guards: Vec<Guard>,
    /// The running kernel's release, for profiles.
    release: (u32, u32),
    /// Each rule, and what of it this kernel can't enforce: only under `--best-effort`.
    pub told: Vec<Told>,
}

/// A filter that no option names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The command can't type into the terminal that it shares with a process above.
    Terminal,
    /// TCP can't be had by a name that Landlock does not look at.
    Tcp,
}

/// Opened and compiled, ready to be put in force.
#[derive(Default)]
pub struct Prepared {
    ruleset: Option<landlock::Ruleset>,
    guards: Vec<Program>,
    filter: Vec<Program>,
}

impl Kernel {
    /// Asks the kernel, as far as the answers matter.
    pub fn read(args: &cli::Args, terminal: Terminal) -> Result<Self, Error> {
        let wanted = &args.confinement;
        let shared = terminal == Terminal::Shared;
        let filters = wanted.filter.is_some() || wanted.has_ports() || shared;
        let release = matches!(wanted.filter, Some(Filter::Profile(_)));
        Ok(Self {
            landlock: wanted.has_rules().then(sys::landlock_abi),
            filters: filters.then(sys::has_seccomp_filters),
            release: release.then(|| sys::kernel_release().map_err(|errno| call("uname", errno))).transpose()?,
            first_free_port: wanted.bind.is_some().then(first_free_port).transpose()?,
        })
    }
}

/// Where /proc is absent the kernel's own default counts.
fn first_free_port() -> Result<u16, Error> {
    const PATH: &CStr = c"/proc/sys/net/ipv4/ip_unprivileged_port_start";
    match procfs::read_text(PATH) {
        Ok(text) => match text.trim().parse::<u32>() {
            // 65536 where all ports are privileged.
            Ok(port) => Ok(u16::try_from(port).unwrap_or(u16::MAX)),
            Err(_) => bail!("{}: '{}' is no port", lossy(PATH), text.trim()),
        },
        Err(_) => Ok(1024),
    }
}

impl Confinement {
    /// Decides, or says what this kernel lacks.
    pub fn resolve(wanted: &cli::Confinement, host: &Host, no_new_privs: NoNewPrivs) -> Result<Self, Error> {
        let shared = host.terminal == Terminal::Shared;
        let mut all = Self { release: host.kernel.release.unwrap_or_default(), ..Self::default() };
        if no_new_privs == NoNewPrivs::AsFound(false) {
            if let Some(first) = landlock::first(wanted).or_else(|| wanted.filter.as_ref().map(Filter::to_string)) {
                return Err(hinted(
                    format!("{first}: a program that may gain rights can't be confined by one that has them not"),
                    "leave --allow-new-privs out: confinement needs no_new_privs",
                ));
            }
            all.told.extend(shared.then(terminal_is_open));
            return Ok(all);
        }
        if let Some(found) = host.kernel.landlock {
            (all.rules, all.told) = Rules::resolve(wanted, found)?;
        }
        all.filter.clone_from(&wanted.filter);
        all.guards.extend(wanted.has_ports().then_some(Guard::Tcp));
        all.guards.extend(shared.then_some(Guard::Terminal));
        all.tell_of_filters(wanted.effort, host.kernel.filters.and_then(Result::err))?;
        Ok(all)
    }

    /// A kernel may have no filters at all.
    fn tell_of_filters(&mut self, effort: Effort, lacking: Option<Errno>) -> Result<(), Error> {
        let filter = self.filter.iter().map(Filter::to_string);
        let all: Vec<String> = filter.chain(self.guards.iter().map(|guard| guard.name().to_owned())).collect();
        let lack = lacking.map(|errno| format!("this kernel has no filters of system calls: seccomp: {errno}"));
        if let (Some(lack), Effort::Strict, Some(first)) = (&lack, effort, all.first()) {
            return Err(hinted(
                format!("{first}: {lack}"),
                "it takes CONFIG_SECCOMP_FILTER, and a container engine that allows seccomp(2); --best-effort goes on without, and says so",
            ));
        }
        if lack.is_some() {
            self.filter = None;
            self.guards.clear();
        }
        self.told.extend(all.into_iter().map(|rule| Told { rule, lacking: lack.iter().cloned().collect() }));
        Ok(())
    }

    /// What was asked for and is not enforced, each once.
    #[must_use]
    pub fn unenforced(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for lacking in self.told.iter().flat_map(|told| &told.lacking) {
            let line = format!("not enforced: {lacking}");
            if !all.contains(&line) {
                all.push(line);
            }
        }
        all
    }

    /// Whether nothing at all is confined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_none() && self.filter.is_none() && self.guards.is_empty()
    }

    /// Whether all of it can't be spoiled by a file that is missing or wrong.
    #[must_use]
    pub fn names_no_file(&self) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.paths.is_empty()) && !matches!(self.filter, Some(Filter::Profile(_)))
    }
}

fn terminal_is_open() -> Told {
    Told {
        rule: Guard::Terminal.name().to_owned(),
        lacking: vec![
            "the terminal is shared with a process above, and --allow-new-privs lets the command type into it: --new-session ends that".to_owned(),
        ],
    }
}

impl Guard {
    fn name(self) -> &'static str {
        match self {
            Self::Terminal => "no typing into the terminal, which a process above shares",
            Self::Tcp => "no MPTCP, SMC, TCP Fast Open or io_uring, which pass by the rules for TCP",
        }
    }

    fn program(self) -> Program {
        match self {
            Self::Terminal => guards::terminal(),
            Self::Tcp => guards::tcp(),
        }
    }
}

/// Compiles the filters, as root.
pub fn compiled(plan: &Plan) -> Result<Prepared, Error> {
    let guards = plan.confinement.guards.iter().map(|guard| guard.program()).collect();
    Ok(Prepared { ruleset: None, guards, filter: compile(plan)? })
}

/// Refuses, before anything has changed, what can't be opened or read.
pub fn check(plan: &Plan) -> Result<(), Error> {
    if let Some(rules) = &plan.confinement.rules {
        landlock::check(rules, plan)?;
    }
    compile(plan).map(drop)
}

fn compile(plan: &Plan) -> Result<Vec<Program>, Error> {
    match &plan.confinement.filter {
        None => Ok(Vec::new()),
        Some(Filter::Service) => seccomp::service(),
        Some(Filter::Profile(path)) => {
            let facts = seccomp::Facts { kept: plan.keep, kernel: plan.confinement.release };
            let compiled = files::find(path, Kinds::Regular)
                .and_then(|found| files::open_found(&found, libc::O_RDONLY, plan))
                .and_then(|file| files::read_whole(file, seccomp::SIZE_MAX))
                .and_then(|json| seccomp::of_profile(&json, &facts));
            compiled.map_err(|error| files::explain("--seccomp", path, error))
        }
    }
}

impl Prepared {
    /// Opens the paths, as root, and hands the rules to the kernel.
    pub fn open(&mut self, plan: &Plan) -> Result<(), Error> {
        self.ruleset = plan.confinement.rules.as_ref().map(landlock::Ruleset::create).transpose()?;
        Ok(())
    }

    /// Puts the rules of files and ports in force, for good.
    pub fn restrict(&mut self, plan: &Plan) -> Result<(), Error> {
        match self.ruleset.take() {
            None => Ok(()),
            Some(ruleset) => ruleset.restrict(plan.keep),
        }
    }

    /// Loads the filters: the last thing before the command, since what they forbid they forbid us as well. The guards
    /// come first: after a profile, which may kill who makes any other call, nothing more can be loaded.
    pub fn filter(&self) -> Result<(), Error> {
        let mut next = trial::FIRST_OPERATION;
        for program in self.guards.iter().chain(&self.filter) {
            let operation = trial::unanswered(next)?;
            next = operation + 1;
            let marked = [&bpf::mark(operation)[..], program].concat();
            sys::load_filter(&marked).map_err(|errno| call("seccomp(SECCOMP_SET_MODE_FILTER)", errno))?;
            trial::filter(operation)?;
        }
        Ok(())
    }
}
