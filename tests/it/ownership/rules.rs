//! What `--chown` changes, what it leaves alone, and what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::NODE;
use crate::cases;
use crate::harness::{Case, Need, Outcome};
use crate::jail::{Jail, owner};

pub fn cases() -> Vec<Case> {
    cases![
        chown_makes_path_and_all_below_the_targets,
        chown_changes_a_link_itself_and_never_follows_it,
        chown_follows_a_link_in_path_only_where_root_owns_it,
        chown_if_possible_says_so_in_one_warning_and_goes_on,
        a_chown_that_fails_names_the_option_that_was_typed,
        chown_policy_on_root_mismatch_skips_a_tree_whose_top_is_right,
        chown_of_one_file_works_as_well,
        a_second_start_without_cap_dac_read_search_says_what_is_missing_for_closed_directories,
        chown_refuses_a_file_with_several_names_where_hard_links_are_not_protected,
        chown_changes_a_file_with_several_names_where_hard_links_are_protected,
    ]
}

fn chown_makes_path_and_all_below_the_targets() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/d/e/f; touch $W/d/a $W/d/e/b; chown 5:60 $W/d/e/b; chown 1000:60 $W/d/a");
    let ran = jail.run(&["--chown", &jail.at("d"), "node", "true"])?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    for name in ["d", "d/a", "d/e", "d/e/b", "d/e/f"] {
        assert_eq!(owner(jail.work().join(name)), NODE, "{name}");
    }
    assert_eq!(owner(jail.work()), (0, 0));
    Ok(())
}

fn chown_changes_a_link_itself_and_never_follows_it() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/d $W/out/sub; touch $W/out/file; ln -sfn ../out $W/d/dir; ln -sfn ../out/file $W/d/file; ln -sfn nowhere $W/d/dangling");
    assert_eq!(jail.run(&["--chown", &jail.at("d"), "node", "true"])?.code, 0);
    for name in ["d/dir", "d/file", "d/dangling"] {
        assert_eq!(owner(jail.work().join(name)), NODE, "{name}");
    }
    for name in ["out", "out/file", "out/sub"] {
        assert_eq!(owner(jail.work().join(name)), (0, 0), "{name}");
    }
    Ok(())
}

fn chown_follows_a_link_in_path_only_where_root_owns_it() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/real/d $W/theirs; ln -sfn real $W/link; ln -sfn ../real $W/theirs/link; chown -h 1000 $W/theirs $W/theirs/link");
    assert_eq!(jail.run(&["--chown", &jail.at("link/d"), "node", "true"])?.code, 0);
    assert_eq!(owner(jail.work().join("real/d")), NODE);
    jail.run(&["--chown", &jail.at("theirs/link"), "node", "true"])?.refused(125, "is not followed: it belongs to uid 1000");
    assert_eq!(owner(jail.work().join("real")), (0, 0));
    Ok(())
}

const READ_ONLY: &str = "mkdir -p $W/d/e; touch $W/d/e/f; mount --bind $W/d $W/d; mount -o remount,bind,ro $W/d";

fn chown_if_possible_says_so_in_one_warning_and_goes_on() -> Outcome {
    let jail = Jail::new()?.setup(READ_ONLY);
    let ran = jail.run(&["--chown-if-possible", &jail.at("d"), "node", "id", "-u"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1000\n"));
    assert!(
        ran.stderr.starts_with("stepdown: warning: --chown-if-possible: 1 of 3 entries") && ran.stderr.lines().count() == 1,
        "{ran:?}"
    );
    let ran = jail.run(&["--chown-if-possible", &jail.at("none"), "node", "id", "-u"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1000\n"));
    assert!(ran.stderr.starts_with("stepdown: warning: --chown-if-possible") && ran.stderr.contains("ENOENT"), "{ran:?}");
    let jail =
        Jail::new()?.setup("mkdir -p $W/d; chown 5 $W/d").through(&["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]);
    jail.run(&["--chown", &jail.at("d"), "node", "true"])?.refused(125, "EPERM");
    assert_eq!(jail.run(&["--chown-if-possible", &jail.at("d"), "node", "true"])?.code, 0);
    assert_eq!(
        jail.run(&["--if-root", "--chown", &jail.at("d"), "games", "true"])?.code,
        0,
        "who may not switch may not change owners"
    );
    Ok(())
}

/// Whatever fails, and whoever asked for a warning: in a walk, before it, at a file, at a name, at a name of the system's.
fn a_chown_that_fails_names_the_option_that_was_typed() -> Outcome {
    let furnish = |jail: Jail| {
        jail.setup(READ_ONLY)
            .setup("mkdir -p $W/closed; chmod 700 $W/closed; chown 5:5 $W/closed; echo >$W/mine; touch $W/two; chown 6:6 $W/two")
            .setup("mkdir -p $W/theirs; ln -sfn $W $W/theirs/link; chown -h 5:5 $W/theirs $W/theirs/link")
    };
    let few = ["setpriv", "--bounding-set=-all,+setuid,+setgid", "--inh-caps=-all"];
    let cannot = ["setpriv", "--reuid=5", "--regid=5", "--clear-groups"];
    for option in ["--chown", "--chown-if-possible"] {
        let jails = [
            (furnish(Jail::new()?), &[][..]),
            (furnish(Jail::new()?).through(&few), &[]),
            (furnish(Jail::new()?).through(&cannot), &["--if-root"]),
        ];
        for (jail, front) in jails {
            let paths = ["d", "d/e/f", "closed", "two", "mine/below", "none", "theirs/link/d"].map(|name| jail.at(name));
            for path in paths.iter().map(String::as_str).chain(["/etc", "/proc/self"]) {
                let ran = jail.run(&[front, &[option, path, "node", "true"]].concat())?;
                let said = ran.stderr.replace("--chown-if-possible goes on with a warning", "");
                let other = if option == "--chown" { "--chown-if-possible" } else { "--chown " };
                let named = said.is_empty() || [" ", ":"].iter().any(|end| said.contains(&format!("{option}{end}")));
                assert!(named && !said.contains(other) && !said.contains(&other.replace(' ', ":")), "{option} {path}: {ran:?}");
                assert!(!said.is_empty() || ran.code == 0, "{option} {path}: {ran:?}");
            }
        }
    }
    Ok(())
}

fn chown_policy_on_root_mismatch_skips_a_tree_whose_top_is_right() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/d; touch $W/d/a; chown 1000:1000 $W/d; chown 0:0 $W/d/a");
    assert_eq!(jail.run(&["--chown-policy=on-root-mismatch", "--chown", &jail.at("d"), "node", "true"])?.code, 0);
    assert_eq!(owner(jail.work().join("d/a")), (0, 0));
    assert_eq!(jail.run(&["--chown-policy=always", "--chown", &jail.at("d"), "node", "true"])?.code, 0);
    assert_eq!(owner(jail.work().join("d/a")), NODE);
    let jail = Jail::new()?.setup("mkdir -p $W/d; touch $W/d/a; chown 1000:0 $W/d");
    assert_eq!(jail.run(&["--chown-policy=on-root-mismatch", "--chown", &jail.at("d"), "node", "true"])?.code, 0);
    assert_eq!(owner(jail.work().join("d/a")), NODE);
    Ok(())
}

/// What `--cap-drop ALL --cap-add CHOWN,SETUID,SETGID` leaves.
const FEW: [&str; 3] = ["setpriv", "--bounding-set=-all,+chown,+setuid,+setgid", "--inh-caps=-all"];

fn a_second_start_without_cap_dac_read_search_says_what_is_missing_for_closed_directories() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/d").through(&FEW);
    let tree = jail.at("d");
    // The service makes a directory that is closed to all but itself, as PostgreSQL does.
    let service = format!("mkdir -m 700 {tree}/a {tree}/b && touch {tree}/a/f && echo served");
    let first = jail.run(&["--chown", &tree, "node", "sh", "-c", &service])?;
    assert_eq!((first.code, first.stdout.as_str()), (0, "served\n"), "{first:?}");
    let second = jail.run(&["--chown", &tree, "node", "echo", "served"])?;
    second.refused(125, "--chown: 2 of 3 entries can't be changed, the first: ");
    second.refused(125, ": open: EACCES: Permission denied\nstepdown: hint: CAP_DAC_READ_SEARCH is missing to look into it");
    assert_eq!(second.stdout, "");
    // What the hint says helps, and so does to look no further than the top, or to go on with a warning.
    let read = "--bounding-set=-all,+chown,+setuid,+setgid,+dac_read_search";
    let mended = Jail::new()?.through(&[FEW[0], read, FEW[2]]).setup(&format!("mount --bind {tree} $W"));
    for (jail, options) in [
        (&mended, ["--chown", &mended.work().display().to_string()]),
        (&jail, ["--chown-policy=on-root-mismatch", &format!("--chown={tree}")]),
    ] {
        let ran = jail.run(&[&options[..], &["node", "echo", "served"]].concat())?;
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "served\n", ""), "{options:?}: {ran:?}");
    }
    let ran = jail.run(&["--chown-if-possible", &tree, "node", "echo", "served"])?;
    assert!(
        ran.code == 0 && ran.stdout == "served\n" && ran.stderr.starts_with("stepdown: warning: --chown-if-possible: 2 of 3"),
        "{ran:?}"
    );
    Ok(())
}

fn chown_of_one_file_works_as_well() -> Outcome {
    let jail = Jail::new()?.setup("touch $W/file; [ -e $W/fifo ] || mkfifo $W/fifo");
    for name in ["file", "fifo"] {
        assert_eq!(jail.run(&["--chown", &jail.at(name), "node", "true"])?.code, 0);
        assert_eq!(owner(jail.work().join(name)), NODE);
    }
    Ok(())
}

const UNPROTECTED: &str = "mkdir -p $W/fake; echo 0 >$W/fake/protected_hardlinks; mount --bind $W/fake /proc/sys/fs";

fn chown_refuses_a_file_with_several_names_where_hard_links_are_not_protected() -> Outcome {
    let jail =
        Jail::new()?.setup(UNPROTECTED).setup("mkdir -p $W/d; echo secret >$W/shadow; ln -f $W/shadow $W/d/x; touch $W/d/own");
    let ran = jail.run(&["--chown", &jail.at("d"), "node", "true"])?;
    ran.refused(125, "--chown: 1 of 3 entries can't be changed, the first");
    ran.refused(125, "d/x: it has 2 names, and this kernel does not protect hard links");
    assert_eq!(owner(jail.work().join("shadow")), (0, 0));
    assert_eq!(owner(jail.work().join("d/own")), NODE, "a single name is nobody else's");
    assert_eq!(owner(jail.work().join("d")), (0, 0), "no directory is right while something below it is wrong");
    // Without /proc the kernel's setting can't be known, and one that is right already is no error.
    let jail = Jail::new()?.setup("mkdir -p $W/d; touch $W/a; ln -f $W/a $W/d/x; mount -t tmpfs none /proc");
    jail.run(&["--chown", &jail.at("d"), "node", "true"])?.refused(125, "it has 2 names");
    fs::set_permissions(jail.work(), fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::lchown(jail.work().join("a"), Some(1000), Some(1000))?;
    assert_eq!(jail.run(&["--chown", &jail.at("d"), "node", "true"])?.code, 0);
    Ok(())
}

fn chown_changes_a_file_with_several_names_where_hard_links_are_protected() -> Outcome {
    if fs::read_to_string("/proc/sys/fs/protected_hardlinks")?.trim() != "1" {
        return Err(Need::Root.missing("needs fs.protected_hardlinks=1"));
    }
    let jail = Jail::new()?.setup("mkdir -p $W/d; touch $W/d/a; ln -f $W/d/a $W/d/b");
    assert_eq!(jail.run(&["--chown", &jail.at("d"), "node", "true"])?.code, 0);
    assert_eq!(owner(jail.work().join("d/b")), NODE);
    Ok(())
}
