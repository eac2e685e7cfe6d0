//! What `--dry-run` shows of it, and what it costs who does not ask for it.

use crate::cases;
use crate::harness::{Case, Need, Outcome};
use crate::jail::Jail;

pub fn cases() -> Vec<Case> {
    cases![
        dry_run_shows_each_rule_and_whether_this_kernel_enforces_it,
        dry_run_in_json_has_the_same,
        who_asks_for_nothing_pays_for_nothing,
    ]
}

const LINE: [&str; 18] = [
    "--rox",
    "/usr",
    "--rw",
    "/tmp",
    "--bind-tcp",
    "80,8000-8010",
    "--connect-tcp",
    "none",
    "--scope",
    "--seccomp",
    "service",
    "--ulimit",
    "nofile=64:1000",
    "--nice",
    "5",
    "--new-session",
    "--pdeathsig",
    "TERM",
];

fn dry_run_shows_each_rule_and_whether_this_kernel_enforces_it() -> Outcome {
    super::landlock(6)?;
    let jail = Jail::new()?.network();
    let ran = jail.run(&[&["--dry-run"], &LINE[..], &["node", "true"]].concat())?;
    let confined: Vec<&str> =
        ran.stdout.lines().filter(|line| line.starts_with("confined") || line.starts_with("limit")).collect();
    assert_eq!(
        confined,
        [
            "confined      --rox /usr: enforced",
            "confined      --rw /tmp: enforced",
            "confined      --bind-tcp 80,8000-8010: enforced",
            "confined      --connect-tcp none: enforced",
            "confined      --scope: enforced",
            "confined      --seccomp service: enforced",
            "confined      no MPTCP, SMC, TCP Fast Open or io_uring, which pass by the rules for TCP: enforced",
            "limit         nofile=64:1000",
            "limit         nice 5",
            "limit         a session of its own",
            "limit         SIGTERM when the parent ends",
        ],
        "{ran:?}"
    );
    assert!(ran.code == 0 && ran.stdout.contains("capabilities  CAP_NET_BIND_SERVICE in all five sets"), "{ran:?}");
    Ok(())
}

fn dry_run_in_json_has_the_same() -> Outcome {
    super::landlock(6)?;
    let ran = Jail::new()?.network().run(&[&["--dry-run=json"], &LINE[..], &["node", "true"]].concat())?;
    let plan: serde_json::Value = serde_json::from_str(&ran.stdout)?;
    let rules = plan["confinement"].as_array().expect("a list");
    assert_eq!((rules.len(), &rules[0]["rule"], &rules[0]["enforced"]), (7, &"--rox /usr".into(), &true.into()));
    assert!(rules.iter().all(|rule| rule["lacking"] == serde_json::json!([])), "{plan}");
    assert_eq!(
        plan["limits"],
        serde_json::json!(["nofile=64:1000", "nice 5", "a session of its own", "SIGTERM when the parent ends"])
    );
    let plain = Jail::new()?.run(&["--dry-run=json", "node", "true"])?;
    let plain: serde_json::Value = serde_json::from_str(&plain.stdout)?;
    assert_eq!((&plain["confinement"], &plain["limits"]), (&serde_json::json!([]), &serde_json::json!([])));
    Ok(())
}

/// The only look that a run without these options takes is one for a terminal.
fn who_asks_for_nothing_pays_for_nothing() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    for options in [&["node"][..], &["--umask", "027", "node"]] {
        let jail = Jail::new()?.setup("echo >$W/trace; chmod 666 $W/trace");
        let trace = jail.at("trace");
        let jail = jail.through(&["strace", "-qq", "-o", &trace]);
        assert_eq!(jail.run(&[options, &["/bin/true"]].concat())?.code, 0);
        let trace = std::fs::read_to_string(&trace)?;
        let ours: Vec<&str> = trace.lines().take_while(|line| !line.starts_with("execve(\"/bin/true\"")).collect();
        for call in [
            "landlock",
            "seccomp",
            "prlimit",
            "setrlimit",
            "getrlimit",
            "setpriority",
            "getpriority",
            "uname",
            "setsid",
            "getsid",
            "PR_SET_PDEATHSIG",
        ] {
            assert!(!ours.iter().any(|line| line.contains(call)), "{call}: {trace}");
        }
        let looks: Vec<&&str> = ours.iter().filter(|line| line.contains("/dev/tty")).collect();
        assert!(looks.len() == 1 && looks[0].contains("ENXIO"), "{looks:?}");
        assert_eq!(ours.iter().filter(|line| line.contains("PR_GET_PDEATHSIG")).count(), 1, "{trace}");
        // One call fewer than before there was confinement: the drop asks no second time what is permitted.
        assert_eq!(ours.iter().filter(|line| line.starts_with("capget")).count(), 2, "{trace}");
    }
    Ok(())
}
