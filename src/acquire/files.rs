//! `--open`: files that are opened while root may, and handed on by the protocol in `activation`.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Error, anyhow, bail};
use nix::errno::Errno;

use crate::cli::{Access, Open};
use crate::failure::{call, hinted, lossy};
use crate::pathwalk::{self, Entry, Found};
use crate::plan::Plan;
use crate::sys::{self, FileFacts, Unread};

/// What may stand at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// A regular file.
    Regular,
    /// That, or a device.
    RegularOrDevice,
}

/// Opens one file.
pub fn open(wanted: &Open, plan: &Plan) -> Result<OwnedFd, Error> {
    let (flags, kinds) = how(wanted);
    let opened = find(&wanted.path, kinds).and_then(|found| open_found(&found, flags, plan)).and_then(|file| {
        // The command's reads and writes are to wait, as those of any file do.
        sys::clear_nonblocking(file.as_fd()).map_err(|errno| call("fcntl(F_SETFL)", errno))?;
        Ok(file)
    });
    opened.map_err(|error| explain("--open", &wanted.path, error))
}

/// Refuses, before anything has changed, what can't be opened. A device is only looked at: opening one may do something.
pub fn check(wanted: &Open, plan: &Plan) -> Result<(), Error> {
    let (flags, kinds) = how(wanted);
    let checked = find(&wanted.path, kinds).and_then(|found| {
        if kind(&found.facts) == libc::S_IFREG { open_found(&found, flags, plan).map(drop) } else { is_meant(&found, plan) }
    });
    checked.map_err(|error| explain("--open", &wanted.path, error))
}

fn how(wanted: &Open) -> (i32, Kinds) {
    let flags = match wanted.access {
        Access::Read => libc::O_RDONLY,
        Access::ReadWrite => libc::O_RDWR,
        Access::Append => libc::O_WRONLY | libc::O_APPEND,
    };
    (flags, Kinds::RegularOrDevice)
}

/// Where the path leads by the rules of every path, if it is what it may be.
pub fn find(path: &CStr, kinds: Kinds) -> Result<Found, Error> {
    let found = pathwalk::find(path)?;
    let what = match (kind(&found.facts), kinds) {
        (libc::S_IFREG, _) | (libc::S_IFCHR | libc::S_IFBLK, Kinds::RegularOrDevice) => return Ok(found),
        (libc::S_IFDIR, _) => "a directory",
        (libc::S_IFIFO, _) => "a FIFO",
        (libc::S_IFSOCK, _) => "a socket",
        _ => "a device",
    };
    bail!("it is {what}, and no regular file")
}

/// Opens what was found, and sees that it is that. O_NONBLOCK: what took its place may be a FIFO, which never opens.
pub fn open_found(found: &Found, flags: i32, plan: &Plan) -> Result<OwnedFd, Error> {
    is_meant(found, plan)?;
    let flags = flags | libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = match found.entry {
        Entry::File => sys::open_at(found.directory.as_fd(), &found.name, flags),
        Entry::Descriptor => sys::open_at_following(found.directory.as_fd(), &found.name, flags),
    };
    let file = opened.map_err(|errno| call("open", errno))?;
    let opened = sys::facts(file.as_fd()).map_err(|errno| call("statx", errno))?;
    if opened.identity != found.facts.identity {
        bail!("it was replaced while it was opened");
    }
    // What has more names now was looked at when it had no name here: it is from elsewhere.
    if opened.links > found.facts.links {
        bail!("it was given another name while it was opened");
    }
    Ok(file)
}

/// Root opens it for the command: what may be another file than the one that was meant stays closed.
fn is_meant(found: &Found, plan: &Plan) -> Result<(), Error> {
    found.is_meant(Some(plan.identity.uid.get()))
}

/// All of a file that is no longer than this.
pub fn read_whole(file: OwnedFd, most: u64) -> Result<Vec<u8>, Error> {
    let too_large = || anyhow!("it has more than {} MiB, the most that is read", most >> 20);
    let file = std::fs::File::from(file);
    let size = file.metadata().map_err(|error| call("statx", Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))?.len();
    if size > most {
        return Err(too_large());
    }
    sys::read_sized(&file, size, most).map_err(|why| match why {
        Unread::Call(errno) => call("read", errno),
        Unread::Short(read) => anyhow!("it ended after {read} of its {size} bytes"),
        Unread::Long if size == 0 => too_large(),
        Unread::Long => anyhow!("it grew while it was read"),
    })
}

fn kind(facts: &FileFacts) -> u32 {
    facts.mode & libc::S_IFMT
}

/// The message, with how to mend it where that is known.
pub fn explain(option: &str, path: &CStr, error: Error) -> Error {
    let message = || format!("{option} {}: {error:#}", lossy(path));
    match error.downcast_ref() {
        Some(Errno::EACCES) => hinted(
            message(),
            "who starts stepdown must be allowed to open it; root that is not its owner needs CAP_DAC_OVERRIDE, or to read CAP_DAC_READ_SEARCH",
        ),
        Some(Errno::ENOENT) if option == "--open" && path.to_bytes().contains(&b':') => {
            hinted(message(), "what a file is opened for stands behind its last colon: ro, rw or append")
        }
        _ => error.context(format!("{option} {}", lossy(path))),
    }
}
