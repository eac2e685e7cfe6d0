//! Makes system calls with arguments that do nothing, each in a process of its own, and prints what became of it:
//! `read 9` (the error number), `getpid ok`, or `mount SIGSYS` where a filter ended the process. A call that is let through
//! fails in another way than one that a filter refuses, wherever the kernel lets itself be made to.
//!
//! `calls foreign` makes calls by the numbers of i386 and x32 in place of them.
//!
//! What a profile forbids: `stepdown --seccomp profile.json node -- calls`, and the same in a container.

#![allow(unsafe_code)]

use std::ffi::c_long;

/// No descriptor, no process.
const NONE: c_long = -1;
/// No memory.
const BAD: c_long = 1;
/// No flag, option or request.
const ODD: c_long = 0x7fff_fff1;

/// The calls, by the names that libc has for them, `SYS_` left out.
macro_rules! calls {
    ($($name:ident($($argument:expr),*))*) => {
        &[$((stringify!($name), libc::$name, &[$($argument),*])),*]
    };
}

type Call = (&'static str, c_long, &'static [c_long]);

const CALLS: &[Call] = calls! {
    SYS_read(NONE, BAD, 1) SYS_write(NONE, BAD, 1) SYS_openat(NONE, BAD, 0) SYS_openat2(NONE, BAD, BAD, 24) SYS_close(NONE)
    SYS_statx(NONE, BAD, 0, 0, BAD) SYS_faccessat2(NONE, BAD, 0, 0) SYS_close_range(10, 5, 0) SYS_copy_file_range(NONE, 0, NONE, 0, 1, 0)
    SYS_getpid() SYS_getuid() SYS_uname(BAD) SYS_sysinfo(BAD) SYS_prctl(ODD) SYS_seccomp(ODD, 0, 0) SYS_capget(BAD, BAD) SYS_capset(BAD, BAD)
    SYS_setuid(1000) SYS_setgroups(1, BAD) SYS_mknodat(NONE, BAD, 0, 0) SYS_chroot(BAD) SYS_pivot_root(BAD, BAD) SYS_mount(0, BAD, 0, 0, 0)
    SYS_umount2(BAD, ODD) SYS_open_tree(NONE, BAD, 0) SYS_move_mount(NONE, BAD, NONE, BAD, ODD) SYS_fsopen(BAD, 0)
    SYS_fsconfig(NONE, ODD, 0, 0, 0) SYS_fsmount(NONE, ODD, 0) SYS_fspick(NONE, BAD, ODD) SYS_mount_setattr(NONE, BAD, ODD, BAD, 0)
    SYS_unshare(0) SYS_unshare(1) SYS_unshare(0x1000_0000) SYS_setns(NONE, 0) SYS_clone(0x1000_0200) SYS_clone(0x2_0200) SYS_clone(0x1_0000)
    SYS_clone3(BAD, 0) SYS_execveat(NONE, BAD, 0, 0, 0) SYS_ptrace(ODD, NONE, 0, 0) SYS_process_vm_readv(NONE, BAD, 1, BAD, 1, 0)
    SYS_process_vm_writev(NONE, BAD, 1, BAD, 1, 0) SYS_process_madvise(NONE, BAD, 1, 0, 0) SYS_kcmp(NONE, NONE, 0, 0, 0)
    SYS_pidfd_open(NONE, 0) SYS_pidfd_getfd(NONE, NONE, 0) SYS_pidfd_send_signal(NONE, 0, 0, 0) SYS_kill(ODD, ODD)
    SYS_init_module(BAD, 1, BAD) SYS_finit_module(NONE, BAD, 0) SYS_delete_module(BAD, 0) SYS_kexec_load(0, 0, 0, 0) SYS_reboot(0, 0, 0, 0)
    SYS_swapon(BAD, ODD) SYS_swapoff(BAD) SYS_acct(0) SYS_quotactl(ODD, BAD, 0, BAD) SYS_sethostname(BAD, ODD) SYS_setdomainname(BAD, ODD)
    SYS_settimeofday(BAD, 0) SYS_clock_settime(0, BAD) SYS_clock_adjtime(0, BAD) SYS_adjtimex(BAD) SYS_syslog(ODD, 0, 0) SYS_vhangup()
    SYS_add_key(BAD, BAD, 0, 0, 0) SYS_request_key(BAD, 0, 0, 0) SYS_keyctl(ODD, 0, 0, 0, 0) SYS_bpf(ODD, BAD, 0)
    SYS_perf_event_open(BAD, 0, 0, NONE, 0) SYS_userfaultfd(ODD) SYS_fanotify_init(ODD, 0) SYS_fanotify_mark(NONE, ODD, 0, NONE, 0)
    SYS_io_uring_setup(0, BAD) SYS_io_uring_enter(NONE, 0, 0, 0, 0, 0) SYS_io_uring_register(NONE, ODD, 0, 0) SYS_io_setup(0, BAD)
    SYS_open_by_handle_at(NONE, BAD, 0) SYS_name_to_handle_at(NONE, BAD, BAD, BAD, ODD) SYS_get_mempolicy(BAD, 0, 0, 0, ODD)
    SYS_set_mempolicy(ODD, 0, 0) SYS_mbind(BAD, 1, ODD, 0, 0, 0) SYS_migrate_pages(NONE, 0, 0, 0) SYS_move_pages(NONE, 0, 0, 0, 0, ODD)
    SYS_landlock_create_ruleset(BAD, 1, 0) SYS_landlock_restrict_self(NONE, 0) SYS_memfd_create(BAD, 0) SYS_memfd_secret(ODD)
    SYS_mq_open(BAD, 0, 0, 0) SYS_shmget(0, 0, 0) SYS_msgget(ODD, 0) SYS_semget(0, NONE, 0) SYS_futex_waitv(BAD, 0, 0, 0, 0) SYS_rseq(BAD, 0, 0, 0)
    SYS_epoll_pwait2(NONE, BAD, 1, 0, 0, 0) SYS_sched_setattr(0, BAD, 0) SYS_ioctl(NONE, 0x5401) SYS_ioctl(NONE, 0x5412)
    SYS_personality(0) SYS_personality(8) SYS_personality(0x2_0008) SYS_personality(0xffff_ffff) SYS_personality(0x4_0000)
    SYS_personality(NONE) SYS_socket(1, 1, 0) SYS_socket(2, 1, 0) SYS_socket(10, 2, 0) SYS_socket(16, 3, 0) SYS_socket(16, 3, 9)
    SYS_socket(16, 3, 15) SYS_socket(17, 3, 0) SYS_socket(38, 5, 0) SYS_socket(40, 1, 0) SYS_socketpair(1, ODD, 0, BAD)
    SYS_quotactl_fd(NONE, ODD, 0, 0) SYS_process_mrelease(NONE, ODD) SYS_set_mempolicy_home_node(0, 0, 0, ODD) SYS_lookup_dcookie(0, BAD, 0)
    SYS_remap_file_pages(BAD, 1, 1, 1, 1) SYS_nfsservctl(0, 0, 0)
};

#[cfg(target_arch = "x86_64")]
const CALLS_HERE: &[Call] = calls! {
    SYS_open(BAD, 0) SYS_mknod(BAD, 0, 0) SYS_iopl(ODD) SYS_ioperm(ODD, ODD, 1) SYS_modify_ldt(0, BAD, 8) SYS_arch_prctl(ODD, 0) SYS_uselib(BAD)
    SYS_ustat(ODD, BAD) SYS_sysfs(ODD) SYS__sysctl(BAD) SYS_kexec_file_load(NONE, NONE, 0, 0, ODD) SYS_time(BAD)
};
#[cfg(not(target_arch = "x86_64"))]
const CALLS_HERE: &[Call] = &[];

/// What libc has no name for yet; and numbers that no kernel has.
const NEWER: &[Call] = &[
    ("SYS_cachestat", 451, &[NONE, BAD, BAD, 0]),
    ("SYS_fchmodat2", 452, &[NONE, BAD, 0, 0]),
    ("SYS_futex_wake", 454, &[BAD, 0, 0, ODD]),
    ("SYS_statmount", 457, &[BAD, BAD, 0, 0]),
    ("SYS_listmount", 458, &[BAD, BAD, 0, 0]),
    ("SYS_mseal", 462, &[BAD, 1, ODD]),
    ("SYS_511", 511, &[]),
    ("SYS_1000", 1000, &[]),
];

fn main() {
    if std::env::args().nth(1).as_deref() == Some("foreign") {
        return foreign::all();
    }
    for (name, number, arguments) in CALLS.iter().chain(CALLS_HERE).chain(NEWER) {
        let words: Vec<String> = arguments.iter().map(|argument| format!("{argument}")).collect();
        let name = name.trim_start_matches("SYS_");
        println!("{name}({}) {}", words.join(", "), outcome(|| raw(*number, arguments)));
    }
}

fn raw(number: c_long, arguments: &[c_long]) -> c_long {
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: no argument leads to memory that is there: see the list.
    let result = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    if result == -1 { -c_long::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { result }
}

/// What became of a call in a child.
fn outcome(call: impl FnOnce() -> c_long) -> String {
    // SAFETY: a page that parent and child share; both are single-threaded, and the child ends by a signal, which
    // runs nothing else.
    unsafe {
        let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        let page = libc::mmap(std::ptr::null_mut(), 4096, protection, kind, -1, 0).cast::<c_long>();
        assert!(page as isize != -1, "mmap");
        let parent = libc::getpid();
        let child = libc::fork();
        if child == 0 {
            page.write_volatile(call());
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
        assert!(child > 0 && parent == libc::getpid(), "fork");
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        let result = page.read_volatile();
        libc::munmap(page.cast(), 4096);
        match libc::WTERMSIG(status) {
            libc::SIGSYS => "SIGSYS".to_owned(),
            _ if result < 0 => format!("{}", -result),
            _ => "ok".to_owned(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod foreign {
    use super::{c_long, outcome, raw};

    /// getpid(2), getuid(2), ptrace(2).
    pub fn all() {
        for (name, i386, x32) in [("getpid", 20, 39), ("getuid", 24, 102), ("ptrace", 26, 521)] {
            println!("i386 {name} {}", outcome(|| interrupt(i386)));
            println!("x32 {name} {}", outcome(|| raw(0x4000_0000 | x32, &[])));
        }
        println!("x32 ptrace without its bit {}", outcome(|| raw(521, &[super::ODD, super::NONE])));
    }

    fn interrupt(number: c_long) -> c_long {
        let result: c_long;
        // SAFETY: the kernel takes the call by the registers of i386; none of these calls reads memory. rbx, which
        // the compiler keeps to itself, is put back.
        unsafe {
            std::arch::asm!(
                "xchg {first}, rbx", "int 0x80", "xchg {first}, rbx",
                first = inout(reg) 0x7fff_fff1_i64 => _, inlateout("rax") number => result, in("rcx") -1_i64,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        c_long::from(result as i32)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod foreign {
    /// There are none that a program of this architecture can make.
    pub fn all() {}
}
