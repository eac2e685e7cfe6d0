//! Signals: rt_sigprocmask(2), rt_sigtimedwait(2), kill(2).
//!
//! By the raw calls, with the kernel's own set of 64: the C libraries' functions leave out the signals that they
//! use themselves (32 to 34), and a signal that is left out ends the process or is lost.

use std::ffi::{c_int, c_long};
use std::mem::MaybeUninit;

use nix::errno::Errno;

use super::Result;
use crate::signal::Signal;

/// The kernel's sigset_t: bit n - 1 is signal n.
pub type SignalSet = u64;

/// Its size, which the kernel wants to be told.
const SET_SIZE: usize = size_of::<SignalSet>();

const ALL: SignalSet = u64::MAX;

/// Blocks all that can be blocked; returns the mask there was.
///
/// A lie is seen: the mask is read back.
pub fn block_all_signals() -> Result<SignalSet> {
    let before = change_mask(libc::SIG_SETMASK, ALL)?;
    has_mask(ALL)?;
    Ok(before)
}

/// Sets the mask.
///
/// A lie is seen: the mask is read back.
pub fn set_signal_mask(mask: SignalSet) -> Result<()> {
    change_mask(libc::SIG_SETMASK, mask)?;
    has_mask(mask)
}

/// Reads the mask back. SIGKILL and SIGSTOP are never in it.
fn has_mask(mask: SignalSet) -> Result<()> {
    const NEVER: SignalSet = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
    let now = change_mask(libc::SIG_BLOCK, 0)?;
    if now == mask & !NEVER { Ok(()) } else { Err(Errno::EPERM) }
}

fn change_mask(how: c_int, set: SignalSet) -> Result<SignalSet> {
    let mut before: SignalSet = 0;
    // SAFETY: two sets of the size that is given.
    Errno::result(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const set, &raw mut before, SET_SIZE) })?;
    Ok(before)
}

/// A signal that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// si_code: who raised it (sigaction(2)).
    pub code: c_int,
    /// si_pid: the sender, where a process sent it.
    pub sender: i32,
}

/// Waits for any signal at all, which must be blocked; EAGAIN when so many milliseconds have passed.
///
/// A lie is seen: 0 is no signal. That none has come nobody but the kernel knows.
pub fn wait_for_signal(patience: Option<u64>) -> Result<Received> {
    let time = patience.map(timespec);
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let set = ALL;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: a set of the size that is given, a siginfo_t to fill in, and a timespec or null.
    let number =
        Errno::result(unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const set, info.as_mut_ptr(), time, SET_SIZE) })?;
    // SAFETY: zeroed before the kernel filled it in; where no process sent the signal the sender reads as something else.
    let (code, sender) = unsafe {
        let info = info.assume_init();
        (info.si_code, info.si_pid())
    };
    let signal = i32::try_from(number).ok().and_then(Signal::new).ok_or(Errno::EINVAL)?;
    Ok(Received { signal, code, sender })
}

/// A number of milliseconds as the kernel takes it.
pub(super) fn timespec(milliseconds: u64) -> libc::timespec {
    // At most a day and its fraction: they fit.
    libc::timespec { tv_sec: (milliseconds / 1000) as _, tv_nsec: (milliseconds % 1000 * 1_000_000) as c_long }
}

/// kill(2): a process by its number, its group by the number's negative, all that may be signalled by -1.
///
/// A lie goes unseen: that a signal was sent nobody but the kernel knows.
pub fn kill(target: i32, signal: Signal) -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_kill, target, signal.number()) }).map(drop)
}

/// Whether a signal is ignored.
///
/// A lie is harmless: what is not filled in is "not ignored"; the command has SIGCHLD as it has by default, then.
pub fn is_ignored(signal: Signal) -> Result<bool> {
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a structure to fill in, integers all through.
    unsafe {
        Errno::result(libc::sigaction(signal.number(), std::ptr::null(), found.as_mut_ptr()))?;
        Ok(found.assume_init().sa_sigaction == libc::SIG_IGN)
    }
}

/// Ignores a signal from now on.
///
/// A lie is harmless: the command has SIGCHLD as it has by default, where it was ignored.
pub fn ignore(signal: Signal) -> Result<()> {
    set_disposition(signal, libc::SIG_IGN)
}

/// Lets a signal do again what it does where nobody says anything.
///
/// A lie goes unseen: where SIGCHLD was ignored the exit code of the command is lost, and is 125.
pub fn restore_default(signal: Signal) -> Result<()> {
    set_disposition(signal, libc::SIG_DFL)
}

fn set_disposition(signal: Signal, disposition: libc::sighandler_t) -> Result<()> {
    // SAFETY: all zero is a valid sigaction; no handler is installed.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = disposition;
        Errno::result(libc::sigaction(signal.number(), &raw const action, std::ptr::null_mut())).map(drop)
    }
}

/// Stops `target` (0: all of the own process group, or the own process) and with it this process, by a signal that
/// is blocked. Returns when it goes on; false where it was not stopped, because nobody could make it go on (PID 1,
/// an orphaned process group).
///
/// A lie is harmless: it is not stopped, and says so.
pub fn stop(target: i32, signal: Signal) -> Result<bool> {
    if signal != Signal::STOP {
        restore_default(signal)?;
    }
    kill(target, signal)?;
    // Delivered, and so stopped, before this call returns.
    let before = change_mask(libc::SIG_UNBLOCK, 1 << (signal.number() - 1))?;
    set_signal_mask(before)?;
    // What made it go on is still pending: it is blocked, and a stop signal takes away any older one.
    let mut pending: SignalSet = 0;
    // SAFETY: a set of the size that is given.
    Errno::result(unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, SET_SIZE) })?;
    Ok(pending >> (Signal::CONT.number() - 1) & 1 == 1)
}
