//! `--init`: the process that stays. Each promise as PID 1 of a namespace and below another process.

mod ends;
mod injection;
mod nobody;
mod options;
mod real;
mod signals;
mod small;
pub mod terminal;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::harness::{Case, Outcome, Stop};
use crate::jail::{Jail, programs};

pub use injection::calls as tampered_calls;

pub fn cases() -> Vec<Case> {
    [
        signals::cases(),
        ends::cases(),
        nobody::cases(),
        small::cases(),
        options::cases(),
        terminal::cases(),
        injection::cases(),
        real::cases(),
    ]
    .concat()
}

/// How long anything may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where stepdown stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// PID 1 of its namespace.
    First,
    /// Somebody else's child: a subreaper.
    Below,
}

const ROLES: [Role; 2] = [Role::First, Role::Below];

/// A shell that stays above.
const ABOVE: [&str; 4] = ["sh", "-c", "\"$@\"; exit $?", "sh"];

impl Role {
    fn jail(self) -> Result<Jail, Stop> {
        Ok(match self {
            Self::First => Jail::new()?,
            Self::Below => Jail::new()?.through(&ABOVE),
        })
    }
}

/// A stepdown that runs.
struct Running {
    unshare: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// What was said there so far.
    said: String,
    /// stepdown, by its number out here.
    pid: u32,
}

impl Running {
    /// Starts it, and waits for it to be there.
    fn start(jail: &Jail, arguments: &[&str]) -> Result<Self, Stop> {
        let mut running = Self::launch(jail, arguments)?;
        running.find("stepdown")?;
        Ok(running)
    }

    /// Starts what is in front of it.
    fn launch(jail: &Jail, arguments: &[&str]) -> Result<Self, Stop> {
        let mut command = jail.command(arguments);
        let mut unshare = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdout = lines(unshare.stdout.take().expect("piped"));
        let stderr = lines(unshare.stderr.take().expect("piped"));
        let pid = unshare.id();
        Ok(Self { unshare, stdout, stderr, said: String::new(), pid })
    }

    /// Finds the first process of this name below.
    fn find(&mut self, name: &str) -> Outcome {
        let top = self.unshare.id();
        self.pid = until(&format!("no {name}"), || {
            let mut below = vec![top];
            let mut seen = 0;
            while let Some(&pid) = below.get(seen) {
                if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name) {
                    return Some(pid);
                }
                below.extend(children(pid));
                seen += 1;
            }
            None
        })?;
        Ok(())
    }

    /// The next line of stdout.
    fn line(&self) -> Result<String, Stop> {
        self.stdout.recv_timeout(PATIENCE).map_err(|_| Stop::Fail(format!("nothing on stdout; {:?}", self.said)))
    }

    /// Waits for `ready` of the example `signals`: pid, group, session, foreground.
    fn ready(&self) -> Result<Vec<i32>, Stop> {
        let line = self.line()?;
        let Some(numbers) = line.strip_prefix("ready ") else { return Err(Stop::Fail(line)) };
        Ok(numbers.split(' ').filter_map(|number| number.parse().ok()).collect())
    }

    /// Waits for a line with this on stderr.
    fn says(&mut self, what: &str) -> Outcome {
        let since = Instant::now();
        while !self.said.contains(what) {
            match self.stderr.recv_timeout(PATIENCE.saturating_sub(since.elapsed())) {
                Ok(line) => self.said += &(line + "\n"),
                Err(_) => return Err(Stop::Fail(format!("{what:?} is not said: {:?}", self.said))),
            }
        }
        Ok(())
    }

    /// Sends it signals.
    fn send(&self, signals: &[i32]) -> Outcome {
        send(self.pid, signals)
    }

    /// Writes to stdin.
    fn type_in(&mut self, text: &str) -> Outcome {
        self.unshare.stdin.as_mut().expect("piped").write_all(text.as_bytes())?;
        Ok(())
    }

    /// Waits for the end: exit code, the rest of stdout, and all of stderr.
    fn end(mut self) -> Result<(i32, Vec<String>, String), Stop> {
        drop(self.unshare.stdin.take());
        let status = until("it does not end", || self.unshare.try_wait().ok().flatten())?;
        let rest = self.stdout.iter().collect();
        let said = std::mem::take(&mut self.said) + &self.stderr.iter().map(|line| line + "\n").collect::<String>();
        Ok((status.code().unwrap_or(-1), rest, said))
    }

    /// A line of stepdown's /proc/PID/status.
    fn status(&self, key: &str) -> Result<String, Stop> {
        status(self.pid, key)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // PID 1 of the jail, and all in there with it. That unshare's end kills it (PR_SET_PDEATHSIG) is what a test may be
        // about.
        for pid in children(self.unshare.id()) {
            let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status();
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn status(pid: u32, key: &str) -> Result<String, Stop> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    line.map(str::to_owned).ok_or_else(|| Stop::Fail(format!("no {key} in {status}")))
}

fn send(pid: u32, signals: &[i32]) -> Outcome {
    let mut sender = Command::new(&programs().signals);
    sender.args(["send", &pid.to_string()]).args(signals.iter().map(ToString::to_string));
    assert!(sender.status()?.success(), "signals {signals:?} can't be sent to {pid}");
    Ok(())
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}

/// Asks again and again, with a deadline.
fn until<T>(or_else: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T, Stop> {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if since.elapsed() > PATIENCE {
            return Err(Stop::Fail(or_else.to_owned()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn path(program: &std::path::Path) -> &str {
    program.to_str().expect("UTF-8")
}
