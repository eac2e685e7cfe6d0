//! `--chown`: safe whoever stirs in the tree, and finished by the next run where one was cut off.

mod attack;
mod faults;
mod filesystems;
pub mod inside;
mod kernel;
mod moments;
mod names;
mod progress;
mod restart;
mod rules;
mod size;
mod threads;
mod tree;
mod victims;

use crate::harness::Case;

/// The target of most of these tests.
const NODE: (u32, u32) = (1000, 1000);

pub fn cases() -> Vec<Case> {
    let concerns = [
        rules::cases(),
        names::cases(),
        filesystems::cases(),
        size::cases(),
        threads::cases(),
        attack::cases(),
        moments::cases(),
        restart::cases(),
        faults::cases(),
        progress::cases(),
    ];
    concerns.concat()
}

/// What these tests do inside their jails.
pub fn parts() -> Vec<inside::Part> {
    let parts = [filesystems::parts(), size::parts(), names::parts(), attack::parts(), moments::parts(), restart::parts()];
    parts.concat()
}
