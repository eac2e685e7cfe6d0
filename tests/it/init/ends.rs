//! The end: exit codes, and what becomes of the rest.

use super::{ROLES, Role, Running, children, path, until};
use crate::cases;
use crate::harness::{Case, Need, Outcome};
use crate::jail::{Jail, programs};

pub fn cases() -> Vec<Case> {
    cases![
        the_exit_code_is_the_commands_for_every_code,
        a_signal_that_ends_the_command_is_128_and_its_number,
        exit_as_maps_one_code_to_another,
        what_can_not_be_run_ends_as_without_init,
        what_is_left_gets_sigterm_and_time_to_finish,
        what_does_not_finish_in_time_is_killed,
        nothing_is_left_of_what_was_killed,
        a_grace_of_nothing_is_none,
        what_was_entered_from_outside_is_told,
        what_is_left_may_be_stopped_in_another_session_or_below_another_process,
        only_what_is_below_is_signalled,
        without_proc_the_commands_group_is_ended,
        signals_that_come_in_the_time_of_grace_are_forwarded,
        a_storm_of_ten_thousand_orphans_is_reaped,
        a_stopped_command_is_no_dead_command,
        a_fork_that_fails_is_an_error_and_no_command_runs,
    ]
}

/// For each line `NUMBER EXPECTED` of a table: stepdown's exit code.
fn codes(role: Role, command: &str, table: &str) -> Outcome {
    let stepdown = path(&programs().stepdown);
    let alone = match role {
        Role::First => "unshare --pid --fork --",
        Role::Below => "",
    };
    let script = format!(
        "while read number expected; do {alone} {stepdown} --init node {command}; got=$?; \
         [ $got = $expected ] || echo \"$number: $got, not $expected\"; done <<'EOF'\n{table}EOF\n"
    );
    let jail = Jail::new()?.through(&["sh", "-c", &script]).instead("true".as_ref());
    let ran = jail.run(&[] as &[&str])?;
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""), "{role:?}");
    Ok(())
}

fn the_exit_code_is_the_commands_for_every_code() -> Outcome {
    let table: String = (0..=255).map(|code| format!("{code} {code}\n")).collect();
    ROLES.into_iter().try_for_each(|role| codes(role, "sh -c \"exit $number\" 2>/dev/null", &table))
}

/// Those that do not end a process by default: URG, WINCH and CHLD are ignored, CONT goes on, four stop.
fn a_signal_that_ends_the_command_is_128_and_its_number() -> Outcome {
    let ends = (1..=64).filter(|signal| ![17, 18, 19, 20, 21, 22, 23, 28].contains(signal));
    let table: String = ends.map(|signal| format!("{signal} {}\n", 128 + signal)).collect();
    let command = format!("{} die $number 2>/dev/null", path(&programs().signals));
    ROLES.into_iter().try_for_each(|role| codes(role, &command, &table))
}

fn exit_as_maps_one_code_to_another() -> Outcome {
    for role in ROLES {
        let run = |script: &str| {
            Ok::<_, crate::harness::Stop>(
                role.jail()?.run(&["--init", "--exit-as=143=0", "--exit-as", "1=77", "node", "sh", "-c", script])?.code,
            )
        };
        assert_eq!(
            (run("kill $$")?, run("exit 143")?, run("exit 1")?, run("exit 2")?, run("exit 0")?),
            (0, 0, 77, 2, 0),
            "{role:?}"
        );
    }
    Ok(())
}

fn what_can_not_be_run_ends_as_without_init() -> Outcome {
    for role in ROLES {
        for command in [&["nosuch"][..], &["/no/such"], &["/etc/passwd"], &["/etc"], &["--verbose", "x"]] {
            let line = |options: &[&'static str]| [options, &["node"], command].concat();
            let direct = role.jail()?.run(&line(&[]))?;
            let below = role.jail()?.run(&line(&["--init"]))?;
            assert!(matches!(direct.code, 126 | 127), "{direct:?}");
            assert_eq!((below.code, &below.stderr, &below.stdout), (direct.code, &direct.stderr, &direct.stdout), "{role:?}");
        }
    }
    Ok(())
}

/// A process that the command leaves: at SIGTERM it needs a moment, and then leaves a file. What it starts ends by itself:
/// a child that it has a moment after the signal would get none. (Of one that did get it a shell says so.)
const NEEDS_A_MOMENT: &str =
    "exec 2>/dev/null; trap 'sleep 0.4; echo done >$0; exit' TERM; echo up; while :; do sleep 0.05; done";

fn what_is_left_gets_sigterm_and_time_to_finish() -> Outcome {
    for role in ROLES {
        let jail = role.jail()?.setup("chmod 777 $W");
        let file = jail.at("done");
        let script = "sh -c \"$1\" \"$0\" >\"$0.up\" & until [ -s \"$0.up\" ]; do sleep 0.01; done; exit 5";
        let (code, _, said) = Running::launch(&jail, &["--init", "node", "sh", "-c", script, &file, NEEDS_A_MOMENT])?.end()?;
        assert_eq!((code, std::path::Path::new(&file).exists(), said.as_str()), (5, true, ""), "{role:?}");
    }
    Ok(())
}

/// As above, with a process that pays no heed to SIGTERM.
const DEAF: &str = "(trap '' TERM HUP; echo up >\"$0\"; exec sleep 60) & until [ -s \"$0\" ]; do sleep 0.01; done; exit 6";

fn what_does_not_finish_in_time_is_killed() -> Outcome {
    for role in ROLES {
        let jail = role.jail()?.setup("chmod 777 $W");
        let up = jail.at("up");
        let (code, _, said) = Running::launch(&jail, &["--init", "--grace", "0.3", "node", "sh", "-c", DEAF, &up])?.end()?;
        let warning = "stepdown: warning: what the command left did not end within 300 ms, and is killed\n";
        assert_eq!((code, said.as_str()), (6, warning), "{role:?}");
    }
    Ok(())
}

/// Below a shell that outlives stepdown: as PID 1 the kernel sees to it. With a child of its own each, which is an orphan
/// when the first is dead.
fn nothing_is_left_of_what_was_killed() -> Outcome {
    let deaf = "trap '' TERM HUP; (sh -c 'echo $PPID $$ >>\"$0\"; exec sleep 60' \"$0\"; :) & wait";
    let script = format!(
        "for _ in 1 2 3; do (setsid sh -c '{}' \"$0\") & done; \
                          until [ $(wc -l <\"$0\") = 3 ]; do sleep 0.01; done; exit 6",
        deaf.replace('\'', "'\\''")
    );
    let look = "pids=$1; shift; \"$@\"; code=$?; for pid in $(cat $pids); do [ ! -e /proc/$pid ] || code=$pid; done; exit $code";
    Need::Root.programs(&["setsid"])?;
    let jail = Jail::new()?.setup("chmod 777 $W; touch $W/pids; chmod 666 $W/pids");
    let pids = jail.at("pids");
    let ran =
        jail.through(&["sh", "-c", look, "sh", &pids]).run(&["--init", "--grace=0.2", "node", "sh", "-c", &script, &pids])?;
    assert_eq!((ran.code, ran.stderr.matches("and is killed").count()), (6, 1), "{ran:?}");
    Ok(())
}

/// By nsenter(1), as by `docker exec`: what belongs to no child of ours. As long as there is something to wait for it has time.
fn what_was_entered_from_outside_is_told() -> Outcome {
    Need::Root.programs(&["nsenter"])?;
    let jail = Jail::new()?.setup("chmod 777 $W");
    let told = jail.at("told");
    let left = "exec 2>/dev/null; trap 'until [ -e $0 ]; do sleep 0.01; done; exit' TERM; echo up; while :; do sleep 0.05; done";
    let script = "sh -c \"$1\" \"$0\" & read _; exit 5";
    let mut running = Running::start(&jail, &["--init", "--grace=60", "node", "sh", "-c", script, &told, left])?;
    assert_eq!(running.line()?, "up");
    let entered = "setpriv --reuid=1000 --regid=1000 --clear-groups sh -c 'trap \": >$0; exit\" TERM; echo; while :; do sleep 0.1; done' $0";
    let mut enter = std::process::Command::new("nsenter");
    enter.args(["--pid", "--mount", "--target", &running.pid.to_string(), "sh", "-c", &format!("exec {entered}"), &told]);
    let mut enter = enter.stdout(std::process::Stdio::piped()).spawn()?;
    std::io::Read::read_exact(enter.stdout.as_mut().expect("piped"), &mut [0])?;
    running.type_in("\n")?;
    let (code, _, said) = running.end()?;
    assert_eq!((code, said.as_str(), std::path::Path::new(&told).exists()), (5, "", true));
    enter.wait()?;
    Ok(())
}

fn a_grace_of_nothing_is_none() -> Outcome {
    for role in ROLES {
        let jail = role.jail()?.setup("chmod 777 $W");
        let up = jail.at("up");
        let (code, _, said) = Running::launch(&jail, &["--init", "--grace=0", "node", "sh", "-c", DEAF, &up])?.end()?;
        assert_eq!((code, said.contains("within 0 ms")), (6, true), "{role:?}: {said}");
    }
    Ok(())
}

fn what_is_left_may_be_stopped_in_another_session_or_below_another_process() -> Outcome {
    Need::Root.programs(&["setsid"])?;
    for role in ROLES {
        for start in ["setsid", "setsid sh -c '\"$@\"; :' x", "setsid sh -c 'kill -STOP $$; exec \"$@\"' x"] {
            let jail = role.jail()?.setup("chmod 777 $W");
            let (file, up) = (jail.at("done"), jail.at("up"));
            let wait = if start.contains("STOP") { "sleep 0.3" } else { "until [ -s \"$2\" ]; do sleep 0.01; done" };
            let script = format!("{start} sh -c \"$1\" \"$0\" >\"$2\" & {wait}; exit 5");
            let line = ["--init", "node", "sh", "-c", &script, &file, NEEDS_A_MOMENT, &up];
            let (code, _, said) = Running::launch(&jail, &line)?.end()?;
            assert_eq!((code, said.as_str()), (5, ""), "{role:?} {start}");
            assert!(start.contains("STOP") || std::path::Path::new(&file).exists(), "{role:?} {start}");
        }
    }
    Ok(())
}

/// A neighbour of the same user, in the same process group and session as stepdown, and a child that stepdown did not start.
fn only_what_is_below_is_signalled() -> Outcome {
    let stepdown = path(&programs().stepdown);
    let script = format!(
        "setpriv --reuid 1000 --regid 1000 --clear-groups sleep 60 & neighbour=$!\n\
         (setpriv --reuid 1000 --regid 1000 --clear-groups sleep 61 & echo $! >$0; \
         until [ $(stat -c %u /proc/$! /proc/$neighbour | tr -d '\\n') = 10001000 ]; do sleep 0.01; done; exec {stepdown} --init --signal-group node sh -c 'exit 3')\n\
         echo $?; kill -0 $neighbour && echo neighbour; kill -0 $(cat $0) 2>/dev/null || echo gone; kill $neighbour"
    );
    let jail = Jail::new()?;
    let pid = jail.at("pid");
    let jail = jail.through(&["sh", "-c", &script, &pid]).instead("true".as_ref());
    let ran = jail.run(&[] as &[&str])?;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("3\nneighbour\ngone\n", ""));
    Ok(())
}

fn without_proc_the_commands_group_is_ended() -> Outcome {
    for role in ROLES {
        let jail = role.jail()?.setup("chmod 777 $W; mount -t tmpfs none /proc");
        let script = "sh -c \"$1\" \"$0\" >\"$0.up\" & until [ -s \"$0.up\" ]; do sleep 0.01; done; exit 5";
        let file = jail.at("done");
        let ran = jail.run(&["--init", "node", "sh", "-c", script, &file, NEEDS_A_MOMENT])?;
        assert_eq!((ran.code, std::path::Path::new(&file).exists()), (5, true), "{role:?}: {ran:?}");
    }
    Ok(())
}

fn signals_that_come_in_the_time_of_grace_are_forwarded() -> Outcome {
    for role in ROLES {
        let jail = role.jail()?.setup("chmod 777 $W");
        let script = "sh -c 'trap \"\" TERM; trap \"exit\" USR1; echo up | tee $0; while :; do sleep 0.05; done' $0 & until [ -s $0 ]; do sleep 0.01; done; exit 4";
        let mut running =
            Running::start(&jail, &["--init", "--verbose", "--grace=60", "node", "sh", "-c", script, &jail.at("up")])?;
        running.line()?;
        running.says("SIGTERM to all that is left")?;
        running.send(&[10])?;
        let (code, _, said) = running.end()?;
        assert!(code == 4 && said.contains("SIGUSR1 to all that is left"), "{role:?}: {code} {said}");
    }
    Ok(())
}

fn a_storm_of_ten_thousand_orphans_is_reaped() -> Outcome {
    for role in ROLES {
        let running = Running::start(
            &role.jail()?,
            &["--init", "node", "sh", "-c", "\"$0\" orphans 10000 && echo made && read _", path(&programs().signals)],
        )?;
        assert_eq!(running.line()?, "made");
        until("orphans are left", || (children(running.pid).len() == 1).then_some(()))?;
        assert_eq!(running.end()?.0, 1, "{role:?}: read came to the end");
    }
    Ok(())
}

fn a_stopped_command_is_no_dead_command() -> Outcome {
    for role in ROLES {
        let running = Running::start(&role.jail()?, &["--init", "node", path(&programs().signals)])?;
        running.ready()?;
        let command = children(running.pid)[0];
        let state =
            |wanted: char| until("not in that state", || super::status(command, "State").ok()?.starts_with(wanted).then_some(()));
        super::send(command, &[19])?;
        state('T')?;
        until("it does not wait on", || running.status("State").ok()?.starts_with('S').then_some(()))?;
        running.send(&[10, 18])?;
        state('S')?;
        assert_eq!(running.line()?, "10", "{role:?}");
        assert_eq!(running.line()?, "18", "{role:?}");
        running.send(&[15])?;
        assert_eq!(running.end()?.0, 0, "{role:?}");
    }
    Ok(())
}

/// The kernel's own refusal: the user may have no second process.
fn a_fork_that_fails_is_an_error_and_no_command_runs() -> Outcome {
    for role in ROLES {
        let jail = role.jail()?.through(&["bash", "-c", "ulimit -u 1; exec \"$@\"", "bash"]);
        let ran = jail.run(&["--init", "node", "echo", "ran"])?;
        assert_eq!((ran.code, ran.stdout.as_str()), (125, ""), "{role:?}: {ran:?}");
        assert!(ran.stderr.starts_with("stepdown: fork: EAGAIN"), "{role:?}: {ran:?}");
    }
    Ok(())
}
