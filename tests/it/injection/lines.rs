//! The command lines, and what each one's command must turn out to be.

use super::Line;
use crate::harness::{Case, Outcome, Stop};
use crate::jail::{Jail, owner, programs};
use crate::report::Report;

macro_rules! lines {
    ($($name:ident),* $(,)?) => {
        pub fn cases() -> Vec<Case> {
            vec![$((stringify!($name), (|| $name()?.inject()) as fn() -> Outcome)),*]
        }

        /// All of them.
        pub fn all() -> Vec<Result<Line, Stop>> {
            vec![$($name()),*]
        }
    };
}
lines![
    a_switch,
    a_switch_that_keeps_a_capability,
    a_switch_with_chores,
    a_switch_with_files_a_secret_and_a_socket_of_anothers,
    a_switch_with_directory_umask_descriptor_and_environment,
    a_switch_with_closed_streams,
    a_switch_to_supplementary_groups_and_a_session,
    a_switch_by_a_few_capabilities_alone,
    a_start_as_the_target,
    a_start_as_another_under_if_root,
    a_start_as_root_for_root,
    a_switch_to_a_confined_command,
    a_switch_to_a_command_with_a_profile,
];

const PLAIN: Line = Line { setup: "", through: &[], arguments: |_| vec!["node".into()], planned: nodes, done: |_| () };

const NODES: [u64; 4] = [1, 4, 100, 1000];

fn nodes(report: &Report) {
    report.is_exactly(1000, 1000, &NODES);
    assert_eq!(report.descriptors(), [0, 1, 2]);
    assert_eq!(report.variable("HOME").as_deref(), Some("/home/node"));
}

/// The plain one.
pub fn a_switch() -> Result<Line, Stop> {
    Ok(Line { setup: "exec 7</dev/zero", ..PLAIN })
}

fn a_switch_that_keeps_a_capability() -> Result<Line, Stop> {
    let planned = |report: &Report| {
        assert_eq!((report.uids(), report.gids(), report.groups()), (vec![1000; 3], vec![50; 3], vec![50]));
        for set in ["effective", "permitted", "inheritable", "bounding", "ambient"] {
            assert_eq!(report.capabilities(set), [10], "{set}");
        }
        assert_eq!((report.number("no_new_privs"), &report.0["can_become_root"]), (0, &false.into()));
        assert_eq!(report.number("securebits"), 0);
    };
    let arguments = |_: &Jail| ["--keep-cap=NET_BIND_SERVICE", "--allow-new-privs", "node:staff"].map(str::to_owned).into();
    Ok(Line { arguments, planned, ..PLAIN })
}

fn a_switch_with_chores() -> Result<Line, Stop> {
    Ok(Line {
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
    })
}

fn a_switch_with_files_a_secret_and_a_socket_of_anothers() -> Result<Line, Stop> {
    Ok(Line {
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
    })
}

fn a_switch_with_directory_umask_descriptor_and_environment() -> Result<Line, Stop> {
    let arguments = |_: &Jail| {
        ["--chdir=/tmp", "--umask=027", "--keep-fd=7", "--env=A=B", "--groups=44", "1000:50"].map(str::to_owned).into()
    };
    let planned = |report: &Report| {
        report.is_exactly(1000, 50, &[44, 50]);
        assert_eq!(report.descriptors(), [0, 1, 2, 7]);
        assert_eq!((report.text("directory"), report.text("umask")), ("/tmp", "0027"));
        assert_eq!(report.variable("A").as_deref(), Some("B"));
    };
    Ok(Line { setup: "exec 7</dev/zero 8</dev/zero", arguments, planned, ..PLAIN })
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

fn a_switch_with_closed_streams() -> Result<Line, Stop> {
    let planned = |report: &Report| {
        nodes(report);
        let leads_to = |fd: u64| report.descriptor(fd).and_then(|one| Some(one["target"].as_str()?.to_owned()));
        assert_eq!(leads_to(0).as_deref(), Some("/dev/null"));
    };
    Ok(Line { setup: "exec 0<&-", planned, ..PLAIN })
}

fn a_switch_to_supplementary_groups_and_a_session() -> Result<Line, Stop> {
    let arguments =
        |_: &Jail| ["--groups=44,staff", "--new-session", "--clear-env", "--env=A=B", "node:games"].map(str::to_owned).into();
    let planned = |report: &Report| {
        report.is_exactly(1000, 60, &[44, 50, 60]);
        assert_eq!((report.number("session"), report.variable("A").as_deref()), (report.number("pid"), Some("B")));
    };
    Ok(Line { arguments, planned, ..PLAIN })
}

fn a_start_as_another_under_if_root() -> Result<Line, Stop> {
    let planned = |report: &Report| {
        assert_eq!((report.uids(), report.gids(), report.groups()), (vec![3000; 3], vec![0; 3], vec![0, 44]));
        for set in ["effective", "permitted", "inheritable", "ambient"] {
            assert!(report.capabilities(set).is_empty(), "{set}");
        }
        assert_eq!((report.number("no_new_privs"), &report.0["can_become_root"]), (1, &false.into()));
        assert_eq!(report.descriptors(), [0, 1, 2]);
    };
    let arguments = |_: &Jail| ["--if-root", "node"].map(str::to_owned).into();
    Ok(Line { through: &["setpriv", "--reuid=3000", "--regid=0", "--groups=0,44"], arguments, planned, ..PLAIN })
}

fn a_switch_by_a_few_capabilities_alone() -> Result<Line, Stop> {
    let planned = |report: &Report| {
        without_bounding(report);
        assert_eq!(report.groups(), NODES);
    };
    Ok(Line { through: &["setpriv", "--bounding-set=-all,+setuid,+setgid", "--inh-caps=-all"], planned, ..PLAIN })
}

fn a_start_as_the_target() -> Result<Line, Stop> {
    let planned = |report: &Report| {
        without_bounding(report);
        assert_eq!(report.groups(), [1000]);
    };
    Ok(Line { through: &["setpriv", "--reuid=1000", "--regid=1000", "--groups=1000"], planned, ..PLAIN })
}

fn a_start_as_root_for_root() -> Result<Line, Stop> {
    let planned = |report: &Report| report.is_exactly(0, 0, &[0]);
    Ok(Line { arguments: |_| vec!["root".into()], planned, ..PLAIN })
}

fn a_switch_to_a_confined_command() -> Result<Line, Stop> {
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
    Ok(Line { arguments, planned, ..PLAIN })
}

fn a_switch_to_a_command_with_a_profile() -> Result<Line, Stop> {
    crate::confine::landlock(6)?;
    let arguments = |jail: &Jail| {
        let profile = jail.at("profile.json");
        ["--ro", "/", "--rox", "/tmp", "--seccomp", &profile, "node"].map(str::to_owned).into()
    };
    let planned = |report: &Report| {
        report.is_exactly(1000, 1000, &NODES);
        assert_eq!((report.number("seccomp"), report.descriptors()), (2, vec![0, 1, 2]));
    };
    let setup = "echo '{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"mount\"], \"action\": \"SCMP_ACT_ERRNO\"}]}' >$W/profile.json";
    Ok(Line { setup, arguments, planned, ..PLAIN })
}
