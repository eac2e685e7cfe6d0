//! Sets a start up in a process of its own, and becomes the program.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStringExt;

use super::Combination;
use super::start::{Leads, Start, Stray, Stream};
use super::trial::Step;
use crate::ownership::inside::Place;

/// The part: `SEED STEP $W PROGRAMS HOLDER`.
pub fn begin(place: &Place) {
    let [seed, step, work, programs, holder] = &place.words[..] else { panic!("{:?}", place.words) };
    let combination = Combination::new(seed.parse().expect("a seed"), work, programs);
    let step = Step::named(step);
    let words = combination.words(step).into_iter().map(|word| CString::new(word).expect("no zero"));
    let words: Vec<CString> = words.collect();
    let environment: Vec<CString> = std::env::vars_os()
        .map(|(name, value)| CString::new([name.into_vec(), value.into_vec()].join(&b'=')).expect("no zero"))
        .collect();
    set(&combination.start, &combination.directory(), holder);
    streams(&combination.start, step);
    let error = nix::unistd::execve(&words[0], &words, &environment);
    // Where stderr is closed, the exit code says it.
    eprintln!("{:?}: {error:?}", words[0]);
    std::process::exit(Step::NOT_BEGUN);
}

/// What the machine that the tests run on forbids is left out: what came of it is looked at, not believed.
fn tried(result: i64, what: &str) {
    let error = io::Error::last_os_error();
    if result < 0 && !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EINVAL)) {
        eprintln!("{what}: {error}");
        std::process::exit(Step::NOT_BEGUN);
    }
}

fn call(number: libc::c_long, arguments: &[u64], what: &str) {
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: numbers, or addresses of what outlives the call and is as long as the kernel reads.
    tried(unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4)) }, what);
}

fn prctl(option: i32, arguments: &[u64], what: &str) {
    call(libc::SYS_prctl, &[&[u64::from(option.unsigned_abs())], arguments].concat(), what);
}

fn set(start: &Start, directory: &str, holder: &str) {
    std::env::set_current_dir(if start.directory.is_empty() { "/".into() } else { format!("{directory}/{}", start.directory) })
        .expect("a directory");
    strays(start);
    match start.leads {
        Leads::Nothing => {}
        Leads::Group => call(libc::SYS_setpgid, &[], "setpgid"),
        Leads::Session => call(libc::SYS_setsid, &[], "setsid"),
    }
    for &(resource, soft, hard) in &start.limits {
        let limit = [soft, hard];
        call(libc::SYS_prlimit64, &[0, u64::from(resource.unsigned_abs()), limit.as_ptr() as u64], "prlimit");
    }
    call(libc::SYS_setpriority, &[0, 0, start.nice as u64], "setpriority");
    call(libc::SYS_umask, &[start.umask.into()], "umask");
    identity(start, holder);
    privileges(start);
    for signal in 1..=64 {
        let handler = if start.ignored >> (signal - 1) & 1 == 1 { libc::SIG_IGN } else { libc::SIG_DFL };
        // The kernel's struct sigaction: handler, flags, restorer, mask.
        let action = [handler as u64, 0, 0, 0];
        call(libc::SYS_rt_sigaction, &[signal, action.as_ptr() as u64, 0, 8], "rt_sigaction");
    }
    let blocked = start.blocked;
    let blocked = (&raw const blocked) as u64;
    call(libc::SYS_rt_sigprocmask, &[libc::SIG_SETMASK as u64, blocked, 0, 8], "rt_sigprocmask");
    // Last: a change of ids clears it.
    prctl(libc::PR_SET_PDEATHSIG, &[start.death_signal as u64], "PR_SET_PDEATHSIG");
}

fn strays(start: &Start) {
    for &(number, stray) in &start.strays {
        let file = match stray {
            Stray::Null => std::fs::File::open("/dev/null").expect("/dev/null").into_raw_fd(),
            Stray::Directory => std::fs::File::open("/").expect("/").into_raw_fd(),
            Stray::Pipe => io::pipe().expect("a pipe").1.into_raw_fd(),
        };
        // SAFETY: two numbers; what this process has open it never uses again.
        tried(unsafe { libc::dup2(file, number) }.into(), "dup2");
        if file != number {
            // SAFETY: a descriptor of this function.
            unsafe { libc::close(file) };
        } else {
            // SAFETY: likewise.
            unsafe { libc::fcntl(file, libc::F_SETFD, 0) };
        }
    }
}

/// Groups before the namespace, in which they may be denied.
fn identity(start: &Start, holder: &str) {
    let namespace = (holder != "0").then(|| std::fs::File::open(format!("/proc/{holder}/ns/user")).expect("a namespace"));
    let groups = start.outside().expect("mapped ids");
    call(libc::SYS_setgroups, &[groups.len() as u64, groups.as_ptr() as u64], "setgroups");
    if let Some(namespace) = namespace {
        call(libc::SYS_setns, &[namespace.as_raw_fd() as u64, libc::CLONE_NEWUSER as u64], "setns");
    }
    for number in (0..64).filter(|number| start.bounding >> number & 1 == 0) {
        prctl(libc::PR_CAPBSET_DROP, &[number], "PR_CAPBSET_DROP");
    }
    // So that the change of ids leaves the sets alone.
    prctl(libc::PR_SET_SECUREBITS, &[1 << 2], "PR_SET_SECUREBITS");
    for (number, [real, effective, saved]) in [(libc::SYS_setresgid, start.gids), (libc::SYS_setresuid, start.uids)] {
        call(number, &[real.into(), effective.into(), saved.into()], "setresuid, setresgid");
    }
}

fn privileges(start: &Start) {
    let mut now = [0u32; 6];
    let header = [0x2008_0522u32, 0];
    call(libc::SYS_capget, &[header.as_ptr() as u64, now.as_mut_ptr() as u64], "capget");
    let permitted = u64::from(now[4]) << 32 | u64::from(now[1]);
    let capset = |effective: u64, permitted: u64, inheritable: u64| {
        let low = [effective, permitted, inheritable].map(|set| (set & 0xffff_ffff) as u32);
        let high = [effective, permitted, inheritable].map(|set| (set >> 32) as u32);
        let data = [low, high].concat();
        call(libc::SYS_capset, &[header.as_ptr() as u64, data.as_ptr() as u64], "capset");
    };
    let inheritable = start.inheritable & permitted & start.bounding;
    capset(permitted, permitted, inheritable);
    for number in (0..64).filter(|number| start.ambient & inheritable >> number & 1 == 1) {
        let raise = libc::PR_CAP_AMBIENT_RAISE as u64;
        prctl(libc::PR_CAP_AMBIENT, &[raise, number], "PR_CAP_AMBIENT_RAISE");
    }
    prctl(libc::PR_SET_SECUREBITS, &[start.securebits as u64], "PR_SET_SECUREBITS");
    let permitted = permitted & start.permitted;
    capset(permitted & start.effective, permitted, inheritable);
    if start.no_new_privs {
        prctl(libc::PR_SET_NO_NEW_PRIVS, &[1], "PR_SET_NO_NEW_PRIVS");
    }
}

/// The dry run needs its stdout.
fn streams(start: &Start, step: Step) {
    for (number, stream) in (0..).zip(start.streams) {
        let null = (stream == Stream::Null).then(|| std::fs::OpenOptions::new().read(true).write(true).open("/dev/null"));
        match null {
            _ if stream == Stream::Pipe || step == Step::DryRun && number == 1 => {}
            // SAFETY: two numbers.
            Some(null) => drop(unsafe { libc::dup2(null.expect("/dev/null").as_raw_fd(), number) }),
            // SAFETY: a number; nothing is written there any more.
            None => drop(unsafe { libc::close(number) }),
        }
    }
}
