//! What the supervisor says: to stderr alone, from a buffer on the stack, and never waiting for a reader.

use std::fmt::{self, Write};

use super::Supervisor;
use crate::cli::Verbosity;
use crate::sys::{self, Change};

/// A line that is cut off where it would be too long.
struct Line {
    text: [u8; 200],
    length: usize,
}

impl Line {
    fn of(start: &str, message: fmt::Arguments<'_>) -> Self {
        let mut line = Self { text: [0; 200], length: 0 };
        // What does not fit is left out.
        let _ = line.write_str(start).and_then(|()| line.write_fmt(message));
        line.length = line.length.min(line.text.len() - 1);
        let _ = line.write_str("\n");
        line
    }

    fn say(&self) {
        sys::try_write_stderr(self.text.get(..self.length).unwrap_or_default());
    }
}

impl Write for Line {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = self.text.get_mut(self.length..).unwrap_or_default();
        let fits = piece.len().min(room.len());
        room.iter_mut().zip(piece.bytes()).for_each(|(place, byte)| *place = byte);
        self.length += fits;
        if fits == piece.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl Supervisor {
    /// Under `--verbose`.
    pub(super) fn tell(&self, message: fmt::Arguments<'_>) {
        if self.verbosity == Verbosity::Verbose {
            Line::of("stepdown: ", message).say();
        }
    }

    /// Something went wrong, and nothing ends because of it.
    pub(super) fn warn(&self, message: fmt::Arguments<'_>) {
        Line::of("stepdown: warning: ", message).say();
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(out, "exit code {code}"),
            Self::Killed(signal) => write!(out, "{signal}"),
            Self::Stopped(signal) => write!(out, "stopped by {signal}"),
        }
    }
}
