//! What the kernel claims to have in force is tried. **The rule**: of each ruleset and of each filter one thing is known
//! that must be refused now and was not before; the command starts only after it has been refused.
//!
//! The kernel takes a ruleset, and a filter, as a whole. So one refusal shows all of it to be in force, and a call that
//! claimed success and did nothing is found out. What nothing can be tried of is in SECURITY.md.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Error, anyhow, bail};
use caps::Capability;
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

use super::landlock::{Root, Rules};
use crate::capabilities::CapSet;
use crate::cli::{Ports, Scope};
use crate::failure::call;
use crate::sys::{self, Port};

/// What Landlock must refuse, and what was seen to be allowed while it was not yet asked to.
pub struct Attempts {
    ports: Vec<Port>,
    /// A name for a device, which no rule allows. In that directory the kernel itself would have said EPERM.
    device: Option<CString>,
    /// Lists `/`, which no rule names.
    root: Root,
    /// A socket with an abstract name, made outside.
    socket: Option<(OwnedFd, UnixAddr)>,
}

impl Attempts {
    /// Finds out what is allowed now.
    pub fn before(rules: &Rules, root: Root, kept: CapSet) -> Self {
        let bound = rules.bind.as_ref().and_then(refused_port).map(Port::Bound);
        let connected = rules.connect.as_ref().and_then(refused_port).map(Port::ConnectedTo);
        let device = if rules.paths.is_empty() || kept.has(Capability::CAP_MKNOD) { None } else { device() };
        let may_list = root == Root::Unnamed && !rules.paths.is_empty() && sys::try_root_directory().is_ok();
        Self {
            ports: bound.into_iter().chain(connected).collect(),
            device,
            root: if may_list { Root::Unnamed } else { Root::Named },
            socket: (rules.scope == Scope::Own).then(socket).flatten(),
        }
    }

    /// Makes each attempt.
    pub fn after(self) -> Result<(), Error> {
        for port in self.ports {
            // Where there is no IPv4 there is no such port either.
            refused(port.call(), sys::try_port(port), &[Errno::EACCES, Errno::EAFNOSUPPORT])?;
        }
        if let Some(name) = &self.device {
            refused("mknod of a device", sys::try_block_device(name), &[Errno::EACCES])?;
        }
        if self.root == Root::Unnamed {
            refused("open(/)", sys::try_root_directory(), &[Errno::EACCES])?;
        }
        if let Some((socket, name)) = &self.socket {
            let connected = socket::connect(socket.as_raw_fd(), name);
            refused("connect to an abstract socket", connected, &[Errno::EPERM])?;
        }
        Ok(())
    }
}

/// The first port that is not among them; none that needs a capability, whose lack says the same: 0, any free one, never
/// does, and the last ones hardly ever.
fn refused_port(ports: &Ports) -> Option<u16> {
    std::iter::once(0).chain((1024..=u16::MAX).rev()).find(|&port| !ports.contain(port))
}

/// Where anybody may write, in a container whose root is read-only too; and where the command starts.
const OPEN_TO_ALL: [&str; 5] = ["/tmp", "/dev/shm", "/var/tmp", "/dev/mqueue", "."];

/// A name in a directory that the target may write to, as its answer shows: EPERM is for the want of CAP_MKNOD alone.
fn device() -> Option<CString> {
    if sys::try_block_device_nowhere() != Err(Errno::EBADF) {
        return None;
    }
    let name = |directory: &&str| CString::new(format!("{directory}/{}", unguessable())).ok();
    OPEN_TO_ALL.iter().filter_map(name).find(|name| sys::try_block_device(name) == Err(Errno::EPERM))
}

/// A name that nobody else can have taken, or will take in time.
fn unguessable() -> String {
    format!("stepdown-{:016x}", sys::unguessable())
}

/// None where this process may have no such socket.
fn socket() -> Option<(OwnedFd, UnixAddr)> {
    let name = UnixAddr::new_abstract(unguessable().as_bytes()).ok()?;
    let socket = sys::socket(AddressFamily::Unix, SockType::Datagram, SockFlag::empty()).ok()?;
    sys::bind(socket.as_fd(), &name).ok().map(|()| (socket, name))
}

/// "step", in letters: far from what a kernel will ever have for seccomp(2).
pub const FIRST_OPERATION: u32 = 0x7374_6570;

/// The first operation that no filter of another stepdown, which started this one, answers already.
pub fn unanswered(from: u32) -> Result<u32, Error> {
    const AT_MOST: u32 = 1000;
    let is_free = |operation: &u32| sys::try_no_operation(*operation) != Err(Errno::ENOANO);
    (from..from + AT_MOST).find(is_free).ok_or_else(|| anyhow!("seccomp: a filter there answers all operations with ENOANO"))
}

/// Asks the filter for its mark.
pub fn filter(operation: u32) -> Result<(), Error> {
    refused("seccomp(a mark)", sys::try_no_operation(operation), &[Errno::ENOANO])
}

fn refused(attempt: &str, result: Result<(), Errno>, expected: &[Errno]) -> Result<(), Error> {
    match result {
        Err(errno) if expected.contains(&errno) => Ok(()),
        Ok(()) => bail!("the command is not confined as planned, so it is not started: {attempt} succeeded"),
        Err(errno) => Err(call(format_args!("the command is not confined as planned, so it is not started: {attempt}"), errno)),
    }
}
