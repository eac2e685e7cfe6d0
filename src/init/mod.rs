//! `--init`: the process that stays, and is nobody. It starts the command as its child, forwards signals, reaps, and
//! exits as the command does.
//!
//! | | |
//! |---|---|
//! | signals are held from the start, the process forks | `spawn` |
//! | signals are forwarded | `forward` |
//! | the child stops and goes on, the terminal changes hands | `terminal` |
//! | the command has ended, others have not | `remains` |
//! | what is said about it | `speech` |
//!
//! Everything is read in one place, `Supervisor::until_the_command_ends`: all signals are blocked, no handler is ever
//! installed, and the kernel is asked for the next one. Nothing there allocates. What it reads of the command are signal
//! numbers, process ids and wait statuses, all of them made by the kernel.

mod forward;
mod remains;
mod spawn;
mod speech;
mod terminal;

pub use spawn::{Held, start_the_command};

use std::os::fd::RawFd;

use nix::errno::Errno;

use crate::cli::{Init, Verbosity};
use crate::sys::{self, Change};
use forward::Clock;
use terminal::Terminal;

/// The exit code of a supervisor that can't go on.
const FAILED: u8 = 125;

/// PID 1, or the subreaper that stands for it. It points to nothing ([`sys::Plain`]): what was allocated before it began
/// is given back.
#[derive(Clone, Copy)]
struct Supervisor {
    /// What was asked for.
    wanted: Init,
    /// `--verbose`.
    verbosity: Verbosity,
    /// Own process id.
    pid: i32,
    /// The command, which is also its process group.
    child: i32,
    /// The terminal, and who stopped the child.
    terminal: Terminal,
    /// What is to be done later.
    clock: Clock,
    /// Waits that ended without a signal, one after the other.
    interruptions: u32,
}

sys::plain!(Supervisor { wanted, verbosity, pid, child, terminal, clock, interruptions });

/// How far reaping came.
enum Reaped {
    /// Children are left, the command among them.
    NotTheCommand,
    /// The command has ended, with this exit code.
    TheCommand(u8),
}

impl Supervisor {
    /// From the start of the command to the end of everything.
    fn run(mut self, terminal: Option<RawFd>) -> ! {
        self.terminal.moved(terminal);
        let code = self.until_the_command_ends();
        self.terminal.take_back(self.child);
        self.end_the_rest();
        sys::exit(self.wanted.exit_as.get(usize::from(code)).copied().unwrap_or(code))
    }

    fn until_the_command_ends(&mut self) -> u8 {
        let longest = self.wanted.kill_after.unwrap_or(0).max(self.wanted.drain);
        loop {
            if let Reaped::TheCommand(code) = self.reap() {
                return code;
            }
            match sys::wait_for_signal(self.clock.patience(longest)) {
                Ok(received) => {
                    self.interruptions = 0;
                    self.receive(received);
                }
                Err(Errno::EAGAIN) => self.clock_rings(),
                Err(errno) => self.interrupted("rt_sigtimedwait", errno),
            }
        }
    }

    /// Reaps all that has ended. One SIGCHLD may stand for many.
    fn reap(&mut self) -> Reaped {
        let mut ended = None;
        loop {
            match sys::wait_any() {
                Ok(Some((pid, Change::Stopped(signal)))) => {
                    if pid == self.child && ended.is_none() {
                        self.stopped(signal);
                    }
                }
                Ok(Some((pid, change))) => {
                    let code = match change {
                        Change::Exited(code) => code,
                        // 129 to 192.
                        Change::Killed(signal) | Change::Stopped(signal) => {
                            u8::try_from(128 + signal.number()).unwrap_or(u8::MAX)
                        }
                    };
                    self.tell(format_args!("reaped {pid}: {change}"));
                    if pid == self.child {
                        ended = Some(code);
                    }
                }
                Ok(None) => return ended.map_or(Reaped::NotTheCommand, Reaped::TheCommand),
                // There is no child. One that ended unseen has an exit code that nobody will ever know.
                Err(Errno::ECHILD) => return Reaped::TheCommand(ended.unwrap_or(FAILED)),
                Err(errno) if ended.is_none() => self.interrupted("wait4", errno),
                Err(_) => return Reaped::TheCommand(ended.unwrap_or(FAILED)),
            }
        }
    }

    /// A call that had to wait did not. A debugger that comes or goes interrupts it once; what refuses it for good
    /// (a system call filter) must neither keep this process busy nor make it wait for ever.
    fn interrupted(&mut self, call: &str, errno: Errno) {
        const AT_ONCE: u32 = 16;
        const AT_MOST: u32 = 64;
        self.interruptions += 1;
        // wait4 is told not to wait, so nothing can interrupt it.
        let for_good = call == "wait4" || errno != Errno::EINTR;
        if for_good && self.interruptions > AT_MOST {
            self.warn(format_args!("{call}: {errno}: the command can't be waited for, and is killed"));
            self.kill_all();
            sys::exit(FAILED);
        }
        if self.interruptions > AT_ONCE {
            sys::nap(10);
        }
    }
}
