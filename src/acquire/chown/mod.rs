//! `--chown`: a tree belongs to the target, and nothing outside it has changed, whoever stirs in it meanwhile.
//!
//! Each entry that somebody could swap is held by descriptor from the look to the change ([`entry`]). A directory is changed after all
//! that it holds ([`tree`]), so an interrupted run is redone, and never while something below it is wrong. A
//! large tree is walked ([`walk`]) by as many threads as there are processors ([`crew`]); they are gone
//! when [`own`] returns.

mod crew;
mod entry;
mod progress;
mod tally;
mod tree;
mod walk;

use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Error, bail};
use nix::errno::Errno;

use self::entry::HardLinks;
use self::tally::{Counts, Tally};
use self::tree::Directory;
use super::{find, is_missing, may_be_made, system_paths};
use crate::cli::{Chown, ChownPolicy, Demand};
use crate::failure::{call, hinted, lossy, warn};
use crate::ids::{Gid, Uid};
use crate::pathwalk::{self, Found};
use crate::plan::Plan;
use crate::sys::FileFacts;

/// Makes a tree belong to the plan's target.
pub fn own(wanted: &Chown, plan: &Plan) -> Result<(), Error> {
    let result = own_tree(wanted, plan);
    match (result, wanted.demand) {
        (Err(error), Demand::May) => {
            warn(&format!("{error:#}"));
            Ok(())
        }
        (result, _) => result,
    }
}

/// Refuses, before anything has changed, a path that is missing or the system's.
pub fn check(wanted: &Chown, plan: &Plan) -> Result<(), Error> {
    system_paths::refuse_name(wanted.option, &wanted.path)?;
    let missing = pathwalk::find(&wanted.path).is_err_and(|error| is_missing(&error));
    if missing && (wanted.demand == Demand::May || may_be_made(&wanted.path, plan)) {
        return Ok(());
    }
    top_of(wanted, plan).map(drop)
}

/// Where PATH leads, if that is what was meant, and not the system's.
fn top_of(wanted: &Chown, plan: &Plan) -> Result<Found, Error> {
    let found = find(wanted.option, &wanted.path)?;
    let is_right =
        system_paths::refuse_file(&found.file, &found.directory).and_then(|()| found.is_meant(Some(plan.identity.uid.get())));
    is_right.with_context(|| format!("{} {}", wanted.option, lossy(&wanted.path)))?;
    Ok(found)
}

/// What is to become of a tree: the same for each thread that works at it.
struct Order<'a> {
    /// PATH, for messages.
    path: &'a str,
    uid: Uid,
    gid: Gid,
    /// The mount that is never left.
    mount: u64,
    hard_links: OnceLock<HardLinks>,
    tally: Tally<'a>,
}

impl Order<'_> {
    fn is_right(&self, facts: &FileFacts) -> bool {
        facts.uid == self.uid.get() && facts.gid == self.gid.get()
    }

    fn is_inside(&self, facts: &FileFacts) -> bool {
        facts.mount == self.mount
    }

    fn hard_links(&self) -> HardLinks {
        *self.hard_links.get_or_init(HardLinks::read)
    }

    /// Refuses what was changed, as the file system said, and is not (bindfs, CIFS, a filter that answers 0).
    fn has_changed(&self, now: Result<FileFacts, Errno>) -> Result<(), Error> {
        let now = now.map_err(|errno| call("statx", errno))?;
        if self.is_right(&now) {
            return Ok(());
        }
        bail!("fchownat({}, {}) succeeded, and it still belongs to {}:{}", self.uid, self.gid, now.uid, now.gid);
    }

    /// Names the call that changes an owner.
    fn chowned(&self, result: Result<(), Errno>) -> Result<(), Error> {
        result.map_err(|errno| call(format_args!("fchownat({}, {})", self.uid, self.gid), errno))
    }
}

fn own_tree(wanted: &Chown, plan: &Plan) -> Result<(), Error> {
    let (option, path) = (wanted.option, lossy(&wanted.path));
    let top = top_of(wanted, plan)?;
    let facts = top.facts;
    let order = Order {
        path: &path,
        uid: plan.identity.uid,
        gid: plan.identity.gid,
        mount: facts.mount,
        hard_links: OnceLock::new(),
        tally: Tally::new(option, &path, plan.verbosity),
    };
    if plan.chown_policy == ChownPolicy::OnRootMismatch && order.is_right(&facts) {
        return Ok(());
    }
    if facts.is_directory() {
        let open = tree::open(top.file.as_fd(), c".").map_err(|errno| call(format_args!("{option} {path}: open"), errno))?;
        crew::walk(&order, Arc::new(Directory::top(open, facts))).with_context(|| format!("{option} {path}"))?;
    } else {
        let mut counts = Counts::default();
        if let Err(error) = entry::own_found(&order, &top, &mut counts) {
            order.tally.fail(|| path.clone().into_owned(), error);
        }
        order.tally.add(&mut counts);
    }
    order.tally.conclude().map_err(with_hint)
}

fn with_hint(error: Error) -> Error {
    let hint = match error.downcast_ref() {
        Some(Errno::EPERM) => "CAP_CHOWN is missing, or the file system forbids it (an immutable file, NFS root_squash)",
        Some(Errno::EACCES) => "CAP_DAC_READ_SEARCH is missing to look into it (Docker: --cap-add DAC_READ_SEARCH)",
        Some(Errno::EROFS) => "it is mounted read-only; --chown-if-possible goes on with a warning",
        Some(Errno::EMFILE) => "raise the limit of open files (RLIMIT_NOFILE) where stepdown is started: ulimit -n",
        Some(Errno::EINVAL | Errno::EOVERFLOW) => "the id has no place in this user namespace or mount",
        Some(_) => "--chown-if-possible goes on with a warning",
        None => return error,
    };
    hinted(format!("{error:#}"), hint)
}
