//! What the command had beside what it was promised; and reports with one lie in them, which must not pass.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::dice::Dice;
use super::line::Line;
use super::model::{Begun, Promise};
use super::start::{Leads, SETGID, SETUID};
use crate::report::Report;

/// The five sets.
const SETS: [&str; 5] = ["effective", "permitted", "inheritable", "ambient", "bounding"];

/// All that is not as promised.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn note<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, got: &T, promised: &T) {
        if got != promised {
            self.0.push(format!("{what}: {got:?}, promised {promised:?}"));
        }
    }
}

/// Compares; empty where all is as promised.
pub fn differences(begun: &Begun<'_>, line: &Line, promise: &Promise, got: &Report) -> Vec<String> {
    let mut all = Differences::default();
    identity(begun, promise, got, &mut all);
    let wide = |set: &str| got.capabilities(set).iter().map(|number| 1u64 << number).sum::<u64>();
    for set in SETS {
        let promised = if set == "bounding" { promise.bounding } else { promise.kept };
        all.note(set, &format!("{:#x}", wide(set)), &format!("{promised:#x}"));
    }
    all.note("no_new_privs", &got.number("no_new_privs"), &i64::from(promise.no_new_privs));
    all.note("securebits", &got.number("securebits"), &begun.report.number("securebits"));
    descriptors(promise, got, &mut all);
    all.note("umask", &got.text("umask"), &promise.umask.as_str());
    all.note("directory", &got.text("directory"), &promise.directory.as_str());
    for list in ["blocked_signals", "ignored_signals"] {
        all.note(list, &got.signals(list), &begun.report.signals(list));
    }
    let mut limits = begun.report.0["limits"].clone();
    for (&resource, &(soft, hard)) in &promise.limits {
        limits[resource] = json!([soft, hard]);
    }
    all.note("limits", &got.0["limits"], &limits);
    all.note("nice", &got.number("nice"), &promise.nice);
    let score = promise.oom_score_adj.map_or_else(|| begun.report.text("oom_score_adj").to_owned(), |score| score.to_string());
    all.note("oom_score_adj", &got.text("oom_score_adj"), &score.as_str());
    if let Some(signal) = promise.death_signal {
        all.note("parent-death signal", &got.number("parent_death_signal"), &signal);
    }
    session(begun, line, promise, got, &mut all);
    all.note("environment", &environment(got), &promise.environment);
    all.0
}

fn identity(begun: &Begun<'_>, promise: &Promise, got: &Report, all: &mut Differences) {
    let target = &promise.target;
    all.note("uids", &got.uids(), &vec![target.uid.into(); 3]);
    all.note("gids", &got.gids(), &vec![target.gid.into(); 3]);
    all.note("groups", &got.groups(), &promise.groups.iter().map(|&gid| gid.into()).collect());
    let mapped = begun.start.space.outside(0).is_some();
    let back = |id: u32, capability: u64| mapped && (id == 0 || promise.kept & capability != 0);
    all.note("can_become_root", &got.0["can_become_root"], &back(target.uid, SETUID).into());
    // Who has become root has root's capabilities too, as far as they are not gone.
    all.note("can_take_root_group", &got.0["can_take_root_group"], &back(target.gid, SETGID).into());
}

fn descriptors(promise: &Promise, got: &Report, all: &mut Differences) {
    let open: BTreeSet<u64> = got.descriptors().into_iter().collect();
    all.note("descriptors", &open, &promise.descriptors.keys().copied().collect());
    for (fd, target) in &promise.descriptors {
        let one = got.descriptor(*fd).cloned().unwrap_or_default();
        // Pipes are made anew for each step, and have another number.
        let known = |target: &str| if target.starts_with("pipe:") { "a pipe".to_owned() } else { target.to_owned() };
        all.note(&format!("descriptor {fd}"), &known(one["target"].as_str().unwrap_or_default()), &known(target));
        if promise.own_pipes.contains(fd) {
            all.note(&format!("owner of the pipe {fd}"), &one["uid"], &json!(promise.target.uid));
        }
    }
}

fn session(begun: &Begun<'_>, line: &Line, promise: &Promise, got: &Report, all: &mut Differences) {
    let init = line.stays();
    let start = begun.start.leads;
    let came = |what: &str| got.number(what) == begun.report.number(what);
    let own = |what: &str| got.number(what) == got.number("pid");
    let session = if promise.new_session || start == Leads::Session && !init { own("session") } else { came("session") };
    // One that the supervisor leads has another number each time.
    all.note("session as promised", &(session || start == Leads::Session && init), &true);
    let group = if init || promise.new_session || start != Leads::Nothing { own("process_group") } else { came("process_group") };
    all.note("process group as promised", &group, &true);
}

/// The environment of a report.
pub fn environment(report: &Report) -> BTreeMap<String, String> {
    let entries = report.0["environment"].as_array().cloned().unwrap_or_default();
    let pair = |entry: &Value| entry.as_str()?.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let all: BTreeMap<String, String> = entries.iter().filter_map(pair).collect();
    assert_eq!(all.len(), entries.len(), "each once: {entries:?}");
    all
}

/// A report in which one thing is other than it was, and which. What a program under test could do wrong.
pub fn lie(dice: &mut Dice, report: &Report) -> (String, Report) {
    let mut lie = report.0.clone();
    let which = dice.pick(&[
        "uid",
        "gid",
        "group",
        "capability",
        "no_new_privs",
        "securebits",
        "a descriptor more",
        "a descriptor less",
        "another file",
        "umask",
        "directory",
        "blocked",
        "ignored",
        "limit",
        "nice",
        "a variable more",
        "root again",
    ]);
    let turn = |value: &mut Value| *value = json!(!value.as_bool().unwrap_or(false));
    let push = |value: &mut Value, more: Value| value.as_array_mut().expect("a list").push(more);
    let mut told = which.to_owned();
    match which {
        "uid" => lie["uids"][2] = json!(4242),
        "gid" => lie["gids"][1] = json!(4242),
        "group" => push(&mut lie["groups"], json!(4242)),
        "capability" => {
            let set = dice.pick(&SETS);
            told = format!("a capability in the {set} set");
            let list = &mut lie["capabilities"][set];
            // Had already: that one is gone.
            let number = json!(dice.below(41));
            let had = list.as_array().expect("a list").iter().position(|one| *one == number);
            match had {
                Some(at) => drop(list.as_array_mut().expect("a list").remove(at)),
                None => push(list, number),
            }
        }
        "no_new_privs" => lie["no_new_privs"] = json!(1 - report.number("no_new_privs")),
        "securebits" => lie["securebits"] = json!(report.number("securebits") ^ 1),
        "a descriptor more" => push(&mut lie["descriptors"], json!({ "fd": 55, "kind": "file", "target": "/etc/shadow" })),
        "a descriptor less" => drop(lie["descriptors"].as_array_mut().and_then(Vec::pop)),
        "another file" => lie["descriptors"][0]["target"] = json!("/etc/shadow"),
        "umask" => lie["umask"] = json!("0123"),
        "directory" => lie["directory"] = json!("/root"),
        "blocked" => push(&mut lie["blocked_signals"], json!(65)),
        "ignored" => push(&mut lie["ignored_signals"], json!(65)),
        "limit" => lie["limits"][2][0] = json!(4242),
        "nice" => lie["nice"] = json!(42),
        "a variable more" => push(&mut lie["environment"], json!("LD_PRELOAD=/tmp/x")),
        _ => turn(&mut lie["can_become_root"]),
    }
    (told, Report(lie))
}
