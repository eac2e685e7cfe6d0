//! `--secret`: a copy of a file in a sealed memfd of the target's, which goes with the processes that have it.
//!
//! The copy is made by the target's file system ids, so that no CAP_CHOWN is needed, and nobody but the target (and
//! root) may open it; sealed, so that what the command reads is what root's file held.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Error, bail};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, stat};

use super::files::{self, Kinds};
use super::maker;
use crate::failure::{call, hinted};
use crate::plan::{Plan, Secret};
use crate::sys;

/// The most that is copied; systemd's credentials end at 1 MiB.
pub const SIZE_MAX: u64 = 16 << 20;

/// Makes the copy.
pub fn copy(wanted: &Secret, plan: &Plan) -> Result<OwnedFd, Error> {
    let copied = open(wanted, plan).and_then(|source| sealed_copy(&source, plan));
    copied.map_err(|error| files::explain(&format!("--secret {}", wanted.name), &wanted.path, error))
}

/// Refuses, before anything has changed, what can't be copied, and a place where the copy could not be reached.
pub fn check(wanted: &Secret, plan: &Plan) -> Result<(), Error> {
    let checked = open(wanted, plan).and_then(|source| {
        let (size, limit) = (u64::try_from(facts(&source)?.st_size)?, size_limit()?);
        refuse_large(size)?;
        if size > limit {
            return Err(too_large_for(limit));
        }
        proc_leads_to(&source)
    });
    checked.map_err(|error| files::explain(&format!("--secret {}", wanted.name), &wanted.path, error))
}

fn open(wanted: &Secret, plan: &Plan) -> Result<OwnedFd, Error> {
    let found = files::find(&wanted.path, Kinds::Regular)?;
    files::open_found(&found, libc::O_RDONLY, plan)
}

fn facts(file: &OwnedFd) -> Result<FileStat, Error> {
    fstat(file).map_err(|errno| call("fstat", errno))
}

fn refuse_large(size: u64) -> Result<(), Error> {
    if size > SIZE_MAX {
        bail!("it has more than 16 MiB, the most that a secret may have");
    }
    Ok(())
}

fn size_limit() -> Result<u64, Error> {
    sys::file_size_limit().map_err(|errno| call("getrlimit(RLIMIT_FSIZE)", errno))
}

fn too_large_for(limit: u64) -> Error {
    hinted(
        format!("the copy would be larger than a file may be: {limit} bytes (RLIMIT_FSIZE)"),
        "raise it where stepdown is started: ulimit -f, systemd LimitFSIZE=",
    )
}

/// The command opens the copy by this path: where /proc is missing, or another one, it would not be there.
fn proc_leads_to(file: &OwnedFd) -> Result<(), Error> {
    let path = path_of(file);
    let own = facts(file)?;
    match stat(path.as_str()) {
        Ok(found) if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino) => Ok(()),
        other => {
            let why = other.err().map_or_else(|| "another file is there".to_owned(), |errno| errno.to_string());
            Err(hinted(format!("the command is to open it as {path}, and can't: {why}"), "mount /proc: mount -t proc proc /proc"))
        }
    }
}

fn path_of(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// An empty memfd of the target's, to write to; and the same, opened as the command will open it, to read from.
fn made_by_target(plan: &Plan) -> Result<(OwnedFd, OwnedFd), Error> {
    maker::made_by(plan.identity.uid, plan.identity.gid, || {
        let writer = sys::sealable_memfd(c"stepdown-secret").map_err(|errno| call("memfd_create(stepdown-secret)", errno))?;
        fchmod(&writer, Mode::S_IRUSR).map_err(|errno| call("fchmod(memfd, 0400)", errno))?;
        let path = path_of(&writer);
        let reader = sys::open_at_following(nix::fcntl::AT_FDCWD, &CString::new(path.as_str())?, libc::O_RDONLY)
            .map_err(|errno| call(format_args!("open({path})"), errno))?;
        Ok((writer, reader))
    })
}

fn sealed_copy(source: &OwnedFd, plan: &Plan) -> Result<OwnedFd, Error> {
    let before = facts(source)?;
    let (uid, gid) = (plan.identity.uid, plan.identity.gid);
    let (writer, copy) = made_by_target(plan)?;
    let limit = size_limit()?;
    let size = sys::pour(source.as_fd(), writer.as_fd(), limit.min(SIZE_MAX + 1)).map_err(|(name, errno)| call(name, errno))?;
    refuse_large(size)?;
    // A file need not say its size: those in /proc don't.
    if size == limit && sys::read_some(source.as_fd(), &mut [0]).map_err(|errno| call("read", errno))? > 0 {
        return Err(too_large_for(limit));
    }
    let promised = u64::try_from(before.st_size)?;
    if size < promised {
        bail!("it ended after {size} of its {promised} bytes");
    }
    let after = facts(source)?;
    let version = |facts: &FileStat| (facts.st_size, facts.st_mtime, facts.st_mtime_nsec, facts.st_ctime, facts.st_ctime_nsec);
    if version(&before) != version(&after) {
        bail!("it changed while it was read");
    }
    sys::seal(writer.as_fd()).map_err(|errno| call("fcntl(memfd, F_ADD_SEALS)", errno))?;
    // Read back: what a call claims is not what the kernel holds.
    let (made, written) = (facts(&copy)?, facts(&writer)?);
    let as_planned = (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (uid.get(), gid.get(), 0o400);
    if !as_planned || (made.st_dev, made.st_ino) != (written.st_dev, written.st_ino) || u64::try_from(made.st_size)? != size {
        bail!(
            "the copy is not as planned: {} bytes of uid {}, gid {}, mode {:04o}",
            made.st_size,
            made.st_uid,
            made.st_gid,
            made.st_mode & 0o7777
        );
    }
    Ok(copy)
}
