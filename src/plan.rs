//! Every decision, made from what was typed and what the host is like, with no system call.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use anyhow::{Error, bail};
use caps::Capability;

use crate::activation::{self, Inherited};
use crate::address::Listen;
use crate::capabilities::CapSet;
use crate::cli::{Args, Chown, ChownPolicy, Demand, Mkdir, NewPrivileges, Switch, Verbosity};
use crate::descriptors::Nature;
use crate::environment::{Environment, Home};
use crate::failure::hinted;
use crate::host::Host;
use crate::identity::{Identity, Starter};

/// What a run will do, and what must be true when COMMAND starts.
pub struct Plan {
    /// Who the command runs as.
    pub identity: Identity,
    /// Whether anybody switches.
    pub role: Role,
    /// Whether setgroups(2) is called, or the groups stay.
    pub groups: Groups,
    /// Whether the bounding set is dropped.
    pub bounding: Bounding,
    /// The capabilities that all five sets keep.
    pub keep: CapSet,
    /// no_new_privs.
    pub no_new_privs: NoNewPrivs,
    /// `--mkdir`.
    pub mkdir: Vec<Mkdir>,
    /// `--chown` and `--chown-if-possible`.
    pub chown: Vec<Chown>,
    /// `--chown-policy`.
    pub chown_policy: ChownPolicy,
    /// `--verbose`.
    pub verbosity: Verbosity,
    /// `--listen`.
    pub listen: Vec<Listen>,
    /// Sockets received.
    pub inherited: Inherited,
    /// Descriptors that become the target's.
    pub streams: Vec<RawFd>,
    /// Descriptors that stay open besides 0, 1, 2 and the sockets; ascending.
    pub kept_descriptors: Vec<RawFd>,
    /// The command's environment.
    pub environment: Environment,
    /// `--chdir`.
    pub chdir: Option<CString>,
    /// `--umask`.
    pub umask: Option<u32>,
    /// COMMAND and its arguments; never empty.
    pub command: Vec<&'static CStr>,
    /// What was asked for and is not done.
    pub warnings: Vec<String>,
}

/// How the run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// With rights to give up.
    Switching,
    /// As the target already.
    AlreadyTarget,
    /// `--if-root`, started without the right to switch.
    Bystander,
}

/// The supplementary groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// Set to the identity's.
    Set,
    /// As found, because they are the plan's or fewer and can't be changed.
    AsFound(Vec<u32>),
}

/// The bounding set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounding {
    /// Emptied but for what is kept.
    Drop,
    /// Left, for want of CAP_SETPCAP: no_new_privs makes it idle, or it is empty already.
    AsFound,
}

/// The no_new_privs attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoNewPrivs {
    /// Set.
    Set,
    /// As it was.
    AsFound(bool),
}

impl Plan {
    /// Decides, or says why the run is refused.
    pub fn resolve(args: &Args, host: &Host) -> Result<Self, Error> {
        Environment::check(args)?;
        let starter = Starter::of(host);
        let target = Identity::resolve(args, host)?;
        let (role, identity, groups) = starter.role(target, args.switch)?;
        let bounding = bounding(args, host)?;
        check_kept_capabilities(args, host)?;
        let mut warnings = Vec::new();
        if let Inherited::Unfit(why) = host.inherited {
            warnings.push(format!("sockets from a service manager are dropped: {why}"));
        }
        let own_names: Vec<String> = args.listen.iter().map(|listen| listen.name.clone()).collect();
        let home = if role == Role::Bystander { Home::AsFound } else { identity.home() };
        let variables = activation::variables(host.pid, &host.inherited, &own_names);
        let (streams, kept_descriptors) = descriptors(args, host, role)?;
        Ok(Self {
            role,
            groups,
            bounding,
            keep: args.keep_capabilities,
            no_new_privs: host.no_new_privs.map_or(NoNewPrivs::Set, NoNewPrivs::AsFound),
            mkdir: args.mkdir.clone(),
            chown: chown(args, role),
            chown_policy: args.chown_policy,
            verbosity: args.verbosity,
            listen: args.listen.clone(),
            inherited: host.inherited.clone(),
            streams,
            kept_descriptors,
            environment: Environment::new(&host.environment, args, &home, variables)?,
            chdir: args.chdir.clone(),
            umask: args.umask,
            command: args.command.clone(),
            warnings,
            identity,
        })
    }

    /// Whether anything outside this process will change.
    #[must_use]
    pub fn has_chores(&self) -> bool {
        !(self.mkdir.is_empty() && self.chown.is_empty() && self.listen.is_empty())
    }

    /// The supplementary groups the command is to have, ascending.
    #[must_use]
    pub fn expected_groups(&self) -> Vec<u32> {
        let mut groups = match &self.groups {
            Groups::Set => self.identity.groups.iter().map(|gid| gid.get()).collect(),
            Groups::AsFound(groups) => groups.clone(),
        };
        groups.sort_unstable();
        groups
    }
}

/// Without the right to switch there is none to change owners: what can't be done is told.
fn chown(args: &Args, role: Role) -> Vec<Chown> {
    let mut all = args.chown.clone();
    if role == Role::Bystander {
        all.iter_mut().for_each(|chown| chown.demand = Demand::May);
    }
    all
}

fn bounding(args: &Args, host: &Host) -> Result<Bounding, Error> {
    if host.capabilities.effective.has(Capability::CAP_SETPCAP) {
        return Ok(Bounding::Drop);
    }
    let left = host.bounding.unwrap_or_default().without(args.keep_capabilities);
    if args.new_privileges == NewPrivileges::AsFound && host.no_new_privs != Some(true) && !left.is_empty() {
        return Err(hinted(
            format!(
                "--allow-new-privs: CAP_SETPCAP is missing, so the bounding set can't be dropped, and the command could regain {left}"
            ),
            "leave --allow-new-privs out, or start with CAP_SETPCAP (Docker: --cap-add SETPCAP)",
        ));
    }
    Ok(Bounding::AsFound)
}

fn check_kept_capabilities(args: &Args, host: &Host) -> Result<(), Error> {
    let missing = args.keep_capabilities.without(host.capabilities.permitted);
    if !missing.is_empty() {
        return Err(hinted(
            format!("--keep-cap: stepdown was started without {missing}"),
            "add it where stepdown is started: Docker --cap-add, Kubernetes capabilities.add, systemd AmbientCapabilities=",
        ));
    }
    let unbounded = args.keep_capabilities.without(host.bounding.unwrap_or_default());
    if !unbounded.is_empty() {
        bail!("--keep-cap: {unbounded} is not in the bounding set");
    }
    Ok(())
}

/// Which descriptors become the target's, and which stay open.
fn descriptors(args: &Args, host: &Host, role: Role) -> Result<(Vec<RawFd>, Vec<RawFd>), Error> {
    let inherited = RawFd::try_from(host.inherited.names().len())?;
    let sockets = activation::FIRST + inherited..activation::FIRST + inherited + RawFd::try_from(args.listen.len())?;
    let refuse_socket = |fd: RawFd, what: &str| {
        if sockets.contains(&fd) {
            bail!("{what}: the sockets of --listen take descriptors {} to {}", sockets.start, sockets.end - 1);
        }
        Ok(())
    };
    for fd in &args.keep_fds {
        if !host.kept_open.contains(fd) {
            bail!("--keep-fd {fd}: descriptor {fd} is not open");
        }
        refuse_socket(*fd, &format!("--keep-fd {fd}"))?;
    }
    for (fd, _) in &host.named {
        refuse_socket(*fd, &format!("an argument names /dev/fd/{fd}, which is open"))?;
    }
    let named = host.named.iter().map(|&(fd, _)| fd);
    let mut kept: Vec<RawFd> = args.keep_fds.iter().copied().filter(|&fd| fd > 2).chain(named).collect();
    kept.sort_unstable();
    kept.dedup();
    let pipes = host.named.iter().filter(|(_, nature)| *nature == Nature::Pipe).map(|&(fd, _)| fd);
    let streams = match role {
        Role::Switching => host.own_streams.iter().copied().chain(pipes).collect(),
        Role::AlreadyTarget | Role::Bystander => Vec::new(),
    };
    Ok((streams, kept))
}

impl Starter {
    /// Compares who starts with who is to run.
    fn role(&self, target: Identity, switch: Switch) -> Result<(Role, Identity, Groups), Error> {
        if self.is(&target)
            && let Some(groups) = self.groups_that_may_stay(&target)
        {
            return Ok((Role::AlreadyTarget, target, groups));
        }
        let missing = self.missing_for(&target);
        if missing.is_empty() {
            let role = if self.is(&target) && !self.is_root() { Role::AlreadyTarget } else { Role::Switching };
            return Ok((role, target, Groups::Set));
        }
        match switch {
            Switch::IfRoot => self.bystander().map(|(identity, groups)| (Role::Bystander, identity, groups)),
            Switch::Always => Err(self.cannot_become(&target, missing)),
        }
    }
}
