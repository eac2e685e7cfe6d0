//! What the plan needs to know of this process and this kernel, read once, before anything changes.

use std::ffi::CStr;
use std::os::fd::RawFd;

use anyhow::{Context, Error, anyhow, bail};
use caps::Capability;
use nix::errno::Errno;

use crate::activation::{self, Inherited, Process};
use crate::address::Listen;
use crate::capabilities::CapSet;
use crate::cli::{Args, NewPrivileges};
use crate::failure::call;
use crate::signal::Signal;
use crate::sys::{self, CapabilitySets, Triple, Unread};
use crate::userspec::UserSpec;
use crate::{confine, descriptors, pathwalk, procfs, user_namespace};

/// Whether setgroups(2) can be had at all (user_namespaces(7), /proc/PID/setgroups).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setgroups {
    /// It takes CAP_SETGID alone.
    Allowed,
    /// Not in this user namespace.
    Denied,
}

impl Setgroups {
    /// Asks procfs; where it is not mounted the call itself will tell. An image's own file says nothing.
    #[must_use]
    pub fn read() -> Self {
        let denied = procfs::read(c"/proc/self/setgroups").is_ok_and(|value| value.trim_ascii() == b"deny");
        if denied { Self::Denied } else { Self::Allowed }
    }

    /// It matters to who may change groups, as far as capabilities go, and may be the target already: root where root is
    /// written out.
    fn where_it_matters(args: &Args, effective_uid: u32, capabilities: &CapabilitySets) -> Self {
        use crate::userspec::{Account, Part};
        let may_be_target = match &args.spec {
            UserSpec::Account { user: Part::Literal(Account::Id(id)), .. } => *id == effective_uid,
            UserSpec::Account { user: Part::Literal(Account::Name(name)), .. } => effective_uid != 0 || name == "root",
            UserSpec::Account { user: Part::Variable { .. }, .. } | UserSpec::OwnerOf(_) => effective_uid != 0,
        };
        if may_be_target && capabilities.effective.has(Capability::CAP_SETGID) { Self::read() } else { Self::Allowed }
    }
}

/// Facts, no decisions.
pub struct Host {
    /// The environment as it came.
    pub environment: Vec<&'static CStr>,
    /// The bytes of /etc/passwd; none where there is no such file.
    pub passwd: Vec<u8>,
    /// The bytes of /etc/group; none where there is no such file, or no need of it.
    pub group: Vec<u8>,
    /// Own user ids.
    pub uids: Triple,
    /// Own group ids.
    pub gids: Triple,
    /// Own supplementary groups.
    pub groups: Vec<u32>,
    /// Whether groups can be set here, where that matters.
    pub setgroups: Setgroups,
    /// Own capabilities.
    pub capabilities: CapabilitySets,
    /// The bounding set, where the command line makes it matter.
    pub bounding: Option<CapSet>,
    /// no_new_privs, where the command line makes it matter.
    pub no_new_privs: Option<bool>,
    /// uid and gid of the path in `@PATH`.
    pub owner: Option<(u32, u32)>,
    /// Which of 0, 1, 2 are pipes of pipe(2), or a terminal that is ours alone.
    pub own_streams: Vec<RawFd>,
    /// Those descriptors named in arguments that are open, and whether each is a pipe.
    pub named: Vec<(RawFd, descriptors::Nature)>,
    /// Which of `--keep-fd` are open.
    pub kept_open: Vec<RawFd>,
    /// The soft limit of RLIMIT_NOFILE, where descriptors are handed on.
    pub descriptor_limit: Option<u64>,
    /// The controlling terminal.
    pub terminal: descriptors::Terminal,
    /// What can be confined here.
    pub kernel: confine::Kernel,
    /// The parent-death signal as it was found; not asked for where `--pdeathsig` replaces it.
    pub parent_death: Option<Signal>,
    /// Own parent's process id, where a signal comes when it ends.
    pub parent: Option<i32>,
    /// Sockets received from a service manager.
    pub inherited: Inherited,
    /// Own process id, which is the command's too.
    pub pid: i32,
}

impl Host {
    /// Reads it all. Opens /dev/null on 0, 1, 2 where they are closed, or files opened later would take their place.
    pub fn read(args: &Args, environment: Vec<&'static CStr>) -> Result<Self, Error> {
        if sys::started_with_more_rights() {
            bail!("refusing to run set-user-ID, set-group-ID or with file capabilities: stepdown gives rights up, it is no sudo");
        }
        let own_streams = descriptors::own_streams()?;
        let terminal = descriptors::terminal();
        let named = descriptors::named_in(&args.command);
        let kept_open = args.keep_fds.iter().copied().filter(|&fd| sys::is_open(fd)).collect();
        let parent_death = parent_death_where_it_matters(args)?;
        // 0: it is outside of the PID namespace, and can't be told from another one.
        let parent = args.limits.pdeathsig.or(parent_death).map(|_| sys::getppid()).filter(|&parent| parent != 0);
        let pid = sys::getpid().map_err(|errno| call("getpid", errno))?;
        let inherited = activation::inherited(&environment, &Process { pid, pidfd_id: sys::own_pidfd_id, is_open: sys::is_open });
        let uids = sys::getresuid().map_err(|errno| call("getresuid", errno))?;
        let capabilities = sys::capget().map_err(|errno| call("capget", errno))?;
        Ok(Self {
            passwd: read_file(c"/etc/passwd")?,
            group: if needs_groups(args) { read_file(c"/etc/group")? } else { Vec::new() },
            uids,
            gids: sys::getresgid().map_err(|errno| call("getresgid", errno))?,
            groups: sys::getgroups().map_err(|errno| call("getgroups", errno))?,
            setgroups: Setgroups::where_it_matters(args, uids.effective, &capabilities),
            capabilities,
            bounding: bounding_where_it_matters(args)?,
            no_new_privs: no_new_privs_where_it_matters(args)?,
            owner: owner(&args.spec)?,
            environment,
            own_streams,
            named,
            kept_open,
            descriptor_limit: descriptor_limit_where_it_matters(args)?,
            terminal,
            kernel: confine::Kernel::read(args, terminal)?,
            parent_death,
            parent,
            inherited,
            pid,
        })
    }
}

/// `1000:1000` needs no /etc/group.
fn needs_groups(args: &Args) -> bool {
    use crate::userspec::{Account, Part};
    let by_id = |part: &Part| matches!(part, Part::Literal(Account::Id(_)));
    let list = args.groups.iter().flatten().any(|part| !by_id(part));
    let owner = |spec: &UserSpec| matches!(spec, UserSpec::Account { group: Some(group), .. } if !by_id(group));
    list || args.listen.iter().filter_map(Listen::owner).any(owner)
        || match &args.spec {
            UserSpec::Account { group: Some(group), .. } => !by_id(group),
            UserSpec::Account { group: None, .. } => args.groups.is_none(),
            UserSpec::OwnerOf(_) => false,
        }
}

fn bounding_where_it_matters(args: &Args) -> Result<Option<CapSet>, Error> {
    if args.keep_capabilities.is_empty() && args.confinement.bind.is_none() && args.new_privileges == NewPrivileges::Forbidden {
        return Ok(None);
    }
    bounding_set().map(Some)
}

fn no_new_privs_where_it_matters(args: &Args) -> Result<Option<bool>, Error> {
    match args.new_privileges {
        NewPrivileges::Forbidden => Ok(None),
        NewPrivileges::AsFound => sys::no_new_privs().map(Some).map_err(|errno| call("prctl(PR_GET_NO_NEW_PRIVS)", errno)),
    }
}

fn parent_death_where_it_matters(args: &Args) -> Result<Option<Signal>, Error> {
    if args.limits.pdeathsig.is_some() {
        return Ok(None);
    }
    sys::parent_death_signal().map_err(|errno| call("prctl(PR_GET_PDEATHSIG)", errno))
}

fn descriptor_limit_where_it_matters(args: &Args) -> Result<Option<u64>, Error> {
    if args.listen.is_empty() && args.files.is_empty() {
        return Ok(None);
    }
    // The limit that is to come is set when all are made, and before the last of them are moved.
    match args.limits.open_files() {
        Some(limit) => Ok(Some(limit)),
        None => sys::descriptor_limit().map(Some).map_err(|errno| call("getrlimit(RLIMIT_NOFILE)", errno)),
    }
}

/// The bounding set, counted on the running kernel: it says EINVAL behind its last capability.
pub fn bounding_set() -> Result<CapSet, Error> {
    let mut set = CapSet::EMPTY;
    for number in 0..=u64::BITS {
        match sys::bounding_has(number) {
            Ok(true) => set.0 |= 1u64.checked_shl(number).unwrap_or(0),
            Ok(false) => {}
            Err(Errno::EINVAL) if number > 0 => return Ok(set),
            Err(errno) => return Err(call(format_args!("prctl(PR_CAPBSET_READ, {number})"), errno)),
        }
    }
    bail!("prctl(PR_CAPBSET_READ): the kernel names no last capability");
}

fn owner(spec: &UserSpec) -> Result<Option<(u32, u32)>, Error> {
    let UserSpec::OwnerOf(path) = spec else { return Ok(None) };
    // Who could put somebody else's file there would choose whom the command runs as.
    let found = pathwalk::find(path).and_then(|found| found.is_meant(None).map(|()| found));
    let found = found.and_then(|found| user_namespace::check_owner(found.facts.uid, found.facts.gid).map(|()| found));
    let found = found.with_context(|| format!("USER '@{}'", crate::failure::lossy(path)))?;
    Ok(Some((found.facts.uid, found.facts.gid)))
}

/// No account file is larger; an image may bring any.
const ACCOUNT_FILE_MAX: u64 = 16 << 20;

/// An image's file: it may be a FIFO that never opens or a device that never ends.
fn read_file(path: &CStr) -> Result<Vec<u8>, Error> {
    let name = path.to_string_lossy();
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let fd = match sys::open_at_following(nix::fcntl::AT_FDCWD, path, flags) {
        Ok(fd) => fd,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(call(format_args!("open({name})"), errno)),
    };
    let file = std::fs::File::from(fd);
    let facts = file.metadata().with_context(|| format!("fstat({name})"))?;
    if !facts.is_file() {
        bail!("{name} is no regular file");
    }
    if facts.len() > ACCOUNT_FILE_MAX {
        bail!("{name} has {} bytes; 16 MiB are the most that is read", facts.len());
    }
    sys::read_sized(&file, facts.len(), ACCOUNT_FILE_MAX).map_err(|why| match why {
        Unread::Call(errno) => call(format_args!("read({name})"), errno),
        Unread::Short(read) => anyhow!("{name} ended after {read} of its {} bytes: half of it is not all", facts.len()),
        Unread::Long => anyhow!("{name} grew while it was read"),
    })
}
