//! Whose a terminal is afterwards. It becomes the target's only where it is stepdown's alone, as under docker and podman; of
//! a root shell's own it never does, since who owns a terminal reads what is typed there.
//!
//! Each case says two things: the owner, and whether an unrelated process of uid 1000 can open the terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cases;
use crate::command::on_a_terminal;
use crate::confine::profiles::{CONTAINERS_CONF, remove_cgroup};
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran, open_directory, programs};

pub fn cases() -> Vec<Case> {
    cases![
        a_root_shells_own_terminal_is_never_given_away,
        nor_is_it_seen_from_a_pid_namespace_of_its_own,
        nor_when_a_session_of_that_namespace_takes_it,
        nor_one_of_script_tmux_su_sudo_or_an_ssh_server,
        one_that_is_ours_alone_becomes_the_targets,
        who_may_have_taken_it_from_another_session_gives_nothing_away,
        neither_dev_tty_nor_another_terminal_becomes_the_targets,
        podmans_terminal_becomes_the_targets,
        the_console_of_nspawn_stays_roots,
    ]
}

/// What a process of uid 1000 says of the terminal that has nothing to do with the one that runs there.
const UNRELATED: &str = "whose() { echo $1 $(stat -c %u $2) $(setsid -w setpriv --reuid=1000 --regid=1000 --clear-groups \
     sh -c \"exec 3<>$2\" 2>/dev/null && echo opened || echo closed); }";

const ROOTS: &str = "0 closed";
const TARGETS: &str = "1000 opened";

/// Runs lines of shell as root's shell on a terminal, `$S` being stepdown; what came of the terminal is their last word.
fn in_a_root_shell(lines: &str) -> Result<String, Stop> {
    Need::Root.programs(&["setsid", "setpriv", "nsenter"])?;
    let jail = Jail::new()?.setup("chmod 777 $W").variable("S", &programs().stepdown).variable("ENGINE", ENGINE);
    let script = format!("{UNRELATED}\nW={}; t=$(tty)\n{lines}\nwhose shell $t\n", jail.work().display());
    let jail = jail.through(&["sh", "-c", &script]).instead("sh".as_ref());
    on_a_terminal(&jail.command(&[] as &[&str]))
}

fn a_root_shells_own_terminal_is_never_given_away() -> Outcome {
    for line in ["$S 1000:1000 true", "$S --init 1000:1000 true", "setsid -c $S 1000:1000 true", "(exec $S 1000:1000 true)"] {
        assert_eq!(in_a_root_shell(line)?, format!("shell {ROOTS}\n"), "{line}");
    }
    Ok(())
}

/// There it is PID 1, or its parent is outside of the namespace, as in a container.
const NAMESPACES: [&str; 5] = [
    "unshare --pid --fork --mount-proc",
    "unshare --pid --fork --kill-child",
    "unshare --mount --pid --fork",
    "unshare --pid --fork --mount-proc sh -c 'sleep 600 & exec sleep 600' & \
     while ! n=$(cat /proc/$!/task/$!/children) || [ -z \"$n\" ]; do sleep 0.01; done; nsenter -t $n -p -m",
    "unshare --pid --fork sleep 600 & while ! n=$(cat /proc/$!/task/$!/children) || [ -z \"$n\" ]; do sleep 0.01; done; \
     nsenter -t $n -p",
];

fn nor_is_it_seen_from_a_pid_namespace_of_its_own() -> Outcome {
    for namespace in NAMESPACES {
        for stepdown in ["$S 1000:1000 true", "$S --init 1000:1000 true", "setsid -w $S 1000:1000 true"] {
            let line = format!("{namespace} {stepdown}; echo code $?");
            assert_eq!(in_a_root_shell(&line)?, format!("code 0\nshell {ROOTS}\n"), "{line}");
        }
    }
    Ok(())
}

/// The shell reads it still, by the descriptor that it has.
fn nor_when_a_session_of_that_namespace_takes_it() -> Outcome {
    for namespace in NAMESPACES {
        let line = format!("{namespace} setsid -w --ctty $S 1000:1000 true; echo code $?");
        assert_eq!(in_a_root_shell(&line)?, format!("code 0\nshell {ROOTS}\n"), "{line}");
    }
    Ok(())
}

/// As an SSH server starts a login: a terminal of its own, whose other end it keeps.
const SERVER: &str = "import os, pty, sys
child, master = pty.fork()
if child == 0: os.execvp(sys.argv[1], sys.argv[1:])
while True:
    try: piece = os.read(master, 4096)
    except OSError: break
    if not piece: break
    os.write(1, piece)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))";

fn nor_one_of_script_tmux_su_sudo_or_an_ssh_server() -> Outcome {
    Need::Root.programs(&["python3", "script", "su", "sudo", "tmux"])?;
    let python = format!("SERVER='{SERVER}'; ");
    let tmux = "TMUX_TMPDIR=$W tmux -f /dev/null new-session -d \"$S 1000:1000 true; . $W/whose; whose inner \\$(tty) >$W/part; mv $W/part $W/said\"; \
         until [ -e $W/said ]; do sleep 0.05; done; cat $W/said";
    for (line, inner) in [
        ("script -qec \"$S 1000:1000 true; . $W/whose; whose inner \\$(tty)\" /dev/null", true),
        ("unshare --pid --fork script -qec \"exec $S 1000:1000 stat -Lc 'inner %u closed' /dev/fd/0\" /dev/null", true),
        ("python3 -c \"$SERVER\" sh -c \"$S 1000:1000 true; . $W/whose; whose inner \\$(tty)\"", true),
        ("python3 -c \"$SERVER\" $S 1000:1000 stat -Lc 'inner %u closed' /dev/fd/0", true),
        (tmux, true),
        ("su root -c \"$S 1000:1000 true\"", false),
        ("su --pty root -c \"$S 1000:1000 true; . $W/whose; whose inner \\$(tty)\"", true),
        ("sudo $S 1000:1000 true", false),
        ("sudo sh -c \"$S 1000:1000 true; . $W/whose; whose inner \\$(tty)\"", true),
    ] {
        let said = in_a_root_shell(&format!("cat >$W/whose <<'EOF'\n{UNRELATED}\nEOF\n{python}{line}"))?;
        let inner = if inner { format!("inner {ROOTS}\n") } else { String::new() };
        assert_eq!(said, format!("{inner}shell {ROOTS}\n"), "{line}");
    }
    Ok(())
}

/// A container engine in small: a PID namespace, in there a session with a terminal that was made for it, and the other end
/// handed to a process outside. Its words are what runs there.
pub const ENGINE: &str = "import array, fcntl, os, socket, subprocess, sys, termios
if sys.argv[1] == 'inside':
    outside = socket.socket(fileno=int(sys.argv[2]))
    os.setsid()
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    outside.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [master]))])
    for fd in (0, 1, 2): os.dup2(slave, fd)
    os.execvp(sys.argv[3], sys.argv[3:])
inside, outside = socket.socketpair()
line = ['unshare', '--pid', '--fork', '--kill-child', 'python3', '-c', sys.argv[1], 'inside', str(inside.fileno())]
child = subprocess.Popen(line + sys.argv[2:], pass_fds=[inside.fileno()])
inside.close()
master = array.array('i', outside.recvmsg(1, socket.CMSG_SPACE(4))[1][0][2])[0]
while True:
    try: piece = os.read(master, 4096)
    except OSError: break
    if not piece: break
    os.write(1, piece.replace(b'\\r', b''))
sys.exit(child.wait())";

/// What an engine starts has no right to take terminals.
const AS_IN_A_CONTAINER: &str = "python3 -c \"$ENGINE\" \"$ENGINE\" setpriv --bounding-set=-sys_admin";

fn one_that_is_ours_alone_becomes_the_targets() -> Outcome {
    Need::Root.programs(&["python3"])?;
    for init in ["", "--init"] {
        let inner = "setsid -w sh -c \"exec 3<>$(tty)\" && a=opened || a=closed; echo inner $(stat -Lc %u /dev/fd/0) $a; \
             echo again >/dev/stdout";
        let line = format!("cat >$W/inner <<'EOF'\n{inner}\nEOF\n{AS_IN_A_CONTAINER} $S {init} 1000:1000 sh $W/inner");
        assert_eq!(in_a_root_shell(&line)?, format!("inner {TARGETS}\nagain\nshell {ROOTS}\n"));
    }
    Ok(())
}

fn who_may_have_taken_it_from_another_session_gives_nothing_away() -> Outcome {
    Need::Root.programs(&["python3"])?;
    let line = "python3 -c \"$ENGINE\" \"$ENGINE\" $S 1000:1000 stat -Lc 'inner %u' /dev/fd/0";
    assert_eq!(in_a_root_shell(line)?, format!("inner 0\nshell {ROOTS}\n"));
    Ok(())
}

fn neither_dev_tty_nor_another_terminal_becomes_the_targets() -> Outcome {
    Need::Root.programs(&["python3"])?;
    // The shell's own terminal is the other one. /dev/tty is one of the jail's own, should it change.
    let line = format!(
        "mknod -m 666 $W/tty c 5 0; mount --bind $W/tty /dev/tty
         {AS_IN_A_CONTAINER} sh -c \"exec $S 1000:1000 stat -Lc 'inner %u' /dev/fd/0 /dev/fd/1 /dev/fd/2 </dev/tty 2>$t\""
    );
    assert_eq!(in_a_root_shell(&line)?, format!("inner 0\ninner 1000\ninner 0\nshell {ROOTS}\n"));
    Ok(())
}

/// A root for containers of which the programs are this machine's: nothing but names, and who runs there.
fn root(directory: &Path) -> Outcome {
    for name in ["usr", "proc", "sys", "dev", "tmp", "etc", "root", "run", "var", "programs"] {
        fs::create_dir_all(directory.join(name))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        let there = fs::symlink_metadata(Path::new("/").join(name)).is_ok_and(|facts| facts.is_symlink());
        if there {
            std::os::unix::fs::symlink(format!("usr/{name}"), directory.join(name))?;
        }
    }
    fs::write(directory.join("etc/passwd"), crate::jail::PASSWD)?;
    fs::write(directory.join("etc/group"), crate::jail::GROUP)?;
    fs::write(directory.join("etc/os-release"), "ID=test\n")?;
    Ok(())
}

fn stepdown_directory() -> String {
    programs().stepdown.parent().unwrap_or(Path::new("/")).display().to_string()
}

/// Of its own terminal the container's process says whose it is, and whether it can be opened.
const IN_A_CONTAINER: &str = "stat -Lc 'inner %u' /dev/fd/0; sh -c 'exec 3<>/dev/pts/0' && echo opened || echo closed";

fn podmans_terminal_becomes_the_targets() -> Outcome {
    crate::harness::root()?;
    Need::Container.programs(&["podman", "runc", "conmon", "script"])?;
    let directory = open_directory();
    let at = |name: &str| directory.path().join(name).display().to_string();
    root(&directory.path().join("root"))?;
    fs::write(at("containers.conf"), CONTAINERS_CONF)?;
    let storage = format!("[storage]\ndriver = 'vfs'\ngraphroot = '{}'\nrunroot = '{}'\n", at("graph"), at("run"));
    fs::write(at("storage.conf"), storage)?;
    let cgroup = format!("stepdown-test-podman-{}-terminal", std::process::id());
    let run = format!(
        "mount --make-rprivate /; mount -t tmpfs none /run
         exec podman run --rm -it --cgroups=no-conmon --cgroup-parent=/{cgroup} --network=none -v /usr:/usr:ro \\
             -v {}:/programs:ro --rootfs {} /programs/stepdown 1000:1000 sh -c \"{IN_A_CONTAINER}\"",
        stepdown_directory(),
        at("root"),
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-ec", &run]);
    command.env("CONTAINERS_CONF", at("containers.conf")).env("CONTAINERS_STORAGE_CONF", at("storage.conf"));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let said = on_a_terminal(&command)?;
    remove_cgroup(&cgroup)?;
    assert_eq!(said, "inner 1000\nopened\n");
    Ok(())
}

/// Its own terminal it is, but with CAP_SYS_ADMIN, so that nothing shows it. As a pipe it is that of who started nspawn.
fn the_console_of_nspawn_stays_roots() -> Outcome {
    crate::harness::root()?;
    Need::Systemd.programs(&["systemd-nspawn", "script"])?;
    for console in ["interactive", "pipe"] {
        for init in [&[][..], &["--as-pid2"]] {
            let directory = open_directory();
            root(directory.path())?;
            let mut command = Command::new("systemd-nspawn");
            command.args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--bind-ro=/usr"]);
            command.arg(format!("--bind-ro={}:/programs", stepdown_directory())).arg(format!("--console={console}"));
            command.arg("-D").arg(directory.path()).args(init);
            command.args(["/programs/stepdown", "1000:1000", "stat", "-Lc", "inner %u %a", "/dev/fd/0"]);
            command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
            let said = on_a_terminal(&command)?;
            assert!(said.contains("inner 0 620\n") || said.contains("inner 0 600\n"), "{console} {init:?}: {said:?}");
        }
    }
    Ok(())
}

/// For whoever reads its output elsewhere.
pub fn under_an_engine(line: &str) -> Result<Ran, Stop> {
    Need::Root.programs(&["python3"])?;
    let jail = Jail::new()?.variable("S", &programs().stepdown).variable("ENGINE", ENGINE);
    let script = format!("exec {AS_IN_A_CONTAINER} {line}");
    jail.through(&["sh", "-c", &script]).instead("sh".as_ref()).run(&[] as &[&str])
}
