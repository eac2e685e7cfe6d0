//! Fail closed: whatever single call fails, or claims success and does nothing, the command runs with
//! exactly the planned privileges or it does not run. Every system call of the launcher is made to, in turn,
//! by strace.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran, owner, programs};
use crate::report::Report;

pub fn cases() -> Vec<Case> {
    cases![
        a_switch,
        a_switch_that_keeps_a_capability,
        a_switch_with_chores,
        a_switch_with_files_a_secret_and_a_socket_of_anothers,
        a_switch_with_directory_umask_descriptor_and_environment,
        a_switch_by_a_few_capabilities_alone,
        a_start_as_the_target,
        a_start_as_root_for_root,
        a_switch_to_a_confined_command,
    ]
}

/// What a kernel, a container engine's filter or a security module may answer.
const ERRORS: [&str; 3] = ["EPERM", "EINVAL", "EINTR"];

/// The calls that set or tell what a process may do and what it has open: these are also made to lie. (A rule of Landlock's that the kernel took
/// in word alone takes more away, and never less.)
const CREDENTIALS: [&str; 20] = [
    "setgroups",
    "setresgid",
    "setresuid",
    "capset",
    "prctl",
    "getresuid",
    "getresgid",
    "getgroups",
    "capget",
    "setfsuid",
    "setfsgid",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "seccomp",
    "prlimit64",
    "setpriority",
    "close_range",
    "fcntl",
    "dup2",
    "keyctl",
];

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

const PLAIN: Line = Line { setup: "", through: &[], arguments: |_| vec!["node".into()], planned: nodes, done: |_| () };

const NODES: [u64; 4] = [1, 4, 100, 1000];

fn nodes(report: &Report) {
    report.is_exactly(1000, 1000, &NODES);
    assert_eq!(report.descriptors(), [0, 1, 2]);
    assert_eq!(report.variable("HOME").as_deref(), Some("/home/node"));
}

fn a_switch() -> Outcome {
    Line { setup: "exec 7</dev/zero", ..PLAIN }.inject()
}

fn a_switch_that_keeps_a_capability() -> Outcome {
    let planned = |report: &Report| {
        assert_eq!((report.uids(), report.gids(), report.groups()), (vec![1000; 3], vec![50; 3], vec![50]));
        for set in ["effective", "permitted", "inheritable", "bounding", "ambient"] {
            assert_eq!(report.capabilities(set), [10], "{set}");
        }
        assert_eq!((report.number("no_new_privs"), &report.0["can_become_root"]), (0, &false.into()));
        assert_eq!(report.number("securebits"), 0);
    };
    let arguments = |_: &Jail| ["--keep-cap=NET_BIND_SERVICE", "--allow-new-privs", "node:staff"].map(str::to_owned).into();
    Line { arguments, planned, ..PLAIN }.inject()
}

fn a_switch_with_chores() -> Outcome {
    Line {
        setup: "rm -rf $W/*; mkdir -p $W/tree/sub; touch $W/tree/a $W/tree/sub/b; ln -s nowhere $W/tree/link",
        through: &[],
        arguments: |jail| {
            let mkdir = jail.at("new/dir:2750");
            ["--mkdir", &mkdir, "--chown", &jail.at("tree"), "--listen", "http=80", "--listen", &jail.at("s"), "node"]
                .map(str::to_owned)
                .into()
        },
        planned: |report| {
            report.is_exactly(1000, 1000, &NODES);
            assert_eq!(report.descriptors(), [0, 1, 2, 3, 4]);
            assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("http:unknown"));
            assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()));
            assert_eq!((report.text("directory"), report.text("umask")), ("/", "0022"));
        },
        done: |jail| {
            use std::os::unix::fs::MetadataExt;
            for name in ["tree", "tree/a", "tree/sub", "tree/sub/b", "tree/link", "new/dir"] {
                assert_eq!(owner(jail.at(name)), (1000, 1000), "{name}");
            }
            let mode = |name: &str| std::fs::metadata(jail.at(name)).map(|facts| facts.mode() & 0o7777).ok();
            assert_eq!((mode("new/dir"), mode("new"), mode("s")), (Some(0o2750), Some(0o755), Some(0o660)));
            assert_eq!((owner(jail.at("new")), owner(jail.at("s"))), ((0, 0), (0, 1000)));
        },
    }
    .inject()
}

fn a_switch_with_files_a_secret_and_a_socket_of_anothers() -> Outcome {
    Line {
        setup: "rm -rf $W/*; printf hush >$W/key; echo log >$W/log; chmod 600 $W/key $W/log",
        through: &[],
        arguments: |jail| {
            let (log, secret) = (format!("{}:append", jail.at("log")), format!("KEY={}", jail.at("key")));
            let socket = format!("s={},owner=games:staff,mode=0640", jail.at("s"));
            let listen = ["--listen", "127.0.0.1:80,backlog=9,reuse-port", "--listen", &socket];
            listen.into_iter().chain(["--open", &log, "--secret", &secret, "node"]).map(str::to_owned).collect()
        },
        planned: |report| {
            report.is_exactly(1000, 1000, &NODES);
            assert_eq!(report.descriptors(), [0, 1, 2, 3, 4, 5, 64]);
            assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("unknown:s:log"));
            assert_eq!(report.variable("KEY").as_deref(), Some("/proc/self/fd/64"));
            let of = |fd: u64, what: &str| report.descriptor(fd).map(|one| one[what].clone()).unwrap_or_default();
            assert_eq!((of(64, "uid"), of(64, "gid"), of(64, "can_be_opened_again")), (1000.into(), 1000.into(), true.into()));
            assert!(of(5, "target").as_str().is_some_and(|target| target.ends_with("/log")));
            assert_eq!((of(3, "kind"), of(4, "kind")), ("socket".into(), "socket".into()));
            assert_eq!((report.text("directory"), report.text("umask")), ("/", "0022"));
        },
        done: |jail| {
            use std::os::unix::fs::MetadataExt;
            let facts = |name: &str| std::fs::symlink_metadata(jail.at(name)).map(|f| (f.uid(), f.gid(), f.mode() & 0o777)).ok();
            assert_eq!((facts("key"), facts("log")), (Some((0, 0, 0o600)), Some((0, 0, 0o600))));
            assert_eq!(facts("s"), Some((5, 50, 0o640)));
        },
    }
    .inject()
}

fn a_switch_with_directory_umask_descriptor_and_environment() -> Outcome {
    let arguments = |_: &Jail| {
        ["--chdir=/tmp", "--umask=027", "--keep-fd=7", "--env=A=B", "--groups=44", "1000:50"].map(str::to_owned).into()
    };
    let planned = |report: &Report| {
        report.is_exactly(1000, 50, &[44, 50]);
        assert_eq!(report.descriptors(), [0, 1, 2, 7]);
        assert_eq!((report.text("directory"), report.text("umask")), ("/tmp", "0027"));
        assert_eq!(report.variable("A").as_deref(), Some("B"));
    };
    Line { setup: "exec 7</dev/zero 8</dev/zero", arguments, planned, ..PLAIN }.inject()
}

/// What must hold where the bounding set can't be dropped.
fn without_bounding(report: &Report) {
    assert_eq!((report.uids(), report.gids()), (vec![1000; 3], vec![1000; 3]));
    for set in ["effective", "permitted", "inheritable", "ambient"] {
        assert!(report.capabilities(set).is_empty(), "{set}");
    }
    assert_eq!((report.number("no_new_privs"), &report.0["can_become_root"]), (1, &false.into()));
    assert_eq!(report.descriptors(), [0, 1, 2]);
}

fn a_switch_by_a_few_capabilities_alone() -> Outcome {
    let planned = |report: &Report| {
        without_bounding(report);
        assert_eq!(report.groups(), NODES);
    };
    Line { through: &["setpriv", "--bounding-set=-all,+setuid,+setgid", "--inh-caps=-all"], planned, ..PLAIN }.inject()
}

fn a_start_as_the_target() -> Outcome {
    let planned = |report: &Report| {
        without_bounding(report);
        assert_eq!(report.groups(), [1000]);
    };
    Line { through: &["setpriv", "--reuid=1000", "--regid=1000", "--groups=1000"], planned, ..PLAIN }.inject()
}

fn a_start_as_root_for_root() -> Outcome {
    let planned = |report: &Report| report.is_exactly(0, 0, &[0]);
    Line { arguments: |_| vec!["root".into()], planned, ..PLAIN }.inject()
}

fn a_switch_to_a_confined_command() -> Outcome {
    crate::confine::landlock(6)?;
    let arguments = |_: &Jail| {
        let report = programs().report.display().to_string();
        ["--rox", &report, "--ro", "/proc", "--bind-tcp", "80", "--connect-tcp", "443", "--scope", "--seccomp", "service"]
            .into_iter()
            .chain(["--ulimit", "nofile=256:512", "--nice", "5", "--oom-score-adj", "7", "--pdeathsig", "TERM", "node"])
            .map(str::to_owned)
            .collect()
    };
    let planned = |report: &Report| {
        assert_eq!((report.uids(), report.gids(), report.groups()), (vec![1000; 3], vec![1000; 3], NODES.into()));
        for set in ["effective", "permitted", "inheritable", "bounding", "ambient"] {
            assert_eq!(report.capabilities(set), [10], "{set}");
        }
        assert_eq!((report.number("no_new_privs"), report.number("seccomp"), &report.0["can_list_root"]), (1, 2, &false.into()));
        assert_eq!((&report.0["can_become_root"], report.descriptors()), (&false.into(), vec![0, 1, 2]));
        assert_eq!((&report.0["limits"][7], report.number("nice")), (&serde_json::json!([256, 512]), 5));
        assert_eq!((report.text("oom_score_adj"), report.number("parent_death_signal")), ("7", 15));
    };
    Line { arguments, planned, ..PLAIN }.inject()
}

/// One call that is tampered with.
struct Injection {
    call: String,
    what: String,
}

impl Line {
    /// Tampers with every call in turn, and prints how often.
    fn inject(&self) -> Outcome {
        Need::Strace.programs(&["strace", "ip"])?;
        let calls = self.calls()?;
        let injections = injections(&calls);
        let next = AtomicUsize::new(0);
        let (ran, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..2 {
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
        let ran = ran.into_inner();
        println!("{} injections: the command ran as planned in {ran}, and not at all in the others", injections.len());
        let wrong = wrong.into_inner().unwrap_or_default();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), injections.len(), wrong.join("\n"));
        assert!(ran > 0 && ran < injections.len(), "nothing was injected");
        Ok(())
    }

    fn jail(&self, strace: &[&str]) -> Result<Jail, Stop> {
        Ok(Jail::new()?.network().setup(self.setup).through(self.through).through(&["strace", "-qq"]).through(strace))
    }

    fn run(&self, jail: &Jail) -> Result<Ran, Stop> {
        let mut arguments = (self.arguments)(jail);
        arguments.push(programs().report.display().to_string());
        jail.run(&arguments)
    }

    /// The launcher's calls in order, from the first of its own to the execve of the command. Before that
    /// the C library starts up; where it can't, nothing of ours has run.
    fn calls(&self) -> Result<Vec<(String, usize)>, Stop> {
        let jail = self.jail(&[])?.setup("echo >$W/trace; chmod 666 $W/trace");
        let trace = jail.at("trace");
        let jail = jail.through(&["-o", &trace]);
        let report = self.run(&jail)?.report()?;
        (self.planned)(&report);
        (self.done)(&jail);
        let trace = std::fs::read_to_string(trace)?;
        let mut counts = BTreeMap::new();
        let mut calls = Vec::new();
        let mut ours = false;
        for line in trace.lines() {
            let name = line.split('(').next().unwrap_or_default().to_owned();
            let count = counts.entry(name.clone()).or_insert(0);
            *count += 1;
            ours |= line.starts_with("fstat(0,") || line.starts_with("newfstatat(0,");
            if ours {
                let last = name == "execve";
                calls.push((name, *count));
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
        match serde_json::from_str(&ran.stdout) {
            Ok(value) if ran.code == 0 => {
                let report = Report(value);
                let judged = std::panic::AssertUnwindSafe(|| {
                    (self.planned)(&report);
                    (self.done)(&jail);
                });
                std::panic::catch_unwind(judged).map(|()| true).map_err(|_| said(&format!("not as planned: {ran:?}")))
            }
            _ if matches!(ran.code, 125..=127) && ran.stdout.is_empty() && ran.stderr.contains("stepdown: ") => Ok(false),
            _ => Err(said(&format!("{ran:?}"))),
        }
    }
}

fn injections(calls: &[(String, usize)]) -> Vec<Injection> {
    let mut all = Vec::new();
    for (call, when) in calls {
        let errors = ERRORS.iter().map(|errno| format!("error={errno}:when={when}"));
        all.extend(errors.map(|what| Injection { call: call.clone(), what }));
        if CREDENTIALS.contains(&call.as_str()) {
            all.push(Injection { call: call.clone(), what: format!("retval=0:when={when}") });
        }
    }
    // And every one of a kind together, from the launcher's first on. (Of the groups a process was started
    // with only getgroups tells: where it never told the truth, no system call could show it up.)
    for call in CREDENTIALS {
        if let Some((_, first)) = calls.iter().find(|(name, _)| name == call) {
            all.push(Injection { call: call.to_owned(), what: format!("error=EPERM:when={first}+") });
            if call != "getgroups" {
                all.push(Injection { call: call.to_owned(), what: format!("retval=0:when={first}+") });
            }
        }
    }
    all
}
