//! System calls, counted by strace.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::{Place, Row, starts};

#[derive(Clone, Copy, Default)]
pub struct Calls {
    /// From its execve to its end; those of what stands in front of it are among them.
    pub own: usize,
    /// From the fork to the execve of the command.
    pub childs: usize,
}

pub fn all(rows: &[Row], place: &Place) -> Vec<Option<Calls>> {
    let Some(strace) = starts::find("STRACE", "strace") else {
        println!("strace is not here: system calls are not counted");
        return vec![None; rows.len()];
    };
    let trace = tempfile::NamedTempFile::new().expect("a temporary file");
    let count = |row: &Row| {
        let line = row.line(std::slice::from_ref(&place.target));
        let done = Command::new(&strace)
            .args(["-f", "-qq", "-o"])
            .arg(trace.path())
            .args(["unshare", "--pid", "--fork", "--"])
            .args(line.iter().map(|word| OsStr::from_bytes(word.as_bytes())))
            .status()
            .expect("strace");
        assert!(done.success(), "{} failed", row.name);
        let text = fs::read_to_string(trace.path()).expect("a trace");
        of(&text, &line[0].to_string_lossy(), &place.target.to_string_lossy())
    };
    rows.iter().map(|row| Some(count(row))).collect()
}

/// The command is who executes the target. Whoever else there is from the execve of the first program on, threads too,
/// belongs to the init; unshare, which strace started, does not.
fn of(trace: &str, first: &str, target: &str) -> Calls {
    let calls = || {
        let lines = trace.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(pid, call)| (pid, call.trim_start())).filter(|(_, call)| call.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    let executes = |call: &str, what: &str| call.starts_with(&format!("execve(\"{what}\""));
    let unshare = calls().next().map(|(pid, _)| pid).expect("a call");
    let command = calls().find(|(_, call)| executes(call, target)).map(|(pid, _)| pid).expect("the target is executed");
    let own = calls().skip_while(|(_, call)| !executes(call, first)).filter(|(pid, _)| ![unshare, command].contains(pid));
    let childs = calls().filter(|(pid, _)| *pid == command).take_while(|(_, call)| !executes(call, target));
    // Its execve is one of them.
    Calls { own: own.count(), childs: childs.count() + 1 }
}
