//! What goes wrong, how it is told, and which exit code it has.

use std::ffi::CStr;
use std::fmt;

use anyhow::Error;
use nix::errno::Errno;

pub use crate::printable::Printable;
use crate::sys;

/// Where a run ended. It alone decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the command line.
    CommandLine,
    /// Reading accounts, environment and credentials.
    Host,
    /// Deciding what to do.
    Plan,
    /// Checking, before anything changes, what can be checked.
    Preflight,
    /// The work that needs root.
    Chores,
    /// Giving root up.
    Drop,
    /// Reading back what the kernel holds.
    Proof,
    /// Confining the command.
    Confinement,
    /// COMMAND does not exist.
    CommandMissing,
    /// COMMAND exists and can't be run.
    CommandUnusable,
}

/// A run that ended before COMMAND ran.
#[derive(Debug)]
pub struct Failure {
    /// Where it ended.
    pub stage: Stage,
    /// What was being done, on what, and why it failed.
    pub error: Error,
}

impl Failure {
    /// The exit code: that of docker run, env(1), chroot(1) and timeout(1).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.stage {
            Stage::CommandMissing => 127,
            Stage::CommandUnusable => 126,
            Stage::CommandLine
            | Stage::Host
            | Stage::Plan
            | Stage::Preflight
            | Stage::Chores
            | Stage::Drop
            | Stage::Proof
            | Stage::Confinement => 125,
        }
    }

    /// Tells stderr: one line what went wrong, one more how to mend it where that is known.
    pub fn report(&self) {
        let mut text = format!("stepdown: {}\n", Printable(&format!("{:#}", self.error)));
        if let Some(hint) = self.error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()) {
            text += &format!("stepdown: hint: {}\n", Printable(&hint.hint));
        }
        sys::write_stderr(&text);
    }
}

/// Gives an error its place in the run.
pub trait At<T> {
    /// Marks where the run was.
    fn at(self, stage: Stage) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T, Error> {
    fn at(self, stage: Stage) -> Result<T, Failure> {
        self.map_err(|error| Failure { stage, error })
    }
}

#[derive(Debug)]
struct Hinted {
    message: String,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// An error whose mending is known: `hint` is printed as the second line.
pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(Hinted { message: message.into(), hint: hint.into() })
}

/// A system call that failed, as a trace would show it: `setgroups([1000, 44]): EPERM: Operation not permitted`.
/// The error number can be had back: it decides fallbacks and hints.
pub fn call(call: impl fmt::Display, errno: Errno) -> Error {
    Error::new(errno).context(call.to_string())
}

/// Says on stderr what was left undone, and goes on.
pub fn warn(message: &str) {
    sys::write_stderr(&format!("stepdown: warning: {}\n", Printable(message)));
}

/// From here on one word may be another one misspelled.
pub const ALIKE: f64 = 0.8;

/// How much one word is like another: 0, not at all, to 1, the same (Jaro's measure).
#[must_use]
pub fn likeness(one: &str, other: &str) -> f64 {
    strsim::jaro(one, other)
}

/// `: did you mean …?` with the word that is most like the one typed; empty where none is much like it.
#[must_use]
pub fn nearest(typed: &str, words: &[&str]) -> String {
    // Capitals and underscores are how systemd and shells spell the same words.
    let plain = typed.to_ascii_lowercase().replace('_', "-");
    match words.iter().max_by(|one, other| likeness(&plain, one).total_cmp(&likeness(&plain, other))) {
        Some(word) if likeness(&plain, word) > ALIKE => format!(": did you mean {word}?"),
        _ => String::new(),
    }
}

/// A C string for people.
pub fn lossy(text: &CStr) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_command_itself_yields_126_or_127() {
        let code = |stage| Failure { stage, error: anyhow::anyhow!("x") }.exit_code();
        assert_eq!(code(Stage::CommandMissing), 127);
        assert_eq!(code(Stage::CommandUnusable), 126);
        for stage in [
            Stage::CommandLine,
            Stage::Host,
            Stage::Plan,
            Stage::Preflight,
            Stage::Chores,
            Stage::Drop,
            Stage::Proof,
            Stage::Confinement,
        ] {
            assert_eq!(code(stage), 125);
        }
    }
}
