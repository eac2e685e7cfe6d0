//! What stays, while its command sleeps.

use std::ffi::CString;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::first::{First, median, number, value};
use crate::{Row, turns};

/// Medians; memory in KB.
#[derive(Default)]
pub struct Idle {
    pub resident: f64,
    pub proportional: f64,
    pub dirty: f64,
    pub clean: f64,
    pub page_tables: f64,
    /// In [`WATCHED`].
    pub wake_ups: f64,
}

const ROUNDS: usize = 5;

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(10);

pub fn sleeps() -> [CString; 2] {
    [c"sleep".into(), c"1000".into()]
}

pub fn all(rows: &[Row]) -> Vec<Idle> {
    let mut looks: Vec<Vec<Idle>> = rows.iter().map(|_| Vec::new()).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut seed = 1;
    for _ in 0..ROUNDS {
        turns::shuffle(&mut order, &mut seed);
        for &index in &order {
            // One after the other: who shares a page counts in its proportional size.
            looks[index].push(look(&start(&rows[index])));
        }
    }
    let mut idle: Vec<Idle> = looks.iter().map(|looks| middle(looks)).collect();
    let running: Vec<First> = rows.iter().map(start).collect();
    let before: Vec<f64> = running.iter().map(First::switches).collect();
    sleep(WATCHED);
    for ((idle, first), before) in idle.iter_mut().zip(&running).zip(before) {
        idle.wake_ups = first.switches() - before;
    }
    idle
}

fn start(row: &Row) -> First {
    First::start(&row.line(&sleeps()), Stdio::null).settled("sleep")
}

fn look(first: &First) -> Idle {
    let memory = first.read("smaps_rollup");
    let of = |key: &str| number(value(&memory, key));
    Idle {
        resident: of("Rss"),
        proportional: of("Pss"),
        dirty: of("Private_Dirty"),
        clean: of("Private_Clean"),
        page_tables: number(&first.status("VmPTE")),
        wake_ups: 0.0,
    }
}

fn middle(looks: &[Idle]) -> Idle {
    let of = |field: fn(&Idle) -> f64| median(looks.iter().map(field).collect());
    Idle {
        resident: of(|look| look.resident),
        proportional: of(|look| look.proportional),
        dirty: of(|look| look.dirty),
        clean: of(|look| look.clean),
        page_tables: of(|look| look.page_tables),
        wake_ups: 0.0,
    }
}
