//! Ids, groups, capabilities, no_new_privs: credentials(7), capabilities(7).
//!
//! Ids are changed by the raw calls, which act on the calling thread alone; the C libraries' wrappers stop
//! every thread to change them all. There is one thread when root is given up: see `crate::credentials`.

use std::ffi::{c_int, c_long};

use nix::errno::Errno;

use super::Result;
use crate::capabilities::CapSet;
use crate::ids::{Gid, Uid};

/// The real, effective and saved id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triple {
    /// Real.
    pub real: u32,
    /// Effective.
    pub effective: u32,
    /// Saved.
    pub saved: u32,
}

impl Triple {
    /// Whether all three are this one.
    #[must_use]
    pub fn all(self, id: u32) -> bool {
        self == Self { real: id, effective: id, saved: id }
    }
}

// A call that claims success and writes nothing leaves these, which no plan agrees with.
const POISON: u32 = u32::MAX;
const POISONED: Triple = Triple { real: POISON, effective: POISON, saved: POISON };

/// getresuid(2).
///
/// A lie is seen: what is not filled in is no id.
pub fn getresuid() -> Result<Triple> {
    let mut ids = POISONED;
    // SAFETY: three pointers to u32, alive during the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_getresuid, &raw mut ids.real, &raw mut ids.effective, &raw mut ids.saved) })?;
    Ok(ids)
}

/// getresgid(2).
///
/// A lie is seen: what is not filled in is no id.
pub fn getresgid() -> Result<Triple> {
    let mut ids = POISONED;
    // SAFETY: three pointers to u32, alive during the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_getresgid, &raw mut ids.real, &raw mut ids.effective, &raw mut ids.saved) })?;
    Ok(ids)
}

/// getgroups(2): the supplementary groups, in the kernel's order.
///
/// A lie is seen: what is not filled in is no group, and fewer than planned are a difference. Before the drop it goes
/// unseen: that there were none; then the plan sets them, or must not have any.
pub fn getgroups() -> Result<Vec<u32>> {
    let mut groups = vec![POISON; 64];
    loop {
        // SAFETY: room for as many u32 as the first argument says.
        match Errno::result(unsafe { libc::syscall(libc::SYS_getgroups, groups.len(), groups.as_mut_ptr()) }) {
            Ok(count) => {
                groups.truncate(usize::try_from(count).unwrap_or(0));
                return Ok(groups);
            }
            Err(Errno::EINVAL) if groups.len() < NGROUPS_MAX => groups.resize(NGROUPS_MAX, POISON),
            Err(errno) => return Err(errno),
        }
    }
}

/// The most supplementary groups a process can have, since Linux 2.6.4.
pub const NGROUPS_MAX: usize = 65536;

/// setgroups(2).
///
/// A lie is seen: the proof reads the groups back.
pub fn setgroups(groups: &[Gid]) -> Result<()> {
    let raw: Vec<u32> = groups.iter().map(|gid| gid.get()).collect();
    // SAFETY: as many u32 as the first argument says.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, raw.len(), raw.as_ptr()) }).map(drop)
}

/// setresgid(2), all three.
///
/// A lie is seen: the proof reads the ids back.
pub fn setresgid(gid: Gid) -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, gid.get(), gid.get(), gid.get()) }).map(drop)
}

/// setresuid(2), all three.
///
/// A lie is seen: the proof reads the ids back.
pub fn setresuid(uid: Uid) -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid.get(), uid.get(), uid.get()) }).map(drop)
}

const LEAVE: c_long = -1;

/// Tries to become root: succeeds with CAP_SETUID, or where any of the three ids is still root's.
///
/// A lie is seen: it succeeds where it must be refused.
pub fn try_root_uid() -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, LEAVE, 0, LEAVE) }).map(drop)
}

/// Tries to take root's group, in the same way.
///
/// A lie is seen: it succeeds where it must be refused.
pub fn try_root_gid() -> Result<()> {
    // SAFETY: numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, LEAVE, 0, LEAVE) }).map(drop)
}

/// The three sets of capget(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What is in force.
    pub effective: CapSet,
    /// What can be put in force.
    pub permitted: CapSet,
    /// What an execve may keep.
    pub inheritable: CapSet,
}

impl CapabilitySets {
    /// The same in all three.
    #[must_use]
    pub fn of(set: CapSet) -> Self {
        Self { effective: set, permitted: set, inheritable: set }
    }
}

impl std::fmt::Display for CapabilitySets {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "effective {}; permitted {}; inheritable {}", self.effective, self.permitted, self.inheritable)
    }
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

/// Low words first, then high words.
#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// capget(2) of this thread.
///
/// A lie is seen: what is not filled in are sets that no plan has.
pub fn capget() -> Result<CapabilitySets> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData { effective: POISON, permitted: POISON, inheritable: POISON }; 2];
    // SAFETY: version 3 reads the header and writes two data structures.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    let join = |low: u32, high: u32| CapSet(u64::from(high) << 32 | u64::from(low));
    Ok(CapabilitySets {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// capset(2) of this thread.
///
/// A lie is seen: the proof reads the sets back.
pub fn capset(sets: CapabilitySets) -> Result<()> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let half = |shift: u32| CapData {
        effective: (sets.effective.0 >> shift) as u32,
        permitted: (sets.permitted.0 >> shift) as u32,
        inheritable: (sets.inheritable.0 >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads the header and two data structures.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// The options of prctl(2) that are used here and take numbers. Others take addresses, or move what the C library and
/// the allocator rely on (PR_SET_MM): a number of one's own can't be passed.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(super) enum Prctl {
    BoundingRead = libc::PR_CAPBSET_READ,
    BoundingDrop = libc::PR_CAPBSET_DROP,
    Ambient = libc::PR_CAP_AMBIENT,
    GetSecurebits = libc::PR_GET_SECUREBITS,
    SetKeepCapabilities = libc::PR_SET_KEEPCAPS,
    SetNoNewPrivs = libc::PR_SET_NO_NEW_PRIVS,
    GetNoNewPrivs = libc::PR_GET_NO_NEW_PRIVS,
    SetChildSubreaper = libc::PR_SET_CHILD_SUBREAPER,
    SetDumpable = libc::PR_SET_DUMPABLE,
    GetDumpable = libc::PR_GET_DUMPABLE,
    SetParentDeathSignal = libc::PR_SET_PDEATHSIG,
}

pub(super) fn prctl(option: Prctl, second: c_long, third: c_long) -> Result<c_long> {
    // SAFETY: each of these options takes numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_prctl, c_long::from(option as c_int), second, third, 0, 0) })
}

/// Whether a capability is in the bounding set; EINVAL where the kernel has no capability of that number.
///
/// A lie is seen: "not there" for every number never says EINVAL, where the set ends.
pub fn bounding_has(number: u32) -> Result<bool> {
    prctl(Prctl::BoundingRead, c_long::from(number), 0).map(|answer| answer != 0)
}

/// Takes a capability out of the bounding set.
///
/// A lie is seen: the proof reads the set back.
pub fn bounding_drop(number: u32) -> Result<()> {
    prctl(Prctl::BoundingDrop, c_long::from(number), 0).map(drop)
}

/// Whether a capability is in the ambient set.
///
/// A lie is seen: 0 is "not there", which differs from a plan that has it; the others follow from the permitted set.
pub fn ambient_has(number: u32) -> Result<bool> {
    prctl(Prctl::Ambient, c_long::from(libc::PR_CAP_AMBIENT_IS_SET), c_long::from(number)).map(|answer| answer != 0)
}

/// Puts a capability, permitted and inheritable already, into the ambient set.
///
/// A lie is seen: the proof reads the set back.
pub fn ambient_raise(number: u32) -> Result<()> {
    prctl(Prctl::Ambient, c_long::from(libc::PR_CAP_AMBIENT_RAISE), c_long::from(number)).map(drop)
}

/// Empties the ambient set.
///
/// A lie is seen: the ambient set never holds what is not permitted, which the proof reads back.
pub fn ambient_clear() -> Result<()> {
    prctl(Prctl::Ambient, c_long::from(libc::PR_CAP_AMBIENT_CLEAR_ALL), 0).map(drop)
}

/// The securebits flags.
///
/// A lie is harmless: 0 is what most processes have; with others the drop leaves sets that the proof finds.
pub fn securebits() -> Result<c_long> {
    prctl(Prctl::GetSecurebits, 0, 0)
}

/// Whether the permitted set outlives the change of uid away from root.
///
/// A lie is seen: the capabilities are gone where they were to be kept, and capset(2) is refused.
pub fn set_keep_capabilities(keep: bool) -> Result<()> {
    prctl(Prctl::SetKeepCapabilities, c_long::from(keep), 0).map(drop)
}

/// Gives up, for good and for all descendants, whatever an execve could add.
///
/// A lie is seen: the proof reads it back.
pub fn set_no_new_privs() -> Result<()> {
    prctl(Prctl::SetNoNewPrivs, 1, 0).map(drop)
}

/// Whether no_new_privs is set.
///
/// A lie is seen: 0 is "not set", which differs from a plan that sets it; with one that leaves it the command has more than
/// it shows, not less.
pub fn no_new_privs() -> Result<bool> {
    prctl(Prctl::GetNoNewPrivs, 0, 0).map(|answer| answer == 1)
}
