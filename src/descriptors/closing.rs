//! Closing what the command is not meant to have, and looking afterwards.
//!
//! The rule: that something was closed is believed when it is seen, never because a call said so. A filter may answer
//! close_range(2) with a success that was none (`errnoRet` 0 in a profile does just that), and what can't be closed in one
//! way is closed in the next:
//!
//! 1. close_range(2). Each range has a witness, a descriptor that was seen to be open in it: the call closes all of a range or,
//!    where a filter answers for it, nothing, and the witness tells which.
//! 2. What a real procfs lists; then the list must be empty. A list without the descriptor it is read by is not ours.
//! 3. Every number that a descriptor can have, each looked at after its close(2).

use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};

use anyhow::Error;

use crate::failure::{call, hinted};
use crate::sys::{self, Unowned};

/// The first and the last number of a range.
type Gap = (RawFd, RawFd);

/// Closes every descriptor from `first` on but those in `keep`, which ascends. An error names one that is still open.
pub fn close_all_but(first: RawFd, keep: &[RawFd], unowned: &Unowned) -> Result<(), Error> {
    if by_range(&gaps(first, keep), unowned) {
        return Ok(());
    }
    match by_list(first, keep, unowned)? {
        Listed::Closed => Ok(()),
        Listed::NoList => by_number(first, keep, unowned),
    }
}

/// What lies between those that stay.
fn gaps(first: RawFd, keep: &[RawFd]) -> Vec<Gap> {
    let mut gaps = Vec::with_capacity(keep.len() + 1);
    let mut next = first;
    for &fd in keep.iter().filter(|&&fd| fd >= first) {
        if fd > next {
            gaps.push((next, fd - 1));
        }
        next = fd.saturating_add(1);
    }
    gaps.push((next, RawFd::MAX));
    gaps
}

/// Whether all were closed, as far as witnesses tell. An error (before Linux 5.9, or a container engine's filter that does not
/// know the call), a lie, and a range without a witness are one to the caller: there is another way.
fn by_range(gaps: &[Gap], unowned: &Unowned) -> bool {
    // Of no file: that one is closed has no effect on the locks of any (fcntl(2)).
    let Ok(probe) = sys::eventfd() else { return false };
    let Some(witnesses) = gaps.iter().map(|gap| witness(&probe, *gap)).collect::<Option<Vec<RawFd>>>() else {
        return false;
    };
    let probe = probe.into_raw_fd();
    let said = gaps.iter().all(|&(from, to)| sys::close_range(unowned, from, to).is_ok());
    let seen = witnesses.into_iter().all(sys::is_closed);
    // Where 0 was closed it may be in no gap.
    if !sys::is_closed(probe) {
        sys::close(unowned, probe);
    }
    said && seen
}

/// A descriptor in the gap that is open for sure; none where all of it is above the limit of open files.
fn witness(probe: &OwnedFd, (from, to): Gap) -> Option<RawFd> {
    let itself = probe.as_raw_fd();
    if (from..=to).contains(&itself) {
        return Some(itself);
    }
    // A copy behind the gap is closed with the next one.
    let copy = sys::duplicate_above(probe.as_fd(), from).map(IntoRawFd::into_raw_fd);
    match copy {
        Ok(copy) if (from..=to).contains(&copy) => Some(copy),
        // No number of the gap was free.
        Ok(_) | Err(_) => sys::is_open(from).then_some(from),
    }
}

enum Listed {
    Closed,
    NoList,
}

fn by_list(first: RawFd, keep: &[RawFd], unowned: &Unowned) -> Result<Listed, Error> {
    let Some(others) = others_listed(first, keep) else { return Ok(Listed::NoList) };
    others.into_iter().for_each(|fd| sys::close(unowned, fd));
    match others_listed(first, keep) {
        Some(left) => left.first().map_or(Ok(Listed::Closed), |&fd| Err(still_open(fd))),
        None => Ok(Listed::NoList),
    }
}

/// Those from `first` on that are open, kept ones left out, by /proc/self/fd.
fn others_listed(first: RawFd, keep: &[RawFd]) -> Option<Vec<RawFd>> {
    let mut open = sys::open_descriptors().ok()?;
    open.retain(|fd| *fd >= first && !keep.contains(fd));
    Some(open)
}

/// fs.nr_open as every kernel starts with it: without /proc nobody can say that it was raised.
const NUMBERS: u64 = 1 << 20;

/// How many numbers have to be tried, from the hard limit of open files. Descriptors from before it was lowered may be above it.
fn numbers(hard: u64) -> Option<RawFd> {
    if hard > NUMBERS { None } else { RawFd::try_from(NUMBERS).ok() }
}

fn by_number(first: RawFd, keep: &[RawFd], unowned: &Unowned) -> Result<(), Error> {
    let hard = sys::resource_limit(libc::RLIMIT_NOFILE as _).map(|(_, hard)| hard);
    let hard = hard.map_err(|errno| call("open descriptors can't be counted: getrlimit(RLIMIT_NOFILE)", errno))?;
    let Some(end) = numbers(hard) else {
        return Err(hinted(
            format!(
                "open descriptors can't be counted: close_range does not work, /proc is no procfs, and the limit of open files is {hard}"
            ),
            "mount /proc (mount -t proc proc /proc), or allow close_range in the container engine's seccomp profile",
        ));
    };
    for fd in (first..end).filter(|fd| !keep.contains(fd)) {
        sys::close(unowned, fd);
        if !sys::is_closed(fd) {
            return Err(still_open(fd));
        }
    }
    Ok(())
}

fn still_open(fd: RawFd) -> Error {
    hinted(
        format!("descriptor {fd} is still open after close_range and close({fd}), so the command is not started"),
        "a filter of system calls answers for the kernel: look for errnoRet 0 in the container engine's seccomp profile",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_in_no_gap() {
        assert_eq!(gaps(3, &[]), [(3, RawFd::MAX)]);
        assert_eq!(gaps(3, &[3, 4, 9]), [(5, 8), (10, RawFd::MAX)]);
        assert_eq!(gaps(5, &[1, 7]), [(5, 6), (8, RawFd::MAX)]);
    }

    #[test]
    fn where_numbers_have_no_known_end_they_are_not_counted() {
        assert_eq!(numbers(3), numbers(1 << 20));
        assert_eq!((numbers((1 << 20) + 1), numbers(u64::MAX)), (None, None));
    }
}
