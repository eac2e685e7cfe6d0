//! A kernel, or a filter that a container engine put there, may claim to confine and do nothing: it is found out.

use super::landlock;
use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran, programs};

pub fn cases() -> Vec<Case> {
    cases![
        rules_that_are_claimed_to_be_in_force_and_are_not_start_no_command,
        filters_that_are_claimed_to_be_loaded_and_are_not_start_no_command,
        a_filter_of_an_engines_that_lies_starts_no_confined_command,
        what_is_tried_leaves_nothing_behind_and_refuses_nothing_else,
        a_confined_command_may_start_another_stepdown_that_confines,
    ]
}

const RULES: [&[&str]; 8] = [
    &["--scope"],
    &["--ro", "/", "--rox", "/usr"],
    &["--rox", "/"],
    &["--rw", "/", "--rox", "/usr"],
    &["--rwx", "/"],
    &["--rox", "/usr", "--rox", "/lib", "--rox", "/lib64"],
    &["--bind-tcp", "80"],
    &["--connect-tcp", "0-443"],
];

/// Every call but this one is made as it should be; this one says 0 and does nothing, from the `when`th on.
fn lied_to(jail: Jail, call: &str, when: &str, line: &[&str]) -> Result<Ran, Stop> {
    Need::Strace.programs(&["strace", "ip"])?;
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:retval=0:when={when}"));
    jail.through(&["strace", "-f", "-qq", "-o/dev/null", "-e", &trace, "-e", &inject]).run(line)
}

#[track_caller]
fn found_out(ran: &Ran, what: &str) {
    assert_eq!(ran.stdout, "", "{what}: {ran:?}");
    ran.refused(125, "the command is not confined as planned, so it is not started");
}

fn rules_that_are_claimed_to_be_in_force_and_are_not_start_no_command() -> Outcome {
    landlock(6)?;
    for rules in RULES {
        for init in [&[][..], &["--init"]] {
            let line = [init, rules, &["node", "/usr/bin/id", "-u"]].concat();
            let jail = Jail::new()?.network();
            let ran = jail.run(&line)?;
            assert_eq!((ran.code, ran.stdout.as_str()), (0, "1000\n"), "{line:?}: {ran:?}");
            found_out(&lied_to(jail, "landlock_restrict_self", "1+", &line)?, &line.join(" "));
        }
    }
    Ok(())
}

/// Each filter of a command line by itself: the guards of `--bind-tcp` before the profile.
fn filters_that_are_claimed_to_be_loaded_and_are_not_start_no_command() -> Outcome {
    let profile = "echo '{\"defaultAction\": \"SCMP_ACT_ALLOW\"}' >$W/all.json";
    let jail = || Ok::<Jail, Stop>(Jail::new()?.network().setup(profile));
    let all = format!("--seccomp={}", jail()?.at("all.json"));
    // The first call asks whether there are filters at all; then one asks for a free mark, one loads, one reads the mark.
    for (filters, loads) in [(&[][..], &["3+"][..]), (&["--bind-tcp=80"], &["3", "6", "3+"])] {
        for (seccomp, init) in
            [("--seccomp=service", "--init"), ("--seccomp=service", "--verbose"), (&all, "--init"), (&all, "--verbose")]
        {
            for when in loads {
                let jail = jail()?;
                let seccomp = if seccomp == all { format!("--seccomp={}", jail.at("all.json")) } else { seccomp.to_owned() };
                let line = [filters, &[&seccomp, init, "node", "/usr/bin/id", "-u"]].concat();
                let ran = jail.run(&line)?;
                assert_eq!((ran.code, ran.stdout.as_str()), (0, "1000\n"), "{line:?}: {ran:?}");
                found_out(&lied_to(jail, "seccomp", when, &line)?, &format!("{} {when}", line.join(" ")));
            }
        }
    }
    Ok(())
}

/// The same without strace: `errnoRet: 0` in a profile is all that it takes.
fn a_filter_of_an_engines_that_lies_starts_no_confined_command() -> Outcome {
    landlock(6)?;
    for (call, confined) in [("landlock_restrict_self", &RULES[..]), ("seccomp", &[&["--seccomp=service"]])] {
        for rules in confined {
            let jail = Jail::new()?.network().setup(&format!(
                "echo '{{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": \
                 [{{\"names\": [\"{call}\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 0}}]}}' >$W/lie.json"
            ));
            let engine = programs().stepdown.display().to_string();
            let keeps = ["--keep-cap", "NET_BIND_SERVICE", "--seccomp", &jail.at("lie.json"), "1000:1000", &engine];
            let ran = jail.run(&[&keeps, *rules, &["1000:1000", "/usr/bin/id", "-u"]].concat())?;
            assert_eq!(ran.stdout, "", "{rules:?}: {ran:?}");
            // Of filters that lie so plainly it is seen before that there are none.
            let said = if call == "seccomp" { "no filters of system calls" } else { "not confined as planned" };
            ran.refused(125, said);
        }
    }
    Ok(())
}

/// Where nothing can be tried, because there is no directory to write to, the command runs all the same.
fn what_is_tried_leaves_nothing_behind_and_refuses_nothing_else() -> Outcome {
    landlock(6)?;
    let jail = || Ok::<Jail, Stop>(Jail::new()?.network());
    let read_only = "for d in /var/tmp /dev/shm /dev/mqueue; do [ ! -d $d ] || mount -t tmpfs -o ro none $d; done; mount -o remount,bind,ro /tmp || true";
    for (jail, rules) in [(jail()?.setup(read_only), &["--rox", "/"][..]), (jail()?, &["--rwx", "/", "--scope"])] {
        let list = "ls -A / /var/tmp /dev/shm | grep -c stepdown-; cat /proc/net/unix | grep -c stepdown-; id -u";
        let ran = jail.run(&[rules, &["node", "sh", "-c", list]].concat())?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "0\n0\n1000\n"), "{rules:?}: {ran:?}");
    }
    Ok(())
}

fn a_confined_command_may_start_another_stepdown_that_confines() -> Outcome {
    landlock(6)?;
    let jail = Jail::new()?.network();
    let inner = programs().stepdown.display().to_string();
    let once = ["--scope", "--rwx", "/", "--bind-tcp", "8080", "--seccomp", "service", "1000:1000"];
    let line = [&once[..], &[&inner], &once, &[&inner], &once, &["/usr/bin/id", "-u"]].concat();
    let ran = jail.run(&line)?;
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "1000\n", ""), "{ran:?}");
    // The inner one's own is tried, and not the outer one's.
    let Ran { code, stdout, .. } = lied_to(jail, "seccomp", "17+", &line)?;
    assert_eq!((code, stdout.as_str()), (125, ""));
    Ok(())
}
