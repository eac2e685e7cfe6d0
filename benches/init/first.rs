//! Starting somebody as PID 1 of a namespace, and looking at it from outside.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The namespace that this process is in, to come back to.
pub struct Namespaces {
    own: File,
}

impl Namespaces {
    pub fn new() -> Self {
        Self { own: File::open("/proc/self/ns/pid").expect("/proc") }
    }

    /// Who is started by this is the first process of a new namespace.
    pub fn first<T>(&self, start: impl FnOnce() -> T) -> T {
        // SAFETY: numbers; neither call concerns this process itself, only its children.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWPID), 0, "unshare");
            let started = start();
            assert_eq!(libc::setns(self.own.as_raw_fd(), libc::CLONE_NEWPID), 0, "setns");
            started
        }
    }
}

/// A PID 1 that stays, until this is dropped.
pub struct First(pub Child);

impl First {
    pub fn start(line: &[CString], streams: impl Fn() -> Stdio) -> Self {
        let words: Vec<_> = line.iter().map(|word| std::ffi::OsStr::from_bytes(word.as_bytes())).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(streams()).stdout(streams()).stderr(Stdio::null());
        Self(Namespaces::new().first(|| command.spawn()).expect("it starts"))
    }

    /// Waits for it to have a child of this name and nothing to do.
    pub fn settled(self, command: &str) -> Self {
        let since = Instant::now();
        let mut before = None;
        loop {
            let there = self.children().iter().any(|pid| read(*pid, "comm").is_some_and(|comm| comm.trim() == command));
            let now = (there && self.status("State").starts_with('S')).then(|| self.switches());
            if now.is_some() && now == before {
                return self;
            }
            before = now;
            assert!(since.elapsed() < Duration::from_secs(30), "it does not settle");
            sleep(Duration::from_millis(100));
        }
    }

    pub fn children(&self) -> Vec<u32> {
        let list = read(self.0.id(), &format!("task/{}/children", self.0.id())).unwrap_or_default();
        list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// A value of /proc/PID/status.
    pub fn status(&self, key: &str) -> String {
        value(&self.read("status"), key).to_owned()
    }

    /// How often it has gone to sleep.
    pub fn switches(&self) -> f64 {
        number(&self.status("voluntary_ctxt_switches"))
    }

    pub fn read(&self, name: &str) -> String {
        read(self.0.id(), name).expect("/proc")
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        // SAFETY: numbers; it is not reaped yet.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "kill");
    }
}

impl Drop for First {
    fn drop(&mut self) {
        // The kernel ends the others of its namespace.
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

fn read(pid: u32, name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{name}")).ok()
}

/// Of lines `key: value`.
pub fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.map(str::trim).unwrap_or_else(|| panic!("no {key} in {text}"))
}

/// The number in front.
pub fn number(text: &str) -> f64 {
    text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{text:?} is no number"))
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
