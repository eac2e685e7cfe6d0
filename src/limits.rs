//! Limits of the command's process: resources, priority, the killer's score; its session; what it gets when its parent ends.
//!
//! The first three may need a capability, so they are set while root; a change of user clears the last
//! (PR_SET_PDEATHSIG(2const)), so it is set when there is none to come, and set again where it was set already.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;

use anyhow::{Error, bail};
use nix::errno::Errno;

use crate::cli::{Resource, Session, Ulimit};
use crate::failure::{call, hinted, lossy};
use crate::plan::Plan;
use crate::procfs;
use crate::sys;

const SCORE: &CStr = c"/proc/self/oom_score_adj";

/// Refuses, before anything has changed, what can be seen not to be allowed.
pub fn check(plan: &Plan) -> Result<(), Error> {
    for one in &plan.limits.ulimits {
        let (_, hard) = limit_of(one)?;
        if one.hard > hard && (!plan.may_raise_limits || most_open_files(one).is_some()) {
            return Err(refusal(one, Errno::EPERM));
        }
    }
    // What --init starts leads neither.
    if plan.limits.session == Session::New && plan.init.is_none() && leads_group_alone() {
        return Err(no_session(Errno::EPERM));
    }
    Ok(())
}

/// Raises the limit of open files where `--ulimit` does: what is handed on may have numbers that the present one forbids. A
/// lower one waits for [`set`], because each of them is in two places while it is moved.
pub fn make_room(plan: &Plan) -> Result<(), Error> {
    let Some(one) = plan.limits.ulimits.iter().find(|one| one.resource.name == Resource::NOFILE) else { return Ok(()) };
    if one.soft > limit_of(one)?.0 { set_one(one) } else { Ok(()) }
}

fn limit_of(one: &Ulimit) -> Result<(u64, u64), Error> {
    sys::resource_limit(one.resource.number).map_err(|errno| call(format_args!("getrlimit({})", one.resource.name), errno))
}

fn set_one(one: &Ulimit) -> Result<(), Error> {
    sys::set_resource_limit(one.resource.number, one.soft, one.hard).map_err(|errno| refusal(one, errno))?;
    let now = limit_of(one)?;
    if now != (one.soft, one.hard) {
        bail!("--ulimit {one}: the kernel holds {}:{}", Ulimit::shown(now.0), Ulimit::shown(now.1));
    }
    Ok(())
}

/// Resources, priority and score.
pub fn set(plan: &Plan) -> Result<(), Error> {
    let limits = &plan.limits;
    limits.ulimits.iter().try_for_each(set_one)?;
    if let Some(nice) = limits.nice {
        sys::set_nice(nice).map_err(|errno| match errno {
            Errno::EACCES | Errno::EPERM => hinted(
                format!("--nice {nice}: setpriority({nice}): {errno}"),
                "a value below the present one needs CAP_SYS_NICE, or a limit (ulimit -e) that allows it",
            ),
            errno => call(format_args!("--nice {nice}: setpriority({nice})"), errno),
        })?;
    }
    limits.oom_score_adj.map_or(Ok(()), set_score)
}

fn set_score(score: i32) -> Result<(), Error> {
    // Another file of that name, or behind a link of that name, may be anybody's, and root would write to it (CVE-2025-52881).
    let opened = procfs::open(SCORE, libc::O_WRONLY | libc::O_NOFOLLOW);
    let written = opened.and_then(|file| {
        let written = File::from(file).write_all(score.to_string().as_bytes());
        written.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    });
    match written.and_then(|()| procfs::read_text(SCORE)) {
        Ok(now) if now.trim() == score.to_string() => Ok(()),
        Ok(now) => bail!("--oom-score-adj {score}: the kernel holds {}", now.trim()),
        Err(errno) => {
            let message = format!("--oom-score-adj {score}: {}: {errno}", lossy(SCORE));
            Err(match errno {
                Errno::EACCES | Errno::EPERM => hinted(
                    message,
                    "a score below the present one needs CAP_SYS_RESOURCE; above it, /proc that may be written to",
                ),
                Errno::ENOENT => hinted(message, "mount /proc: mount -t proc proc /proc"),
                _ => Error::msg(message),
            })
        }
    }
}

/// fs.nr_open, where the limit is one of open files that is above it: no capability raises that.
fn most_open_files(one: &Ulimit) -> Option<u64> {
    let most = || procfs::read_text(c"/proc/sys/fs/nr_open").ok()?.trim().parse().ok();
    (one.resource.name == Resource::NOFILE).then(most).flatten().filter(|&most| one.hard > most)
}

/// Says why a limit can't be had: what it is now, and what it takes.
fn refusal(one: &Ulimit, errno: Errno) -> Error {
    let message = format!("--ulimit {one}: setrlimit: {errno}");
    if errno != Errno::EPERM {
        return Error::msg(message);
    }
    let hard = sys::resource_limit(one.resource.number).map(|(_, hard)| hard);
    match (hard, most_open_files(one)) {
        (_, Some(most)) => hinted(message, format!("no process may have more than fs.nr_open={most} open files")),
        (Ok(hard), _) => hinted(
            message,
            format!(
                "the hard limit is {}; to raise it takes CAP_SYS_RESOURCE, or who starts stepdown raises it: docker run --ulimit, systemd Limit*=",
                Ulimit::shown(hard)
            ),
        ),
        (Err(_), _) => Error::msg(message),
    }
}

/// Leaves the session, where that was asked for: in the process that is to be the command's.
pub fn leave_session(plan: &Plan) -> Result<(), Error> {
    if plan.limits.session == Session::AsFound || sys::leads_session() {
        return Ok(());
    }
    sys::new_session().map_err(no_session)
}

/// Whether this process leads a process group and no session: setsid(2) refuses then.
fn leads_group_alone() -> bool {
    nix::unistd::getpgrp() == nix::unistd::getpid() && !sys::leads_session()
}

fn no_session(errno: Errno) -> Error {
    match errno {
        Errno::EPERM => hinted(
            "--new-session: setsid: EPERM: Operation not permitted: stepdown leads a process group, as what an interactive shell starts does",
            "--init starts the command as a child, which can; so does setsid(1) in front",
        ),
        errno => call("--new-session: setsid", errno),
    }
}

/// Has the kernel send the signal when the parent ends: the one of `--pdeathsig`, or the one that was set already. The kernel
/// clears it when ids change, lest a program that gains rights be signalled by who has none; here rights are given up, and
/// whoever set it relies on it.
pub fn heed_parent(plan: &Plan, parent: Option<i32>) -> Result<(), Error> {
    let (signal, what) = match (plan.limits.pdeathsig, plan.parent_death) {
        (Some(signal), _) => (signal, format!("--pdeathsig {signal}")),
        (None, Some(signal)) => (signal, format!("the parent-death signal {signal}, which was set")),
        (None, None) => return Ok(()),
    };
    sys::set_parent_death_signal(signal)
        .map_err(|errno| call(format_args!("{what}: prctl(PR_SET_PDEATHSIG, {})", signal.number()), errno))?;
    if sys::parent_death_signal() != Ok(Some(signal)) {
        bail!("{what}: the kernel does not hold it");
    }
    let now = sys::getppid();
    match (parent, plan.limits.pdeathsig) {
        (None, _) => Ok(()),
        (Some(parent), _) if parent == now => Ok(()),
        // No call can say that of a parent that was within the PID namespace: a filter does.
        (Some(_), _) if now <= 0 => bail!("{what}: getppid: the kernel does not tell the parent"),
        (Some(_), Some(_)) => bail!("{what}: the parent process has ended already"),
        // While none was set. Whether it ends this process, waits, or is ignored is as if it had come from the kernel.
        (Some(_), None) => sys::raise(signal).map_err(|errno| call(format_args!("{what}: tgkill"), errno)),
    }
}
