//! What the command gets.

use std::fs;
use std::process::{Command, Stdio};

use crate::cases;
use crate::harness::{Case, Need, Outcome};
use crate::jail::{Jail, Ran, owner, programs};
use crate::report::Report;

pub fn cases() -> Vec<Case> {
    cases![
        whatever_the_sets_were_at_the_start_all_five_are_empty,
        securebits_are_as_found,
        kept_capabilities_are_in_all_five_sets,
        a_kept_capability_that_stepdown_lacks_is_refused,
        allow_new_privs_leaves_no_new_privs_as_it_was,
        a_set_user_id_program_gives_nothing_back,
        home_user_logname_and_shell_are_the_targets,
        env_unset_env_and_clear_env_come_after_that,
        descriptors_above_2_are_closed,
        closed_streams_are_opened_on_dev_null,
        a_dev_null_that_is_something_else_is_never_handed_out,
        nor_is_a_dev_tty_that_is_something_else_believed,
        keep_fd_leaves_a_descriptor_open,
        dev_fd_in_an_argument_keeps_the_descriptor,
        process_substitution_works,
        pipes_on_0_1_2_belong_to_the_target_so_dev_stdout_can_be_opened,
        a_regular_file_and_a_named_fifo_are_left_alone,
        signal_mask_and_ignored_signals_are_as_they_were,
        chdir_and_umask_come_after_the_switch,
        what_root_had_open_is_out_of_reach_from_the_switch_on,
        a_profile_may_be_named_by_a_descriptor_of_roots,
        without_close_range_descriptors_are_closed_all_the_same,
        that_descriptors_are_closed_is_seen_and_not_believed,
        what_has_the_name_of_proc_and_is_no_procfs_says_nothing,
        it_works_without_proc,
        it_never_starts_a_thread_or_a_process,
    ]
}

const NODES: [u64; 4] = [1, 4, 100, 1000];

/// Where securebits take root's rights away at execve, these come to stepdown all the same.
const RIGHTS_INHERITED: &str = "--inh-caps=+setuid,+setgid,+setpcap,+net_raw";
const RIGHTS_AMBIENT: &str = "--ambient-caps=+setuid,+setgid,+setpcap,+net_raw";

fn whatever_the_sets_were_at_the_start_all_five_are_empty() -> Outcome {
    for start in [
        &["setpriv", "--inh-caps=+net_raw,+chown"][..],
        &["setpriv", "--inh-caps=+net_raw", "--ambient-caps=+net_raw"],
        &["setpriv", "--securebits=+no_setuid_fixup", "--inh-caps=+net_raw", "--ambient-caps=+net_raw"],
        &["setpriv", "--securebits=+noroot,+noroot_locked,+no_setuid_fixup", RIGHTS_INHERITED, RIGHTS_AMBIENT],
        &["setpriv", "--securebits=+keep_caps_locked"],
        &["setpriv", "--no-new-privs"],
        &["setpriv", "--clear-groups"],
        &["setpriv", "--groups=0,5,7"],
    ] {
        Jail::new()?.through(start).report(&["node"])?.is_exactly(1000, 1000, &NODES);
    }
    Ok(())
}

fn securebits_are_as_found() -> Outcome {
    assert_eq!(Jail::new()?.report(&["node"])?.number("securebits"), 0);
    let bits = |options: &[&str]| {
        let jail =
            Jail::new()?.through(&["setpriv", "--securebits=+noroot,+no_setuid_fixup_locked", RIGHTS_INHERITED, RIGHTS_AMBIENT]);
        jail.report(options).map(|report| report.number("securebits"))
    };
    assert_eq!(bits(&["node"])?, 0b1001);
    assert_eq!(bits(&["--keep-cap", "NET_RAW", "node"])?, 0b1001, "keep_caps is not left behind");
    Ok(())
}

fn kept_capabilities_are_in_all_five_sets() -> Outcome {
    let jail = Jail::new()?;
    for user in ["node", "root"] {
        let report = jail.report(&["--keep-cap", "net_bind_service", "--keep-cap=CAP_KILL,NET_RAW", user])?;
        for set in ["effective", "permitted", "inheritable", "bounding", "ambient"] {
            assert_eq!(report.capabilities(set), [5, 10, 13], "{user} {set}");
        }
        assert_eq!(report.number("no_new_privs"), 1);
    }
    // CAP_SETUID itself: root can be had back, because that is what was asked for.
    let report = jail.report(&["--keep-cap=SETUID", "node"])?;
    assert_eq!((report.uids(), &report.0["can_become_root"]), (vec![1000; 3], &true.into()));
    Ok(())
}

fn a_kept_capability_that_stepdown_lacks_is_refused() -> Outcome {
    let jail = Jail::new()?.through(&["setpriv", "--bounding-set=-net_raw", "--inh-caps=-all"]);
    jail.run(&["--keep-cap", "NET_RAW,KILL", "node", "true"])?
        .refused(125, "--keep-cap: stepdown was started without CAP_NET_RAW");
    let jail = Jail::new()?.through(&["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]);
    jail.run(&["--keep-cap", "NET_RAW", "node", "true"])?.refused(125, "started without CAP_NET_RAW");
    let jail = Jail::new()?.through(&[
        "setpriv",
        "--reuid=1000",
        "--regid=1000",
        "--clear-groups",
        "--inh-caps=+net_raw",
        "--ambient-caps=+net_raw",
    ]);
    let report = jail.report(&["--keep-cap", "NET_RAW", "node"])?;
    assert_eq!((report.capabilities("ambient"), report.capabilities("effective")), (vec![13], vec![13]));
    assert!(jail.report(&["node"])?.capabilities("ambient").is_empty());
    Ok(())
}

fn allow_new_privs_leaves_no_new_privs_as_it_was() -> Outcome {
    let report = Jail::new()?.report(&["--allow-new-privs", "node"])?;
    assert_eq!(report.number("no_new_privs"), 0);
    assert!(report.capabilities("bounding").is_empty());
    let jail = Jail::new()?.through(&["setpriv", "--no-new-privs"]);
    assert_eq!(jail.report(&["--allow-new-privs", "node"])?.number("no_new_privs"), 1);
    Ok(())
}

fn a_set_user_id_program_gives_nothing_back() -> Outcome {
    let setup = format!("cp {} $W/suid; chmod 4755 $W/suid", programs().report.display());
    let jail = Jail::new()?.setup(&setup);
    let report = jail.run(&["node", &jail.at("suid")])?.report()?;
    report.is_exactly(1000, 1000, &NODES);
    // With --allow-new-privs the bit works, and finds no capability left to give.
    let report = jail.run(&["--allow-new-privs", "node", &jail.at("suid")])?.report()?;
    assert_eq!((report.uids(), report.capabilities("permitted")), (vec![1000, 0, 0], vec![]));
    Ok(())
}

fn account(report: &Report) -> [Option<String>; 4] {
    ["HOME", "USER", "LOGNAME", "SHELL"].map(|name| report.variable(name))
}

fn home_user_logname_and_shell_are_the_targets() -> Outcome {
    let roots = |jail: Jail| {
        jail.variable("HOME", "/root")
            .variable("USER", "root")
            .variable("LOGNAME", "root")
            .variable("SHELL", "/bin/bash")
            .variable("KEEP", "a=b")
    };
    let some = |text: &str| Some(text.to_owned());
    let jail = roots(Jail::new()?);
    let report = jail.report(&["node"])?;
    assert_eq!(account(&report), [some("/home/node"), some("node"), some("node"), some("/bin/bash")]);
    assert_eq!(report.variable("KEEP"), some("a=b"));
    assert_eq!(account(&jail.report(&["7777:8888"])?), [some("/"), None, None, None]);
    assert_eq!(account(&jail.report(&["1000:8888"])?)[1], some("node"));
    assert_eq!(account(&jail.report(&["bare"])?), [some("/"), some("bare"), some("bare"), None]);
    Ok(())
}

fn env_unset_env_and_clear_env_come_after_that() -> Outcome {
    let jail = Jail::new()?.variable("A", "1").variable("B", "2").variable("HOME", "/root");
    let report = jail.report(&["--env", "HOME=/srv", "--env=C=x=y", "--unset-env", "A", "--unset-env=SHELL", "node"])?;
    for (name, value) in
        [("HOME", Some("/srv")), ("C", Some("x=y")), ("B", Some("2")), ("A", None), ("SHELL", None), ("USER", Some("node"))]
    {
        assert_eq!(report.variable(name).as_deref(), value, "{name}");
    }
    let report = jail.report(&["--clear-env", "--env", "C=3", "node"])?;
    let all: Vec<&str> =
        report.0["environment"].as_array().map(|all| all.iter().filter_map(|e| e.as_str()).collect()).unwrap_or_default();
    assert_eq!(all, ["HOME=/home/node", "USER=node", "LOGNAME=node", "SHELL=/bin/bash", "C=3"]);
    Ok(())
}

/// Opens a file that only root may read, on this descriptor.
const SECRET: &str = "echo secret >$W/secret; chmod 600 $W/secret; exec 7<$W/secret 9</dev/zero";

fn descriptors_above_2_are_closed() -> Outcome {
    assert_eq!(Jail::new()?.setup(SECRET).report(&["node"])?.descriptors(), [0, 1, 2]);
    // Also those that end up at the end of the table.
    let high = "import os,sys,resource\nresource.setrlimit(resource.RLIMIT_NOFILE,(4000,4000))\nos.dup2(1,3999)\nos.execv(sys.argv[1],sys.argv[1:])";
    Need::Root.programs(&["python3"])?;
    assert_eq!(Jail::new()?.through(&["python3", "-c", high]).report(&["node"])?.descriptors(), [0, 1, 2]);
    Ok(())
}

fn closed_streams_are_opened_on_dev_null() -> Outcome {
    let report = programs().report.display();
    let jail = Jail::new()?.setup("exec 0<&- 2>&-");
    let got = jail.report(&["node"])?;
    assert_eq!(got.descriptors(), [0, 1, 2]);
    for fd in [0, 2] {
        assert_eq!(got.descriptor(fd).map(|one| one["target"].clone()), Some("/dev/null".into()));
    }
    // All three, and nothing that was opened on the way takes their place.
    let jail = Jail::new()?.setup("exec 0<&- 1>&- 2>&-");
    let path = jail.at("out");
    let ran = jail.run(&[
        "--listen",
        "@closed_streams_are_opened_on_dev_null",
        "--chown",
        &jail.work().display().to_string(),
        "node",
        "/bin/sh",
        "-c",
        &format!("{report} >{path}; readlink /proc/$$/fd/* >>{path}; true"),
    ])?;
    assert_eq!(ran.code, 0);
    let text = fs::read_to_string(path)?;
    assert_eq!(text.matches("/dev/null").count(), 4, "0 and 2 of the report and of the shell: {text}");
    Ok(())
}

/// /dev of the jail's own, without and with what a run needs of it.
const DEV: &str = "mkdir -p $W/dev; mount -t tmpfs -o mode=755 none $W/dev; mknod -m 666 $W/dev/tty c 5 0; ln -s /proc/self/fd $W/dev/fd; \
     echo secret >$W/secret; chmod 600 $W/secret";

fn a_dev_null_that_is_something_else_is_never_handed_out() -> Outcome {
    for (make, what) in [
        ("ln -s $W/secret $W/dev/null", "/secret, a regular file, not the character device 1:3"),
        ("echo >$W/dev/null", "is a regular file, not"),
        ("mkdir $W/dev/null", "is a directory, not"),
        ("mkfifo $W/dev/null", "is a FIFO, not"),
        ("mknod -m 666 $W/dev/null c 1 5", "is the character device 1:5, not"),
        ("mknod -m 666 $W/dev/null b 1 3", "is the block device 1:3, not"),
        ("ln -s tty $W/dev/null", "is a link to tty, the character device 5:0, not"),
    ] {
        for closed in ["0<&-", "1>&-", "0<&- 1>&-"] {
            let jail = Jail::new()?.setup(DEV).setup(make).setup(&format!("mount -n --bind $W/dev /dev; exec {closed}"));
            for options in [&["node"][..], &["root"], &["--init", "node"]] {
                let ran = jail.run(&[options, &["sh", "-c", "echo ran >&2"]].concat())?;
                ran.refused(125, what);
                assert!(ran.stderr.contains("hint: make it the device again") && !ran.stderr.contains("\nran"), "{ran:?}");
            }
            assert_eq!(fs::read_to_string(jail.at("secret"))?, "secret\n");
        }
        // Where all three are open nobody opens it.
        let jail = Jail::new()?.setup(DEV).setup(make).setup("mount -n --bind $W/dev /dev");
        jail.report(&["node"])?.is_exactly(1000, 1000, &NODES);
    }
    // A link to the device is one; and where there is none it says so.
    let jail = Jail::new()?.setup(DEV).setup("mknod -m 666 $W/dev/zilch c 1 3; ln -s zilch $W/dev/null");
    let got = jail.setup("mount -n --bind $W/dev /dev; exec 0<&-").report(&["node"])?;
    assert_eq!(got.descriptor(0).map(|one| one["target"].clone()), Some("/dev/zilch".into()));
    let jail = Jail::new()?.setup(DEV).setup("mount -n --bind $W/dev /dev; exec 0<&-");
    jail.run(&["node", "true"])?.refused(125, "descriptor 0 is closed, and open(/dev/null): ENOENT");
    Ok(())
}

/// What can't be told of a terminal is not taken for harmless: the filter is there. The file is neither read nor kept open.
fn nor_is_a_dev_tty_that_is_something_else_believed() -> Outcome {
    for make in ["ln -s $W/secret $W/dev/tty", "mkfifo $W/dev/tty", "mknod -m 666 $W/dev/tty c 1 5"] {
        for init in [&[][..], &["--init"]] {
            let jail = Jail::new()?.setup(DEV).setup("rm $W/dev/tty; mknod -m 666 $W/dev/null c 1 3").setup(make);
            let jail = jail.setup("mount -n --bind $W/dev /dev");
            let report = jail.report(&[init, &["node"]].concat())?;
            report.is_exactly(1000, 1000, &NODES);
            assert_eq!((report.number("seccomp"), report.descriptors()), (2, vec![0, 1, 2]), "{make}");
            assert_eq!(fs::read_to_string(jail.at("secret"))?, "secret\n");
        }
    }
    Ok(())
}

fn keep_fd_leaves_a_descriptor_open() -> Outcome {
    let jail = Jail::new()?.setup(SECRET);
    let report = jail.report(&["--keep-fd", "9", "--keep-fd=0", "node"])?;
    assert_eq!(report.descriptors(), [0, 1, 2, 9]);
    let report = jail.report(&["--keep-fd=9", "--keep-fd=7", "--listen", "@keep_fd_leaves_a_descriptor_open", "node"])?;
    assert_eq!(report.descriptors(), [0, 1, 2, 3, 7, 9]);
    jail.run(&["--keep-fd", "8", "node", "true"])?.refused(125, "--keep-fd 8: descriptor 8 is not open");
    let jail = Jail::new()?.setup("exec 3</dev/zero");
    jail.run(&["--keep-fd", "3", "--listen", "@keep_fd_leaves_a_descriptor_open", "node", "true"])?
        .refused(125, "--keep-fd 3: what --listen hands on takes descriptors 3 to 3");
    assert_eq!(jail.report(&["--keep-fd", "3", "node"])?.descriptors(), [0, 1, 2, 3]);
    Ok(())
}

fn dev_fd_in_an_argument_keeps_the_descriptor() -> Outcome {
    let jail = Jail::new()?.setup(SECRET);
    let report = programs().report.display().to_string();
    let got = jail.run(&["node", &report, "--config=/dev/fd/9", "/proc/self/fd/7", "/dev/fd/33"])?.report()?;
    assert_eq!(got.descriptors(), [0, 1, 2, 7, 9]);
    let got = jail.run(&["--listen", "@dev_fd_in_an_argument_keeps_the_descriptor", "node", &report, "/dev/fd/3"])?.report()?;
    assert_eq!(got.descriptors(), [0, 1, 2, 3], "the socket is what stands there");
    let jail = Jail::new()?.setup("exec 3</dev/zero");
    jail.run(&["--listen", "@dev_fd_in_an_argument_keeps_the_descriptor", "node", &report, "/dev/fd/3"])?
        .refused(125, "an argument names /dev/fd/3, which is open");
    Ok(())
}

fn process_substitution_works() -> Outcome {
    Need::Root.programs(&["bash"])?;
    let line = format!("exec {} node cat <(echo one) <(echo two)", programs().stepdown.display());
    let ran = Ran::of(Jail::new()?.through(&["bash", "-c", &line]).command(&[] as &[&str]).output()?);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "one\ntwo\n"), "{ran:?}");
    Ok(())
}

fn pipes_on_0_1_2_belong_to_the_target_so_dev_stdout_can_be_opened() -> Outcome {
    let jail = Jail::new()?;
    let output = jail.command(&["node", &programs().report.display().to_string()]).stdin(Stdio::piped()).output()?;
    let report = Ran::of(output).report()?;
    for fd in 0..=2 {
        let one = report.descriptor(fd).unwrap_or_else(|| panic!("descriptor {fd}"));
        assert_eq!(
            (&one["kind"], &one["uid"], &one["can_be_opened_again"]),
            (&"pipe".into(), &1000.into(), &true.into()),
            "{one}"
        );
    }
    let ran = jail.run(&["node", "sh", "-c", "echo out >/dev/stdout; echo err >/dev/stderr"])?;
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
    Ok(())
}

fn a_regular_file_and_a_named_fifo_are_left_alone() -> Outcome {
    let jail = Jail::new()?.setup("touch $W/log; [ -e $W/fifo ] || mkfifo $W/fifo; exec 2>$W/log 0<>$W/fifo");
    jail.report(&["node"])?.is_exactly(1000, 1000, &NODES);
    for name in ["log", "fifo"] {
        assert_eq!(owner(jail.work().join(name)), (0, 0), "{name}");
    }
    Ok(())
}

/// Runs on a pseudo-terminal of script(1)'s, and gives what came out of it.
pub fn on_a_terminal(command: &Command) -> Result<String, crate::harness::Stop> {
    Ok(raw_on_a_terminal(command)?.replace('\r', ""))
}

/// The same with its carriage returns.
pub fn raw_on_a_terminal(command: &Command) -> Result<String, crate::harness::Stop> {
    Need::Root.programs(&["script"])?;
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"));
    let line: Vec<String> = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    script.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running = script.spawn()?;
    // Nothing is typed, but the end of it would be: it shows.
    let typing = running.stdin.take();
    let output = running.wait_with_output()?;
    drop(typing);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn signal_mask_and_ignored_signals_are_as_they_were() -> Outcome {
    let signals = |report: Report| (report.signals("blocked_signals"), report.signals("ignored_signals"));
    let directly = || Ok::<_, crate::harness::Stop>(Jail::new()?.through(&[&programs().report.display().to_string()]));
    let before = signals(directly()?.run(&["node"])?.report()?);
    assert_eq!(signals(Jail::new()?.report(&["node"])?), before);
    assert!(!before.1.contains(&13), "SIGPIPE, which Rust's start-up ignores");
    Need::Root.programs(&["env"])?;
    let jail = Jail::new()?.through(&["env", "--ignore-signal=PIPE,HUP,USR1,RTMIN+3", "--block-signal=TERM,USR2,RTMAX"]);
    let report = jail.report(&["--chown", &jail.work().display().to_string(), "node"])?;
    let (blocked, ignored) = signals(report);
    assert_eq!(blocked, [12, 15, 64]);
    assert_eq!(ignored.iter().filter(|signal| !before.1.contains(signal)).collect::<Vec<_>>(), [&1, &10, &13, &37]);
    // A warning is written with SIGPIPE and SIGXFSZ out of the way; they come back as they were.
    let jail = Jail::new()?.setup("mkdir -p $W/d; mount --bind $W/d $W/d; mount -o remount,bind,ro $W/d");
    let report = jail.report(&["--chown-if-possible", &jail.at("d"), "node"])?;
    assert_eq!(signals(report), before);
    for name in ["PIPE", "XFSZ"] {
        let env = format!("--ignore-signal={name}");
        let jail =
            Jail::new()?.setup("mkdir -p $W/d; mount --bind $W/d $W/d; mount -o remount,bind,ro $W/d").through(&["env", &env]);
        let (_, ignored) = signals(jail.report(&["--chown-if-possible", &jail.at("d"), "node"])?);
        let number = if name == "PIPE" { 13 } else { 25 };
        assert_eq!(ignored.iter().filter(|signal| !before.1.contains(signal)).collect::<Vec<_>>(), [&number], "{name}");
    }
    Ok(())
}

fn chdir_and_umask_come_after_the_switch() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/closed; chmod 700 $W/closed; umask 002");
    let report = jail.report(&["--chdir", &jail.work().display().to_string(), "--umask", "27", "node"])?;
    assert_eq!((report.text("directory"), report.text("umask")), (jail.work().display().to_string().as_str(), "0027"));
    assert_eq!(jail.report(&["node"])?.text("umask"), "0002");
    let ran = jail.run(&["--chdir", &jail.at("closed"), "node", "true"])?;
    ran.refused(125, &format!("--chdir {}: chdir: EACCES", jail.at("closed")));
    assert_eq!(
        jail.run(&["--mkdir", &jail.at("new/d"), "--chdir", &jail.at("new/d"), "node", "pwd"])?.stdout,
        format!("{}\n", jail.at("new/d"))
    );
    Ok(())
}

fn without_close_range_descriptors_are_closed_all_the_same() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    // EINVAL: CLOSE_RANGE_CLOEXEC is not known (Linux 5.9 and 5.10).
    for errno in ["ENOSYS", "EPERM", "EINVAL"] {
        let inject = format!("inject=close_range:error={errno}:when=1");
        let strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o/dev/null", "-e", "trace=close_range", "-e", &inject];
        let report = Jail::new()?.setup(SECRET).through(&strace).report(&[
            "--keep-fd",
            "9",
            "--listen",
            "@without_close_range_descriptors_are_closed_all_the_same",
            "node",
        ])?;
        assert_eq!(report.descriptors(), [0, 1, 2, 3, 9], "{errno}");
    }
    Ok(())
}

/// A directory that is closed to the target, open on 9.
const CLOSED: &str = "mkdir -p $W/closed/in; chmod 700 $W/closed; chmod 777 $W/closed/in; echo x >$W/closed/in/tool; chmod 755 $W/closed/in/tool; exec 9<$W/closed/in";

fn what_root_had_open_is_out_of_reach_from_the_switch_on() -> Outcome {
    for init in [&[][..], &["--init"]] {
        let jail = Jail::new()?.setup(CLOSED);
        for fd in ["/proc/thread-self/fd/9", "/proc/1/fd/9"] {
            let ran = jail.run(&[init, &["--chdir", fd, "node", "pwd"]].concat())?;
            ran.refused(125, &format!("--chdir {fd}: chdir: "));
        }
        // That is foreseen.
        let made = jail.at("made");
        for fd in ["/proc/self/fd/9", "/dev/fd/9/.."] {
            for (option, dry) in [("--chdir", &[][..]), ("--ro", &[]), ("--rwx", &["--dry-run"]), ("--chdir", &["--dry-run"])] {
                let ran = jail.run(&[init, dry, &["--mkdir", &made, option, fd, "node", "pwd"]].concat())?;
                ran.refused(
                    125,
                    &format!("{option} {fd}: descriptor 9 is not handed on, and so is closed before that is looked for"),
                );
                ran.refused(125, "hint: name what it leads to, or hand it on: --keep-fd 9");
                assert!(!std::path::Path::new(&made).exists(), "nothing was done before");
            }
        }
        // The program itself is found, and its interpreter, as the target: it is none of root's files.
        jail.run(&[init, &["--env", "PATH=/proc/self/fd/9:/bin", "node", "tool"]].concat())?.refused(127, "is not found");
        // What is handed on is the command's, and --chdir may lead there.
        let ran = jail.run(&[init, &["--keep-fd=9", "--chdir", "/proc/self/fd/9", "node", "ls"]].concat())?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "tool\n"), "{init:?} {ran:?}");
    }
    Ok(())
}

/// It is read before root's descriptors are closed. A limit that is raised holds for what is handed on.
fn a_profile_may_be_named_by_a_descriptor_of_roots() -> Outcome {
    let profile =
        "echo '{\"defaultAction\": \"SCMP_ACT_ALLOW\"}' >$W/profile; exec 9<$W/profile; echo hush >$W/key; ulimit -Sn 20";
    let jail = Jail::new()?.setup(profile);
    let secret = format!("KEY={}", jail.at("key"));
    let options =
        ["--seccomp", "/dev/fd/9", "--ulimit", "nofile=100:200", "--secret", &secret, "--ro", "/", "--rox", "/", "node"];
    let options = if crate::confine::landlock(5).is_ok() { &options[..] } else { &[&options[..6], &["node"]].concat() };
    let report = jail.report(options)?;
    assert_eq!((report.number("seccomp"), report.descriptors()), (2, vec![0, 1, 2, 64]));
    assert_eq!(report.0["limits"][7], serde_json::json!([100, 200]));
    Ok(())
}

/// Says which of 3 to 99 are open: a shell takes one digit alone.
const OPEN: &str = "import os
def is_open(fd):
    try: os.fstat(fd)
    except OSError: return False
    return True
print(*[fd for fd in range(3, 100) if is_open(fd)])";

/// A container engine's profile in which calls are not made and say `errnoRet`; 0 is a success.
fn answered(jail: Jail, calls: &[(&str, u32)]) -> Result<Jail, crate::harness::Stop> {
    let profile = jail.at("profile.json");
    let entry =
        |&(name, errno): &(&str, u32)| serde_json::json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno });
    let all: Vec<serde_json::Value> = calls.iter().map(entry).collect();
    fs::write(&profile, serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": all }).to_string())?;
    let stepdown = programs().stepdown.display().to_string();
    let options = ["--keep-cap=SETUID,SETGID,SETPCAP", "--keep-fd=7", "--keep-fd=9", "--seccomp", &profile, "root", "--"];
    Ok(jail.through(&[&[stepdown.as_str()], &options[..]].concat()))
}

fn that_descriptors_are_closed_is_seen_and_not_believed() -> Outcome {
    Need::Strace.programs(&["strace", "python3"])?;
    let line = ["--keep-fd=9", "--listen", "@that_descriptors_are_closed_is_seen", "node", "python3", "-c", OPEN];
    const PLAIN: &str = "mount -t tmpfs none /proc; mkdir -p /proc/self/fd";
    const ANOTHERS: &str = "mount --bind /proc/1/fd /proc/self/fd";
    const ENOSYS: u32 = libc::ENOSYS as u32;
    for proc in ["", "mount -t tmpfs none /proc", PLAIN, ANOTHERS] {
        let jail = || Jail::new().map(|jail| jail.setup(SECRET).setup(proc));
        for errno in [0, ENOSYS] {
            let ran = answered(jail()?, &[("close_range", errno)])?.run(&line)?;
            assert_eq!((ran.code, ran.stdout.as_str()), (0, "3 9\n"), "{proc} {errno}: {ran:?}");
            // Nothing closes anything. (A socket could not be moved to its number: it has it still.)
            answered(jail()?, &[("close_range", errno), ("close", 0)])?
                .run(&["--keep-fd=9", "node", "true"])?
                .refused(125, " is still open after close_range and close(");
        }
    }
    // The call for each range alone.
    for when in 1..=3 {
        let inject = format!("inject=close_range:retval=0:when={when}");
        let strace = ["strace", "-qq", "-o/dev/null", "-e", "trace=close_range", "-e", &inject];
        let ran = Jail::new()?.setup(SECRET).through(&strace).run(&line)?;
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "3 9\n"), "{when}: {ran:?}");
    }
    Ok(())
}

fn what_has_the_name_of_proc_and_is_no_procfs_says_nothing() -> Outcome {
    let fake = "mount -t tmpfs none /proc; mkdir -p /proc/self /proc/sys/fs; echo 1 >/proc/sys/fs/protected_hardlinks; \
        for id in uid gid; do echo 0 0 1 >/proc/self/${id}_map; done; echo deny >/proc/self/setgroups; echo 0 >/proc/self/oom_score_adj";
    let jail = Jail::new()?.setup(fake).setup("mkdir $W/data; : >$W/data/a; ln $W/data/a $W/data/b");
    let ran = jail.run(&["--chown", &jail.at("data"), "node", "true"])?;
    ran.refused(125, "this kernel does not protect hard links");
    // By the maps there would be no uid 1000.
    let jail = Jail::new()?.setup(fake);
    let ran = jail.run(&["--mkdir", &jail.at("made"), "node", "id", "-u"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1000\n"), "{ran:?}");
    let ran = jail.run(&["--oom-score-adj", "5", "node", "true"])?;
    ran.refused(125, "--oom-score-adj 5: /proc/self/oom_score_adj: ENOENT");
    ran.refused(125, "hint: mount /proc");
    Ok(())
}

fn it_works_without_proc() -> Outcome {
    let jail = Jail::new()?.network().setup("mkdir -p $W/d/e; mount -t tmpfs none /proc");
    let report =
        jail.report(&["--chown", &jail.at("d"), "--mkdir", &jail.at("x/y"), "--listen", "80", "--keep-cap", "KILL", "node"])?;
    assert_eq!((report.uids(), report.groups(), report.capabilities("bounding")), (vec![1000; 3], NODES.to_vec(), vec![5]));
    assert_eq!(owner(jail.work().join("d/e")), (1000, 1000));
    Ok(())
}

/// The ids are changed by calls that reach one thread alone: another would keep its rights.
fn it_never_starts_a_thread_or_a_process() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let jail = Jail::new()?.setup("mkdir -p $W/d/e; touch $W/trace");
    let trace = jail.at("trace");
    let jail = jail.through(&["strace", "-f", "-qq", "-o", &trace, "-e", "trace=clone,clone3,fork,vfork"]);
    jail.report(&[
        "--chown",
        &jail.at("d"),
        "--mkdir",
        &jail.at("x"),
        "--listen",
        "@it_never_starts_a_thread_or_a_process",
        "node",
    ])?;
    assert_eq!(fs::read_to_string(trace)?, "");
    Ok(())
}
