//! The system calls that no crate gives us, or gives us without the error number. The only file with `unsafe`.
//!
//! Ids are changed by the raw calls, which act on the calling thread alone; the C libraries' wrappers stop
//! every thread to change them all. There is one thread when root is given up: see `credentials`.

#![allow(unsafe_code)]

mod arena;

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::capabilities::CapSet;
use crate::ids::{Gid, Uid};

type Result<T> = std::result::Result<T, Errno>;

/// What the kernel put on the stack for main: it stays there as long as the process runs.
pub struct Start {
    /// argv.
    pub arguments: Vec<&'static CStr>,
    /// envp.
    pub environment: Vec<&'static CStr>,
}

/// Defines `main` as C has it. Rust's own start-up would ignore SIGPIPE (which execve hands on to the
/// command), open files and map a signal stack; here nothing at all runs between the kernel and `$run`.
#[macro_export]
macro_rules! entry_point {
    ($run:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(_argc: i32, argv: *const *const std::ffi::c_char) -> i32 {
            // SAFETY: called by the C start-up, with argv and envp as the kernel laid them out.
            i32::from($run(unsafe { $crate::sys::start(argv) }))
        }
    };
}

/// Reads argv, and envp which lies behind it.
///
/// # Safety
/// `argv` is the one main was called with.
pub unsafe fn start(argv: *const *const c_char) -> Start {
    // SAFETY: both arrays end with a null pointer, envp begins one past argv's (execve(2)), and the
    // strings are never freed.
    unsafe {
        let arguments = strings(argv);
        let environment = strings(argv.add(arguments.len() + 1));
        Start { arguments, environment }
    }
}

unsafe fn strings(mut array: *const *const c_char) -> Vec<&'static CStr> {
    let mut found = Vec::with_capacity(48);
    // SAFETY: the caller's: an array of C strings that ends with a null pointer.
    unsafe {
        while !(*array).is_null() {
            found.push(CStr::from_ptr(*array));
            array = array.add(1);
        }
    }
    found
}

/// Whether the kernel started this program with more rights than its caller had: set-user-ID,
/// set-group-ID or file capabilities (getauxval(3), AT_SECURE).
pub fn started_with_more_rights() -> bool {
    // SAFETY: takes a number, reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

// ---- credentials(7)

/// The real, effective and saved id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triple {
    /// Real.
    pub real: u32,
    /// Effective.
    pub effective: u32,
    /// Saved.
    pub saved: u32,
}

impl Triple {
    /// Whether all three are this one.
    #[must_use]
    pub fn all(self, id: u32) -> bool {
        self == Self { real: id, effective: id, saved: id }
    }
}

// A call that claims success and writes nothing leaves these, which no plan agrees with.
const POISON: u32 = u32::MAX;
const POISONED: Triple = Triple { real: POISON, effective: POISON, saved: POISON };

/// getresuid(2).
pub fn getresuid() -> Result<Triple> {
    let mut ids = POISONED;
    // SAFETY: three pointers to u32, alive during the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_getresuid, &raw mut ids.real, &raw mut ids.effective, &raw mut ids.saved) })?;
    Ok(ids)
}

/// getresgid(2).
pub fn getresgid() -> Result<Triple> {
    let mut ids = POISONED;
    // SAFETY: three pointers to u32, alive during the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_getresgid, &raw mut ids.real, &raw mut ids.effective, &raw mut ids.saved) })?;
    Ok(ids)
}

/// getgroups(2): the supplementary groups, in the kernel's order.
pub fn getgroups() -> Result<Vec<u32>> {
    let mut groups = vec![POISON; 64];
    loop {
        // SAFETY: room for as many u32 as the first argument says.
        match Errno::result(unsafe { libc::syscall(libc::SYS_getgroups, groups.len(), groups.as_mut_ptr()) }) {
            Ok(count) => {
                groups.truncate(usize::try_from(count).unwrap_or(0));
                return Ok(groups);
            }
            Err(Errno::EINVAL) if groups.len() < NGROUPS_MAX => groups.resize(NGROUPS_MAX, POISON),
            Err(errno) => return Err(errno),
        }
    }
}

/// The most supplementary groups a process can have, since Linux 2.6.4.
pub const NGROUPS_MAX: usize = 65536;

/// setgroups(2).
pub fn setgroups(groups: &[Gid]) -> Result<()> {
    let raw: Vec<u32> = groups.iter().map(|gid| gid.get()).collect();
    // SAFETY: as many u32 as the first argument says.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, raw.len(), raw.as_ptr()) }).map(drop)
}

/// setresgid(2), all three.
pub fn setresgid(gid: Gid) -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, gid.get(), gid.get(), gid.get()) }).map(drop)
}

/// setresuid(2), all three.
pub fn setresuid(uid: Uid) -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid.get(), uid.get(), uid.get()) }).map(drop)
}

const LEAVE: c_long = -1;

/// Tries to become root: succeeds with CAP_SETUID, or where any of the three ids is still root's.
pub fn try_root_uid() -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, LEAVE, 0, LEAVE) }).map(drop)
}

/// Tries to take root's group, in the same way.
pub fn try_root_gid() -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, LEAVE, 0, LEAVE) }).map(drop)
}

// ---- capabilities(7)

/// The three sets of capget(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What is in force.
    pub effective: CapSet,
    /// What can be put in force.
    pub permitted: CapSet,
    /// What an execve may keep.
    pub inheritable: CapSet,
}

impl CapabilitySets {
    /// The same in all three.
    #[must_use]
    pub fn of(set: CapSet) -> Self {
        Self { effective: set, permitted: set, inheritable: set }
    }
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

/// Low words first, then high words.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// capget(2) of this thread.
pub fn capget() -> Result<CapabilitySets> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData { effective: POISON, permitted: POISON, inheritable: POISON }; 2];
    // SAFETY: version 3 reads the header and writes two data structures.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    let join = |low: u32, high: u32| CapSet(u64::from(high) << 32 | u64::from(low));
    Ok(CapabilitySets {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// capset(2) of this thread.
pub fn capset(sets: CapabilitySets) -> Result<()> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |shift: u32| CapData {
        effective: (sets.effective.0 >> shift) as u32,
        permitted: (sets.permitted.0 >> shift) as u32,
        inheritable: (sets.inheritable.0 >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads the header and two data structures.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

fn prctl(option: c_int, second: c_long, third: c_long) -> Result<c_long> {
    // SAFETY: only options that take numbers are passed here.
    Errno::result(unsafe { libc::syscall(libc::SYS_prctl, c_long::from(option), second, third, 0, 0) })
}

/// Whether a capability is in the bounding set; EINVAL where the kernel has no capability of that number.
pub fn bounding_has(number: u32) -> Result<bool> {
    prctl(libc::PR_CAPBSET_READ, c_long::from(number), 0).map(|answer| answer != 0)
}

/// Takes a capability out of the bounding set.
pub fn bounding_drop(number: u32) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, c_long::from(number), 0).map(drop)
}

/// Whether a capability is in the ambient set.
pub fn ambient_has(number: u32) -> Result<bool> {
    prctl(libc::PR_CAP_AMBIENT, c_long::from(libc::PR_CAP_AMBIENT_IS_SET), c_long::from(number)).map(|answer| answer != 0)
}

/// Puts a capability, permitted and inheritable already, into the ambient set.
pub fn ambient_raise(number: u32) -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, c_long::from(libc::PR_CAP_AMBIENT_RAISE), c_long::from(number)).map(drop)
}

/// Empties the ambient set.
pub fn ambient_clear() -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, c_long::from(libc::PR_CAP_AMBIENT_CLEAR_ALL), 0).map(drop)
}

/// The securebits flags.
pub fn securebits() -> Result<c_long> {
    prctl(libc::PR_GET_SECUREBITS, 0, 0)
}

/// Whether the permitted set outlives the change of uid away from root.
pub fn set_keep_capabilities(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, c_long::from(keep), 0).map(drop)
}

/// Gives up, for good and for all descendants, whatever an execve could add.
pub fn set_no_new_privs() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Whether no_new_privs is set.
pub fn no_new_privs() -> Result<bool> {
    prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0).map(|answer| answer == 1)
}

// ---- files

/// What statx(2) tells of a file, as far as ownership needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Device and inode: the file's identity.
    pub identity: (u32, u32, u64),
    /// The mount it was reached by.
    pub mount: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names it has.
    pub links: u32,
    /// Type and permission bits, as in st_mode.
    pub mode: u32,
}

impl FileFacts {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFLNK
    }
}

/// The facts of an open file (O_PATH is enough).
pub fn facts(file: BorrowedFd<'_>) -> Result<FileFacts> {
    statx(file, c"", libc::AT_EMPTY_PATH)
}

/// The facts of what a name in a directory stands for, a symbolic link being itself.
pub fn facts_at(directory: BorrowedFd<'_>, name: &CStr) -> Result<FileFacts> {
    statx(directory, name, libc::AT_SYMLINK_NOFOLLOW)
}

fn statx(directory: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<FileFacts> {
    const WANTED: u32 =
        libc::STATX_TYPE | libc::STATX_MODE | libc::STATX_NLINK | libc::STATX_UID | libc::STATX_GID | libc::STATX_INO | MNT_ID;
    const MNT_ID: u32 = 0x1000;
    let mut raw = MaybeUninit::<libc::statx>::zeroed();
    let flags = flags | libc::AT_NO_AUTOMOUNT;
    // SAFETY: a C string and a buffer of the right size.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_statx, directory.as_raw_fd(), name.as_ptr(), flags, WANTED, raw.as_mut_ptr())
    })?;
    // SAFETY: integers all through, zeroed before the kernel filled them in.
    let raw = unsafe { raw.assume_init() };
    if raw.stx_mask & WANTED != WANTED {
        // Older than Linux 5.8, or a call that wrote nothing: without the mount's id a walk can't be kept inside.
        return Err(Errno::ENOSYS);
    }
    Ok(FileFacts {
        identity: (raw.stx_dev_major, raw.stx_dev_minor, raw.stx_ino),
        mount: raw.stx_mnt_id,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        links: raw.stx_nlink,
        mode: u32::from(raw.stx_mode),
    })
}

/// Opens a name in a directory; O_CLOEXEC and O_NOFOLLOW always.
pub fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<OwnedFd> {
    open_at_following(directory, name, flags | libc::O_NOFOLLOW)
}

/// Opens a name in a directory, wherever symbolic links lead; O_CLOEXEC always.
pub fn open_at_following(directory: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: a C string; a descriptor that is returned is ours alone.
    unsafe {
        let fd = Errno::result(libc::openat(directory.as_raw_fd(), name.as_ptr(), flags))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// One name in a directory.
pub struct Entry<'a> {
    /// Its name, neither `.` nor `..`.
    pub name: &'a CStr,
    /// Whether the file system said that it is a directory; it need not say.
    pub says_directory: bool,
}

/// getdents64(2): fills `buffer`, returns how many bytes; 0 at the end.
pub fn getdents(directory: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most as many bytes as it is told there are.
    let count =
        Errno::result(unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(usize::try_from(count).unwrap_or(0).min(buffer.len()))
}

/// The entries that [`getdents`] put into the buffer.
pub fn entries(mut filled: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    // struct linux_dirent64: ino and off, 8 bytes each; reclen, 2; type, 1; the name.
    std::iter::from_fn(move || {
        loop {
            let length = usize::from(u16::from_ne_bytes([*filled.get(16)?, *filled.get(17)?]));
            let (entry, rest) = filled.split_at_checked(length)?;
            filled = rest;
            let says_directory = *entry.get(18)? == libc::DT_DIR;
            let name = CStr::from_bytes_until_nul(entry.get(19..)?).ok()?;
            if name != c"." && name != c".." {
                return Some(Entry { name, says_directory });
            }
        }
    })
}

/// fchownat(2) of an open file: no name is looked up, nothing is followed.
pub fn chown(file: BorrowedFd<'_>, uid: Uid, gid: Option<Gid>) -> Result<()> {
    let gid = gid.map_or(u32::MAX, Gid::get);
    // SAFETY: numbers and an empty C string.
    Errno::result(unsafe { libc::fchownat(file.as_raw_fd(), c"".as_ptr(), uid.get(), gid, libc::AT_EMPTY_PATH) }).map(drop)
}

// ---- descriptors

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

// ---- the process

/// An array of C strings as execve(2) takes it, with the null pointer at its end.
pub struct StringArray<'a> {
    pointers: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> StringArray<'a> {
    /// Points at the strings; copies none.
    pub fn new(strings: impl Iterator<Item = &'a CStr>) -> Self {
        let pointers = strings.map(CStr::as_ptr).chain(std::iter::once(std::ptr::null())).collect();
        Self { pointers, strings: PhantomData }
    }
}

/// execve(2). Returns only if it failed.
pub fn execve(path: &CStr, arguments: &StringArray<'_>, environment: &StringArray<'_>) -> Errno {
    // SAFETY: a C string, and two arrays of live C strings that end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    Errno::last()
}

/// setfsgid(2), which reports no error: true where the filesystem group id is this one afterwards.
#[must_use]
pub fn set_filesystem_gid(gid: u32) -> bool {
    // SAFETY: numbers; the second call can't succeed and so only tells.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsgid(u32::MAX) as u32 == gid
    }
}

/// umask(2), read back because it reports no error; returns the one before.
pub fn umask(mask: u32) -> Result<u32> {
    // SAFETY: numbers.
    let (before, now) = unsafe { (libc::umask(mask), libc::umask(mask)) };
    if now == mask && before <= 0o777 { Ok(before) } else { Err(Errno::EPERM) }
}

/// getpid(2).
pub fn getpid() -> Result<i32> {
    let pid = nix::unistd::getpid().as_raw();
    if pid > 0 { Ok(pid) } else { Err(Errno::ENOSYS) }
}

/// The index of a network interface.
pub fn interface_index(name: &CStr) -> Result<u32> {
    // SAFETY: a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Errno::last()),
        index => Ok(index),
    }
}

/// Writes to stderr whatever state it is in. A reader that is gone must not kill us by SIGPIPE, and a
/// pipe that nobody empties must not hold us: the exit code is owed either way.
pub fn write_stderr(text: &str) {
    const PATIENCE_MS: c_int = 1000;
    let mut poll = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: the structures are alive during the calls; sigaction restores exactly what it found.
    unsafe {
        let mut ignore = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        ignore.sa_sigaction = libc::SIG_IGN;
        let mut before = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        if libc::sigaction(libc::SIGPIPE, &raw const ignore, &raw mut before) != 0 {
            return;
        }
        // At most a page at once: poll promised room for no more.
        for piece in text.as_bytes().chunks(4096) {
            if libc::poll(&raw mut poll, 1, PATIENCE_MS) != 1 {
                break;
            }
            if libc::write(libc::STDERR_FILENO, piece.as_ptr().cast::<c_void>(), piece.len()) < 0 {
                break;
            }
        }
        libc::sigaction(libc::SIGPIPE, &raw const before, std::ptr::null_mut());
    }
}
