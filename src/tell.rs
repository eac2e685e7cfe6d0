//! The plan in words: `--dry-run` for people, `--dry-run=json` for programs. Changes nothing.

mod sockets;

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context, Error};
use serde_json::{Value, json};

use crate::cli::{Args, ChownPolicy, Demand, Init, Keyring, Limits, Mode, Session, Target};
use crate::confine::landlock::Told;
use crate::failure::{Printable, lossy};
use crate::host::Host;
use crate::plan::{Bounding, Groups, NoNewPrivs, Plan, Role};
use crate::printable::{self, shortened};
use sockets::Bound;

/// Prints the plan in the form that was asked for.
pub fn plan(plan: &Plan, args: &Args, host: &Host) -> Result<(), Error> {
    let bound: Vec<Bound> = plan.listen.iter().map(|socket| Bound::of(socket, plan, host)).collect();
    match args.mode {
        Mode::TellJson => print(&printable::json(&format!("{:#}\n", as_json(plan, &bound)))),
        Mode::Tell | Mode::Run => print(&as_text(plan, &bound)),
    }
}

/// Writes to stdout; that nobody takes it is an error, as it is for echo(1).
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("stdout")
}

/// One line for each thing the plan says, the same words as in the manual.
fn as_text(plan: &Plan, bound: &[Bound]) -> String {
    let mut text = String::new();
    for (what, says) in lines(plan, bound) {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{what:<14}{}", Printable(&says));
    }
    text
}

fn lines(plan: &Plan, bound: &[Bound]) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("runs as", plan.identity.to_string()),
        ("groups", groups(plan)),
        ("started", started(plan).to_owned()),
        (
            "capabilities",
            if plan.keep.is_empty() { "none in any set".to_owned() } else { format!("{} in all five sets", plan.keep) },
        ),
    ];
    if plan.bounding == Bounding::AsFound {
        lines.push(("bounding set", "as found, for want of CAP_SETPCAP; idle under no_new_privs".to_owned()));
    }
    lines.push(("no_new_privs", no_new_privs(plan).to_owned()));
    lines.push(("keyring", keyring(plan).to_owned()));
    for mkdir in &plan.mkdir {
        lines.push(("mkdir", format!("{} mode {:04o}", lossy(&mkdir.path), mkdir.mode)));
    }
    for chown in &plan.chown {
        let policy = if plan.chown_policy == ChownPolicy::OnRootMismatch { ", only if its top is wrong" } else { "" };
        let demand = if chown.demand == Demand::May { ", with a warning where it can't be done" } else { "" };
        lines.push(("chown", format!("{} and all below{policy}{demand}", lossy(&chown.path))));
    }
    for (fd, name, what) in handed(plan, bound) {
        lines.push(("descriptor", format!("{fd} {name}: {what}")));
    }
    for secret in &plan.secrets {
        let copy = secret.path_of_copy();
        lines.push(("secret", format!("{}={copy}: a copy of {}, 16 MiB at most", secret.name, lossy(&secret.path))));
    }
    for fd in &plan.kept_descriptors {
        lines.push(("descriptor", format!("{fd} stays open")));
    }
    if let Some(directory) = &plan.chdir {
        lines.push(("directory", lossy(directory).into_owned()));
    }
    if let Some(mask) = plan.umask {
        lines.push(("umask", format!("{mask:04o}")));
    }
    for told in &plan.confinement.told {
        let enforced =
            if told.lacking.is_empty() { "enforced".to_owned() } else { format!("not enforced: {}", told.lacking.join("; ")) };
        lines.push(("confined", format!("{}: {enforced}", told.rule)));
    }
    lines.extend(limits(&plan.limits).map(|limit| ("limit", limit)));
    if let Some(init) = &plan.init {
        supervisor(init, &mut lines);
    }
    for warning in &plan.warnings {
        lines.push(("warning", warning.clone()));
    }
    lines.push(("command", command(plan).join(" ")));
    lines
}

/// Each as it is typed.
fn limits(limits: &Limits) -> impl Iterator<Item = String> {
    let ulimits = limits.ulimits.iter().map(|one| one.to_string());
    let nice = limits.nice.map(|nice| format!("nice {nice}"));
    let score = limits.oom_score_adj.map(|score| format!("oom-score-adj {score}"));
    let session = (limits.session == Session::New).then(|| "a session of its own".to_owned());
    let parent = limits.pdeathsig.map(|signal| format!("{signal} when the parent ends"));
    ulimits.chain(nice).chain(score).chain(session).chain(parent)
}

fn confinement_as_json(plan: &Plan) -> Value {
    let rule = |told: &Told| json!({ "rule": told.rule, "enforced": told.lacking.is_empty(), "lacking": told.lacking });
    plan.confinement.told.iter().map(rule).collect()
}

/// What the process that stays will do.
fn supervisor(init: &Init, lines: &mut Vec<(&'static str, String)>) {
    let target = match init.target {
        Target::Process => "signals go to the command",
        Target::Group => "signals go to the command's process group",
    };
    lines.push(("init", target.to_owned()));
    for (from, to) in init.rewrite.changed() {
        lines.push(("rewrite", to.map_or_else(|| format!("{from} is dropped"), |to| format!("{from} is forwarded as {to}"))));
    }
    if init.drain > 0 {
        lines.push(("drain", format!("{} ms", init.drain)));
    }
    lines.extend(init.kill_after.map(|after| ("kill after", format!("{after} ms"))));
    lines.push(("grace", format!("{} ms", init.grace)));
    lines.extend(init.changed_codes().map(|(from, to)| ("exit code", format!("{from} becomes {to}"))));
}

fn supervisor_as_json(init: &Init) -> Value {
    let rewrite: serde_json::Map<String, Value> =
        init.rewrite.changed().map(|(from, to)| (from.to_string(), to.map(|to| to.to_string()).into())).collect();
    let exit_as: serde_json::Map<String, Value> = init.changed_codes().map(|(from, to)| (from.to_string(), to.into())).collect();
    json!({
        "signals_to": match init.target {
            Target::Process => "command",
            Target::Group => "group",
        },
        "rewrite": rewrite,
        "drain_ms": init.drain,
        "kill_after_ms": init.kill_after,
        "grace_ms": init.grace,
        "exit_as": exit_as,
    })
}

/// So many of the groups are printed for people, who read the plan for them.
const GROUPS: usize = 32;

fn groups(plan: &Plan) -> String {
    let list = shortened(&plan.expected_groups(), ", ", GROUPS);
    match plan.groups {
        Groups::Set => list,
        Groups::AsFound(_) if list.is_empty() => "none, as found".to_owned(),
        Groups::AsFound(_) => format!("{list}, as found"),
    }
}

fn started(plan: &Plan) -> &'static str {
    match plan.role {
        Role::Switching => "with the right to switch",
        Role::AlreadyTarget => "as the target already",
        Role::Bystander => "without the right to switch: runs as who we are (--if-root)",
    }
}

fn no_new_privs(plan: &Plan) -> &'static str {
    match plan.no_new_privs {
        NoNewPrivs::Set => "set",
        NoNewPrivs::AsFound(true) => "set, as found",
        NoNewPrivs::AsFound(false) => "not set, as found (--allow-new-privs)",
    }
}

fn keyring(plan: &Plan) -> &'static str {
    match plan.keyring {
        Keyring::Own => "a session keyring of its own",
        Keyring::AsFound => "the session keyring as found",
    }
}

/// Number, name and origin of every descriptor that is handed on by sd_listen_fds(3).
fn handed<'a>(plan: &'a Plan, bound: &[Bound]) -> Vec<(usize, &'a str, String)> {
    let inherited = plan.inherited.names().iter().map(|name| (name.as_str(), "received".to_owned()));
    let names = plan.listen.iter().map(|socket| socket.wanted.name.as_str());
    let own = names.zip(bound.iter().map(|bound| format!("listens on {}", bound.as_text())));
    let files = plan.open.iter().map(|open| (open.name.as_str(), format!("opens {} {}", lossy(&open.path), open.access.word())));
    inherited.chain(own).chain(files).zip(3..).map(|((name, what), fd)| (fd, name, what)).collect()
}

fn handed_as_json(plan: &Plan, bound: &[Bound]) -> Value {
    let first = plan.inherited.names().len();
    let one = |(index, (fd, name, what)): (usize, (usize, &str, String))| {
        let bound = index.checked_sub(first).and_then(|own| bound.get(own));
        json!({ "fd": fd, "name": name, "what": what, "bind": bound.map(Bound::as_json) })
    };
    handed(plan, bound).into_iter().enumerate().map(one).collect()
}

fn command(plan: &Plan) -> Vec<String> {
    plan.command.iter().map(|word| lossy(word).into_owned()).collect()
}

/// The same for programs. Bytes that are no UTF-8 come as U+FFFD.
#[must_use]
fn as_json(plan: &Plan, bound: &[Bound]) -> Value {
    let name = plan.identity.entry.as_ref().map(|entry| String::from_utf8_lossy(&entry.name).into_owned());
    // Names alone: values may be secrets, and what is printed here ends up in logs.
    let environment: Vec<String> = plan.environment.names().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    json!({
        "user": { "name": name, "uid": plan.identity.uid.get(), "gid": plan.identity.gid.get(), "groups": plan.expected_groups() },
        "role": match plan.role {
            Role::Switching => "switching",
            Role::AlreadyTarget => "already-target",
            Role::Bystander => "bystander",
        },
        "capabilities": plan.keep.names(),
        "bounding_set": match plan.bounding {
            Bounding::Drop { .. } => "dropped",
            Bounding::AsFound => "as-found",
        },
        "no_new_privs": match plan.no_new_privs {
            NoNewPrivs::Set => true,
            NoNewPrivs::AsFound(found) => found,
        },
        "keyring": match plan.keyring {
            Keyring::Own => "own",
            Keyring::AsFound => "as-found",
        },
        "mkdir": plan.mkdir.iter().map(|m| json!({ "path": lossy(&m.path), "mode": format!("{:04o}", m.mode) })).collect::<Vec<_>>(),
        "chown": plan.chown.iter().map(|c| json!({ "path": lossy(&c.path), "if_possible": c.demand == Demand::May })).collect::<Vec<_>>(),
        "chown_policy": match plan.chown_policy {
            ChownPolicy::Always => "always",
            ChownPolicy::OnRootMismatch => "on-root-mismatch",
        },
        "sockets": handed_as_json(plan, bound),
        "secrets": plan.secrets.iter().map(|s| json!({ "name": s.name, "path": lossy(&s.path), "fd": s.number })).collect::<Vec<_>>(),
        "kept_descriptors": plan.kept_descriptors,
        "directory": plan.chdir.as_deref().map(lossy),
        "umask": plan.umask.map(|mask| format!("{mask:04o}")),
        "confinement": confinement_as_json(plan),
        "limits": limits(&plan.limits).collect::<Vec<_>>(),
        "init": plan.init.as_deref().map(supervisor_as_json),
        "warnings": plan.warnings,
        "environment": environment,
        "command": command(plan),
    })
}
