//! Files by descriptor and name: statx(2), openat(2), getdents64(2), fchownat(2).

use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::Result;
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
pub fn facts(file: BorrowedFd<'_>) -> Result<FileFacts> {
    statx(file, c"", libc::AT_EMPTY_PATH)
}

/// The facts of what a name in a directory stands for, a symbolic link being itself.
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
pub fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<OwnedFd> {
    open_at_following(directory, name, flags | libc::O_NOFOLLOW)
}

/// Opens a name in a directory, wherever symbolic links lead; O_CLOEXEC always.
pub fn open_at_following(directory: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: a C string; a descriptor that is returned is ours alone.
    unsafe {
        // FUSE may be interrupted here as well.
        let fd = super::uninterrupted(|| Errno::result(libc::openat(directory.as_raw_fd(), name.as_ptr(), flags)))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// One name in a directory.
pub struct Entry<'a> {
    /// Its name, neither `.` nor `..`.
    pub name: &'a CStr,
    /// Whether the file system said that it is a directory; it need not say.
    pub says_directory: bool,
    /// Whether there is none behind it in the list.
    pub is_last: bool,
    record: &'a [u8],
}

impl Entry<'_> {
    /// A list of this one.
    #[must_use]
    pub fn alone(&self) -> Entries {
        Entries { buffer: self.record.to_vec(), filled: self.record.len(), at: 0 }
    }
}

/// Names of a directory, in the form that getdents64(2) gives them.
#[derive(Default)]
pub struct Entries {
    buffer: Vec<u8>,
    filled: usize,
    at: usize,
}

impl Entries {
    /// None, with room to read so many bytes of them.
    #[must_use]
    pub fn with_room(size: usize) -> Self {
        Self { buffer: vec![0; size], filled: 0, at: 0 }
    }

    /// Whether there is room to read so many bytes.
    #[must_use]
    pub fn has_room(&self, size: usize) -> bool {
        self.buffer.len() >= size
    }

    /// Reads the next ones in place of those that are there; 0 at the directory's end.
    pub fn read(&mut self, directory: BorrowedFd<'_>) -> Result<usize> {
        let (buffer, size) = (self.buffer.as_mut_ptr(), self.buffer.len());
        (self.filled, self.at) = (0, 0);
        // SAFETY: the kernel writes at most as many bytes as it is told there are.
        let read = || Errno::result(unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer, size) });
        let count = super::uninterrupted(read)?;
        self.filled = usize::try_from(count).unwrap_or(0).min(size);
        Ok(self.filled)
    }

    /// Whether the last read filled most of the room.
    #[must_use]
    pub fn is_over_half_full(&self) -> bool {
        self.filled > self.buffer.len() / 2
    }

    /// Puts one behind the others.
    pub fn push(&mut self, entry: &Entry<'_>) {
        self.buffer.truncate(self.filled);
        self.buffer.extend_from_slice(entry.record);
        self.filled = self.buffer.len();
    }

    /// The next one.
    #[allow(clippy::should_implement_trait, reason = "an entry borrows from the list")]
    pub fn next(&mut self) -> Option<Entry<'_>> {
        // struct linux_dirent64: ino and off, 8 bytes each; reclen, 2; type, 1; the name.
        loop {
            let rest = self.buffer.get(self.at..self.filled)?;
            let length = usize::from(u16::from_ne_bytes([*rest.get(16)?, *rest.get(17)?]));
            let name = CStr::from_bytes_until_nul(rest.get(19..length)?).ok()?;
            if name == c"." || name == c".." {
                self.at += length;
                continue;
            }
            let start = self.at;
            self.at += length;
            let record = self.buffer.get(start..self.at)?;
            let name = CStr::from_bytes_until_nul(record.get(19..)?).ok()?;
            let says_directory = *record.get(18)? == libc::DT_DIR;
            return Some(Entry { name, says_directory, is_last: self.at == self.filled, record });
        }
    }
}

/// fchownat(2) of an open file: no name is looked up, nothing is followed.
pub fn chown(file: BorrowedFd<'_>, uid: Uid, gid: Option<Gid>) -> Result<()> {
    let gid = gid.map_or(u32::MAX, Gid::get);
    // SAFETY: numbers and an empty C string.
    Errno::result(unsafe { libc::fchownat(file.as_raw_fd(), c"".as_ptr(), uid.get(), gid, libc::AT_EMPTY_PATH) }).map(drop)
}

/// fchownat(2) of what a name in a directory stands for, a symbolic link being itself.
pub fn chown_at(directory: BorrowedFd<'_>, name: &CStr, uid: Uid, gid: Gid) -> Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: numbers and a C string.
    Errno::result(unsafe { libc::fchownat(directory.as_raw_fd(), name.as_ptr(), uid.get(), gid.get(), flags) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8], kind: u8) -> Vec<u8> {
        let mut record = vec![0; 16];
        let length = (19 + name.len() + 1).next_multiple_of(8);
        record.extend_from_slice(&u16::try_from(length).unwrap().to_ne_bytes());
        record.push(kind);
        record.extend_from_slice(name);
        record.resize(length, 0);
        record
    }

    fn list(bytes: Vec<u8>) -> Entries {
        Entries { filled: bytes.len(), buffer: bytes, at: 0 }
    }

    #[test]
    fn entries_come_as_the_kernel_put_them_without_dot_and_dot_dot() {
        let names: [(&[u8], u8); 5] =
            [(b".", libc::DT_DIR), (b"a", libc::DT_REG), (b"..", libc::DT_DIR), (b"\xff\n", libc::DT_DIR), (&[b'x'; 255], 0)];
        let mut entries = list(names.iter().flat_map(|&(name, kind)| record(name, kind)).collect());
        let mut copied = Entries::default();
        for (name, is_directory, is_last) in [(&b"a"[..], false, false), (b"\xff\n", true, false), (&[b'x'; 255], false, true)] {
            let entry = entries.next().unwrap();
            assert_eq!((entry.name.to_bytes(), entry.says_directory, entry.is_last), (name, is_directory, is_last));
            assert_eq!(entry.alone().next().unwrap().name.to_bytes(), name);
            copied.push(&entry);
        }
        assert!(entries.next().is_none());
        let copies: Vec<_> = std::iter::from_fn(|| copied.next().map(|entry| entry.name.to_bytes().to_vec())).collect();
        assert_eq!(copies, [b"a".to_vec(), b"\xff\n".to_vec(), vec![b'x'; 255]]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_file_system_says_reading_it_ends(bytes in proptest::collection::vec(0u8..40, 0..400)) {
            let most = bytes.len();
            let mut entries = list(bytes);
            let mut count = 0;
            while entries.next().is_some() {
                count += 1;
                assert!(count <= most);
            }
        }
    }
}
