//! Descriptors by number: those that were handed to us, and those that the command is to have.
//!
//! Whoever has a number may be asked what it is, and its file be changed, as the names in /proc/self/fd let anybody do.
//! What closes a number or puts something else there takes its owner, or sees that it has none.

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType};

use super::{Entries, Result, open_at_following};
use crate::ids::Uid;

/// Takes what a call says it has opened. 0, 1 and 2 were there before, or /dev/null has them: one of these is new only where
/// it was free, and then it is close-on-exec, as is all that we open. A call that claims success and opens nothing would have
/// us close them. (musl's open(2) and fcntl(2) set the flag once more, and so would on these: hence openat(2), and the raw fcntl(2).)
pub(super) fn opened(fd: RawFd) -> Result<OwnedFd> {
    if fd < 0 || fd <= libc::STDERR_FILENO && was_received(fd) != Ok(false) {
        return Err(Errno::EBADF);
    }
    // SAFETY: what was just opened is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether a descriptor number is open.
///
/// A lie is seen: what is not open can be neither kept nor handed on: the next call on it says so.
#[must_use]
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: a number; asks for flags.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// A mode that no file has: what a call leaves that claims success and writes nothing.
const NO_MODE: libc::mode_t = libc::mode_t::MAX;

/// fstat(2) by number, of a descriptor that was handed to us; EBADF where it isn't open.
///
/// A lie is seen: what is not filled in is no mode.
pub fn fstat(fd: RawFd) -> Result<libc::stat> {
    let mut found = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: a buffer of the right size, integers all through.
    let found = unsafe {
        (*found.as_mut_ptr()).st_mode = NO_MODE;
        // Raw: musl fills it in itself, from what the kernel has filled in or not.
        Errno::result(libc::syscall(libc::SYS_fstat, fd, found.as_mut_ptr()))?;
        found.assume_init()
    };
    if found.st_mode == NO_MODE { Err(Errno::EIO) } else { Ok(found) }
}

/// Whether it is seen that a descriptor number is not open. Any other answer than EBADF says nothing of the kind.
///
/// A lie goes unseen: an EBADF that is none hides a descriptor, where close_range(2) or close(2) has lied before. No call
/// could tell then, for each of them may lie as well.
#[must_use]
pub fn is_closed(fd: RawFd) -> bool {
    // SAFETY: a number; asks for flags.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFD) }) == Err(Errno::EBADF)
}

/// Whether a descriptor is one of pipe(2)'s, as opposed to a FIFO in a file system.
///
/// A lie is harmless: what is not filled in is no pipe, and stays whose it was.
#[must_use]
pub fn is_anonymous_pipe(fd: RawFd) -> bool {
    const PIPEFS_MAGIC: u32 = 0x5049_5045;
    file_system(fd) == Some(PIPEFS_MAGIC)
}

/// Whether an open file is one of a real procfs.
///
/// A lie is seen: what is not filled in is no procfs.
#[must_use]
pub fn is_on_procfs(file: BorrowedFd<'_>) -> bool {
    file_system(file.as_raw_fd()) == Some(libc::PROC_SUPER_MAGIC as u32)
}

/// fstatfs(2): the kind of file system, by its magic number.
fn file_system(fd: RawFd) -> Option<u32> {
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a buffer of the right size, integers all through.
    unsafe { (libc::fstatfs(fd, found.as_mut_ptr()) == 0).then(|| found.assume_init().f_type as u32) }
}

/// socket(2), closed on execve.
///
/// A lie is seen: 0 is no new descriptor.
pub fn socket(family: AddressFamily, kind: SockType, flags: SockFlag) -> Result<OwnedFd> {
    let flags = kind as libc::c_int | flags.bits() | libc::SOCK_CLOEXEC;
    // SAFETY: numbers.
    Errno::result(unsafe { libc::socket(family as libc::c_int, flags, 0) }).and_then(opened)
}

/// eventfd(2), closed on execve: a descriptor that needs no file, no right and no directory.
///
/// A lie is seen: 0 is no new descriptor.
pub fn eventfd() -> Result<OwnedFd> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }).and_then(opened)
}

/// bind(2), and a look at what the socket is bound to: the same address, but that a port 0 has become another.
///
/// A lie is seen: the address is read back.
pub fn bind(socket: BorrowedFd<'_>, address: &dyn nix::sys::socket::SockaddrLike) -> Result<()> {
    const PORT: std::ops::Range<usize> = 2..4;
    nix::sys::socket::bind(socket.as_raw_fd(), address)?;
    let mut bound = [0u8; size_of::<libc::sockaddr_storage>()];
    let mut length = bound.len() as libc::socklen_t;
    // SAFETY: room for as many bytes as it says; and the address has as many as it says.
    let asked = unsafe {
        Errno::result(libc::getsockname(socket.as_raw_fd(), bound.as_mut_ptr().cast(), &raw mut length))?;
        std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), address.len() as usize)
    };
    // Where the IP address is. The kernel forgets what else there is, but for a link-local one its scope (ipv6(7)).
    let ip = match address.family() {
        Some(AddressFamily::Inet) => Some(4..8),
        Some(AddressFamily::Inet6) => Some(8..24),
        _ => None,
    };
    let is_kept = |at: &usize| match &ip {
        Some(ip) => ip.contains(at) || *at < PORT.start || PORT.contains(at) && asked.get(PORT) != Some(&[0, 0]),
        None => true,
    };
    let same = (0..asked.len()).filter(is_kept).all(|at| asked.get(at) == bound.get(at));
    if same { Ok(()) } else { Err(Errno::EIO) }
}

/// listen(2), read back; -1 asks for the longest queue that net.core.somaxconn allows.
///
/// A lie is seen: SO_ACCEPTCONN is read back.
pub fn listen(socket: BorrowedFd<'_>, backlog: i32) -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::listen(socket.as_raw_fd(), backlog) })?;
    let listens = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::AcceptConn)?;
    if listens { Ok(()) } else { Err(Errno::EIO) }
}

/// The number that tells this process from every other there has been since the machine was started: the inode
/// of its pidfd. `None` where the kernel has none (before Linux 6.9) or a filter forbids the call.
///
/// A lie is harmless: 0 is no new descriptor, and so there is no number: LISTEN_PIDFDID that is set then names another
/// process.
#[must_use]
pub fn own_pidfd_id() -> Option<u64> {
    const PIDFS_MAGIC: u32 = 0x5049_4446;
    // SAFETY: numbers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    let pidfd = RawFd::try_from(pidfd).ok().and_then(|fd| opened(fd).ok())?;
    let id = fstat(pidfd.as_raw_fd()).ok()?.st_ino;
    (file_system(pidfd.as_raw_fd()) == Some(PIDFS_MAGIC)).then_some(id)
}

/// The soft limit of RLIMIT_NOFILE: every descriptor's number is below it.
///
/// A lie is harmless: a limit of 0 leaves no room, and the chore is refused.
pub fn descriptor_limit() -> Result<u64> {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map(|(soft, _)| soft)
}

/// Lets reads and writes wait, and leaves the other status flags as they are.
///
/// A lie is seen: the flag is read back.
pub fn clear_nonblocking(file: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: numbers.
    unsafe {
        let flags = Errno::result(libc::fcntl(file.as_raw_fd(), libc::F_GETFL))?;
        Errno::result(libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK))?;
        let now = Errno::result(libc::fcntl(file.as_raw_fd(), libc::F_GETFL))?;
        if now & libc::O_NONBLOCK == 0 { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// Whether a descriptor is a terminal.
///
/// A lie is harmless: a message is told as for a terminal, or as for none.
#[must_use]
pub fn is_terminal(fd: RawFd) -> bool {
    // SAFETY: a number.
    unsafe { libc::isatty(fd) == 1 }
}

/// fchown(2) of what has a number, as its name in /proc/self/fd lets anybody do.
///
/// A lie is harmless: the command can't open /dev/stdout anew.
pub fn chown_by_number(fd: RawFd, uid: Uid) -> Result<()> {
    // SAFETY: numbers. The file changes, the descriptor does not.
    Errno::result(unsafe { libc::fchown(fd, uid.get(), u32::MAX) }).map(drop)
}

/// How many columns a terminal has, where it says so.
///
/// A lie is harmless: a width of 0 is none.
#[must_use]
pub fn columns(fd: RawFd) -> Option<usize> {
    // SAFETY: of all zeros the structure is valid, and it is alive during the call, which writes to it.
    let size = unsafe {
        let mut size = std::mem::MaybeUninit::<libc::winsize>::zeroed().assume_init();
        Errno::result(libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size)).ok().map(|_| size)
    };
    size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

/// A device that is opened by its name in /dev. What an image, or who set up the container, put there may be anything: a link to
/// a file that only root may write to. It counts only with the numbers that the kernel keeps for it (null(4), tty(4)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    path: &'static CStr,
    number: libc::dev_t,
}

/// /dev/null.
pub const NULL: Device = Device { path: c"/dev/null", number: libc::makedev(1, 3) };

/// /dev/tty, the controlling terminal.
const TERMINAL: Device = Device { path: c"/dev/tty", number: libc::makedev(5, 0) };

impl Device {
    /// Whether this is what was looked at.
    #[must_use]
    pub fn is(self, found: &libc::stat) -> bool {
        found.st_mode & libc::S_IFMT == libc::S_IFCHR && found.st_rdev == self.number
    }

    /// What stands at its name now, wherever links lead.
    ///
    /// A lie is seen: what is not filled in is no device.
    pub fn found(self) -> Result<libc::stat> {
        let mut found = MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: a C string, and a buffer of the right size, integers all through.
        unsafe {
            Errno::result(libc::stat(self.path.as_ptr(), found.as_mut_ptr()))?;
            Ok(found.assume_init())
        }
    }

    /// Opens it for reading and writing at the lowest free number, and sees that it is the device: ENODEV where not. No
    /// terminal that stands there becomes ours by that.
    fn open(self, flags: c_int) -> Result<OwnedFd> {
        let flags = libc::O_RDWR | libc::O_NOCTTY | flags;
        // SAFETY: a C string.
        let fd = Errno::result(unsafe { libc::openat(libc::AT_FDCWD, self.path.as_ptr(), flags) })?;
        // Nobody owns a number where nothing is.
        let found = fstat(fd)?;
        let new = if flags & libc::O_CLOEXEC == 0 {
            // SAFETY: a number that was free, and is open now.
            unsafe { OwnedFd::from_raw_fd(fd) }
        } else {
            opened(fd)?
        };
        if self.is(&found) { Ok(new) } else { Err(Errno::ENODEV) }
    }
}

/// Opens /dev/null, and leaves it open. It is looked at before, since the opening of another device may do something.
///
/// A lie is seen: what has that number is looked at: it is no /dev/null.
pub fn open_null() -> Result<RawFd> {
    if NULL.is(&NULL.found()?) { NULL.open(0).map(IntoRawFd::into_raw_fd) } else { Err(Errno::ENODEV) }
}

/// Opens the controlling terminal; ENXIO where there is none.
///
/// A lie is seen: what has that number is looked at: it is no /dev/tty. What can't be told counts as shared.
pub fn open_terminal() -> Result<OwnedFd> {
    TERMINAL.open(libc::O_CLOEXEC | libc::O_NONBLOCK)
}

/// A copy of the descriptor at `minimum` or above, closed on execve.
///
/// A lie is seen: a number below `minimum` is no copy, and is an error.
pub fn duplicate_above(fd: BorrowedFd<'_>, minimum: RawFd) -> Result<OwnedFd> {
    // SAFETY: numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, minimum) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    if fd < minimum { Err(Errno::EBADF) } else { opened(fd) }
}

/// Whether what has a number was handed to us. Of an execve nothing is left that is close-on-exec, and what we open is
/// (see [`super::start`]). EBADF where nothing has the number.
///
/// A lie is seen: 0 says "received" of what is ours, which is looked at again when it is handed on.
pub fn was_received(fd: RawFd) -> Result<bool> {
    // SAFETY: a number; asks for flags.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFD) }).map(|flags| flags & libc::FD_CLOEXEC == 0)
}

/// Gives what execve starts a file at this number, for good. What was received there is closed; EBUSY where the number is
/// one of ours.
///
/// A lie is seen: dup2(2) says the number.
pub fn hand_on_at(file: OwnedFd, number: RawFd) -> Result<()> {
    match was_received(number) {
        Ok(true) | Err(Errno::EBADF) => {}
        Ok(false) => return Err(Errno::EBUSY),
        Err(errno) => return Err(errno),
    }
    // SAFETY: the number belongs to nobody.
    let got = Errno::result(unsafe { libc::dup2(file.as_raw_fd(), number) })?;
    // It ends with execve.
    let _ = file.into_raw_fd();
    if got == number { Ok(()) } else { Err(Errno::EBADF) }
}

/// That nothing which this program has opened has an owner any more that is used or dropped. [`super::start`] is promised that
/// it is given away only then; what closes by number takes it.
pub struct Unowned(());

impl Unowned {
    /// By what [`super::start`] is promised.
    pub(super) const fn when_given_away() -> Self {
        Self(())
    }
}

/// close_range(2), Linux 5.9.
///
/// A lie is seen: all in the range stays open. `descriptors::closing` asks for a descriptor that was open in there.
pub fn close_range(_: &Unowned, first: RawFd, last: RawFd) -> Result<()> {
    // SAFETY: numbers, and none has an owner.
    unsafe { close_all_in(first, last) }
}

/// close(2) by number, for kernels without [`close_range`]. An error leaves the descriptor closed all the same.
///
/// A lie is seen: the descriptor stays open. Where that matters [`is_closed`] is asked.
pub fn close(_: &Unowned, fd: RawFd) {
    // SAFETY: a number, and it has no owner.
    unsafe { libc::close(fd) };
}

/// The numbers that are open, by /proc. ENOENT where that is no procfs, or another process's.
///
/// A lie is seen: a list without the descriptor that it is read by is none.
pub fn open_descriptors() -> Result<Vec<RawFd>> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let directory = open_at_following(nix::fcntl::AT_FDCWD, c"/proc/self/fd", flags)?;
    let (mut open, mut entries) = (Vec::new(), Entries::with_room(4096));
    while entries.read(directory.as_fd())? > 0 {
        while let Some(entry) = entries.next() {
            let number: RawFd = entry.name.to_str().ok().and_then(|name| name.parse().ok()).ok_or(Errno::EINVAL)?;
            open.push(number);
        }
    }
    let itself = directory.as_raw_fd();
    if !is_on_procfs(directory.as_fd()) || !open.contains(&itself) {
        return Err(Errno::ENOENT);
    }
    open.retain(|&fd| fd != itself);
    Ok(open)
}

/// Keeps of all descriptors stderr and, if there is one, the terminal, which becomes 0; returns where that is now.
///
/// # Safety
/// No owner of a descriptor that is open now is used again, or dropped.
pub(super) unsafe fn keep_the_terminal(terminal: Option<RawFd>) -> Option<RawFd> {
    let close = |fd| {
        // SAFETY: the caller's. An error leaves it closed all the same.
        unsafe { libc::close(fd) };
    };
    // SAFETY: the caller's.
    unsafe {
        let terminal = terminal.map(|fd| if fd > 2 { libc::dup2(fd, 0) } else { fd }).filter(|&fd| fd >= 0);
        for fd in [0, 1] {
            if terminal != Some(fd) {
                close(fd);
            }
        }
        // stderr's copy tells whether it is so; without a stderr it is believed.
        let witness = libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 3);
        if close_all_in(3, RawFd::MAX).is_err() || !is_closed(witness) {
            match open_descriptors() {
                Ok(open) => open.into_iter().filter(|&fd| fd > 2).for_each(close),
                // Neither close_range(2) nor /proc: as many as a process can have had, or 65536.
                Err(_) => (3..1 << 16).for_each(close),
            }
        }
        terminal
    }
}

/// close_range(2), Linux 5.9.
///
/// # Safety
/// No owner of a descriptor in the range is used again, or dropped.
unsafe fn close_all_in(first: RawFd, last: RawFd) -> Result<()> {
    // SAFETY: numbers, and the caller's.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_neither_taken_for_received_nor_replaced_nor_closed() {
        let (ours, other) = super::super::pipe().unwrap();
        let number = ours.as_raw_fd();
        assert_eq!(was_received(number), Ok(false));
        assert_eq!(hand_on_at(other.try_clone().unwrap(), number), Err(Errno::EBUSY));
        super::super::put_byte(other.as_fd()).unwrap();
        assert_eq!(super::super::got_byte(ours.as_fd()), Ok(true));
        assert!(open_descriptors().unwrap().contains(&number));
        assert_eq!(was_received(-1), Err(Errno::EBADF));
    }

    #[test]
    fn what_is_handed_on_stands_at_its_number_and_stays_open_across_execve() {
        let (read, write) = super::super::pipe().unwrap();
        // Far from what other tests open.
        let number = 900;
        hand_on_at(write, number).unwrap();
        assert_eq!(was_received(number), Ok(true));
        let (_, other) = super::super::pipe().unwrap();
        // What is received may be replaced: nobody owns it.
        hand_on_at(other, number).unwrap();
        drop(read);
        assert_eq!(was_received(number), Ok(true));
    }
}
