//! The floor: the system calls that the job needs and nothing else, without a C library or Rust's start-up.
//!
//! `floor UID GID COMMAND [ARG...]` drops root as `stepdown` does and proves it. It reads the account files
//! but is told the ids, and it checks only what decides whether the command may start. Without arguments it
//! exits at once: the bare target. The bench compiles it; it is no part of the package.
#![no_std]
#![no_main]
#![allow(missing_docs)]

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const CLOSE: usize = 3;
    pub const FSTAT: usize = 5;
    pub const EXECVE: usize = 59;
    pub const EXIT: usize = 60;
    pub const GETGROUPS: usize = 115;
    pub const SETGROUPS: usize = 116;
    pub const SETRESUID: usize = 117;
    pub const GETRESUID: usize = 118;
    pub const SETRESGID: usize = 119;
    pub const GETRESGID: usize = 120;
    pub const CAPGET: usize = 125;
    pub const CAPSET: usize = 126;
    pub const PRCTL: usize = 157;
    pub const OPENAT: usize = 257;
    pub const CLOSE_RANGE: usize = 436;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const CLOSE: usize = 57;
    pub const FSTAT: usize = 80;
    pub const EXECVE: usize = 221;
    pub const EXIT: usize = 93;
    pub const GETGROUPS: usize = 158;
    pub const SETGROUPS: usize = 159;
    pub const SETRESUID: usize = 147;
    pub const GETRESUID: usize = 148;
    pub const SETRESGID: usize = 149;
    pub const GETRESGID: usize = 150;
    pub const CAPGET: usize = 90;
    pub const CAPSET: usize = 91;
    pub const PRCTL: usize = 167;
    pub const OPENAT: usize = 56;
    pub const CLOSE_RANGE: usize = 436;
}

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start: mov rdi, rsp", "and rsp, -16", "call {}", sym run);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start: mov x0, sp", "bl {}", sym run);

#[cfg(target_arch = "x86_64")]
fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result;
    // SAFETY: a system call; whoever calls passes pointers that the kernel may use as it does.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             in("r8") 0, out("rcx") _, out("r11") _);
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result;
    // SAFETY: as above.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d, in("x4") 0);
    }
    result
}

const PR_CAPBSET_READ: usize = 23;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;
const PR_GET_NO_NEW_PRIVS: usize = 39;
const PR_CAP_AMBIENT: usize = 47;
const PR_CAP_AMBIENT_CLEAR_ALL: usize = 4;
const LEAVE: usize = usize::MAX;
const EINVAL: isize = -22;

extern "C" fn run(stack: *const usize) -> ! {
    // SAFETY: the kernel put argc, argv and envp there.
    let (count, argv) = unsafe { (*stack, stack.add(1) as *const *const u8) };
    if count < 4 {
        exit(0);
    }
    // SAFETY: there are at least four arguments, and the environment follows the null pointer behind the last.
    let (uid, gid, command, environment) =
        unsafe { (decimal(*argv.add(1)), decimal(*argv.add(2)), argv.add(3), argv.add(count + 1)) };
    look();
    must(drop_root(uid, gid));
    must(proved(uid, gid));
    must(call(number::CLOSE_RANGE, [3, u32::MAX as usize, 0, 0]) == 0);
    // SAFETY: the command is argv's fourth element.
    call(number::EXECVE, unsafe { [*command as usize, command as usize, environment as usize, 0] });
    exit(127)
}

/// What has to be known first: the streams, the accounts, who we are.
fn look() {
    let mut room = MaybeUninit::<[u64; 512]>::uninit();
    let buffer = room.as_mut_ptr() as usize;
    for fd in 0..=2 {
        must(call(number::FSTAT, [fd, buffer, 0, 0]) == 0);
    }
    for path in [c"/etc/passwd", c"/etc/group"] {
        let fd = call(number::OPENAT, [0, path.as_ptr() as usize, 0o2000000, 0]);
        must(fd > 2 && call(number::FSTAT, [fd as usize, buffer, 0, 0]) == 0);
        must(call(number::READ, [fd as usize, buffer, 4096, 0]) >= 0);
        must(call(number::CLOSE, [fd as usize, 0, 0, 0]) == 0);
    }
    must(call(number::GETRESUID, [buffer, buffer + 4, buffer + 8, 0]) == 0);
    must(call(number::GETRESGID, [buffer, buffer + 4, buffer + 8, 0]) == 0);
    must(call(number::GETGROUPS, [64, buffer, 0, 0]) >= 0);
}

const CAP_HEADER: [u32; 2] = [0x2008_0522, 0];

fn drop_root(uid: usize, gid: usize) -> bool {
    let groups = [gid as u32];
    let header = CAP_HEADER.as_ptr() as usize;
    let (mut held, none) = ([0u32; 6], [0u32; 6]);
    call(number::SETGROUPS, [1, groups.as_ptr() as usize, 0, 0]) == 0
        && call(number::SETRESGID, [gid, gid, gid, 0]) == 0
        && call(number::CAPGET, [header, held.as_mut_ptr() as usize, 0, 0]) == 0
        && drop_bounding(u64::from(held[1]) | u64::from(held[4]) << 32)
        && call(number::SETRESUID, [uid, uid, uid, 0]) == 0
        && call(number::CAPSET, [header, none.as_ptr() as usize, 0, 0]) == 0
        && call(number::PRCTL, [PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0]) == 0
        && call(number::PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0, 0]) == 0
}

fn drop_bounding(permitted: u64) -> bool {
    for capability in 0..64 {
        let present = match permitted >> capability & 1 {
            1 => 1,
            _ => call(number::PRCTL, [PR_CAPBSET_READ, capability, 0, 0]),
        };
        match present {
            0 => {}
            1 if call(number::PRCTL, [PR_CAPBSET_DROP, capability, 0, 0]) == 0 => {}
            result => return result == EINVAL,
        }
    }
    false
}

fn proved(uid: usize, gid: usize) -> bool {
    let mut found = [0u32; 16];
    let (buffer, header) = (found.as_mut_ptr() as usize, CAP_HEADER.as_ptr() as usize);
    call(number::GETRESUID, [buffer, buffer + 4, buffer + 8, 0]) == 0
        && call(number::GETRESGID, [buffer + 12, buffer + 16, buffer + 20, 0]) == 0
        && call(number::GETGROUPS, [8, buffer + 24, 0, 0]) == 1
        && found[..7] == [uid as u32, uid as u32, uid as u32, gid as u32, gid as u32, gid as u32, gid as u32]
        && call(number::CAPGET, [header, buffer, 0, 0]) == 0
        && found[..6] == [0; 6]
        && bounding_is_empty()
        && call(number::PRCTL, [PR_GET_NO_NEW_PRIVS, 0, 0, 0]) == 1
        && call(number::SETRESUID, [LEAVE, 0, LEAVE, 0]) < 0
        && call(number::SETRESGID, [LEAVE, 0, LEAVE, 0]) < 0
}

fn bounding_is_empty() -> bool {
    for capability in 0..=64 {
        match call(number::PRCTL, [PR_CAPBSET_READ, capability, 0, 0]) {
            0 => {}
            result => return result == EINVAL,
        }
    }
    false
}

fn decimal(mut text: *const u8) -> usize {
    let mut value = 0;
    // SAFETY: a C string.
    unsafe {
        while *text != 0 {
            value = value * 10 + usize::from(*text - b'0');
            text = text.add(1);
        }
    }
    value
}

fn must(done: bool) {
    if !done {
        exit(125);
    }
}

fn exit(code: usize) -> ! {
    loop {
        call(number::EXIT, [code, 0, 0, 0]);
    }
}

#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(134)
}
