//! Which system calls the command may make: seccomp(2).
//!
//! A profile, read from a file ([`of_profile`]) or our own ([`service()`]), becomes a policy: what is answered to each
//! call. `program` turns that into one BPF program. Nothing here asks or changes anything: loading is
//! [`crate::sys::load_filter`].
//!
//! Why not the crate seccompiler: it has one action beside the default in a filter, where Docker's and podman's
//! profiles have several; a filter for each of these, stacked, would be run one after the other at each call. It looks
//! for a call from the first to the last, 5 instructions each, where a tree takes 8 or 9 comparisons. It kills
//! at a call of a foreign architecture, and takes one of the x32 ABI for a number like others.
//!
//! **Foreign calls**: those of another architecture (i386 on x86_64, arm on aarch64) and of x32 are answered with ENOSYS
//! by every filter, whatever the profile says. Their numbers mean other calls, and what is forbidden by one number
//! must not be had by another.

mod calls;
mod json;
mod profile;
mod program;
mod service;
#[cfg(test)]
mod tests;

use crate::capabilities::CapSet;

pub use profile::of_profile;
pub use service::service;

/// The most that is read of a profile, in bytes. The engines' own have 20,000.
pub const SIZE_MAX: u64 = 16 << 20;

/// What the `includes` and `excludes` of a profile ask.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The capabilities that the command keeps: usually none.
    pub kept: CapSet,
    /// The release of the running kernel: 6.12 is (6, 12).
    pub kernel: (u32, u32),
}

/// What the kernel does with a call: the value that a filter returns for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Action(u32);

impl Action {
    const ALLOW: Self = Self(libc::SECCOMP_RET_ALLOW);
    const LOG: Self = Self(libc::SECCOMP_RET_LOG);
    const TRAP: Self = Self(libc::SECCOMP_RET_TRAP);
    const KILL_THREAD: Self = Self(libc::SECCOMP_RET_KILL_THREAD);
    const KILL_PROCESS: Self = Self(libc::SECCOMP_RET_KILL_PROCESS);
    const EPERM: Self = Self::errno(libc::EPERM as u16);
    const ENOSYS: Self = Self::errno(libc::ENOSYS as u16);

    /// The call fails with this error number, at most 4095.
    const fn errno(number: u16) -> Self {
        Self(libc::SECCOMP_RET_ERRNO | number as u32)
    }

    /// The kernel's own order (seccomp(2)): the lower, the more it takes away.
    fn leniency(self) -> i32 {
        (self.0 & libc::SECCOMP_RET_ACTION_FULL).cast_signed()
    }

    /// Whether the call is made.
    fn lets_pass(self) -> bool {
        self == Self::ALLOW || self == Self::LOG
    }
}

/// How an argument is compared, as 64 bits without a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// Equal in the bits of this mask.
    Masked(u64),
}

/// Something that is asked of one argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Condition {
    /// 0 to 5.
    argument: u8,
    comparison: Comparison,
    value: u64,
}

impl Condition {
    /// That the argument, an int for the kernel, is this one. What is above its 32 bits the kernel never looks at, and
    /// so must not we (CVE-2019-7303).
    const fn int(argument: u8, value: u32) -> Self {
        Self::equal_in(argument, u32::MAX as u64, value as u64)
    }

    /// That the argument is this value in the bits of a mask.
    const fn equal_in(argument: u8, mask: u64, value: u64) -> Self {
        Self { argument, comparison: Comparison::Masked(mask), value }
    }
}

/// An action that is taken where all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    conditions: Vec<Condition>,
    action: Action,
}

/// What is answered to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// Always the same: where it is to allow, the kernel remembers that and never runs the filter (Linux 5.11).
    Always(Action),
    /// The first rule that holds says; without one, the last word does.
    ByArguments(Vec<Rule>, Action),
}

/// What is answered to each call of this architecture.
struct Policy {
    /// By number; none where the default is answered.
    calls: Vec<Option<Answer>>,
    /// To all other calls.
    default: Action,
    /// Calls above this number are said not to exist: a program then does without, which it would not after EPERM.
    newest: Option<u32>,
}

impl Policy {
    /// The same to all calls.
    fn new(default: Action) -> Self {
        Self { calls: vec![None; calls::END], default, newest: None }
    }

    /// The answer to a call that is known. Others have none of their own.
    fn answer_mut(&mut self, call: u32) -> Option<&mut Option<Answer>> {
        self.calls.get_mut(call as usize)
    }

    fn set(&mut self, call: u32, answer: Answer) {
        if let Some(slot) = self.answer_mut(call) {
            *slot = Some(answer);
        }
    }
}
