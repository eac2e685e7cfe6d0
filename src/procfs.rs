//! /proc, where it is one. What is read there decides what is changed and what is closed, and a directory that an image
//! or a mount has in its place says whatever it likes: only a file of a real procfs counts, anything else is as if /proc were
//! not mounted (ENOENT).
//!
//! Links of procfs (`/proc/self/fd/N`) lead to files of other file systems, which are known by their identity instead:
//! `pathwalk`, `acquire::secrets`.

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use crate::sys;

/// Opens a file or a directory by its full path. What stands in its place may be a FIFO, so opening does not wait.
pub fn open(path: &CStr, flags: c_int) -> Result<OwnedFd, Errno> {
    let opened = sys::open_at_following(nix::fcntl::AT_FDCWD, path, flags | libc::O_NONBLOCK | libc::O_NOCTTY)?;
    if sys::is_on_procfs(opened.as_fd()) { Ok(opened) } else { Err(Errno::ENOENT) }
}

/// All that a file says.
pub fn read(path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    match File::from(open(path, libc::O_RDONLY)?).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
    }
}

/// The same as text, which it is wherever names of files are not part of it.
pub fn read_text(path: &CStr) -> Result<String, Errno> {
    read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
