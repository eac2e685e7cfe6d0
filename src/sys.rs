//! The system calls that no crate gives us, or gives us without the error number. `unsafe` is allowed here and
//! in `sys/`, nowhere else.
//!
//! A safe function has no duties: what it relies on it takes (an owner, [`Alone`], a [`Plain`] state) or looks at itself.
//! What no type can say of the whole program is promised once, where it begins: [`start`].

#![allow(unsafe_code)]

mod arena;
mod confinement;
mod credentials;
mod descriptors;
mod entries;
mod files;
mod footprint;
mod keyrings;
mod limits;
mod memory;
mod plain;
mod processes;
mod seccomp;
mod signals;
mod threads;
mod whole;

pub use confinement::*;
pub use credentials::*;
use credentials::{Prctl, prctl};
pub use descriptors::*;
pub use entries::*;
pub use files::*;
pub use footprint::*;
pub use keyrings::*;
pub use limits::*;
pub use memory::*;
pub use plain::*;
pub(crate) use plain::{is_plain, plain};
pub use processes::*;
pub use seccomp::*;
pub use signals::*;
pub use threads::*;
pub use whole::*;

use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use nix::errno::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// What the kernel put on the stack for main: it stays there as long as the process runs.
pub struct Start {
    /// argv.
    pub arguments: Vec<&'static CStr>,
    /// envp.
    pub environment: Vec<&'static CStr>,
    /// For what closes descriptors by their numbers.
    pub unowned: Unowned,
}

/// Defines `main` as C has it. Rust's own start-up would ignore SIGPIPE (which execve hands on to the
/// command), open files and map a signal stack; here nothing at all runs between the kernel and `$run`.
///
/// # Safety
/// Whoever writes `unsafe` promises of the whole program what [`start`] asks for.
#[macro_export]
macro_rules! entry_point {
    (unsafe $run:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(_argc: i32, argv: *const *const std::ffi::c_char) -> i32 {
            // SAFETY: called by the C start-up, with argv and envp as the kernel laid them out. The rest is the caller's.
            i32::from($run(unsafe { $crate::sys::start(argv) }))
        }
    };
}

/// Reads argv, and envp which lies behind it.
///
/// # Safety
/// `argv` is the one main was called with, before anything else was done. And of the whole program, from then on:
///
/// - [`with_threads`] alone starts threads;
/// - whatever it opens is close-on-exec from birth, so that a descriptor which is not was there before it, and has no owner;
///   0, 1 and 2 are the streams it came with, or [`open_null`]'s, and have none either;
/// - when [`Start::unowned`] is given to what closes descriptors, nothing that it has opened has an owner that is used or
///   dropped afterwards;
/// - no static, and nothing that belongs to a thread, owns allocated memory or a descriptor that is used after
///   [`go_on_without_the_start`].
pub unsafe fn start(argv: *const *const c_char) -> Start {
    threads::vouch();
    // SAFETY: both arrays end with a null pointer, envp begins one past argv's (execve(2)), and the
    // strings are never freed.
    unsafe {
        let arguments = strings(argv);
        let environment = strings(argv.add(arguments.len() + 1));
        Start { arguments, environment, unowned: Unowned::when_given_away() }
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
///
/// A lie is seen: it returns, and so it has failed.
pub fn execve(path: &CStr, arguments: &StringArray<'_>, environment: &StringArray<'_>) -> Errno {
    // SAFETY: a C string, and two arrays of live C strings that end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    Errno::last()
}

/// setfsuid(2), which reports no error: true where the filesystem user id is this one afterwards.
///
/// A lie is seen: a second call tells.
#[must_use]
pub fn set_filesystem_uid(uid: u32) -> bool {
    // SAFETY: numbers; the second call can't succeed and so only tells.
    unsafe {
        libc::setfsuid(uid);
        libc::setfsuid(u32::MAX) as u32 == uid
    }
}

/// setfsgid(2), which reports no error: true where the filesystem group id is this one afterwards.
///
/// A lie is seen: a second call tells.
#[must_use]
pub fn set_filesystem_gid(gid: u32) -> bool {
    // SAFETY: numbers; the second call can't succeed and so only tells.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsgid(u32::MAX) as u32 == gid
    }
}

/// umask(2), which reports no error; returns the one before. Changed once more in between, so that a kernel that gives
/// the same answer to all is found out, too.
///
/// A lie is seen: two more calls tell.
pub fn umask(mask: u32) -> Result<u32> {
    let other = mask ^ 0o777;
    // SAFETY: numbers.
    let (before, then, now) = unsafe { (libc::umask(mask), libc::umask(other), libc::umask(mask)) };
    if then == mask && now == other && before <= 0o777 { Ok(before) } else { Err(Errno::EPERM) }
}

/// Goes into a directory, wherever symbolic links lead: chdir(2), in two steps.
///
/// A lie is seen: 0 is no new descriptor, and `.` is looked at.
pub fn change_directory(path: &CStr) -> Result<()> {
    let directory = open_at_following(nix::fcntl::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY)?;
    enter(std::os::fd::AsFd::as_fd(&directory))
}

/// fchdir(2), and a look at where that led.
///
/// A lie is seen: `.` is looked at.
pub fn enter(directory: std::os::fd::BorrowedFd<'_>) -> Result<()> {
    nix::unistd::fchdir(directory)?;
    let (here, there) = (nix::sys::stat::stat(c".")?, nix::sys::stat::fstat(directory)?);
    if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) { Ok(()) } else { Err(Errno::EIO) }
}

/// getpid(2).
///
/// A lie is seen: 0 is no process.
pub fn getpid() -> Result<i32> {
    let pid = nix::unistd::getpid().as_raw();
    if pid > 0 { Ok(pid) } else { Err(Errno::ENOSYS) }
}

/// The index of a network interface.
///
/// A lie is seen: 0 is no interface.
pub fn interface_index(name: &CStr) -> Result<u32> {
    // SAFETY: a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Errno::last()),
        index => Ok(index),
    }
}

/// Writes to stderr whatever state it is in. A reader that is gone must not kill us by SIGPIPE, nor a file that may not
/// grow by SIGXFSZ, and a pipe that nobody empties must not hold us: the exit code is owed either way.
///
/// A lie is harmless: a message is lost.
pub fn write_stderr(text: &str) {
    const PATIENCE_MS: c_int = 1000;
    const DEADLY: [c_int; 2] = [libc::SIGPIPE, libc::SIGXFSZ];
    // SAFETY: the structures are alive during the calls; of all zeros they are valid; sigaction restores exactly what it found.
    unsafe {
        let mut ignore = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        ignore.sa_sigaction = libc::SIG_IGN;
        let mut before = MaybeUninit::<[libc::sigaction; 2]>::zeroed().assume_init();
        let ignored = DEADLY.iter().zip(&mut before);
        let ignored =
            ignored.map_while(|(signal, before)| (libc::sigaction(*signal, &raw const ignore, before) == 0).then_some(()));
        let ignored = ignored.count();
        if ignored == DEADLY.len() {
            write_where_there_is_room(text.as_bytes(), PATIENCE_MS);
        }
        for (signal, before) in DEADLY.iter().zip(&before).take(ignored) {
            libc::sigaction(*signal, before, std::ptr::null_mut());
        }
    }
}
