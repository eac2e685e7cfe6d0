//! Files that belong to somebody else from the moment they are made.

use anyhow::{Error, anyhow, bail};

use crate::failure::call;
use crate::ids::{Gid, Uid};
use crate::sys;

/// Does something with another user's and group's file system ids (setfsuid(2)), so that what it makes is theirs,
/// and nothing need be done to it by name or with CAP_CHOWN afterwards. Where it fails, the run does.
pub fn made_by<T>(uid: Uid, gid: Gid, make: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let (own_uid, own_gid) = own_ids()?;
    let (own_uid, own_gid) = (own_uid.get(), own_gid.get());
    become_group(gid.get(), own_gid)?;
    if uid.get() == own_uid {
        let made = make()?;
        become_group(own_gid, gid.get())?;
        return Ok(made);
    }
    // Leaving uid 0 takes the file capabilities out of the effective set, coming back puts all that are permitted
    // in (capabilities(7)): what may be done to files is to be the same before, meanwhile and afterwards.
    let sets = sys::capget().map_err(|errno| call("capget", errno))?;
    let restored = || sys::capset(sets).map_err(|errno| call("capset", errno));
    become_user(uid.get())?;
    restored()?;
    let made = make()?;
    become_user(own_uid)?;
    restored()?;
    become_group(own_gid, gid.get())?;
    Ok(made)
}

/// The effective ids, which new files have.
pub fn own_ids() -> Result<(Uid, Gid), Error> {
    let uid = sys::getresuid().map_err(|errno| call("getresuid", errno))?.effective;
    let gid = sys::getresgid().map_err(|errno| call("getresgid", errno))?.effective;
    let both = Uid::new(uid).zip(Gid::new(gid));
    both.ok_or_else(|| anyhow!("the kernel has no ids for this process"))
}

fn become_user(uid: u32) -> Result<(), Error> {
    if !sys::set_filesystem_uid(uid) {
        bail!("setfsuid({uid}): EPERM: what is made would not belong to uid {uid}");
    }
    Ok(())
}

fn become_group(gid: u32, now: u32) -> Result<(), Error> {
    if gid != now && !sys::set_filesystem_gid(gid) {
        bail!("setfsgid({gid}): EPERM: what is made would not belong to gid {gid}");
    }
    Ok(())
}
