//! Signals that come, and what becomes of them.

use nix::errno::Errno;

use super::Supervisor;
use crate::cli::Target;
use crate::signal::Signal;
use crate::sys::{self, Received};

/// What is to be done later; nothing, most of the time, and then no timer runs.
#[derive(Clone, Copy, Default)]
pub(super) struct Clock {
    /// `--drain`: the signal that is held back, and until when.
    held: Option<(Signal, u64)>,
    /// Whether a signal has been held back already: only the first is.
    drained: bool,
    /// `--kill-after`: when SIGKILL follows.
    kill_at: Option<u64>,
    /// Whether it has been sent.
    killed: bool,
}

sys::plain!(Clock { held, drained, kill_at, killed });

impl Clock {
    /// Milliseconds until something is to be done; never more than `longest`, if the clock should fail.
    pub(super) fn patience(&self, longest: u64) -> Option<u64> {
        let held = self.held.map(|(_, until)| until);
        let next = held.into_iter().chain(self.kill_at).min()?;
        Some(next.saturating_sub(sys::now()).min(longest))
    }
}

/// What asks a service to end.
fn asks_to_end(signal: Signal) -> bool {
    [Signal::TERM, Signal::INT].contains(&signal)
}

/// Whether the kernel raised it because this process did something, so that it concerns nobody else. (SI_USER is 0;
/// senders can only choose what is below.)
fn concerns_us_alone(received: Received, own_pid: i32) -> bool {
    let faults = [Signal::ILL, Signal::TRAP, Signal::BUS, Signal::FPE, Signal::SEGV, Signal::SYS];
    // SIGPIPE and SIGXFSZ of an own write to stderr say that this process sent them.
    let by_ourselves = received.code == libc::SI_USER && received.sender == own_pid;
    received.signal == Signal::CHLD || by_ourselves || received.code > 0 && faults.contains(&received.signal)
}

/// Whether the terminal sent it: to all of the foreground process group, so that all of the child's is meant.
fn is_the_terminals(received: Received) -> bool {
    const SI_KERNEL: i32 = 0x80;
    let signals = [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::WINCH];
    received.code == SI_KERNEL && signals.contains(&received.signal)
}

impl Supervisor {
    /// What others are to get of a signal that came.
    pub(super) fn meant_for_others(&self, received: Received) -> Option<Signal> {
        if concerns_us_alone(received, self.pid) { None } else { self.wanted.rewrite.of(received.signal) }
    }

    /// Forwards a signal, or does what else it asks for.
    pub(super) fn receive(&mut self, received: Received) {
        if concerns_us_alone(received, self.pid) {
            return;
        }
        let signal = received.signal;
        let Some(rewritten) = self.wanted.rewrite.of(signal) else {
            return self.tell(format_args!("{signal} is dropped"));
        };
        if signal == Signal::CONT {
            self.terminal.goes_on(self.child);
        }
        if asks_to_end(signal) && self.is_held_back(rewritten) {
            return;
        }
        let all = is_the_terminals(received) || signal == Signal::CONT && self.terminal.child_is_stopped();
        self.forward(rewritten, if all { Target::Group } else { self.wanted.target });
        if asks_to_end(signal) {
            self.wind_up();
        }
        self.terminal.note_forwarded(rewritten);
    }

    /// `--drain`: the first signal waits, a second one ends the waiting.
    fn is_held_back(&mut self, signal: Signal) -> bool {
        if self.wanted.drain == 0 {
            return false;
        }
        if self.clock.held.is_some() {
            self.release();
            return true;
        }
        if self.clock.drained {
            return false;
        }
        self.clock.drained = true;
        self.clock.held = Some((signal, sys::now() + self.wanted.drain));
        self.tell(format_args!("{signal} is held back for {} ms", self.wanted.drain));
        true
    }

    fn release(&mut self) {
        if let Some((signal, _)) = self.clock.held.take() {
            self.forward(signal, self.wanted.target);
            self.wind_up();
        }
    }

    /// `--kill-after` begins with the first signal that asks the command to end.
    fn wind_up(&mut self) {
        if let Some(after) = self.wanted.kill_after
            && self.clock.kill_at.is_none()
            && !self.clock.killed
        {
            self.clock.kill_at = Some(sys::now() + after);
        }
    }

    /// A time has come.
    pub(super) fn clock_rings(&mut self) {
        let now = sys::now();
        if self.clock.held.is_some_and(|(_, until)| until <= now) {
            self.release();
        }
        if self.clock.kill_at.is_some_and(|at| at <= now) {
            self.clock.kill_at = None;
            self.clock.killed = true;
            self.forward(Signal::KILL, self.wanted.target);
        }
    }

    /// To the child, which is not reaped yet, so that no other process can have its number.
    pub(super) fn forward(&self, signal: Signal, target: Target) {
        let (whom, group) = match target {
            Target::Process => (self.child, ""),
            Target::Group => (-self.child, "process group "),
        };
        self.tell(format_args!("{signal} to {group}{}", self.child));
        let sent = match sys::kill(whom, signal) {
            // No group of that number: the child is the one it is meant for.
            Err(Errno::ESRCH) if target == Target::Group => sys::kill(self.child, signal),
            sent => sent,
        };
        if let Err(errno) = sent {
            self.warn(format_args!("{signal} is not forwarded: kill({whom}): {errno}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_raised_for_a_fault_of_its_own_and_sigchld_is_kept() {
        let received = |signal, code, sender| Received { signal, code, sender };
        for signal in [Signal::ILL, Signal::TRAP, Signal::BUS, Signal::FPE, Signal::SEGV, Signal::SYS] {
            assert!(concerns_us_alone(received(signal, 1, 0), 1), "{signal}");
            assert!(!concerns_us_alone(received(signal, libc::SI_USER, 0), 1), "{signal} from outside the namespace");
            assert!(!concerns_us_alone(received(signal, libc::SI_QUEUE, 7), 1), "{signal}");
            assert!(!concerns_us_alone(received(signal, libc::SI_TKILL, 7), 1), "{signal}");
        }
        for number in (1..=64).filter(|number| ![4, 5, 7, 8, 11, 17, 31].contains(number)) {
            let signal = Signal::new(number).unwrap();
            assert!(!concerns_us_alone(received(signal, 0x80, 0), 1), "{signal} from the kernel");
            assert!(!concerns_us_alone(received(signal, libc::SI_USER, 2), 1), "{signal}");
        }
        assert!(concerns_us_alone(received(Signal::CHLD, libc::SI_USER, 7), 1));
        assert!(concerns_us_alone(received(Signal::new(13).unwrap(), libc::SI_USER, 1), 1), "of an own write");
    }
}
