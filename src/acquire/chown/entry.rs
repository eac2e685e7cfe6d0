//! One entry that is no directory: looked at, held, looked at again, changed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Error;
use nix::errno::Errno;

use super::Order;
use super::tally::Counts;
use crate::failure::{call, hinted};
use crate::sys::{self, FileFacts};

/// What an entry turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory; left alone here.
    Directory,
    /// Anything else, and right now or another mount's.
    Other,
    /// Nothing any more.
    Gone,
}

/// The directory that an entry is in.
pub struct Within<'a> {
    pub directory: BorrowedFd<'a>,
    pub names: Names,
}

/// Whether others may make hard links to files that are not theirs (proc(5), fs.protected_hardlinks).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HardLinks {
    Protected,
    Unprotected,
}

/// Whether another process may put something else in an entry's place while it is dealt with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Only root can write to the directory: what a name leads to is what it led to.
    Steady,
    /// An entry is held by descriptor from the look to the change.
    Shifting,
}

impl Names {
    /// Those of a directory. It is changed after all it holds, and so is root's until then.
    pub fn of(directory: &FileFacts, order: &Order<'_>) -> Self {
        let roots_alone = directory.uid == 0 && directory.mode & 0o022 == 0;
        // Unprotected, what another name of a file elsewhere does is part of the question as well.
        if roots_alone && order.hard_links() == HardLinks::Protected { Self::Steady } else { Self::Shifting }
    }
}

/// Deals with an entry that is no directory; says what it is.
pub fn own(order: &Order<'_>, within: &Within<'_>, name: &CStr, counts: &mut Counts) -> Result<Kind, Error> {
    // Where the entry before was wrong this one is likely to be: then the look by name would be one too many.
    if within.names == Names::Shifting && counts.last_was_wrong {
        return own_held(order, within.directory, name, counts);
    }
    let facts = match sys::facts_at(within.directory, name) {
        Ok(facts) if facts.is_directory() => return Ok(Kind::Directory),
        Ok(facts) => facts,
        Err(Errno::ENOENT) => return Ok(Kind::Gone),
        Err(errno) => {
            counts.seen += 1;
            return Err(call("statx", errno));
        }
    };
    if order.is_right(&facts) || !order.is_inside(&facts) {
        counts.seen += 1;
        return Ok(Kind::Other);
    }
    if within.names == Names::Shifting {
        return own_held(order, within.directory, name, counts);
    }
    counts.seen += 1;
    order.chowned(sys::chown_at(within.directory, name, order.uid, order.gid))?;
    counts.changed += 1;
    Ok(Kind::Other)
}

fn own_held(order: &Order<'_>, directory: BorrowedFd<'_>, name: &CStr, counts: &mut Counts) -> Result<Kind, Error> {
    let file = match sys::open_at(directory, name, libc::O_PATH) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(Kind::Gone),
        Err(errno) => {
            counts.seen += 1;
            return Err(call("open", errno));
        }
    };
    // The name may stand for something else by now; what is held can't.
    let facts = sys::facts(file.as_fd());
    if facts.is_ok_and(|facts| facts.is_directory()) {
        return Ok(Kind::Directory);
    }
    counts.seen += 1;
    let facts = facts.map_err(|errno| call("statx", errno))?;
    counts.last_was_wrong = !order.is_right(&facts) && order.is_inside(&facts);
    if counts.last_was_wrong {
        refuse_foreign_links(order, directory, name, &facts)?;
        order.chowned(sys::chown(file.as_fd(), order.uid, Some(order.gid)))?;
        counts.changed += 1;
    }
    Ok(Kind::Other)
}

/// A hard link may be anybody's way to have a file from elsewhere changed: /etc/shadow by another name.
fn refuse_foreign_links(order: &Order<'_>, directory: BorrowedFd<'_>, name: &CStr, facts: &FileFacts) -> Result<(), Error> {
    if order.hard_links() == HardLinks::Protected {
        return Ok(());
    }
    // Read from the descriptor, the count may be 1 because the link in the tree is gone already and the
    // file's true name is the one left. So the name must lead to this file, with the count still 1.
    let now = sys::facts_at(directory, name).map_err(|errno| call("statx", errno))?;
    if facts.links > 1 || now.links != 1 || now.identity != facts.identity {
        return Err(hinted(
            format!("it has {} names, and this kernel does not protect hard links", facts.links.max(now.links)),
            "set sysctl fs.protected_hardlinks=1, or copy the file",
        ));
    }
    Ok(())
}

impl HardLinks {
    /// Without /proc nobody can say that they are protected.
    pub fn read() -> Self {
        match std::fs::read("/proc/sys/fs/protected_hardlinks") {
            Ok(value) if value.trim_ascii() == b"1" => Self::Protected,
            _ => Self::Unprotected,
        }
    }
}
