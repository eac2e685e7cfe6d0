//! No call is left out: every function of `sys` that makes a system call says whether that may lie unseen, and why; and each of
//! these calls is tampered with in some command line, or is named here with what keeps it out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::lines;
use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};

pub fn cases() -> Vec<Case> {
    cases![every_wrapper_says_whether_its_call_may_lie_unseen, every_call_of_the_wrappers_is_tampered_with_or_named]
}

/// What a wrapper says of its call, at the beginning of a line of its documentation.
const VERDICTS: [&str; 3] = ["A lie is seen: ", "A lie is harmless: ", "A lie goes unseen: "];

/// The system calls of functions that are not ours, by name: of several one is made, by the architecture or the C library.
const LIBRARY: [(&str, &str); 49] = [
    ("CPU_COUNT", ""),
    ("_exit", "exit_group"),
    ("bind", "bind"),
    ("chdir", "chdir"),
    ("close", "close"),
    ("connect", "connect"),
    ("dup2", "dup2 dup3"),
    ("eventfd", "eventfd2"),
    ("execve", "execve"),
    ("fchdir", "fchdir"),
    ("fchown", "fchown"),
    ("fchownat", "fchownat"),
    ("fcntl", "fcntl"),
    ("fstat", "fstat newfstatat"),
    ("fstatfs", "fstatfs"),
    ("getauxval", ""),
    ("getpgid", "getpgid"),
    ("getpid", "getpid"),
    ("getppid", "getppid"),
    ("getrlimit", "prlimit64"),
    ("getsid", "getsid"),
    ("getsockname", "getsockname"),
    ("getsockopt", "getsockopt"),
    ("if_nametoindex", "socket ioctl"),
    ("ioctl", "ioctl"),
    ("isatty", "ioctl"),
    ("listen", "listen"),
    ("madvise", "madvise"),
    ("mknodat", "mknodat"),
    ("open", "open openat"),
    ("openat", "openat"),
    ("pipe2", "pipe2"),
    ("poll", "poll ppoll"),
    ("pthread_create", "clone clone3"),
    ("pthread_join", "futex"),
    ("read", "read"),
    ("read_to_end", "read"),
    ("sched_getaffinity", "sched_getaffinity"),
    ("sched_yield", "sched_yield"),
    ("setfsgid", "setfsgid"),
    ("setfsuid", "setfsuid"),
    ("setpgid", "setpgid"),
    ("setsid", "setsid"),
    ("sigaction", "rt_sigaction"),
    ("socket", "socket"),
    ("stat", "stat newfstatat"),
    ("umask", "umask"),
    ("uname", "uname"),
    ("write", "write"),
];

/// Calls that no command line of the injections makes; with what does make them, and which tests do.
const ELSEWHERE: [(&str, &str); 6] = [
    ("gettid", "a thread of --chown says who it is: ownership::threads"),
    (
        "tgkill",
        "it is asked whether a thread of --chown is gone (ownership::threads), or sends what a parent's end would have sent",
    ),
    ("sched_yield", "waits for a thread of --chown to be gone"),
    ("nanosleep", "waits between questions that were refused: init::injection's own"),
    ("rt_sigpending", "after a stop by a terminal: init::terminal"),
    ("pidfd_open", "asks for the own number where LISTEN_PIDFDID is set: sockets"),
];

/// A function of `sys`.
struct Function {
    file: String,
    name: String,
    is_public: bool,
    docs: Vec<String>,
    /// The system calls that it makes itself: of each, its names.
    calls: BTreeSet<&'static str>,
    /// The names of what it calls.
    words: BTreeSet<String>,
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The name in a line that begins a function.
fn function_name(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let modifiers = ["", "pub", "pub(super)", "pub(crate)", "unsafe", "const", "extern", "\"C\""];
    let is_one = before.split_whitespace().all(|word| modifiers.contains(&word));
    rest.split(|letter| !is_word(letter)).next().filter(|name| is_one && !name.is_empty())
}

/// The functions of a file: `rustfmt` ends each with a brace as far in as its first line.
fn functions(file: &str, text: &str) -> Vec<Function> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let (mut found, mut docs): (Vec<Function>, Vec<String>) = (Vec::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let inner = line.trim_start();
        if let Some(doc) = inner.strip_prefix("///") {
            docs.push(doc.trim().to_owned());
            continue;
        }
        if inner.starts_with("#[") {
            continue;
        }
        let Some(name) = function_name(inner) else {
            docs.clear();
            continue;
        };
        let end = format!("{}}}", &line[..line.len() - inner.len()]);
        let mut body = inner.to_owned();
        if !inner.ends_with('}') && !inner.ends_with(';') {
            for line in lines.by_ref().take_while(|line| *line != end) {
                body += "\n";
                body += line.split("//").next().unwrap_or_default();
            }
        }
        let (calls, words) = calls(&body, name, file);
        let is_public = inner.starts_with("pub fn") || inner.starts_with("pub unsafe fn");
        found.push(Function {
            file: file.to_owned(),
            name: name.to_owned(),
            is_public,
            docs: std::mem::take(&mut docs),
            calls,
            words,
        });
    }
    found
}

/// What a body calls: system calls by number, functions of libraries, and others.
fn calls(body: &str, name: &str, file: &str) -> (BTreeSet<&'static str>, BTreeSet<String>) {
    let (mut calls, mut words) = (BTreeSet::new(), BTreeSet::new());
    for (at, word) in body.split(|letter: char| !(is_word(letter) || letter == ':')).scan(0, |at, word| {
        let start = *at;
        *at += word.len() + 1;
        Some((start, word))
    }) {
        let last = word.rsplit("::").next().unwrap_or_default();
        if let Some(number) = last.strip_prefix("SYS_") {
            calls.insert(&*number.to_owned().leak());
        } else if body[(at + word.len()).min(body.len())..].starts_with('(') && last != "syscall" {
            let is_librarys = word.starts_with("libc::") || word.starts_with("nix::");
            match LIBRARY.iter().find(|(known, _)| *known == last) {
                Some((_, made)) if is_librarys || last == "read_to_end" => {
                    if !made.is_empty() {
                        calls.insert(*made);
                    }
                }
                _ => {
                    assert!(!is_librarys, "{file}: {name}: which system call does {word} make? LIBRARY says it");
                    if last != name {
                        words.insert(last.to_owned());
                    }
                }
            }
        }
    }
    (calls, words)
}

/// All of them, each with the calls of what it calls.
fn wrappers() -> Result<Vec<Function>, Stop> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![source.join("sys.rs")];
    files.extend(std::fs::read_dir(source.join("sys"))?.map_while(Result::ok).map(|entry| entry.path()));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    let mut all = Vec::new();
    for file in &files {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        all.extend(functions(&name, &std::fs::read_to_string(file)?));
    }
    loop {
        let mut known: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
        for function in &all {
            known.entry(function.name.clone()).or_default().extend(&function.calls);
        }
        let mut grew = false;
        for function in &mut all {
            let before = function.calls.len();
            for word in &function.words {
                function.calls.extend(known.get(word).into_iter().flatten());
            }
            grew |= function.calls.len() > before;
        }
        if !grew {
            return Ok(all);
        }
    }
}

fn every_wrapper_says_whether_its_call_may_lie_unseen() -> Outcome {
    let all = wrappers()?;
    let mut wrong = Vec::new();
    let (mut said, mut makes) = (BTreeMap::new(), 0);
    for Function { file, name, is_public, docs, calls, .. } in &all {
        let verdict =
            VERDICTS.iter().find(|verdict| docs.iter().any(|line| line.len() > verdict.len() + 8 && line.starts_with(**verdict)));
        match verdict {
            Some(verdict) => *said.entry(*verdict).or_insert(0) += 1,
            None if *is_public && !calls.is_empty() => {
                wrong.push(format!("{file}: {name} ({calls:?}) does not say whether a lie is seen"))
            }
            None => {}
        }
        if verdict.is_some() && calls.is_empty() {
            wrong.push(format!("{file}: {name} speaks of a lie, and makes no call"));
        }
        makes += usize::from(*is_public && !calls.is_empty());
    }
    println!("{makes} public functions make system calls: {said:?}");
    assert!(makes > 90, "the sources are not read any more");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    Ok(())
}

fn every_call_of_the_wrappers_is_tampered_with_or_named() -> Outcome {
    Need::Strace.programs(&["strace", "ip"])?;
    let mut tampered: BTreeSet<String> = crate::init::tampered_calls()?.into_iter().collect();
    for line in lines::all() {
        tampered.extend(line?.calls()?.into_iter().map(|seen| seen.call));
    }
    let made: BTreeSet<&str> = wrappers()?.into_iter().flat_map(|function| function.calls).collect();
    let is_tampered = |call: &str| call.split(' ').any(|name| tampered.contains(name));
    let missing: Vec<&&str> = made
        .iter()
        .filter(|call| !is_tampered(call) && !ELSEWHERE.iter().any(|(named, _)| call.split(' ').any(|name| name == *named)))
        .collect();
    println!("{} calls are tampered with: {}", tampered.len(), tampered.iter().map(String::as_str).collect::<Vec<_>>().join(" "));
    for (call, why) in ELSEWHERE {
        println!("  left out: {call}: {why}");
        assert!(!tampered.contains(call), "{call} is tampered with, and said to be left out");
        assert!(made.iter().any(|made| made.split(' ').any(|name| name == call)), "{call} is not made any more");
    }
    assert!(missing.is_empty(), "no command line makes {missing:?}, and nothing says why");
    Ok(())
}
