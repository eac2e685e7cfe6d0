//! `--ulimit`, `--nice`, `--oom-score-adj`, `--new-session`, `--pdeathsig`.

use serde_json::{Value, json};

use crate::cases;
use crate::harness::{Case, Need, Outcome};
use crate::jail::Jail;
use crate::report::Report;

pub fn cases() -> Vec<Case> {
    cases![
        a_limit_is_set_for_the_command,
        every_limit_has_its_name,
        a_hard_limit_that_cant_be_raised_says_which_and_why,
        a_limit_of_processes_that_is_reached_says_so,
        few_open_files_are_enough_or_refused_before_anything_is_done,
        nice_and_oom_score_adj_are_set_as_root,
        what_cant_be_set_says_what_it_takes,
        a_new_session_is_led_by_the_command,
        the_commands_process_gets_the_signal_when_its_parent_ends,
        a_parent_death_signal_that_was_set_stays,
        a_supervisor_that_set_it_and_dies_ends_the_command,
        one_that_dies_while_ids_change_ends_it_too,
        under_init_the_signal_is_forwarded_and_the_command_outlives_no_supervisor,
    ]
}

/// RLIMIT_*, as linux/resource.h numbers them.
fn limit(report: &Report, number: usize) -> Value {
    report.0["limits"][number].clone()
}

fn a_limit_is_set_for_the_command() -> Outcome {
    for init in [&[][..], &["--init"]] {
        let options =
            ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit=nproc=50:60", "--ulimit", "stack=1048576:unlimited"];
        let report = Jail::new()?.report(&[init, &options, &["node"]].concat())?;
        report.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
        assert_eq!(
            (limit(&report, 7), limit(&report, 4), limit(&report, 6)),
            (json!([100, 200]), json!([0, 0]), json!([50, 60]))
        );
        assert_eq!(limit(&report, 3), json!([1_048_576, null]));
    }
    let same = Jail::new()?.report(&["node"])?;
    let direct = Jail::new()?.through(&[&crate::jail::programs().report.display().to_string()]).run(&[] as &[&str])?.report()?;
    assert_eq!(
        (&same.0["limits"], &same.0["nice"], &same.0["oom_score_adj"]),
        (&direct.0["limits"], &direct.0["nice"], &direct.0["oom_score_adj"])
    );
    Ok(())
}

fn every_limit_has_its_name() -> Outcome {
    let names = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    let jail = Jail::new()?;
    let before = jail.report(&["node"])?;
    for (number, name) in names.iter().enumerate() {
        // Something that any program can live with, below what there is.
        let least: u64 = 1 << 31;
        let soft = limit(&before, number)[0].as_u64().unwrap_or(least).min(least);
        let report = jail.report(&[format!("--ulimit={name}={soft}").as_str(), "node"])?;
        assert_eq!(limit(&report, number), json!([soft, soft]), "{name}");
        let others =
            |report: &Report| (0..16).filter(|other| *other != number).map(|other| limit(report, other)).collect::<Vec<_>>();
        assert_eq!(others(&report), others(&before), "{name} alone");
    }
    Ok(())
}

fn a_hard_limit_that_cant_be_raised_says_which_and_why() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/tree").through(&["setpriv", "--bounding-set=-sys_resource"]).through(&[
        "prlimit",
        "--nofile=500:500",
        "--core=0:0",
    ]);
    let tree = jail.at("tree");
    let ran = jail.run(&["--chown", &tree, "--ulimit", "nofile=600", "node", "true"])?;
    ran.refused(125, "--ulimit nofile=600:600: setrlimit: EPERM: Operation not permitted\nstepdown: hint: the hard limit is 500; to raise it takes CAP_SYS_RESOURCE");
    assert_eq!(crate::jail::owner(&tree), (0, 0), "nothing is done before");
    jail.run(&["--ulimit", "core=unlimited", "node", "true"])?.refused(125, "hint: the hard limit is 0;");
    assert_eq!(jail.run(&["--ulimit", "nofile=500", "node", "sh", "-c", "ulimit -n"])?.stdout, "500\n");
    Ok(())
}

fn a_limit_of_processes_that_is_reached_says_so() -> Outcome {
    let jail = Jail::new()?
        .setup("for n in 1 2; do setpriv --reuid=1000 --clear-groups sleep 60 & until grep -q ^Uid:.1000 /proc/$!/status; do sleep 0.01; done; done");
    let ran = jail.run(&["--ulimit", "nproc=1", "node", "/bin/true"])?;
    ran.refused(126, "uid 1000 has more processes than the limit of nproc allows: execve(/bin/true): EAGAIN");
    jail.run(&["--init", "--ulimit", "nproc=1", "node", "/bin/true"])?.refused(125, "fork: EAGAIN");
    Ok(())
}

fn few_open_files_are_enough_or_refused_before_anything_is_done() -> Outcome {
    let jail = Jail::new()?.network().setup("mkdir -p $W/tree; echo x >$W/key");
    let secret = format!("KEY={}", jail.at("key"));
    let ran = jail.run(&["--chown", &jail.at("tree"), "--secret", &secret, "--ulimit", "nofile=64", "node", "true"])?;
    ran.refused(125, "descriptors up to 65 are needed, and the limit of open files (RLIMIT_NOFILE) is 64");
    assert_eq!(crate::jail::owner(jail.at("tree")), (0, 0));
    let report = jail.report(&["--listen", "80", "--secret", &secret, "--ulimit", "nofile=80", "node"])?;
    assert_eq!((report.descriptors(), limit(&report, 7)), (vec![0, 1, 2, 3, 64], json!([80, 80])));
    Ok(())
}

fn nice_and_oom_score_adj_are_set_as_root() -> Outcome {
    for init in [&[][..], &["--init"]] {
        let report = Jail::new()?.report(&[init, &["--nice", "-5", "--oom-score-adj", "321", "node"]].concat())?;
        report.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
        assert_eq!((report.number("nice"), report.text("oom_score_adj")), (-5, "321"));
    }
    Ok(())
}

fn what_cant_be_set_says_what_it_takes() -> Outcome {
    // Whatever priority the test itself was started with.
    let weak = Jail::new()?.setup("renice 0 $$ >/dev/null").through(&["setpriv", "--bounding-set=-sys_nice,-sys_resource"]);
    weak.run(&["--nice", "-1", "node", "true"])?.refused(
        125,
        "--nice -1: setpriority(-1): EACCES: Permission denied\nstepdown: hint: a value below the present one needs CAP_SYS_NICE",
    );
    weak.run(&["--oom-score-adj", "-900", "node", "true"])?
        .refused(125, "--oom-score-adj -900: /proc/self/oom_score_adj: EACCES: Permission denied");
    assert_eq!(weak.report(&["--nice", "7", "node"])?.number("nice"), 7);
    let without_proc = Jail::new()?.setup("mount -t tmpfs none /proc");
    without_proc.run(&["--oom-score-adj", "5", "node", "true"])?.refused(125, "hint: mount /proc");
    Ok(())
}

fn a_new_session_is_led_by_the_command() -> Outcome {
    Need::Root.programs(&["python3"])?;
    let below = || Ok::<_, crate::harness::Stop>(Jail::new()?.through(&["sh", "-c", "\"$@\"; exit $?", "sh"]));
    for init in [&[][..], &["--init"]] {
        let report = below()?.report(&[init, &["--new-session", "node"]].concat())?;
        assert_eq!(
            (report.number("session"), report.number("process_group")),
            (report.number("pid"), report.number("pid")),
            "{init:?}"
        );
    }
    let report = below()?.report(&["node"])?;
    assert_ne!(report.number("session"), report.number("pid"));
    // What leads a process group can't, which a dry run knows.
    let group = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])";
    let leader = Jail::new()?.through(&["sh", "-c", "\"$@\"; exit $?", "sh", "python3", "-c", group]);
    for told in [&["--new-session"][..], &["--new-session", "--dry-run"]] {
        leader.run(&[told, &["node", "true"]].concat())?.refused(125, "--new-session: setsid: EPERM");
    }
    assert_eq!(leader.run(&["--new-session", "--init", "--dry-run", "node", "true"])?.code, 0);
    // Who leads a session already does so.
    let leader = Jail::new()?.through(&["setsid"]).report(&["--new-session", "node"])?;
    assert_eq!(leader.number("session"), leader.number("pid"));
    Ok(())
}

fn the_commands_process_gets_the_signal_when_its_parent_ends() -> Outcome {
    for init in [&[][..], &["--init"]] {
        let below = Jail::new()?.through(&["sh", "-c", "\"$@\"; exit $?", "sh"]);
        let report = below.report(&[init, &["--pdeathsig", "TERM", "node"]].concat())?;
        assert_eq!(report.number("parent_death_signal"), 15, "{init:?}");
    }
    Ok(())
}

/// The kernel clears it when ids change.
fn a_parent_death_signal_that_was_set_stays() -> Outcome {
    let as_target = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
    for through in [&["setpriv"][..], &as_target] {
        for (set, options, got) in [
            ("clear", &[][..], 0),
            ("USR1", &[], 10),
            ("WINCH", &[], 28),
            ("KILL", &["--init"], 9),
            ("USR1", &["--init"], 10),
            ("clear", &["--init"], 0),
            ("USR1", &["--keep-cap=KILL", "--allow-new-privs"], 10),
            ("USR1", &["--pdeathsig", "USR2"], 12),
            ("USR1", &["--pdeathsig", "USR2", "--init"], 12),
        ] {
            if through == as_target && options.contains(&"--keep-cap=KILL") {
                continue;
            }
            let jail = Jail::new()?.through(through).through(&["--pdeathsig", set]);
            let report = jail.report(&[options, &["--groups=1000", "1000:1000"]].concat())?;
            assert_eq!(report.number("parent_death_signal"), got, "{through:?} {set} {options:?}");
        }
    }
    // Nor is one taken for the command's that was for stepdown's parent: a child begins without.
    let below = Jail::new()?.through(&["setpriv", "--pdeathsig", "USR1", "sh", "-c", "\"$@\"; exit $?", "sh"]);
    assert_eq!(below.report(&["node"])?.number("parent_death_signal"), 0);
    Ok(())
}

/// Starts a supervisor that dies once the command is up.
const DIES: &str = "command='trap \"echo TERM >$W/got; exit 0\" TERM; echo up >$W/up; while :; do sleep 0.05; done'
(setpriv --pdeathsig TERM \"$@\" node sh -c \"$command\" & while ! [ -e $W/up ]; do sleep 0.05; done)
while ! [ -e $W/got ]; do sleep 0.05; done; cat $W/got";

fn a_supervisor_that_set_it_and_dies_ends_the_command() -> Outcome {
    for init in [&[][..], &["--init"]] {
        let jail = Jail::new()?.setup("chmod 777 $W");
        let script = DIES.replace("$W", &jail.work().display().to_string());
        let ran = jail.through(&["timeout", "60", "sh", "-c", &script, "sh"]).run(init)?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "TERM\n"), "{init:?} {ran:?}");
    }
    // What can't be caught reaches the supervisor of --init, and by it the command.
    const KILLED: &str = "(setpriv --pdeathsig KILL \"$@\" node sh -c 'echo $$ >$W/up; exec sleep 600' & while ! [ -s $W/up ]; do sleep 0.05; done)
pid=$(cat $W/up); while [ -e /proc/$pid ] && ! grep -q State:.Z /proc/$pid/status; do sleep 0.05; done; echo gone";
    for init in [&[][..], &["--init"]] {
        let jail = Jail::new()?.setup("chmod 777 $W");
        let script = KILLED.replace("$W", &jail.work().display().to_string());
        let ran = jail.through(&["timeout", "60", "sh", "-c", &script, "sh"]).run(init)?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "gone\n"), "{init:?} {ran:?}");
    }
    Ok(())
}

/// It dies when the kernel has cleared the signal and it is not yet set again; that time is made longer.
fn one_that_dies_while_ids_change_ends_it_too() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    const MEANWHILE: &str = "(setpriv --pdeathsig TERM strace -D -qq -o/dev/null -e trace=setresgid -e inject=setresgid:delay_exit=3000000:when=1 \
\"$@\" 1000:1000 sh -c 'echo ran; exec sleep 600' & echo $! >$W/pid; while ! grep -q ^Gid:.1000 /proc/$!/status; do sleep 0.02; done)
pid=$(cat $W/pid); while [ -e /proc/$pid ] && ! grep -q State:.Z /proc/$pid/status; do sleep 0.05; done; echo gone";
    for init in [&[][..], &["--init"]] {
        let jail = Jail::new()?;
        let script = MEANWHILE.replace("$W", &jail.work().display().to_string());
        let ran = jail.through(&["timeout", "60", "sh", "-c", &script, "sh"]).run(init)?;
        // Under --init the command has begun, and the signal is forwarded to it.
        let said = ran.stdout.trim_start_matches("ran\n");
        assert!(said == "gone\n" && (said == ran.stdout || !init.is_empty()), "{init:?} {ran:?}");
    }
    Ok(())
}

/// The parent ends, and what is below says in a file which signal came; the jail's PID 1 waits for that.
fn under_init_the_signal_is_forwarded_and_the_command_outlives_no_supervisor() -> Outcome {
    Need::Root.programs(&["setsid"])?;
    const SCRIPT: &str = "command='trap \"echo TERM >$W/got; exit 0\" TERM; echo up >$W/up; while :; do sleep 0.05; done'
(\"$@\" node sh -c \"$command\" & while ! [ -e $W/up ]; do sleep 0.05; done)
while ! [ -e $W/got ]; do sleep 0.05; done; cat $W/got";
    for init in [&["--pdeathsig", "TERM"][..], &["--pdeathsig", "TERM", "--init"]] {
        let jail = Jail::new()?.setup("chmod 777 $W");
        let script = SCRIPT.replace("$W", &jail.work().display().to_string());
        let ran = jail.through(&["timeout", "60", "sh", "-c", &script, "sh"]).run(init)?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "TERM\n"), "{init:?} {ran:?}");
    }
    // Whoever kills the supervisor ends the command as well.
    const KILLED: &str = "\"$@\" node sh -c 'echo $$ >$W/up; exec sleep 600' & stepdown=$!
while ! [ -s $W/up ]; do sleep 0.05; done; kill -KILL $stepdown; while [ -e /proc/$(cat $W/up) ] && ! grep -q State:.Z /proc/$(cat $W/up)/status; do sleep 0.05; done; echo gone";
    let jail = Jail::new()?.setup("chmod 777 $W");
    let script = KILLED.replace("$W", &jail.work().display().to_string());
    let ran = jail.through(&["timeout", "60", "sh", "-c", &script, "sh"]).run(&["--init", "--pdeathsig", "KILL"])?;
    assert_eq!(ran.stdout, "gone\n", "{ran:?}");
    Ok(())
}
