//! `--seccomp service`: what a network service needs.
//!
//! A list of what is allowed. Other known calls fail with EPERM; numbers that are in no table here with ENOSYS, as on a
//! kernel that does not have them yet, and so do those that programs try first and know how to do without.

use anyhow::Error;

use super::calls::{self, *};
use super::{Action, Answer, Condition, Policy, Rule, program};
use crate::confine::bpf::Program;

/// Our own filter: its programs, in the order in which they are to be loaded.
pub fn service() -> Result<Vec<Program>, Error> {
    Ok(vec![program::compile(&policy())?])
}

const EAFNOSUPPORT: Action = Action::errno(libc::EAFNOSUPPORT as u16);

/// Every namespace that clone(2) can make. CLONE_NEWTIME is not among them: there its bit belongs to a signal number.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Those of unshare(2): CLONE_NEWTIME too.
const UNSHARED_NAMESPACES: u64 = NEW_NAMESPACES | 0x80;

/// What is allowed whatever its arguments.
#[rustfmt::skip]
const ALLOWED: &[u32] = &[
    // Descriptors and files.
    SYS_read, SYS_write, SYS_close, SYS_fstat, SYS_lseek, SYS_pread64, SYS_pwrite64, SYS_readv, SYS_writev, SYS_preadv,
    SYS_pwritev, SYS_preadv2, SYS_pwritev2, SYS_dup, SYS_dup3, SYS_pipe2, SYS_fcntl, SYS_flock, SYS_fsync, SYS_fdatasync,
    SYS_sync, SYS_syncfs, SYS_sync_file_range, SYS_truncate, SYS_ftruncate, SYS_fallocate, SYS_fadvise64, SYS_readahead,
    SYS_sendfile, SYS_splice, SYS_tee, SYS_vmsplice, SYS_copy_file_range, SYS_close_range, SYS_cachestat,
    SYS_openat, SYS_openat2, SYS_newfstatat, SYS_statx, SYS_faccessat, SYS_faccessat2, SYS_getdents64, SYS_getcwd,
    SYS_chdir, SYS_fchdir, SYS_mkdirat, SYS_unlinkat, SYS_renameat, SYS_renameat2, SYS_linkat, SYS_symlinkat,
    SYS_readlinkat, SYS_fchmod, SYS_fchmodat, SYS_fchmodat2, SYS_fchown, SYS_fchownat, SYS_utimensat, SYS_umask,
    SYS_statfs, SYS_fstatfs, SYS_file_getattr, SYS_file_setattr,
    SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_setxattrat, SYS_getxattr, SYS_lgetxattr, SYS_fgetxattr, SYS_getxattrat,
    SYS_listxattr, SYS_llistxattr, SYS_flistxattr, SYS_listxattrat, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr,
    SYS_removexattrat, SYS_inotify_init1, SYS_inotify_add_watch, SYS_inotify_rm_watch,
    SYS_io_setup, SYS_io_destroy, SYS_io_submit, SYS_io_cancel, SYS_io_getevents, SYS_io_pgetevents,
    // Waiting for them.
    SYS_pselect6, SYS_ppoll, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_eventfd2,
    SYS_signalfd4, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime,
    // Sockets; which kinds can be made is said below.
    SYS_connect, SYS_accept, SYS_accept4, SYS_bind, SYS_listen, SYS_shutdown, SYS_sendto, SYS_recvfrom, SYS_sendmsg,
    SYS_recvmsg, SYS_sendmmsg, SYS_recvmmsg, SYS_getsockname, SYS_getpeername, SYS_setsockopt, SYS_getsockopt,
    // Memory.
    SYS_brk, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_mremap, SYS_msync, SYS_mincore, SYS_madvise, SYS_mlock, SYS_mlock2,
    SYS_munlock, SYS_mlockall, SYS_munlockall, SYS_remap_file_pages, SYS_membarrier, SYS_memfd_create, SYS_memfd_secret,
    SYS_mseal, SYS_map_shadow_stack, SYS_pkey_alloc, SYS_pkey_free, SYS_pkey_mprotect, SYS_get_mempolicy,
    // System V and POSIX inter-process communication.
    SYS_shmget, SYS_shmat, SYS_shmctl, SYS_shmdt, SYS_semget, SYS_semop, SYS_semctl, SYS_semtimedop, SYS_msgget, SYS_msgsnd,
    SYS_msgrcv, SYS_msgctl, SYS_mq_open, SYS_mq_unlink, SYS_mq_timedsend, SYS_mq_timedreceive, SYS_mq_notify,
    SYS_mq_getsetattr,
    // Processes and threads; which clones can be made is said below.
    SYS_execve, SYS_execveat, SYS_exit, SYS_exit_group, SYS_wait4, SYS_waitid, SYS_kill, SYS_tkill, SYS_tgkill,
    SYS_pidfd_open, SYS_pidfd_send_signal, SYS_process_mrelease, SYS_getpid, SYS_getppid, SYS_gettid, SYS_setpgid,
    SYS_getpgid, SYS_setsid, SYS_getsid, SYS_set_tid_address, SYS_set_robust_list, SYS_get_robust_list, SYS_rseq,
    SYS_rseq_slice_yield, SYS_futex, SYS_futex_wait, SYS_futex_wake, SYS_futex_requeue, SYS_futex_waitv, SYS_prctl,
    SYS_seccomp, SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self, SYS_lsm_get_self_attr,
    SYS_lsm_list_modules,
    // Ids: without capabilities a process can set those that it has.
    SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getresuid, SYS_getresgid, SYS_getgroups, SYS_setuid, SYS_setgid,
    SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setfsuid, SYS_setfsgid, SYS_capget, SYS_capset,
    // Signals.
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigpending, SYS_rt_sigtimedwait, SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo, SYS_rt_sigsuspend, SYS_sigaltstack, SYS_restart_syscall,
    // Time: to read it, and to sleep.
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_times, SYS_getitimer,
    SYS_setitimer, SYS_timer_create, SYS_timer_settime, SYS_timer_gettime, SYS_timer_getoverrun, SYS_timer_delete,
    // Limits, priorities, and what the machine is like.
    SYS_getrlimit, SYS_setrlimit, SYS_prlimit64, SYS_getrusage, SYS_getpriority, SYS_setpriority, SYS_ioprio_get,
    SYS_ioprio_set, SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_sched_getparam, SYS_sched_setparam,
    SYS_sched_getscheduler, SYS_sched_setscheduler, SYS_sched_getattr, SYS_sched_setattr, SYS_sched_get_priority_max,
    SYS_sched_get_priority_min, SYS_sched_rr_get_interval, SYS_getcpu, SYS_sysinfo, SYS_uname, SYS_getrandom,
];

/// The older calls that only x86_64 still has, and the kernel's own (the probes of uprobes: they are called from pages
/// that the kernel puts into a traced process, and nothing else can call them).
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[u32] = &[
    SYS_open, SYS_creat, SYS_stat, SYS_lstat, SYS_access, SYS_mkdir, SYS_rmdir, SYS_unlink, SYS_rename, SYS_link, SYS_symlink,
    SYS_readlink, SYS_chmod, SYS_chown, SYS_lchown, SYS_utime, SYS_utimes, SYS_futimesat, SYS_getdents, SYS_dup2, SYS_pipe,
    SYS_poll, SYS_select, SYS_epoll_create, SYS_epoll_wait, SYS_eventfd, SYS_signalfd, SYS_inotify_init, SYS_fork, SYS_vfork,
    SYS_getpgrp, SYS_alarm, SYS_pause, SYS_time, SYS_arch_prctl, SYS_uprobe, SYS_uretprobe,
];
#[cfg(target_arch = "aarch64")]
const ALLOWED_HERE: &[u32] = &[];

/// What programs try, and do without where a kernel does not have it.
const MISSING: &[u32] = &[
    // Its flags are in memory, where a filter can't see a new namespace; C libraries then call clone.
    SYS_clone3,
    // What it does is seen by no filter.
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    // Who asks for mounts in this way can also read /proc.
    SYS_statmount,
    SYS_listmount,
    SYS_listns,
];

/// What is allowed for some arguments alone: where all conditions of one of these hold. What is answered otherwise.
const BY_ARGUMENTS: &[(u32, &[&[Condition]], Action)] = &[
    (SYS_socket, &[&[UNIX], &[INET], &[INET6], &[NETLINK, Condition::int(2, libc::NETLINK_ROUTE as u32)]], EAFNOSUPPORT),
    (SYS_socketpair, &[&[UNIX]], EAFNOSUPPORT),
    (SYS_clone, &[&[Condition::equal_in(0, NEW_NAMESPACES, 0)]], Action::EPERM),
    (SYS_unshare, &[&[Condition::equal_in(0, UNSHARED_NAMESPACES, 0)]], Action::EPERM),
    (
        SYS_mknodat,
        &[&[kind(2, 0)], &[kind(2, libc::S_IFREG)], &[kind(2, libc::S_IFIFO)], &[kind(2, libc::S_IFSOCK)]],
        Action::EPERM,
    ),
    #[cfg(target_arch = "x86_64")]
    (
        SYS_mknod,
        &[&[kind(1, 0)], &[kind(1, libc::S_IFREG)], &[kind(1, libc::S_IFIFO)], &[kind(1, libc::S_IFSOCK)]],
        Action::EPERM,
    ),
    // PER_LINUX, PER_LINUX32, UNAME26, both: what uname(2) says to old programs. And the question which it is.
    (
        SYS_personality,
        &[
            &[Condition::int(0, 0)],
            &[Condition::int(0, 8)],
            &[Condition::int(0, 0x2_0000)],
            &[Condition::int(0, 0x2_0008)],
            &[Condition::int(0, u32::MAX)],
        ],
        Action::EPERM,
    ),
];

const UNIX: Condition = Condition::int(0, libc::AF_UNIX as u32);
const INET: Condition = Condition::int(0, libc::AF_INET as u32);
const INET6: Condition = Condition::int(0, libc::AF_INET6 as u32);
/// Of its protocols the one for addresses and routes: getifaddrs(3), os.networkInterfaces().
const NETLINK: Condition = Condition::int(0, libc::AF_NETLINK as u32);

/// That the mode in this argument is that of such a file.
const fn kind(argument: u8, kind: libc::mode_t) -> Condition {
    Condition::equal_in(argument, libc::S_IFMT as u64, kind as u64)
}

/// The requests of ioctl(2) that type into the terminal; all others are allowed.
const TYPING: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

pub(super) fn policy() -> Policy {
    let mut policy = Policy::new(Action::ENOSYS);
    calls::all().for_each(|(_, call)| policy.set(call, Answer::Always(Action::EPERM)));
    ALLOWED.iter().chain(ALLOWED_HERE).for_each(|&call| policy.set(call, Answer::Always(Action::ALLOW)));
    MISSING.iter().for_each(|&call| policy.set(call, Answer::Always(Action::ENOSYS)));
    let rule = |conditions: &[Condition], action| Rule { conditions: conditions.to_vec(), action };
    for (call, ways, otherwise) in BY_ARGUMENTS {
        let rules = ways.iter().map(|conditions| rule(conditions, Action::ALLOW)).collect();
        policy.set(*call, Answer::ByArguments(rules, *otherwise));
    }
    let typing = TYPING.iter().map(|&request| rule(&[Condition::int(1, request)], Action::EPERM)).collect();
    policy.set(SYS_ioctl, Answer::ByArguments(typing, Action::ALLOW));
    policy
}
