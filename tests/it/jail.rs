//! A jail: a mount and a PID namespace with a passwd and a group of its own, in which stepdown is PID 1.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::harness::{self, Stop};
use crate::report::Report;

/// The accounts in every jail, unless a test brings its own.
pub const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
games:x:5:60::/usr/games:/usr/sbin/nologin
node:x:1000:1000:Node:/home/node:/bin/bash
1001:x:2001:2001:named like a number:/home/odd:/bin/sh
toor:x:0:0:root by another name:/root:/bin/sh
bare:x:3000:3000:::
";
/// Likewise.
pub const GROUP: &str = "\
root:x:0:
daemon:x:1:node
adm:x:4:node,games
staff:x:50:
games:x:60:
users:x:100:node
node:x:1000:
";

/// The programs under test, copied to where every user can reach them.
pub struct Programs {
    directory: tempfile::TempDir,
    /// `STEPDOWN_BIN`, or what cargo built.
    pub stepdown: PathBuf,
    /// The example `report`.
    pub report: PathBuf,
    /// The example `signals`.
    pub signals: PathBuf,
    /// The example `calls`.
    pub calls: PathBuf,
}

static PROGRAMS: OnceLock<Programs> = OnceLock::new();

/// Removes what a static can't drop.
pub fn clean_up() {
    if let Some(programs) = PROGRAMS.get() {
        let _ = fs::remove_dir_all(programs.directory.path());
    }
}

/// Copies them once.
pub fn programs() -> &'static Programs {
    PROGRAMS.get_or_init(|| {
        let directory = open_directory();
        let copy = |variable: &str, built: PathBuf, name: &str| {
            let from = std::env::var_os(variable).map_or(built, PathBuf::from);
            let to = directory.path().join(name);
            fs::copy(&from, &to)
                .unwrap_or_else(|error| panic!("{} (build it: cargo build --example {name}): {error}", from.display()));
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("chmod");
            to
        };
        let built = PathBuf::from(env!("CARGO_BIN_EXE_stepdown"));
        let example = |name: &str| built.with_file_name("examples").join(name);
        let (report, signals, calls) = (example("report"), example("signals"), example("calls"));
        Programs {
            stepdown: copy("STEPDOWN_BIN", built, "stepdown"),
            report: copy("STEPDOWN_REPORT", report, "report"),
            signals: copy("STEPDOWN_SIGNALS", signals, "signals"),
            calls: copy("STEPDOWN_CALLS", calls, "calls"),
            directory,
        }
    })
}

/// A temporary directory that everybody may pass through.
pub fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("stepdown-test-").tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    directory
}

/// A jail that is being furnished.
pub struct Jail {
    directory: tempfile::TempDir,
    namespaces: Vec<&'static str>,
    setup: String,
    prefix: Vec<OsString>,
    program: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; 128 + n where a signal ended it.
    pub code: i32,
    /// What was written to stdout.
    pub stdout: String,
    /// What was written to stderr.
    pub stderr: String,
}

impl Jail {
    /// An ordinary one. Skips the test where this machine can't make it.
    pub fn new() -> Result<Self, Stop> {
        harness::root()?;
        let directory = open_directory();
        fs::write(directory.path().join("passwd"), PASSWD)?;
        fs::write(directory.path().join("group"), GROUP)?;
        fs::create_dir(directory.path().join("work"))?;
        Ok(Self {
            directory,
            namespaces: vec!["--mount", "--pid"],
            setup: String::new(),
            prefix: Vec::new(),
            program: programs().stepdown.clone(),
            environment: Vec::new(),
        })
    }

    /// Replaces the accounts; `None` leaves no such file.
    pub fn accounts(self, passwd: Option<&[u8]>, group: Option<&[u8]>) -> Result<Self, Stop> {
        for (name, content) in [("passwd", passwd), ("group", group)] {
            let path = self.directory.path().join(name);
            match content {
                Some(content) => fs::write(path, content)?,
                None => fs::remove_file(path)?,
            }
        }
        Ok(self)
    }

    /// A network namespace with a loopback interface, in which ports below 1024 are privileged.
    pub fn network(mut self) -> Self {
        self.namespaces.push("--net");
        self.setup("ip link set lo up")
    }

    /// A line of shell, run as root in the jail before stepdown; `$W` is [`Jail::work`].
    pub fn setup(mut self, line: &str) -> Self {
        self.setup += line;
        self.setup.push('\n');
        self
    }

    /// What stepdown is started through: `setpriv --reuid 1000`.
    pub fn through(mut self, words: &[&str]) -> Self {
        self.prefix.extend(words.iter().map(OsString::from));
        self
    }

    /// What is run in place of stepdown, to compare.
    pub fn instead(mut self, program: &Path) -> Self {
        self.program = program.to_owned();
        self
    }

    /// Sets a variable in stepdown's environment.
    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// A directory that is empty at first, root's, and the same outside: `$W` in a setup line.
    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// `$W/NAME`, as an argument.
    pub fn at(&self, name: &str) -> String {
        self.work().join(name).display().to_string()
    }

    /// The command that runs stepdown with these arguments, for who wants to choose its streams.
    pub fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let script = format!(
            // The machine itself is read-only in here: a test that fails must not have changed it.
            "mount --make-rprivate /\n\
             mount --bind $D $D; mount -o remount,bind,ro /\n\
             for f in passwd group; do if [ -e $D/$f ]; then mount --bind $D/$f /etc/$f; fi; done\n\
             mount -t proc proc /proc\n\
             W=$D/work; export W\n{}\nunset D W\nexec \"$@\"",
            self.setup
        );
        let mut command = Command::new("unshare");
        command.args(&self.namespaces).args(["--fork", "--kill-child", "--", "/bin/sh", "-ec", &script, "jail"]);
        command.args(&self.prefix).arg(&self.program).args(arguments);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("D", self.directory.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Runs stepdown with these arguments.
    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Ran, Stop> {
        Ok(Ran::of(self.command(arguments).output()?))
    }

    /// Runs `stepdown ARGUMENTS... report`, and reads what the child really got.
    pub fn report(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Report, Stop> {
        let mut all: Vec<OsString> = arguments.iter().map(|argument| argument.as_ref().to_owned()).collect();
        all.push(programs().report.clone().into());
        self.run(&all)?.report()
    }
}

impl Ran {
    /// Reads it off a finished process.
    pub fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What the child said it got; fails where none ran.
    pub fn report(self) -> Result<Report, Stop> {
        match serde_json::from_str(&self.stdout) {
            Ok(value) if self.code == 0 => Ok(Report(value)),
            _ => Err(Stop::Fail(format!("no report: {self:?}"))),
        }
    }

    /// Asserts the exit code and a piece of what was said.
    #[track_caller]
    pub fn refused(&self, code: i32, said: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.starts_with("stepdown: ") && self.stderr.contains(said), "expected {said:?} in {self:?}");
    }
}

/// uid and gid of a path itself.
pub fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let facts = fs::symlink_metadata(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()));
    (facts.uid(), facts.gid())
}
