//! What a test needs of its machine, and what becomes of it where that is missing.

use libtest_mimic::{Completion, Failed};

/// A test: its name, which is the promise it proves, and its body. Built by [`cases!`](crate::cases).
pub type Case = (&'static str, fn() -> Outcome);

/// A failed assertion panics; what comes back as an error is either a skip or a step that should have worked.
pub type Outcome = Result<(), Stop>;

/// Why a test ended early.
pub enum Stop {
    /// This machine can't run it.
    Skip(String),
    /// Something that had to work did not.
    Fail(String),
}

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fail(format!("{error:?}"))
    }
}

/// Lists functions as cases, by their names.
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), $name as fn() -> $crate::harness::Outcome)),*] };
}

/// Turns an outcome into the runner's words.
pub fn outcome(result: Outcome) -> Result<Completion, Failed> {
    match result {
        Ok(()) => Ok(Completion::Completed),
        Err(Stop::Skip(why)) => Ok(Completion::ignored_with(format!("skipped: {why}"))),
        Err(Stop::Fail(why)) => Err(Failed::from(why)),
    }
}

/// What a machine may lack. `STEPDOWN_TEST_REQUIRE` names those that must be there: `root,container,filesystems`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// uid 0 with namespaces to make.
    Root,
    /// A Docker engine to start, and what builds its images.
    Container,
    /// systemd in a container of its own.
    Systemd,
    /// strace, for system calls that fail.
    Strace,
    /// Services to run: Node with npm, nginx, PostgreSQL.
    Services,
    /// gosu and the other programs that are compared with.
    Peers,
    /// ext4, xfs and btrfs on loop devices, and mounts with mapped ids.
    Filesystems,
    /// The Nodes and the frameworks of npm.
    Node,
}

impl Need {
    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Container => "container",
            Self::Systemd => "systemd",
            Self::Strace => "strace",
            Self::Services => "services",
            Self::Peers => "peers",
            Self::Filesystems => "filesystems",
            Self::Node => "node",
        }
    }

    /// Skips the test for the reason given; fails it where the machine was said to have this.
    pub fn missing(self, why: impl Into<String>) -> Stop {
        let why = why.into();
        let required = std::env::var("STEPDOWN_TEST_REQUIRE").unwrap_or_default();
        if required.split(',').any(|name| name.trim() == self.name()) {
            Stop::Fail(format!("STEPDOWN_TEST_REQUIRE has {}, but: {why}", self.name()))
        } else {
            Stop::Skip(why)
        }
    }

    /// Skips the test unless all the programs are in PATH.
    pub fn programs(self, names: &[&str]) -> Outcome {
        let path = std::env::var("PATH").unwrap_or_default();
        let there = |name: &str| path.split(':').any(|directory| std::path::Path::new(directory).join(name).exists());
        match names.iter().find(|name| !there(name)) {
            None => Ok(()),
            Some(name) => Err(self.missing(format!("needs {name}"))),
        }
    }
}

/// The programs under test are to find signals and descriptors as a login shell would hand them on, however the runner was
/// started: a shell's background job ignores SIGINT and SIGQUIT, nohup(1) SIGHUP, a CI system may leave files open, and
/// the terminal of who runs the tests is nobody's business here.
#[allow(unsafe_code)]
pub fn start_clean() {
    // SAFETY: numbers, an empty set to read, and descriptors that nobody here has opened yet are marked, not closed.
    unsafe {
        let all = (1..=libc::SIGRTMAX()).filter(|&signal| signal != libc::SIGPIPE);
        for signal in all {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        let terminal = libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
        if terminal >= 0 {
            libc::ioctl(terminal, libc::TIOCNOTTY);
        }
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Skips the test on a kernel older than the one that brought what it needs; a newer one has to have it.
pub fn linux(since: (u32, u32), what: &str) -> Outcome {
    let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= since {
        return Ok(());
    }
    Err(Stop::Skip(format!("needs {what}, Linux {}.{}, and this is {release}", since.0, since.1)))
}

/// Skips the test unless it runs as root.
pub fn root() -> Outcome {
    if nix::unistd::geteuid().is_root() {
        Need::Root.programs(&["unshare", "setpriv", "mount"])
    } else {
        Err(Need::Root.missing("needs root"))
    }
}
