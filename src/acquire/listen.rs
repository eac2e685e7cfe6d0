//! `--listen`: sockets that are bound while root may, and handed on by the protocol in `activation`.

use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Error, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, GetSockOpt, SetSockOpt, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, sockopt,
};
use nix::sys::stat::{Mode, fchmod};

use super::{holder, is_missing, maker, may_be_made};
use crate::address::{Address, Choice, Families, Kind, Listen, UNIX_NAME_MAX};
use crate::failure::{call, hinted};
use crate::ids::{Gid, Uid};
use crate::pathwalk::{self, Parent, Placed};
use crate::plan::{Plan, Role, Socket};
use crate::sys;

/// Binds one socket, and listens on it where connections are meant.
pub fn bind(socket: &Socket, plan: &Plan) -> Result<OwnedFd, Error> {
    let wanted = &socket.wanted;
    let result = match &wanted.address {
        Address::Port(port) => any_address(*port, wanted),
        Address::Internet(address) => internet(*address, wanted, None),
        Address::Scoped(ip, interface, port) => scoped(*ip, interface, *port, wanted),
        Address::Path(path) => unix_path(path, socket, plan),
        Address::Abstract(name) => unix_abstract(name, wanted.kind),
    };
    result.and_then(|socket| listening(socket, wanted)).map_err(|error| explain(wanted, &error))
}

/// Refuses, before anything has changed, a path that no socket can have. Whether an address is free is
/// known when it is taken.
pub fn check(socket: &Socket, plan: &Plan) -> Result<(), Error> {
    let wanted = &socket.wanted;
    let Address::Path(path) = &wanted.address else { return Ok(()) };
    let look = |parent: Parent| {
        socket_in_the_way(&parent)?;
        bound_name(path, &parent).map(drop)
    };
    match directory_of_socket(path, plan).and_then(look) {
        Err(error) if is_missing(&error) && may_be_made(&directory_of(path), plan) => Ok(()),
        other => other.map_err(|error| explain(wanted, &error)),
    }
}

/// Where the socket's name is made, and an old one's removed.
fn directory_of_socket(path: &CStr, plan: &Plan) -> Result<Parent, Error> {
    let parent = pathwalk::find_parent(path, None)?;
    parent.is_meant(Some(plan.identity.uid.get()))?;
    Ok(parent)
}

fn directory_of(path: &CStr) -> CString {
    let end = path.to_bytes().iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    CString::new(path.to_bytes().get(..end).unwrap_or_default()).unwrap_or_default()
}

/// A port alone: both families by one socket, or IPv4 where the kernel has no IPv6.
fn any_address(port: u16, wanted: &Listen) -> Result<OwnedFd, Error> {
    match internet(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port), wanted, Some(Families::Both)) {
        // EADDRNOTAVAIL: compiled in, and switched off by net.ipv6.conf.*.disable_ipv6.
        Err(error)
            if matches!(error.downcast_ref(), Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
                && !wanted.choices.contains(&Choice::Families(Families::Version6)) =>
        {
            internet(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), wanted, None)
        }
        other => other,
    }
}

fn scoped(ip: Ipv6Addr, interface: &CStr, port: u16, wanted: &Listen) -> Result<OwnedFd, Error> {
    let by_number = interface.to_str().ok().and_then(|text| text.parse().ok());
    let index = match by_number {
        Some(index) => index,
        None => sys::interface_index(interface)
            .map_err(|errno| call(format!("if_nametoindex({})", crate::failure::lossy(interface)), errno))?,
    };
    internet(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, index)), wanted, None)
}

/// `families` is what an IPv6 socket serves where no option says it; `None` leaves it to net.ipv6.bindv6only, like systemd.
fn internet(address: SocketAddr, wanted: &Listen, families: Option<Families>) -> Result<OwnedFd, Error> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = open(family, wanted.kind)?;
    if wanted.kind == Kind::Stream {
        // A restarted service must not wait for its old connections to be forgotten (TIME_WAIT).
        set(&socket, sockopt::ReuseAddr, true).map_err(|errno| call("setsockopt(SO_REUSEADDR)", errno))?;
    }
    let mut families = families;
    for choice in &wanted.choices {
        match choice {
            Choice::ReusePort => {
                set(&socket, sockopt::ReusePort, true).map_err(|errno| call("setsockopt(SO_REUSEPORT)", errno))?;
            }
            Choice::FreeBind => {
                set(&socket, sockopt::IpFreebind, true).map_err(|errno| call("setsockopt(IP_FREEBIND)", errno))?;
            }
            Choice::Families(chosen) => families = Some(*chosen),
            Choice::Backlog(_) | Choice::Mode(_) | Choice::Owner(_) => {}
        }
    }
    if let Some(families) = families.filter(|_| address.is_ipv6()) {
        set(&socket, sockopt::Ipv6V6Only, families == Families::Version6)
            .map_err(|errno| call("setsockopt(IPV6_V6ONLY)", errno))?;
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

/// A socket in the file system. Mode and owner are set before the bind makes it visible, and nothing is
/// done to it by name afterwards, when the name may stand for something else.
fn unix_path(path: &CStr, socket: &Socket, plan: &Plan) -> Result<OwnedFd, Error> {
    let Socket { wanted, owner } = socket;
    let mode = mode(wanted);
    let parent = directory_of_socket(path, plan)?;
    remove_stale(&parent, wanted.kind)?;
    let (uid, gid) = owners(*owner, mode, plan, &parent)?;
    let socket = open(AddressFamily::Unix, wanted.kind)?;
    // bind(2) gives the name the mode of the unbound socket, less the umask.
    fchmod(&socket, Mode::from_bits_truncate(mode)).map_err(|errno| call("fchmod(socket)", errno))?;
    let made = sys::fstat(socket.as_raw_fd()).map_err(|errno| call("fstat(socket)", errno))?.st_mode & 0o7777;
    if made != mode {
        bail!("fchmod(socket): the kernel holds mode {made:04o}");
    }
    let name = bound_name(path, &parent)?;
    let address = UnixAddr::new(name).map_err(|errno| call("sun_path", errno))?;
    let bind = format!("bind({})", crate::failure::lossy(name));
    let mask = sys::umask(0).map_err(|errno| call("umask(0)", errno))?;
    let bound = maker::made_by(uid, gid, || within(&parent, || attach(&socket, &address, bind)));
    sys::umask(mask).map_err(|errno| call("umask", errno))?;
    bound?;
    Ok(socket)
}

fn mode(wanted: &Listen) -> u32 {
    let mode = wanted.choices.iter().find_map(|choice| if let Choice::Mode(mode) = choice { Some(*mode) } else { None });
    mode.unwrap_or(0o660)
}

/// Mode, user and group that the name of a Unix socket will have, for who only asks; none where it has no name. Its
/// directory may not be there yet, and then gives it no group.
#[must_use]
pub fn name_of(socket: &Socket, plan: &Plan) -> Option<(u32, u32, u32)> {
    let Address::Path(path) = &socket.wanted.address else { return None };
    let mode = mode(&socket.wanted);
    let by_default = || {
        let (uid, gid) = maker::own_ids().ok()?;
        Some(socket.owner.unwrap_or((uid, if plan.role == Role::Switching { plan.identity.gid } else { gid })))
    };
    let parent = directory_of_socket(path, plan).ok();
    let facts = parent.as_ref().and_then(|parent| sys::facts(parent.directory.as_fd()).ok());
    let (uid, gid) = by_default()?;
    let inherited = facts.filter(|facts| facts.mode & libc::S_ISGID != 0).map(|facts| facts.gid);
    Some((mode, uid.get(), inherited.unwrap_or(gid.get())))
}

/// Whether sockets of IPv6 can be made.
#[must_use]
pub fn has_version_6(kind: Kind) -> bool {
    open(AddressFamily::Inet6, kind).is_ok()
}

/// Whom the name is to belong to: what `owner=` says; or root and the target's group, so that its members may connect.
fn owners(asked: Option<(Uid, Gid)>, mode: u32, plan: &Plan, parent: &Parent) -> Result<(Uid, Gid), Error> {
    let directory = sys::facts(parent.directory.as_fd()).map_err(|errno| call("statx(.)", errno))?;
    let inherits = (directory.mode & libc::S_ISGID != 0).then_some(directory.gid);
    if let Some((uid, gid)) = asked {
        match inherits {
            Some(group) if group != gid.get() => {
                bail!("its directory is set-group-ID of gid {group}: owner= can't give it gid {gid}")
            }
            _ => return Ok((uid, gid)),
        }
    }
    let target = &plan.identity;
    if let Some(group) = inherits
        && mode & libc::S_IWOTH == 0
        && !target.groups.iter().any(|gid| gid.get() == group)
    {
        bail!("its directory is set-group-ID of gid {group}, which {target} is not in, so it could not connect");
    }
    let (uid, gid) = maker::own_ids()?;
    Ok((uid, if plan.role == Role::Switching { target.gid } else { gid }))
}

/// getsockname(2) tells the name as it was bound: the whole path, where nobody can lead it elsewhere.
fn bound_name<'a>(path: &'a CStr, parent: &'a Parent) -> Result<&'a CStr, Error> {
    let name = if parent.placed == Placed::ByTrusted { path } else { &*parent.name };
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
    // It must not wait where the queue is full: nobody may ever make room.
    let probe = socket(AddressFamily::Unix, kind, SockFlag::SOCK_NONBLOCK)?;
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
    sys::enter(parent.directory.as_fd()).map_err(|errno| call("fchdir", errno))?;
    let result = act();
    sys::enter(here.as_fd()).map_err(|errno| call("fchdir, back to where we were started", errno))?;
    result
}

fn open(family: AddressFamily, kind: Kind) -> Result<OwnedFd, Error> {
    socket(family, kind, SockFlag::empty())
}

fn socket(family: AddressFamily, kind: Kind, flags: SockFlag) -> Result<OwnedFd, Error> {
    let socket_type = match kind {
        Kind::Stream => SockType::Stream,
        Kind::Datagram => SockType::Datagram,
    };
    sys::socket(family, socket_type, flags).map_err(|errno| call("socket", errno))
}

fn attach(socket: &OwnedFd, address: &dyn SockaddrLike, bind: String) -> Result<(), Error> {
    sys::bind(socket.as_fd(), address).map_err(|errno| call(bind, errno))
}

/// Sets an option of a socket, and reads it back.
fn set<O: SetSockOpt<Val = bool> + GetSockOpt<Val = bool> + Copy>(socket: &OwnedFd, option: O, value: bool) -> Result<(), Errno> {
    socket::setsockopt(socket, option, &value)?;
    if socket::getsockopt(socket, option)? == value { Ok(()) } else { Err(Errno::EIO) }
}

/// Without an option the queue is as long as the system allows: net.core.somaxconn cuts it.
fn listening(socket: OwnedFd, wanted: &Listen) -> Result<OwnedFd, Error> {
    if wanted.kind == Kind::Stream {
        let backlog =
            wanted.choices.iter().find_map(|choice| if let Choice::Backlog(length) = choice { Some(*length) } else { None });
        sys::listen(socket.as_fd(), backlog.unwrap_or(-1)).map_err(|errno| call("listen", errno))?;
    }
    Ok(socket)
}

fn explain(wanted: &Listen, error: &Error) -> Error {
    let message = format!("--listen {wanted}: {error:#}");
    match error.downcast_ref::<Errno>() {
        Some(Errno::EADDRINUSE) => {
            let holder = holder::of(wanted).map_or_else(String::new, |holder| format!(": {holder} has it"));
            hinted(message + &holder, "the address is in use: stop what listens there, or choose another")
        }
        Some(Errno::EACCES) if wanted.address.port().is_some() => hinted(
            message,
            "CAP_NET_BIND_SERVICE is missing (Docker: --cap-add NET_BIND_SERVICE; systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)",
        ),
        Some(Errno::EINVAL) if matches!(wanted.address, Address::Internet(SocketAddr::V6(_))) => {
            hinted(message, "a link-local address needs its interface: [fe80::1%eth0]:80")
        }
        Some(Errno::EADDRNOTAVAIL) => hinted(message, "no interface of this host (or container) has the address"),
        Some(Errno::ENOENT) if matches!(wanted.address, Address::Path(_)) => {
            hinted(message, "its directory has to be there: --mkdir makes one")
        }
        _ => Error::msg(message),
    }
}
