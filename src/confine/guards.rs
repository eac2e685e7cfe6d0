//! Small filters of our own.

use super::bpf::{self, ARCHITECTURE, COMPAT, NATIVE, NUMBER, Program, allow, load, low_half, refuse, unless_any, unless_equal};

/// ioctl(2) by each kind of numbers that the kernel takes.
#[cfg(target_arch = "x86_64")]
const IOCTL: [(u32, u32); 4] =
    [(NATIVE, libc::SYS_ioctl as u32), (NATIVE, bpf::X32 | 514), (NATIVE, bpf::X32 | libc::SYS_ioctl as u32), (COMPAT, 54)];
#[cfg(target_arch = "aarch64")]
const IOCTL: [(u32, u32); 2] = [(NATIVE, libc::SYS_ioctl as u32), (COMPAT, 54)];

/// ioctl_tty(2): to type, and to paste on a console. Both are `unsigned int` to the kernel: a filter that compares all
/// 64 bits lets them through with other bits set above (CVE-2019-7303).
const TYPING: [u32; 2] = [libc::TIOCSTI as u32, 0x541c];

/// A command that shares the terminal of a root shell can't type into it: CVE-2005-4890, CVE-2017-5226.
#[must_use]
pub fn terminal() -> Program {
    let mut program = Program::new();
    for (architecture, number) in IOCTL {
        let check =
            [load(low_half(1)), unless_equal(TYPING[0], 1), refuse(libc::EPERM), unless_equal(TYPING[1], 1), refuse(libc::EPERM)];
        let over_all = check.len() as u8 + 1;
        program.extend([
            load(ARCHITECTURE),
            unless_equal(architecture, over_all + 2),
            load(NUMBER),
            unless_equal(number, over_all),
        ]);
        program.extend(check);
        program.push(allow());
    }
    program.push(allow());
    program
}

const IPPROTO_SMC: u32 = 256;
const IPPROTO_MPTCP: u32 = 262;
const AF_SMC: u32 = 43;

/// The calls that take an address, and which argument of each has the flags: send(2).
const SENDING: [(libc::c_long, u32); 3] = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];

/// Landlock looks at TCP sockets alone, and MPTCP and SMC listen on the same ports: with them `--bind-tcp 80` would be
/// no more than a word. Nor does it look at a connection that is made by sending (TCP Fast Open): what is said of that is
/// what a kernel says where it is switched off, so that programs fall back to connect(2). io_uring makes sockets unseen by
/// any filter.
#[must_use]
pub fn tcp() -> Program {
    let mut program = Program::from(bpf::own_numbers_only());
    program.extend([unless_equal(libc::SYS_io_uring_setup as u32, 1), refuse(libc::ENOSYS)]);
    for (number, flags) in SENDING {
        program.extend([
            unless_equal(number as u32, 4),
            load(low_half(flags)),
            unless_any(libc::MSG_FASTOPEN as u32, 1),
            refuse(libc::EOPNOTSUPP),
            allow(),
        ]);
    }
    program.extend([
        unless_equal(libc::SYS_socket as u32, 8),
        load(low_half(0)),
        unless_equal(AF_SMC, 1),
        refuse(libc::EAFNOSUPPORT),
        load(low_half(2)),
        unless_equal(IPPROTO_MPTCP, 1),
        refuse(libc::EPROTONOSUPPORT),
        unless_equal(IPPROTO_SMC, 1),
        refuse(libc::EPROTONOSUPPORT),
        allow(),
    ]);
    program
}
