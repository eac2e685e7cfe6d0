//! Descriptors by number: those that were handed to us, and those that the command is to have.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::Result;

/// Whether a descriptor number is open.
#[must_use]
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: a number; asks for flags.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// fstat(2) by number, of a descriptor that was handed to us; EBADF where it isn't open.
pub fn fstat(fd: RawFd) -> Result<libc::stat> {
    let mut found = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a buffer of the right size, integers all through.
    unsafe {
        Errno::result(libc::fstat(fd, found.as_mut_ptr()))?;
        Ok(found.assume_init())
    }
}

/// Whether a descriptor is one of pipe(2)'s, as opposed to a FIFO in a file system.
#[must_use]
pub fn is_anonymous_pipe(fd: RawFd) -> bool {
    const PIPEFS_MAGIC: u32 = 0x5049_5045;
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a buffer of the right size, integers all through.
    unsafe { libc::fstatfs(fd, found.as_mut_ptr()) == 0 && found.assume_init().f_type as u32 == PIPEFS_MAGIC }
}

/// listen(2); -1 asks for the longest queue that net.core.somaxconn allows.
pub fn listen(socket: BorrowedFd<'_>, backlog: i32) -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// The number that tells this process from every other there has been since the machine was started: the inode
/// of its pidfd. `None` where the kernel has none (before Linux 6.9) or a filter forbids the call.
#[must_use]
pub fn own_pidfd_id() -> Option<u64> {
    const PIDFS_MAGIC: u32 = 0x5049_4446;
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: numbers, and a buffer of the right size, integers all through; the descriptor is ours alone.
    unsafe {
        let fd = RawFd::try_from(libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0)).ok().filter(|&fd| fd >= 0)?;
        let pidfd = OwnedFd::from_raw_fd(fd);
        let known = libc::fstatfs(fd, found.as_mut_ptr()) == 0 && found.assume_init().f_type as u32 == PIDFS_MAGIC;
        let id = fstat(pidfd.as_raw_fd()).ok()?.st_ino;
        known.then_some(id)
    }
}

/// The soft limit of RLIMIT_NOFILE: every descriptor's number is below it.
pub fn descriptor_limit() -> Result<u64> {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map(|(soft, _)| soft)
}

/// Lets reads and writes wait, and leaves the other status flags as they are.
pub fn clear_nonblocking(file: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: numbers.
    unsafe {
        let flags = Errno::result(libc::fcntl(file.as_raw_fd(), libc::F_GETFL))?;
        Errno::result(libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK)).map(drop)
    }
}

/// Whether a descriptor is a terminal.
#[must_use]
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: a number.
    unsafe { libc::isatty(fd) == 1 }
}

/// Borrows a descriptor that was handed to us by number.
///
/// The caller has seen that it is open, and nothing in this program closes what it did not open
/// before the last step: `close_range` just before execve.
#[must_use]
pub fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: see above; and -1, the one forbidden value, is never a number that was seen to be open.
    unsafe { BorrowedFd::borrow_raw(fd.max(0)) }
}

/// Opens /dev/null for reading and writing, at the lowest free number, and leaves it open.
pub fn open_null() -> Result<RawFd> {
    // SAFETY: a C string.
    Errno::result(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) })
}

/// Opens the controlling terminal; ENXIO where there is none.
pub fn open_terminal() -> Result<RawFd> {
    // SAFETY: a C string.
    Errno::result(unsafe { libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOCTTY) })
}

/// A copy of the descriptor at `minimum` or above, closed on execve.
pub fn duplicate_above(fd: BorrowedFd<'_>, minimum: RawFd) -> Result<OwnedFd> {
    // SAFETY: numbers; a descriptor that is returned is ours alone.
    unsafe {
        let fd = Errno::result(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, minimum))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// dup2(2): the copy stays open across execve. Whatever had the number is closed.
pub fn duplicate_onto(fd: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    // SAFETY: numbers. The caller owns what has that number, or nothing has it.
    let got = Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number) })?;
    if got == number { Ok(()) } else { Err(Errno::EBADF) }
}

/// Lets a descriptor that was handed to us stay open across execve.
pub fn clear_close_on_exec(fd: RawFd) -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop)
}

/// close_range(2), Linux 5.9.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: numbers. Called just before execve, when no owner of these descriptors is used again.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// close(2) by number, for kernels without [`close_range`]. An error leaves the descriptor closed all the same.
pub fn close(fd: RawFd) {
    // SAFETY: as for close_range.
    unsafe { libc::close(fd) };
}
