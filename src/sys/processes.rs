//! Processes: fork, wait4(2), process groups, the foreground of a terminal.

use std::ffi::{CStr, c_int, c_ulong};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::signals::timespec;
use super::{Alone, Prctl, Result, opened, prctl};
use crate::signal::Signal;

/// Who goes on after [`fork`].
pub enum Forked {
    /// The new process.
    Child,
    /// The one that was there, and the number of the new one.
    Parent(i32),
}

/// fork(2) by the raw call: nothing is run that anybody registered. Of several threads the child would have one, and of
/// the others their locks and half-done work; there is one, so the child may do whatever the parent might have.
///
/// A lie is seen: the one process there is has the number that it had.
pub fn fork(_: &Alone) -> Result<Forked> {
    // SAFETY: no stack and no address is handed over: the kernel copies all, as fork does. There is no other thread.
    match Errno::result(unsafe { libc::syscall(libc::SYS_clone, c_ulong::from(libc::SIGCHLD as u32), 0, 0, 0, 0) })? {
        0 => Ok(Forked::Child),
        child => i32::try_from(child).map(Forked::Parent).map_err(|_| Errno::EOVERFLOW),
    }
}

/// What wait4(2) tells of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It called exit.
    Exited(u8),
    /// A signal ended it.
    Killed(Signal),
    /// A signal stopped it.
    Stopped(Signal),
}

/// The next child that ended (it is reaped) or was stopped; none where nothing happened. ECHILD: there is no child.
///
/// A lie goes unseen: that no child has ended nobody but the kernel knows.
pub fn wait_any() -> Result<Option<(i32, Change)>> {
    let mut status: c_int = 0;
    let flags = libc::WNOHANG | libc::WUNTRACED | libc::__WALL;
    // SAFETY: an integer to fill in, and no rusage.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_wait4, -1, &raw mut status, flags, std::ptr::null::<u8>()) })?;
    if pid == 0 {
        return Ok(None);
    }
    Ok(Some((i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?, change(status))))
}

/// The bits of wait(2)'s status. The C library's macros give the same, but for the types.
fn change(status: c_int) -> Change {
    let [low, high, ..] = status.to_le_bytes();
    let number = if low == 0x7f { high } else { low & 0x7f };
    match Signal::new(number.into()) {
        Some(signal) if low == 0x7f => Change::Stopped(signal),
        Some(signal) => Change::Killed(signal),
        None => Change::Exited(high),
    }
}

/// setpgid(2); 0 is the caller, or its own number.
///
/// A lie is harmless: the child's own call is the one that counts: [`lead_process_group`].
pub fn set_process_group(pid: i32, group: i32) -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::setpgid(pid, group) }).map(drop)
}

/// Leads a process group of its own from now on.
///
/// A lie is seen: getpgid(2) is asked.
pub fn lead_process_group() -> Result<()> {
    set_process_group(0, 0)?;
    // SAFETY: a number.
    let group = Errno::result(unsafe { libc::getpgid(0) })?;
    if super::getpid() == Ok(group) { Ok(()) } else { Err(Errno::EPERM) }
}

/// The process group in the foreground of the controlling terminal, if that is what the descriptor is.
///
/// A lie is seen: what is not filled in is no group.
pub fn foreground(terminal: RawFd) -> Result<i32> {
    let mut group: libc::pid_t = -1;
    // SAFETY: a pid_t to fill in.
    Errno::result(unsafe { libc::ioctl(terminal, libc::TIOCGPGRP as _, &raw mut group) })?;
    Ok(group)
}

/// Puts a process group in the foreground. The caller has SIGTTOU blocked, or may be stopped for it.
///
/// A lie goes unseen: the command is stopped when it reads from the terminal: a shell above shows that. Nobody gains by it.
pub fn set_foreground(terminal: RawFd, group: i32) -> Result<()> {
    let group: libc::pid_t = group;
    // SAFETY: a pid_t to read.
    Errno::result(unsafe { libc::ioctl(terminal, libc::TIOCSPGRP as _, &raw const group) }).map(drop)
}

/// What is orphaned below this process becomes its child.
///
/// A lie is seen: PR_GET_CHILD_SUBREAPER reads it back.
pub fn become_subreaper() -> Result<()> {
    prctl(Prctl::SetChildSubreaper, 1, 0)?;
    let mut is_one: c_int = 0;
    // SAFETY: an integer to fill in.
    Errno::result(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_CHILD_SUBREAPER, &raw mut is_one, 0, 0, 0) })?;
    if is_one == 1 { Ok(()) } else { Err(Errno::EPERM) }
}

/// Closes this process's memory, and its files in /proc, to others of the same user (ptrace(2)).
///
/// A lie is seen: PR_GET_DUMPABLE reads it back.
pub fn set_not_dumpable() -> Result<()> {
    prctl(Prctl::SetDumpable, 0, 0)?;
    if prctl(Prctl::GetDumpable, 0, 0)? == 0 { Ok(()) } else { Err(Errno::EPERM) }
}

/// exit_group(2): nothing is run on the way out.
///
/// A lie is harmless: a process that does not end runs into what no compiler made, and is killed.
pub fn exit(code: u8) -> ! {
    // SAFETY: a number.
    unsafe { libc::_exit(code.into()) }
}

/// Milliseconds of CLOCK_MONOTONIC.
///
/// A lie is harmless: at 0 the clock stands still: what waits for it waits longer.
#[must_use]
pub fn now() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: a structure to fill in, integers all through. Raw, because the vDSO's pages would have to be mapped first.
    let time = unsafe {
        libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, time.as_mut_ptr());
        time.assume_init()
    };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Does nothing for so many milliseconds, or until something happens.
///
/// A lie is harmless: what is waited for is asked for more often.
pub fn nap(milliseconds: u64) {
    let time = timespec(milliseconds);
    // SAFETY: a timespec, and nowhere to write what is left of it.
    unsafe { libc::syscall(libc::SYS_nanosleep, &raw const time, std::ptr::null_mut::<u8>()) };
}

/// A pipe, closed on execve: its end to read from, its end to write to.
///
/// A lie is seen: what is not filled in is no descriptor.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: room for two descriptors.
    Errno::result(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let [read, write] = ends;
    Ok((opened(read)?, opened(write)?))
}

/// Writes one byte.
///
/// A lie is seen: 0 bytes are an error.
pub fn put_byte(to: BorrowedFd<'_>) -> Result<()> {
    super::write_whole(to, &[1])
}

/// Waits for one byte; false where the other end is gone.
///
/// A lie is seen: 0 bytes are the end, and the command is not started; a byte that was not written is another one.
pub fn got_byte(from: BorrowedFd<'_>) -> Result<bool> {
    let mut byte = [0u8];
    Ok(super::read_some(from, &mut byte)? == 1 && byte == [1])
}

/// pidfd_send_signal(2), by the descriptor of a directory /proc/PID: it reaches that very process or none, and
/// only one of the own PID namespace or below.
///
/// A lie goes unseen: that a signal was sent nobody but the kernel knows. What it was to end is killed with the namespace,
/// or stays.
pub fn signal_by_descriptor(process: BorrowedFd<'_>, signal: Signal) -> Result<()> {
    let call = libc::SYS_pidfd_send_signal;
    // SAFETY: numbers and a null pointer for the siginfo_t that kill(2) would make up.
    Errno::result(unsafe { libc::syscall(call, process.as_raw_fd(), signal.number(), std::ptr::null::<u8>(), 0) }).map(drop)
}

/// Writes a message to stderr if that can be done at once, and drops it if not: nobody must be kept waiting. A SIGPIPE
/// that comes of it is the caller's to know by its sender.
///
/// A lie is harmless: a message is lost.
pub fn try_write_stderr(message: &[u8]) {
    super::write_where_there_is_room(message, 0);
}

/// Reads a file from its start, as much as there is room for; how many bytes.
///
/// A lie is harmless: 0 bytes name no process: that one is not signalled.
pub fn read_file_at(directory: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
    let file = super::open_at(directory, name, libc::O_RDONLY)?;
    super::fill(std::os::fd::AsFd::as_fd(&file), buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_for_every_code_and_every_signal() {
        for code in 0..=255u8 {
            assert_eq!(change(i32::from(code) << 8), Change::Exited(code));
        }
        for signal in (1..=64).filter_map(Signal::new) {
            assert_eq!(change(signal.number()), Change::Killed(signal));
            assert_eq!(change(signal.number() | 0x80), Change::Killed(signal), "with a core dump");
            assert_eq!(change(signal.number() << 8 | 0x7f), Change::Stopped(signal));
        }
    }
}
