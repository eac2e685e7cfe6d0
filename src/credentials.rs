//! The drop. The order is the point; each step says why it stands where it does.
//!
//! The ids are changed by raw system calls, which reach this thread alone. There is no other: a chore that starts
//! threads sees them gone before it returns.

use anyhow::{Error, bail};
use nix::errno::Errno;

use crate::capabilities::CapSet;
use crate::cli::Keyring;
use crate::failure::{call, hinted};
use crate::ids::Gid;
use crate::plan::{Bounding, Groups, NoNewPrivs, Plan};
use crate::printable::brief;
use crate::sys::{self, CapabilitySets};
use crate::user_namespace;

/// Gives up whatever the plan does not keep.
pub fn drop(plan: &Plan) -> Result<(), Error> {
    if !sys::is_alone() {
        bail!("a thread is left that would keep root's rights");
    }
    // Groups and gid while the uid still has CAP_SETGID.
    if plan.groups == Groups::Set {
        set_groups(&plan.identity.groups)?;
    }
    let (uid, gid) = (plan.identity.uid, plan.identity.gid);
    sys::setresgid(gid).map_err(|errno| explain(format!("setresgid({gid}, {gid}, {gid})"), errno))?;
    // The bounding set while CAP_SETPCAP is still there.
    if let Bounding::Drop { known } = plan.bounding {
        drop_bounding_set(known, plan.keep)?;
    }
    // Leaving uid 0 empties the permitted set, unless told otherwise.
    if !plan.keep.is_empty() {
        sys::set_keep_capabilities(true).map_err(|errno| call("prctl(PR_SET_KEEPCAPS, 1)", errno))?;
    }
    sys::setresuid(uid).map_err(|errno| explain(format!("setresuid({uid}, {uid}, {uid})"), errno))?;
    if plan.keyring == Keyring::Own {
        leave_session_keyring()?;
    }
    set_capabilities(plan.keep)?;
    // Last, because a change of uid can't be made without the rights that this forbids to come back.
    if plan.no_new_privs == NoNewPrivs::Set {
        sys::set_no_new_privs().map_err(|errno| call("prctl(PR_SET_NO_NEW_PRIVS, 1)", errno))?;
    }
    Ok(())
}

/// In the supervisor of a command that keeps more: no capability, and no_new_privs in any case, since it never becomes
/// another program. What is left in its bounding set is idle then.
pub fn drop_what_is_kept() -> Result<(), Error> {
    set_capabilities(CapSet::EMPTY)?;
    sys::set_no_new_privs().map_err(|errno| call("prctl(PR_SET_NO_NEW_PRIVS, 1)", errno))
}

fn set_groups(groups: &[Gid]) -> Result<(), Error> {
    sys::setgroups(groups).map_err(|errno| {
        let shown: Vec<u32> = groups.iter().map(|gid| gid.get()).collect();
        explain(format!("setgroups([{}])", brief(&shown, ", ")), errno)
    })
}

/// By number on the running kernel, which says EINVAL behind its last capability. What is known to be in there is taken
/// out unseen; elsewhere a look comes first, because it costs a tenth of what a drop does and a container's set
/// is half empty as it comes. The proof looks at every number afterwards.
fn drop_bounding_set(known: CapSet, keep: CapSet) -> Result<(), Error> {
    for number in 0..=u64::BITS {
        if keep.has_number(number) {
            continue;
        }
        let present = known.has_number(number)
            || match sys::bounding_has(number) {
                Ok(present) => present,
                Err(Errno::EINVAL) if number > 0 => return Ok(()),
                Err(errno) => return Err(call(format_args!("prctl(PR_CAPBSET_READ, {number})"), errno)),
            };
        if present {
            sys::bounding_drop(number).map_err(|errno| call(format_args!("prctl(PR_CAPBSET_DROP, {number})"), errno))?;
        }
    }
    Err(Error::msg("prctl(PR_CAPBSET_READ): the kernel names no last capability"))
}

/// Not left to setresuid: securebits may have kept it from emptying them, and it never touches the
/// inheritable set (CVE-2022-24769). The ambient set comes back only as far as it is kept.
fn set_capabilities(keep: CapSet) -> Result<(), Error> {
    sys::capset(CapabilitySets::of(keep)).map_err(|errno| call(format_args!("capset({keep})"), errno))?;
    sys::ambient_clear().map_err(|errno| call("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)", errno))?;
    for number in keep.numbers() {
        sys::ambient_raise(number)
            .map_err(|errno| call(format_args!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {number})"), errno))?;
    }
    if !keep.is_empty() {
        sys::set_keep_capabilities(false).map_err(|errno| call("prctl(PR_SET_KEEPCAPS, 0)", errno))?;
    }
    Ok(())
}

/// What root keeps in its session keyring is possessed by whoever has that keyring, whatever his ids (keyrings(7)), and an
/// execve hands it on. Thread and process keyrings end with one, and stepdown makes none. After the uid, so that the new keyring is
/// the target's and counts towards the target's quota.
fn leave_session_keyring() -> Result<(), Error> {
    const JOIN: &str = "keyctl(KEYCTL_JOIN_SESSION_KEYRING)";
    let errno = match sys::join_new_session_keyring() {
        Ok(()) => return Ok(()),
        Err(errno) => errno,
    };
    let hint = match errno {
        // A kernel without keyrings, or a container engine's filter: the command is under it, too, and can ask for no key.
        Errno::ENOSYS | Errno::EPERM => match sys::session_keyring() {
            Err(Errno::ENOSYS | Errno::EPERM) => return Ok(()),
            _ => {
                "a filter forbids this and leaves the rest of keyctl(2), by which the command could read the keys that are there"
            }
        },
        Errno::EDQUOT => "the user has as many keys as one may have: raise sysctl kernel.keys.maxkeys and maxbytes",
        _ => "root's keys would stay within reach",
    };
    Err(hinted(format!("{JOIN}: {errno}"), format!("{hint}; --keep-keyring leaves the session keyring as it is")))
}

fn explain(what: String, errno: Errno) -> Error {
    let message = format!("{what}: {errno}");
    match user_namespace::why(errno) {
        Some(why) => hinted(message, why),
        None => Error::msg(message),
    }
}
