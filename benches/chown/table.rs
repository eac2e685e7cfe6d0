//! The tables, in Markdown.

use std::fmt::Write;

use crate::measure::{Cell, Run, Runner};
use crate::place::Kind;
use crate::{Cache, Shape, State};

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Flat => "flat",
        }
    }
}

impl State {
    /// In a hundred, how many are wrong.
    pub fn share(self) -> &'static str {
        match self {
            Self::Wrong => "100",
            Self::Right => "0",
            Self::Percent => "1",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Wrong => "all wrong",
            Self::Right => "all right",
            Self::Percent => "1 % wrong",
        }
    }
}

impl Cell {
    fn title(&self) -> String {
        let cache = if self.cache == Cache::Warm { "warm" } else { "cold" };
        format!("{} | {}, {} | {}, {cache}", size(self.files), self.kind.name(), self.shape.name(), self.state.name())
    }

    fn runner(&self, name: &str) -> Option<&Runner> {
        self.runners.iter().find(|runner| runner.name == name)
    }

    /// How many times the one takes as long as the other.
    fn ratio(&self, one: Option<&Runner>, other: Option<&Runner>) -> String {
        one.zip(other).map_or(String::new(), |(one, other)| format!("{:.2}", median(one) / median(other)))
    }
}

pub fn all(cells: &[Cell]) -> String {
    let Some(first) = cells.first() else { return String::new() };
    let names: Vec<_> = first.runners.iter().map(|runner| runner.name.as_str()).collect();
    let rounds = cells.iter().map(|cell| cell.runners[0].runs.len());
    let (fewest, most) = (rounds.clone().min().unwrap_or(0), rounds.max().unwrap_or(0));
    let heads = names.iter().fold(String::new(), |text, name| format!("{text} {name} |"));
    let columns = "--:|".repeat(names.len() + 3);
    let mut text = format!("\n{fewest} to {most} rounds, {} cores, ms, median (least):\n\n", crate::cores());
    writeln!(text, "| files | tree | state |{heads} chown -R : stepdown | find : stepdown | stepdown : floor |").expect("text");
    writeln!(text, "|--:|---|---|{columns}").expect("text");
    for cell in cells {
        writeln!(text, "{}", line(cell)).expect("text");
    }
    let (any, warm) = (|_: &Cell| true, |cell: &Cell| cell.cache == Cache::Warm);
    let overlay = |cell: &Cell| warm(cell) && cell.kind == Kind::Overlay;
    let busy = |runner: &Runner| format!("{:.0}", middle(runner, |run| run.busy.as_secs_f64() * 1e3));
    let copied = |runner: &Runner| format!("{:.0}", middle(runner, |run| run.copied as f64));
    text += &other_table(cells, &heads, "Processor time, ms, median", any, busy);
    text += &other_table(cells, &heads, "Peak memory of the largest process, KiB", warm, peak);
    text += &other_table(cells, &heads, "Entries copied up, their directories included", overlay, copied);
    text
}

fn other_table(
    cells: &[Cell],
    heads: &str,
    title: &str,
    which: impl Fn(&Cell) -> bool,
    tell: impl Fn(&Runner) -> String,
) -> String {
    let cells: Vec<_> = cells.iter().filter(|cell| which(cell)).collect();
    let Some(first) = cells.first() else { return String::new() };
    let columns = "--:|".repeat(first.runners.len());
    let mut text = format!("\n{title}:\n\n| files | tree | state |{heads}\n|--:|---|---|{columns}\n");
    for cell in cells {
        let told = cell.runners.iter().fold(String::new(), |told, runner| format!("{told} {} |", tell(runner)));
        writeln!(text, "| {} |{told}", cell.title()).expect("text");
    }
    text
}

/// Nobody's can be told that is smaller than the bench's own.
fn peak(runner: &Runner) -> String {
    let (peak, own) = (middle(runner, |run| run.peak as f64), middle(runner, |run| run.own_peak as f64));
    if peak > own { format!("{peak:.0}") } else { format!("under {own:.0}") }
}

/// One situation's times, as a line of the table.
pub fn line(cell: &Cell) -> String {
    let least = |runner: &Runner| runner.runs.iter().map(|run| run.took).min().unwrap_or_default().as_secs_f64() * 1e3;
    let time = |runner: &Runner| format!(" {} ({}) |", short(median(runner)), short(least(runner)));
    let times: String = cell.runners.iter().map(time).collect();
    let (own, floor) = (cell.runners.first(), cell.runners.last());
    let peers = ["chown -R", "find"].map(|name| cell.ratio(cell.runner(name), own));
    format!("| {} |{times} {} | {} | {} |", cell.title(), peers[0], peers[1], cell.ratio(own, floor))
}

fn short(ms: f64) -> String {
    if ms < 100.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

fn median(runner: &Runner) -> f64 {
    middle(runner, |run| run.took.as_secs_f64() * 1e3)
}

fn middle(runner: &Runner, of: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<_> = runner.runs.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn size(files: u64) -> String {
    if files < 1_000_000 { format!("{} k", files / 1000) } else { format!("{} M", files / 1_000_000) }
}
