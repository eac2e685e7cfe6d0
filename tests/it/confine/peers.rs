//! stepdown beside bwrap: what docs/confinement.md says of them is what they do.
//!
//! The rows are scripts/confinement-rows.py's; scripts/compare-confinement has those of setpriv and landrun as well, which
//! are newer than Debian 12.

use std::path::Path;
use std::sync::OnceLock;

use super::landlock;
use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, programs};

pub fn cases() -> Vec<Case> {
    cases![
        the_tables_in_the_docs_are_what_these_versions_do,
        bwrap_runs_what_may_be_written_to_and_moves_nothing_between_binds,
        bwrap_hands_on_open_descriptors,
        bwrap_started_by_root_for_uid_1000_stays_root_outside,
        bwrap_does_not_forward_sigterm,
        bwrap_leaves_the_terminal_to_be_typed_into_or_takes_job_control,
    ]
}

/// Section, row, and the cell of each head.
type Rows = Vec<(String, String, serde_json::Map<String, serde_json::Value>)>;

/// Tried once.
fn rows() -> Result<&'static Rows, Stop> {
    static ROWS: OnceLock<Result<Rows, String>> = OnceLock::new();
    landlock(6)?;
    if !cfg!(target_arch = "x86_64") {
        return Err(Stop::Skip("the rows have x86_64's system calls by number".to_owned()));
    }
    Need::Peers.programs(&["bwrap"])?;
    Need::Strace.programs(&["strace", "python3"])?;
    let jail = Jail::new()?.network();
    let tried = || {
        let variables = [format!("W={}", jail.work().display()), format!("STEPDOWN={}", programs().stepdown.display())];
        let jail = jail.through(&["env", &variables[0], &variables[1]]).instead(Path::new("/usr/bin/python3"));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/confinement-rows.py");
        let ran = jail.run(&[script, "stepdown", "bwrap"]).map_err(|_| "the rows were not tried".to_owned())?;
        serde_json::from_str(&ran.stdout).map_err(|error| format!("{error}: {ran:?}"))
    };
    ROWS.get_or_init(tried).as_ref().map_err(|why| Stop::Fail(why.clone()))
}

fn the_tables_in_the_docs_are_what_these_versions_do() -> Outcome {
    let docs = include_str!("../../../docs/confinement.md");
    let lines: Vec<Vec<&str>> = docs.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let heads = lines.iter().find(|line| line.get(1) == Some(&"stepdown")).expect("a table");
    let mut wrong = Vec::new();
    for (_, title, cells) in rows()? {
        let line = lines.iter().find(|line| line[0] == title);
        for (head, cell) in cells {
            let Some(place) = heads.iter().position(|named| named == head) else { continue };
            let said = line.and_then(|line| line.get(place)).copied();
            if said != cell.as_str() {
                wrong.push(format!("{title}: {head}: the docs have {said:?}, and it does {cell}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Asserts what bwrap makes of the row that begins so.
fn claim(begins: &str, expected: &str) -> Outcome {
    let (_, title, cells) = rows()?.iter().find(|(_, title, _)| title.starts_with(begins)).expect("such a row");
    let (head, cell) = cells.iter().find(|(head, _)| head.starts_with("bwrap")).expect("a column of bwrap's");
    assert_eq!(cell, expected, "{head}: {title}");
    Ok(())
}

fn bwrap_runs_what_may_be_written_to_and_moves_nothing_between_binds() -> Outcome {
    claim("`open` for writing below", "ok, ok")?;
    claim("`rename` from one", "EXDEV")
}

fn bwrap_hands_on_open_descriptors() -> Outcome {
    claim("open since before", "ok, ok")
}

fn bwrap_started_by_root_for_uid_1000_stays_root_outside() -> Outcome {
    claim("started by root", "0")?;
    claim("who stays above", "bwrap as 0; `--unshare-pid`: bwrap as 0 and bwrap as 0")
}

fn bwrap_does_not_forward_sigterm() -> Outcome {
    claim("SIGTERM to what was started", "no")?;
    claim("the same as PID 1", "no")
}

fn bwrap_leaves_the_terminal_to_be_typed_into_or_takes_job_control() -> Outcome {
    claim("in a root shell's terminal", "ok, ok; `--new-session`: EPERM, ENOTTY")
}
