//! Landlock's ABI, and what must be refused where they are in force.

use std::ffi::CStr;

use libc::c_int;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType};

use super::{Result, open_at_following};

/// landlock_create_ruleset(2): the ABI that this kernel has.
///
/// A lie is seen: an ABI of 0 is none; with another one than there is the ruleset is refused, or does not refuse what is
/// tried.
pub fn landlock_abi() -> Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: c_int = 1;
    // SAFETY: asked for its version the call reads nothing.
    let abi = Errno::result(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, LANDLOCK_CREATE_RULESET_VERSION)
    })?;
    u32::try_from(abi).ok().filter(|&abi| abi > 0).ok_or(Errno::ENOSYS)
}

/// uname(2): the kernel's release, as far as its first two numbers.
///
/// A lie is seen: without digits there is no release. A profile takes it for what it says.
pub fn kernel_release() -> Result<(u32, u32)> {
    let mut name = std::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: a structure to fill in, of which each text ends with a zero byte.
    let release = unsafe {
        Errno::result(libc::uname(name.as_mut_ptr()))?;
        CStr::from_ptr((*name.as_ptr()).release.as_ptr()).to_bytes()
    };
    let mut numbers = release.split(|byte| !byte.is_ascii_digit()).map(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => Err(Errno::EINVAL),
    }
}

/// Opens `/` to list it.
///
/// A lie is seen: it succeeds where it must be refused.
pub fn try_root_directory() -> Result<()> {
    open_at_following(nix::fcntl::AT_FDCWD, c"/", libc::O_RDONLY | libc::O_DIRECTORY).map(drop)
}

/// What is tried with a TCP port of 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// bind(2)
    Bound(u16),
    /// connect(2)
    ConnectedTo(u16),
}

impl Port {
    /// The call, for messages.
    #[must_use]
    pub fn call(self) -> &'static str {
        match self {
            Self::Bound(_) => "bind of another port",
            Self::ConnectedTo(_) => "connect to another port",
        }
    }
}

/// Takes it.
///
/// A lie is seen: it succeeds where it must be refused.
pub fn try_port(port: Port) -> Result<()> {
    let (Port::Bound(number) | Port::ConnectedTo(number)) = port;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: number.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let place = (&raw const address).cast();
    let socket = super::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: an address of the size that is given.
    unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        let done = match port {
            Port::Bound(_) => libc::bind(fd, place, length),
            Port::ConnectedTo(_) => libc::connect(fd, place, length),
        };
        Errno::result(done).map(drop)
    }
}

/// mknod(2) of a block device, 0:0, by an absolute path. Without CAP_MKNOD no kernel makes one: EPERM, in a directory that
/// this process may write to.
///
/// A lie is seen: it succeeds where it must be refused, and where it is asked before, nothing is tried there.
pub fn try_block_device(path: &CStr) -> Result<()> {
    make_block_device(libc::AT_FDCWD, path)
}

/// The same in a directory that isn't there: EBADF, unless a filter answers in the kernel's place.
///
/// A lie is seen: it is not EBADF, and so devices are not tried: what is tried besides still is.
pub fn try_block_device_nowhere() -> Result<()> {
    make_block_device(-1, c"nowhere")
}

fn make_block_device(directory: c_int, path: &CStr) -> Result<()> {
    // SAFETY: numbers and a C string.
    Errno::result(unsafe { libc::mknodat(directory, path.as_ptr(), libc::S_IFBLK, 0) }).map(drop)
}

/// Eight bytes that nobody else can guess: the kernel lays them down for every process anew (getauxval(3), AT_RANDOM).
#[must_use]
pub fn unguessable() -> u64 {
    // SAFETY: takes a number; where it isn't 0 it is the address of 16 bytes that stay there. The first eight are left to
    // the C library.
    unsafe {
        match libc::getauxval(libc::AT_RANDOM) {
            0 => 0,
            place => (place as *const [u8; 16]).cast::<u64>().add(1).read_unaligned(),
        }
    }
}
