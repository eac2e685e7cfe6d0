//! Walking a path name by name, each held by descriptor, so that nobody below can lead root astray.
//!
//! A symbolic link is followed only where it is root's and nobody but root could have put any name on the way there
//! ([`Placed`]). `protected_symlinks` of proc(5) guards only sticky directories.
//!
//! Links of procfs are not what they read like: the kernel goes to the file itself, which may have another name by now,
//! in another mount namespace, or none. So those of our own process go where the kernel takes them. What another
//! process has open is that process's to choose, whoever /proc says it belongs to: those links are refused.

mod placed;

pub use placed::{Placed, Trusted};

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Error, bail};
use nix::errno::Errno;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC, fstatfs};

use crate::failure::{call, hinted, lossy};
use crate::sys::{self, FileFacts};

/// Where a path led.
pub struct Found {
    /// The file itself, opened with O_PATH; never a symbolic link.
    pub file: OwnedFd,
    /// What the file was like when the walk came to it.
    pub facts: FileFacts,
    /// Its directory.
    pub directory: OwnedFd,
    /// Its name there; `.` or `..` where the path ends so.
    pub name: CString,
    /// Who could have put a name on the way there.
    pub placed: Placed,
    /// What the name is.
    pub entry: Entry,
}

/// What stands in a directory by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The file.
    File,
    /// A link of procfs to a file that this process has open.
    Descriptor,
}

/// The directory that a path's last name stands in.
pub struct Parent {
    /// The directory, opened with O_PATH.
    pub directory: OwnedFd,
    /// What it was like when the walk came to it.
    pub facts: FileFacts,
    /// The last name.
    pub name: CString,
    /// Who could have put a name on the way to the directory there.
    pub placed: Placed,
}

/// symlink(7)'s limit.
const LINKS_MAX: u32 = 40;

struct Walk {
    trusted: Trusted,
    at: OwnedFd,
    at_facts: FileFacts,
    /// The names still to go, the next one last.
    ahead: Vec<CString>,
    links: u32,
    placed: Placed,
}

/// A name of the path that led to a file.
struct Step {
    file: OwnedFd,
    facts: FileFacts,
    entry: Entry,
}

/// What to do about a name that is not there: makes a directory and holds it. None where something has the name by now.
pub type Missing<'a> = &'a dyn Fn(&OwnedFd, &CStr) -> Result<Option<OwnedFd>, Error>;

/// Finds the file that a path leads to.
pub fn find(path: &CStr) -> Result<Found, Error> {
    let mut walk = Walk::begin(path)?;
    let mut found = None;
    while let Some(name) = walk.ahead.pop() {
        // A link leaves nothing found: the rest of it may be empty, as in "/" or ".".
        found = match walk.step(&name)? {
            Some(Step { file, facts, entry }) => {
                let directory = walk.go_to(duplicate(&file)?, facts);
                Some(Found { file, facts, directory, name, placed: walk.placed, entry })
            }
            None => None,
        };
    }
    match found {
        Some(found) => Ok(found),
        None => {
            let (file, facts) = (duplicate(&walk.at)?, walk.at_facts);
            Ok(Found { file, facts, directory: walk.at, name: c".".to_owned(), placed: walk.placed, entry: Entry::File })
        }
    }
}

/// Finds the directory of a path's last name, which need not exist. `missing` may make directories that
/// are missing on the way.
pub fn find_parent(path: &CStr, missing: Option<Missing<'_>>) -> Result<Parent, Error> {
    let mut walk = Walk::begin(path)?;
    loop {
        let Some(name) = walk.ahead.pop() else { bail!("the path ends in no name") };
        if walk.ahead.is_empty() {
            if name.as_c_str() == c".." {
                bail!("the path ends in '..'");
            }
            return walk.into_parent(name);
        }
        let mut step = walk.step(&name);
        if let (Err(error), Some(make)) = (&step, missing)
            && error.downcast_ref() == Some(&Errno::ENOENT)
        {
            // What was made is held, and not looked for by its name: that may be another directory's by now.
            match make(&walk.at, &name)? {
                Some(made) => {
                    let facts = facts(&made, &name)?;
                    walk.go_to(made, facts);
                    continue;
                }
                None => step = walk.step(&name),
            }
        }
        if let Some(Step { file, facts, .. }) = step? {
            walk.go_to(file, facts);
        }
    }
}

impl Found {
    /// Refuses a file that somebody may have put in the place of the one that was meant. `target` is whom the file is for.
    pub fn is_meant(&self, target: Option<u32>) -> Result<(), Error> {
        if self.placed.stands_for(self.facts.uid, target) { Ok(()) } else { Err(self.placed.refusal(self.facts.uid)) }
    }
}

impl Parent {
    /// Refuses a directory that somebody may have put in the place of the one that was meant.
    pub fn is_meant(&self, target: Option<u32>) -> Result<(), Error> {
        let owner = self.facts.uid;
        if self.placed.stands_for(owner, target) { Ok(()) } else { Err(self.placed.refusal(owner).context("its directory")) }
    }
}

impl Walk {
    fn begin(path: &CStr) -> Result<Self, Error> {
        let start = if path.to_bytes().starts_with(b"/") { c"/" } else { c"." };
        let at = open_start(start)?;
        let at_facts = facts(&at, start)?;
        let mut walk = Self { trusted: Trusted::read()?, at, at_facts, ahead: Vec::new(), links: 0, placed: Placed::ByTrusted };
        walk.push(path.to_bytes())?;
        Ok(walk)
    }

    /// Gives back where the walk was.
    fn go_to(&mut self, file: OwnedFd, facts: FileFacts) -> OwnedFd {
        self.at_facts = facts;
        std::mem::replace(&mut self.at, file)
    }

    /// The last name has no file to open, whose lack of a directory would be told.
    fn into_parent(self, name: CString) -> Result<Parent, Error> {
        if !self.at_facts.is_directory() {
            return Err(call(format_args!("open({})", lossy(&name)), Errno::ENOTDIR));
        }
        Ok(Parent { directory: self.at, facts: self.at_facts, name, placed: self.placed })
    }

    /// Puts the names of a path in front of those still to go.
    fn push(&mut self, path: &[u8]) -> Result<(), Error> {
        for name in path.split(|&byte| byte == b'/').rev() {
            if !name.is_empty() && name != b"." {
                self.ahead.push(CString::new(name)?);
            }
        }
        Ok(())
    }

    /// Opens the next name; `None` where it was a symbolic link, whose names are ahead now.
    fn step(&mut self, name: &CStr) -> Result<Option<Step>, Error> {
        let file = sys::open_at(self.at.as_fd(), name, libc::O_PATH)
            .map_err(|errno| call(format_args!("open({})", lossy(name)), errno))?;
        let (directory, facts) = (self.at_facts, facts(&file, name)?);
        let placed = self.placed.and(self.placed_here(name, &directory, &file, &facts)?);
        if !facts.is_symlink() {
            self.placed = placed;
            return Ok(Some(Step { file, facts, entry: Entry::File }));
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(call(format_args!("open({})", lossy(name)), Errno::ELOOP));
        }
        if is_on(&file, PROC_SUPER_MAGIC)? && directory.identity.2 != PROC_ROOT_INODE {
            return self.follow_on_procfs(name, &directory).map(Some);
        }
        if placed != Placed::ByTrusted || !self.trusted.includes(facts.uid) {
            return Err(not_followed(self.trusted, name, &directory, &facts));
        }
        let target =
            nix::fcntl::readlinkat(&file, c"").map_err(|errno| call(format_args!("readlink({})", lossy(name)), errno))?;
        let target = std::os::unix::ffi::OsStringExt::into_vec(target);
        if target.starts_with(b"/") {
            self.at = open_start(c"/")?;
            self.at_facts = self::facts(&self.at, c"/")?;
        }
        self.push(&target)?;
        Ok(None)
    }

    fn placed_here(&self, name: &CStr, directory: &FileFacts, file: &OwnedFd, facts: &FileFacts) -> Result<Placed, Error> {
        // Nobody can give a directory another `..`, but who moves the directory itself, by a name before.
        if name == c".." {
            return Ok(Placed::ByTrusted);
        }
        let placed = self.trusted.placed(directory, facts);
        // A mount is root's doing, and its name can't be changed while it is there; but fusermount(1) mounts for anybody.
        let is_roots_mount = placed != Placed::ByTrusted && facts.mount != directory.mount && !is_on(file, FUSE_SUPER_MAGIC)?;
        Ok(if is_roots_mount { Placed::ByTrusted } else { placed })
    }

    /// Follows a link of our own process as the kernel does, and no other one.
    fn follow_on_procfs(&self, name: &CStr, directory: &FileFacts) -> Result<Step, Error> {
        let shown = lossy(name);
        let is_here =
            |place| sys::open_at_following(nix::fcntl::AT_FDCWD, place, libc::O_PATH).and_then(|own| sys::facts(own.as_fd()));
        let is_own = [c"/proc/self/fd", c"/proc/self"]
            .into_iter()
            .any(|place| is_here(place).is_ok_and(|own| own.identity == directory.identity));
        if !is_own {
            return Err(hinted(
                format!(
                    "'{shown}' in /proc is not followed: it leads to what another process has open, and that process chooses"
                ),
                "name the file itself",
            ));
        }
        let file = sys::open_at_following(self.at.as_fd(), name, libc::O_PATH)
            .map_err(|errno| call(format_args!("open({shown})"), errno))?;
        let facts = facts(&file, name)?;
        Ok(Step { file, facts, entry: Entry::Descriptor })
    }
}

/// Says whose doing a link may be.
fn not_followed(trusted: Trusted, name: &CStr, directory: &FileFacts, link: &FileFacts) -> Error {
    let why = if !trusted.includes(link.uid) || !trusted.includes(directory.uid) {
        format!("it belongs to uid {} and its directory to uid {}, not to root", link.uid, directory.uid)
    } else if directory.mode & libc::S_ISVTX != 0 && link.links > 1 {
        format!("it has {} names, and others than root may have given it this one", link.links)
    } else if directory.mode & 0o022 != 0 {
        let (mode, gid) = (directory.mode & 0o7777, directory.gid);
        format!("others than root may write to its directory (mode {mode:04o}, gid {gid}), and so may have put it there")
    } else {
        "others than root may have put a directory on the way to it there".to_owned()
    };
    Error::msg(format!("the symbolic link '{}' is not followed: {why}", lossy(name)))
}

/// The number of procfs' own top directory, PROC_ROOT_INO: `self`, `mounts` and `net` in it read as what they are.
const PROC_ROOT_INODE: u64 = 1;

fn is_on(file: &OwnedFd, kind: FsType) -> Result<bool, Error> {
    fstatfs(file).map(|found| found.filesystem_type() == kind).map_err(|errno| call("fstatfs", errno))
}

fn facts(file: &OwnedFd, name: &CStr) -> Result<FileFacts, Error> {
    sys::facts(file.as_fd()).map_err(|errno| call(format_args!("statx({})", lossy(name)), errno))
}

fn open_start(start: &CStr) -> Result<OwnedFd, Error> {
    sys::open_at(nix::fcntl::AT_FDCWD, start, libc::O_PATH | libc::O_DIRECTORY)
        .map_err(|errno| call(format_args!("open({})", lossy(start)), errno))
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    sys::duplicate_above(fd.as_fd(), 3).map_err(|errno| call("fcntl(F_DUPFD_CLOEXEC)", errno))
}
