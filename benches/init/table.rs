//! The tables, in Markdown.

use std::fmt::Write;
use std::time::Duration;

use crate::calls::Calls;
use crate::idle::Idle;
use crate::orphans::{self, Cost};
use crate::starts::percentile;
use crate::time::Situation;
use crate::{PEER, Row, lost};

/// The first row is the target alone.
pub fn time(situation: Situation, rows: &[&Row], took: &[Vec<Duration>]) -> String {
    let at = |index: usize, percent| percentile(&took[index], percent).expect("a round");
    let above = |index, percent| at(index, percent) - at(0, percent);
    let peer = rows.iter().position(|row| row.name == PEER);
    let mut text = format!("\n{}, {} rounds, µs:\n\n", situation.name(), took[0].len());
    text += "| | median | p10 | cost | cost, p10 | of tini-static | p10 |\n|---|--:|--:|--:|--:|--:|--:|\n";
    for (index, row) in rows.iter().enumerate() {
        write!(text, "| {} | {:.0} | {:.0} |", row.name, at(index, 50), at(index, 10)).expect("text");
        if index == 0 {
            text += " | | | |\n";
            continue;
        }
        let ratio = |percent| peer.map_or(String::new(), |peer| format!("{:.2}", above(index, percent) / above(peer, percent)));
        let (cost, tenth) = (above(index, 50), above(index, 10));
        writeln!(text, " {cost:.0} | {tenth:.0} | {} | {} |", ratio(50), ratio(10)).expect("text");
    }
    text
}

pub fn idle(rows: &[Row], idle: &[Idle], calls: &[Option<Calls>]) -> String {
    let mut text = "\nIdle, KB; system calls of a start with its end:\n\n".to_owned();
    text += "| | RSS | PSS | private dirty | private clean | page tables | wake-ups in 10 s | its calls | its child's |\n";
    text += "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for ((row, idle), calls) in rows.iter().zip(idle).zip(calls) {
        let Idle { resident, proportional, dirty, clean, page_tables, wake_ups } = idle;
        write!(text, "| {} | {resident} | {proportional} | {dirty} | {clean} | {page_tables} | {wake_ups} |", row.name)
            .expect("text");
        let of = |which: fn(&Calls) -> usize| calls.as_ref().map_or(String::new(), |calls| which(calls).to_string());
        writeln!(text, " {} | {} |", of(|calls| calls.own), of(|calls| calls.childs)).expect("text");
    }
    text
}

pub fn orphans(rows: &[Row], costs: &[Cost]) -> String {
    let mut text = format!("\nProcessor time for each of {} orphans, µs:\n\n", orphans::COUNT);
    text += "| | all at once | in a second of it | as they come |\n|---|--:|--:|--:|\n";
    for (row, Cost { at_once, as_they_come }) in rows.iter().zip(costs) {
        writeln!(text, "| {} | {at_once:.2} | {:.0} | {as_they_come:.2} |", row.name, 1e6 / at_once).expect("text");
    }
    text
}

pub fn lost(rows: &[Row], lost: &[usize]) -> String {
    let mut text = format!("\nOf {} stop requests 0 to 2 ms after the execve:\n\n| | lost |\n|---|--:|\n", lost::COUNT);
    for (row, lost) in rows.iter().zip(lost) {
        writeln!(text, "| {} | {lost} |", row.name).expect("text");
    }
    text
}
