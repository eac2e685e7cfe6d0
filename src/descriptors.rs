//! Which descriptors the command has, and whom they belong to.

pub mod numbers;

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use anyhow::{Error, bail};
use nix::errno::Errno;

use crate::acquire::Handed;
use crate::activation;
use crate::failure::call;
use crate::plan::Plan;
use crate::sys;

/// What a descriptor is, as far as ownership matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// A pipe of pipe(2): its owner alone can open it again, as /dev/stdout does.
    Pipe,
    /// Anything else.
    Other,
}

/// Which of 0, 1, 2 the command should own: pipes, and terminals that nobody above shares. Opens /dev/null
/// where one is closed.
pub fn own_streams() -> Result<Vec<RawFd>, Error> {
    let mut own = Vec::new();
    for fd in 0..=2 {
        let facts = match sys::fstat(fd) {
            Ok(facts) => facts,
            Err(Errno::EBADF) => match sys::open_null() {
                Ok(opened) if opened == fd => continue,
                Ok(other) => bail!("open(/dev/null): got descriptor {other}, not {fd}"),
                Err(errno) => return Err(call(format_args!("descriptor {fd} is closed, and open(/dev/null)"), errno)),
            },
            Err(errno) => return Err(call(format_args!("fstat({fd})"), errno)),
        };
        let ours = match facts.st_mode & libc::S_IFMT {
            libc::S_IFIFO => sys::is_anonymous_pipe(fd),
            libc::S_IFCHR => facts.st_rdev != DEV_NULL && sys::is_terminal(fd) && nobody_above(),
            _ => false,
        };
        if ours {
            own.push(fd);
        }
    }
    Ok(own)
}

/// What stdin is under a service manager: no terminal, so none is asked whether it is.
const DEV_NULL: libc::dev_t = libc::makedev(1, 3);

/// Whether no process above can share the terminal: as PID 1, or entered from outside the PID namespace
/// (docker exec), which reads as parent 0. A root shell's terminal is never given away.
fn nobody_above() -> bool {
    sys::getppid() == 0
}

/// The controlling terminal, through which a process can type into what others of its session read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// There is none, or no process above has it.
    Own,
    /// Others of the session have it, a root shell perhaps.
    Shared,
}

/// Whether a process above shares the terminal. Only a session has one, so who leads the session shares it with nobody
/// above, unless it was taken from another session (`setsid --ctty` in a root shell): the shell reads it still.
pub fn terminal() -> Terminal {
    let there = match sys::open_terminal() {
        Ok(_) => true,
        Err(Errno::ENXIO) => false,
        // Without /dev it can be had by 0, 1 or 2 alone.
        Err(Errno::ENOENT) => (0..=2).any(|fd| sys::foreground(fd).is_ok()),
        // What can't be told is not taken for harmless.
        Err(_) => true,
    };
    if there && !(nobody_above() && sys::leads_session()) { Terminal::Shared } else { Terminal::Own }
}

/// The open descriptors that arguments name as `/dev/fd/N` or `/proc/self/fd/N`, as a shell's process
/// substitution does.
pub fn named_in(command: &[&CStr]) -> Vec<(RawFd, Nature)> {
    let mut named = Vec::new();
    for fd in command.iter().flat_map(|argument| numbers(argument.to_bytes())) {
        if fd > 2 && sys::is_open(fd) && !named.iter().any(|&(known, _)| known == fd) {
            named.push((fd, if sys::is_anonymous_pipe(fd) { Nature::Pipe } else { Nature::Other }));
        }
    }
    named
}

/// Every N of `/dev/fd/N` and `/proc/self/fd/N`, wherever it stands in the argument.
fn numbers(argument: &[u8]) -> Vec<RawFd> {
    let mut found = Vec::new();
    for prefix in [&b"/dev/fd/"[..], b"/proc/self/fd/"] {
        for (start, _) in argument.windows(prefix.len()).enumerate().filter(|(_, window)| *window == prefix) {
            let rest = argument.get(start + prefix.len()..).unwrap_or_default();
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let digits = rest.get(..length).and_then(|digits| std::str::from_utf8(digits).ok());
            found.extend(digits.and_then(|digits| digits.parse::<RawFd>().ok()));
        }
    }
    found
}

/// Gives the target its streams, as `docker run -u` does. Only whom a file belongs to is at stake: a
/// refusal (no CAP_CHOWN) takes the command nothing but the opening of /dev/stdout.
pub fn give_streams(plan: &Plan) {
    for &fd in &plan.streams {
        let _ = sys::chown_by_number(fd, plan.identity.uid);
    }
}

/// Puts what is handed on where the plan wants it, and has execve close all that the command is not meant to have.
pub fn hand_on(plan: &Plan, handed: Vec<Handed>) -> Result<(), Error> {
    let received = activation::FIRST..plan.first_handed;
    let mut keep: Vec<RawFd> = handed.iter().map(|one| one.number).chain(plan.kept_descriptors.iter().copied()).collect();
    keep.sort_unstable();
    let behind = handed.iter().map(|one| one.number + 1).max().unwrap_or(plan.first_handed);
    // One may sit on a number that another one needs: all step aside first.
    let aside: Vec<(OwnedFd, RawFd)> = handed
        .into_iter()
        .map(|one| sys::duplicate_above(one.file.as_fd(), behind).map(|file| (file, one.number)))
        .collect::<Result<_, _>>()
        .map_err(|errno| call("fcntl(F_DUPFD_CLOEXEC)", errno))?;
    for (file, number) in aside {
        sys::hand_on_at(file, number).map_err(|errno| call(format_args!("dup2({number})"), errno))?;
    }
    for fd in received.clone().chain(plan.kept_descriptors.iter().copied()) {
        match sys::was_received(fd) {
            Ok(true) => {}
            Ok(false) => bail!("descriptor {fd} was to be handed on, and is not what was received"),
            Err(errno) => return Err(call(format_args!("fcntl({fd}, F_GETFD)"), errno)),
        }
    }
    close_others_on_exec(received.end, &keep)
}

/// Every descriptor from `first` on but those in `keep`, which ascends. Nothing is closed before: what is ours has owners,
/// and they close it where no execve succeeds.
fn close_others_on_exec(first: RawFd, keep: &[RawFd]) -> Result<(), Error> {
    let mut next = u32::try_from(first)?;
    let mut gaps = Vec::with_capacity(keep.len() + 1);
    for &fd in keep.iter().filter(|&&fd| fd >= first) {
        let fd = u32::try_from(fd)?;
        if fd > next {
            gaps.push((next, fd - 1));
        }
        next = fd + 1;
    }
    gaps.push((next, u32::MAX));
    for (from, to) in gaps {
        match sys::close_range_on_exec(from, to) {
            Ok(()) => {}
            // Before Linux 5.9; before 5.11; or a container engine's filter that does not know the call.
            Err(errno @ (Errno::ENOSYS | Errno::EINVAL | Errno::EPERM)) => return close_listed_on_exec(first, keep, errno),
            Err(errno) => return Err(call(format_args!("close_range({from}, {to}, CLOSE_RANGE_CLOEXEC)"), errno)),
        }
    }
    Ok(())
}

fn close_listed_on_exec(first: RawFd, keep: &[RawFd], refused: Errno) -> Result<(), Error> {
    let listed = match sys::open_descriptors() {
        Ok(listed) => listed,
        Err(_) if refused == Errno::EINVAL => {
            return sys::close_each_on_exec(first, keep).map_err(|errno| call("fcntl(F_SETFD) of each descriptor", errno));
        }
        Err(errno) => bail!("open descriptors can't be counted: close_range is refused ({refused}), and /proc/self/fd: {errno}"),
    };
    for fd in listed.into_iter().filter(|fd| *fd >= first && !keep.contains(fd)) {
        sys::close_on_exec(fd).map_err(|errno| call(format_args!("fcntl({fd}, F_SETFD)"), errno))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dev_fd_n_anywhere_in_an_argument_is_seen() {
        assert_eq!(numbers(b"--config=/dev/fd/63,/proc/self/fd/7x/dev/fd/"), [63, 7]);
        assert_eq!(numbers(b"/dev/fd/99999999999 /proc/1/fd/3 dev/fd/4"), Vec::<RawFd>::new());
    }
}
