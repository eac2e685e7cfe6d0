//! What can be known to fail is found before anything outside this process has changed.

use anyhow::Error;
use nix::errno::Errno;

use crate::failure::{At, Failure, Stage, call, lossy};
use crate::plan::Plan;
use crate::{acquire, confine, exec, limits, user_namespace};

/// Checks a plan that has chores; without any there is nothing to spoil, and each step speaks for itself.
pub fn check(plan: &Plan) -> Result<(), Failure> {
    user_namespace::check(plan).at(Stage::Preflight)?;
    acquire::check(plan).at(Stage::Preflight)?;
    confine::check(plan).at(Stage::Preflight)?;
    limits::check(plan).at(Stage::Preflight)?;
    exec::check(plan)?;
    directory(plan).at(Stage::Preflight)
}

/// The directory may be one that --mkdir is about to make.
fn directory(plan: &Plan) -> Result<(), Error> {
    let Some(path) = plan.chdir.as_deref() else { return Ok(()) };
    let refused = |errno| Err(call(format_args!("--chdir {}: chdir", lossy(path)), errno));
    match nix::sys::stat::stat(path) {
        Ok(facts) if facts.st_mode & libc::S_IFMT == libc::S_IFDIR => Ok(()),
        Ok(_) => refused(Errno::ENOTDIR),
        Err(Errno::ENOENT) if acquire::may_be_made(path, plan) => Ok(()),
        Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => refused(errno),
        // Root without CAP_DAC_READ_SEARCH may not look where the target may go.
        Err(_) => Ok(()),
    }
}
