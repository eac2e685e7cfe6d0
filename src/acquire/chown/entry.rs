//! One entry that is no directory: looked at, held, looked at again, changed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Error;
use nix::errno::Errno;

use super::Order;
use super::tally::Counts;
use crate::failure::{call, hinted};
use crate::pathwalk::{Entry, Found};
use crate::procfs;
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
    // Nobody else moves names here, and so what was read of the file still holds.
    order.linkers(&facts).refuse_several_names(&facts)?;
    order.chowned(sys::chown_at(within.directory, name, order.uid, order.gid))?;
    counts.changed += 1;
    if counts.is_in_sample() {
        match sys::facts_at(within.directory, name) {
            Err(Errno::ENOENT) => {}
            now => order.has_changed(now)?,
        }
    }
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
        if !order.linkers(&facts).is_still_there(directory, name, &facts)? {
            counts.seen -= 1;
            return Ok(Kind::Gone);
        }
        change_held(order, &file, counts)?;
    }
    Ok(Kind::Other)
}

/// PATH itself, where it is no directory.
pub fn own_found(order: &Order<'_>, found: &Found, counts: &mut Counts) -> Result<(), Error> {
    counts.seen += 1;
    if order.is_right(&found.facts) {
        return Ok(());
    }
    let linkers = order.linkers(&found.facts);
    match found.entry {
        Entry::File if !linkers.is_still_there(found.directory.as_fd(), &found.name, &found.facts)? => {
            return Err(call("statx", Errno::ENOENT));
        }
        Entry::File => {}
        // It has no name here, but the link of procfs.
        Entry::Descriptor => linkers.refuse_several_names(&found.facts)?,
    }
    change_held(order, &found.file, counts)
}

fn change_held(order: &Order<'_>, file: &OwnedFd, counts: &mut Counts) -> Result<(), Error> {
    order.chowned(sys::chown(file.as_fd(), order.uid, Some(order.gid)))?;
    counts.changed += 1;
    if counts.is_in_sample() { order.has_changed(sys::facts(file.as_fd())) } else { Ok(()) }
}

/// Whether a file may have a name that somebody gave it who may not have it: then it is from elsewhere, as /etc/shadow by
/// another name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Linkers {
    /// Its owner alone (and root) can have given it a name.
    Owner,
    /// Others too, because the kernel does not protect hard links.
    Anybody,
    /// Others too, because the kernel lets everybody link a regular file that he may read and write (proc(5),
    /// fs.protected_hardlinks).
    Writers,
}

impl Order<'_> {
    fn linkers(&self, facts: &FileFacts) -> Linkers {
        if self.hard_links() == HardLinks::Unprotected {
            return Linkers::Anybody;
        }
        // The group's bits are the most that any entry of an ACL gives (acl(5)).
        let may_read_and_write = |bits: u32| facts.mode & bits == bits;
        let is_regular = facts.mode & libc::S_IFMT == libc::S_IFREG;
        let by_writers = is_regular && (may_read_and_write(0o060) || may_read_and_write(0o006));
        if by_writers { Linkers::Writers } else { Linkers::Owner }
    }
}

impl Linkers {
    fn refuse_several_names(self, facts: &FileFacts) -> Result<(), Error> {
        if self == Self::Owner || facts.links == 1 { Ok(()) } else { Err(self.refusal(facts.links)) }
    }

    /// Read from the descriptor, the count may be 1 because the link in the tree is gone already and the file's true name
    /// is the one left. So the name must lead to this file, with the count still 1. False where the name leads nowhere.
    fn is_still_there(self, directory: BorrowedFd<'_>, name: &CStr, facts: &FileFacts) -> Result<bool, Error> {
        if self == Self::Owner {
            return Ok(true);
        }
        let now = match sys::facts_at(directory, name) {
            Err(Errno::ENOENT) => return Ok(false),
            now => now.map_err(|errno| call("statx", errno))?,
        };
        if facts.links > 1 || now.links != 1 || now.identity != facts.identity {
            return Err(self.refusal(facts.links.max(now.links)));
        }
        Ok(true)
    }

    fn refusal(self, names: u32) -> Error {
        match self {
            Self::Writers => hinted(
                format!("it has {names} names, and its group or others may read and write it, so that one of them may be theirs"),
                "take their right to write to it (chmod go-w), or copy the file",
            ),
            Self::Anybody | Self::Owner => hinted(
                format!("it has {names} names, and this kernel does not protect hard links"),
                "set sysctl fs.protected_hardlinks=1, or copy the file",
            ),
        }
    }
}

impl HardLinks {
    /// Without /proc nobody can say that they are protected.
    pub fn read() -> Self {
        match procfs::read(c"/proc/sys/fs/protected_hardlinks") {
            Ok(value) if value.trim_ascii() == b"1" => Self::Protected,
            _ => Self::Unprotected,
        }
    }
}
