//! Signals: all 64, whenever they come.

use super::{ABOVE, ROLES, Role, Running, children, path, until};
use crate::cases;
use crate::harness::{Case, Need, Outcome};
use crate::jail::{Jail, programs};
use crate::report::Report;

pub fn cases() -> Vec<Case> {
    cases![
        every_signal_is_forwarded_by_its_number,
        signals_are_blocked_before_anything_else,
        it_has_no_handlers,
        a_signal_that_comes_before_the_command_runs_reaches_it,
        a_signal_that_comes_before_the_childs_group_is_there_reaches_it,
        a_group_that_is_set_on_one_side_alone_is_signalled,
        from_the_first_moment_on_no_stop_request_is_lost,
        a_storm_of_signals_arrives_whole,
        the_childs_signal_state_is_what_a_direct_start_has,
        the_child_has_a_process_group_of_its_own_in_the_same_session,
        an_inherited_ignored_sigchld_is_the_childs_and_does_not_hinder_reaping,
        an_argument_of_the_commands_that_reads_init_blocks_nothing,
    ]
}

/// All that can be forwarded: neither KILL nor STOP, which nobody sees coming, nor CHLD; TERM last, which ends the log.
fn all() -> Vec<i32> {
    (1..=64).filter(|signal| ![9, 15, 17, 19].contains(signal)).chain([15]).collect()
}

fn sorted(lines: &[String]) -> Vec<i32> {
    let mut numbers: Vec<i32> = lines.iter().map(|line| line.parse().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

fn every_signal_is_forwarded_by_its_number() -> Outcome {
    for role in ROLES {
        let running = Running::start(&role.jail()?, &["--init", "node", path(&programs().signals)])?;
        running.ready()?;
        for signal in all() {
            running.send(&[17, signal])?;
            assert_eq!(running.line()?, signal.to_string(), "{role:?}");
        }
        let (code, rest, said) = running.end()?;
        assert_eq!((code, rest.len(), said.as_str()), (0, 0, ""), "{role:?}");
    }
    Ok(())
}

/// A generated CONT takes pending stop signals away, and these a pending CONT (signal(7)): of the four one can wait. TERM
/// ends the log, which reads the lowest number first.
fn that_can_wait_together() -> [Vec<i32>; 4] {
    let others = |without: &[i32]| all().into_iter().filter(|signal| !without.contains(signal)).collect();
    [others(&[15, 20, 21, 22]), others(&[15, 18, 21, 22]), others(&[15, 18, 20, 22]), others(&[15, 18, 20, 21])]
}

/// Waits for the command, and for exactly these.
fn gets(running: &Running, signals: &[i32], why: &str) -> Outcome {
    running.ready()?;
    let mut got = Vec::new();
    while got.len() < signals.len() {
        got.push(running.line()?);
    }
    assert_eq!(sorted(&got), signals, "{why}");
    Ok(())
}

fn a_signal_that_comes_before_the_command_runs_reaches_it() -> Outcome {
    let signals = path(&programs().signals);
    for role in ROLES {
        for set in that_can_wait_together() {
            // Pending when stepdown starts.
            let jail = role.jail()?.through(&[signals, "held"]);
            let mut running = Running::launch(&jail, &["--init", "node", signals])?;
            assert_eq!(running.line()?, "held");
            running.find("signals")?;
            running.send(&set)?;
            running.type_in("!")?;
            gets(&running, &set, &format!("{role:?}"))?;
            running.send(&[15])?;
            assert_eq!(running.end()?.0, 0, "{role:?}");
        }
    }
    Ok(())
}

/// What comes before that is lost to a PID 1, so nothing does: only the C library's start-up, which asks nobody.
fn signals_are_blocked_before_anything_else() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let jail = Jail::new()?.setup("chmod 777 $W").through(&ABOVE);
    let trace = jail.at("trace");
    let jail = jail.through(&["strace", "-qq", "-o", &trace]);
    assert_eq!(jail.run(&["--init", "--env=A=B", "node", "true"])?.code, 0);
    let trace = std::fs::read_to_string(trace)?;
    let start_up = ["execve(", "arch_prctl(", "set_tid_address("];
    let first = trace.lines().find(|line| !start_up.iter().any(|call| line.starts_with(call))).unwrap_or_default();
    assert!(first.starts_with("rt_sigprocmask(SIG_SETMASK, ~[], [], 8)"), "{first} in {trace}");
    Ok(())
}

fn it_has_no_handlers() -> Outcome {
    for role in ROLES {
        let running = Running::start(&role.jail()?, &["--init", "node", path(&programs().signals)])?;
        running.ready()?;
        assert_eq!(running.status("SigCgt")?, "0000000000000000", "{role:?}");
    }
    Ok(())
}

/// All of them, with the child's calls delayed: `setpgid` on both sides, and its execve.
fn a_signal_that_comes_before_the_childs_group_is_there_reaches_it() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let signals = path(&programs().signals);
    let delays = [("setpgid", "--signal-group"), ("setpgid", "--verbose"), ("execve", "--signal-group"), ("execve", "--verbose")];
    // CONT is strace's own: it sends one when it begins.
    let sets = that_can_wait_together().map(|set| set.into_iter().filter(|&signal| signal != 18).collect::<Vec<_>>());
    for ((delayed, option), set) in delays.into_iter().zip(sets) {
        let inject = format!("inject={delayed}:delay_enter=400000");
        let strace = [signals, "held", "strace", "-f", "-qq", "-o/dev/null", "-e", "trace=setpgid,execve", "-e", &inject];
        let jail = Jail::new()?.through(&ABOVE).through(&strace);
        let mut running = Running::launch(&jail, &["--init", option, "node", signals])?;
        assert_eq!(running.line()?, "held");
        running.type_in("!")?;
        running.find("stepdown")?;
        let stepdown = running.pid;
        until("no child", || children(stepdown).first().copied())?;
        // The child has all of them blocked still: it was started so.
        running.send(&set)?;
        running.ready()?;
        let mut got = Vec::new();
        while got.len() < set.len() {
            got.extend(Some(running.line()?).filter(|line| line != "18"));
        }
        assert_eq!(sorted(&got), set, "{delayed} {option}");
        running.send(&[15])?;
        assert_eq!(running.end()?.0, 0);
    }
    Ok(())
}

fn a_group_that_is_set_on_one_side_alone_is_signalled() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let signals = path(&programs().signals);
    // The parent's own call fails; and the child's goes first.
    let strace = ["strace", "-qq", "-o/dev/null", "-e", "trace=setpgid", "-e", "inject=setpgid:error=EACCES"];
    let running = Running::start(&Jail::new()?.through(&ABOVE).through(&strace), &["--init", "--signal-group", "node", signals])?;
    running.ready()?;
    running.send(&[10])?;
    assert_eq!(running.line()?, "10");
    running.send(&[15])?;
    assert_eq!(running.end()?.0, 0);
    Ok(())
}

/// PID 1 loses signals until it has blocked them. What is asked here: once the supervisor is there, none is lost, at
/// whatever moment of its start one comes.
fn from_the_first_moment_on_no_stop_request_is_lost() -> Outcome {
    for role in ROLES {
        for _ in 0..40 {
            let running = Running::start(&role.jail()?, &["--init", "node", "sleep", "60"])?;
            // The name is stepdown's from its execve on, main comes a moment later: as soon as it blocks signals.
            until("signals are not blocked", || {
                let blocked = running.status("SigBlk").ok()?;
                let alone = children(running.pid).is_empty();
                (blocked == "ffffffffffffffff" || blocked == "fffffffffffbfeff" || !alone).then_some(())
            })?;
            running.send(&[15])?;
            let (code, _, said) = running.end()?;
            assert_eq!((code, said.as_str()), (143, ""), "{role:?}");
        }
    }
    Ok(())
}

fn a_storm_of_signals_arrives_whole() -> Outcome {
    for role in ROLES {
        let running = Running::start(&role.jail()?, &["--init", "node", path(&programs().signals)])?;
        running.ready()?;
        let storm: Vec<i32> = (0..3000).map(|count| 34 + count % 31).collect();
        running.send(&storm)?;
        let mut got = vec![0; 65];
        for _ in &storm {
            got[running.line()?.parse::<usize>()?] += 1;
        }
        for (got, signal) in got.iter().zip(0..).skip(34) {
            assert_eq!(*got, storm.iter().filter(|&&sent| sent == signal).count(), "{role:?} {signal}");
        }
        running.send(&[15])?;
        assert_eq!(running.end()?.0, 0);
    }
    Ok(())
}

fn the_childs_signal_state_is_what_a_direct_start_has() -> Outcome {
    Need::Root.programs(&["env"])?;
    let all_blocked = ["env", "--block-signal"];
    let some = ["env", "--ignore-signal=PIPE,HUP,CHLD,USR1,TSTP,RTMIN+3", "--block-signal=TERM,USR2,CHLD,RTMAX"];
    for role in ROLES {
        for start in [&["env"][..], &all_blocked, &some] {
            let of =
                |report: &Report| (report.signals("blocked_signals"), report.signals("ignored_signals"), report.descriptors());
            let jail = role.jail()?.setup("exec 7</dev/zero 9</dev/zero").through(start);
            let direct = jail.report(&["--keep-fd=9", "node"])?;
            let below = jail.report(&["--init", "--keep-fd=9", "node"])?;
            assert_eq!(of(&direct), of(&below), "{role:?} {start:?}");
            for name in
                ["uids", "gids", "groups", "capabilities", "no_new_privs", "securebits", "directory", "umask", "environment"]
            {
                assert_eq!(direct.0[name], below.0[name], "{role:?} {start:?} {name}");
            }
        }
    }
    Ok(())
}

fn the_child_has_a_process_group_of_its_own_in_the_same_session() -> Outcome {
    for role in ROLES {
        let direct = role.jail()?.report(&["node"])?;
        let below = role.jail()?.report(&["--init", "node"])?;
        assert_eq!(below.number("process_group"), below.number("pid"), "{role:?}");
        // Both are from outside the namespace, which reads as 0.
        assert_eq!(below.number("session"), direct.number("session"), "{role:?}");
        assert_eq!(below.number("ppid"), if role == Role::First { 1 } else { below.number("pid") - 1 }, "{role:?}");
    }
    Ok(())
}

fn an_inherited_ignored_sigchld_is_the_childs_and_does_not_hinder_reaping() -> Outcome {
    Need::Root.programs(&["env"])?;
    for role in ROLES {
        let jail = role.jail()?.through(&["env", "--ignore-signal=CHLD"]);
        assert_eq!(jail.run(&["--init", "node", "sh", "-c", "exit 7"])?.code, 7, "{role:?}");
        assert!(jail.report(&["--init", "node"])?.signals("ignored_signals").contains(&17), "{role:?}");
    }
    Ok(())
}

fn an_argument_of_the_commands_that_reads_init_blocks_nothing() -> Outcome {
    let report = path(&programs().report);
    let plain = Jail::new()?.report(&["node"])?;
    let got = Jail::new()?.run(&["--umask=022", "node", report, "--init"])?.report()?;
    assert_eq!(got.signals("blocked_signals"), plain.signals("blocked_signals"));
    assert_eq!(got.number("pid"), 1, "nothing stays");
    Ok(())
}
