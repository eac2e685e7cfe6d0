//! Job control: what the user of a shell expects of ^C, ^Z, fg and bg, with a process group between.
//!
//! The child has a process group of its own, so the terminal's signals reach it once: from the terminal where its group
//! is in the foreground, from us where ours is. It gets the foreground at the start where our group has it and nobody
//! else is in there; otherwise (in a pipeline, below a script) when it wants to use the terminal and is stopped for it.
//! So no other process ever loses the foreground that it shares with us.

use std::os::fd::{IntoRawFd, RawFd};

use super::Supervisor;
use crate::cli::Target;
use crate::signal::Signal;
use crate::sys;

/// The controlling terminal, if there is one.
#[derive(Clone, Copy)]
pub(super) struct Terminal {
    /// It, among 0, 1, 2, or opened anew.
    fd: Option<RawFd>,
    /// Our own process group.
    group: i32,
    /// Whether the child gets the foreground at the start.
    pub(super) at_once: bool,
    /// How the child was stopped, while it is.
    stopped: Option<Stopped>,
    /// A stop signal was forwarded, so a stop that follows was asked for.
    asked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// It had the foreground, or wants it.
    UsingTheTerminal,
    /// In the background.
    Otherwise,
}

sys::plain!(Terminal { fd, group, at_once, stopped, asked });
sys::plain!(
    enum Stopped {
        UsingTheTerminal,
        Otherwise,
    }
);

impl Terminal {
    /// Finds it. None of the calls matters: without an answer there is no terminal.
    pub(super) fn find() -> Self {
        let group = nix::unistd::getpgrp().as_raw();
        let mut found = Self { fd: None, group, at_once: false, stopped: None, asked: false };
        let candidates = (0..=2).chain(std::iter::once_with(sys::open_terminal).flatten().map(IntoRawFd::into_raw_fd));
        let Some((fd, foreground)) = candidates.filter_map(|fd| Some((fd, sys::foreground(fd).ok()?))).next() else {
            return found;
        };
        found.fd = Some(fd);
        // In a pipeline or below a script others of our group use the terminal as well.
        let in_a_pipeline = || (0..=2).any(|fd| sys::fstat(fd).is_ok_and(|facts| facts.st_mode & libc::S_IFMT == libc::S_IFIFO));
        found.at_once = foreground == group && group == nix::unistd::getpid().as_raw() && !in_a_pipeline();
        found
    }

    /// Where it is, if it is anywhere.
    pub(super) fn fd(&self) -> Option<RawFd> {
        self.fd
    }

    /// It has another number now.
    pub(super) fn moved(&mut self, fd: Option<RawFd>) {
        self.fd = fd;
    }

    fn foreground(&self) -> Option<i32> {
        sys::foreground(self.fd?).ok()
    }

    /// Failures don't matter: a terminal that is gone has no foreground.
    pub(super) fn give_to(&self, group: i32) {
        if let Some(fd) = self.fd {
            let _ = sys::set_foreground(fd, group);
        }
    }

    /// After the child's end the foreground is ours again, if it was the child's.
    pub(super) fn take_back(&self, child: i32) {
        if self.fd.is_some() && self.foreground() == Some(child) {
            self.give_to(self.group);
        }
    }

    /// SIGCONT came: the shell has put us into the foreground (fg), or has not (bg).
    pub(super) fn goes_on(&self, child: i32) {
        if self.stopped == Some(Stopped::UsingTheTerminal) && self.foreground() == Some(self.group) {
            self.give_to(child);
        }
    }

    pub(super) fn child_is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    pub(super) fn note_forwarded(&mut self, signal: Signal) {
        if signal == Signal::CONT {
            self.stopped = None;
        }
        if [Signal::TSTP, Signal::TTIN, Signal::TTOU, Signal::CONT].contains(&signal) {
            self.asked = signal != Signal::CONT;
        }
    }
}

impl Supervisor {
    /// The child was stopped: so are we, for the shell to see, unless nobody could make us go on.
    pub(super) fn stopped(&mut self, signal: Signal) {
        let foreground = self.terminal.foreground();
        let wants_the_terminal = [Signal::TTIN, Signal::TTOU].contains(&signal) && !self.terminal.asked;
        if wants_the_terminal && foreground == Some(self.terminal.group) {
            self.terminal.give_to(self.child);
            return self.forward(Signal::CONT, Target::Group);
        }
        let had_it = foreground == Some(self.child);
        let by_the_terminal = foreground.is_some() && (had_it && !self.terminal.asked || wants_the_terminal);
        if !by_the_terminal && !self.terminal.asked {
            // Somebody stopped it by SIGSTOP, and will make it go on.
            return;
        }
        self.tell(format_args!("the command is stopped by {signal}"));
        self.terminal.stopped = Some(if had_it || wants_the_terminal { Stopped::UsingTheTerminal } else { Stopped::Otherwise });
        if had_it {
            self.terminal.give_to(self.terminal.group);
        }
        // The terminal stops all of a job; who else is in our group belongs to the job that the child is.
        let whom = if by_the_terminal { 0 } else { self.pid };
        self.terminal.asked = false;
        if matches!(sys::stop(whom, signal), Ok(true)) {
            return;
        }
        // As PID 1, or where no shell is above: a stop by ^Z would last for ever.
        if had_it {
            self.terminal.give_to(self.child);
        }
        if by_the_terminal && !wants_the_terminal {
            self.terminal.stopped = None;
            self.forward(Signal::CONT, Target::Group);
        }
    }
}
