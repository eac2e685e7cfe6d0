//! Files that are memory: memfd_create(2), and what is written into them.

use std::ffi::{CStr, c_int, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Result, opened};

/// A memfd that can be sealed and, where the kernel has that (Linux 6.3), never be executed. O_CLOEXEC.
///
/// A lie is seen: 0 is no new descriptor.
pub fn sealable_memfd(name: &CStr) -> Result<OwnedFd> {
    let create = |flags: c_uint| -> Result<OwnedFd> {
        // SAFETY: a C string and flags.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), flags) })?;
        opened(RawFd::try_from(fd).map_err(|_| Errno::EBADF)?)
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    match create(flags | libc::MFD_NOEXEC_SEAL) {
        Err(Errno::EINVAL) => create(flags),
        other => other,
    }
}

/// Seals a memfd for good: neither its content nor its size nor the seals change again. Read back.
///
/// A lie is seen: the seals are read back.
pub fn seal(memfd: BorrowedFd<'_>) -> Result<()> {
    const SEALS: c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_SEAL;
    // SAFETY: numbers.
    unsafe {
        Errno::result(libc::fcntl(memfd.as_raw_fd(), libc::F_ADD_SEALS, SEALS))?;
        let found = Errno::result(libc::fcntl(memfd.as_raw_fd(), libc::F_GET_SEALS))?;
        if found & SEALS == SEALS { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// The largest that RLIMIT_FSIZE lets a file of this process become, memfds among them; who writes on is killed by SIGXFSZ.
///
/// A lie is seen: a limit of 0 has no room for a secret.
pub fn file_size_limit() -> Result<u64> {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE).map(|(soft, _)| soft)
}

/// Copies from where one file is read to where the other is written, until its end or `most` bytes. Returns how many; where it fails, the name of the call too. sendfile(2) can't read every
/// file (FUSE, 9p), so the bytes pass through a page of ours, which is wiped.
///
/// A lie is seen: write(2) of 0 bytes is an error. That a file has ended goes unseen where it need not say its size: nobody
/// but its file system knows.
pub fn pour(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: u64) -> std::result::Result<u64, (&'static str, Errno)> {
    let mut page = [0u8; 4096];
    let poured = pour_by(&mut page, from, to, most);
    for byte in &mut page {
        // SAFETY: a byte of ours. Volatile, or it would be left out because nobody reads it.
        unsafe { std::ptr::write_volatile(byte, 0) };
    }
    poured
}

fn pour_by(
    page: &mut [u8],
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    most: u64,
) -> std::result::Result<u64, (&'static str, Errno)> {
    let mut total = 0;
    while total < most {
        let room = usize::try_from(most - total).unwrap_or(usize::MAX).min(page.len());
        let room = page.get_mut(..room).unwrap_or_default();
        let filled = super::read_some(from, room).map_err(|errno| ("read", errno))?;
        if filled == 0 {
            break;
        }
        super::write_whole(to, page.get(..filled).unwrap_or_default()).map_err(|errno| ("write(memfd)", errno))?;
        total += filled as u64;
    }
    Ok(total)
}
