//! What came of a walk: how many, what failed first, and what is said of it meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Error;

use super::progress::{COLUMNS, OFTEN, Progress, width};
use crate::cli::Verbosity;
use crate::failure::Printable;
use crate::sys;

/// How long a run is silent.
const SILENCE: Duration = Duration::from_secs(2);

/// One thread's counts, not yet in the tally.
#[derive(Default)]
pub struct Counts {
    /// Entries looked at.
    pub seen: u64,
    /// Entries changed.
    pub changed: u64,
    /// Whether the last entry that was looked at was wrong.
    pub last_was_wrong: bool,
    /// How many were looked at again.
    sampled: u32,
    /// When they were last put into the tally, in this long since the walk began.
    added: Duration,
}

/// So many entries of a thread are looked at again after they were changed: a file system that says yes and changes nothing
/// does so from the first one on.
const SAMPLE: u32 = 32;

impl Counts {
    /// Whether what was just changed is to be looked at again.
    pub fn is_in_sample(&mut self) -> bool {
        let is_in = self.sampled < SAMPLE;
        self.sampled += u32::from(is_in);
        is_in
    }
}

/// What all threads have done.
pub struct Tally<'a> {
    /// The option and PATH, as they were typed.
    option: &'a str,
    path: &'a str,
    seen: AtomicU64,
    changed: AtomicU64,
    begun: Instant,
    on_terminal: bool,
    verbosity: Verbosity,
    /// Who holds it may write to stderr: a write changes, for a moment, what the whole process does on SIGPIPE.
    said: Mutex<Said>,
}

struct Said {
    failed: u64,
    first: Option<Error>,
    told: Instant,
    line: Line,
    /// How wide the progress is that stands there.
    width: usize,
}

/// Where the terminal's cursor is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// At the start of a line.
    Start,
    /// Behind the progress.
    Progress,
}

impl<'a> Tally<'a> {
    /// Nothing yet.
    pub fn new(option: &'a str, path: &'a str, verbosity: Verbosity) -> Self {
        let begun = Instant::now();
        let said = Mutex::new(Said { failed: 0, first: None, told: begun, line: Line::Start, width: 0 });
        let (seen, changed) = (AtomicU64::new(0), AtomicU64::new(0));
        let on_terminal = sys::is_terminal(libc::STDERR_FILENO);
        Self { option, path, seen, changed, begun, on_terminal, verbosity, said }
    }

    /// How many entries were looked at, as far as the threads have said.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// After each entry: where somebody watches, a thread's counts go in by the clock, and not by how many there are, since
    /// a single one may take long. Nobody else pays for the clock.
    pub fn tick(&self, counts: &mut Counts) {
        if self.on_terminal {
            let now = self.begun.elapsed();
            if now.saturating_sub(counts.added) > OFTEN {
                counts.added = now;
                self.add(counts);
            }
        }
    }

    /// Takes a thread's counts in, and tells of the progress now and then.
    pub fn add(&self, counts: &mut Counts) {
        let seen = self.seen.fetch_add(counts.seen, Ordering::Relaxed) + counts.seen;
        let changed = self.changed.fetch_add(counts.changed, Ordering::Relaxed) + counts.changed;
        (counts.seen, counts.changed) = (0, 0);
        let took = self.begun.elapsed();
        if self.on_terminal && took > SILENCE {
            let mut said = self.said();
            if said.told.elapsed() > OFTEN {
                said.told = Instant::now();
                let rate = seen / took.as_secs().max(1);
                said.show(&Progress { option: self.option, path: self.path, seen, changed, rate });
            }
        }
    }

    /// Notes what could not be made right; the walk goes on.
    pub fn fail(&self, path: impl FnOnce() -> String, error: Error) {
        let mut said = self.said();
        said.failed += 1;
        if said.first.is_some() && self.verbosity == Verbosity::Quiet {
            return;
        }
        let error = error.context(path());
        if self.verbosity == Verbosity::Verbose {
            let start = if std::mem::replace(&mut said.line, Line::Start) == Line::Progress { "\n" } else { "" };
            sys::write_stderr(&format!("{start}stepdown: {}\n", Printable(&format!("{error:#}"))));
        }
        said.first.get_or_insert(error);
    }

    /// The end: a long run is summed up on stderr. An error where anything failed: how much, and what first.
    pub fn conclude(self) -> Result<(), Error> {
        let (option, path) = (self.option, self.path);
        let said = self.said.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (seen, changed) = (self.seen.into_inner(), self.changed.into_inner());
        let took = self.begun.elapsed();
        if took > SILENCE {
            let start = if said.line == Line::Progress { format!("\r{:1$}\r", "", said.width) } else { String::new() };
            let (path, seconds) = (Printable(path), took.as_secs());
            sys::write_stderr(&format!(
                "{start}stepdown: {option} {path}: {seen} entries looked at, {changed} changed in {seconds} s\n"
            ));
        }
        let Some(first) = said.first else { return Ok(()) };
        Err(first.context(format!("{option}: {} of {seen} entries can't be changed, the first", said.failed)))
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// Writes the progress over what it was before.
    fn show(&mut self, progress: &Progress<'_>) {
        // The last column stays free: some terminals wrap as soon as it is taken. And a space stands before the cursor.
        let columns = sys::columns(libc::STDERR_FILENO).unwrap_or(COLUMNS).saturating_sub(2);
        let line = progress.line(columns);
        let before = if self.line == Line::Progress { self.width.min(columns) } else { 0 };
        self.width = width(&line);
        self.line = Line::Progress;
        sys::write_stderr(&format!("\r{line}{:1$} ", "", before.saturating_sub(self.width)));
    }
}
