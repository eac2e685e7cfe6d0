//! Which number each descriptor of the command has: decided in the plan, with no system call.

use std::os::fd::RawFd;

use anyhow::{Error, bail};

use super::{Nature, leads_to};
use crate::activation;
use crate::cli::Args;
use crate::failure::{hinted, lossy};
use crate::host::Host;

/// What the command has open besides 0, 1 and 2, and what was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The first of `--listen`; those of `--open` follow.
    pub first: RawFd,
    /// Of each `--secret`; ascending.
    pub secrets: Vec<RawFd>,
    /// Left open as they came; ascending.
    pub kept: Vec<RawFd>,
}

/// Secrets have high numbers. Node makes descriptors close-on-exec when it starts, from 0 to the first closed one
/// above 15 (libuv's uv_disable_stdio_inheritance), so that those below are missing in what it starts.
const FIRST_SECRET: RawFd = 64;
const LIBUV_LOOKS_AT: RawFd = 16;

impl Numbers {
    /// Decides, or says which two want the same.
    pub fn resolve(args: &Args, host: &Host) -> Result<Self, Error> {
        let first = activation::FIRST + RawFd::try_from(host.inherited.names().len())?;
        let behind = first + RawFd::try_from(args.listen.len() + args.files.open.len())?;
        let refuse_ours = |fd: RawFd, what: &str| {
            if (first..behind).contains(&fd) {
                let options = match (args.listen.is_empty(), args.files.open.is_empty()) {
                    (false, true) => "--listen hands",
                    (true, false) => "--open hands",
                    _ => "--listen and --open hand",
                };
                bail!("{what}: what {options} on takes descriptors {first} to {}", behind - 1);
            }
            Ok(())
        };
        for fd in &args.keep_fds {
            if !host.kept_open.contains(fd) {
                bail!("--keep-fd {fd}: descriptor {fd} is not open");
            }
            refuse_ours(*fd, &format!("--keep-fd {fd}"))?;
        }
        for (fd, _) in &host.named {
            refuse_ours(*fd, &format!("an argument names /dev/fd/{fd}, which is open"))?;
        }
        let named = host.named.iter().map(|&(fd, _)| fd);
        let mut kept: Vec<RawFd> = args.keep_fds.iter().copied().filter(|&fd| fd > 2).chain(named).collect();
        kept.sort_unstable();
        kept.dedup();
        let secrets = secrets(args.files.secrets.len(), behind, &kept);
        if let Some(limit) = host.descriptor_limit {
            check_limit(limit, secrets.last().map_or(behind, |last| last + 1), args)?;
        }
        let numbers = Self { first, secrets, kept };
        numbers.refuse_what_is_closed_by_then(args, behind)?;
        Ok(numbers)
    }

    /// What the target may reach is looked for when root's descriptors are closed.
    fn refuse_what_is_closed_by_then(&self, args: &Args, behind: RawFd) -> Result<(), Error> {
        let chdir = args.chdir.iter().map(|path| (path, format!("--chdir {}", lossy(path))));
        let rules = args.confinement.paths.iter().map(|rule| (&rule.path, rule.to_string()));
        for (path, what) in chdir.chain(rules) {
            match leads_to(path) {
                Some(fd) if fd >= behind && !self.kept.contains(&fd) && !self.secrets.contains(&fd) => {
                    return Err(hinted(
                        format!("{what}: descriptor {fd} is not handed on, and so is closed before that is looked for"),
                        format!("name what it leads to, or hand it on: --keep-fd {fd}"),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Numbers from 64 on, behind one that is closed and not below 16.
fn secrets(count: usize, behind: RawFd, kept: &[RawFd]) -> Vec<RawFd> {
    if count == 0 {
        return Vec::new();
    }
    let free = |fd: &RawFd| !kept.contains(fd);
    let closed = (behind.max(LIBUV_LOOKS_AT)..).find(free).unwrap_or(behind);
    (FIRST_SECRET.max(closed + 1)..).filter(free).take(count).collect()
}

/// They are made at other numbers, and moved: each may need a second one for a moment.
fn check_limit(limit: u64, behind: RawFd, args: &Args) -> Result<(), Error> {
    let count = args.listen.len() + args.files.open.len() + args.files.secrets.len();
    let needed = u64::try_from(behind)? + u64::try_from(count)?;
    if needed > limit {
        return Err(hinted(
            format!("descriptors up to {} are needed, and the limit of open files (RLIMIT_NOFILE) is {limit}", needed - 1),
            "raise it where stepdown is started: ulimit -n, docker run --ulimit nofile=1024, systemd LimitNOFILE=1024",
        ));
    }
    Ok(())
}

/// The pipes that arguments name, which become the target's.
pub fn named_pipes(host: &Host) -> impl Iterator<Item = RawFd> {
    host.named.iter().filter(|(_, nature)| *nature == Nature::Pipe).map(|&(fd, _)| fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_stands_behind_a_closed_descriptor_that_is_not_below_16() {
        assert_eq!(secrets(2, 3, &[]), [64, 65]);
        assert_eq!(secrets(2, 3, &[64]), [65, 66]);
        assert_eq!(secrets(1, 100, &[100, 101]), [103]);
        let all: Vec<RawFd> = (3..64).collect();
        assert_eq!(secrets(1, 3, &all), [65], "64 itself stays closed");
        assert!(secrets(0, 3, &[]).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn secrets_never_meet_what_is_open(count in 0usize..5, behind in 3..200i32, kept in proptest::collection::vec(3..200i32, 0..100)) {
            let numbers = secrets(count, behind, &kept);
            proptest::prop_assert_eq!(numbers.len(), count);
            for &fd in &numbers {
                proptest::prop_assert!(fd >= 64 && fd >= behind && !kept.contains(&fd));
                proptest::prop_assert!((16..fd).any(|closed| closed >= behind && !kept.contains(&closed) && !numbers.contains(&closed)));
            }
        }
    }
}
