//! Prints each signal that reaches it, by number; ends with 0 at SIGTERM. Put it where your service would be, to see what
//! an init, an engine or a service manager really sends: `stepdown --init node -- signals`.
//!
//! The other forms make what is hard to make from a shell: `held COMMAND...` starts a command with all signals blocked
//! once a byte comes on stdin; `send PID NUMBER...` sends any of the 64; `die NUMBER` ends by one; `orphans COUNT`
//! leaves that many processes to whoever reaps.

#![no_main] // Rust's own start-up would change the signals that are to be shown.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)] // one system call each, most of them with numbers alone

use std::ffi::{CStr, CString, c_char};

#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, argv: *const *const c_char) -> i32 {
    let arguments = unsafe { strings(argv) };
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        [] => log(),
        ["held", command @ ..] => held(command),
        ["send", pid, numbers @ ..] => send(number(pid), numbers),
        ["die", signal] => die(number(signal)),
        ["orphans", count] => orphans(number(count)),
        _ => 2,
    }
}

unsafe fn strings(mut array: *const *const c_char) -> Vec<String> {
    let mut found = Vec::new();
    // SAFETY: the array that the kernel laid out for main, ended by a null pointer.
    unsafe {
        while !(*array).is_null() {
            found.push(CStr::from_ptr(*array).to_string_lossy().into_owned());
            array = array.add(1);
        }
    }
    found
}

fn number(text: &str) -> i32 {
    text.parse().unwrap_or(-1)
}

/// Sets the mask, one bit for each of the 64.
fn mask(set: u64) {
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const set, std::ptr::null_mut::<u64>(), 8) };
}

fn log() -> i32 {
    mask(u64::MAX);
    let (pid, group, session) = unsafe { (libc::getpid(), libc::getpgrp(), libc::getsid(0)) };
    let foreground = unsafe { libc::tcgetpgrp(0) };
    println!("ready {pid} {group} {session} {foreground}");
    loop {
        let all = u64::MAX;
        let wait = libc::SYS_rt_sigtimedwait;
        let signal = unsafe { libc::syscall(wait, &raw const all, std::ptr::null_mut::<u8>(), std::ptr::null::<u8>(), 8) };
        if signal > 0 {
            println!("{signal}");
        }
        if signal == 15 {
            return 0;
        }
    }
}

fn held(command: &[&str]) -> i32 {
    mask(u64::MAX);
    println!("held");
    let mut byte = 0u8;
    unsafe { libc::read(0, (&raw mut byte).cast(), 1) };
    let command: Vec<CString> = command.iter().filter_map(|&word| CString::new(word).ok()).collect();
    let pointers: Vec<*const c_char> = command.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    unsafe { libc::execvp(pointers.first().copied().unwrap_or(std::ptr::null()), pointers.as_ptr()) };
    127
}

fn send(pid: i32, numbers: &[&str]) -> i32 {
    let failed = numbers.iter().filter(|signal| unsafe { libc::syscall(libc::SYS_kill, pid, number(signal)) } != 0);
    i32::from(failed.count() > 0)
}

/// Unblocked, with the default disposition.
fn die(signal: i32) -> i32 {
    mask(0);
    // The kernel's struct sigaction, all zero: SIG_DFL. The C library's call refuses three of the 64.
    let action = [0usize; 4];
    let none = std::ptr::null_mut::<u8>();
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), none, 8);
        libc::syscall(libc::SYS_kill, libc::getpid(), signal);
    }
    1
}

/// Each is the child of a child that is gone.
fn orphans(count: i32) -> i32 {
    for _ in 0..count {
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::fork();
                libc::_exit(0);
            }
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    0
}
