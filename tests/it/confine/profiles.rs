//! `--seccomp FILE`: the profiles of the engines give the verdicts that the engines give.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cases;
use crate::docker::engine::Engine;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran, open_directory, programs};

pub fn cases() -> Vec<Case> {
    cases![
        dockers_default_gives_the_verdicts_of_docker,
        podmans_default_gives_the_verdicts_of_podman,
        several_actions_and_all_comparisons_give_the_verdicts_of_libseccomp,
        foreign_calls_fail_under_every_profile,
        a_call_that_kills_ends_the_command_by_sigsys,
        a_profile_is_in_force_with_init_too_and_not_for_the_supervisor,
        a_profile_that_forbids_the_start_itself_says_so,
        a_mistake_in_a_profile_is_named,
    ]
}

const DOCKERS: (&str, &str) =
    ("golang-github-docker-docker-dev", "/usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json");
const PODMANS: (&str, &str) = ("golang-github-containers-common", "/usr/share/containers/seccomp.json");

/// Where a profile is that Debian has.
fn packaged((package, file): (&str, &str)) -> Result<PathBuf, Stop> {
    Need::Container.programs(&["apt-get", "dpkg-deb"])?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/debian-file");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian");
    let ran = Ran::of(Command::new(script).args([package, file]).arg(directory).output()?);
    if ran.code == 0 { Ok(ran.stdout.trim().into()) } else { Err(Need::Container.missing(ran.stderr)) }
}

/// What the example `calls` says under stepdown, as node without capabilities.
fn under_stepdown(options: &[&str]) -> Result<String, Stop> {
    let jail = Jail::new()?;
    let ran = jail.run(&[options, &["1000:1000", &programs().calls.display().to_string()]].concat())?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    Ok(ran.stdout)
}

/// What it says in a container, as the same user without capabilities.
fn under_docker(options: &[String]) -> Result<String, Stop> {
    let engine = Engine::running()?;
    let mount = format!("--volume={}:/calls:ro", programs().calls.display());
    let own = ["--entrypoint=/calls", &mount, "--user=1000:1000", "--cap-drop=ALL", "--security-opt=no-new-privileges"];
    let ran = engine.run(&[own.map(str::to_owned).to_vec(), options.to_vec()].concat(), &[])?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    Ok(ran.stdout)
}

/// Where podman is told to keep to itself: runc, since crun does not run on every machine that has runc.
pub const CONTAINERS_CONF: &str = "
[containers]
default_ulimits = ['nofile=1024:1024', 'nproc=1024:1024']
log_driver = 'k8s-file'
[engine]
runtime = 'runc'
cgroup_manager = 'cgroupfs'
events_logger = 'file'
";

/// What it says under podman, which resolves profiles by itself, and hands them to runc.
fn under_podman(profile: &Path) -> Result<String, Stop> {
    crate::harness::root()?;
    Need::Container.programs(&["podman", "runc", "conmon"])?;
    let directory = open_directory();
    let at = |name: &str| directory.path().join(name).display().to_string();
    fs::create_dir(at("root"))?;
    fs::copy(&programs().calls, at("root/calls"))?;
    fs::write(at("containers.conf"), CONTAINERS_CONF)?;
    fs::write(
        at("storage.conf"),
        format!("[storage]\ndriver = 'vfs'\ngraphroot = '{}'\nrunroot = '{}'\n", at("graph"), at("run")),
    )?;
    let cgroup = format!("stepdown-test-podman-{}", std::process::id());
    let script = format!(
        "mount --make-rprivate /; mount -t tmpfs none /run
         podman run --rm --cgroups=no-conmon --cgroup-parent=/{cgroup} --network=none --user=1000:1000 --cap-drop=all \\
             --security-opt=no-new-privileges --security-opt=seccomp=\"$1\" --rootfs \"$2\" /calls"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-ec", &script, "sh"]);
    command.arg(profile).arg(at("root")).env("CONTAINERS_CONF", at("containers.conf"));
    let ran = Ran::of(command.env("CONTAINERS_STORAGE_CONF", at("storage.conf")).stdin(Stdio::null()).output()?);
    remove_cgroup(&cgroup)?;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    Ok(ran.stdout)
}

/// What podman leaves empty.
pub fn remove_cgroup(cgroup: &str) -> Outcome {
    for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        // It is not in each of them.
        let _ = fs::remove_dir(hierarchy.path().join(cgroup));
    }
    let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(cgroup));
    Ok(())
}

fn security(profile: &Path) -> String {
    format!("--security-opt=seccomp={}", profile.display())
}

/// Line by line, and so that it means something: without a filter most lines are others.
fn agree(theirs: &str, ours: &str, least: usize) -> Outcome {
    let lines: Vec<(&str, &str)> = theirs.lines().zip(ours.lines()).collect();
    let differing: Vec<_> = lines.iter().filter(|(theirs, ours)| theirs != ours).collect();
    assert!(differing.is_empty() && theirs.lines().count() == ours.lines().count(), "(theirs, ours): {differing:#?}");
    let unconfined = under_stepdown(&[])?;
    let filtered = ours.lines().zip(unconfined.lines()).filter(|(ours, free)| ours != free).count();
    assert!(lines.len() > 100 && filtered >= least, "{filtered} of {} calls are refused by the filter", lines.len());
    Ok(())
}

fn dockers_default_gives_the_verdicts_of_docker() -> Outcome {
    let profile = packaged(DOCKERS)?;
    let ours = under_stepdown(&["--seccomp", &profile.display().to_string()])?;
    agree(&under_docker(&[security(&profile)])?, &ours, 30)?;
    // The engine's own is the same where it is the same release.
    let version = Engine::running()?.docker(&["version", "--format={{.Server.Version}}"])?.stdout;
    if version.starts_with("20.10.") {
        agree(&under_docker(&[])?, &ours, 30)?;
    }
    Ok(())
}

fn podmans_default_gives_the_verdicts_of_podman() -> Outcome {
    let profile = packaged(PODMANS)?;
    let ours = under_stepdown(&["--seccomp", &profile.display().to_string()])?;
    agree(&under_podman(&profile)?, &ours, 30)
}

/// Every action and comparison, by which the calls of the probe are told apart.
const MANY: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 71,
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
    "syscalls": [
        {"names": ["read", "write", "close", "mmap", "munmap", "fork", "clone", "wait4", "getpid", "kill", "exit_group", "execve",
            "brk", "mprotect", "sigaltstack", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "set_tid_address", "arch_prctl", "poll",
            "prlimit64", "getrandom", "futex", "openat", "set_robust_list", "rseq", "fstat", "newfstatat", "pread64", "gettid",
            "exit", "fcntl", "setgroups", "setgid", "setuid", "capset", "chdir", "prctl", "getppid", "getcwd", "statfs", "fstatfs",
            "epoll_ctl", "epoll_pwait", "epoll_create1", "eventfd2", "nanosleep", "clock_gettime", "sched_yield", "tgkill", "lseek",
            "getdents64", "access", "faccessat2", "readlinkat", "seccomp", "madvise", "sched_getaffinity", "pipe2", "ppoll", "uname",
            "statx", "close_range", "dup3", "fchown", "capget", "getuid", "getgid", "geteuid", "getegid", "setresuid", "setresgid",
            "sendmsg", "sendto", "recvmsg", "recvfrom", "socketpair", "getsockname", "getpeername"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["bpf", "no_such_call"], "action": "SCMP_ACT_TRAP"},
        {"names": ["kcmp"], "action": "SCMP_ACT_KILL"},
        {"names": ["ptrace"], "action": "SCMP_ACT_KILL_PROCESS"},
        {"names": ["sysinfo"], "action": "SCMP_ACT_LOG"},
        {"names": ["acct"], "action": "SCMP_ACT_ERRNO", "errnoRet": 72},
        {"names": ["vhangup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71},
        {"names": ["vhangup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 73},
        {"names": ["reboot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 74, "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]},
        {"names": ["reboot"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["reboot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 75},
        {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 76, "args": [{"index": 0, "value": 131080, "op": "SCMP_CMP_GT"}]},
        {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_LT"}]},
        {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 78, "args": [{"index": 0, "value": 1, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["umount2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 79, "args": [{"index": 1, "value": 0, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_LE"}, {"index": 2, "value": 9, "op": "SCMP_CMP_NE"}]},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 80, "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_GE"}]},
        {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 21505, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 81, "args": [{"index": 0, "value": 4294967296, "op": "SCMP_CMP_LT"}]}
    ]
}"#;

fn several_actions_and_all_comparisons_give_the_verdicts_of_libseccomp() -> Outcome {
    let directory = open_directory();
    let profile = directory.path().join("profile.json");
    fs::write(&profile, MANY)?;
    let ours = under_stepdown(&["--seccomp", &profile.display().to_string()])?;
    for line in [
        "bpf(2147483633, 1, 0) SIGSYS",
        "acct(0) 72",
        "vhangup() 73",
        "unshare(1) 78",
        "unshare(0) 71",
        "mseal(1, 1, 2147483633) 38",
    ] {
        assert!(ours.lines().any(|said| said == line), "no {line:?} in {ours}");
    }
    agree(&under_podman(&profile)?, &ours, 60)
}

fn foreign_calls_fail_under_every_profile() -> Outcome {
    let jail = Jail::new()?;
    let everything = jail.at("everything.json");
    fs::write(
        &everything,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NATIVE", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}"#,
    )?;
    let calls = programs().calls.display().to_string();
    let (docker, podman) = (packaged(DOCKERS)?.display().to_string(), packaged(PODMANS)?.display().to_string());
    for filter in [&everything, &docker, &podman, "service"] {
        let ran = jail.run(&["--seccomp", filter, "node", &calls, "foreign"])?;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{filter}");
        assert!(ran.stdout.lines().all(|line| line.ends_with(" 38")), "{filter}: {}", ran.stdout);
        assert_eq!(ran.stdout.lines().count(), if cfg!(target_arch = "x86_64") { 7 } else { 0 });
    }
    Ok(())
}

fn a_call_that_kills_ends_the_command_by_sigsys() -> Outcome {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        for init in [&[][..], &["--init"]] {
            let jail = Jail::new()?;
            let profile = jail.at("profile.json");
            fs::write(
                &profile,
                format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["chroot"], "action": "{action}"}}]}}"#),
            )?;
            let line = [init, &["--seccomp", &profile, "node", "sh", "-c", "echo before; exec chroot / true"]].concat();
            let ran = jail.run(&line)?;
            assert_eq!((ran.code, ran.stdout.as_str()), (128 + libc::SIGSYS, "before\n"), "{action} {init:?}: {ran:?}");
        }
    }
    Ok(())
}

fn a_profile_is_in_force_with_init_too_and_not_for_the_supervisor() -> Outcome {
    let jail = Jail::new()?;
    let profile = jail.at("profile.json");
    // A supervisor that could not wait would not be one.
    fs::write(
        &profile,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["wait4", "waitid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]}"#,
    )?;
    let program = "import os
try: os.wait()
except OSError as error: print(error.errno)
for who in ('1', 'self'): print([line.split()[1] for line in open(f'/proc/{who}/status') if line.startswith('Seccomp:')])";
    Need::Root.programs(&["python3"])?;
    let ran = jail.run(&["--init", "--seccomp", &profile, "node", "python3", "-c", program])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "77\n['0']\n['2']\n"), "{ran:?}");
    Ok(())
}

fn a_profile_that_forbids_the_start_itself_says_so() -> Outcome {
    let jail = Jail::new()?;
    let profile = jail.at("profile.json");
    fs::write(
        &profile,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ERRNO"}]}"#,
    )?;
    let ran = jail.run(&["--seccomp", &profile, "node", "true"])?;
    assert!(ran.code == 126 && ran.stderr.contains("EPERM"), "{ran:?}");
    Ok(())
}

fn a_mistake_in_a_profile_is_named() -> Outcome {
    let jail = Jail::new()?;
    let profile = jail.at("profile.json");
    let entry = |entry: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW"}}, {entry}]}}"#
        )
    };
    for (content, said) in [
        ("#!/bin/sh".to_owned(), "not the JSON of a profile: expected value at line 1 column 1"),
        ("{}".to_owned(), "defaultAction is missing"),
        (
            entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALOW"}"#),
            "syscalls[1]: action: unknown action \"SCMP_ACT_ALOW\": did you mean SCMP_ACT_ALLOW?",
        ),
        (
            entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "arg": []}"#),
            "syscalls[1]: unknown key \"arg\": did you mean args?",
        ),
        (
            entry(r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#),
            "syscalls[1]: action: SCMP_ACT_NOTIFY needs somebody who listens",
        ),
    ] {
        fs::write(&profile, content)?;
        for mode in [&[][..], &["--dry-run"]] {
            let made = jail.at("made");
            let ran = jail.run(&[mode, &["--mkdir", &made, "--seccomp", &profile, "node", "true"]].concat())?;
            ran.refused(125, said);
            assert!(ran.stderr.starts_with(&format!("stepdown: --seccomp {profile}: ")), "{ran:?}");
            assert!(!Path::new(&made).exists(), "something was done before");
        }
    }
    Ok(())
}
