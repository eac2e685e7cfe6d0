//! Becoming the command: where it is found, and why it can't be run.

use std::ffi::{CStr, CString};

use anyhow::Error;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::acquire::Acquired;
use crate::diagnosis::{self, Diagnosis};
use crate::failure::{At, Failure, Stage, call, hinted, lossy};
use crate::line_ends;
use crate::plan::Plan;
use crate::printable::brief;
use crate::proof::Dropped;
use crate::sys::{self, StringArray};

/// Where a command without a slash is looked for when the environment has no PATH: Docker's own default.
pub const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts the command in this process's place. Returns only if that failed.
pub fn exec(_proved: Dropped, plan: &Plan, mut acquired: Acquired) -> Failure {
    if let Err(failure) = make_ready(plan, &mut acquired).at(Stage::Confinement) {
        return failure;
    }
    let arguments = StringArray::new(plan.command.iter().copied());
    let environment = StringArray::new(plan.environment.entries());
    let mut denied = None;
    let mut closed = Vec::new();
    for candidate in candidates(plan) {
        match sys::execve(&candidate, &arguments, &environment) {
            // Of a script whose interpreter is missing, execve says ENOENT too.
            Errno::ENOENT | Errno::ENOTDIR if access(candidate.as_c_str(), AccessFlags::F_OK).is_err() => {}
            // A directory of PATH that the target may not search holds nothing for it.
            Errno::EACCES if is_searched(plan) && access(candidate.as_c_str(), AccessFlags::F_OK) == Err(Errno::EACCES) => {
                closed.push(candidate);
            }
            // execvp(3) goes on after EACCES, and speaks of it only where nothing else is found.
            Errno::EACCES => {
                denied.get_or_insert(candidate);
            }
            errno => return unusable(plan, &candidate, errno),
        }
    }
    match denied {
        Some(candidate) => unusable(plan, &candidate, Errno::EACCES),
        None => missing(plan, &closed),
    }
}

/// Files and ports are confined, and then calls: a filter may forbid what the others need.
fn make_ready(plan: &Plan, acquired: &mut Acquired) -> Result<(), Error> {
    acquired.confinement.restrict(plan)?;
    acquired.confinement.filter()
}

/// Says that the command does not exist anywhere, as far as root can see, or that nobody could run it.
pub fn check(plan: &Plan) -> Result<(), Failure> {
    let mut denied = None;
    for candidate in candidates(plan) {
        match nix::sys::stat::stat(candidate.as_c_str()) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Ok(facts) if facts.st_mode & libc::S_IFMT != libc::S_IFREG || facts.st_mode & 0o111 == 0 => {
                denied.get_or_insert(candidate);
            }
            // What can't be looked at can be run, for all we know.
            Ok(_) | Err(_) => return Ok(()),
        }
    }
    Err(denied.map_or_else(|| missing(plan, &[]), |candidate| unusable(plan, &candidate, Errno::EACCES)))
}

fn name(plan: &Plan) -> &'static CStr {
    plan.command.first().copied().unwrap_or_default()
}

/// A name with a slash is a path; any other is looked for.
fn is_searched(plan: &Plan) -> bool {
    !name(plan).to_bytes().contains(&b'/')
}

fn path(plan: &Plan) -> &[u8] {
    plan.environment.value(b"PATH").unwrap_or(DEFAULT_PATH)
}

/// The files that the command's name may stand for. Elements of PATH that are no absolute path are passed
/// over: with them, whoever owns the current directory chooses what runs.
fn candidates(plan: &Plan) -> impl Iterator<Item = CString> {
    let name = name(plan).to_bytes();
    let direct = (!is_searched(plan)).then(|| name.to_vec());
    let searched = if direct.is_some() || name.is_empty() { &[][..] } else { path(plan) };
    let in_path = searched.split(|&byte| byte == b':').filter(|directory| directory.starts_with(b"/"));
    let in_path = in_path.map(move |directory| [directory, b"/", name].concat());
    direct.into_iter().chain(in_path).filter_map(|file| CString::new(file).ok())
}

const CONFINED: &str = "all but what --rox and --rwx name is closed to execution: name the program, the interpreter of a script, and the \
     loader of a dynamic program (/lib64/ld-linux-x86-64.so.2); its libraries need --ro (ldd lists both)";

fn unusable(plan: &Plan, file: &CStr, errno: Errno) -> Failure {
    let what = format!("execve({})", lossy(file));
    let error = match diagnosis::explain(file, errno, &plan.identity) {
        Some(Diagnosis { why, hint: None }) => call(what, errno).context(why),
        Some(Diagnosis { why, hint: Some(hint) }) => hinted(format!("{why}: {:#}", call(what, errno)), hint),
        None => call(what, errno),
    };
    let error = match (errno, &plan.confinement.rules) {
        (Errno::EACCES, Some(rules)) if !rules.paths.is_empty() => hinted(format!("{error:#}"), CONFINED),
        (Errno::EPERM | Errno::ENOSYS, _) if plan.confinement.filter.is_some() => {
            hinted(format!("{error:#}"), "the filter of --seccomp must allow execve")
        }
        _ => error,
    };
    Failure { stage: Stage::CommandUnusable, error }
}

fn missing(plan: &Plan, closed: &[CString]) -> Failure {
    let name = lossy(name(plan));
    let message = if is_searched(plan) {
        let searched: Vec<_> = path(plan).split(|&byte| byte == b':').map(String::from_utf8_lossy).collect();
        let closed: Vec<String> =
            closed.iter().map(|file| format!("; {} is closed to uid {}", lossy(file), plan.identity.uid)).collect();
        format!("COMMAND '{name}' is not found in PATH ({}{})", brief(&searched, ":"), brief(&closed, ""))
    } else {
        format!("COMMAND '{name}' does not exist")
    };
    let searched = if is_searched(plan) { path(plan) } else { &[] };
    let foreign = line_ends::trace(name.as_bytes()).or_else(|| line_ends::trace(searched));
    let error = if let Some(trace) = foreign {
        let what = if line_ends::trace(name.as_bytes()).is_some() { "its name" } else { "PATH" };
        hinted(message, format!("{what} {trace}: {}", trace.mending_of_the_source()))
    } else if name.starts_with('-') {
        hinted(message, "options of stepdown stand before USER; what stands behind it is the command's")
    } else {
        Error::msg(message)
    };
    Failure { stage: Stage::CommandMissing, error }
}
