//! The chores: what they refuse, the directories, and the order of all.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::cases;
use crate::harness::{Case, Outcome};
use crate::jail::{Jail, owner};

pub fn cases() -> Vec<Case> {
    cases![
        system_directories_are_refused_however_they_are_reached,
        mkdir_makes_a_directory_of_the_targets_with_its_mode_and_parents_stay_roots,
        mkdir_makes_an_existing_directory_right,
        mkdir_follows_no_link_of_somebody_elses,
        mkdir_runs_before_chown,
        nothing_is_changed_where_the_command_does_not_exist,
    ]
}

const NODE: (u32, u32) = (1000, 1000);

fn system_directories_are_refused_however_they_are_reached() -> Outcome {
    let jail = Jail::new()?
        .setup("ln -sfn /etc $W/etc; ln -sfn / $W/root; ln -sfn . $W/dot; mkdir -p $W/bound; mount --bind /usr $W/bound");
    for path in ["/", "/etc", "/usr/", "/proc/self", "/sys/kernel", "/dev", "/var/../etc", "//lib"] {
        jail.run(&["--chown", path, "node", "true"])?.refused(125, "belongs to the system");
        jail.run(&["--mkdir", path, "node", "true"])?.refused(125, "belongs to the system");
    }
    for name in ["etc", "root", "bound", "root/usr/bin"] {
        jail.run(&["--chown", &jail.at(name), "node", "true"])?.refused(125, "belongs to the system");
        jail.run(&["--mkdir", &jail.at(name), "node", "true"])?.refused(125, "belongs to the system");
    }
    assert_eq!(owner(jail.work()), (0, 0));
    assert_eq!(jail.run(&["--chown", &jail.at("dot"), "node", "true"])?.code, 0, "a link to '.' leads to its directory");
    assert_eq!(owner(jail.work()), NODE);
    Ok(())
}

fn mkdir_makes_a_directory_of_the_targets_with_its_mode_and_parents_stay_roots() -> Outcome {
    let jail = Jail::new()?.setup("umask 077");
    let ran = jail.run(&["--mkdir", &jail.at("a/b/c"), "--mkdir", &jail.at("a/x:2750"), "node:staff", "true"])?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let facts = |name: &str| fs::metadata(jail.work().join(name)).map(|facts| (facts.uid(), facts.gid(), facts.mode() & 0o7777));
    assert_eq!(facts("a/b/c")?, (1000, 50, 0o755));
    assert_eq!(facts("a/x")?, (1000, 50, 0o2750));
    for parent in ["a", "a/b"] {
        assert_eq!(facts(parent)?, (0, 0, 0o755), "others may pass through {parent}, whatever the umask");
    }
    Ok(())
}

fn mkdir_makes_an_existing_directory_right() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/d; touch $W/d/f $W/file; chmod 700 $W/d; ln -sfn d $W/link");
    assert_eq!(jail.run(&["--mkdir", &jail.at("d:770"), "node", "true"])?.code, 0);
    let facts = fs::metadata(jail.work().join("d"))?;
    assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o7777), (1000, 1000, 0o770));
    assert_eq!(owner(jail.work().join("d/f")), (0, 0), "what is in it is --chown's");
    assert_eq!(jail.run(&["--mkdir", &jail.at("link"), "games", "true"])?.code, 0);
    assert_eq!(owner(jail.work().join("d")), (5, 60));
    jail.run(&["--mkdir", &jail.at("file"), "node", "true"])?.refused(125, "it exists and is no directory");
    jail.run(&["--mkdir", &jail.at("file/below"), "node", "true"])?.refused(125, "ENOTDIR");
    Ok(())
}

fn mkdir_follows_no_link_of_somebody_elses() -> Outcome {
    let jail =
        Jail::new()?.setup("mkdir -p $W/out $W/theirs; ln -sfn ../out $W/theirs/way; chown -h 1000 $W/theirs $W/theirs/way");
    jail.run(&["--mkdir", &jail.at("theirs/way/new"), "node", "true"])?.refused(125, "is not followed");
    jail.run(&["--mkdir", &jail.at("theirs/way"), "node", "true"])?.refused(125, "is not followed");
    assert_eq!(fs::read_dir(jail.work().join("out"))?.count(), 0);
    Ok(())
}

fn mkdir_runs_before_chown() -> Outcome {
    let jail = Jail::new()?;
    let ran = jail.run(&["--chown", &jail.at("a"), "--mkdir", &jail.at("a/b:700"), "node", "true"])?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!((owner(jail.work().join("a")), owner(jail.work().join("a/b"))), (NODE, NODE));
    Ok(())
}

fn nothing_is_changed_where_the_command_does_not_exist() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/d");
    jail.run(&["--mkdir", &jail.at("new"), "--chown", &jail.at("d"), "--listen", &jail.at("s"), "node", "nosuch"])?
        .refused(127, "COMMAND 'nosuch' is not found");
    jail.run(&["--chown", &jail.at("d"), "--chown", &jail.at("none"), "node", "true"])?.refused(125, "ENOENT");
    jail.run(&["--chown", &jail.at("d"), "--chdir", &jail.at("none"), "node", "true"])?.refused(125, "--chdir");
    jail.run(&["--dry-run", "--mkdir", &jail.at("new"), "--chown", &jail.at("d"), "node", "true"])?;
    assert_eq!(owner(jail.work().join("d")), (0, 0));
    assert_eq!(fs::read_dir(jail.work())?.count(), 1);
    Ok(())
}
