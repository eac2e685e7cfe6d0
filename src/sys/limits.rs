//! Limits, priority, sessions, and the signal of a parent's death.

use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;

use nix::errno::Errno;

use super::{Prctl, Result, prctl};
use crate::signal::Signal;

const POISON: u64 = u64::MAX - 1;

/// The soft and the hard limit of a resource, by its number.
///
/// A lie is seen: what is not filled in is no limit that anybody sets.
pub fn resource_limit(resource: u32) -> Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: POISON, rlim_max: POISON };
    // SAFETY: nothing to read, a structure to fill in.
    Errno::result(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<u8>(), &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets both.
///
/// A lie is seen: `limits::set` reads it back.
pub fn set_resource_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: a structure to read, nothing to fill in.
    Errno::result(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null_mut::<u8>()) })
        .map(drop)
}

/// setpriority(2) of this process, read back.
///
/// A lie is seen: getpriority(2) reads it back.
pub fn set_nice(nice: c_int) -> Result<()> {
    // SAFETY: numbers. The raw getpriority(2) says 20 less the value.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice))?;
        let now = Errno::result(libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0))?;
        if now == 20 - c_long::from(nice) { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// setsid(2), read back.
///
/// A lie is seen: getsid(2) is asked.
pub fn new_session() -> Result<()> {
    // SAFETY: takes nothing.
    Errno::result(unsafe { libc::setsid() })?;
    if leads_session() { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether this process leads its session. A refusal is no number that both could have.
///
/// A lie is seen: 0 is no process of ours: what can't be told counts as somebody else's session.
#[must_use]
pub fn leads_session() -> bool {
    // SAFETY: a number.
    let session = unsafe { libc::getsid(0) };
    super::getpid() == Ok(session)
}

/// The session that has this terminal (TIOCGSID): only that of our own is told, and only by its number in our PID namespace;
/// ENOTTY for all others.
///
/// A lie is seen: what is not filled in is no session.
pub fn session_of(terminal: RawFd) -> Result<i32> {
    let mut session: libc::pid_t = -1;
    // SAFETY: a pid_t to fill in.
    Errno::result(unsafe { libc::ioctl(terminal, libc::TIOCGSID as _, &raw mut session) })?;
    Ok(session)
}

/// getppid(2): 0 where the parent is outside of the PID namespace.
///
/// A lie goes unseen: who the parent is nobody but the kernel knows. 0 alone gives no terminal away: see `descriptors`.
#[must_use]
pub fn getppid() -> i32 {
    nix::unistd::getppid().as_raw()
}

/// PR_SET_PDEATHSIG(2const).
///
/// A lie is seen: `limits::heed_parent` reads it back.
pub fn set_parent_death_signal(signal: Signal) -> Result<()> {
    prctl(Prctl::SetParentDeathSignal, c_long::from(signal.number()), 0).map(drop)
}

/// PR_GET_PDEATHSIG(2const). Success that writes nothing leaves what is no signal, EINVAL.
///
/// A lie is seen: what is not filled in is no signal.
pub fn parent_death_signal() -> Result<Option<Signal>> {
    let mut signal: c_int = -1;
    // SAFETY: an integer to fill in.
    Errno::result(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_PDEATHSIG, &raw mut signal, 0, 0, 0) })?;
    if signal == 0 { Ok(None) } else { Signal::new(signal).map(Some).ok_or(Errno::EINVAL) }
}

/// Sends this process a signal by tgkill(2), which says of itself that it is no kill(2).
///
/// A lie goes unseen: a parent has ended, and the signal for it was not sent: only the kernel knows.
pub fn raise(signal: Signal) -> Result<()> {
    // SAFETY: numbers. There is one thread, whose number is the process's.
    Errno::result(unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::getpid(), signal.number()) }).map(drop)
}
