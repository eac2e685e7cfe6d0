//! Which descriptors the command has, and whom they belong to.

mod closing;
pub mod numbers;

use closing::close_all_but;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use anyhow::{Error, bail};
use caps::Capability;
use nix::errno::Errno;

use crate::activation;
use crate::failure::{call, hinted};
use crate::plan::Plan;
use crate::sys::{self, Unowned};

/// What a descriptor is, as far as ownership matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// A pipe of pipe(2): its owner alone can open it again, as /dev/stdout does.
    Pipe,
    /// Anything else.
    Other,
}

/// Which of 0, 1, 2 the command should own: pipes, and the terminal that is ours alone. Opens /dev/null where one is
/// closed.
pub fn own_streams() -> Result<Vec<RawFd>, Error> {
    let mut own = Vec::new();
    for fd in 0..=2 {
        let facts = match sys::fstat(fd) {
            Ok(facts) => facts,
            Err(Errno::EBADF) => match sys::open_null() {
                Ok(opened) if opened == fd => continue,
                Ok(other) => bail!("open(/dev/null): got descriptor {other}, not {fd}"),
                Err(Errno::ENODEV) => return Err(no_null(fd)),
                Err(errno) => return Err(call(format_args!("descriptor {fd} is closed, and open(/dev/null)"), errno)),
            },
            Err(errno) => return Err(call(format_args!("fstat({fd})"), errno)),
        };
        let ours = match facts.st_mode & libc::S_IFMT {
            libc::S_IFIFO => sys::is_anonymous_pipe(fd),
            libc::S_IFCHR => is_pseudo_terminal(facts.st_rdev) && is_ours_alone(fd),
            _ => false,
        };
        if ours {
            own.push(fd);
        }
    }
    Ok(own)
}

/// Says what /dev/null is, in place of the device of that name.
fn no_null(fd: RawFd) -> Error {
    let found = sys::NULL.found().map(|found| (found.st_mode & libc::S_IFMT, found.st_rdev));
    let what = match found {
        Ok((libc::S_IFREG, _)) => "a regular file".to_owned(),
        Ok((libc::S_IFDIR, _)) => "a directory".to_owned(),
        Ok((libc::S_IFIFO, _)) => "a FIFO".to_owned(),
        Ok((libc::S_IFSOCK, _)) => "a socket".to_owned(),
        Ok((libc::S_IFBLK, device)) => format!("the block device {}:{}", libc::major(device), libc::minor(device)),
        Ok((_, device)) => format!("the character device {}:{}", libc::major(device), libc::minor(device)),
        Err(errno) => format!("gone ({errno})"),
    };
    let link = std::fs::read_link("/dev/null").map(|target| format!("a link to {}, ", target.to_string_lossy().escape_default()));
    hinted(
        format!(
            "descriptor {fd} is closed, and /dev/null, which the command would get there, is {}{what}, not the character device 1:3",
            link.unwrap_or_default()
        ),
        "make it the device again (rm /dev/null; mknod -m 666 /dev/null c 1 3), or start stepdown with 0, 1 and 2 open",
    )
}

/// A pseudo-terminal itself, by the numbers that the kernel keeps for them. By /dev/tty as well a terminal is reached, but
/// who owns that file owns the name of every terminal; and a real console is the machine's.
fn is_pseudo_terminal(device: libc::dev_t) -> bool {
    (136..=143).contains(&libc::major(device))
}

/// Whether a terminal is ours alone, as a container engine makes one for what it starts (`docker run -it`, `docker exec
/// -it`). Only then does it become the target's: whoever owns a terminal can open it, and read what is typed there for
/// somebody else. All of this has to be true, and what can't be told is not:
///
/// - Our parent is outside of the PID namespace, or we are the first process of all: nobody above us in here is root's
///   shell. That alone says little: so it is under `nsenter` and `unshare --pid` in a root shell, too.
/// - We lead our session. In a shell's session, which may lie outside of the PID namespace, we don't.
/// - The terminal is that session's. Only one session has a terminal at a time.
/// - Nobody can have taken it from another session, as `setsid --ctty` in a root shell does, which reads it ever after. That
///   takes CAP_SYS_ADMIN (ioctl_tty(2), TIOCSCTTY). With it, as under `docker run --privileged`, nothing tells whether the
///   terminal was another's before.
fn is_ours_alone(terminal: RawFd) -> bool {
    sys::getppid() == 0
        && sys::leads_session()
        && sys::session_of(terminal).is_ok_and(|session| sys::getpid() == Ok(session))
        && sys::capget().is_ok_and(|sets| !sets.permitted.has(Capability::CAP_SYS_ADMIN))
}

/// The controlling terminal, through which a process can type into what others of its session read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// There is none, or it is ours alone.
    Own,
    /// Others may have it, a root shell perhaps.
    Shared,
}

/// Whether others may have the controlling terminal, too: by the same rule by which it becomes the target's.
pub fn terminal() -> Terminal {
    let ours = match sys::open_terminal() {
        Ok(opened) => is_ours_alone(opened.as_raw_fd()),
        Err(Errno::ENXIO) => true,
        // Without /dev it can be had by 0, 1 or 2 alone.
        Err(Errno::ENOENT) => (0..=2).find(|&fd| sys::session_of(fd).is_ok()).is_none_or(is_ours_alone),
        // What can't be told is not taken for harmless.
        Err(_) => false,
    };
    if ours { Terminal::Own } else { Terminal::Shared }
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

/// Where a process finds its descriptors by name.
const DIRECTORIES: [&[u8]; 2] = [b"/dev/fd/", b"/proc/self/fd/"];

/// Every N of `/dev/fd/N` and `/proc/self/fd/N`, wherever it stands in the argument.
fn numbers(argument: &[u8]) -> Vec<RawFd> {
    let starts = 0..argument.len();
    DIRECTORIES
        .into_iter()
        .flat_map(|prefix| starts.clone().filter_map(move |start| number(argument.get(start..)?.strip_prefix(prefix)?)))
        .collect()
}

/// The N of a path that begins with `/dev/fd/N` or `/proc/self/fd/N`.
fn leads_to(path: &CStr) -> Option<RawFd> {
    DIRECTORIES.into_iter().find_map(|prefix| number(path.to_bytes().strip_prefix(prefix)?))
}

/// The digits that stand in front.
fn number(text: &[u8]) -> Option<RawFd> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..length)?).ok()?.parse().ok()
}

/// Gives the target its streams, as `docker run -u` does. Only whom a file belongs to is at stake: a
/// refusal (no CAP_CHOWN) takes the command nothing but the opening of /dev/stdout.
pub fn give_streams(plan: &Plan) {
    for &fd in &plan.streams {
        let _ = sys::chown_by_number(fd, plan.identity.uid);
    }
}

/// A descriptor that the command is to have.
pub struct Handed {
    /// Where it is now.
    pub file: OwnedFd,
    /// Its number in the command: planned, and no other's.
    pub number: RawFd,
}

/// Puts what is handed on where the plan wants it and closes all that the command is not meant to have.
///
/// While root: from the switch on, paths are followed for the target (`--chdir`, the command's own), and what root had open
/// would be reached by them, as /proc/self/fd/9. Whatever is opened later is closed by execve.
pub fn hand_on(plan: &Plan, handed: Vec<Handed>, unowned: Unowned) -> Result<(), Error> {
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
    close_all_but(received.end, &keep, &unowned)
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
