//! Whatever single call of the supervisor or of its child fails, once or for good: the command runs as planned, or there
//! is an error and it does not run on. In any case there is an end, in time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ABOVE, Role, Running, path};
use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, programs};
use crate::report::Report;

pub fn cases() -> Vec<Case> {
    cases![
        init_as_pid_1,
        init_as_a_subreaper,
        init_with_a_socket_and_a_capability_as_pid_1,
        init_with_a_socket_and_a_capability_as_a_subreaper,
        init_with_something_left_as_pid_1,
        init_with_something_left_as_a_subreaper,
    ]
}

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

fn init_as_pid_1() -> Outcome {
    // strace is below PID 1 here, and waits for its end.
    Line { role: Role::First, options: &["--grace=0.05"], script: "exec $0", planned: nodes }.inject()
}

fn init_as_a_subreaper() -> Outcome {
    Line { role: Role::Below, options: &[], script: "exec $0", planned: nodes }.inject()
}

const MORE: [&str; 5] = ["--grace=0.05", "--keep-cap=NET_BIND_SERVICE", "--allow-new-privs", "--listen=80", "--verbose"];

fn with_more(report: &Report) {
    assert_eq!((report.uids(), report.capabilities("effective"), report.number("no_new_privs")), (vec![1000; 3], vec![10], 0));
    assert_eq!((report.descriptors(), report.variable("LISTEN_PID")), (vec![0, 1, 2, 3], Some(report.number("pid").to_string())));
}

fn init_with_a_socket_and_a_capability_as_pid_1() -> Outcome {
    Line { role: Role::First, options: &MORE, script: "exec $0", planned: with_more }.inject()
}

fn init_with_a_socket_and_a_capability_as_a_subreaper() -> Outcome {
    Line { role: Role::Below, options: &MORE, script: "exec $0", planned: with_more }.inject()
}

/// One that heeds SIGTERM, and one that does not.
const LEAVES: &str = "sleep 60 >&- 2>&- & (trap '' TERM; exec sleep 60 >&- 2>&-) & exec $0";

fn init_with_something_left_as_pid_1() -> Outcome {
    Line { role: Role::First, options: &["--grace=0.05"], script: LEAVES, planned: nodes }.inject()
}

fn init_with_something_left_as_a_subreaper() -> Outcome {
    Line { role: Role::Below, options: &["--grace=0.05"], script: LEAVES, planned: nodes }.inject()
}

/// One call that is tampered with: in the supervisor alone, or in its child.
struct Injection {
    of_the_child: bool,
    call: String,
    what: String,
}

/// Where the message about it is written by the very call: the exit code is all there is then.
const NEEDED_TO_SPEAK: [&str; 3] = ["rt_sigaction", "poll", "write"];

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

    /// The calls of both from the moment that there are to be two.
    fn injections(&self) -> Result<Vec<Injection>, Stop> {
        let (code, out, said, jail) = self.run(&["-f"])?;
        let report: serde_json::Value = serde_json::from_str(&out)?;
        (self.planned)(&Report(report));
        assert_eq!(code, 0, "{said}");
        let trace = std::fs::read_to_string(jail.at("trace"))?;
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut injections: Vec<Injection> = Vec::new();
        let (mut parent, mut child, mut ours, mut is_the_command) = ("", "", false, false);
        for line in trace.lines() {
            let Some((pid, call)) = line.split_once(' ') else { continue };
            let name = call.trim_start().split('(').next().unwrap_or_default();
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                continue;
            }
            if parent.is_empty() {
                parent = pid;
            } else if child.is_empty() && pid != parent {
                child = pid;
            }
            let count = counts.entry((pid, name)).or_insert(0);
            *count += 1;
            ours |= call.contains("PR_SET_DUMPABLE") || call.contains("PR_SET_CHILD_SUBREAPER");
            let of_the_child = pid == child;
            // close(2) closes whatever it says; and of the child what comes after its execve is the command's.
            let counts_here =
                ours && !["exit_group", "close"].contains(&name) && (pid == parent || of_the_child && !is_the_command);
            if counts_here {
                let errors = ["EPERM", "EINTR"].map(|errno| format!("error={errno}:when={count}"));
                let for_good = (!of_the_child).then(|| format!("error=ENOSYS:when={count}+"));
                let new = |what| Injection { of_the_child, call: name.to_owned(), what };
                injections.extend(errors.into_iter().chain(for_good).map(new));
            }
            is_the_command |= of_the_child && name == "execve";
        }
        assert!(injections.iter().filter(|injection| injection.of_the_child).count() > 8, "{trace}");
        Ok(injections)
    }

    fn inject(&self) -> Outcome {
        Need::Strace.programs(&["strace", "ip"])?;
        let injections = self.injections()?;
        let (next, ran, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(injection) = injections.get(next.fetch_add(1, Ordering::Relaxed)) {
                        match self.tried(injection) {
                            Ok(true) => drop(ran.fetch_add(1, Ordering::Relaxed)),
                            Ok(false) => {}
                            Err(why) => wrong.lock().map(|mut all| all.push(why)).unwrap_or_default(),
                        }
                    }
                });
            }
        });
        let (ran, wrong) = (ran.into_inner(), wrong.into_inner().unwrap_or_default());
        println!("{} injections: the command ran as planned in {ran}, and not to its end in the others", injections.len());
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), injections.len(), wrong.join("\n"));
        assert!(ran > 0 && ran < injections.len(), "nothing was injected");
        Ok(())
    }

    /// Whether the command ran.
    fn tried(&self, injection: &Injection) -> Result<bool, String> {
        let Injection { of_the_child, call, what } = injection;
        let said = |why: &str| format!("{call}:{what} (child: {of_the_child}): {why}");
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}"));
        let words = [if *of_the_child { "-f" } else { "-qq" }, "-e", &trace, "-e", &inject];
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
