//! `--secret`: a file that only root can read, copied into sealed memory of the target's. `--open` is in [`open`].

mod open;

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{self, Jail};

pub fn cases() -> Vec<Case> {
    let mut all = cases![
        an_unmodified_node_reads_a_secret_more_than_once_and_in_all_that_it_starts,
        behind_many_sockets_node_hands_a_secret_on_all_the_same,
        a_secret_is_the_targets_alone_and_the_file_stays_closed_to_it,
        a_secret_can_be_neither_changed_nor_made_executable,
        no_other_user_can_read_a_secret,
        a_secret_has_16_mib_at_most,
        two_capabilities_are_enough_for_a_secret,
        who_is_the_target_already_has_a_copy_of_what_it_may_read,
        a_secret_is_never_told,
        a_secret_keeps_clear_of_descriptors_that_stay_open,
        clear_env_leaves_the_variable_to_a_secret,
        a_file_that_changes_while_it_is_read_is_refused,
    ];
    all.extend(open::cases());
    all
}

/// A key that only root can read, as `$W/tls/key`; and the argument that hands it on.
fn with_key() -> Result<(Jail, String), Stop> {
    let jail =
        Jail::new()?.setup("chmod 755 $W; mkdir -p $W/tls; printf hush >$W/tls/key; chmod 400 $W/tls/key; chmod 700 $W/tls");
    let argument = format!("TLS_KEY={}", jail.at("tls/key"));
    Ok((jail, argument))
}

fn readers(jail: &Jail) -> Result<String, Stop> {
    Need::Root.programs(&["node"])?;
    let script = jail.at("readers.js");
    fs::write(&script, include_str!("secrets/readers.js"))?;
    Ok(script)
}

#[track_caller]
fn all_have_read(ran: &jail::Ran) {
    let mut told: Vec<&str> = ran.stdout.lines().collect();
    told.sort_unstable();
    let who = ["cluster", "fork", "grandchild", "main", "shell", "spawn", "thread"];
    assert_eq!(told, who.map(|who| format!("{who}: hush+hush")), "{ran:?}");
    assert_eq!(ran.code, 0);
}

fn an_unmodified_node_reads_a_secret_more_than_once_and_in_all_that_it_starts() -> Outcome {
    let (jail, secret) = with_key()?;
    let script = readers(&jail)?;
    all_have_read(&jail.run(&["--secret", &secret, "node", "node", &script])?);
    Ok(())
}

fn behind_many_sockets_node_hands_a_secret_on_all_the_same() -> Outcome {
    let (jail, secret) = with_key()?;
    let jail = jail.network();
    let script = readers(&jail)?;
    // Descriptors 3 to 82: all that Node closes to its children, and 64 among them.
    let ports: Vec<String> = (1000..1080).map(|port| format!("--listen=127.0.0.1:{port}")).collect();
    let mut line: Vec<&str> = ports.iter().map(String::as_str).collect();
    line.extend(["--secret", &secret, "node", "node", &script]);
    all_have_read(&jail.run(&line)?);
    Ok(())
}

fn a_secret_is_the_targets_alone_and_the_file_stays_closed_to_it() -> Outcome {
    let (jail, secret) = with_key()?;
    let report = jail.report(&["--secret", &secret, "node:staff"])?;
    report.is_exactly(1000, 50, &[50]);
    assert_eq!(report.variable("TLS_KEY").as_deref(), Some("/proc/self/fd/64"));
    assert_eq!(report.descriptors(), [0, 1, 2, 64], "the file itself is closed");
    let copy = report.descriptor(64).cloned().unwrap_or_default();
    assert_eq!((&copy["kind"], &copy["uid"], &copy["gid"]), (&"file".into(), &1000.into(), &50.into()));
    // No file anywhere: a name in no directory, which goes with the last process that has it.
    assert_eq!(copy["target"], "/memfd:stepdown-secret (deleted)");
    let stat = jail.run(&["--secret", &secret, "node", "stat", "-L", "-c", "%a %h %s", "/proc/self/fd/64"])?;
    assert_eq!(stat.stdout, "400 0 4\n", "{stat:?}");
    let cat = jail.run(&["--secret", &secret, "node", "cat", &jail.at("tls/key")])?;
    assert_eq!((cat.code, cat.stdout.as_str()), (1, ""), "{cat:?}");
    let facts = fs::metadata(jail.at("tls/key"))?;
    assert_eq!((facts.uid(), facts.mode() & 0o777), (0, 0o400), "and is as it was");
    Ok(())
}

fn a_secret_can_be_neither_changed_nor_made_executable() -> Outcome {
    Need::Root.programs(&["python3"])?;
    let (jail, secret) = with_key()?;
    let attempts = "import errno,fcntl,os,mmap\n\
        def attempt(name,f):\n\
        \x20try: f(); print(name,'succeeded')\n\
        \x20except OSError as e: print(name,errno.errorcode[e.errno])\n\
        p=os.environ['TLS_KEY']\n\
        attempt('write',lambda: os.write(64,b'x'))\n\
        attempt('truncate',lambda: os.ftruncate(64,1))\n\
        attempt('grow',lambda: os.ftruncate(64,100))\n\
        attempt('map',lambda: mmap.mmap(64,4))\n\
        attempt('open',lambda: os.open(p,os.O_RDWR))\n\
        os.fchmod(64,0o600); again=os.open(p,os.O_RDWR)\n\
        attempt('write again',lambda: os.write(again,b'x'))\n\
        attempt('truncate again',lambda: os.ftruncate(again,1))\n\
        attempt('grow again',lambda: os.ftruncate(again,100))\n\
        attempt('map again',lambda: mmap.mmap(again,4))\n\
        attempt('seal',lambda: fcntl.fcntl(again,1033,0x10))\n\
        attempt('execute',lambda: os.fchmod(64,0o700))\n\
        print(fcntl.fcntl(64,1034)&0xf, open(p).read(), open(p).read(), os.read(64,9))";
    let ran = jail.run(&["--secret", &secret, "node", "python3", "-c", attempts])?;
    let refused = "write EBADF\ntruncate EINVAL\ngrow EINVAL\nmap EACCES\nopen EACCES\nwrite again EPERM\ntruncate again EPERM\ngrow again EPERM\nmap again EPERM\nseal EPERM\n";
    let rest = ran.stdout.strip_prefix(refused).unwrap_or_else(|| panic!("{ran:?}"));
    // F_SEAL_EXEC came with Linux 6.3; a file that nobody made executable can't be executed before that either.
    assert!(rest.starts_with("execute EPERM\n") || rest.starts_with("execute succeeded\n"), "{ran:?}");
    assert!(rest.ends_with("15 hush hush b'hush'\n"), "{ran:?}");
    Ok(())
}

fn no_other_user_can_read_a_secret() -> Outcome {
    let stepdown = jail::programs().stepdown.display();
    for (who, code, reads) in [("games", 1, ""), ("node", 0, "hush")] {
        let (jail, secret) = with_key()?;
        // Another one who has it: its number in /proc is in $W/pid.
        let holder = format!(
            "rm -f $W/pid; {stepdown} --secret {secret} node /bin/sh -c 'cat $TLS_KEY >/dev/null && exec sleep 600' & echo $! >$W/pid\n\
             for i in $(seq 3000); do if [ \"$(cat /proc/$!/comm)\" = sleep ]; then break; fi; sleep 0.02; done"
        );
        let look = format!("cat /proc/$(cat {})/fd/64", jail.at("pid"));
        let ran = jail.setup(&holder).run(&[who, "/bin/sh", "-c", &look])?;
        assert_eq!((ran.code, ran.stdout.as_str()), (code, reads), "{who}: {ran:?}");
    }
    Ok(())
}

fn a_secret_has_16_mib_at_most() -> Outcome {
    let (jail, secret) = with_key()?;
    let jail = jail.setup("truncate -s 16777216 $W/tls/key");
    let ran = jail.run(&["--secret", &secret, "node", "/bin/sh", "-c", "wc -c <$TLS_KEY"])?;
    assert_eq!((ran.code, ran.stdout.trim()), (0, "16777216"), "{ran:?}");
    // A file that says nothing of its size is measured by reading it.
    let jail = jail.setup("truncate -s 16777217 $W/tls/key");
    jail.run(&["--secret", &secret, "node", "true"])?.refused(125, "it has more than 16 MiB");
    let ran = jail.run(&["--secret", "CMDLINE=/proc/cmdline", "node", "/bin/sh", "-c", "cmp $CMDLINE /proc/cmdline"])?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let ran = jail.run(&["--secret", "EMPTY=/dev/null", "node", "true"])?;
    ran.refused(125, "it is a device");
    Ok(())
}

fn two_capabilities_are_enough_for_a_secret() -> Outcome {
    let (jail, secret) = with_key()?;
    let jail = jail.through(&["setpriv", "--bounding-set=-all,+setuid,+setgid", "--inh-caps=-all"]);
    let ran = jail.run(&["--secret", &secret, "node", "/bin/sh", "-c", "cat $TLS_KEY; stat -L -c %u:%g:%a $TLS_KEY"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "hush1000:1000:400\n"), "{ran:?}");
    Ok(())
}

fn who_is_the_target_already_has_a_copy_of_what_it_may_read() -> Outcome {
    for option in ["--if-root", "--clear-env"] {
        let (jail, secret) = with_key()?;
        let jail = jail.through(&["setpriv", "--reuid=1000", "--regid=1000", "--groups=1000"]);
        let user = if option == "--if-root" { "games" } else { "node" };
        let ran = jail.run(&[option, "--secret", &secret, user, "true"])?;
        ran.refused(125, "open(key): EACCES: Permission denied");
        ran.refused(125, "hint: who starts stepdown must be allowed to open it");
        let jail = jail.setup("chown -R node $W/tls");
        let ran = jail.run(&[option, "--secret", &secret, user, "/bin/cat", "/proc/self/fd/64"])?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "hush"), "{ran:?}");
    }
    Ok(())
}

fn a_secret_is_never_told() -> Outcome {
    let (jail, secret) = with_key()?;
    for mode in ["--dry-run", "--dry-run=json"] {
        let ran = jail.run(&[mode, "--secret", &secret, "node", "true"])?;
        assert!(ran.code == 0 && ran.stdout.contains("TLS_KEY") && ran.stdout.contains("tls/key"), "{ran:?}");
        assert!(!ran.stdout.contains("hush") && !ran.stderr.contains("hush"), "{ran:?}");
    }
    let ran = jail.run(&["--dry-run", "--secret", &secret, "node", "true"])?;
    assert!(ran.stdout.contains("TLS_KEY=/proc/self/fd/64: a copy of ") && ran.stdout.contains("16 MiB at most"), "{ran:?}");
    // What is written anywhere goes to the memfd.
    Need::Strace.programs(&["strace"])?;
    let jail = jail.setup("echo >$W/trace; chmod 666 $W/trace");
    let trace = jail.at("trace");
    let jail = jail.through(&["strace", "-qq", "-y", "-o", &trace]);
    assert_eq!(jail.run(&["--secret", &secret, "node", "true"])?.code, 0);
    let trace = fs::read_to_string(trace)?;
    let holding: Vec<&str> = trace.lines().filter(|line| line.contains("hush")).collect();
    assert!(
        matches!(holding.as_slice(), [read, write]
            if read.starts_with("read(") && write.starts_with("write(") && write.contains("</memfd:stepdown-secret")),
        "{holding:?}"
    );
    Ok(())
}

fn a_secret_keeps_clear_of_descriptors_that_stay_open() -> Outcome {
    let (jail, secret) = with_key()?;
    // Shells name descriptors 0 to 9 alone.
    let opened = "import os,sys\n[os.dup2(os.open('/dev/zero',0),n) for n in (9,64,66)]; os.execv(sys.argv[1],sys.argv[1:])";
    let jail = jail.setup("printf second >$W/tls/other").through(&["python3", "-c", opened]);
    let other = format!("OTHER={}", jail.at("tls/other"));
    let line = ["--keep-fd=9", "--keep-fd=66", "--keep-fd=64", "--secret", &secret, "--secret", &other, "node"];
    let report = jail.report(&line)?;
    assert_eq!(report.descriptors(), [0, 1, 2, 9, 64, 65, 66, 67]);
    assert_eq!(report.descriptor(66).map(|one| &one["target"]), Some(&"/dev/zero".into()));
    let ran = jail.run(&[&line[..], &["/bin/sh", "-c", "echo $TLS_KEY $OTHER; cat $TLS_KEY $OTHER"]].concat())?;
    assert_eq!(ran.stdout, "/proc/self/fd/65 /proc/self/fd/67\nhushsecond", "{ran:?}");
    // A number that is not to stay open is free for it.
    let report = jail.report(&["--secret", &secret, "node"])?;
    assert_eq!(report.descriptors(), [0, 1, 2, 64]);
    Ok(())
}

fn clear_env_leaves_the_variable_to_a_secret() -> Outcome {
    let (jail, secret) = with_key()?;
    let jail = jail.variable("TLS_KEY", "/etc/passwd");
    jail.run(&["--secret", &secret, "node", "true"])?.refused(125, "--secret TLS_KEY: the variable is set already");
    let report = jail.report(&["--clear-env", "--secret", &secret, "node"])?;
    assert_eq!(report.variable("TLS_KEY").as_deref(), Some("/proc/self/fd/64"));
    assert_eq!(report.variable("PATH"), None);
    Ok(())
}

fn a_file_that_changes_while_it_is_read_is_refused() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let (jail, secret) = with_key()?;
    // The first read of the file is told to take its time, and somebody writes until it is seen to have begun, and once
    // more; not for ever, because strace waits for whoever is below it.
    let writes =
        "for i in $(seq 6000); do echo >>$W/tls/key; if [ -s $W/trace ]; then break; fi; sleep 0.01; done; echo >>$W/tls/key";
    let jail = jail.setup("touch $W/trace").setup(&format!("({writes}) &"));
    let (key, trace) = (jail.at("tls/key"), jail.at("trace"));
    let delay = "inject=read:delay_exit=1000000:when=1";
    let jail = jail.through(&["strace", "-qq", "-o", &trace, "-P", &key, "-e", "trace=read", "-e", delay]);
    let ran = jail.run(&["--mkdir", &jail.at("made"), "--secret", &secret, "node", "true"])?;
    ran.refused(125, &format!("--secret TLS_KEY {}: it changed while it was read", jail.at("tls/key")));
    Ok(())
}
