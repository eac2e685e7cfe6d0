//! The rules of `--seccomp service`, one by one.

use super::interpreter::{check, is_always_allowed};
use super::{Call, calls, number, run};
use crate::confine::bpf::Program;
use crate::confine::seccomp::service;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const EAFNOSUPPORT: u32 = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32;

const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

fn program() -> Program {
    let programs = service().unwrap();
    let [program] = &programs[..] else { panic!("{} programs", programs.len()) };
    check(program);
    program.clone()
}

fn verdict(name: &str, arguments: [u64; 6]) -> u32 {
    run(&program(), &Call::new(number(name), arguments))
}

/// What never may be done, whatever the arguments.
const NEVER: &[&str] = &[
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "open_tree",
    "open_tree_attr",
    "move_mount",
    "mount_setattr",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "fchroot",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "add_key",
    "request_key",
    "keyctl",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "kcmp",
    "pidfd_getfd",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "setns",
    "acct",
    "quotactl",
    "quotactl_fd",
    "settimeofday",
    "clock_settime",
    "adjtimex",
    "clock_adjtime",
    "syslog",
    "open_by_handle_at",
    "name_to_handle_at",
    "fanotify_init",
    "fanotify_mark",
    "sethostname",
    "setdomainname",
    "vhangup",
    "nfsservctl",
    "migrate_pages",
    "move_pages",
    "mbind",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "lsm_set_self_attr",
];
const NEVER_ON_X86: &[&str] =
    &["iopl", "ioperm", "modify_ldt", "uselib", "ustat", "sysfs", "create_module", "query_module", "get_kernel_syms", "_sysctl"];

#[test]
fn what_a_service_never_needs_is_not_permitted() {
    let program = program();
    let here = if cfg!(target_arch = "x86_64") { NEVER_ON_X86 } else { &[] };
    for name in NEVER.iter().chain(here) {
        for argument in [0, 1, u64::MAX] {
            assert_eq!(run(&program, &Call::new(number(name), [argument; 6])), EPERM, "{name}");
        }
    }
    for name in ["clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "statmount", "listmount", "listns"] {
        assert_eq!(run(&program, &Call::new(number(name), [0; 6])), ENOSYS, "{name}");
    }
}

#[test]
fn numbers_that_are_in_no_table_do_not_exist() {
    let program = program();
    for number in 0..2000 {
        if calls::all().all(|(_, known)| known != number) {
            assert_eq!(run(&program, &Call::new(number, [0; 6])), ENOSYS, "{number}");
        }
    }
}

#[test]
fn most_calls_are_left_to_the_kernels_memory() {
    let program = program();
    let always = calls::all().filter(|(_, number)| is_always_allowed(&program, *number)).count();
    assert!(always > 240, "{always}");
    for name in ["read", "write", "sendmsg", "recvmsg", "epoll_pwait", "futex", "openat", "mmap", "accept4", "clock_gettime"] {
        assert!(is_always_allowed(&program, number(name)), "{name}");
    }
}

#[test]
fn processes_and_threads_can_be_made_but_no_namespaces() {
    let thread = 0x3d_0f00; // CLONE_VM and all the others of a C library's thread
    for flags in [0, libc::SIGCHLD as u64, thread, 0x4111, 0x80] {
        assert_eq!(verdict("clone", [flags, 0, 0, 0, 0, 0]), ALLOW, "{flags:#x}");
    }
    for flag in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        for others in [0, thread, 0x11, 1 << 40] {
            assert_eq!(verdict("clone", [flag | others, 0, 0, 0, 0, 0]), EPERM, "{flag:#x}");
            assert_eq!(verdict("unshare", [flag | others, 0, 0, 0, 0, 0]), EPERM, "{flag:#x}");
        }
    }
    assert_eq!(verdict("unshare", [0x80, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(verdict("unshare", [0x600, 0, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn nothing_is_typed_into_the_terminal_whatever_stands_above_32_bits() {
    for request in [TIOCSTI, TIOCLINUX] {
        for above in [0, 1 << 32, 0xffff_ffff_0000_0000] {
            assert_eq!(verdict("ioctl", [0, request | above, 0, 0, 0, 0]), EPERM, "{request:#x} {above:#x}");
        }
    }
    for request in [0x5401 /* TCGETS */, 0x541b /* FIONREAD */, 0x5413 /* TIOCGWINSZ */, 0, u64::MAX] {
        assert_eq!(verdict("ioctl", [0, request, 0, 0, 0, 0]), ALLOW, "{request:#x}");
    }
}

#[test]
fn sockets_are_those_of_a_network_service() {
    for above in [0, 7 << 32] {
        for family in [1, 2, 10] {
            assert_eq!(verdict("socket", [family | above, 1, 6, 0, 0, 0]), ALLOW, "{family}");
        }
        assert_eq!(verdict("socket", [16 | above, 3, above, 0, 0, 0]), ALLOW);
    }
    for protocol in [4, 9, 12, 15, 16, 20] {
        assert_eq!(verdict("socket", [16, 3, protocol, 0, 0, 0]), EAFNOSUPPORT, "netlink {protocol}");
    }
    for family in (0..64).filter(|family| ![1, 2, 10, 16].contains(family)) {
        assert_eq!(verdict("socket", [family, 1, 0, 0, 0, 0]), EAFNOSUPPORT, "{family}");
    }
    assert_eq!(verdict("socketpair", [1, 1, 0, 0, 0, 0]), ALLOW);
    assert_eq!(verdict("socketpair", [30, 1, 0, 0, 0, 0]), EAFNOSUPPORT);
}

#[test]
fn no_personality_takes_protections_away_and_no_device_is_made() {
    for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff, 0xffff_ffff_ffff_ffff] {
        assert_eq!(verdict("personality", [persona, 0, 0, 0, 0, 0]), ALLOW, "{persona:#x}");
    }
    for persona in [0x4_0000, 0x10_0000, 0x40_0000, 0x80_0000, 0x4_0008] {
        assert_eq!(verdict("personality", [persona, 0, 0, 0, 0, 0]), EPERM, "{persona:#x}");
    }
    for (kind, expected) in
        [(0, ALLOW), (0o100_000, ALLOW), (0o010_000, ALLOW), (0o140_000, ALLOW), (0o020_000, EPERM), (0o060_000, EPERM)]
    {
        for mode in [kind | 0o666, kind | 0o4755, kind | 7 << 32] {
            assert_eq!(verdict("mknodat", [0, 0, mode, 0, 0, 0]), expected, "{mode:o}");
            #[cfg(target_arch = "x86_64")]
            assert_eq!(verdict("mknod", [0, mode, 0, 0, 0, 0]), expected, "{mode:o}");
        }
    }
}
