//! Walking a path name by name, each held by descriptor, so that nobody below can lead root astray.
//!
//! A symbolic link is followed only where its directory and the link itself belong to root (or to us, where
//! we are not root): an attacker who may write somewhere along the path can make no other. `protected_symlinks`
//! of proc(5) guards only sticky directories. Where others may write to the directory the link must have no other
//! name: theirs may be a hard link to one of root's, which `protected_hardlinks` need not forbid.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Error, bail};
use nix::errno::Errno;

use crate::failure::{call, lossy};
use crate::sys::{self, FileFacts};

/// Where a path led.
pub struct Found {
    /// The file itself, opened with O_PATH; never a symbolic link.
    pub file: OwnedFd,
    /// Its directory.
    pub directory: OwnedFd,
    /// Its name there; `.` or `..` where the path ends so.
    pub name: CString,
    /// Whether nobody but root can change what any name on the way stands for.
    pub guarded: bool,
}

/// The directory that a path's last name stands in.
pub struct Parent {
    /// The directory, opened with O_PATH.
    pub directory: OwnedFd,
    /// The last name.
    pub name: CString,
    /// Whether nobody but root can change what any name on the way stands for.
    pub guarded: bool,
}

/// symlink(7)'s limit.
const LINKS_MAX: u32 = 40;

struct Walk {
    at: OwnedFd,
    /// The names still to go, the next one last.
    ahead: Vec<CString>,
    links: u32,
    guarded: bool,
}

/// What to do about a name that is not there.
pub type Missing<'a> = &'a dyn Fn(&OwnedFd, &CStr) -> Result<(), Error>;

/// Finds the file that a path leads to.
pub fn find(path: &CStr) -> Result<Found, Error> {
    let mut walk = Walk::begin(path)?;
    let mut found = None;
    while let Some(name) = walk.ahead.pop() {
        // A link leaves nothing found: the rest of it may be empty, as in "/" or ".".
        found = match walk.step(&name)? {
            Some(file) => {
                let directory = std::mem::replace(&mut walk.at, duplicate(&file)?);
                Some(Found { file, directory, name, guarded: walk.guarded })
            }
            None => None,
        };
    }
    match found {
        Some(found) => Ok(found),
        None => Ok(Found { file: duplicate(&walk.at)?, directory: walk.at, name: c".".to_owned(), guarded: walk.guarded }),
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
            walk.guarded &= walk.is_guarded(None)?;
            return Ok(Parent { directory: walk.at, name, guarded: walk.guarded });
        }
        let there = sys::facts_at(walk.at.as_fd(), &name);
        if let (Err(Errno::ENOENT), Some(make)) = (there, missing) {
            make(&walk.at, &name)?;
        }
        if let Some(file) = walk.step(&name)? {
            walk.at = file;
        }
    }
}

impl Walk {
    fn begin(path: &CStr) -> Result<Self, Error> {
        let start = if path.to_bytes().starts_with(b"/") { c"/" } else { c"." };
        let at = sys::open_at(nix::fcntl::AT_FDCWD, start, libc::O_PATH | libc::O_DIRECTORY)
            .map_err(|errno| call(format_args!("open({})", lossy(start)), errno))?;
        let mut walk = Self { at, ahead: Vec::new(), links: 0, guarded: true };
        walk.push(path.to_bytes())?;
        Ok(walk)
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
    fn step(&mut self, name: &CStr) -> Result<Option<OwnedFd>, Error> {
        let shown = lossy(name);
        let file =
            sys::open_at(self.at.as_fd(), name, libc::O_PATH).map_err(|errno| call(format_args!("open({shown})"), errno))?;
        let facts = sys::facts(file.as_fd()).map_err(|errno| call(format_args!("statx({shown})"), errno))?;
        self.guarded &= self.is_guarded(Some(&facts))?;
        if !facts.is_symlink() {
            return Ok(Some(file));
        }
        let directory = sys::facts(self.at.as_fd()).map_err(|errno| call("statx(.)", errno))?;
        let trusted = |uid: u32| uid == 0 || uid == nix::unistd::geteuid().as_raw();
        if !trusted(facts.uid) || !trusted(directory.uid) {
            bail!(
                "the symbolic link '{shown}' is not followed: it belongs to uid {} and its directory to uid {}, not to root",
                facts.uid,
                directory.uid
            );
        }
        if directory.mode & 0o022 != 0 && facts.links > 1 {
            bail!(
                "the symbolic link '{shown}' is not followed: it has {} names, and others than root may have given it this one",
                facts.links
            );
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(call(format_args!("open({shown})"), Errno::ELOOP));
        }
        let target = nix::fcntl::readlinkat(&file, c"").map_err(|errno| call(format_args!("readlink({shown})"), errno))?;
        let target = std::os::unix::ffi::OsStringExt::into_vec(target);
        if target.starts_with(b"/") {
            self.at = sys::open_at(nix::fcntl::AT_FDCWD, c"/", libc::O_PATH | libc::O_DIRECTORY)
                .map_err(|errno| call("open(/)", errno))?;
        }
        self.push(&target)?;
        Ok(None)
    }

    /// Whether only root decides what a name in the present directory stands for: the directory is root's,
    /// and others may not write to it, or may (sticky) but not replace root's entry. That a file is root's does not
    /// say that its name is: one of several may be a hard link of theirs.
    fn is_guarded(&self, entry: Option<&FileFacts>) -> Result<bool, Error> {
        let directory = sys::facts(self.at.as_fd()).map_err(|errno| call("statx(.)", errno))?;
        let writable = directory.mode & 0o022 != 0;
        let sticky = directory.mode & libc::S_ISVTX != 0;
        let is_roots = |entry: &FileFacts| entry.uid == 0 && (entry.is_directory() || entry.links == 1);
        Ok(directory.uid == 0 && (!writable || sticky && entry.is_none_or(is_roots)))
    }
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    sys::duplicate_above(fd.as_fd(), 3).map_err(|errno| call("fcntl(F_DUPFD_CLOEXEC)", errno))
}
