//! Files by descriptor and name: statx(2), openat(2), fchownat(2).

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::{Result, opened};
use crate::ids::{Gid, Uid};

/// What statx(2) tells of a file, as far as ownership needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Device and inode: the file's identity.
    pub identity: (u32, u32, u64),
    /// The mount it was reached by.
    pub mount: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names it has.
    pub links: u32,
    /// Type and permission bits, as in st_mode.
    pub mode: u32,
}

impl FileFacts {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFLNK
    }
}

/// The facts of an open file (O_PATH is enough).
///
/// A lie is seen: stx_mask says what was filled in.
pub fn facts(file: BorrowedFd<'_>) -> Result<FileFacts> {
    statx(file, c"", libc::AT_EMPTY_PATH)
}

/// The facts of what a name in a directory stands for, a symbolic link being itself.
///
/// A lie is seen: stx_mask says what was filled in.
pub fn facts_at(directory: BorrowedFd<'_>, name: &CStr) -> Result<FileFacts> {
    statx(directory, name, libc::AT_SYMLINK_NOFOLLOW)
}

fn statx(directory: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<FileFacts> {
    const WANTED: u32 =
        libc::STATX_TYPE | libc::STATX_MODE | libc::STATX_NLINK | libc::STATX_UID | libc::STATX_GID | libc::STATX_INO | MNT_ID;
    const MNT_ID: u32 = 0x1000;
    let mut raw = MaybeUninit::<libc::statx>::zeroed();
    let flags = flags | libc::AT_NO_AUTOMOUNT;
    // SAFETY: a C string and a buffer of the right size.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_statx, directory.as_raw_fd(), name.as_ptr(), flags, WANTED, raw.as_mut_ptr())
    })?;
    // SAFETY: integers all through, zeroed before the kernel filled them in.
    let raw = unsafe { raw.assume_init() };
    if raw.stx_mask & WANTED != WANTED {
        // Older than Linux 5.8, or a call that wrote nothing: without the mount's id a walk can't be kept inside.
        return Err(Errno::ENOSYS);
    }
    Ok(FileFacts {
        identity: (raw.stx_dev_major, raw.stx_dev_minor, raw.stx_ino),
        mount: raw.stx_mnt_id,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        links: raw.stx_nlink,
        mode: u32::from(raw.stx_mode),
    })
}

/// Opens a name in a directory; O_CLOEXEC and O_NOFOLLOW always.
///
/// A lie is seen: 0 is no new descriptor.
pub fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<OwnedFd> {
    open_at_following(directory, name, flags | libc::O_NOFOLLOW)
}

/// Opens a name in a directory, wherever symbolic links lead; O_CLOEXEC always.
///
/// A lie is seen: 0 is no new descriptor.
pub fn open_at_following(directory: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC;
    // FUSE may be interrupted here as well.
    super::uninterrupted(|| {
        // SAFETY: a C string.
        Errno::result(unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags) })
    })
    .and_then(opened)
}

/// fchownat(2) of an open file: no name is looked up, nothing is followed.
///
/// A lie is seen: the top of a tree and a sample of it are read back.
pub fn chown(file: BorrowedFd<'_>, uid: Uid, gid: Option<Gid>) -> Result<()> {
    let gid = gid.map_or(u32::MAX, Gid::get);
    // SAFETY: numbers and an empty C string.
    Errno::result(unsafe { libc::fchownat(file.as_raw_fd(), c"".as_ptr(), uid.get(), gid, libc::AT_EMPTY_PATH) }).map(drop)
}

/// fchownat(2) of what a name in a directory stands for, a symbolic link being itself.
///
/// A lie is seen: a sample of a tree is read back; a file system that lies about one file alone goes unnoticed.
pub fn chown_at(directory: BorrowedFd<'_>, name: &CStr, uid: Uid, gid: Gid) -> Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: numbers and a C string.
    Errno::result(unsafe { libc::fchownat(directory.as_raw_fd(), name.as_ptr(), uid.get(), gid.get(), flags) }).map(drop)
}
