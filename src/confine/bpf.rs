//! The few instructions that a filter of system calls is made of: seccomp(2), and the kernel's networking/filter.rst.

use libc::sock_filter;

/// A filter, as seccomp(2) takes it.
pub type Program = Vec<sock_filter>;

/// Of struct seccomp_data: the call's number.
pub const NUMBER: u32 = 0;
/// Of struct seccomp_data: whose numbers they are.
pub const ARCHITECTURE: u32 = 4;

/// Of struct seccomp_data: the lower half of an argument, which is all that the kernel looks at where the type has 32 bits.
#[must_use]
pub const fn low_half(argument: u32) -> u32 {
    16 + 8 * argument
}

/// AUDIT_ARCH_* of linux/audit.h: this architecture, and the 32-bit one that its kernel runs as well.
#[cfg(target_arch = "x86_64")]
pub const NATIVE: u32 = 0xc000_003e;
/// The 32-bit one.
#[cfg(target_arch = "x86_64")]
pub const COMPAT: u32 = 0x4000_0003;
/// AUDIT_ARCH_* of linux/audit.h: this architecture, and the 32-bit one that its kernel runs as well.
#[cfg(target_arch = "aarch64")]
pub const NATIVE: u32 = 0xc000_00b7;
/// The 32-bit one.
#[cfg(target_arch = "aarch64")]
pub const COMPAT: u32 = 0x4000_0028;

/// __X32_SYSCALL_BIT: in the numbers of x86_64's third kind of calls. No other architecture has a number so high.
pub const X32: u32 = 0x4000_0000;

/// Loads a word of struct seccomp_data.
#[must_use]
pub const fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// Goes on, or passes over so many instructions, by whether the word is this one.
#[must_use]
pub const fn unless_equal(value: u32, pass_over: u8) -> sock_filter {
    sock_filter { code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), jt: 0, jf: pass_over, k: value }
}

/// Goes on, or passes over so many instructions, by whether the word is this one or greater.
#[must_use]
pub const fn unless_at_least(value: u32, pass_over: u8) -> sock_filter {
    sock_filter { code: code(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K), jt: 0, jf: pass_over, k: value }
}

/// Goes on, or passes over so many instructions, by whether the word has one of these bits.
#[must_use]
pub const fn unless_any(bits: u32, pass_over: u8) -> sock_filter {
    sock_filter { code: code(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K), jt: 0, jf: pass_over, k: bits }
}

/// The call is made.
#[must_use]
pub const fn allow() -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW)
}

/// The call is not made, and says this.
#[must_use]
pub const fn refuse(errno: i32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32)
}

/// Calls of another architecture's numbers, and x32's, are refused as if this kernel had none: a rule that knows one
/// kind of numbers says nothing of the others. Leaves the number loaded.
#[must_use]
pub fn own_numbers_only() -> [sock_filter; 6] {
    [
        load(ARCHITECTURE),
        sock_filter { code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), jt: 1, jf: 0, k: NATIVE },
        refuse(libc::ENOSYS),
        load(NUMBER),
        unless_at_least(X32, 1),
        refuse(libc::ENOSYS),
    ]
}

/// How many instructions a mark takes.
pub const MARK: usize = 7;

/// Answers seccomp(2) with this operation, which no kernel has, in words that no kernel has for it (ENOANO). Stands in
/// front of a program, and shows whether that one is in force.
#[must_use]
pub const fn mark(operation: u32) -> [sock_filter; MARK] {
    [
        load(ARCHITECTURE),
        unless_equal(NATIVE, 5),
        load(NUMBER),
        unless_equal(libc::SYS_seccomp as u32, 3),
        load(low_half(0)),
        unless_equal(operation, 1),
        refuse(libc::ENOANO),
    ]
}

const fn statement(operation: u32, k: u32) -> sock_filter {
    sock_filter { code: code(operation), jt: 0, jf: 0, k }
}

const fn code(operation: u32) -> u16 {
    operation as u16
}
