//! The directories that are being walked, each changed by whoever is the last to be done with what it holds.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Error, bail};
use nix::errno::Errno;

use super::Order;
use crate::failure::{call, lossy};
use crate::sys::{self, FileFacts};

/// Directories this far down stay open until they are done, and threads may share them. Further down they are one
/// thread's, which closes those that it is far below.
pub const SHARED_DEPTH: usize = 8;

/// A directory that has been entered and is not done.
pub struct Directory {
    /// How it was when it was entered.
    pub facts: FileFacts,
    /// How many are above it.
    depth: usize,
    /// The one it was found in; none for PATH itself.
    parent: Option<Arc<Self>>,
    name: CString,
    open: Mutex<Option<Arc<OwnedFd>>>,
    /// Its reader, each piece of it that was handed to another thread, each directory in it that is not done.
    pending: AtomicUsize,
    /// Something in it could not be made right, so this must not become right.
    spoiled: AtomicBool,
}

/// Opens a directory to be read.
pub fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    sys::open_at(parent, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK)
}

impl Directory {
    /// PATH.
    pub fn top(open: OwnedFd, facts: FileFacts) -> Self {
        Self::new(open, facts, 0, None, CString::default())
    }

    /// A directory in another one, which is not done before it.
    pub fn below(parent: &Arc<Self>, name: &CStr, open: OwnedFd, facts: FileFacts) -> Self {
        parent.expect_one_more();
        Self::new(open, facts, parent.depth + 1, Some(Arc::clone(parent)), name.to_owned())
    }

    fn new(open: OwnedFd, facts: FileFacts, depth: usize, parent: Option<Arc<Self>>, name: CString) -> Self {
        let open = Mutex::new(Some(Arc::new(open)));
        Self { facts, depth, parent, name, open, pending: AtomicUsize::new(1), spoiled: AtomicBool::new(false) }
    }

    /// Whether several threads may work at it. It is never closed, then.
    pub fn may_be_shared(&self) -> bool {
        self.depth < SHARED_DEPTH
    }

    /// One more will call [`Directory::leave`].
    pub fn expect_one_more(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// Neither it nor what it is in may become right.
    pub fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }

    /// Its descriptor, unless it is closed for now.
    pub fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes it until [`Directory::open_again`].
    pub fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Opens it through the `..` of a directory in it, and makes sure that this is the one the walk came by.
    pub fn open_again(&self, child: &OwnedFd) -> Result<(), Error> {
        let open = open(child.as_fd(), c"..").map_err(|errno| call("open", errno))?;
        let facts = sys::facts(open.as_fd()).map_err(|errno| call("statx", errno))?;
        if (facts.identity, facts.mount) != (self.facts.identity, self.facts.mount) {
            bail!("a directory was moved while the walk was below it");
        }
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(open));
        Ok(())
    }

    /// Says that one of those expected is done. The last one changes it, now that all it holds is right, and is
    /// done with it in the directory above.
    pub fn leave(self: Arc<Self>, order: &Order<'_>, changed: &mut u64) {
        let mut directory = self;
        // Release and acquire: what the others did to the spoiled flag is seen by the last.
        while directory.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            directory.make_right(order, changed);
            let Some(parent) = directory.parent.clone() else { return };
            if directory.spoiled.load(Ordering::Relaxed) {
                parent.spoil();
            }
            directory = parent;
        }
    }

    fn make_right(&self, order: &Order<'_>, changed: &mut u64) {
        if order.is_right(&self.facts) || self.spoiled.load(Ordering::Relaxed) {
            return;
        }
        let result = match self.descriptor() {
            // PATH itself is what the service will look at, and what a later run may go by.
            Some(open) => order.chowned(sys::chown(open.as_fd(), order.uid, Some(order.gid))).and_then(|()| match self.parent {
                None => order.has_changed(sys::facts(open.as_fd())),
                Some(_) => Ok(()),
            }),
            None => Err(Error::msg("the walk lost its way back")),
        };
        match result {
            Ok(()) => *changed += 1,
            Err(error) => self.fail(order, None, error),
        }
    }

    /// Notes that an entry, or the directory itself, could not be made right.
    pub fn fail(&self, order: &Order<'_>, name: Option<&CStr>, error: Error) {
        self.spoil();
        order.tally.fail(|| self.path(order, name), error);
    }

    /// The path by which the walk came here, for messages.
    fn path(&self, order: &Order<'_>, name: Option<&CStr>) -> String {
        let mut names: Vec<&CStr> = name.into_iter().collect();
        let mut directory = self;
        while let Some(parent) = &directory.parent {
            names.push(&directory.name);
            directory = parent;
        }
        names.iter().rev().fold(order.path.to_owned(), |path, name| path + "/" + &lossy(name))
    }
}
