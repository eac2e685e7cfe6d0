//! What a test does inside its jail: this very program, started there in stepdown's place, where the jail's
//! mounts are seen and its processes can be stopped.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::harness::{Need, Outcome, Stop};
use crate::jail::{Jail, Ran, programs};

/// Such a part of a test: its name and its body, which panics where it fails. Built by [`parts!`](crate::parts).
pub type Part = (&'static str, fn(&Place));

/// Lists functions as parts, by their names.
#[macro_export]
macro_rules! parts {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), $name as fn(&$crate::ownership::inside::Place))),*] };
}

/// The first argument of this program where it plays a part.
const PLAY: &str = "--part";

/// How a setup line says that this machine can't do what it was asked: `|| exit 77`.
const MISSING: i32 = 77;

/// What a part knows of the jail it is in.
pub struct Place {
    /// `$W`.
    pub work: PathBuf,
    /// The program under test; others lie beside it.
    pub stepdown: PathBuf,
    program: PathBuf,
    /// What stands after the part's name.
    pub words: Vec<String>,
}

/// Plays the part that the command line names, if it does, and says so.
pub fn play(parts: &[Part]) -> bool {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    if arguments.next().as_deref() != Some(PLAY) {
        return false;
    }
    let name = arguments.next().unwrap_or_default();
    let path = |variable: &str| std::env::var_os(variable).map(PathBuf::from).unwrap_or_default();
    let place = Place { work: path("WORK"), stepdown: path("STEPDOWN"), program: program.into(), words: arguments.collect() };
    match parts.iter().find(|(known, _)| *known == name) {
        Some((_, part)) => part(&place),
        None => panic!("no part is called {name}"),
    }
    true
}

/// A copy of this program that every user can start.
pub fn program() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        // Removed with the programs under test.
        let copy = programs().stepdown.with_file_name("it");
        fs::copy(std::env::current_exe().expect("this program"), &copy).expect("a copy of this program");
        copy
    })
}

/// A line of shell that plays a part: `{PROGRAM} --part populate …`.
pub fn line(part: &str, words: &str) -> String {
    format!("{} {PLAY} {part} {words}", program().display())
}

/// Plays a part in the jail, as root; what fails there fails the test.
pub fn inside(jail: Jail, part: &str, words: &[&str]) -> Outcome {
    let work = jail.work();
    let jail = jail.instead(program()).variable("WORK", work).variable("STEPDOWN", &programs().stepdown);
    let ran = jail.variable("RUST_BACKTRACE", "0").run(&[&[PLAY, part], words].concat())?;
    print!("{}", ran.stdout);
    match ran.code {
        0 => Ok(()),
        MISSING => Err(Need::Filesystems.missing(ran.stderr.trim())),
        _ => Err(Stop::Fail(format!("{part}: exit code {}\n{}", ran.code, ran.stderr))),
    }
}

impl Place {
    /// `$W/NAME`.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.work.join(name)
    }

    /// stepdown, which makes a tree belong to 1000:1000, through another program.
    pub fn command(&self, through: &[&str], options: &[&str], tree: &Path) -> Command {
        let mut words: Vec<OsString> = through.iter().map(OsString::from).collect();
        words.push(self.stepdown.clone().into());
        words.extend(options.iter().map(OsString::from));
        words.extend([OsStr::new("--chown"), tree.as_os_str(), OsStr::new("1000:1000"), OsStr::new("true")].map(OsStr::to_owned));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }

    /// Runs it, for a minute at the most: no tree of these tests may hold it up for longer.
    pub fn chown(&self, options: &[&str], tree: &Path) -> Ran {
        Ran::of(self.command(&["timeout", "60"], options, tree).output().expect("stepdown"))
    }

    /// Runs it, and expects that all went well, and that nothing was said but how long it took on a busy machine.
    #[track_caller]
    pub fn owns(&self, options: &[&str], tree: &Path) {
        let ran = self.chown(options, tree);
        let quiet = ran.stderr.is_empty() || ran.stderr.lines().count() == 1 && ran.stderr.contains(" entries looked at, ");
        assert!(ran.code == 0 && quiet, "{ran:?}");
    }

    /// This program in another part, as another user.
    pub fn part(&self, name: &str, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args([PLAY, name]).args(words);
        command
    }
}
