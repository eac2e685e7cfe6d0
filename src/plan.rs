//! Every decision, made from what was typed and what the host is like, with no system call.

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use anyhow::{Context, Error, bail};
use caps::Capability;

use crate::activation::{self, Inherited};
use crate::address::Listen;
use crate::capabilities::CapSet;
use crate::cli::{Args, Chown, ChownPolicy, Demand, Init, Keyring, Limits, Mkdir, NewPrivileges, Open, Switch, Verbosity};
use crate::confine::Confinement;
use crate::descriptors::numbers::{self, Numbers};
use crate::environment::{Environment, Home};
use crate::failure::hinted;
use crate::host::Host;
use crate::identity::{Identity, Starter};
use crate::ids::{Gid, Uid};
use crate::signal::Signal;

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
    /// The session keyring.
    pub keyring: Keyring,
    /// `--mkdir`.
    pub mkdir: Vec<Mkdir>,
    /// `--chown` and `--chown-if-possible`.
    pub chown: Vec<Chown>,
    /// `--chown-policy`.
    pub chown_policy: ChownPolicy,
    /// `--verbose`.
    pub verbosity: Verbosity,
    /// `--listen`.
    pub listen: Vec<Socket>,
    /// `--open`.
    pub open: Vec<Open>,
    /// `--secret`.
    pub secrets: Vec<Secret>,
    /// The number of the first descriptor of `--listen`, those of `--open` being behind.
    pub first_handed: RawFd,
    /// Sockets received.
    pub inherited: Inherited,
    /// Descriptors that become the target's.
    pub streams: Vec<RawFd>,
    /// Descriptors that stay open as they came, besides 0, 1, 2 and those received; ascending.
    pub kept_descriptors: Vec<RawFd>,
    /// The command's environment.
    pub environment: Environment,
    /// `--chdir`.
    pub chdir: Option<CString>,
    /// `--umask`.
    pub umask: Option<u32>,
    /// COMMAND and its arguments; never empty.
    pub command: Vec<&'static CStr>,
    /// `--init`.
    pub init: Option<Box<Init>>,
    /// Own process id; without `--init` it is the command's too.
    pub pid: i32,
    /// What the command may reach and call.
    pub confinement: Confinement,
    /// `--ulimit` and its like.
    pub limits: Limits,
    /// Whether hard limits can be raised.
    pub may_raise_limits: bool,
    /// The parent-death signal that the command keeps, as it was found: a change of ids clears it. `--pdeathsig` replaces it.
    pub parent_death: Option<Signal>,
    /// Own parent, where a signal comes when it ends.
    pub parent: Option<i32>,
    /// What was asked for and is not done.
    pub warnings: Vec<String>,
}

/// One `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// What was typed.
    pub wanted: Listen,
    /// Whom `owner=` means.
    pub owner: Option<(Uid, Gid)>,
}

/// One `--secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The environment variable.
    pub name: String,
    /// The file that is copied.
    pub path: CString,
    /// The copy's descriptor.
    pub number: RawFd,
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
    /// As found, because they can't be changed.
    AsFound(Vec<u32>),
}

/// The bounding set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounding {
    /// Emptied but for what is kept.
    Drop {
        /// What is permitted is in there, and taken out without a look.
        known: CapSet,
    },
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
        Environment::check(args, &host.environment)?;
        let starter = Starter::of(host);
        let target = Identity::resolve(args, host)?;
        let (role, identity, groups) = starter.role(target, args)?;
        let keep = kept_capabilities(args, host)?;
        let bounding = bounding(args, host, keep)?;
        let no_new_privs = host.no_new_privs.map_or(NoNewPrivs::Set, NoNewPrivs::AsFound);
        let confinement = Confinement::resolve(&args.confinement, host, no_new_privs)?;
        let mut warnings = confinement.unenforced();
        if role != Role::Bystander {
            warnings.extend(identity.warnings(args, host));
        }
        if let Inherited::Unfit(why) = host.inherited {
            warnings.push(format!("sockets from a service manager are dropped: {why}"));
        }
        let numbers = Numbers::resolve(args, host)?;
        let secrets = Secret::all(args, &numbers);
        let own_names = args.listen.iter().map(|listen| &listen.name).chain(args.files.open.iter().map(|open| &open.name));
        let own_names: Vec<String> = own_names.cloned().collect();
        let home = if role == Role::Bystander { Home::AsFound } else { identity.home() };
        let mut variables = activation::variables(args.init.is_none().then_some(host.pid), &host.inherited, &own_names);
        variables.extend(secrets.iter().map(|secret| (secret.name.as_bytes(), secret.path_of_copy().into_bytes())));
        let environment = Environment::new(&host.environment, args, &home, variables)?;
        Ok(Self {
            role,
            groups,
            bounding,
            keep,
            no_new_privs,
            keyring: keyring(args, host, &identity),
            mkdir: args.mkdir.clone(),
            chown: chown(args, role),
            chown_policy: args.chown_policy,
            verbosity: args.verbosity,
            listen: args.listen.iter().map(|wanted| Socket::resolve(wanted, host)).collect::<Result<_, _>>()?,
            open: args.files.open.clone(),
            secrets,
            first_handed: numbers.first,
            inherited: host.inherited.clone(),
            streams: streams(host, role),
            kept_descriptors: numbers.kept,
            environment,
            chdir: args.chdir.clone(),
            umask: args.umask,
            command: args.command.clone(),
            init: args.init.clone(),
            pid: host.pid,
            confinement,
            limits: args.limits.clone(),
            may_raise_limits: host.capabilities.effective.has(Capability::CAP_SYS_RESOURCE),
            parent_death: host.parent_death,
            parent: host.parent,
            warnings,
            identity,
        })
    }

    /// Whether anything outside this process will change.
    #[must_use]
    pub fn has_chores(&self) -> bool {
        !(self.mkdir.is_empty()
            && self.chown.is_empty()
            && self.listen.is_empty()
            && self.open.is_empty()
            && self.secrets.is_empty()
            && self.confinement.names_no_file()
            && self.limits == Limits::default())
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

impl Socket {
    fn resolve(wanted: &Listen, host: &Host) -> Result<Self, Error> {
        let owner = wanted.owner().map(|spec| Identity::owner(spec, host)).transpose();
        let owner = owner.with_context(|| format!("--listen {wanted}: owner"))?;
        Ok(Self { wanted: wanted.clone(), owner })
    }
}

impl Secret {
    fn all(args: &Args, numbers: &Numbers) -> Vec<Self> {
        let numbered = args.files.secrets.iter().zip(&numbers.secrets);
        numbered.map(|(typed, &number)| Self { name: typed.name.clone(), path: typed.path.clone(), number }).collect()
    }

    /// What the variable says: each open(2) of it begins at the first byte.
    #[must_use]
    pub fn path_of_copy(&self) -> String {
        format!("/proc/self/fd/{}", self.number)
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

/// Who gets other ids gets another session keyring; who has them already keeps his own.
fn keyring(args: &Args, host: &Host, identity: &Identity) -> Keyring {
    let same = host.uids.all(identity.uid.get()) && host.gids.all(identity.gid.get());
    if same { Keyring::AsFound } else { args.keyring }
}

fn bounding(args: &Args, host: &Host, keep: CapSet) -> Result<Bounding, Error> {
    if host.capabilities.effective.has(Capability::CAP_SETPCAP) {
        return Ok(Bounding::Drop { known: host.capabilities.permitted });
    }
    let left = host.bounding.unwrap_or_default().without(keep);
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

/// `--keep-cap`, and what `--bind-tcp` needs for a port below ip_unprivileged_port_start.
fn kept_capabilities(args: &Args, host: &Host) -> Result<CapSet, Error> {
    let typed = args.keep_capabilities;
    check_kept("--keep-cap", typed, host)?;
    let first_free = host.kernel.first_free_port.unwrap_or(0);
    let privileged = args.confinement.bind.iter().find(|ports| (1..first_free).any(|port| ports.contain(port)));
    let Some(ports) = privileged else { return Ok(typed) };
    let binding = CapSet::of(Capability::CAP_NET_BIND_SERVICE);
    check_kept(&format!("--bind-tcp {ports}"), binding, host)?;
    Ok(CapSet(typed.0 | binding.0))
}

fn check_kept(option: &str, kept: CapSet, host: &Host) -> Result<(), Error> {
    let missing = kept.without(host.capabilities.permitted);
    if !missing.is_empty() {
        return Err(hinted(
            format!("{option}: stepdown was started without {missing}"),
            "add it where stepdown is started: Docker --cap-add, Kubernetes capabilities.add, systemd AmbientCapabilities=",
        ));
    }
    let unbounded = kept.without(host.bounding.unwrap_or_default());
    if !unbounded.is_empty() {
        bail!("{option}: {unbounded} is not in the bounding set");
    }
    Ok(())
}

/// Which descriptors become the target's.
fn streams(host: &Host, role: Role) -> Vec<RawFd> {
    match role {
        Role::Switching => host.own_streams.iter().copied().chain(numbers::named_pipes(host)).collect(),
        Role::AlreadyTarget | Role::Bystander => Vec::new(),
    }
}

impl Starter {
    /// Compares who starts with who is to run.
    fn role(&self, target: Identity, args: &Args) -> Result<(Role, Identity, Groups), Error> {
        let listed = args.groups.as_deref();
        if self.is(&target)
            && let Some(groups) = self.groups_that_may_stay(&target, listed)
        {
            return Ok((Role::AlreadyTarget, target, groups));
        }
        let missing = self.missing_for(&target);
        if missing.is_empty() {
            let role = if self.is(&target) && !self.is_root() { Role::AlreadyTarget } else { Role::Switching };
            return Ok((role, target, Groups::Set));
        }
        match args.switch {
            Switch::IfRoot => {
                self.bystander(&target, listed, missing).map(|(identity, groups)| (Role::Bystander, identity, groups))
            }
            Switch::Always => Err(self.cannot_become(&target, listed, missing)),
        }
    }
}
