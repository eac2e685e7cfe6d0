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
use crate::sys::{self, FileFacts};

/// Makes the directory, or makes an existing one right.
pub fn make(wanted: &Mkdir, target: &Identity) -> Result<(), Error> {
    make_path(wanted, target).with_context(|| format!("--mkdir {}", lossy(&wanted.path)))
}

/// Refuses, before anything has changed, what is there and can't be the directory.
pub fn check(wanted: &Mkdir) -> Result<(), Error> {
    system_paths::refuse_name("--mkdir", &wanted.path)?;
    match look(wanted) {
        // It will be made, or what is above it.
        Err(error) if is_missing(&error) => Ok(()),
        other => other.with_context(|| format!("--mkdir {}", lossy(&wanted.path))),
    }
}

fn look(wanted: &Mkdir) -> Result<(), Error> {
    let parent = pathwalk::find_parent(&wanted.path, None)?;
    let there = sys::facts_at(parent.directory.as_fd(), &parent.name).map_err(|errno| call("statx", errno))?;
    existing(wanted, &parent, &there).map(drop)
}

fn make_path(wanted: &Mkdir, target: &Identity) -> Result<(), Error> {
    let parent = pathwalk::find_parent(&wanted.path, Some(&|at, name| make_above(at, name)))?;
    let there = match sys::facts_at(parent.directory.as_fd(), &parent.name) {
        Ok(facts) => facts,
        Err(Errno::ENOENT) => {
            create(&parent.directory, &parent.name)?;
            sys::facts_at(parent.directory.as_fd(), &parent.name).map_err(|errno| call("statx", errno))?
        }
        Err(errno) => return Err(call("statx", errno)),
    };
    let (directory, facts) = existing(wanted, &parent, &there)?;
    // The mode first: an owner who is not us may be changed by CAP_CHOWN alone, a mode not.
    if facts.mode & 0o7777 != wanted.mode {
        set_mode(&directory, wanted.mode)?;
    }
    if (facts.uid, facts.gid) != (target.uid.get(), target.gid.get()) {
        sys::chown(directory.as_fd(), target.uid, Some(target.gid))
            .map_err(|errno| call(format_args!("fchownat({}, {})", target.uid, target.gid), errno))?;
    }
    Ok(())
}

/// Opens what is there, if it is a directory and not the system's.
fn existing(wanted: &Mkdir, parent: &Parent, there: &FileFacts) -> Result<(OwnedFd, FileFacts), Error> {
    // A link at the end leads to an existing directory, or is refused, by the rules of every path.
    let directory = if there.is_symlink() {
        pathwalk::find(&wanted.path)?.file
    } else {
        sys::open_at(parent.directory.as_fd(), &parent.name, libc::O_PATH).map_err(|errno| call("open", errno))?
    };
    let facts = sys::facts(directory.as_fd()).map_err(|errno| call("statx", errno))?;
    if !facts.is_directory() {
        bail!("it exists and is no directory");
    }
    system_paths::refuse_file(&directory)?;
    Ok((directory, facts))
}

/// A directory on the way: root's, and others may pass through it, whatever the umask.
fn make_above(at: &OwnedFd, name: &CStr) -> Result<(), Error> {
    create(at, name)?;
    let made = sys::open_at(at.as_fd(), name, libc::O_PATH | libc::O_DIRECTORY)
        .map_err(|errno| call(format_args!("open({})", lossy(name)), errno))?;
    let facts = sys::facts(made.as_fd()).map_err(|errno| call("statx", errno))?;
    if facts.uid != nix::unistd::geteuid().as_raw() {
        bail!("'{}' was replaced while it was made", lossy(name));
    }
    set_mode(&made, 0o755)
}

fn create(at: &OwnedFd, name: &CStr) -> Result<(), Error> {
    match mkdirat(at, name, Mode::S_IRWXU) {
        // Somebody else was faster; what they made is looked at like anything that was there.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(call(format_args!("mkdir({})", lossy(name)), errno)),
    }
}

/// fchmod(2) takes no O_PATH descriptor, so the directory is opened again through the one we hold.
fn set_mode(directory: &OwnedFd, mode: u32) -> Result<(), Error> {
    let open =
        sys::open_at(directory.as_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY).map_err(|errno| call("open(.)", errno))?;
    fchmod(&open, Mode::from_bits_truncate(mode)).map_err(|errno| call(format_args!("fchmod({mode:04o})"), errno))
}
