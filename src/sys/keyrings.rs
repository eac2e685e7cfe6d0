//! Keyrings: keyctl(2), session-keyring(7).

use libc::{c_int, c_long};
use nix::errno::Errno;

use super::Result;

/// Joins a new session keyring without a name, which belongs to the ids that this process has now.
///
/// A lie is seen: the new keyring's number is above 0, and what a filter answers is 0 or an error. (One that traces could make a
/// number up; then the keyring that was there stays possessed, unseen.)
pub fn join_new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_long = 1;
    // SAFETY: a null pointer stands for no name.
    let serial = Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) })?;
    if serial > 0 { Ok(()) } else { Err(Errno::ENOKEY) }
}

/// The number of the session keyring.
///
/// A lie is harmless: it is asked only where a keyring could not be joined, and a number, true or not, ends the run.
pub fn session_keyring() -> Result<c_long> {
    const KEYCTL_GET_KEYRING_ID: c_long = 0;
    const KEY_SPEC_SESSION_KEYRING: c_int = -3;
    const LOOK_ONLY: c_long = 0;
    // SAFETY: numbers.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, c_long::from(KEY_SPEC_SESSION_KEYRING), LOOK_ONLY)
    })
}
