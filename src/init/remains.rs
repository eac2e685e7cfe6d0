//! What is left when the command has ended: asked to end, given time, killed.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::Supervisor;
use crate::procfs;
use crate::signal::Signal;
use crate::sys::{self, Change, Entries};

/// How long a process may take to end that was sent SIGKILL, in milliseconds; one that a device holds may take for ever.
const DYING: u64 = 2000;

impl Supervisor {
    /// SIGTERM, the time of grace, SIGKILL. As PID 1 for everything in the namespace, else for what is below this process.
    pub(super) fn end_the_rest(&mut self) {
        let none_below = self.all_are_gone();
        if none_below && self.pid != 1 {
            return;
        }
        self.signal_the_rest(Signal::TERM);
        // What is stopped can't end.
        self.signal_the_rest(Signal::CONT);
        if none_below || self.wait_for_the_rest(self.wanted.grace) {
            return;
        }
        self.warn(format_args!("what the command left did not end within {} ms, and is killed", self.wanted.grace));
        self.kill_all();
    }

    /// As PID 1 the kernel does it when this process exits.
    pub(super) fn kill_all(&mut self) {
        if self.pid == 1 {
            return;
        }
        let until = sys::now() + DYING;
        while !self.all_are_gone() {
            // Again each time that one has ended: its children are ours now, and they may have had more.
            self.signal_the_rest(Signal::KILL);
            let left = until.saturating_sub(sys::now()).min(DYING);
            if left == 0 || sys::wait_for_signal(Some(left)) == Err(Errno::EAGAIN) {
                return;
            }
        }
    }

    /// Whether all have ended in time. Signals that come meanwhile are forwarded to what is left.
    fn wait_for_the_rest(&mut self, patience: u64) -> bool {
        let until = sys::now() + patience;
        loop {
            if self.all_are_gone() {
                return true;
            }
            // A clock that says nothing must not make it longer.
            let left = until.saturating_sub(sys::now()).min(patience);
            if left == 0 {
                return false;
            }
            match sys::wait_for_signal(Some(left)) {
                Ok(received) => {
                    if let Some(signal) = self.meant_for_others(received) {
                        self.signal_the_rest(signal);
                    }
                }
                Err(Errno::EAGAIN) => return self.all_are_gone(),
                Err(_) => sys::nap(10),
            }
        }
    }

    /// Reaps what has ended; whether there is no child any more.
    fn all_are_gone(&self) -> bool {
        let mut failures = 0;
        while failures < 64 {
            match sys::wait_any() {
                Ok(None) => return false,
                Ok(Some((_, Change::Stopped(_)))) => {}
                Ok(Some((pid, change))) => self.tell(format_args!("reaped {pid}: {change}")),
                Err(Errno::ECHILD) => return true,
                Err(_) => failures += 1,
            }
        }
        true
    }

    fn signal_the_rest(&self, signal: Signal) {
        let sent = if self.pid == 1 { sys::kill(-1, signal) } else { self.signal_those_below(signal) };
        match sent {
            Ok(()) => self.tell(format_args!("{signal} to all that is left")),
            Err(Errno::ESRCH) => {}
            Err(errno) => self.warn(format_args!("{signal} is not sent to what is left: {errno}")),
        }
    }

    /// By /proc, which alone tells who is below. Where it is not there, or another namespace's, the command's process group
    /// is all that is known, and that only as long as its number can't be somebody else's.
    fn signal_those_below(&self, signal: Signal) -> Result<(), Errno> {
        let Some(proc) = Proc::of(self.pid) else {
            return if signal == Signal::KILL { Err(Errno::ENOENT) } else { sys::kill(-self.child, signal) };
        };
        let mut result = Ok(());
        let below = proc.below(self.pid)?;
        // Its parent may have ended at the signal it got a moment ago: it has another one then, which is below, too.
        let is_below = |parent: i32| parent == self.pid || below.iter().any(|process| process.pid == parent);
        for process in &below {
            if let Err(errno) = proc.signal(process.pid, signal, is_below)
                && errno != Errno::ESRCH
            {
                result = Err(errno);
            }
        }
        result
    }
}

/// /proc, when it is that of the own PID namespace.
struct Proc(OwnedFd);

/// A process, and its parent when it was looked at.
#[derive(Clone, Copy)]
struct Process {
    pid: i32,
    parent: i32,
}

impl Proc {
    fn of(own_pid: i32) -> Option<Self> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let proc = procfs::open(c"/proc", flags).and_then(above_the_streams).ok()?;
        let own = sys::open_at_following(proc.as_fd(), c"self", flags).and_then(above_the_streams).ok()?;
        (Process::read(own.as_fd()).ok()?.pid == own_pid).then_some(Self(proc))
    }

    /// All processes whose parent, or parent's parent, and so on, is this one.
    fn below(&self, top: i32) -> Result<Vec<Process>, Errno> {
        let mut rest = self.all()?;
        let mut found: Vec<Process> = Vec::new();
        loop {
            let before = found.len();
            let is_below = |process: &Process| process.parent == top || found.iter().any(|above| above.pid == process.parent);
            let (below, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_below);
            found.extend(below);
            rest = others;
            if found.len() == before {
                return Ok(found);
            }
        }
    }

    fn all(&self) -> Result<Vec<Process>, Errno> {
        let mut all = Vec::new();
        let mut entries = Entries::with_room(4096);
        while entries.read(self.0.as_fd())? > 0 {
            while let Some(entry) = entries.next() {
                if let Some(directory) =
                    entry.name.to_bytes().first().filter(|first| first.is_ascii_digit()).and_then(|_| self.open(entry.name))
                {
                    all.extend(Process::read(directory.as_fd()));
                }
            }
        }
        Ok(all)
    }

    fn open(&self, name: &std::ffi::CStr) -> Option<OwnedFd> {
        sys::open_at(self.0.as_fd(), name, libc::O_RDONLY | libc::O_DIRECTORY).and_then(above_the_streams).ok()
    }

    /// To a process that is below and no other: its directory is opened first, and then still says so.
    fn signal(&self, pid: i32, signal: Signal, is_below: impl Fn(i32) -> bool) -> Result<(), Errno> {
        let name = CString::new(pid.to_string()).map_err(|_| Errno::EINVAL)?;
        let directory = self.open(&name).ok_or(Errno::ESRCH)?;
        if !is_below(Process::read(directory.as_fd())?.parent) {
            return Err(Errno::ESRCH);
        }
        match sys::signal_by_descriptor(directory.as_fd(), signal) {
            // Before Linux 5.1, or a container engine's filter that does not know the call.
            Err(Errno::ENOSYS | Errno::EPERM) => sys::kill(pid, signal),
            sent => sent,
        }
    }
}

/// What stays open here leaves 0 to 2 alone, which are closed by now: a call that claims to have opened 0 is seen to lie,
/// and gives what is there no second owner.
fn above_the_streams(file: OwnedFd) -> Result<OwnedFd, Errno> {
    sys::duplicate_above(file.as_fd(), libc::STDERR_FILENO + 1)
}

impl Process {
    /// The first and the fourth field of /proc/PID/stat. The second is a name in parentheses, with anything in it.
    fn read(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut text = [0u8; 512];
        let length = sys::read_file_at(directory, c"stat", &mut text)?;
        Self::parse(text.get(..length).unwrap_or_default()).ok_or(Errno::EINVAL)
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        let stat = String::from_utf8_lossy(stat);
        let (front, back) = stat.rsplit_once(')')?;
        let pid = front.split(' ').next()?.parse().ok()?;
        let parent = back.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(Self { pid, parent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_call_itself_anything() {
        let parents = |stat: &[u8]| Process::parse(stat).map(|process| (process.pid, process.parent));
        assert_eq!(parents(b"12 (sleep) S 7 12 12 0"), Some((12, 7)));
        assert_eq!(parents(b"12 (a) R 1 (b) S 7 12"), Some((12, 7)));
        assert_eq!(parents(b"12 (\xff\n) S 9 ) Z 7 1"), Some((12, 7)));
        assert_eq!(parents(b"12 (sleep"), None);
    }
}
