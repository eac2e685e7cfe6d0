//! stepdown does the chores of a service that need root, gives root up for good, proves that it is gone,
//! and becomes the service.
//!
//! ```text
//! argv ─▶ Args ─(+ Host)─▶ Plan ─▶ Acquired ─▶ Dropped ─▶ the command
//! ```
//!
//! | what happens | where |
//! |---|---|
//! | what was typed | [`cli`], [`userspec`], [`address`], [`prefix`], [`line_ends`] |
//! | what this host is like | [`host`], [`accounts`], [`activation`] |
//! | what will be done, every decision | [`plan`], [`identity`], [`environment`]; told by [`tell`] |
//! | what can be known to fail | [`preflight`], [`user_namespace`] |
//! | what needs root | [`acquire`], [`pathwalk`] |
//! | giving root up, and proving it | [`credentials`], [`proof`] |
//! | one process more, if asked for | [`init`] |
//! | what the command may reach, and what it is limited to | [`confine`], [`limits`] |
//! | becoming the command | [`descriptors`], [`exec`], [`diagnosis`] |
//! | the kernel, and what goes wrong | [`sys`], [`procfs`], [`ids`], [`signal`], [`capabilities`], [`failure`], [`printable`] |

pub mod accounts;
pub mod acquire;
pub mod activation;
pub mod address;
pub mod capabilities;
pub mod cli;
pub mod confine;
pub mod credentials;
pub mod descriptors;
pub mod diagnosis;
pub mod environment;
pub mod exec;
pub mod failure;
pub mod host;
pub mod identity;
pub mod ids;
pub mod init;
pub mod limits;
pub mod line_ends;
pub mod pathwalk;
pub mod plan;
pub mod prefix;
pub mod preflight;
pub mod printable;
pub mod procfs;
pub mod proof;
pub mod signal;
pub mod sys;
pub mod tell;
pub mod user_namespace;
pub mod userspec;

use crate::cli::{Args, Mode, Request};
use crate::failure::{At, Failure, Stage, call, lossy, warn};
use crate::host::Host;
use crate::plan::Plan;
use crate::sys::Start;

/// The program. Returns only where no command took its place: with a failure, or because it only had to tell.
pub fn run(start: Start) -> Result<(), Failure> {
    let held = init::Held::where_asked(&start.arguments).at(Stage::CommandLine)?;
    let args = match cli::parse(&start.arguments).at(Stage::CommandLine)? {
        Request::Run(args) => args,
        Request::Print(text) => return tell::print(text).at(Stage::CommandLine),
    };
    if args.init.is_none() {
        held.release().at(Stage::CommandLine)?;
    }
    let host = Host::read(&args, start.environment).at(Stage::Host)?;
    let mut plan = Plan::resolve(&args, &host).at(Stage::Plan)?;
    if plan.has_chores() || args.mode != Mode::Run {
        preflight::check(&plan)?;
    }
    if args.mode != Mode::Run {
        return tell::plan(&plan, &args, &host).at(Stage::Plan);
    }
    plan.warnings.iter().for_each(|warning| warn(warning));
    let acquired = acquire::perform(&plan, start.unowned).at(Stage::Chores)?;
    descriptors::give_streams(&plan);
    limits::set(&plan).at(Stage::Chores)?;
    credentials::drop(&plan).at(Stage::Drop)?;
    place(&args).at(Stage::Drop)?;
    let dropped = proof::prove(&plan).at(Stage::Proof)?;
    let dropped = init::start_the_command(&mut plan, dropped, &held)?;
    Err(exec::exec(dropped, &plan, acquired))
}

/// Directory and umask, as the target: where it may not go, the command does not start.
fn place(args: &Args) -> Result<(), anyhow::Error> {
    if let Some(directory) = &args.chdir {
        sys::change_directory(directory).map_err(|errno| call(format_args!("--chdir {}: chdir", lossy(directory)), errno))?;
    }
    if let Some(mask) = args.umask {
        sys::umask(mask).map_err(|errno| call(format_args!("umask({mask:03o})"), errno))?;
    }
    Ok(())
}
