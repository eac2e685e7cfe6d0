//! The supervisor is nobody: what it holds, and what it does not.

use std::fs;

use super::{ROLES, Running, children, path, status, until};
use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::programs;
use crate::sockets::MANAGER;

pub fn cases() -> Vec<Case> {
    cases![
        both_have_the_targets_ids_and_no_capability,
        what_the_command_keeps_the_supervisor_does_not,
        with_allow_new_privs_the_supervisor_has_no_new_privs_all_the_same,
        ports_files_secrets_and_pipes_are_closed_in_the_supervisor,
        the_end_of_the_commands_stdout_is_seen_at_once,
        the_command_can_not_trace_the_supervisor_or_read_its_environment,
        listen_pid_is_the_childs,
        closed_streams_and_a_dead_terminal_do_not_end_it,
        a_stderr_that_nobody_reads_does_not_hold_it_up,
        what_it_may_not_signal_is_a_warning,
        nothing_goes_to_stdout,
    ]
}

/// Of a process, as /proc tells from outside.
fn credentials(pid: u32) -> Result<Vec<String>, Stop> {
    ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs"]
        .into_iter()
        .map(|key| Ok(status(pid, key)?.trim().to_owned()))
        .collect()
}

const NONE: &str = "0000000000000000";
const NODE: &str = "1000\t1000\t1000\t1000";

fn both_have_the_targets_ids_and_no_capability() -> Outcome {
    for role in ROLES {
        let running = Running::start(&role.jail()?, &["--init", "node", path(&programs().signals)])?;
        running.ready()?;
        for pid in [running.pid, children(running.pid)[0]] {
            assert_eq!(credentials(pid)?, [NODE, NODE, "1 4 100 1000", NONE, NONE, NONE, NONE, "1"], "{role:?}");
            assert_eq!(status(pid, "CapBnd")?, NONE, "{role:?}");
        }
        // Started as the target already.
        let jail = role.jail()?.through(&["setpriv", "--reuid=1000", "--regid=1000", "--groups=1000"]);
        let running = Running::start(&jail, &["--init", "node", path(&programs().signals)])?;
        running.ready()?;
        assert_eq!(credentials(running.pid)?, [NODE, NODE, "1000", NONE, NONE, NONE, NONE, "1"], "{role:?}");
    }
    Ok(())
}

fn what_the_command_keeps_the_supervisor_does_not() -> Outcome {
    for role in ROLES {
        let line = ["--init", "--keep-cap=NET_BIND_SERVICE,SETUID", "node", path(&programs().signals)];
        let running = Running::start(&role.jail()?, &line)?;
        running.ready()?;
        let kept = "0000000000000480";
        assert_eq!(credentials(running.pid)?, [NODE, NODE, "1 4 100 1000", NONE, NONE, NONE, NONE, "1"], "{role:?}");
        assert_eq!(credentials(children(running.pid)[0])?, [NODE, NODE, "1 4 100 1000", kept, kept, kept, kept, "1"], "{role:?}");
    }
    Ok(())
}

fn with_allow_new_privs_the_supervisor_has_no_new_privs_all_the_same() -> Outcome {
    for role in ROLES {
        let running = Running::start(&role.jail()?, &["--init", "--allow-new-privs", "node", path(&programs().signals)])?;
        running.ready()?;
        assert_eq!(
            (status(running.pid, "NoNewPrivs")?, status(children(running.pid)[0], "NoNewPrivs")?),
            ("1".into(), "0".into())
        );
    }
    Ok(())
}

fn ports_files_secrets_and_pipes_are_closed_in_the_supervisor() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let listen = "@ports_files_secrets_and_pipes_are_closed_in_the_supervisor";
    for role in ROLES {
        for answer in ["", "error=ENOSYS", "retval=0"] {
            let jail = role.jail()?.network().setup("exec 7</dev/zero; (umask 077; echo hush >$W/key); cd /tmp");
            let inject = format!("inject=close_range:{answer}");
            let strace = ["strace", "-D", "-f", "-qq", "-o/dev/null", "-e", "trace=close_range", "-e", &inject];
            let jail = if answer.is_empty() { jail } else { jail.through(&strace) };
            let secret = format!("KEY={}", jail.at("key"));
            let options = ["--init", "--keep-fd=7", "--listen", listen, "--secret", &secret, "node", path(&programs().signals)];
            let running = Running::start(&jail, &options)?;
            running.ready()?;
            let open = |pid: u32| -> Result<Vec<i32>, Stop> {
                let mut open: Vec<i32> = fs::read_dir(format!("/proc/{pid}/fd"))?
                    .flatten()
                    .filter_map(|fd| fd.file_name().to_str()?.parse().ok())
                    .collect();
                open.sort_unstable();
                Ok(open)
            };
            until("descriptors stay open", || (open(running.pid).ok()? == [2]).then_some(()))?;
            let command = *children(running.pid)
                .iter()
                .find(|&&pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "signals\n"))
                .expect("the command");
            assert_eq!(open(command)?, [0, 1, 2, 3, 7, 64], "{role:?} {answer}");
            assert_eq!(fs::read_link(format!("/proc/{}/cwd", running.pid))?.to_str(), Some("/"));
            assert_eq!(fs::read_link(format!("/proc/{command}/cwd"))?.to_str(), Some("/tmp"));
        }
    }
    Ok(())
}

fn the_end_of_the_commands_stdout_is_seen_at_once() -> Outcome {
    for role in ROLES {
        let reader = "mkfifo $W/pipe; chmod 777 $W; (cat $W/pipe; touch $W/seen) &";
        let jail = role.jail()?.setup(reader);
        let pipe = jail.at("pipe");
        let jail = jail.through(&["sh", "-c", "exec \"$@\" >$0", &pipe]);
        let mut running = Running::start(&jail, &["--init", "node", "sh", "-c", "echo x >&2; exec >&-; read _; exit 3"])?;
        running.says("x\n")?;
        until("the end is not seen", || jail.work().join("seen").exists().then_some(()))?;
        assert_eq!(running.end()?.0, 3, "{role:?}: the command ran all the time");
    }
    Ok(())
}

fn the_command_can_not_trace_the_supervisor_or_read_its_environment() -> Outcome {
    for role in ROLES {
        for through in [&[][..], &["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]] {
            let jail = role.jail()?.through(through);
            let script = "cat /proc/$PPID/environ >/dev/null && exit 1; ls /proc/$PPID/fd && exit 2; (: >/proc/$PPID/mem) && exit 3; exit 0";
            let ran = jail.run(&["--init", "--groups=1000", "1000:1000", "sh", "-c", script])?;
            assert_eq!((ran.code, ran.stderr.matches("Permission denied").count()), (0, 3), "{role:?} {through:?}: {ran:?}");
            // The command itself is as open as any: it can read its own.
            assert_eq!(jail.run(&["--init", "--groups=1000", "1000:1000", "cat", "/proc/self/environ"])?.code, 0);
        }
    }
    Ok(())
}

fn listen_pid_is_the_childs() -> Outcome {
    for role in ROLES {
        let listen = "@listen_pid_is_the_childs";
        let report = role.jail()?.report(&["--init", "--listen", listen, "node"])?;
        assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()), "{role:?}");
        assert_eq!((report.variable("LISTEN_FDS").as_deref(), report.descriptors()), (Some("1"), vec![0, 1, 2, 3]));
        // Received by stepdown, handed on to the child: another process, so that what told the processes apart goes.
        let report = role.jail()?.network().through(&["python3", "-c", MANAGER]).report(&["--init", "node"])?;
        assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()), "{role:?}");
        assert_eq!((report.variable("LISTEN_PIDFDID"), report.descriptors()), (None, vec![0, 1, 2, 3, 4]), "{role:?}");
    }
    Ok(())
}

fn closed_streams_and_a_dead_terminal_do_not_end_it() -> Outcome {
    for role in ROLES {
        for closed in ["exec 0<&-", "exec 2>&-", "exec 0<&- 2>&-"] {
            let running =
                Running::start(&role.jail()?.setup(closed), &["--init", "--verbose", "node", path(&programs().signals)])?;
            running.ready()?;
            running.send(&[10])?;
            assert_eq!(running.line()?, "10", "{role:?} {closed}");
            running.send(&[15])?;
            assert_eq!(running.end()?.0, 0, "{role:?} {closed}");
        }
        let ran =
            role.jail()?.setup("exec 0<&- 1>&- 2>&-").run(&["--init", "--verbose", "node", "sh", "-c", "sleep 0.1; exit 7"])?;
        assert_eq!(ran.code, 7, "{role:?}: {ran:?}");
    }
    Ok(())
}

/// A pipe that is full, and one without a reader: every line of `--verbose` goes nowhere.
fn a_stderr_that_nobody_reads_does_not_hold_it_up() -> Outcome {
    for role in ROLES {
        let jail = role.jail()?.setup("mkfifo $W/full; exec 2<>$W/full; head -c 65536 /dev/zero >&2");
        let running = Running::start(&jail, &["--init", "--verbose", "node", path(&programs().signals)])?;
        running.ready()?;
        for _ in 0..100 {
            running.send(&[10])?;
            assert_eq!(running.line()?, "10", "{role:?}");
        }
        running.send(&[15])?;
        assert_eq!(running.end()?.0, 0, "{role:?}");
        // A reader that is gone: SIGPIPE is our own, and not the command's.
        let gone = "exec 2> >(:); sleep 0.1; exec \"$@\"";
        let running = Running::start(
            &role.jail()?.through(&["bash", "-c", gone, "bash"]),
            &["--init", "--verbose", "node", path(&programs().signals)],
        )?;
        running.ready()?;
        running.send(&[10, 12])?;
        assert_eq!((running.line()?, running.line()?), ("10".into(), "12".into()), "{role:?}");
        running.send(&[15])?;
        let (code, rest, _) = running.end()?;
        assert_eq!((code, rest), (0, vec!["15".to_owned()]), "{role:?}");
    }
    Ok(())
}

/// The command becomes another user, whom nobody without rights may signal.
fn what_it_may_not_signal_is_a_warning() -> Outcome {
    for role in ROLES {
        let line = ["--init", "--keep-cap=SETUID", "node", "setpriv", "--ruid=2001", "--euid=2001", path(&programs().signals)];
        let mut running = Running::start(&role.jail()?, &line)?;
        running.ready()?;
        running.send(&[15])?;
        running.says("stepdown: warning: SIGTERM is not forwarded: kill(")?;
        running.says("EPERM")?;
        let command = children(running.pid)[0];
        super::send(command, &[15])?;
        assert_eq!(running.end()?.0, 0, "{role:?}");
    }
    Ok(())
}

fn nothing_goes_to_stdout() -> Outcome {
    for role in ROLES {
        let running = Running::start(&role.jail()?, &["--init", "--verbose", "node", path(&programs().signals)])?;
        let child = running.ready()?[0];
        running.send(&[12, 15])?;
        let (code, out, said) = running.end()?;
        assert_eq!((code, out), (0, vec!["12".to_owned(), "15".to_owned()]), "{role:?}");
        for line in [format!("SIGUSR2 to {child}"), format!("SIGTERM to {child}"), format!("reaped {child}: exit code 0")] {
            assert!(said.contains(&format!("stepdown: {line}\n")), "{role:?}: {said}");
        }
    }
    Ok(())
}
