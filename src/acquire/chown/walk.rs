//! The walk of one thread: down into each directory as it is found, its parent left half read.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Error, anyhow};
use nix::errno::Errno;

use super::Order;
use super::crew::Crew;
use super::entry::{self, Kind, Names, Within};
use super::tally::Counts;
use super::tree::{self, Directory};
use crate::failure::call;
use crate::sys::{self, Entries};

/// Of the directories that may not be shared, how many a thread keeps open.
pub const HELD: usize = 8;

/// An entry that turns from directory to file and back this often is somebody's game.
const PATIENCE: u32 = 16;

/// What getdents64 is given: a thousand names, more gain nothing (benches/chown).
const BUFFER: usize = 32 * 1024;

/// After this many entries a thread's counts go into the tally.
const OFTEN: u64 = 256;

/// A tree that holds more is worth more threads.
const LARGE: u64 = 1000;

/// How many buffers are kept for later.
const SPARE: usize = 8;

/// Some of what a directory holds, for whoever has time.
pub struct Work {
    /// Expects one more for this.
    pub directory: Arc<Directory>,
    /// As getdents64 put them.
    pub entries: Entries,
}

/// What comes next in a directory.
enum Next {
    /// This one in it is entered.
    Directory(CString),
    /// The entries at hand are used up.
    ReadOn,
    /// All are used up.
    End,
}

/// One thread's place in the tree.
pub struct Walker<'a> {
    order: &'a Order<'a>,
    crew: &'a Crew,
    levels: Vec<Level>,
    /// Buffers to read into, used before.
    spare: Vec<Entries>,
    counts: Counts,
}

/// A directory that this thread is in.
struct Level {
    directory: Arc<Directory>,
    entries: Entries,
    more: More,
}

/// Where a level's entries come from when those at hand are used up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    /// The directory is read on.
    Read,
    /// There are none: another thread reads on, or it was read to its end before it was closed.
    Nothing,
}

impl<'a> Walker<'a> {
    pub fn new(order: &'a Order<'a>, crew: &'a Crew) -> Self {
        Self { order, crew, levels: Vec::new(), spare: Vec::new(), counts: Counts::default() }
    }

    /// Walks a whole tree, and calls for help where it turns out to be large.
    pub fn lead(mut self, top: Arc<Directory>, hire: impl FnOnce()) {
        self.counts.seen += 1;
        self.push(top);
        let mut hire = Some(hire);
        while !self.levels.is_empty() {
            self.advance();
            // A tree that is done by now is done sooner than a thread is made.
            if self.order.tally.seen() > LARGE
                && let Some(hire) = hire.take()
            {
                hire();
            }
        }
        self.serve();
    }

    /// Takes work from others until all of it is done.
    pub fn serve(mut self) {
        while let Some(work) = self.crew.take() {
            self.levels.push(Level { directory: work.directory, entries: work.entries, more: More::Nothing });
            while !self.levels.is_empty() {
                self.advance();
            }
        }
        self.order.tally.add(&mut self.counts);
    }

    /// Goes on in the present directory as far as the next one in it, and into that; or out again.
    fn advance(&mut self) {
        match self.next() {
            Next::Directory(name) => self.descend(&name),
            Next::ReadOn => self.read_on(),
            Next::End => self.ascend(),
        }
        if self.counts.seen > OFTEN {
            self.order.tally.add(&mut self.counts);
        }
        self.order.tally.tick(&mut self.counts);
    }

    /// Deals with the entries at hand, up to one that is a directory and that nobody else takes.
    fn next(&mut self) -> Next {
        let Some(level) = self.levels.last_mut() else { return Next::End };
        let Some(open) = level.directory.descriptor() else { return Next::End };
        while let Some(entry) = level.entries.next() {
            if !entry.says_directory
                && other(self.order, &level.directory, &open, entry.name, &mut self.counts) != Kind::Directory
            {
                continue;
            }
            // The last one is always entered: handed on and on, it never would be.
            if entry.is_last || !level.directory.may_be_shared() || !self.crew.has_room() {
                return Next::Directory(entry.name.to_owned());
            }
            level.directory.expect_one_more();
            self.crew.offer(Work { directory: Arc::clone(&level.directory), entries: entry.alone() });
        }
        if level.more == More::Read { Next::ReadOn } else { Next::End }
    }

    fn read_on(&mut self) {
        let Some(level) = self.levels.last_mut() else { return };
        let Some(open) = level.directory.descriptor() else { return };
        if !read(self.order, &level.directory, &open, &mut level.entries) {
            level.more = More::Nothing;
        } else if level.entries.is_over_half_full() && level.directory.may_be_shared() && self.crew.has_room() {
            // More will follow.
            let next = self.spare.pop().unwrap_or_else(|| Entries::with_room(BUFFER));
            level.directory.expect_one_more();
            let entries = std::mem::replace(&mut level.entries, next);
            self.crew.offer(Work { directory: Arc::clone(&level.directory), entries });
        }
    }

    /// Enters a directory of the present one. What has become something else is dealt with as that.
    fn descend(&mut self, name: &CStr) {
        let Some(level) = self.levels.last() else { return };
        let parent = Arc::clone(&level.directory);
        let Some(open) = parent.descriptor() else { return };
        for _ in 0..PATIENCE {
            match self.enter(&parent, &open, name) {
                Ok(()) | Err(Errno::ENOENT) => return,
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    if other(self.order, &parent, &open, name, &mut self.counts) != Kind::Directory {
                        return;
                    }
                }
                Err(errno) => return self.cannot_enter(&parent, name, call("open", errno)),
            }
        }
        self.cannot_enter(&parent, name, anyhow!("it keeps changing between a directory and something else"));
    }

    fn cannot_enter(&mut self, parent: &Directory, name: &CStr, error: Error) {
        self.counts.seen += 1;
        parent.fail(self.order, Some(name), error);
    }

    /// Opens a directory and makes it the present one, unless it is another mount's.
    fn enter(&mut self, parent: &Arc<Directory>, within: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        let open = tree::open(within.as_fd(), name)?;
        let facts = sys::facts(open.as_fd())?;
        if self.order.is_inside(&facts) {
            self.counts.seen += 1;
            self.push(Arc::new(Directory::below(parent, name, open, facts)));
            self.close_far_above();
        }
        Ok(())
    }

    fn push(&mut self, directory: Arc<Directory>) {
        let entries = self.spare.pop().unwrap_or_else(|| Entries::with_room(BUFFER));
        self.levels.push(Level { directory, entries, more: More::Read });
    }

    /// Closes the directory that is [`HELD`] above, unless it may be shared. It is read to its end first, so that
    /// no place in it need be found again.
    fn close_far_above(&mut self) {
        let far = self.levels.len().checked_sub(HELD + 1).and_then(|far| self.levels.get_mut(far));
        let Some(level) = far.filter(|level| !level.directory.may_be_shared()) else { return };
        let Some(open) = level.directory.descriptor() else { return };
        let mut below = Entries::default();
        loop {
            while let Some(entry) = level.entries.next() {
                if entry.says_directory
                    || other(self.order, &level.directory, &open, entry.name, &mut self.counts) == Kind::Directory
                {
                    below.push(&entry);
                }
            }
            if level.more == More::Nothing || !read(self.order, &level.directory, &open, &mut level.entries) {
                break;
            }
        }
        level.more = More::Nothing;
        self.spare.push(std::mem::replace(&mut level.entries, below));
        level.directory.close();
    }

    /// Leaves the present directory for the one above, which is opened again where it was closed.
    fn ascend(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        if level.entries.has_room(BUFFER) && self.spare.len() < SPARE {
            self.spare.push(level.entries);
        }
        let above = self.levels.last().map(|above| &above.directory).filter(|above| above.descriptor().is_none());
        let lost = match (above, level.directory.descriptor()) {
            (Some(above), Some(open)) => above.open_again(&open).err().map(|error| (Arc::clone(above), error)),
            _ => None,
        };
        level.directory.leave(self.order, &mut self.counts.changed);
        if let Some((above, error)) = lost {
            above.fail(self.order, None, error);
            self.give_up_closed();
        }
    }

    /// Goes up, past the directories that there is no way back to, to one that was never closed.
    fn give_up_closed(&mut self) {
        while let Some(level) = self.levels.pop_if(|level| level.directory.descriptor().is_none()) {
            level.directory.spoil();
            level.directory.leave(self.order, &mut self.counts.changed);
        }
    }
}

/// Reads on in a directory; false at its end.
fn read(order: &Order<'_>, directory: &Directory, open: &OwnedFd, entries: &mut Entries) -> bool {
    match entries.read(open.as_fd()) {
        // ENOENT: removed while it was read, and so empty.
        Ok(0) | Err(Errno::ENOENT) => false,
        Ok(_) => true,
        Err(errno) => {
            directory.fail(order, None, call("getdents64", errno));
            false
        }
    }
}

/// Deals with an entry that is no directory; says what it is.
fn other(order: &Order<'_>, directory: &Directory, open: &OwnedFd, name: &CStr, counts: &mut Counts) -> Kind {
    let within = Within { directory: open.as_fd(), names: Names::of(&directory.facts, order) };
    let kind = entry::own(order, &within, name, counts).unwrap_or_else(|error| {
        directory.fail(order, Some(name), error);
        Kind::Other
    });
    order.tally.tick(counts);
    kind
}
