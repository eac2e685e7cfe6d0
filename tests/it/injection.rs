//! Fail closed: whatever single call fails, or claims success and does nothing, the command runs with
//! exactly the planned privileges or it does not run. Every system call of the launcher is made to, in turn,
//! by strace.
//!
//! [`lines`] has the command lines, [`sampling`] what is done to which of their calls; `init::injection` does the same to the
//! supervisor and its child; [`wrappers`] sees to it that no call of the code is left out.

mod lines;
pub mod sampling;
mod wrappers;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran, programs};
use crate::report::Report;
use sampling::{Counter, End, Injection, Sample, Seen};

pub fn cases() -> Vec<Case> {
    [lines::cases(), wrappers::cases()].concat()
}

/// A command line, what it is started through, and what its command must turn out to be.
struct Line {
    setup: &'static str,
    through: &'static [&'static str],
    arguments: fn(&Jail) -> Vec<String>,
    /// Panics where the command has anything else than was planned.
    planned: fn(&Report),
    /// Panics where the command ran although a chore was not done.
    done: fn(&Jail),
}

/// Where the message about it is written by the very call: the exit code is all there is then.
pub const NEEDED_TO_SPEAK: [&str; 3] = ["rt_sigaction", "poll", "write"];

/// Does it to each, by so many at once. What went wrong; how many commands ran.
pub fn each(
    injections: &[Injection],
    at_once: usize,
    tried: impl Fn(&Injection) -> Result<bool, String> + Sync,
) -> (Vec<String>, usize) {
    let (next, ran, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(injection) = injections.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match tried(injection) {
                        Ok(true) => drop(ran.fetch_add(1, Ordering::Relaxed)),
                        Ok(false) => {}
                        Err(why) => wrong.lock().map(|mut all| all.push(why)).unwrap_or_default(),
                    }
                }
            });
        }
    });
    (wrong.into_inner().unwrap_or_default(), ran.into_inner())
}

/// The kinds of calls of the plain switch.
pub fn plain_kinds() -> Result<BTreeSet<String>, Stop> {
    Ok(lines::a_switch()?.calls()?.into_iter().map(|seen| seen.kind).collect())
}

impl Line {
    /// Tampers with every call in turn, and prints how often.
    fn inject(&self) -> Outcome {
        Need::Strace.programs(&["strace", "ip"])?;
        let is_plain = self.setup == lines::a_switch()?.setup;
        let plain = if is_plain { BTreeSet::new() } else { plain_kinds()? };
        let sample = Sample::of(&self.calls()?, End::Execs, &plain);
        let (wrong, ran) = each(&sample.injections, 2, |injection| self.tried(injection));
        sample.tell(ran);
        let total = sample.injections.len();
        assert!(wrong.is_empty(), "{} of {total}:\n{}", wrong.len(), wrong.join("\n"));
        assert!(ran > 0 && ran < total, "nothing was injected");
        Ok(())
    }

    fn jail(&self, strace: &[&str]) -> Result<Jail, Stop> {
        let stdin = "echo >$W/.stdin; chmod 604 $W/.stdin; exec 0<$W/.stdin";
        Ok(Jail::new()?
            .network()
            .setup(stdin)
            .setup(self.setup)
            .through(self.through)
            .through(&["strace", "-qq"])
            .through(strace))
    }

    fn run(&self, jail: &Jail) -> Result<Ran, Stop> {
        let mut arguments = (self.arguments)(jail);
        arguments.push(programs().report.display().to_string());
        jail.run(&arguments)
    }

    /// The launcher's calls in order, from the first of its own to the execve of the command. Before that
    /// the C library starts up; where it can't, nothing of ours has run.
    fn calls(&self) -> Result<Vec<Seen>, Stop> {
        let jail = self.jail(&["-s200"])?.setup("echo >$W/trace; chmod 666 $W/trace");
        let trace = jail.at("trace");
        let jail = jail.through(&["-o", &trace]);
        let report = self.run(&jail)?.report()?;
        (self.planned)(&report);
        (self.done)(&jail);
        let trace = std::fs::read_to_string(trace)?;
        let (mut counter, mut calls, mut ours) = (Counter::default(), Vec::new(), false);
        for line in trace.lines() {
            let Some(seen) = counter.see(line) else { continue };
            ours |= sampling::is_ours(line);
            if ours {
                let last = seen.call == "execve";
                calls.push(seen);
                if last {
                    break;
                }
            }
        }
        assert!(calls.len() > 20, "{trace}");
        Ok(calls)
    }

    /// Whether the command ran; an error where it should not have.
    fn tried(&self, injection: &Injection) -> Result<bool, String> {
        let Injection { call, what } = injection;
        let said = |why: &str| format!("{call}:{what}: {why}");
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}"));
        let attempt = || -> Result<(Jail, Ran), Stop> {
            let jail = self.jail(&["-o/dev/null", "-e", &trace, "-e", &inject])?;
            let ran = self.run(&jail)?;
            Ok((jail, ran))
        };
        let (jail, ran) = attempt().map_err(|stop| match stop {
            Stop::Skip(why) | Stop::Fail(why) => said(&why),
        })?;
        // A number that stands for nothing may be that of a file of somebody's.
        let stdin =
            std::fs::metadata(jail.work().join(".stdin")).map(|facts| (facts.uid(), facts.gid(), facts.mode(), facts.len()));
        if stdin.ok() != Some((0, 0, libc::S_IFREG | 0o604, 1)) {
            return Err(said(&format!("stdin was changed: {ran:?}")));
        }
        let explained = ran.stderr.contains("stepdown: ") || NEEDED_TO_SPEAK.contains(&call.as_str());
        match serde_json::from_str(&ran.stdout) {
            Ok(value) if ran.code == 0 => {
                let report = Report(value);
                let judged = std::panic::AssertUnwindSafe(|| {
                    (self.planned)(&report);
                    (self.done)(&jail);
                });
                std::panic::catch_unwind(judged).map(|()| true).map_err(|_| said(&format!("not as planned: {ran:?}")))
            }
            _ if matches!(ran.code, 125..=127) && ran.stdout.is_empty() && explained => Ok(false),
            _ => Err(said(&format!("{ran:?}"))),
        }
    }
}
