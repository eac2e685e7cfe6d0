//! What can be asked of the supervisor.

use super::{ROLES, Running, children, path};
use crate::cases;
use crate::harness::{Case, Outcome};
use crate::jail::{Jail, programs};

pub fn cases() -> Vec<Case> {
    cases![
        rewrite_forwards_one_signal_as_another_or_drops_it,
        signal_group_forwards_to_all_of_the_childs_group,
        drain_holds_the_first_stop_request_back,
        a_second_stop_request_cuts_the_draining_short,
        kill_after_kills_what_pays_no_heed,
        without_init_its_options_are_refused,
        dry_run_shows_what_init_will_do,
    ]
}

fn rewrite_forwards_one_signal_as_another_or_drops_it() -> Outcome {
    for role in ROLES {
        let options = [
            "--init",
            "--verbose",
            "--rewrite=TERM=QUIT",
            "--rewrite",
            "hup=none",
            "--rewrite=10=RTMIN+3",
            "--rewrite=SIGRTMAX=SIGINT",
        ];
        let mut running = Running::start(&role.jail()?, &[&options[..], &["node", path(&programs().signals)]].concat())?;
        running.ready()?;
        for (sent, got) in [(15, "3"), (10, "37"), (64, "2"), (12, "12")] {
            running.send(&[1, sent])?;
            assert_eq!(running.line()?, got, "{role:?}");
        }
        running.says("SIGHUP is dropped")?;
        super::send(children(running.pid)[0], &[15])?;
        assert_eq!(running.end()?.0, 0, "{role:?}");
    }
    Ok(())
}

fn signal_group_forwards_to_all_of_the_childs_group() -> Outcome {
    let script = "\"$0\" & \"$0\" & wait; wait";
    for role in ROLES {
        for (option, count) in [("--signal-group", 2), ("--verbose", 0)] {
            // The shell pays no heed; what it starts would not either, but it asks for the signal.
            let line = ["--init", option, "node", "sh", "-c", &format!("trap '' USR1; {script}"), path(&programs().signals)];
            let running = Running::start(&role.jail()?, &line)?;
            running.ready()?;
            running.ready()?;
            running.send(&[10, 12])?;
            // USR2 ends the shell; the rest gets TERM.
            let (code, mut got, _) = running.end()?;
            got.sort_unstable();
            let expected: &[&str] = if count == 2 { &["10", "10", "12", "12", "15", "15"] } else { &["15", "15"] };
            assert_eq!(
                (code, got.as_slice()),
                (140, expected.iter().map(|&line| line.to_owned()).collect::<Vec<_>>().as_slice()),
                "{role:?} {option}"
            );
        }
    }
    Ok(())
}

fn drain_holds_the_first_stop_request_back() -> Outcome {
    for role in ROLES {
        let mut running =
            Running::start(&role.jail()?, &["--init", "--verbose", "--drain", "0.5", "node", path(&programs().signals)])?;
        running.ready()?;
        running.send(&[2])?;
        running.says("SIGINT is held back for 500 ms")?;
        // Others pass.
        running.send(&[10])?;
        assert_eq!(running.line()?, "10", "{role:?}");
        assert_eq!(running.line()?, "2", "{role:?}");
        // Only the first.
        running.send(&[15])?;
        let (code, rest, said) = running.end()?;
        assert_eq!((code, rest, said.matches("held back").count()), (0, vec!["15".to_owned()], 1), "{role:?}");
    }
    Ok(())
}

fn a_second_stop_request_cuts_the_draining_short() -> Outcome {
    for role in ROLES {
        let mut running =
            Running::start(&role.jail()?, &["--init", "--verbose", "--drain=3600", "node", path(&programs().signals)])?;
        running.ready()?;
        running.send(&[15])?;
        running.says("SIGTERM is held back")?;
        running.send(&[2])?;
        let (code, rest, _) = running.end()?;
        assert_eq!((code, rest), (0, vec!["15".to_owned()]), "{role:?}");
    }
    Ok(())
}

fn kill_after_kills_what_pays_no_heed() -> Outcome {
    for role in ROLES {
        let running = Running::start(
            &role.jail()?,
            &["--init", "--kill-after=0.3", "node", "sh", "-c", "trap '' INT; echo up; exec sleep 60"],
        )?;
        running.line()?;
        running.send(&[2])?;
        assert_eq!(running.end()?.0, 137, "{role:?}");
        // Counted from the moment it is forwarded.
        let line =
            ["--init", "--verbose", "--drain=0.2", "--kill-after=0.1", "--rewrite=TERM=HUP", "node", path(&programs().signals)];
        let running = Running::start(&role.jail()?, &line)?;
        running.ready()?;
        running.send(&[15])?;
        let (code, rest, said) = running.end()?;
        assert_eq!((code, rest), (137, vec!["1".to_owned()]), "{role:?}: {said}");
    }
    Ok(())
}

fn without_init_its_options_are_refused() -> Outcome {
    let jail = Jail::new()?;
    for option in ["--signal-group", "--rewrite=TERM=QUIT", "--exit-as=1=0", "--grace=1", "--drain=1", "--kill-after=1"] {
        let name = option.split('=').next().unwrap_or_default();
        let ran = jail.run(&[option, "node", "true"])?;
        ran.refused(125, &format!("{name} is given without --init"));
        ran.refused(125, "hint: it tells the process that stays what to do: add --init");
    }
    Ok(())
}

fn dry_run_shows_what_init_will_do() -> Outcome {
    let jail = Jail::new()?;
    let options = [
        "--init",
        "--rewrite=TERM=QUIT",
        "--rewrite=HUP=none",
        "--exit-as=143=0",
        "--drain=1.5",
        "--kill-after=20",
        "--signal-group",
    ];
    let text = jail.run(&[&["--dry-run"], &options[..], &["node", "true"]].concat())?.stdout;
    for line in [
        "init          signals go to the command's process group",
        "rewrite       SIGHUP is dropped",
        "rewrite       SIGTERM is forwarded as SIGQUIT",
        "drain         1500 ms",
        "kill after    20000 ms",
        "grace         5000 ms",
        "exit code     143 becomes 0",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line:?} in {text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&jail.run(&[&["--dry-run=json"], &options[..], &["node", "true"]].concat())?.stdout)?;
    let expected = serde_json::json!({
        "signals_to": "group", "rewrite": { "SIGHUP": null, "SIGTERM": "SIGQUIT" }, "drain_ms": 1500, "kill_after_ms": 20000,
        "grace_ms": 5000, "exit_as": { "143": 0 }
    });
    assert_eq!(json["init"], expected);
    let plain: serde_json::Value = serde_json::from_str(&jail.run(&["--dry-run=json", "node", "true"])?.stdout)?;
    assert!(plain["init"].is_null());
    Ok(())
}
