//! The chores: what needs root, done before root is given up. Directories first, then owners, then sockets.

mod chown;
mod listen;
mod mkdir;
mod system_paths;

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use anyhow::Error;
use nix::errno::Errno;

use crate::failure::{hinted, lossy};
use crate::pathwalk;
use crate::plan::Plan;

/// What the chores leave behind for the command.
pub struct Acquired {
    /// Sockets of `--listen`, in order.
    pub sockets: Vec<OwnedFd>,
}

/// Does the chores.
pub fn perform(plan: &Plan) -> Result<Acquired, Error> {
    for wanted in &plan.mkdir {
        mkdir::make(wanted, &plan.identity)?;
    }
    for wanted in &plan.chown {
        chown::own(wanted, plan)?;
    }
    let sockets = plan.listen.iter().map(|wanted| listen::bind(wanted, plan)).collect::<Result<_, _>>()?;
    Ok(Acquired { sockets })
}

/// Refuses, before anything has changed, what can be seen to be a mistake.
pub fn check(plan: &Plan) -> Result<(), Error> {
    for wanted in &plan.mkdir {
        system_paths::refuse_name("--mkdir", &wanted.path)?;
    }
    for wanted in &plan.chown {
        system_paths::refuse_name("--chown", &wanted.path)?;
        // What --mkdir is about to make need not be there yet.
        if plan.mkdir.is_empty() {
            system_paths::refuse_file("--chown", &wanted.path, &find("--chown", &wanted.path)?.file)?;
        }
    }
    Ok(())
}

fn find(option: &str, path: &CStr) -> Result<pathwalk::Found, Error> {
    let shown = lossy(path);
    pathwalk::find(path).map_err(|error| match error.downcast_ref() {
        Some(Errno::ENOENT) => hinted(format!("{option} {shown}: {error:#}"), format!("create it first: --mkdir {shown}")),
        _ => error.context(format!("{option} {shown}")),
    })
}
