//! What came of a walk: how many, what failed first, and what is said of it meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Error;

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
pub struct Tally {
    seen: AtomicU64,
    changed: AtomicU64,
    begun: Instant,
    verbosity: Verbosity,
    /// Who holds it may write to stderr: a write changes, for a moment, what the whole process does on SIGPIPE.
    said: Mutex<Said>,
}

struct Said {
    failed: u64,
    first: Option<Error>,
    on_terminal: bool,
    told: Instant,
    line: Line,
}

/// Where the terminal's cursor is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// At the start of a line.
    Start,
    /// Behind the progress.
    Progress,
}

impl Tally {
    /// Nothing yet.
    pub fn new(verbosity: Verbosity) -> Self {
        let begun = Instant::now();
        let said =
            Said { failed: 0, first: None, on_terminal: sys::is_terminal(libc::STDERR_FILENO), told: begun, line: Line::Start };
        Self { seen: AtomicU64::new(0), changed: AtomicU64::new(0), begun, verbosity, said: Mutex::new(said) }
    }

    /// How many entries were looked at, as far as the threads have said.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Takes a thread's counts in, and tells of the progress now and then.
    pub fn add(&self, counts: &mut Counts) {
        let seen = self.seen.fetch_add(counts.seen, Ordering::Relaxed) + counts.seen;
        let changed = self.changed.fetch_add(counts.changed, Ordering::Relaxed) + counts.changed;
        (counts.seen, counts.changed) = (0, 0);
        let took = self.begun.elapsed();
        if took > SILENCE {
            let mut said = self.said();
            if said.on_terminal && said.told.elapsed() > Duration::from_millis(200) {
                said.told = Instant::now();
                said.line = Line::Progress;
                let rate = seen / took.as_secs().max(1);
                sys::write_stderr(&format!("\rstepdown: {seen} entries looked at, {changed} changed, {rate}/s "));
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
    pub fn conclude(self, option: &str, path: &str) -> Result<(), Error> {
        let said = self.said.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (seen, changed) = (self.seen.into_inner(), self.changed.into_inner());
        let took = self.begun.elapsed();
        if took > SILENCE {
            let start = if said.on_terminal { "\r" } else { "" };
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
