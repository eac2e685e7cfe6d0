//! The chores: what needs root, done before root is given up. Directories first, then owners, sockets, files.

mod chown;
pub mod files;
mod holder;
pub mod listen;
mod maker;
mod mkdir;
mod secrets;
mod system_paths;

use std::ffi::CStr;

use anyhow::Error;
use nix::errno::Errno;

use crate::descriptors::{self, Handed};
use crate::failure::{hinted, lossy};
use crate::pathwalk;
use crate::plan::Plan;
use crate::sys::Unowned;
use crate::{confine, limits};

/// What the chores leave behind for the command, besides its descriptors, which have their places already.
pub struct Acquired {
    /// Rules that the kernel holds, filters that are compiled.
    pub confinement: confine::Prepared,
}

/// Does the chores. Afterwards nothing is open but what is the command's, and the rules that it will be under.
pub fn perform(plan: &Plan, unowned: Unowned) -> Result<Acquired, Error> {
    for wanted in &plan.mkdir {
        mkdir::make(wanted, &plan.identity)?;
    }
    for wanted in &plan.chown {
        chown::own(wanted, plan)?;
    }
    let mut handed = Vec::with_capacity(plan.listen.len() + plan.open.len() + plan.secrets.len());
    let mut next = plan.first_handed;
    let mut hand = |file| {
        handed.push(Handed { file, number: next });
        next += 1;
    };
    for wanted in &plan.listen {
        hand(listen::bind(wanted, plan)?);
    }
    for wanted in &plan.open {
        hand(files::open(wanted, plan)?);
    }
    for wanted in &plan.secrets {
        handed.push(Handed { file: secrets::copy(wanted, plan)?, number: wanted.number });
    }
    // A profile may be named by a descriptor that is root's, and so it is read before these are closed.
    let mut confinement = confine::compiled(plan)?;
    limits::make_room(plan)?;
    descriptors::hand_on(plan, handed, unowned)?;
    // Last, because a rule may name what was just made, and because its descriptor must not be in another one's place.
    confinement.open(plan)?;
    Ok(Acquired { confinement })
}

/// Refuses, before anything has changed, what can be seen to be a mistake.
pub fn check(plan: &Plan) -> Result<(), Error> {
    for wanted in &plan.mkdir {
        mkdir::check(wanted, &plan.identity)?;
    }
    for wanted in &plan.chown {
        chown::check(wanted, plan)?;
    }
    plan.listen.iter().try_for_each(|wanted| listen::check(wanted, plan))?;
    plan.open.iter().try_for_each(|wanted| files::check(wanted, plan))?;
    plan.secrets.iter().try_for_each(|wanted| secrets::check(wanted, plan))
}

/// Whether a path that is missing may be there when --mkdir is done: its last name is among those that are
/// made, or it is a link that leads to nothing yet.
pub fn may_be_made(path: &CStr, plan: &Plan) -> bool {
    let Some(last) = names(path).last() else { return false };
    let is_made = plan.mkdir.iter().any(|mkdir| names(&mkdir.path).any(|name| name == last));
    let is_link = || nix::sys::stat::lstat(path).is_ok();
    !plan.mkdir.is_empty() && (is_made || last == b".." || is_link())
}

fn names(path: &CStr) -> impl Iterator<Item = &[u8]> {
    path.to_bytes().split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

fn is_missing(error: &Error) -> bool {
    error.downcast_ref() == Some(&Errno::ENOENT)
}

fn find(option: &str, path: &CStr) -> Result<pathwalk::Found, Error> {
    let shown = lossy(path);
    pathwalk::find(path).map_err(|error| match error.downcast_ref() {
        Some(Errno::ENOENT) => hinted(format!("{option} {shown}: {error:#}"), format!("create it first: --mkdir {shown}")),
        _ => error.context(format!("{option} {shown}")),
    })
}
