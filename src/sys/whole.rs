//! read(2) and write(2) until all is done.
//!
//! **The rule: one call says nothing about the whole.** A file system may give less than was asked for wherever it likes
//! (FUSE with direct_io does, and cuts a line of /etc/group in two), a signal may come before anything was done (EINTR), and
//! a pipe may take a part. So every read and every write of the program is made here or by the standard library's
//! `read_to_end` and `write_all`, which hold the same rule.

use std::ffi::c_int;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::Result;

/// Who answers EINTR more often than that is no signal, but a filter, and would be asked for ever.
const INTERRUPTIONS_MAX: u32 = 1000;

/// Makes a call again as long as a signal interrupts it.
pub fn uninterrupted<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..INTERRUPTIONS_MAX {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
    Err(Errno::EINTR)
}

/// One read(2); 0 at the end.
///
/// A lie goes unseen: that a file has ended nobody but the kernel knows.
pub fn read_some(from: BorrowedFd<'_>, room: &mut [u8]) -> Result<usize> {
    let most = room.len();
    // SAFETY: at most as many bytes as there is room for.
    let read = || Errno::result(unsafe { libc::read(from.as_raw_fd(), room.as_mut_ptr().cast(), most) });
    uninterrupted(read).map(|count| usize::try_from(count).unwrap_or(0).min(most))
}

/// Reads until there is no room, or to the end; how many bytes.
///
/// A lie goes unseen: that a file has ended nobody but the kernel knows.
pub fn fill(from: BorrowedFd<'_>, room: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match read_some(from, rest)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Why a file was not read as a whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// read(2) failed.
    Call(Errno),
    /// It ended before it had as many bytes as its size says.
    Short(u64),
    /// It has more.
    Long,
}

/// All of a file, whose size is told by statx(2). A size of 0 says nothing: those of /proc have it.
///
/// A lie is seen: less than the size that the file has is an error; where it has none, nobody but the kernel knows.
pub fn read_sized(file: &File, size: u64, most: u64) -> std::result::Result<Vec<u8>, Unread> {
    let call = |error: std::io::Error| Unread::Call(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
    if size == 0 {
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(call)?;
        return if bytes.len() as u64 > most { Err(Unread::Long) } else { Ok(bytes) };
    }
    // One byte of room beyond the end: a file that fills it has grown. Where it gave what its size says, it is not asked again.
    let size = usize::try_from(size).map_err(|_| Unread::Long)?;
    let mut bytes = vec![0; size + 1];
    let mut filled = 0;
    while filled < size {
        let room = bytes.get_mut(filled..).unwrap_or_default();
        match read_some(std::os::fd::AsFd::as_fd(file), room).map_err(Unread::Call)? {
            0 => return Err(Unread::Short(filled as u64)),
            count => filled += count,
        }
    }
    if filled > size {
        return Err(Unread::Long);
    }
    bytes.truncate(size);
    Ok(bytes)
}

/// Writes all of it.
///
/// A lie is seen: 0 bytes are an error.
pub fn write_whole(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        // SAFETY: a buffer with its length.
        let write = || Errno::result(unsafe { libc::write(to.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) });
        match uninterrupted(write)? {
            0 => return Err(Errno::ENOSPC),
            written => bytes = bytes.get(usize::try_from(written).unwrap_or(0)..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Writes to stderr as long as there is room for more, or some comes within so many milliseconds. What finds none is dropped.
///
/// A lie is harmless: a message is lost.
pub fn write_where_there_is_room(mut bytes: &[u8], patience: c_int) {
    let mut poll = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    while !bytes.is_empty() {
        // At most a page at once: poll promises room for no more.
        let size = bytes.len().min(4096);
        // SAFETY: one structure that is alive during the call.
        let ready = uninterrupted(|| Errno::result(unsafe { libc::poll(&raw mut poll, 1, patience) }));
        match ready {
            // No descriptor may be open at all (RLIMIT_NOFILE is 0), and so none be polled.
            Ok(1) => {}
            Err(Errno::EINVAL) if patience > 0 => {}
            _ => return,
        }
        // SAFETY: a buffer with a length that is not beyond its own.
        let written = uninterrupted(|| Errno::result(unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), size) }));
        match written {
            Ok(written) if written > 0 => bytes = bytes.get(usize::try_from(written).unwrap_or(0)..).unwrap_or_default(),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_call_is_made_again_and_not_for_ever() {
        let mut left = 3;
        let answer = uninterrupted(|| {
            left -= 1;
            if left > 0 { Err(Errno::EINTR) } else { Ok(left) }
        });
        assert_eq!(answer, Ok(0));
        assert_eq!(uninterrupted(|| Err::<(), _>(Errno::EINTR)), Err(Errno::EINTR));
    }

    #[test]
    fn what_comes_in_pieces_is_read_and_written_as_a_whole() -> std::io::Result<()> {
        let (mut front, back) = std::io::pipe()?;
        let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        let written = bytes.clone();
        let writer = std::thread::spawn(move || write_whole(back.as_fd(), &written));
        let mut read = vec![0; bytes.len() + 1];
        let filled = fill(front.as_fd(), &mut read)?;
        assert_eq!((filled, &read[..filled] == bytes.as_slice()), (bytes.len(), true));
        assert_eq!(writer.join().ok(), Some(Ok(())));
        assert_eq!(front.read(&mut [0])?, 0);
        Ok(())
    }

    #[test]
    fn a_file_is_as_long_as_its_size_says() -> std::io::Result<()> {
        let mut file = tempfile::tempfile()?;
        file.write_all(b"12345")?;
        let mut read = |size, most| file.rewind().map(|()| read_sized(&file, size, most));
        assert_eq!(read(5, 9)?, Ok(b"12345".to_vec()));
        assert_eq!(read(0, 5)?, Ok(b"12345".to_vec()));
        assert_eq!(read(6, 9)?, Err(Unread::Short(5)));
        assert_eq!(read(4, 9)?, Err(Unread::Long));
        assert_eq!(read(0, 4)?, Err(Unread::Long));
        Ok(())
    }
}
