//! systemd: a real one is booted once, in a container, with a unit for each promise; the cases read what came of it.

mod boot;
mod units;

use std::collections::BTreeSet;

use boot::boot;

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::Jail;
use crate::report::Report;

pub fn cases() -> Vec<Case> {
    cases![
        sockets_of_a_socket_unit_come_first_and_keep_their_names_and_ours_follow,
        an_accepted_connection_is_the_commands_stdin_and_stdout,
        sockets_of_socket_activate_are_handed_on,
        the_command_has_the_targets_environment_and_systemds,
        with_setuid_and_setgid_in_the_bounding_set_it_switches,
        under_user_it_is_the_target_already,
        under_user_ambient_capabilities_bind_the_port_and_are_given_up,
        under_user_of_another_it_refuses,
        with_an_exclamation_mark_user_names_the_owner_of_directories_and_credentials,
        under_dynamic_user_if_root_runs_as_that_user,
        under_no_new_privileges_it_switches,
        securebits_keep_no_capability,
        under_a_system_call_filter_it_switches_or_refuses,
        in_a_user_namespace_of_systemds_it_says_so,
        what_fails_is_the_units_exit_status,
        a_notify_service_is_the_command_itself,
        under_init_the_supervisor_is_the_main_process_and_nobody,
        a_node_that_says_it_is_ready_is_believed_and_finds_its_watchdog,
        journalds_stream_is_the_commands_stderr,
        node_reads_a_secret_with_the_capabilities_of_the_examples,
        systemd_run_gives_the_command_its_pipes,
        a_terminal_of_systemds_stays_roots,
        the_examples_pass_systemd_analyze_verify,
        the_example_with_a_socket_unit_answers_on_port_80,
        the_example_that_listens_itself_answers_on_port_80,
        the_https_example_answers_on_443_with_roots_key,
    ]
}

/// The user `node` of `scripts/make-systemd-root`.
const NODES: [u64; 3] = [4, 100, 1000];

/// The sockets that listen on a port, as /proc/self/fd shows them, in a table of proc_net_tcp (state 0A is listening).
/// A table that is read while others come and go may name one twice.
fn listening(table: &str, port: u16) -> BTreeSet<String> {
    let suffix = format!(":{port:04X}");
    let inode = |line: &str| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [_, local, _, "0A", _, _, _, _, _, inode, ..] if local.ends_with(&suffix) => Some(format!("socket:[{inode}]")),
        _ => None,
    };
    table.lines().filter_map(inode).collect()
}

fn sockets_of_a_socket_unit_come_first_and_keep_their_names_and_ours_follow() -> Outcome {
    let booted = boot()?;
    let report = booted.report("handed")?;
    report.is_exactly(1000, 1000, &NODES);
    assert_eq!(report.variable("LISTEN_FDS").as_deref(), Some("4"));
    assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()));
    assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("web:web:own:unknown"));
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 4, 5, 6]);
    let table = booted.text("handed.err")?;
    for (fd, port) in [(3, 8080), (5, 8082), (6, 8083)] {
        let target = report.descriptor(fd).and_then(|one| one["target"].as_str()).unwrap_or_default().to_owned();
        assert_eq!(listening(table, port), [target].into(), "port {port} is descriptor {fd}: {table}");
    }
    Ok(())
}

fn an_accepted_connection_is_the_commands_stdin_and_stdout() -> Outcome {
    let report = boot()?.report("inetd")?;
    report.is_exactly(1000, 1000, &NODES);
    assert_eq!(report.descriptors(), [0, 1, 2]);
    assert_eq!(report.descriptor(0).map(|one| &one["target"]), report.descriptor(1).map(|one| &one["target"]));
    assert!(report.variable("LISTEN_FDS").is_none() && report.variable("REMOTE_ADDR").is_some(), "{}", report.0);
    Ok(())
}

fn sockets_of_socket_activate_are_handed_on() -> Outcome {
    Need::Systemd.programs(&["systemd-socket-activate", "bash"])?;
    // It starts its command at the first connection.
    let connect = "bash -c 'until exec 3<>/dev/tcp/127.0.0.1/80; do sleep 0.02; done; sleep 5' 2>/dev/null &";
    let activate = ["systemd-socket-activate", "--listen=127.0.0.1:80", "--fdname=x"];
    let jail = Jail::new()?.network().setup(connect).through(&activate);
    let report = jail.report(&["--listen", "own=81", "node"])?;
    report.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
    assert_eq!(report.variable("LISTEN_FDS").as_deref(), Some("2"));
    assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()));
    assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("x:own"));
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 4]);
    Ok(())
}

fn the_command_has_the_targets_environment_and_systemds() -> Outcome {
    let report = boot()?.report("plain")?;
    report.is_exactly(1000, 1000, &NODES);
    for (name, value) in [("HOME", "/home/node"), ("USER", "node"), ("LOGNAME", "node"), ("SHELL", "/bin/bash")] {
        assert_eq!(report.variable(name).as_deref(), Some(value), "{name}");
    }
    assert!(report.variable("INVOCATION_ID").is_some() && report.variable("SECRET").is_none());
    assert_eq!(report.descriptors(), [0, 1, 2]);
    let bare = boot()?.report("bare")?;
    for list in ["blocked_signals", "ignored_signals"] {
        assert_eq!(report.signals(list), bare.signals(list), "{list}: as without stepdown");
    }
    assert!(bare.signals("ignored_signals").contains(&13), "by IgnoreSIGPIPE=");
    Ok(())
}

fn with_setuid_and_setgid_in_the_bounding_set_it_switches() -> Outcome {
    let report = boot()?.report("bounded")?;
    holds_nothing(&report, &NODES);
    assert_eq!(report.capabilities("bounding"), [6, 7], "without CAP_SETPCAP it stays, idle");
    Ok(())
}

/// Like `is_exactly`, but for the bounding set, which only CAP_SETPCAP can drop.
#[track_caller]
fn holds_nothing(report: &Report, groups: &[u64]) {
    assert_eq!((report.uids(), report.gids(), report.groups()), (vec![1000; 3], vec![1000; 3], groups.to_vec()));
    for set in ["effective", "permitted", "inheritable", "ambient"] {
        assert!(report.capabilities(set).is_empty(), "{set}: {}", report.0);
    }
    assert_eq!(report.number("no_new_privs"), 1);
    assert_eq!((&report.0["can_become_root"], &report.0["can_take_root_group"]), (&false.into(), &false.into()));
}

fn under_user_it_is_the_target_already() -> Outcome {
    holds_nothing(&boot()?.report("user")?, &NODES);
    Ok(())
}

fn under_user_ambient_capabilities_bind_the_port_and_are_given_up() -> Outcome {
    let report = boot()?.report("user-ambient")?;
    holds_nothing(&report, &NODES);
    assert_eq!(report.variable("LISTEN_FDNAMES").as_deref(), Some("low"));
    assert_eq!(report.descriptors(), [0, 1, 2, 3]);
    Ok(())
}

fn under_user_of_another_it_refuses() -> Outcome {
    boot()?.refused("user-other", 125, "started as uid 1, gid 1, which can't become node (uid 1000, gid 1000)")?;
    boot()?.refused("user-other", 125, "systemd: no User=")
}

fn with_an_exclamation_mark_user_names_the_owner_of_directories_and_credentials() -> Outcome {
    // Had it not been allowed to read and write them, it would have made no report.
    boot()?.report("bang")?.is_exactly(1000, 1000, &NODES);
    Ok(())
}

fn under_dynamic_user_if_root_runs_as_that_user() -> Outcome {
    let booted = boot()?;
    let report = booted.report("dynamic")?;
    let uid = report.uids()[0];
    // DynamicUser= takes uids from 61184 to 65519.
    assert!((61184..=65519).contains(&uid) && report.uids() == [uid; 3] && report.gids() == [uid; 3], "{}", report.0);
    assert_eq!(report.number("no_new_privs"), 1);
    assert_eq!(report.0["can_become_root"], false);
    assert_eq!(report.variable("USER").as_deref(), Some("dynamic"), "who does not switch keeps the environment");
    booted.refused("dynamic-switch", 125, "which can't become node (uid 1000, gid 1000)")
}

fn under_no_new_privileges_it_switches() -> Outcome {
    boot()?.report("no-new-privs")?.is_exactly(1000, 1000, &NODES);
    Ok(())
}

fn securebits_keep_no_capability() -> Outcome {
    let report = boot()?.report("no-fixup")?;
    report.is_exactly(1000, 1000, &NODES);
    assert_eq!(report.number("securebits"), 1 << 2, "as found: SECBIT_NO_SETUID_FIXUP");
    // Under SECBIT_NOROOT an execve as uid 0 gives no capability: there is nothing to switch with.
    boot()?.refused("noroot", 125, "CAP_SETGID, CAP_SETUID is missing")
}

fn under_a_system_call_filter_it_switches_or_refuses() -> Outcome {
    boot()?.report("filtered")?.is_exactly(1000, 1000, &NODES);
    boot()?.refused("filtered-setuid", 125, "setgroups([1000, 4, 100]): EPERM")?;
    boot()?.refused("filtered-capset", 125, "capset(none): EPERM")
}

fn in_a_user_namespace_of_systemds_it_says_so() -> Outcome {
    boot()?.refused("private-users", 125, "setgroups([")?;
    boot()?.refused("private-users", 125, "user namespace")
}

fn what_fails_is_the_units_exit_status() -> Outcome {
    let booted = boot()?;
    booted.refused("refused", 125, "there is no user 'no-such-user'")?;
    booted.refused("chore-failed", 125, "--chown /no/such/path")?;
    booted.refused("missing", 127, "COMMAND '/no/such/command' does not exist")?;
    booted.refused("unusable", 126, "execve(/etc/passwd): EACCES")?;
    assert_eq!(booted.result("results", "own-code")?, ("exit-code".to_owned(), 42));
    Ok(())
}

fn a_notify_service_is_the_command_itself() -> Outcome {
    // systemd believes READY=1 from the unit's main process alone.
    assert_eq!(boot()?.result("results", "notify")?, ("success".to_owned(), 0), "{:?}", boot()?.text("notify.err")?);
    Ok(())
}

/// Type=exec and Type=notify: started, ready, stopped by one SIGTERM to the main process.
fn under_init_the_supervisor_is_the_main_process_and_nobody() -> Outcome {
    let booted = boot()?;
    let report = booted.report("init")?;
    report.is_exactly(1000, 1000, &NODES);
    assert_eq!(report.variable("LISTEN_PID"), Some(report.number("pid").to_string()));
    for (unit, out) in [("init-exec", "started\nstopped\n"), ("init-notify", "started\n")] {
        let state = booted.text(&format!("{unit}.state"))?;
        assert!(state.starts_with("active\nstepdown\n"), "{state}");
        for line in ["Uid:\t1000\t1000\t1000\t1000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
            assert!(state.contains(line), "{unit}: {line} in {state}");
        }
        assert_eq!(booted.text(&format!("{unit}.out"))?, out, "{unit}");
        assert_eq!(booted.result("init.results", unit)?, ("success".to_owned(), 0), "{unit}");
    }
    Ok(())
}

fn a_node_that_says_it_is_ready_is_believed_and_finds_its_watchdog() -> Outcome {
    let booted = boot()?;
    // `systemctl start` came back, and the unit was active: READY=1 had been believed.
    let state = booted.text("ready.state")?;
    let line =
        |name: &str| state.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned();
    assert_eq!((line("ActiveState"), line("StatusText")), ("active".to_owned(), "listening".to_owned()), "{state}");
    let told: serde_json::Value = serde_json::from_str(booted.text("ready.out")?)?;
    assert_eq!(told["pid"].to_string(), line("MainPID"), "{told}");
    assert_eq!((&told["WATCHDOG_PID"], &told["WATCHDOG_USEC"]), (&line("MainPID").into(), &"20000000".into()), "{told}");
    assert!(told["NOTIFY_SOCKET"].as_str().is_some_and(|path| !path.is_empty()) && told["uid"] == 1000, "{told}");
    assert_eq!(booted.result("ready.results", "ready")?, ("success".to_owned(), 0));
    Ok(())
}

fn journalds_stream_is_the_commands_stderr() -> Outcome {
    let booted = boot()?;
    let said = booted.text("stream.out")?;
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(matches!(words.as_slice(), [told, found] if told == found && told.contains(':')), "{said:?}");
    assert!(booted.text("journal")?.contains("what node says to the journal"));
    Ok(())
}

fn node_reads_a_secret_with_the_capabilities_of_the_examples() -> Outcome {
    let booted = boot()?;
    assert_eq!(booted.text("secret.out")?, "1000 root:x:true EACCES", "{}", booted.text("secret.err")?);
    Ok(())
}

fn systemd_run_gives_the_command_its_pipes() -> Outcome {
    let report = boot()?.report("run")?;
    report.is_exactly(1000, 1000, &NODES);
    let stdout = report.descriptor(1).map(ToString::to_string).unwrap_or_default();
    assert!(stdout.contains("\"pipe\"") && stdout.contains("\"can_be_opened_again\":true"), "{stdout}");
    Ok(())
}

/// systemd-run --pty and machinectl shell make a terminal for a unit; systemd is above it, in the same PID namespace.
fn a_terminal_of_systemds_stays_roots() -> Outcome {
    let said = boot()?.text("pty.out")?;
    assert!(said.contains("owner=0:6"), "{said}");
    Ok(())
}

fn the_examples_pass_systemd_analyze_verify() -> Outcome {
    assert_eq!(boot()?.text("verify")?, "exit code 0\n");
    Ok(())
}

/// The example answered, was Node as node with nothing in any set, owned its directory, and stopped when told.
fn answers_as_node(name: &str) -> Outcome {
    let booted = boot()?;
    let journal = booted.text("journal")?;
    let answer = booted.text(&format!("{name}.http"))?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?} {journal}");
    let state = booted.text(&format!("{name}.state"))?;
    let none = "0000000000000000";
    for line in [
        "/usr/bin/node\nserver.js",
        "Uid:\t1000\t1000\t1000\t1000",
        "Gid:\t1000\t1000\t1000\t1000",
        "Groups:\t4 100 1000 ",
        &format!("CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t1"),
        "/var/lib/app 1000:1000 750\n",
    ] {
        assert!(state.contains(line), "{line:?} in {state}");
    }
    assert_eq!(booted.result(&format!("{name}.results"), name)?.0, "success", "{journal}");
    Ok(())
}

fn the_example_with_a_socket_unit_answers_on_port_80() -> Outcome {
    answers_as_node("app")?;
    let state = boot()?.text("app.state")?;
    assert!(state.contains("/var/lib/app/sub/file 1000:1000 600"), "{state}");
    Ok(())
}

fn the_example_that_listens_itself_answers_on_port_80() -> Outcome {
    answers_as_node("app-listen")
}

fn the_https_example_answers_on_443_with_roots_key() -> Outcome {
    let booted = boot()?;
    let journal = booted.text("journal")?;
    let answer: serde_json::Value = serde_json::from_str(booted.text("https.http")?)
        .map_err(|error| Stop::Fail(format!("{error}: {:?} {journal}", booted.files.get("probe.log"))))?;
    assert_eq!((&answer["uid"], &answer["groups"]), (&1000.into(), &serde_json::json!([4, 100, 1000])), "{answer}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(answer[set], "0000000000000000", "{answer}");
    }
    assert_eq!((&answer["NoNewPrivs"], booted.text("https.key")?), (&"1".into(), "400 0\n"));
    assert_eq!(booted.result("https.results", "https")?.0, "success", "{journal}");
    Ok(())
}
