//! The chores: directories, owners, sockets, all done as root before the switch.

use std::fs;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use crate::cases;
use crate::harness::{Case, Need, Outcome};
use crate::jail::{Jail, owner};

pub fn cases() -> Vec<Case> {
    cases![
        chown_makes_path_and_all_below_the_targets,
        chown_changes_a_link_itself_and_never_follows_it,
        chown_follows_a_link_in_path_only_where_root_owns_it,
        chown_never_leaves_paths_mount,
        chown_writes_nothing_where_all_is_right,
        chown_refuses_a_file_with_several_names_where_hard_links_are_not_protected,
        chown_changes_a_file_with_several_names_where_hard_links_are_protected,
        chown_of_a_read_only_mount_is_an_error_with_the_count_and_the_first_path,
        chown_if_possible_says_so_in_one_warning_and_goes_on,
        chown_goes_on_after_what_it_cant_change_and_no_directory_above_becomes_right,
        chown_policy_on_root_mismatch_skips_a_tree_whose_top_is_right,
        chown_reaches_below_path_max_with_few_descriptors,
        a_long_chown_says_so_in_one_line,
        a_long_chown_shows_progress_on_a_terminal,
        chown_of_one_file_works_as_well,
        chown_of_odd_names_and_kinds_works,
        system_directories_are_refused_however_they_are_reached,
        mkdir_makes_a_directory_of_the_targets_with_its_mode_and_parents_stay_roots,
        mkdir_makes_an_existing_directory_right,
        mkdir_follows_no_link_of_somebody_elses,
        mkdir_runs_before_chown,
        nothing_is_changed_where_the_command_does_not_exist,
    ]
}

const NODE: (u32, u32) = (1000, 1000);

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

fn chown_never_leaves_paths_mount() -> Outcome {
    let jail = Jail::new()?
        .setup("mkdir -p $W/d/bind $W/d/tmp $W/other/sub; touch $W/d/file $W/one")
        .setup("mount --bind $W/other $W/d/bind; mount -t tmpfs -o mode=755,uid=0 none $W/d/tmp; mount --bind $W/one $W/d/file");
    let ran = jail.run(&[
        "--chown",
        &jail.at("d"),
        "node",
        "stat",
        "-c",
        "%u",
        &jail.at("d"),
        &jail.at("d/bind"),
        &jail.at("d/tmp"),
        &jail.at("d/file"),
    ])?;
    assert_eq!(ran.stdout, "1000\n0\n0\n0\n", "a bind mount of the same file system counts as another mount: {ran:?}");
    assert_eq!(owner(jail.work().join("other/sub")), (0, 0));
    // What is mounted can be named.
    let ran = jail.run(&["--chown", &jail.at("d/bind"), "node", "stat", "-c", "%u", &jail.at("d/bind/sub")])?;
    assert_eq!(ran.stdout, "1000\n", "{ran:?}");
    Ok(())
}

fn chown_writes_nothing_where_all_is_right() -> Outcome {
    let jail = Jail::new()?
        .setup(
            "mkdir -p $W/lower/e $W/upper $W/work $W/d; head -c 1000000 /dev/zero >$W/lower/e/big; chown -R 1000:1000 $W/lower",
        )
        .setup("mount -t tmpfs none $W/upper; mkdir $W/upper/u $W/upper/w; chown 1000:1000 $W/upper/u")
        .setup("mount -t overlay -o lowerdir=$W/lower,upperdir=$W/upper/u,workdir=$W/upper/w none $W/d");
    let ran = jail.run(&["--chown", &jail.at("d"), "node", "find", &jail.at("upper/u")])?;
    assert_eq!((ran.code, ran.stdout), (0, format!("{}\n", jail.at("upper/u"))), "nothing is copied up: {}", ran.stderr);
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

const READ_ONLY: &str = "mkdir -p $W/d/e; touch $W/d/e/f; mount --bind $W/d $W/d; mount -o remount,bind,ro $W/d";

fn chown_of_a_read_only_mount_is_an_error_with_the_count_and_the_first_path() -> Outcome {
    let jail = Jail::new()?.setup(READ_ONLY);
    let ran = jail.run(&["--chown", &jail.at("d"), "node", "true"])?;
    let first = jail.at("d/e/f");
    ran.refused(125, &format!("--chown: 1 of 3 entries can't be changed, the first: {first}: fchownat(1000, 1000): EROFS"));
    ran.refused(125, "hint: it is mounted read-only; --chown-if-possible goes on with a warning");
    Ok(())
}

fn chown_if_possible_says_so_in_one_warning_and_goes_on() -> Outcome {
    let jail = Jail::new()?.setup(READ_ONLY);
    let ran = jail.run(&["--chown-if-possible", &jail.at("d"), "node", "id", "-u"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1000\n"));
    assert!(ran.stderr.starts_with("stepdown: warning: --chown") && ran.stderr.lines().count() == 1, "{ran:?}");
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

fn chown_goes_on_after_what_it_cant_change_and_no_directory_above_becomes_right() -> Outcome {
    let jail = Jail::new()?
        .setup("mkdir -p $W/d/stuck/deep $W/d/fine/deep; mount -t tmpfs none $W/d; mkdir -p $W/d/stuck/deep $W/d/fine; touch $W/d/stuck/deep/x $W/d/stuck/y")
        .setup("chattr +i $W/d/stuck/deep/x");
    let names = ["", "stuck", "stuck/deep", "stuck/deep/x", "stuck/y", "fine"].map(|name| jail.at(&format!("d/{name}")));
    let mut line = vec!["--chown-if-possible".to_owned(), jail.at("d"), "node".into(), "stat".into(), "-c".into(), "%u".into()];
    line.extend(names);
    let ran = jail.run(&line)?;
    if ran.stderr.contains("chattr") {
        return Err(Need::Root.missing(format!("needs immutable files on tmpfs: {}", ran.stderr)));
    }
    assert_eq!(ran.stdout, "0\n0\n0\n0\n1000\n1000\n", "{ran:?}");
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

fn chown_reaches_below_path_max_with_few_descriptors() -> Outcome {
    // 400 levels of 20 bytes are twice PATH_MAX; each level has a file and a second directory as well.
    let build = "cd $W; mkdir -p d; cd d; i=0; while [ $i -lt 400 ]; do mkdir aaaaaaaaaaaaaaaaaaaa b; touch b/c f; cd -P aaaaaaaaaaaaaaaaaaaa; i=$((i+1)); done; touch bottom; cd /";
    let jail = Jail::new()?.setup(build).setup("ulimit -n 100");
    let ran = jail.run(&["--chown", &jail.at("d"), "node", "find", &jail.at("d"), "!", "-user", "1000"])?;
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""));
    Ok(())
}

/// Makes each look at an entry take a while.
const SLOWLY: [&str; 7] = ["strace", "-qq", "-o/dev/null", "-e", "trace=fchownat", "-e", "inject=fchownat:delay_enter=800000"];

fn a_long_chown_says_so_in_one_line() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let jail = Jail::new()?.setup("mkdir -p $W/d; touch $W/d/a $W/d/b").through(&SLOWLY);
    let ran = jail.run(&["--chown", &jail.at("d"), "node", "true"])?;
    let told = format!("stepdown: --chown {}: 3 entries looked at, 3 changed in ", jail.at("d"));
    assert!(ran.code == 0 && ran.stderr.starts_with(&told) && ran.stderr.ends_with(" s\n"), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1);
    Ok(())
}

fn a_long_chown_shows_progress_on_a_terminal() -> Outcome {
    Need::Strace.programs(&["strace", "script"])?;
    let jail = Jail::new()?.setup("mkdir -p $W/d; cd $W/d; seq 1 4000 | xargs touch; chown 1000:1000 *; chown 0 1 2; cd /");
    let jail = jail.through(&["strace", "-qq", "-o/dev/null", "-e", "trace=statx", "-e", "inject=statx:delay_enter=800"]);
    let said = crate::command::on_a_terminal(&jail.command(&["--chown", &jail.at("d"), "node", "true"]))?;
    assert!(said.contains(" entries looked at, ") && said.contains("/s "), "{said:?}");
    assert!(said.contains("4001 entries looked at, 3 changed in "), "{said:?}");
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

fn chown_of_odd_names_and_kinds_works() -> Outcome {
    use std::os::unix::ffi::OsStrExt;
    let jail = Jail::new()?.setup("mknod $W/d/null c 1 3 || true");
    let top = jail.work().join("d");
    fs::create_dir(&top)?;
    let names: [&[u8]; 5] = [b"new\nline", b"\xff\xfe", b"-rf", b"  ", &[b'x'; 255]];
    for name in names {
        fs::write(top.join(std::ffi::OsStr::from_bytes(name)), "")?;
    }
    nix::unistd::mkfifo(&top.join("fifo"), nix::sys::stat::Mode::S_IRWXU)?;
    drop(UnixListener::bind(top.join("socket"))?);
    assert_eq!(jail.run(&["--chown", &jail.at("d"), "node", "true"])?.code, 0);
    let mut count = 0;
    for entry in fs::read_dir(&top)? {
        let facts = entry?.metadata()?;
        assert_eq!((facts.uid(), facts.gid()), NODE);
        count += 1;
    }
    assert!(count >= 7);
    Ok(())
}

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
