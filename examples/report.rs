//! Prints, as JSON, what this process really has: ids, groups, capability sets, securebits, no_new_privs, limits,
//! signal state, descriptors, environment, and whether it could take root back. Everything is asked of
//! the kernel by system calls, so it tells the truth in a container without /proc as well.
//!
//! Put it where your service would be: `stepdown node -- report`, `docker run … IMAGE report`. `report --to FILE` writes
//! it to a file that is there already, for who starts it without a stdout.

#![no_main] // Rust's own start-up would change the signals that are to be reported.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)] // one system call each, most of them with numbers alone
#![allow(clippy::indexing_slicing)] // into arrays whose length is written beside them

use std::ffi::{CStr, c_char};

use serde_json::{Value, json};

#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, argv: *const *const c_char) -> i32 {
    // SAFETY: the arrays that the kernel laid out for main: argv, then envp, each ended by a null pointer.
    let (arguments, environment) = unsafe {
        let arguments = strings(argv);
        let environment = strings(argv.add(arguments.len() + 1));
        (arguments, environment)
    };
    // Before anything is opened here.
    let descriptors = descriptors();
    let report = json!({
        "pid": unsafe { libc::getpid() },
        "ppid": unsafe { libc::getppid() },
        "process_group": unsafe { libc::getpgrp() },
        "session": unsafe { libc::getsid(0) },
        "foreground": unsafe { libc::tcgetpgrp(0) },
        "arguments": &arguments,
        "environment": environment,
        "uids": triple(libc::SYS_getresuid),
        "gids": triple(libc::SYS_getresgid),
        "groups": groups(),
        "capabilities": capabilities(),
        "securebits": unsafe { libc::prctl(libc::PR_GET_SECUREBITS) },
        "no_new_privs": unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) },
        // Set where the kernel started it with more rights than its starter had: set-user-ID and its kin (getauxval(3)).
        "secure": unsafe { libc::getauxval(libc::AT_SECURE) },
        "seccomp": unsafe { libc::prctl(libc::PR_GET_SECCOMP) },
        "can_list_root": std::fs::read_dir("/").is_ok(),
        "limits": limits(),
        // The raw call says 20 less the value.
        "nice": 20 - unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) },
        "oom_score_adj": std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default().trim(),
        "parent_death_signal": parent_death_signal(),
        "blocked_signals": blocked(),
        "ignored_signals": ignored(),
        "descriptors": descriptors,
        "peak_memory": peak_memory(),
        "directory": std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
        "umask": unsafe { let mask = libc::umask(0); libc::umask(mask); format!("{mask:04o}") },
        // Last: where it succeeds, the process is somebody else afterwards.
        "can_become_root": unsafe { libc::setresuid(u32::MAX, 0, u32::MAX) == 0 },
        "can_take_root_group": unsafe { libc::setresgid(u32::MAX, 0, u32::MAX) == 0 },
    });
    match arguments.iter().skip_while(|word| *word != "--to").nth(1) {
        None => println!("{report}"),
        Some(file) => {
            let written = std::fs::OpenOptions::new().write(true).open(file);
            if written.and_then(|mut file| std::io::Write::write_all(&mut file, report.to_string().as_bytes())).is_err() {
                return 1;
            }
        }
    }
    0
}

unsafe fn strings(mut array: *const *const c_char) -> Vec<String> {
    let mut found = Vec::new();
    // SAFETY: the caller's.
    unsafe {
        while !(*array).is_null() {
            found.push(CStr::from_ptr(*array).to_string_lossy().into_owned());
            array = array.add(1);
        }
    }
    found
}

fn triple(call: libc::c_long) -> [u32; 3] {
    let mut ids = [u32::MAX; 3];
    // SAFETY: three pointers to u32.
    unsafe { libc::syscall(call, &raw mut ids[0], &raw mut ids[1], &raw mut ids[2]) };
    ids
}

fn groups() -> Vec<u32> {
    let mut groups = vec![0; 65536];
    // SAFETY: room for as many as the first argument says.
    let count = unsafe { libc::getgroups(65536, groups.as_mut_ptr()) };
    groups.truncate(usize::try_from(count).unwrap_or(0));
    groups
}

/// The five sets, as lists of capability numbers.
fn capabilities() -> Value {
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 of capget(2): a header of two words, two structures of three words.
    unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    let set = |low: usize| -> Vec<u32> {
        let bits = u64::from(data[low + 3]) << 32 | u64::from(data[low]);
        (0..64).filter(|number| bits >> number & 1 == 1).collect()
    };
    let asked = |ask: &dyn Fn(u32) -> i32| -> Vec<u32> { (0..64).filter(|&number| ask(number) == 1).collect() };
    json!({
        "effective": set(0),
        "permitted": set(1),
        "inheritable": set(2),
        "bounding": asked(&|number| unsafe { libc::prctl(libc::PR_CAPBSET_READ, number) }),
        "ambient": asked(&|number| unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET, number, 0, 0) }),
    })
}

/// Soft and hard, in the kernel's order; null for none.
fn limits() -> Vec<[Option<u64>; 2]> {
    let limit = |resource: u32| {
        let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: nothing to read, a structure to fill in.
        unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<u8>(), &raw mut limit) };
        [limit.rlim_cur, limit.rlim_max].map(|value| Some(value).filter(|&value| value != u64::MAX))
    };
    (0..16).map(limit).collect()
}

fn parent_death_signal() -> i32 {
    let mut signal = -1;
    // SAFETY: an integer to fill in.
    unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
    signal
}

fn blocked() -> Vec<u32> {
    let mut mask = 0u64;
    // SAFETY: the kernel's signal set is 8 bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, 0, std::ptr::null::<u64>(), &raw mut mask, 8) };
    (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1).collect()
}

fn ignored() -> Vec<i32> {
    // The kernel's struct sigaction: handler, flags, restorer, mask.
    let is_ignored = |signal: &i32| {
        let mut action = [0usize; 8];
        // SAFETY: room for the structure, and the size of the signal set.
        let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, *signal, std::ptr::null::<u8>(), action.as_mut_ptr(), 8) };
        result == 0 && action[0] == libc::SIG_IGN
    };
    (1..=64).filter(is_ignored).collect()
}

/// How much memory, in KiB, this process had resident at most: in all programs that it has been (getrusage(2)).
fn peak_memory() -> i64 {
    // SAFETY: all zero is a valid rusage; the call fills it in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    usage.ru_maxrss
}

/// Every open descriptor up to 4096: what it is, whose it is, and whether it can be opened anew.
fn descriptors() -> Vec<Value> {
    (0..4096)
        .filter_map(|fd| {
            // SAFETY: all zero is a valid stat; the call fills it in.
            let mut facts: libc::stat = unsafe { std::mem::zeroed() };
            if unsafe { libc::fstat(fd, &raw mut facts) } != 0 {
                return None;
            }
            let kind = match facts.st_mode & libc::S_IFMT {
                libc::S_IFIFO => "pipe",
                libc::S_IFSOCK => "socket",
                libc::S_IFCHR => "character device",
                libc::S_IFREG => "file",
                libc::S_IFDIR => "directory",
                _ => "other",
            };
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
            let path = format!("/proc/self/fd/{fd}\0");
            // O_NONBLOCK, or a FIFO would wait for its other end.
            let again = unsafe { libc::open(path.as_ptr().cast(), flags & libc::O_ACCMODE | libc::O_NONBLOCK) };
            if again >= 0 {
                unsafe { libc::close(again) };
            }
            let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).map(|path| path.display().to_string());
            Some(json!({
                "fd": fd,
                "kind": kind,
                "uid": facts.st_uid,
                "gid": facts.st_gid,
                "can_be_opened_again": again >= 0,
                "target": target.unwrap_or_default(),
            }))
        })
        .collect()
}
