//! Which calls are tampered with, and how.
//!
//! **The rule of the sample.** A kind of call is its name with its arguments, but for numbers, for names in a directory, and
//! for the names of capabilities: every `openat` with other flags, or of another absolute path, is a kind.
//!
//! - The first call of each kind is made to fail in each way, and to lie.
//! - The last one, where a kind comes more than once, is made to fail with EPERM, and to lie.
//! - All of the launcher's calls of a name are made to fail with EPERM, with ENOSYS, and to lie.
//! - Of a supervisor, all calls of a name from each kind's first on are made to fail with ENOSYS.
//! - Kinds of the plain switch come in every command line: there they are tried in full, and in the others once each
//!   way: EPERM, a lie.
//!
//! No kind is left out of failing. Which calls are left out of lying [`UNTOLD`] says, with the reason.

use std::collections::{BTreeMap, BTreeSet};

/// What a kernel, a container engine's filter or a security module may answer.
const ERRORS: [&str; 4] = ["EPERM", "EINVAL", "EINTR", "ENOSYS"];

/// Calls whose lie can't be tried, or can be told by nothing that a process has; with the reason.
pub const UNTOLD: [(&str, &str); 19] = [
    ("brk", "memory that is not there ends the process by SIGSEGV, before the command"),
    ("mmap", "memory that is not there ends the process by SIGSEGV, before the command"),
    ("munmap", "what stays mapped is gone at the execve"),
    ("mprotect", "what stays writable is gone at the execve"),
    ("madvise", "a wish: memory that is not given back is this process's own"),
    ("exit_group", "a process that does not end runs into what no compiler made"),
    ("close", "what it says is not looked at; what stays open is closed by close_range, and is O_CLOEXEC"),
    ("getgroups", "for good: of the groups that a process was started with nothing else tells"),
    ("getdents64", "that a directory has no more names nobody but its file system knows"),
    ("read", "that a file has ended nobody but the kernel knows, where the file need not say its size"),
    ("landlock_add_rule", "a rule that is not in force takes more away, and never less"),
    ("wait4", "that no child has ended nobody but the kernel knows"),
    ("rt_sigtimedwait", "that no signal has come nobody but the kernel knows"),
    ("kill", "that a signal was sent nobody but the kernel knows"),
    ("getppid", "who the parent is nobody but the kernel knows"),
    ("poll", "asks for room to write a message"),
    ("clock_gettime", "a clock that stands still"),
    ("nanosleep", "a nap that is none"),
    ("write", "a message that nobody reads"),
];

/// A call of the launcher's, as strace saw it.
pub struct Seen {
    pub call: String,
    pub kind: String,
    /// Which one of its name, from the start of the process: strace's `when=`.
    pub when: usize,
}

/// Counts the calls of one process.
#[derive(Default)]
pub struct Counter(BTreeMap<String, usize>);

impl Counter {
    /// A line of strace's, without the process; none where it is no call.
    pub fn see(&mut self, line: &str) -> Option<Seen> {
        let (call, rest) = line.trim_start().split_once('(')?;
        if !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        let count = self.0.entry(call.to_owned()).or_insert(0);
        *count += 1;
        Some(Seen { call: call.to_owned(), kind: format!("{call}({}", kind(rest)), when: *count })
    }
}

/// The arguments, but for numbers, names in a directory, what is filled in, and the names of capabilities.
fn kind(rest: &str) -> String {
    let arguments = rest.rsplit_once(" = ").map_or(rest, |(arguments, _)| arguments);
    let arguments = arguments.split_once('{').map_or(arguments, |(before, _)| before);
    let words = arguments.split([',', ' ']).filter(|word| !word.starts_with("CAP_"));
    let plain = |word: &str| match word.strip_prefix('"') {
        Some(path) if path.starts_with('/') || path.starts_with('"') => word.to_owned(),
        Some(_) => "a name".to_owned(),
        None => word.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>(),
    };
    words.map(plain).collect()
}

/// One call that is tampered with, as strace takes it.
pub struct Injection {
    pub call: String,
    pub what: String,
}

impl Injection {
    fn new(call: &str, what: String) -> Self {
        Self { call: call.to_owned(), what }
    }

    /// Whether it claims success and does nothing.
    pub fn lies(&self) -> bool {
        self.what.starts_with("retval")
    }

    /// Whether it meets every call of the name.
    fn is_for_good(&self) -> bool {
        self.what.contains("..") || self.what.ends_with('+')
    }
}

/// What a process does in the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It becomes the command, whose calls are not ours.
    Execs,
    /// It supervises the command.
    Stays,
}

/// All that is done to one process, and what is not.
#[derive(Default)]
pub struct Sample {
    pub injections: Vec<Injection>,
    calls: usize,
    kinds: usize,
    untold: BTreeMap<String, usize>,
}

impl Sample {
    /// By the rule of the sample. `plain` are the kinds of the plain switch, which has them tried in full.
    pub fn of(calls: &[Seen], end: End, plain: &BTreeSet<String>) -> Self {
        let mut kinds: BTreeMap<&str, (&Seen, &Seen)> = BTreeMap::new();
        let mut names: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for seen in calls {
            kinds.entry(&seen.kind).and_modify(|(_, last)| *last = seen).or_insert((seen, seen));
            names.entry(&seen.call).and_modify(|(_, last)| *last = seen.when).or_insert((seen.when, seen.when));
        }
        let mut sample = Self { calls: calls.len(), kinds: kinds.len(), ..Self::default() };
        for (first, last) in kinds.into_values() {
            let of_all_lines = plain.contains(&first.kind);
            sample.tamper(first, if of_all_lines { &ERRORS[..1] } else { &ERRORS });
            if last.when != first.when && !of_all_lines {
                sample.tamper(last, &ERRORS[..1]);
            }
            if end == End::Stays && !of_all_lines {
                sample.add(&first.call, format!("error=ENOSYS:when={}+", first.when));
            }
        }
        for (call, (first, last)) in names.into_iter().filter(|(_, (first, last))| first < last) {
            for what in ["error=EPERM", "error=ENOSYS", "retval=0"] {
                sample.add(call, format!("{what}:when={first}..{last}"));
            }
        }
        sample
    }

    fn tamper(&mut self, seen: &Seen, errors: &[&str]) {
        for error in errors {
            self.add(&seen.call, format!("error={error}:when={}", seen.when));
        }
        self.add(&seen.call, format!("retval=0:when={}", seen.when));
    }

    fn add(&mut self, call: &str, what: String) {
        let injection = Injection::new(call, what);
        let untold = UNTOLD.iter().any(|(name, why)| *name == call && (injection.is_for_good() || !why.starts_with("for good:")));
        if injection.lies() && untold || call == "exit_group" {
            *self.untold.entry(call.to_owned()).or_insert(0) += 1;
        } else {
            self.injections.push(injection);
        }
    }

    /// The counts.
    pub fn tell(&self, ran: usize) {
        let total = self.injections.len();
        let lies = self.injections.iter().filter(|injection| injection.lies()).count();
        println!(
            "{} calls of {} kinds: {total} injections, {lies} of them lies: the command ran as planned in {ran}, and not at all in the others",
            self.calls, self.kinds
        );
        for (call, count) in &self.untold {
            let why = UNTOLD.iter().find(|(name, _)| name == call).map_or("", |(_, why)| *why);
            println!("  left out: {count} lies of {call}: {why}");
        }
    }
}

/// Whether a line of strace's is the launcher's first: what comes before is the C library's start.
pub fn is_ours(line: &str) -> bool {
    // Where 0 is closed the loader of a dynamic build opens libraries there. No stdin of a test has their modes.
    let is_a_library = ["st_mode=S_IFREG|0644", "st_mode=S_IFREG|0755"].iter().any(|mode| line.contains(mode));
    ["fstat(0,", "newfstatat(0,", "rt_sigprocmask(SIG_SETMASK, ~["].iter().any(|start| line.starts_with(start)) && !is_a_library
}
