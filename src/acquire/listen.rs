//! `--listen`: sockets that are bound while root may, and handed on by the protocol in `activation`.

use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Error, bail};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, sockopt};
use nix::sys::stat::{Mode, fchmod};

use super::{is_missing, may_be_made};
use crate::address::{Address, Kind, Listen, UNIX_NAME_MAX};
use crate::failure::{call, hinted};
use crate::pathwalk::{self, Parent};
use crate::plan::{Plan, Role};
use crate::sys;

/// Binds one socket, and listens on it where connections are meant.
pub fn bind(wanted: &Listen, plan: &Plan) -> Result<OwnedFd, Error> {
    let result = match &wanted.address {
        Address::Port(port) => any_address(*port, wanted.kind),
        Address::Internet(address) => internet(*address, wanted.kind, Families::One),
        Address::Scoped(ip, interface, port) => scoped(*ip, interface, *port, wanted.kind),
        Address::Path(path) => unix_path(path, wanted.kind, plan),
        Address::Abstract(name) => unix_abstract(name, wanted.kind),
    };
    result.and_then(|socket| listening(socket, wanted.kind)).map_err(|error| explain(wanted, &error))
}

/// Refuses, before anything has changed, a path that no socket can have. Whether an address is free is
/// known when it is taken.
pub fn check(wanted: &Listen, plan: &Plan) -> Result<(), Error> {
    let Address::Path(path) = &wanted.address else { return Ok(()) };
    let look = |parent: Parent| {
        socket_in_the_way(&parent)?;
        bound_name(path, &parent).map(drop)
    };
    match pathwalk::find_parent(path, None).and_then(look) {
        Err(error) if is_missing(&error) && may_be_made(&directory_of(path), plan) => Ok(()),
        other => other.map_err(|error| explain(wanted, &error)),
    }
}

fn directory_of(path: &CStr) -> CString {
    let end = path.to_bytes().iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    CString::new(path.to_bytes().get(..end).unwrap_or_default()).unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Families {
    /// IPv4 clients reach an IPv6 socket too.
    Both,
    /// Whatever the address says; `[::]` as net.ipv6.bindv6only has it, like systemd.
    One,
}

/// A port alone: both families by one socket, or IPv4 where the kernel has no IPv6.
fn any_address(port: u16, kind: Kind) -> Result<OwnedFd, Error> {
    match internet(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port), kind, Families::Both) {
        // EADDRNOTAVAIL: compiled in, and switched off by net.ipv6.conf.*.disable_ipv6.
        Err(error) if matches!(error.downcast_ref(), Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)) => {
            internet(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), kind, Families::One)
        }
        other => other,
    }
}

fn scoped(ip: Ipv6Addr, interface: &CStr, port: u16, kind: Kind) -> Result<OwnedFd, Error> {
    let by_number = interface.to_str().ok().and_then(|text| text.parse().ok());
    let index = match by_number {
        Some(index) => index,
        None => sys::interface_index(interface)
            .map_err(|errno| call(format!("if_nametoindex({})", crate::failure::lossy(interface)), errno))?,
    };
    internet(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, index)), kind, Families::One)
}

fn internet(address: SocketAddr, kind: Kind, families: Families) -> Result<OwnedFd, Error> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = open(family, kind)?;
    if kind == Kind::Stream {
        // A restarted service must not wait for its old connections to be forgotten (TIME_WAIT).
        socket::setsockopt(&socket, sockopt::ReuseAddr, &true).map_err(|errno| call("setsockopt(SO_REUSEADDR)", errno))?;
    }
    if families == Families::Both {
        socket::setsockopt(&socket, sockopt::Ipv6V6Only, &false).map_err(|errno| call("setsockopt(IPV6_V6ONLY)", errno))?;
    }
    attach(&socket, &SockaddrStorage::from(address), format!("bind({address})"))?;
    Ok(socket)
}

fn unix_abstract(name: &[u8], kind: Kind) -> Result<OwnedFd, Error> {
    let socket = open(AddressFamily::Unix, kind)?;
    let address = UnixAddr::new_abstract(name).map_err(|errno| call("sun_path", errno))?;
    attach(&socket, &address, format!("bind(@{})", String::from_utf8_lossy(name)))?;
    Ok(socket)
}

/// A socket in the file system. Mode and group are set before the bind makes it visible, and nothing is
/// done to it by name afterwards, when the name may stand for something else.
fn unix_path(path: &CStr, kind: Kind, plan: &Plan) -> Result<OwnedFd, Error> {
    let parent = pathwalk::find_parent(path, None)?;
    remove_stale(&parent, kind)?;
    let socket = open(AddressFamily::Unix, kind)?;
    // bind(2) gives the name the mode of the unbound socket, less the umask.
    fchmod(&socket, Mode::from_bits_truncate(0o660)).map_err(|errno| call("fchmod(socket)", errno))?;
    let name = bound_name(path, &parent)?;
    let address = UnixAddr::new(name).map_err(|errno| call("sun_path", errno))?;
    let bind = format!("bind({})", crate::failure::lossy(name));
    let created = Ownership::of_target(plan, &parent)?;
    let bound = within(&parent, || attach(&socket, &address, bind));
    created.restore()?;
    bound?;
    Ok(socket)
}

/// getsockname(2) tells the name as it was bound: the whole path, where nobody can lead it elsewhere.
fn bound_name<'a>(path: &'a CStr, parent: &'a Parent) -> Result<&'a CStr, Error> {
    let name = if parent.guarded { path } else { &*parent.name };
    if name.count_bytes() > UNIX_NAME_MAX {
        bail!("the path has {} bytes; {UNIX_NAME_MAX} are the most a Unix socket takes", name.count_bytes());
    }
    Ok(name)
}

/// Whether a socket has the name. Anything else that has it stays, and is an error.
fn socket_in_the_way(parent: &Parent) -> Result<bool, Error> {
    match sys::facts_at(parent.directory.as_fd(), &parent.name) {
        Ok(facts) if facts.mode & libc::S_IFMT == libc::S_IFSOCK => Ok(true),
        Ok(_) => bail!("the path exists and is no socket; it is left alone"),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(call("statx", errno)),
    }
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(parent: &Parent, kind: Kind) -> Result<(), Error> {
    if !socket_in_the_way(parent)? {
        return Ok(());
    }
    let probe = open(AddressFamily::Unix, kind)?;
    let address = UnixAddr::new(parent.name.as_c_str()).map_err(|errno| call("sun_path", errno))?;
    let answer = within(parent, || Ok(socket::connect(probe.as_raw_fd(), &address)))?;
    match answer {
        Err(Errno::ECONNREFUSED) => {}
        Err(Errno::ENOENT) => return Ok(()),
        // EPROTOTYPE: one of the other kind listens; EAGAIN: its queue is full.
        Ok(()) | Err(Errno::EPROTOTYPE | Errno::EAGAIN) => return Err(call("connect", Errno::EADDRINUSE)),
        Err(errno) => return Err(call("connect", errno)),
    }
    match nix::unistd::unlinkat(&parent.directory, parent.name.as_c_str(), nix::unistd::UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(call("unlink", errno)),
    }
}

/// Does something in another directory, there being no bindat(2). The command must start in the one it was
/// started in: where the way back fails, the run does.
fn within<T>(parent: &Parent, act: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let here =
        sys::open_at(nix::fcntl::AT_FDCWD, c".", libc::O_PATH | libc::O_DIRECTORY).map_err(|errno| call("open(.)", errno))?;
    nix::unistd::fchdir(&parent.directory).map_err(|errno| call("fchdir", errno))?;
    let result = act();
    nix::unistd::fchdir(&here).map_err(|errno| call("fchdir, back to where we were started", errno))?;
    result
}

/// The group and the mask that new files get: the target's group, so that its members may connect.
struct Ownership {
    mask: u32,
    group: Option<u32>,
}

impl Ownership {
    fn of_target(plan: &Plan, parent: &Parent) -> Result<Self, Error> {
        let directory = sys::facts(parent.directory.as_fd()).map_err(|errno| call("statx(.)", errno))?;
        let target = plan.identity.gid.get();
        if directory.mode & libc::S_ISGID != 0 && !plan.identity.groups.iter().any(|gid| gid.get() == directory.gid) {
            bail!(
                "its directory is set-group-ID of gid {}, which {} is not in, so it could not connect",
                directory.gid,
                plan.identity
            );
        }
        let before = nix::unistd::getegid().as_raw();
        let group = (plan.role == Role::Switching && before != target).then_some(before);
        if group.is_some() && !sys::set_filesystem_gid(target) {
            bail!("setfsgid({target}): EPERM: the socket would not belong to the target's group");
        }
        Ok(Self { mask: sys::umask(0).map_err(|errno| call("umask(0)", errno))?, group })
    }

    fn restore(self) -> Result<(), Error> {
        sys::umask(self.mask).map_err(|errno| call("umask", errno))?;
        match self.group {
            Some(before) if !sys::set_filesystem_gid(before) => bail!("setfsgid({before}): it did not come back"),
            _ => Ok(()),
        }
    }
}

fn open(family: AddressFamily, kind: Kind) -> Result<OwnedFd, Error> {
    let socket_type = match kind {
        Kind::Stream => SockType::Stream,
        Kind::Datagram => SockType::Datagram,
    };
    socket::socket(family, socket_type, SockFlag::SOCK_CLOEXEC, None).map_err(|errno| call("socket", errno))
}

fn attach(socket: &OwnedFd, address: &dyn SockaddrLike, bind: String) -> Result<(), Error> {
    socket::bind(socket.as_raw_fd(), address).map_err(|errno| call(bind, errno))
}

/// The queue is as long as the system allows: net.core.somaxconn cuts it.
fn listening(socket: OwnedFd, kind: Kind) -> Result<OwnedFd, Error> {
    if kind == Kind::Stream {
        socket::listen(&socket, Backlog::MAXALLOWABLE).map_err(|errno| call("listen", errno))?;
    }
    Ok(socket)
}

fn explain(wanted: &Listen, error: &Error) -> Error {
    let message = format!("--listen {wanted}: {error:#}");
    match error.downcast_ref::<Errno>() {
        Some(Errno::EADDRINUSE) => hinted(message, "the address is in use: stop what listens there, or choose another"),
        Some(Errno::EACCES) if wanted.address.port().is_some() => hinted(
            message,
            "CAP_NET_BIND_SERVICE is missing (Docker: --cap-add NET_BIND_SERVICE; systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)",
        ),
        Some(Errno::EADDRNOTAVAIL) => hinted(message, "no interface of this host (or container) has the address"),
        Some(Errno::ENOENT) if matches!(wanted.address, Address::Path(_)) => {
            hinted(message, "its directory has to be there: --mkdir makes one")
        }
        _ => Error::msg(message),
    }
}
