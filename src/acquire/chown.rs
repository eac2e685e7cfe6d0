//! `--chown`: a tree belongs to the target, and nothing outside it has changed, whoever stirs in it meanwhile.
//!
//! Each entry is held by descriptor from the look to the change. A directory is changed after all that it
//! holds, so an interrupted run is redone, and never while something below it is wrong.

use std::cell::OnceCell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, anyhow, bail};
use nix::errno::Errno;

use super::{find, is_missing, may_be_made, system_paths};
use crate::cli::{Chown, ChownPolicy, Demand};
use crate::failure::{call, hinted, lossy, warn};
use crate::ids::{Gid, Uid};
use crate::pathwalk::{self, Found};
use crate::plan::Plan;
use crate::sys::{self, FileFacts};

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
    let option = option(wanted.demand);
    system_paths::refuse_name(option, &wanted.path)?;
    let missing = pathwalk::find(&wanted.path).is_err_and(|error| is_missing(&error));
    if missing && (wanted.demand == Demand::May || may_be_made(&wanted.path, plan)) {
        return Ok(());
    }
    let found = find(option, &wanted.path)?;
    system_paths::refuse_file(&found.file).with_context(|| format!("{option} {}", lossy(&wanted.path)))
}

fn option(demand: Demand) -> &'static str {
    match demand {
        Demand::Must => "--chown",
        Demand::May => "--chown-if-possible",
    }
}

fn own_tree(wanted: &Chown, plan: &Plan) -> Result<(), Error> {
    let path = lossy(&wanted.path).into_owned();
    let top = find(option(wanted.demand), &wanted.path)?;
    system_paths::refuse_file(&top.file).with_context(|| format!("{} {path}", option(wanted.demand)))?;
    let facts = sys::facts(top.file.as_fd()).map_err(|errno| call(format_args!("--chown {path}: statx"), errno))?;
    let mut walk = Walk::new(&path, plan.identity.uid, plan.identity.gid, facts.mount);
    if plan.chown_policy == ChownPolicy::OnRootMismatch && walk.is_right(&facts) {
        return Ok(());
    }
    if facts.is_directory() {
        walk.tree(&top).with_context(|| format!("--chown {path}"))?;
    } else {
        walk.other(top.directory.as_fd(), &top.name);
    }
    walk.conclude()
}

/// How many ancestors are held open. Deeper down they are closed, and found again through `..`.
const HELD: usize = 64;

/// An entry that turns from directory to file and back this often is somebody's game.
const PATIENCE: u32 = 16;

/// What getdents64 is given.
const BUFFER: usize = 32 * 1024;

struct Walk<'a> {
    top: &'a str,
    uid: Uid,
    gid: Gid,
    mount: u64,
    hard_links: OnceCell<HardLinks>,
    levels: Vec<Level>,
    tally: Tally,
}

/// A directory that is being read.
struct Level {
    /// Closed while the walk is far below.
    open: Option<Rc<OwnedFd>>,
    facts: FileFacts,
    name: CString,
    /// Directories in it, not yet entered.
    below: Vec<CString>,
    /// Something below could not be made right, so this must not become right.
    spoiled: bool,
}

#[derive(Default)]
struct Tally {
    seen: u64,
    changed: u64,
    failed: u64,
    first: Option<Error>,
    progress: Option<Progress>,
}

/// Whether others may make hard links to files that are not theirs (proc(5), fs.protected_hardlinks).
#[derive(Clone, Copy, PartialEq, Eq)]
enum HardLinks {
    Protected,
    Unprotected,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Other,
    Gone,
}

impl<'a> Walk<'a> {
    fn new(top: &'a str, uid: Uid, gid: Gid, mount: u64) -> Self {
        Self { top, uid, gid, mount, hard_links: OnceCell::new(), levels: Vec::new(), tally: Tally::new() }
    }

    fn is_right(&self, facts: &FileFacts) -> bool {
        facts.uid == self.uid.get() && facts.gid == self.gid.get()
    }

    /// Walks the directory and all below, the deepest first.
    fn tree(&mut self, top: &Found) -> Result<(), Error> {
        let mut buffer = vec![0; BUFFER];
        self.enter(top.file.as_fd(), c".", &mut buffer).map_err(|errno| call("open", errno))?;
        while let Some(level) = self.levels.last_mut() {
            match level.below.pop() {
                Some(name) => self.descend(&name, &mut buffer)?,
                None => self.finish()?,
            }
        }
        Ok(())
    }

    /// Opens a directory, deals with what it holds besides directories, and makes it the present one; unless
    /// it is another mount's.
    fn enter(&mut self, parent: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> Result<(), Errno> {
        let open = Rc::new(sys::open_at(parent, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK)?);
        let facts = sys::facts(open.as_fd())?;
        if facts.mount != self.mount {
            return Ok(());
        }
        self.tally.see();
        self.levels.push(Level { open: Some(Rc::clone(&open)), facts, name: name.to_owned(), below: Vec::new(), spoiled: false });
        // The top stays open: nobody may move it from under us.
        if let Some(far) = self.levels.len().checked_sub(HELD).filter(|&far| far > 0).and_then(|far| self.levels.get_mut(far)) {
            far.open = None;
        }
        self.read_all(&open, buffer);
        Ok(())
    }

    /// Reads the present directory to its end, so that no place in it need be found again.
    fn read_all(&mut self, directory: &OwnedFd, buffer: &mut [u8]) {
        loop {
            let count = match sys::getdents(directory.as_fd(), buffer) {
                // ENOENT: removed while it was read, and so empty.
                Ok(0) | Err(Errno::ENOENT) => return,
                Ok(count) => count,
                Err(errno) => return self.fail(None, call("getdents64", errno)),
            };
            for entry in sys::entries(buffer.get(..count).unwrap_or_default()) {
                if entry.says_directory || self.other(directory.as_fd(), entry.name) == Kind::Directory {
                    self.levels.last_mut().into_iter().for_each(|level| level.below.push(entry.name.to_owned()));
                }
            }
        }
    }

    /// Enters a directory of the present one. What has become something else is dealt with as that.
    fn descend(&mut self, name: &CStr, buffer: &mut [u8]) -> Result<(), Error> {
        let directory = self.present()?;
        for _ in 0..PATIENCE {
            match self.enter(directory.as_fd(), name, buffer) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    if self.other(directory.as_fd(), name) != Kind::Directory {
                        return Ok(());
                    }
                }
                Err(errno) => {
                    self.fail(Some(name), call("open", errno));
                    return Ok(());
                }
            }
        }
        self.fail(Some(name), anyhow!("it keeps changing between a directory and something else"));
        Ok(())
    }

    /// The directory that the walk is in; finish() sees to it that it is open.
    fn present(&self) -> Result<Rc<OwnedFd>, Error> {
        match self.levels.last().and_then(|level| level.open.as_ref()) {
            Some(open) => Ok(Rc::clone(open)),
            None => bail!("the walk lost its directory"),
        }
    }

    /// Leaves the present directory, which is changed now that all below it is right.
    fn finish(&mut self) -> Result<(), Error> {
        let open = self.present()?;
        if self.levels.last().is_some_and(|level| !level.spoiled && !self.is_right(&level.facts)) {
            match sys::chown(open.as_fd(), self.uid, Some(self.gid)) {
                Ok(()) => self.tally.changed += 1,
                Err(errno) => self.fail(None, self.chown_failed(errno)),
            }
        }
        let spoiled = self.levels.pop().is_some_and(|level| level.spoiled);
        let path = self.path(None);
        let Some(parent) = self.levels.last_mut() else { return Ok(()) };
        parent.spoiled |= spoiled;
        if parent.open.is_none() {
            parent.open = Some(Rc::new(parent_again(&open, &parent.facts).with_context(|| path)?));
        }
        Ok(())
    }

    /// Deals with an entry that is no directory; says what it is.
    fn other(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> Kind {
        match self.try_other(directory, name) {
            Ok(kind) => kind,
            Err(error) => {
                self.fail(Some(name), error);
                Kind::Other
            }
        }
    }

    fn try_other(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> Result<Kind, Error> {
        let facts = match sys::facts_at(directory, name) {
            Ok(facts) => facts,
            Err(Errno::ENOENT) => return Ok(Kind::Gone),
            Err(errno) => return Err(call("statx", errno)),
        };
        if facts.is_directory() {
            return Ok(Kind::Directory);
        }
        self.tally.see();
        if self.is_right(&facts) || facts.mount != self.mount {
            return Ok(Kind::Other);
        }
        let file = match sys::open_at(directory, name, libc::O_PATH) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(Kind::Gone),
            Err(errno) => return Err(call("open", errno)),
        };
        // The name may stand for something else by now; what is held can't.
        let facts = sys::facts(file.as_fd()).map_err(|errno| call("statx", errno))?;
        if facts.is_directory() {
            return Ok(Kind::Directory);
        }
        if self.is_right(&facts) || facts.mount != self.mount {
            return Ok(Kind::Other);
        }
        self.refuse_foreign_links(directory, name, &facts)?;
        sys::chown(file.as_fd(), self.uid, Some(self.gid)).map_err(|errno| self.chown_failed(errno))?;
        self.tally.changed += 1;
        Ok(Kind::Other)
    }

    /// A hard link may be anybody's way to have a file from elsewhere changed: /etc/shadow by another name.
    fn refuse_foreign_links(&self, directory: BorrowedFd<'_>, name: &CStr, facts: &FileFacts) -> Result<(), Error> {
        if *self.hard_links.get_or_init(HardLinks::read) == HardLinks::Protected {
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

    fn chown_failed(&self, errno: Errno) -> Error {
        call(format_args!("fchownat({}, {})", self.uid, self.gid), errno)
    }

    /// Notes what could not be made right; the walk goes on.
    fn fail(&mut self, name: Option<&CStr>, error: Error) {
        self.tally.failed += 1;
        if self.tally.first.is_none() {
            self.tally.first = Some(error.context(self.path(name)));
        }
        if let Some(level) = self.levels.last_mut() {
            level.spoiled = true;
        }
    }

    /// The path of an entry of the present directory, for messages.
    fn path(&self, name: Option<&CStr>) -> String {
        let below = self.levels.iter().skip(1).map(|level| level.name.as_c_str()).chain(name);
        below.fold(self.top.to_owned(), |path, name| format!("{path}/{}", lossy(name)))
    }

    fn conclude(self) -> Result<(), Error> {
        let Tally { seen, changed, failed, first, progress } = self.tally;
        if let Some(progress) = progress {
            progress.conclude(self.top, seen, changed);
        }
        let Some(first) = first else { return Ok(()) };
        let hint = first.downcast_ref().map(|errno| match errno {
            Errno::EPERM => "CAP_CHOWN is missing, or the file system forbids it (an immutable file, NFS root_squash)",
            Errno::EACCES => "CAP_DAC_READ_SEARCH is missing to look into it (Docker: --cap-add DAC_READ_SEARCH)",
            Errno::EROFS => "it is mounted read-only; --chown-if-possible goes on with a warning",
            Errno::EINVAL | Errno::EOVERFLOW => "the id has no place in this user namespace or mount",
            _ => "--chown-if-possible goes on with a warning",
        });
        let error = first.context(format!("--chown: {failed} of {seen} entries can't be changed, the first"));
        Err(match hint {
            Some(hint) => hinted(format!("{error:#}"), hint),
            None => error,
        })
    }
}

/// Opens the directory above through `..`, and makes sure that it is the one the walk came by.
fn parent_again(child: &OwnedFd, known: &FileFacts) -> Result<OwnedFd, Error> {
    let open = sys::open_at(child.as_fd(), c"..", libc::O_RDONLY | libc::O_DIRECTORY).map_err(|errno| call("open", errno))?;
    let facts = sys::facts(open.as_fd()).map_err(|errno| call("statx", errno))?;
    if (facts.identity, facts.mount) != (known.identity, known.mount) {
        bail!("a directory was moved while the walk was below it");
    }
    Ok(open)
}

impl HardLinks {
    /// Without /proc nobody can say that they are protected.
    fn read() -> Self {
        match std::fs::read("/proc/sys/fs/protected_hardlinks") {
            Ok(value) if value.trim_ascii() == b"1" => Self::Protected,
            _ => Self::Unprotected,
        }
    }
}

/// How long a run is silent.
const SILENCE: Duration = Duration::from_secs(2);

/// What is said of a long run: a line that renews itself on a terminal, one summary anywhere else.
struct Progress {
    begun: Instant,
    told: Instant,
    on_terminal: bool,
}

impl Tally {
    fn new() -> Self {
        let now = Instant::now();
        let progress = Progress { begun: now, told: now, on_terminal: sys::is_terminal(libc::STDERR_FILENO) };
        Self { progress: Some(progress), ..Self::default() }
    }

    fn see(&mut self) {
        self.seen += 1;
        if self.seen.is_multiple_of(256)
            && let Some(progress) = &mut self.progress
        {
            progress.tell(self.seen, self.changed);
        }
    }
}

impl Progress {
    fn tell(&mut self, seen: u64, changed: u64) {
        if self.on_terminal && self.told.elapsed() > Duration::from_millis(200) && self.begun.elapsed() > SILENCE {
            self.told = Instant::now();
            let rate = seen / self.begun.elapsed().as_secs().max(1);
            sys::write_stderr(&format!("\rstepdown: {seen} entries looked at, {changed} changed, {rate}/s "));
        }
    }

    fn conclude(&self, top: &str, seen: u64, changed: u64) {
        let took = self.begun.elapsed();
        if took > SILENCE {
            let start = if self.on_terminal { "\r" } else { "" };
            let top = crate::failure::Printable(top);
            sys::write_stderr(&format!(
                "{start}stepdown: --chown {top}: {seen} entries looked at, {changed} changed in {} s\n",
                took.as_secs()
            ));
        }
    }
}
