//! Bad input gets one clear error, and nothing is changed: every line of what is said, word for word.
//!
//! Each mistake is made alone, and again behind chores that must then not have been done.

mod confined;
mod handed;
mod met;
mod typed;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Case, Outcome};
use crate::jail::{self, Jail, Ran};

pub fn cases() -> Vec<Case> {
    let mut all = typed::cases();
    all.extend(met::cases());
    all.extend(handed::cases());
    all.extend(confined::cases());
    all
}

/// One mistake. `$W` in it is the directory of the test.
#[derive(Clone, Copy)]
struct Mistake {
    arguments: &'static [&'static str],
    code: i32,
    says: &'static str,
    /// The second line, where there is one.
    hint: &'static str,
    chores: Chores,
}

/// What becomes of chores on the same line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Chores {
    /// They are not done.
    NotDone,
    /// They may be: only the kernel can tell, when the time has come.
    PerhapsDone,
}

/// A mistake that ends the run with 125.
const fn no(arguments: &'static [&'static str], says: &'static str) -> Mistake {
    Mistake { arguments, code: 125, says, hint: "", chores: Chores::NotDone }
}

impl Mistake {
    const fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }

    const fn code(self, code: i32) -> Self {
        Self { code, ..self }
    }

    const fn late(self) -> Self {
        Self { chores: Chores::PerhapsDone, ..self }
    }

    fn expected(&self) -> (i32, String) {
        let mut stderr = format!("stepdown: {}\n", self.says);
        if !self.hint.is_empty() {
            stderr += &format!("stepdown: hint: {}\n", self.hint);
        }
        (self.code, stderr)
    }

    fn arguments(&self, work: &str) -> Vec<String> {
        self.arguments.iter().map(|argument| argument.replace("$W", work)).collect()
    }
}

/// Compares, and shows what was said as it would have to be written in the table.
fn differs(mistake: &Mistake, front: &[String], work: &str, ran: &Ran) -> Option<String> {
    let said = (ran.code, ran.stderr.replace(work, "$W"));
    let expected = mistake.expected();
    let with = if front.is_empty() { "" } else { " behind chores" };
    (said != expected).then(|| format!("{:?}{with}\n  expected {expected:?}\n       got {said:?}", mistake.arguments))
}

fn none(differences: &[String]) {
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// What stands in front of a mistake: done too early, it shows.
fn chores(work: &str) -> Vec<String> {
    ["--mkdir", "$W/new/er", "--chown", "$W/tree"].iter().map(|word| word.replace("$W", work)).collect()
}

/// Path, owner, group and mode of all that is there, as [`LISTING`] has them.
fn snapshot(top: &Path) -> std::io::Result<String> {
    let facts = fs::symlink_metadata(top)?;
    let mut all = format!("{} {} {} {:o}\n", top.display(), facts.uid(), facts.gid(), facts.mode() & 0o7777);
    if facts.is_dir() {
        for entry in fs::read_dir(top)? {
            all += &snapshot(&entry?.path())?;
        }
    }
    Ok(sorted(&all))
}

fn sorted(lines: &str) -> String {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines.join("\n") + "\n"
}

/// Made by anybody, without a jail: as whoever runs the tests, and as an ordinary user where that is root.
fn anybody_is_told(mistakes: &[Mistake]) -> Outcome {
    let mut differences = Vec::new();
    for uid in as_whom() {
        for mistake in mistakes {
            for with_chores in [false, true] {
                differences.extend(told(mistake, uid, with_chores)?);
            }
        }
    }
    none(&differences);
    Ok(())
}

const NOBODY: u32 = 65534;

fn as_whom() -> Vec<Option<u32>> {
    if nix::unistd::geteuid().is_root() { vec![None, Some(NOBODY)] } else { vec![None] }
}

fn told(mistake: &Mistake, uid: Option<u32>, with_chores: bool) -> Result<Option<String>, crate::harness::Stop> {
    let directory = jail::open_directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
    fs::create_dir(directory.path().join("tree"))?;
    let before = snapshot(directory.path())?;
    let work = directory.path().display().to_string();
    let front = if with_chores { chores(&work) } else { Vec::new() };
    let ran = Ran::of(as_anybody(uid).args(&front).args(mistake.arguments(&work)).output()?);
    let mut difference = differs(mistake, &front, &work, &ran);
    if snapshot(directory.path())? != before || !ran.stdout.is_empty() {
        difference = Some(format!("{:?}: something was changed, or said on stdout: {ran:?}", mistake.arguments));
    }
    Ok(difference)
}

fn as_anybody(uid: Option<u32>) -> Command {
    let mut command = Command::new(&jail::programs().stepdown);
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").stdin(Stdio::null());
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    command
}

/// Made by root in a jail that is made anew for each: `furnish` says what there is.
fn root_is_told(furnish: impl Fn(Jail) -> Jail, mistakes: &[Mistake]) -> Outcome {
    let mut differences = Vec::new();
    for mistake in mistakes {
        for with_chores in [false, true] {
            let jail = furnish(Jail::new()?.setup(FURNITURE));
            let work = jail.work().display().to_string();
            let front = if with_chores { chores(&work) } else { Vec::new() };
            let arguments: Vec<String> = front.iter().cloned().chain(mistake.arguments(&work)).collect();
            let jail = jail.setup(LISTING);
            let ran = jail.run(&arguments)?;
            differences.extend(differs(mistake, &front, &work, &ran));
            let chores_may_be_done = with_chores && mistake.chores == Chores::PerhapsDone;
            if !chores_may_be_done && snapshot(&jail.work())? != sorted(&ran.stdout) {
                differences.push(format!("{:?}: something was changed, or said on stdout: {ran:?}", mistake.arguments));
            }
        }
    }
    none(&differences);
    Ok(())
}

/// What was there before stepdown began goes to stdout, where stepdown itself writes nothing.
const LISTING: &str = "find $W -exec stat -c '%n %u %g %a' {} +";

/// A directory that is not the target's, in every jail.
const FURNITURE: &str = "mkdir -p $W/tree/below";
