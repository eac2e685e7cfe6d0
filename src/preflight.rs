//! What can be known to fail is found before anything outside this process has changed.

use anyhow::{Context, anyhow};

use crate::failure::{At, Failure, Stage, lossy};
use crate::plan::Plan;
use crate::{acquire, exec, user_namespace};

/// Checks a plan that has chores; without any there is nothing to spoil, and each step speaks for itself.
pub fn check(plan: &Plan) -> Result<(), Failure> {
    user_namespace::check(plan).at(Stage::Preflight)?;
    acquire::check(plan).at(Stage::Preflight)?;
    exec::check(plan)?;
    directory(plan).at(Stage::Preflight)
}

/// The directory may be one that --mkdir is about to make.
fn directory(plan: &Plan) -> anyhow::Result<()> {
    let Some(path) = plan.chdir.as_deref().filter(|_| plan.mkdir.is_empty()) else { return Ok(()) };
    let shown = lossy(path);
    let facts = nix::sys::stat::stat(path).with_context(|| format!("--chdir {shown}"))?;
    if facts.st_mode & libc::S_IFMT == libc::S_IFDIR { Ok(()) } else { Err(anyhow!("--chdir {shown}: it is no directory")) }
}
