//! Whatever single call of the supervisor or of its child fails, once or for good: the command runs as planned, or there
//! is an error and it does not run on. In any case there is an end, in time.

use super::{ABOVE, Role, Running, path};
use crate::harness::{Case, Need, Outcome, Stop};
use crate::injection::sampling::{self, Counter, End, Injection, Sample, Seen};
use crate::injection::{NEEDED_TO_SPEAK, each};
use crate::jail::{Jail, programs};
use crate::report::Report;

macro_rules! lines {
    ($($name:ident),* $(,)?) => {
        pub fn cases() -> Vec<Case> {
            vec![$((stringify!($name), (|| $name().inject()) as fn() -> Outcome)),*]
        }

        /// The names of all calls that are tampered with here.
        pub fn calls() -> Result<Vec<String>, Stop> {
            let mut all = Vec::new();
            for line in [$($name()),*] {
                let (supervisor, child) = line.calls()?;
                all.extend(supervisor.into_iter().chain(child).map(|seen| seen.call));
            }
            Ok(all)
        }
    };
}
lines![
    init_as_pid_1,
    init_as_a_subreaper,
    init_with_a_socket_and_a_capability_as_pid_1,
    init_with_a_socket_and_a_capability_as_a_subreaper,
    init_with_something_left_as_pid_1,
    init_with_something_left_as_a_subreaper,
];

struct Line {
    role: Role,
    options: &'static [&'static str],
    /// What becomes the report in the end.
    script: &'static str,
    planned: fn(&Report),
}

fn nodes(report: &Report) {
    report.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
    assert_eq!(report.descriptors(), [0, 1, 2]);
    assert_eq!((report.number("process_group"), report.signals("blocked_signals").len()), (report.number("pid"), 0));
}

fn init_as_pid_1() -> Line {
    // strace is below PID 1 here, and waits for its end.
    Line { role: Role::First, options: &["--grace=0.05"], script: "exec $0", planned: nodes }
}

fn init_as_a_subreaper() -> Line {
    Line { role: Role::Below, options: &[], script: "exec $0", planned: nodes }
}

const MORE: [&str; 5] = ["--grace=0.05", "--keep-cap=NET_BIND_SERVICE", "--allow-new-privs", "--listen=80", "--verbose"];

fn with_more(report: &Report) {
    assert_eq!((report.uids(), report.capabilities("effective"), report.number("no_new_privs")), (vec![1000; 3], vec![10], 0));
    assert_eq!((report.descriptors(), report.variable("LISTEN_PID")), (vec![0, 1, 2, 3], Some(report.number("pid").to_string())));
}

fn init_with_a_socket_and_a_capability_as_pid_1() -> Line {
    Line { role: Role::First, options: &MORE, script: "exec $0", planned: with_more }
}

fn init_with_a_socket_and_a_capability_as_a_subreaper() -> Line {
    Line { role: Role::Below, options: &MORE, script: "exec $0", planned: with_more }
}

/// One that heeds SIGTERM, and one that does not.
const LEAVES: &str = "sleep 60 >&- 2>&- & (trap '' TERM; exec sleep 60 >&- 2>&-) & exec $0";

fn init_with_something_left_as_pid_1() -> Line {
    Line { role: Role::First, options: &["--grace=0.05"], script: LEAVES, planned: nodes }
}

fn init_with_something_left_as_a_subreaper() -> Line {
    Line { role: Role::Below, options: &["--grace=0.05"], script: LEAVES, planned: nodes }
}

/// Which of the two is tampered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Supervisor,
    Child,
}

impl Line {
    fn run(&self, strace: &[&str]) -> Result<(i32, String, String, Jail), Stop> {
        let jail = Jail::new()?.network().setup("chmod 777 $W");
        let jail = match self.role {
            Role::First => jail,
            Role::Below => jail.through(&ABOVE),
        };
        let trace = if strace.contains(&"-e") { "/dev/null".to_owned() } else { jail.at("trace") };
        // Its tracer is the child, so that stepdown is PID 1 where it should be.
        let jail = jail.through(&["strace", "-D", "-qq", "-o", &trace]).through(strace);
        let line = [&["--init"], self.options, &["node", "sh", "-c", self.script, path(&programs().report)]].concat();
        let (code, out, said) = Running::launch(&jail, &line)?.end()?;
        Ok((code, out.concat(), said, jail))
    }

    /// The calls of the supervisor from its first on, and of its child until that becomes the command.
    fn calls(&self) -> Result<(Vec<Seen>, Vec<Seen>), Stop> {
        let (code, out, said, jail) = self.run(&["-f", "-s200"])?;
        let report: serde_json::Value = serde_json::from_str(&out)?;
        (self.planned)(&Report(report));
        assert_eq!(code, 0, "{said}");
        let trace = std::fs::read_to_string(jail.at("trace"))?;
        let (mut supervisor, mut child) = (Process::default(), Process::default());
        for line in trace.lines() {
            let Some((pid, call)) = line.split_once(' ') else { continue };
            for process in [&mut supervisor, &mut child] {
                if process.pid.is_empty() {
                    pid.clone_into(&mut process.pid);
                }
                if process.pid == pid {
                    process.see(call.trim_start());
                    break;
                }
            }
        }
        assert!(child.calls.len() > 4, "{trace}");
        let execve = child.calls.iter().position(|seen| seen.call == "execve").map_or(0, |at| at + 1);
        child.calls.truncate(execve);
        Ok((supervisor.calls, child.calls))
    }

    fn inject(&self) -> Outcome {
        Need::Strace.programs(&["strace", "ip"])?;
        let (supervisor, child) = self.calls()?;
        let plain = crate::injection::plain_kinds()?;
        for (of, sample) in
            [(Of::Supervisor, Sample::of(&supervisor, End::Stays, &plain)), (Of::Child, Sample::of(&child, End::Execs, &plain))]
        {
            let (wrong, ran) = each(&sample.injections, 4, |injection| self.tried(of, injection));
            println!("{of:?}:");
            sample.tell(ran);
            let total = sample.injections.len();
            assert!(wrong.is_empty(), "{} of {total}:\n{}", wrong.len(), wrong.join("\n"));
            // The child makes no call between fork and execve that it could do without.
            assert!(ran < total && (ran > 0 || of == Of::Child), "nothing was injected");
        }
        Ok(())
    }

    /// Whether the command ran.
    fn tried(&self, of: Of, injection: &Injection) -> Result<bool, String> {
        let Injection { call, what } = injection;
        let said = |why: &str| format!("{call}:{what} ({of:?}): {why}");
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}"));
        let words = [if of == Of::Child { "-f" } else { "-qq" }, "-e", &trace, "-e", &inject];
        let (code, out, stderr, _jail) = self.run(&words).map_err(|stop| match stop {
            Stop::Skip(why) | Stop::Fail(why) => said(&why),
        })?;
        let explained = stderr.contains("stepdown: ") || NEEDED_TO_SPEAK.contains(&call.as_str());
        let what_happened = said(&format!("{code} {out:?} {stderr:?}"));
        match serde_json::from_str(&out) {
            // A supervisor that can't wait any more says so, whatever the command has done by then.
            Ok(value) if code == 0 || code == 125 && explained => {
                let report = Report(value);
                let judged = std::panic::AssertUnwindSafe(|| (self.planned)(&report));
                std::panic::catch_unwind(judged).map(|()| code == 0).map_err(|_| what_happened)
            }
            _ if matches!(code, 125..=127) && out.is_empty() && explained => Ok(false),
            _ => Err(what_happened),
        }
    }
}

/// One process of a trace.
#[derive(Default)]
struct Process {
    pid: String,
    counter: Counter,
    calls: Vec<Seen>,
    ours: bool,
}

impl Process {
    fn see(&mut self, line: &str) {
        let Some(seen) = self.counter.see(line) else { return };
        // A child has the supervisor's beginning behind it.
        self.ours |= sampling::is_ours(line) || seen.call == "setpgid" || seen.call == "getpid";
        if self.ours {
            self.calls.push(seen);
        }
    }
}
