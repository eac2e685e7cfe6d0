//! `--mkdir`: a directory that exists, belongs to the target and has its mode. What is made above it stays root's.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Error, bail};
use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, mkdirat};

use super::{is_missing, system_paths};
use crate::cli::Mkdir;
use crate::failure::{call, lossy};
use crate::identity::Identity;
use crate::pathwalk::{self, Parent};
use crate::sys::{self, Entries, FileFacts};

/// Makes the directory, or makes an existing one right.
pub fn make(wanted: &Mkdir, target: &Identity) -> Result<(), Error> {
    make_path(wanted, target).with_context(|| format!("--mkdir {}", lossy(&wanted.path)))
}

/// Refuses, before anything has changed, what is there and can't be the directory.
pub fn check(wanted: &Mkdir, target: &Identity) -> Result<(), Error> {
    system_paths::refuse_name("--mkdir", &wanted.path)?;
    let looked = find_parent(wanted, target, None).and_then(|_| existing(wanted, target).map(drop));
    match looked {
        // It will be made, or what is above it.
        Err(error) if is_missing(&error) => Ok(()),
        other => other.with_context(|| format!("--mkdir {}", lossy(&wanted.path))),
    }
}

fn make_path(wanted: &Mkdir, target: &Identity) -> Result<(), Error> {
    let parent = find_parent(wanted, target, Some(&make_above))?;
    let directory = match existing(wanted, target) {
        Err(error) if is_missing(&error) => match create(&parent.directory, &parent.name)? {
            Some(made) => made,
            None => existing(wanted, target)?,
        },
        found => found?,
    };
    let facts = facts(&directory)?;
    // The mode first: an owner who is not us may be changed by CAP_CHOWN alone, a mode not.
    if facts.mode & 0o7777 != wanted.mode {
        set_mode(&directory, wanted.mode)?;
    }
    let owner = (target.uid.get(), target.gid.get());
    if (facts.uid, facts.gid) != owner {
        sys::chown(directory.as_fd(), target.uid, Some(target.gid))
            .map_err(|errno| call(format_args!("fchownat({}, {})", target.uid, target.gid), errno))?;
    }
    is_right(&directory, owner, wanted.mode)
}

/// What a call claims is not what the file system holds (CIFS, FUSE, a filter that answers 0).
fn is_right(directory: &OwnedFd, owner: (u32, u32), mode: u32) -> Result<(), Error> {
    let now = facts(directory)?;
    if (now.uid, now.gid, now.mode & 0o7777) != (owner.0, owner.1, mode) {
        let (uid, gid, mode) = (now.uid, now.gid, now.mode & 0o7777);
        bail!("the file system says that all went well, and it still belongs to {uid}:{gid} and has mode {mode:04o}");
    }
    Ok(())
}

/// The directory that it is, or is to be, in.
fn find_parent(wanted: &Mkdir, target: &Identity, missing: Option<pathwalk::Missing<'_>>) -> Result<Parent, Error> {
    let parent = pathwalk::find_parent(&wanted.path, missing)?;
    parent.is_meant(Some(target.uid.get()))?;
    system_paths::refuse_kernels_own(&parent.directory, &parent.directory)?;
    Ok(parent)
}

/// Opens what is there, if it is a directory, the one that was meant, and not the system's. ENOENT where nothing is.
fn existing(wanted: &Mkdir, target: &Identity) -> Result<OwnedFd, Error> {
    let found = pathwalk::find(&wanted.path)?;
    if !found.facts.is_directory() {
        bail!("it exists and is no directory");
    }
    // One that an interrupted run has left is still as it was made.
    if !is_just_made(&found.file, &found.facts)? {
        found.is_meant(Some(target.uid.get()))?;
    }
    system_paths::refuse_file(&found.file, &found.directory)?;
    Ok(found.file)
}

/// A directory on the way: root's, and others may pass through it, whatever the umask.
fn make_above(at: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, Error> {
    const MODE: u32 = 0o755;
    system_paths::refuse_kernels_own(at, at)?;
    let Some(made) = create(at, name)? else { return Ok(None) };
    set_mode(&made, MODE)?;
    let own = facts(&made)?;
    is_right(&made, (own.uid, own.gid), MODE).with_context(|| format!("'{}', above it", lossy(name)))?;
    Ok(Some(made))
}

/// The mode of a directory that was made a moment ago and is not handed over yet: no other directory has it.
const JUST_MADE: u32 = libc::S_ISVTX | 0o700;

/// Makes a directory and holds it. There is no call that does both, so that somebody who may write to `at` can put
/// another directory in its place in between; but none that is ours, empty, and has the mode that only this program gives.
/// What is done to it then is done to nothing else. None where somebody else was faster, or where it is another one: that
/// is looked at like anything that was there.
fn create(at: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, Error> {
    let mask = sys::umask(0).map_err(|errno| call("umask(0)", errno))?;
    let made = mkdirat(at, name, Mode::from_bits_truncate(JUST_MADE));
    sys::umask(mask).map_err(|errno| call("umask", errno))?;
    match made {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(None),
        Err(errno) => return Err(call(format_args!("mkdir({})", lossy(name)), errno)),
    }
    match sys::open_at(at.as_fd(), name, libc::O_RDONLY | libc::O_DIRECTORY) {
        Ok(directory) => {
            let found = facts(&directory)?;
            match is_just_made(&directory, &found)? {
                // Left as it is, nobody could pass through it.
                false if has_that_mode(&found) => bail!("{} has the mode of one just made, and is another's", lossy(name)),
                made => Ok(made.then_some(directory)),
            }
        }
        // A link, a file, or nothing.
        Err(Errno::ELOOP | Errno::ENOTDIR | Errno::ENOENT | Errno::EACCES) => Ok(None),
        Err(errno) => Err(call(format_args!("open({})", lossy(name)), errno)),
    }
}

/// A set-group-ID directory hands that bit on.
fn is_just_made(directory: &OwnedFd, facts: &FileFacts) -> Result<bool, Error> {
    let as_made = has_that_mode(facts) && facts.uid == nix::unistd::geteuid().as_raw();
    Ok(as_made && is_empty(directory)?)
}

fn has_that_mode(facts: &FileFacts) -> bool {
    facts.mode & 0o7777 & !libc::S_ISGID == JUST_MADE
}

fn is_empty(directory: &OwnedFd) -> Result<bool, Error> {
    let mut entries = Entries::with_room(1024);
    let open =
        sys::open_at(directory.as_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY).map_err(|errno| call("open(.)", errno))?;
    entries.read(open.as_fd()).map_err(|errno| call("getdents64", errno))?;
    Ok(entries.next().is_none())
}

fn facts(directory: &OwnedFd) -> Result<FileFacts, Error> {
    sys::facts(directory.as_fd()).map_err(|errno| call("statx", errno))
}

/// fchmod(2) takes no O_PATH descriptor, so the directory is opened again through the one we hold.
fn set_mode(directory: &OwnedFd, mode: u32) -> Result<(), Error> {
    let open =
        sys::open_at(directory.as_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY).map_err(|errno| call("open(.)", errno))?;
    fchmod(&open, Mode::from_bits_truncate(mode)).map_err(|errno| call(format_args!("fchmod({mode:04o})"), errno))
}
