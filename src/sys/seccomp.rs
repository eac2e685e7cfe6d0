//! Filters for system calls: seccomp(2).

use std::ffi::c_ushort;

use nix::errno::Errno;

use super::Result;

/// Loads a filter, for good: for this thread, and for all that it starts and becomes. Needs no_new_privs.
///
/// A lie is seen: its mark is asked for: [`try_no_operation`].
pub fn load_filter(program: &[libc::sock_filter]) -> Result<()> {
    let length = c_ushort::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    // The kernel only reads them.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: as many instructions as the length says, alive during the call; the kernel copies and checks them.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) }).map(drop)
}

/// Whether this kernel has filters; if not, why. It looks for the program only if it has them, where
/// SECCOMP_GET_ACTION_AVAIL, which is younger (Linux 4.14), is known without them as well.
///
/// A lie is seen: it succeeds where it must be refused.
pub fn has_seccomp_filters() -> Result<()> {
    let nowhere = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel takes a null pointer for a bad address, and says so.
    match Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, nowhere) }) {
        Err(Errno::EFAULT) => Ok(()),
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno::ENOSYS),
    }
}

/// seccomp(2) with an operation that no kernel has: EINVAL, unless a filter answers in the kernel's place.
///
/// A lie is seen: success is no mark.
pub fn try_no_operation(operation: u32) -> Result<()> {
    // SAFETY: numbers and a null pointer.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, operation, 0, std::ptr::null::<u8>()) }).map(drop)
}
