//! The proof: what the kernel holds is what was planned, and root can't be had back.
//!
//! All of it by system calls, because /proc may be absent or somebody's. It alone makes a [`Dropped`],
//! without which nothing starts the command.

use anyhow::{Error, anyhow, bail};
use caps::Capability;
use nix::errno::Errno;

use crate::capabilities::CapSet;
use crate::failure::call;
use crate::host;
use crate::plan::{Bounding, NoNewPrivs, Plan};
use crate::printable::{A_FEW, brief};
use crate::sys::{self, CapabilitySets};

/// A process that has been proved to hold what its plan says and no more.
pub struct Dropped {
    _made_here_alone: (),
}

/// Compares, and tries to become root again.
pub fn prove(plan: &Plan) -> Result<Dropped, Error> {
    ids(plan)?;
    capabilities(plan, plan.keep)?;
    let expected = match plan.no_new_privs {
        NoNewPrivs::Set => true,
        NoNewPrivs::AsFound(found) => found,
    };
    no_new_privs(expected)?;
    root_is_gone(plan, plan.keep)?;
    Ok(Dropped { _made_here_alone: () })
}

/// The same of the supervisor of a command that keeps more than the supervisor may have.
pub fn prove_supervisor(plan: &Plan) -> Result<(), Error> {
    ids(plan)?;
    capabilities(plan, CapSet::EMPTY)?;
    no_new_privs(true)?;
    root_is_gone(plan, CapSet::EMPTY)
}

fn ids(plan: &Plan) -> Result<(), Error> {
    let uids = sys::getresuid().map_err(|errno| call("getresuid", errno))?;
    if !uids.all(plan.identity.uid.get()) {
        return Err(differs("uid", plan.identity.uid, format_args!("{uids:?}")));
    }
    let gids = sys::getresgid().map_err(|errno| call("getresgid", errno))?;
    if !gids.all(plan.identity.gid.get()) {
        return Err(differs("gid", plan.identity.gid, format_args!("{gids:?}")));
    }
    let mut groups = sys::getgroups().map_err(|errno| call("getgroups", errno))?;
    groups.sort_unstable();
    let expected = plan.expected_groups();
    if groups != expected {
        return Err(differs_in_groups(&expected, &groups));
    }
    Ok(())
}

fn capabilities(plan: &Plan, keep: CapSet) -> Result<(), Error> {
    let sets = sys::capget().map_err(|errno| call("capget", errno))?;
    if sets != CapabilitySets::of(keep) {
        return Err(differs("capability sets", keep, sets));
    }
    // The ambient set never holds what is not both permitted and inheritable (capabilities(7)), and these
    // two have just been read: no other number needs asking for.
    for number in sets.permitted.numbers() {
        match sys::ambient_has(number) {
            Ok(true) => {}
            Ok(false) => return Err(differs("ambient set", keep, format_args!("one without capability {number}"))),
            Err(errno) => return Err(call(format_args!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, {number})"), errno)),
        }
    }
    if let Bounding::Drop { .. } = plan.bounding {
        let bounding = host::bounding_set()?;
        if bounding != plan.keep {
            return Err(differs("bounding set", plan.keep, bounding));
        }
    }
    Ok(())
}

fn no_new_privs(expected: bool) -> Result<(), Error> {
    let set = sys::no_new_privs().map_err(|errno| call("prctl(PR_GET_NO_NEW_PRIVS)", errno))?;
    if set != expected {
        return Err(differs("no_new_privs", expected, set));
    }
    Ok(())
}

/// Tries uid 0 and gid 0, where the plan itself doesn't keep them.
fn root_is_gone(plan: &Plan, keep: CapSet) -> Result<(), Error> {
    let keeps = |capability| keep.has(capability);
    if plan.identity.uid.get() != 0 && !keeps(Capability::CAP_SETUID) {
        refused("setresuid(-1, 0, -1)", sys::try_root_uid())?;
    }
    if plan.identity.gid.get() != 0 && !keeps(Capability::CAP_SETGID) {
        refused("setresgid(-1, 0, -1)", sys::try_root_gid())?;
    }
    Ok(())
}

fn refused(attempt: &str, result: Result<(), Errno>) -> Result<(), Error> {
    match result {
        // EINVAL: this user namespace has no root to become.
        Err(Errno::EPERM | Errno::EINVAL) => Ok(()),
        Ok(()) => bail!("root could be had back: {attempt} succeeded"),
        Err(errno) => Err(call(attempt, errno)),
    }
}

/// Of long lists what is in one alone: their beginnings may be the same.
fn differs_in_groups(planned: &[u32], found: &[u32]) -> Error {
    let told = |list: &[u32], other: &[u32]| {
        if planned.len().max(found.len()) <= A_FEW {
            return format!("[{}]", brief(list, ", "));
        }
        let alone: Vec<u32> = list.iter().copied().filter(|group| other.binary_search(group).is_err()).collect();
        format!("{}, only there [{}]", list.len(), brief(&alone, ", "))
    };
    differs("supplementary groups", told(planned, found), told(found, planned))
}

fn differs(what: &str, planned: impl std::fmt::Display, found: impl std::fmt::Display) -> Error {
    anyhow!("the kernel does not hold what was planned, so the command is not started: {what}: planned {planned}, found {found}")
}
