//! System calls that no crate here gives the tests.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

fn answer(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Sends a signal to a process.
pub fn signal(pid: i32, signal: i32) {
    assert!(pid > 1, "never to a group or to all");
    // SAFETY: two numbers.
    unsafe { libc::kill(pid, signal) };
}

/// Mounts what is at `source` on `target` once more, with ids mapped as the lines of a uid_map say (first as
/// on disk, then as seen): mount_setattr(2), "ID-mapped mounts".
pub fn mount_idmapped(source: &Path, target: &Path, map: &str) -> io::Result<()> {
    let (source, target) =
        (CString::new(source.as_os_str().as_encoded_bytes())?, CString::new(target.as_os_str().as_encoded_bytes())?);
    let namespace = user_namespace(map)?;
    // SAFETY: of all zeros a mount_attr asks for nothing.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_IDMAP;
    attributes.userns_fd = namespace.as_raw_fd().unsigned_abs().into();
    // SAFETY: the strings end in zero, the attributes are as long as said, and all outlive the calls; the
    // descriptor that open_tree returns is nobody else's.
    unsafe {
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
        let tree = answer(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags))?;
        let tree = OwnedFd::from_raw_fd(i32::try_from(tree).map_err(io::Error::other)?);
        let (fd, size) = (tree.as_raw_fd(), size_of::<libc::mount_attr>());
        answer(libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), libc::AT_EMPTY_PATH, &raw const attributes, size))?;
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
        answer(libc::syscall(libc::SYS_move_mount, fd, c"".as_ptr(), libc::AT_FDCWD, target.as_ptr(), flags))?;
    }
    Ok(())
}

/// A user namespace with that map for uids and gids.
fn user_namespace(map: &str) -> io::Result<fs::File> {
    let mut holder = Command::new("unshare").args(["--user", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let proc = format!("/proc/{}", holder.id());
    // What cat hands back shows that unshare has become it, in a namespace of its own.
    let (mut to, mut from) = (holder.stdin.take(), holder.stdout.take());
    let mut echo = [0];
    to.as_mut().map_or(Ok(()), |to| io::Write::write_all(to, b"."))?;
    from.as_mut().map_or(Ok(()), |from| io::Read::read_exact(from, &mut echo))?;
    for name in ["uid_map", "gid_map"] {
        fs::write(format!("{proc}/{name}"), map)?;
    }
    let namespace = fs::File::open(format!("{proc}/ns/user"));
    drop(to);
    holder.wait()?;
    namespace
}
