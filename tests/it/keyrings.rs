//! Session keyrings, by the real keyctl(1).

use std::fs;

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, programs};

pub fn cases() -> Vec<Case> {
    cases![
        a_key_of_roots_session_is_out_of_reach_when_ids_change,
        the_new_keyring_is_the_targets,
        keep_keyring_keeps_it,
        who_is_the_target_already_keeps_his_own,
        a_call_that_is_forbidden_for_the_command_as_well_is_no_error,
        any_other_answer_ends_the_run,
    ]
}

/// A jail in which root has a new session keyring with a key in it.
fn jail() -> Result<Jail, Stop> {
    Need::Root.programs(&["keyctl"])?;
    if stepdown::sys::session_keyring() == Err(nix::errno::Errno::ENOSYS) {
        return Err(Need::Root.missing("needs a kernel with keyrings"));
    }
    const ADDED: &str = "keyctl add user stepdown-test hush @s >/dev/null; exec \"$@\"";
    Ok(Jail::new()?.through(&["keyctl", "session", "-", "sh", "-c", ADDED, "sh"]))
}

const PRINT: [&str; 3] = ["keyctl", "print", "%user:stepdown-test"];

fn a_key_of_roots_session_is_out_of_reach_when_ids_change() -> Outcome {
    // Anew by keyctl session alone it is there, or this would prove nothing.
    let there = Jail::instead(jail()?, std::path::Path::new("/usr/bin/env")).run(&PRINT)?;
    assert_eq!((there.code, there.stdout.as_str()), (0, "hush\n"), "{there:?}");
    for options in
        [&["node"][..], &["1000:1000"], &["0:1000"], &["--init", "node"], &["--allow-new-privs", "--keep-cap=KILL", "node"]]
    {
        let ran = jail()?.run(&[options, &PRINT].concat())?;
        assert!(ran.code != 0 && ran.code < 125 && !ran.stdout.contains("hush"), "{options:?} {ran:?}");
        let ran = jail()?.run(&[options, &["keyctl", "rdescribe", "@s"]].concat())?;
        assert!(ran.code == 0 && !ran.stdout.contains(";0;0;"), "{options:?} {ran:?}");
    }
    Ok(())
}

fn the_new_keyring_is_the_targets() -> Outcome {
    let ran = jail()?.run(&["node", "keyctl", "rdescribe", "@s"])?;
    assert!(ran.code == 0 && ran.stdout.starts_with("keyring;1000;1000;") && ran.stdout.trim_end().ends_with(";_ses"), "{ran:?}");
    let own = "keyctl add user own mine @s >/dev/null && keyctl print %user:own";
    assert_eq!(jail()?.run(&["node", "sh", "-c", own])?.stdout, "mine\n");
    Ok(())
}

fn keep_keyring_keeps_it() -> Outcome {
    for options in [&["--keep-keyring", "node"][..], &["--init", "--keep-keyring", "node"]] {
        let ran = jail()?.run(&[options, &PRINT].concat())?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "hush\n"), "{options:?} {ran:?}");
    }
    let told = jail()?.run(&["--dry-run", "--keep-keyring", "node", "true"])?;
    assert!(told.stdout.contains("keyring       the session keyring as found\n"), "{told:?}");
    let told = jail()?.run(&["--dry-run=json", "--keep-keyring", "node", "true"])?;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&told.stdout)?["keyring"], "as-found");
    Ok(())
}

fn who_is_the_target_already_keeps_his_own() -> Outcome {
    let jail = jail()?.through(&["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]);
    assert_eq!(jail.run(&[&["node"][..], &PRINT].concat())?.stdout, "hush\n");
    Ok(())
}

/// A container engine's profile in which keyctl(2), or one command of it, is answered with `errnoRet`.
fn answered(jail: Jail, errno: i32, command: Option<u32>) -> Result<Jail, Stop> {
    let profile = jail.at("profile.json");
    let arguments: Vec<serde_json::Value> =
        command.iter().map(|value| serde_json::json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" })).collect();
    let entry = serde_json::json!({ "names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": arguments });
    fs::write(&profile, serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry] }).to_string())?;
    let stepdown = programs().stepdown.display().to_string();
    Ok(jail.through(&[&stepdown, "--keep-cap=SETUID,SETGID,SETPCAP", "--seccomp", &profile, "root", "--"]))
}

fn a_call_that_is_forbidden_for_the_command_as_well_is_no_error() -> Outcome {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let ran = answered(jail()?, errno, None)?.run(&["node", "sh", "-c", "id -u; keyctl print %user:stepdown-test"])?;
        assert_eq!((ran.code, ran.stdout.as_str()), (1, "1000\n"), "{ran:?}");
    }
    Ok(())
}

fn any_other_answer_ends_the_run() -> Outcome {
    const JOIN: u32 = 1;
    const CALL: &str = "keyctl(KEYCTL_JOIN_SESSION_KEYRING): ";
    for (errno, command) in [
        (0, None),
        (0, Some(JOIN)),
        (libc::EPERM, Some(JOIN)),
        (libc::ENOSYS, Some(JOIN)),
        (libc::EDQUOT, None),
        (libc::ENOMEM, None),
        (libc::EACCES, None),
    ] {
        let ran = answered(jail()?, errno, command)?.run(&["node", "true"])?;
        // keyctl(1) says on stderr what it has joined.
        assert_eq!(ran.code, 125, "{ran:?}");
        for said in [CALL, "; --keep-keyring leaves the session keyring as it is\n"] {
            assert!(ran.stderr.contains(said), "{errno} {command:?} {ran:?}");
        }
        assert_eq!(answered(jail()?, errno, command)?.run(&["--keep-keyring", "node", "true"])?.code, 0);
    }
    Ok(())
}
