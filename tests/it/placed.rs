//! Who could have put it there: "a name says something only where nobody but root could have put it there". The same for
//! every path that is followed or opened while privileged.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, owner, programs};

pub fn cases() -> Vec<Case> {
    cases![
        roots_own_link_is_not_followed_where_others_could_have_moved_it,
        a_directory_or_a_file_of_roots_is_not_taken_where_others_could_have_moved_it,
        what_is_the_targets_already_and_what_is_mounted_is_taken_anywhere,
        a_starter_with_capabilities_does_not_count_as_itself,
        a_starter_without_capabilities_counts_as_itself,
        a_secret_that_others_could_have_moved_there_is_not_read,
        a_user_is_not_who_somebody_else_could_choose,
        mkdir_changes_the_mode_only_of_what_it_has_just_made,
        mkdir_works_in_a_directory_of_the_targets_and_after_an_interruption,
        a_link_of_procfs_leads_where_the_kernel_takes_it_or_nowhere,
        the_kernels_own_file_systems_are_refused_however_they_are_spelled_and_wherever_they_are_mounted,
        a_hard_link_that_its_writers_could_have_made_is_refused,
    ]
}

/// An ordinary jail, empty at each run.
fn fresh() -> Result<Jail, Stop> {
    Ok(Jail::new()?.setup("rm -rf $W/*; cd $W"))
}

/// A directory that gid 2000 may write to, too, with the name `data` in it that a line means.
const SHARED: &str = "mkdir $W/app $W/app/data $W/etcapp; echo >$W/etcapp/conf; ln -s $W/etcapp $W/app/config; \
                      mkdir -m 700 $W/app/keys; echo >$W/app/keys/key; echo secret >$W/app/file; chmod 600 $W/app/file; \
                      chown 0:2000 $W/app; chmod 2775 $W/app";

/// Puts another name in the place of `data`, as a member of the group.
fn moved(name: &str) -> String {
    format!("setpriv --reuid=7 --regid=2000 --clear-groups sh -c 'cd '$W'/app; mv data x; mv {name} data'")
}

fn roots_own_link_is_not_followed_where_others_could_have_moved_it() -> Outcome {
    let jail = fresh()?.setup(SHARED).setup(&moved("config"));
    let data = jail.at("app/data");
    let said = "the symbolic link 'data' is not followed: others than root may write to its directory (mode 2775, gid 2000)";
    for option in ["--chown", "--mkdir", "--ro", "--open"] {
        jail.run(&[option, &data, "1000:1000", "true"])?.refused(125, said);
    }
    jail.run(&["--secret", &format!("K={data}/conf"), "1000:1000", "true"])?.refused(125, said);
    jail.run(&["--seccomp", &format!("{data}/conf"), "1000:1000", "true"])?.refused(125, said);
    jail.run(&["--listen", &format!("{data}/s"), "1000:1000", "true"])?.refused(125, said);
    jail.run(&[format!("@{data}").as_str(), "true"])?.refused(125, said);
    assert_eq!((owner(jail.at("etcapp")), owner(jail.at("etcapp/conf"))), ((0, 0), (0, 0)));
    // Nor behind such a name, where the link itself stands in a directory that root alone may write to.
    let jail = fresh()?.setup(SHARED).setup("ln -s $W/etcapp $W/app/keys/way; chmod 755 $W/app/keys").setup(&moved("keys"));
    jail.run(&["--chown", &jail.at("app/data/way"), "1000:1000", "true"])?
        .refused(125, "others than root may have put a directory on the way to it there");
    // The sticky bit helps for root's own names.
    let jail = fresh()?.setup("mkdir -m 1777 $W/tmp; mkdir $W/real; ln -s $W/real $W/tmp/link");
    assert_eq!(jail.run(&["--chown", &jail.at("tmp/link"), "1000:1000", "true"])?.code, 0);
    assert_eq!(owner(jail.at("real")), (1000, 1000));
    Ok(())
}

fn a_directory_or_a_file_of_roots_is_not_taken_where_others_could_have_moved_it() -> Outcome {
    for name in ["keys", "file"] {
        let jail = fresh()?.setup(SHARED).setup(&moved(name));
        let data = jail.at("app/data");
        let said = "it belongs to uid 0, and others than root may have put it there in place of what was meant";
        jail.run(&["--chown", &data, "1000:1000", "true"])?.refused(125, said);
        assert_eq!((owner(jail.at("app/data")), owner(jail.at("app"))), ((0, 0), (0, 2000)), "{name}");
    }
    let jail = fresh()?.setup(SHARED).setup(&moved("keys"));
    jail.run(&["--mkdir", &jail.at("app/data"), "1000:1000", "true"])?.refused(125, "it belongs to uid 0");
    jail.run(&["--mkdir", &jail.at("app/data/new"), "1000:1000", "true"])?.refused(125, "its directory: it belongs to uid 0");
    jail.run(&["--listen", &jail.at("app/data/s"), "1000:1000", "true"])?.refused(125, "its directory: it belongs to uid 0");
    let facts = fs::metadata(jail.at("app/data"))?;
    assert_eq!((facts.mode() & 0o7777, fs::read_dir(jail.at("app/data"))?.count()), (0o700, 1));
    jail.run(&["--chown-if-possible", &jail.at("app/data"), "1000:1000", "true"])?.refused(125, "it belongs to uid 0");
    assert_eq!(owner(jail.at("app/data/key")), (0, 0));
    // Where the target itself is the one who could have.
    let jail =
        fresh()?.setup("mkdir -p $W/home/keys; chmod 700 $W/home/keys; chown 1000:1000 $W/home; mv $W/home/keys $W/home/data");
    jail.run(&["--chown", &jail.at("home/data"), "1000:1000", "true"])?
        .refused(125, "it belongs to uid 0, and uid 1000 may have put it there");
    assert_eq!(owner(jail.at("home/data")), (0, 0));
    // An entry of an ACL that lets somebody write is as good as the group's bit.
    Need::Root.programs(&["setfacl"])?;
    let jail = fresh()?.setup("mkdir -p $W/acl/data; setfacl -m u:2000:rwx $W/acl || exit 1");
    jail.run(&["--chown", &jail.at("acl/data"), "1000:1000", "true"])?.refused(125, "others than root may have put it there");
    Ok(())
}

fn what_is_the_targets_already_and_what_is_mounted_is_taken_anywhere() -> Outcome {
    let jail = fresh()?.setup("mkdir -p $W/home/cache $W/home/data $W/volume; touch $W/home/cache/f $W/volume/f; chown 1000:1000 $W/home $W/home/cache; mount --bind $W/volume $W/home/data");
    for (name, below) in [("home/cache", "home/cache/f"), ("home/data", "volume/f")] {
        let ran = jail.run(&["--chown", &jail.at(name), "1000:1000", "true"])?;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}: {ran:?}");
        assert_eq!(owner(jail.at(below)), (1000, 1000));
    }
    // Whose it was before does not matter where only its owner could have put it there.
    let jail = fresh()?.setup("mkdir -p $W/old/sub; chown -R 999:999 $W/old");
    assert_eq!(jail.run(&["--chown", &jail.at("old/sub"), "1000:1000", "true"])?.code, 0);
    Ok(())
}

/// As a unit with `User=` and `AmbientCapabilities=` starts its program.
const AMBIENT: [&str; 6] = [
    "setpriv",
    "--reuid=3000",
    "--regid=3000",
    "--clear-groups",
    "--inh-caps=+chown,+setuid,+setgid,+dac_read_search",
    "--ambient-caps=+chown,+setuid,+setgid,+dac_read_search",
];

fn a_starter_with_capabilities_does_not_count_as_itself() -> Outcome {
    let setup = "mkdir -p $W/roots/below $W/svc; echo hush >$W/roots/key; chmod 600 $W/roots/key; chown 3000:3000 $W/svc; \
                 setpriv --reuid=3000 --regid=3000 --clear-groups ln -sn ../roots $W/svc/data";
    let jail = fresh()?.setup(setup).through(&AMBIENT);
    let (data, key) = (jail.at("svc/data"), jail.at("svc/data/key"));
    let said = "the symbolic link 'data' is not followed: it belongs to uid 3000 and its directory to uid 3000, not to root";
    jail.run(&["--chown", &data, "1000:1000", "true"])?.refused(125, said);
    jail.run(&["--secret", &format!("K={key}"), "1000:1000", "true"])?.refused(125, said);
    jail.run(&["--open", &key, "1000:1000", "true"])?.refused(125, said);
    jail.run(&[format!("@{data}").as_str(), "true"])?.refused(125, said);
    assert_eq!((owner(jail.at("roots")), owner(jail.at("roots/below"))), ((0, 0), (0, 0)));
    // Nor by rename: root's file in a directory of its own.
    let jail =
        fresh()?.setup("mkdir $W/svc; echo hush >$W/svc/key; chmod 600 $W/svc/key; chown 3000:3000 $W/svc").through(&AMBIENT);
    jail.run(&["--secret", &format!("K={}", jail.at("svc/key")), "1000:1000", "true"])?
        .refused(125, "uid 3000 may have put it there");
    Ok(())
}

fn a_starter_without_capabilities_counts_as_itself() -> Outcome {
    let jail = fresh()?
        .setup("mkdir -p $W/svc/real; echo mine >$W/svc/real/file; ln -s real $W/svc/data; chown -hR 3000:3000 $W/svc")
        .through(&["setpriv", "--reuid=3000", "--regid=3000", "--clear-groups"]);
    let ran = jail.run(&["--open", &jail.at("svc/data/file"), "3000:3000", "/bin/sh", "-c", "cat <&3"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "mine\n"), "{ran:?}");
    Ok(())
}

fn a_secret_that_others_could_have_moved_there_is_not_read() -> Outcome {
    let jail = fresh()?.setup(
        "mkdir $W/data; echo tls >$W/data/tls.pem; echo other >$W/data/other; chmod 600 $W/data/*; chown 1000:1000 $W/data; \
         setpriv --reuid=1000 --regid=1000 --clear-groups sh -c 'cd '$W'/data; mv other tls.pem' </dev/null",
    );
    let pem = jail.at("data/tls.pem");
    let said = "it belongs to uid 0, and uid 1000 may have put it there in place of what was meant";
    let ran = jail.run(&["--secret", &format!("K={pem}"), "1000:1000", "/bin/sh", "-c", "cat $K"])?;
    ran.refused(125, said);
    assert_eq!(ran.stdout, "");
    jail.run(&["--open", &pem, "1000:1000", "true"])?.refused(125, said);
    // The target's own file is nobody's secret but its own.
    let jail = fresh()?.setup("mkdir $W/data; echo own >$W/data/own; chown -R 1000:1000 $W/data");
    let ran = jail.run(&["--secret", &format!("K={}", jail.at("data/own")), "1000:1000", "/bin/sh", "-c", "cat $K"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "own\n"), "{ran:?}");
    Ok(())
}

fn a_user_is_not_who_somebody_else_could_choose() -> Outcome {
    let jail = fresh()?.setup("mkdir -p $W/app/work $W/app/theirs; chown 1000:1000 $W/app/work; chown 5:60 $W/app/theirs; chmod 777 $W/app; setpriv --reuid=7 --regid=7 --clear-groups sh -c 'cd '$W'/app; mv work x; mv theirs work'");
    jail.run(&[format!("@{}", jail.at("app/work")).as_str(), "true"])?
        .refused(125, "it belongs to uid 5, and others than root may have put it there in place of what was meant");
    let jail = fresh()?.setup("mkdir -p $W/home/work; chown -R 1000:1000 $W/home");
    jail.report(&[&format!("@{}", jail.at("home/work"))])?.is_exactly(1000, 1000, &[1000]);
    Ok(())
}

/// Waits until the launcher has made `a`, and swaps while its mkdirat(2) takes its time.
fn swap_while_it_is_made(jail: Jail, swap: &str) -> Jail {
    let wait = "for i in $(seq 3000); do if [ -d a ]; then break; fi; sleep 0.01; done";
    let swap = format!("(cd $W/vol; setpriv --reuid=1000 --regid=1000 --clear-groups sh -c '{wait}; {swap}' & )");
    jail.setup(&swap).through(&[
        "strace",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=mkdirat",
        "-e",
        "inject=mkdirat:delay_exit=1500000:when=1",
    ])
}

fn mkdir_changes_the_mode_only_of_what_it_has_just_made() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    for path in ["vol/a/b", "vol/a", "vol/a:0700", "vol/a/b:2750"] {
        let jail = fresh()?.setup("mkdir $W/vol; mkdir -m 700 $W/vol/lost+found; chown 1000:1000 $W/vol");
        let jail = swap_while_it_is_made(jail, "mv a x; mv lost+found a");
        let ran = jail.run(&["--mkdir", &jail.at(path), "1000:1000", "true"])?;
        ran.refused(125, "it belongs to uid 0, and uid 1000 may have put it there in place of what was meant");
        let facts = fs::metadata(jail.at("vol/a"))?;
        assert_eq!((facts.uid(), facts.mode() & 0o7777, fs::read_dir(jail.at("vol/a"))?.count()), (0, 0o700, 0), "{path}");
    }
    let jail = fresh()?.setup("mkdir $W/vol $W/out; chown 1000:1000 $W/vol");
    let jail = swap_while_it_is_made(jail, "mv a x; ln -s ../out a");
    jail.run(&["--mkdir", &jail.at("vol/a/b"), "1000:1000", "true"])?.refused(125, "the symbolic link 'a' is not followed");
    assert_eq!((fs::read_dir(jail.at("out"))?.count(), owner(jail.at("out"))), (0, (0, 0)));
    Ok(())
}

fn mkdir_works_in_a_directory_of_the_targets_and_after_an_interruption() -> Outcome {
    let facts =
        |jail: &Jail, name: &str| fs::metadata(jail.at(name)).map(|facts| (facts.uid(), facts.gid(), facts.mode() & 0o7777));
    let jail = fresh()?.setup("mkdir $W/vol; chown 1000:1000 $W/vol");
    for _ in 0..2 {
        let ran = jail.run(&["--mkdir", &jail.at("vol/a/b:2750"), "1000:1000", "true"])?;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    }
    assert_eq!((facts(&jail, "vol/a")?, facts(&jail, "vol/a/b")?), ((0, 0, 0o755), (1000, 1000, 0o2750)));
    // A set-group-ID directory hands its bit and its group on; PATH has the mode that was said.
    let jail = fresh()?.setup("mkdir $W/vol; chown 1000:50 $W/vol; chmod 2775 $W/vol");
    let ran = jail.run(&["--mkdir", &jail.at("vol/c"), "1000:1000", "true"])?;
    assert_eq!((ran.code, facts(&jail, "vol/c")?), (0, (1000, 1000, 0o755)), "{ran:?}");
    // What an interrupted run has left is made right.
    Need::Strace.programs(&["strace"])?;
    let jail = Jail::new()?.setup("mkdir -p $W/vol; chown 1000:1000 $W/vol");
    let kill = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=umask", "-e", "inject=umask:signal=KILL:when=4"];
    let line = ["--mkdir", &jail.at("vol/a"), "1000:1000", "true"];
    let mut command = std::process::Command::new("sh");
    let words: Vec<String> = kill.into_iter().map(str::to_owned).chain([programs().stepdown.display().to_string()]).collect();
    fs::create_dir(jail.at("vol"))?;
    std::os::unix::fs::chown(jail.at("vol"), Some(1000), Some(1000))?;
    let status = command.args(["-c", "exec \"$@\"", "sh"]).args(words).args(line).status()?;
    assert!(!status.success() && facts(&jail, "vol/a")?.2 != 0o755, "{status}");
    let ran = jail.run(&line)?;
    assert_eq!((ran.code, facts(&jail, "vol/a")?), (0, (1000, 1000, 0o755)), "{ran:?}");
    Ok(())
}

fn a_link_of_procfs_leads_where_the_kernel_takes_it_or_nowhere() -> Outcome {
    // The name of what is open belongs to another file by now.
    let jail = fresh()?.setup("echo meant >$W/file; exec 9<$W/file; mv $W/file $W/moved; echo third >$W/file; exec 8</");
    for path in ["/proc/self/fd/9", "/dev/fd/9", "/proc/1/fd/9"] {
        let ran = jail.run(&["--secret", &format!("K={path}"), "node", "/bin/sh", "-c", "cat $K"])?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "meant\n"), "{path}: {ran:?}");
        let ran = jail.run(&["--open", &format!("x={path}"), "node", "/bin/sh", "-c", "cat <&3"])?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "meant\n"), "{path}: {ran:?}");
    }
    let ran = jail.run(&["--chown", "/proc/self/fd/9", "node", "true"])?;
    assert_eq!((ran.code, owner(jail.at("moved")), owner(jail.at("file"))), (0, (1000, 1000), (0, 0)), "{ran:?}");
    let ran = jail.run(&["--secret", "K=/proc/self/cwd/moved", "node", "/bin/sh", "-c", "cat $K"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "meant\n"), "{ran:?}");
    jail.run(&["--chown", "/proc/self/fd/8/etc", "node", "true"])?.refused(125, "/etc belongs to the system");
    // What another process has open that process chooses, though it closed itself to others, and so reads as root's.
    Need::Root.programs(&["python3"])?;
    let closed =
        "import ctypes,os,sys,time; os.chdir(sys.argv[1]); ctypes.CDLL(None).prctl(4,0,0,0,0); open('ready','w'); time.sleep(60)";
    let jail = fresh()?.setup("mkdir -m 777 $W/theirs $W/roots; echo >$W/roots/f").setup(&format!(
        "setpriv --reuid=1000 --regid=1000 --clear-groups python3 -c \"{closed}\" $W/theirs & echo $! >$W/pid; \
         for i in $(seq 1000); do if [ -e $W/theirs/ready ]; then break; fi; sleep 0.02; done; \
         ln -s /proc/$(cat $W/pid)/cwd $W/cwd; ln -s /proc/$(cat $W/pid)/root $W/root; ln -s /proc/$(cat $W/pid)/fd/0 $W/fd; ln -s /proc/$(cat $W/pid)/exe $W/exe"
    ));
    for name in ["cwd", "root", "fd", "exe"] {
        let said = "in /proc is not followed: it leads to what another process has open";
        let path = jail.at(name);
        jail.run(&["--chown", &path, "node", "true"])?.refused(125, said);
        jail.run(&["--secret", &format!("K={path}"), "node", "true"])?.refused(125, said);
        jail.run(&["--open", &path, "node", "true"])?.refused(125, said);
        jail.run(&["--ro", &path, "node", "true"])?.refused(125, said);
        jail.run(&[format!("@{path}").as_str(), "true"])?.refused(125, said);
    }
    Ok(())
}

fn the_kernels_own_file_systems_are_refused_however_they_are_spelled_and_wherever_they_are_mounted() -> Outcome {
    let jail = fresh()?.setup("mkdir $W/null; touch $W/bound; mount --bind /dev/full $W/bound");
    let jail = jail.setup("cd /");
    for path in ["dev/full", "/tmp/../dev/full", "./dev/pts", "proc/self", "sys/kernel", &jail.at("bound")] {
        jail.run(&["--chown", path, "1000:1000", "true"])?.refused(125, "belongs to the system");
    }
    for path in ["dev/x", "proc/x", "/tmp/../sys/x", "dev/x/y", "/tmp/../dev/pts/x"] {
        jail.run(&["--mkdir", path, "1000:1000", "true"])?.refused(125, "belongs to the system");
    }
    let kinds = [
        "proc",
        "sysfs",
        "devpts",
        "devtmpfs",
        "cgroup2",
        "tracefs",
        "debugfs",
        "securityfs",
        "bpf",
        "pstore",
        "configfs",
        "mqueue",
        "efivarfs",
        "binfmt_misc",
        "fusectl",
    ];
    let mut tried = Vec::new();
    for kind in kinds {
        let jail = fresh()?.setup(&format!("mkdir $W/there; mount -t {kind} none $W/there || exit 77"));
        let ran = jail.run(&["--chown", &jail.at("there"), "1000:1000", "true"])?;
        if ran.code != 77 && ran.code != 32 {
            ran.refused(125, "belongs to the system");
            jail_is_refused_below(kind)?;
            tried.push(kind);
        }
    }
    println!("refused: {}", tried.join(", "));
    assert!(["proc", "sysfs", "devpts"].iter().all(|kind| tried.contains(kind)), "{tried:?}");
    // What everybody uses there is not the kernel's.
    let jail = fresh()?.setup("mount -t tmpfs none /dev/shm; mkdir /dev/shm/app");
    assert_eq!(jail.run(&["--chown", "/dev/shm/app", "--mkdir", "/dev/shm/new", "1000:1000", "true"])?.code, 0);
    Ok(())
}

fn jail_is_refused_below(kind: &str) -> Outcome {
    let jail = fresh()?.setup(&format!("mkdir $W/there; mount -t {kind} none $W/there"));
    jail.run(&["--mkdir", &jail.at("there/made"), "1000:1000", "true"])?.refused(125, "belongs to the system");
    Ok(())
}

fn a_hard_link_that_its_writers_could_have_made_is_refused() -> Outcome {
    if fs::read_to_string("/proc/sys/fs/protected_hardlinks")?.trim() != "1" {
        return Err(Need::Root.missing("needs fs.protected_hardlinks=1"));
    }
    let said = "it has 2 names, and its group or others may read and write it, so that one of them may be theirs";
    let link = "setpriv --reuid=1000 --regid=1000 --clear-groups ln $W/shared.conf $W/data/link";
    for (owner_of_data, mode, setup) in [
        ("1000:1000", "0664", "chgrp 1000 $W/shared.conf"),
        ("1000:1000", "0666", ""),
        ("1000:1000", "0600", "setfacl -m u:1000:rw $W/shared.conf"),
        ("0:1000", "0666", "chmod 2775 $W/data"),
        ("0:0", "0666", "chmod 1777 $W/data"),
    ] {
        Need::Root.programs(&["setfacl"])?;
        let jail = fresh()?.setup(&format!(
            "mkdir $W/data; echo >$W/shared.conf; chown {owner_of_data} $W/data; chmod {mode} $W/shared.conf; {setup}\n{link}"
        ));
        let before = owner(jail.work());
        let ran = jail.run(&["--chown", &jail.at("data"), "1000:1000", "true"])?;
        ran.refused(125, said);
        ran.refused(125, "data/link");
        assert_eq!(owner(jail.at("shared.conf")).0, 0, "{mode}: {before:?}");
        // The file itself as PATH, too.
        jail.run(&["--chown", &jail.at("shared.conf"), "5:60", "true"])?;
    }
    // In a directory that root alone may write to it counts as well: the link may be older than that.
    let jail = fresh()?.setup(
        "mkdir $W/data; echo >$W/shared.conf; chmod 666 $W/shared.conf; ln $W/shared.conf $W/data/link; touch $W/data/own",
    );
    jail.run(&["--chown", &jail.at("data"), "1000:1000", "true"])?.refused(125, said);
    assert_eq!((owner(jail.at("shared.conf")), owner(jail.at("data/own"))), ((0, 0), (1000, 1000)));
    // What nobody else may write to has its names from its owner, and what is right already is no error.
    let jail = fresh()?.setup("mkdir $W/data; echo >$W/a; chmod 644 $W/a; ln $W/a $W/data/a; echo >$W/b; chmod 666 $W/b; chown 1000:1000 $W/b; ln $W/b $W/data/b; chown 1000:1000 $W/data");
    let ran = jail.run(&["--chown", &jail.at("data"), "1000:1000", "true"])?;
    assert_eq!((ran.code, owner(jail.at("data/a"))), (0, (1000, 1000)), "{ran:?}");
    Ok(())
}
