//! Job control, on a real terminal, from a real interactive shell: ^C, ^Z, fg, bg.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use super::{path, until};
use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, programs};

pub fn cases() -> Vec<Case> {
    cases![
        the_command_has_the_foreground_and_gets_ctrl_c_once,
        ctrl_z_stops_the_job_and_fg_and_bg_make_it_go_on,
        a_job_that_does_not_read_runs_on_in_the_background,
        started_in_the_background_it_steals_no_foreground,
        in_a_pipeline_it_steals_no_foreground,
        below_a_script_it_stops_and_goes_on_with_the_script,
        an_interactive_shell_below_has_job_control_of_its_own,
        as_pid_1_the_command_has_the_foreground_and_gets_ctrl_c_once,
        as_pid_1_ctrl_z_does_not_stop_what_nobody_could_continue,
        a_stop_that_is_sent_lasts_until_cont_is_sent,
        a_hangup_reaches_the_command_once,
        a_terminal_that_refuses_everything_does_not_matter,
    ]
}

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";

/// A terminal, and what runs on it.
pub struct Screen {
    keyboard: Option<File>,
    text: Arc<Mutex<String>>,
    /// What has been seen of it.
    seen: usize,
    unshare: Child,
    jail: Jail,
}

impl Screen {
    /// Starts a jail on a terminal of its own, as the leader of a session.
    fn of(jail: Jail, arguments: &[&str]) -> Result<Self, Stop> {
        let mut screen = Self::blind(jail, arguments)?;
        screen.open_eyes()?;
        Ok(screen)
    }

    /// The same, without looking at it.
    fn blind(jail: Jail, arguments: &[&str]) -> Result<Self, Stop> {
        use nix::fcntl::OFlag;
        // openpty(3) would leave both ends open in every process that any other test starts.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = nix::pty::posix_openpt(flags)?;
        nix::pty::grantpt(&master)?;
        nix::pty::unlockpt(&master)?;
        let slave = nix::fcntl::open(nix::pty::ptsname_r(&master)?.as_str(), flags, nix::sys::stat::Mode::empty())?;
        let stream = || slave.try_clone().map(Stdio::from);
        let unshare = jail.command(arguments).stdin(stream()?).stdout(stream()?).stderr(stream()?).spawn()?;
        let keyboard = Some(File::from(OwnedFd::from(master)));
        Ok(Self { keyboard, text: Arc::default(), seen: 0, unshare, jail })
    }

    fn open_eyes(&mut self) -> Outcome {
        let mut screen = self.keyboard.as_mut().expect("open").try_clone()?;
        let shown = Arc::clone(&self.text);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // EIO when the last process has closed the terminal.
            while let Ok(count @ 1..) = screen.read(&mut piece) {
                shown.lock().expect("no panic").push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        });
        Ok(())
    }

    /// An interactive bash, with its first prompt.
    pub fn bash() -> Result<Self, Stop> {
        Self::bash_of(&[])
    }

    /// The same as another user.
    pub fn bash_of(user: &[&str]) -> Result<Self, Stop> {
        Need::Root.programs(&["bash", "setsid"])?;
        let jail = Jail::new()?.variable("PS1", "prompt% ").variable("TERM", "dumb").variable("S", path(&programs().stepdown));
        let jail = jail.variable("SIGNALS", path(&programs().signals)).variable("HISTFILE", "/dev/null");
        let jail = jail.through(&["setsid", "--ctty"]).through(user).instead("bash".as_ref());
        let mut screen = Self::of(jail, &["--norc", "--noprofile", "--noediting", "-i"])?;
        screen.sees("prompt% ")?;
        Ok(screen)
    }

    /// stepdown as PID 1.
    fn first(arguments: &[&str]) -> Result<Self, Stop> {
        Need::Root.programs(&["setsid"])?;
        Self::of(Jail::new()?.through(&["setsid", "--ctty"]), arguments)
    }

    /// A directory that the test and the shell share.
    pub fn work(&self) -> std::path::PathBuf {
        self.jail.work()
    }

    pub fn types(&mut self, keys: &str) -> Outcome {
        self.keyboard.as_mut().expect("open").write_all(keys.as_bytes())?;
        Ok(())
    }

    /// Types a line at the prompt.
    pub fn runs(&mut self, line: &str) -> Outcome {
        self.types(&format!("{line}\n"))?;
        // Its echo.
        self.sees(&format!("{line}\r\n"))
    }

    /// Has a stopped job go on, whose line the shell shows: what is typed before that is echoed in front of it.
    fn continues(&mut self, job: &str) -> Outcome {
        self.runs("fg")?;
        self.sees(&format!("{job}\r\n"))
    }

    /// Types the key until this is shown: nothing tells when the command begins to read.
    fn presses_until(&mut self, key: &str, what: &str) -> Outcome {
        until("", || {
            let shown = self.text.lock().expect("no panic")[self.seen..].contains(what);
            if !shown {
                self.types(key).ok()?;
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            shown.then_some(())
        })
        .map_err(|_| Stop::Fail(format!("{what:?} is not shown")))?;
        self.sees(what)
    }

    /// Waits for this behind what has been seen.
    pub fn sees(&mut self, what: &str) -> Outcome {
        self.reads(what).map(drop)
    }

    /// The same; what stands in front of it.
    pub fn reads(&mut self, what: &str) -> Result<String, Stop> {
        let found = until("", || {
            let text = self.text.lock().expect("no panic");
            let rest = &text[self.seen..];
            rest.find(what).map(|place| (rest[..place].to_owned(), self.seen + place + what.len()))
        });
        let (front, end) =
            found.map_err(|_| Stop::Fail(format!("{what:?} is not shown: {:?}", self.text.lock().expect("no panic"))))?;
        self.seen = end;
        Ok(front)
    }

    /// The numbers behind `ready` of the example `signals`.
    fn ready(&mut self) -> Result<Vec<i32>, Stop> {
        self.sees("ready ")?;
        Ok(self.reads("\r\n")?.split(' ').filter_map(|number| number.parse().ok()).collect())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn the_command_has_the_foreground_and_gets_ctrl_c_once() -> Outcome {
    let mut screen = Screen::bash()?;
    screen.runs("$S --init node $SIGNALS; echo code $?")?;
    let ready = screen.ready()?;
    let [pid, group, _, foreground] = ready[..] else { panic!("{ready:?}") };
    assert_eq!((group, foreground), (pid, pid));
    for (key, echo, signal) in [(CTRL_C, "^C", "2"), ("\x1c", "^\\", "3"), (CTRL_C, "^C", "2"), (CTRL_Z, "^Z", "20")] {
        screen.types(key)?;
        assert_eq!(screen.reads(&format!("{signal}\r\n"))?, echo, "nothing came twice");
    }
    // By the number that it has in its namespace: outside it has another.
    let signals = find(&screen, "signals")?;
    super::send(signals, &[15])?;
    screen.sees("code 0\r\n")?;
    screen.sees("prompt% ")?;
    Ok(())
}

/// A process of the jail, by its number out here.
fn find(screen: &Screen, name: &str) -> Result<u32, Stop> {
    until("no such process", || {
        let mut below = vec![screen.unshare.id()];
        let mut next = 0;
        while let Some(&pid) = below.get(next) {
            if std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name) {
                return Some(pid);
            }
            below.extend(super::children(pid));
            next += 1;
        }
        None
    })
}

fn ctrl_z_stops_the_job_and_fg_and_bg_make_it_go_on() -> Outcome {
    let mut screen = Screen::bash()?;
    screen.runs("$S --init node cat")?;
    screen.types("one\n")?;
    screen.sees("one\r\none\r\n")?;
    for round in ["two", "three"] {
        screen.types(CTRL_Z)?;
        screen.sees("Stopped")?;
        screen.sees("prompt% ")?;
        screen.runs("echo alive $((1 + 1))")?;
        screen.sees("alive 2\r\n")?;
        screen.continues("$S --init node cat")?;
        screen.types(&format!("{round}\n"))?;
        screen.sees(&format!("{round}\r\n{round}\r\n"))?;
    }
    screen.types(CTRL_Z)?;
    screen.sees("Stopped")?;
    // It wants to read in the background, and is stopped for it again.
    screen.runs("bg")?;
    screen.presses_until("\n", "Stopped")?;
    screen.continues("$S --init node cat")?;
    screen.types("four\n")?;
    screen.sees("four\r\nfour\r\n")?;
    screen.types(CTRL_D)?;
    screen.sees("prompt% ")?;
    screen.runs("echo code $?")?;
    screen.sees("code 0\r\n")
}

fn a_job_that_does_not_read_runs_on_in_the_background() -> Outcome {
    let mut screen = Screen::bash()?;
    screen.runs("$S --init node sleep 60")?;
    find(&screen, "sleep")?;
    screen.types(CTRL_Z)?;
    screen.sees("Stopped")?;
    screen.runs("bg; jobs")?;
    screen.sees("Running")?;
    let sleep = find(&screen, "sleep")?;
    until("it is stopped", || super::status(sleep, "State").ok()?.starts_with('S').then_some(()))?;
    screen.runs("kill %1; wait %1; echo code $?")?;
    screen.sees("code 143\r\n")
}

fn started_in_the_background_it_steals_no_foreground() -> Outcome {
    let mut screen = Screen::bash()?;
    screen.runs("$S --init node $SIGNALS &")?;
    let ready = screen.ready()?;
    assert!(ready[3] != ready[1] && ready[3] > 0, "{ready:?}");
    screen.runs("echo alive $((1 + 1))")?;
    screen.sees("alive 2\r\n")?;
    screen.continues("$SIGNALS")?;
    until("the shell is in the foreground", || {
        let stepdown = find(&screen, "stepdown").ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{stepdown}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // pgrp and tpgid.
        (fields[2] == fields[5]).then_some(())
    })?;
    screen.types(CTRL_C)?;
    screen.sees("2\r\n")?;
    screen.types(CTRL_Z)?;
    screen.sees("20\r\n")?;
    super::send(find(&screen, "signals")?, &[15])?;
    assert!(!screen.reads("prompt% ")?.contains('2'), "^C came twice");
    Ok(())
}

fn in_a_pipeline_it_steals_no_foreground() -> Outcome {
    let mut screen = Screen::bash()?;
    screen.runs("$S --init node echo x | sh -c 'cat; read line </dev/tty; echo got $line'")?;
    screen.sees("x\r\n")?;
    screen.types("this\n")?;
    screen.sees("got this\r\n")?;
    screen.sees("prompt% ")?;
    screen.runs("$S --init node sleep 60 | cat; echo code ${PIPESTATUS[@]}")?;
    find(&screen, "sleep")?;
    screen.types(CTRL_Z)?;
    screen.sees("Stopped")?;
    screen.runs("fg; echo code ${PIPESTATUS[@]}")?;
    let sleep = find(&screen, "sleep")?;
    until("it is stopped", || super::status(sleep, "State").ok()?.starts_with('S').then_some(()))?;
    screen.types(CTRL_C)?;
    screen.sees("prompt% ")
}

fn below_a_script_it_stops_and_goes_on_with_the_script() -> Outcome {
    let mut screen = Screen::bash_of(&["setpriv", "--reuid=1000", "--regid=1000", "--groups=1000"])?;
    screen.runs("sh -c '$S --init --groups=1000 node cat; read line; echo got $line'")?;
    screen.types("one\n")?;
    screen.sees("one\r\none\r\n")?;
    screen.types(CTRL_Z)?;
    screen.sees("Stopped")?;
    screen.continues("echo got $line'")?;
    screen.types("two\n")?;
    screen.sees("two\r\ntwo\r\n")?;
    screen.types(CTRL_D)?;
    // The script reads from the terminal again.
    screen.types("three\n")?;
    screen.sees("got three\r\n")?;
    screen.sees("prompt% ")?;
    // ^C ends the script as well.
    screen.runs("sh -c '$S --init --groups=1000 node sleep 60; echo after'")?;
    find(&screen, "sleep")?;
    screen.types(CTRL_C)?;
    let shown = screen.reads("prompt% ")?;
    screen.runs("echo code $?")?;
    screen.sees("code 130\r\n")?;
    assert!(!shown.contains("after"), "{shown:?}");
    Ok(())
}

fn an_interactive_shell_below_has_job_control_of_its_own() -> Outcome {
    let mut screen = Screen::bash()?;
    screen.runs("PS1='inner% ' $S --init node bash --norc --noprofile --noediting -i")?;
    screen.sees("inner% ")?;
    screen.runs("cat")?;
    screen.types("one\n")?;
    screen.sees("one\r\none\r\n")?;
    screen.types(CTRL_Z)?;
    screen.sees("Stopped")?;
    screen.sees("inner% ")?;
    screen.continues("cat")?;
    screen.types("two\n")?;
    screen.sees("two\r\ntwo\r\n")?;
    screen.types(CTRL_D)?;
    screen.sees("inner% ")?;
    // The inner shell stops itself, and the outer one has the terminal.
    screen.runs("suspend")?;
    screen.sees("Stopped")?;
    screen.sees("prompt% ")?;
    screen.continues("--noediting -i")?;
    screen.presses_until("\n", "inner% ")?;
    screen.runs("exit 3")?;
    screen.sees("prompt% ")?;
    screen.runs("echo code $?")?;
    screen.sees("code 3\r\n")
}

fn as_pid_1_the_command_has_the_foreground_and_gets_ctrl_c_once() -> Outcome {
    let mut screen = Screen::first(&["--init", "node", path(&programs().signals)])?;
    let ready = screen.ready()?;
    let [pid, group, _, foreground] = ready[..] else { panic!("{ready:?}") };
    assert_eq!((group, foreground), (pid, pid));
    screen.types(CTRL_C)?;
    screen.sees("2\r\n")?;
    super::send(find(&screen, "signals")?, &[10])?;
    assert!(!screen.reads("10\r\n")?.contains('2'), "^C came twice");
    Ok(())
}

fn as_pid_1_ctrl_z_does_not_stop_what_nobody_could_continue() -> Outcome {
    let mut screen = Screen::first(&["--init", "node", "cat"])?;
    for word in ["one", "two"] {
        screen.types(&format!("{word}\n"))?;
        screen.sees(&format!("{word}\r\n{word}\r\n"))?;
        screen.types(CTRL_Z)?;
        screen.sees("^Z")?;
    }
    screen.types("three\n")?;
    screen.sees("three\r\nthree\r\n")?;
    screen.types(CTRL_D)?;
    assert_eq!(until("it does not end", || screen.unshare.try_wait().ok().flatten())?.code(), Some(0));
    Ok(())
}

fn a_stop_that_is_sent_lasts_until_cont_is_sent() -> Outcome {
    let screen = Screen::first(&["--init", "node", "sleep", "60"])?;
    let (stepdown, sleep) = (find(&screen, "stepdown")?, find(&screen, "sleep")?);
    let state =
        |wanted: char| until("not in that state", || super::status(sleep, "State").ok()?.starts_with(wanted).then_some(()));
    for _ in 0..3 {
        super::send(stepdown, &[20])?;
        state('T')?;
        // Nothing makes it go on by itself.
        std::thread::sleep(std::time::Duration::from_millis(100));
        state('T')?;
        super::send(stepdown, &[18])?;
        state('S')?;
    }
    Ok(())
}

fn a_hangup_reaches_the_command_once() -> Outcome {
    let jail = Jail::new()?.setup("touch $W/log; chmod 666 $W/log").through(&["setsid", "--ctty"]);
    let log = jail.at("log");
    let script = "exec \"$0\" >\"$1\"";
    let mut screen = Screen::blind(jail, &["--init", "node", "sh", "-c", script, path(&programs().signals), &log])?;
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    until("not ready", || read().starts_with("ready").then_some(()))?;
    let stepdown = find(&screen, "stepdown")?;
    drop(screen.keyboard.take());
    until("no hangup", || read().contains("\n1\n").then_some(()))?;
    super::send(stepdown, &[10, 15])?;
    until("it does not end", || screen.unshare.try_wait().ok().flatten())?;
    assert_eq!(read().matches("\n1\n").count(), 1, "{}", read());
    Ok(())
}

fn a_terminal_that_refuses_everything_does_not_matter() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    for errno in ["ENOTTY", "EBADF", "ENXIO", "EIO", "EPERM"] {
        for call in ["ioctl", "ioctl:when=2+"] {
            let (name, when) = call.split_once(':').unwrap_or((call, "when=1+"));
            // What is asked of the terminal alone: of no descriptor at all, the guard has its own trial.
            let strace = format!(
                "exec strace -f -qq -o/dev/null -P /dev/tty -P $(tty) -e trace=ioctl -e inject={name}:error={errno}:{when} \"$@\""
            );
            let strace = ["setsid", "--ctty", "sh", "-c", &strace, "sh"];
            let mut screen =
                Screen::of(Jail::new()?.through(&strace), &["--init", "node", "sh", "-c", "echo up; kill -TERM $$"])?;
            screen.sees("up\r\n")?;
            let code = until("it does not end", || screen.unshare.try_wait().ok().flatten())?.code();
            assert_eq!(code, Some(143), "{errno} {call}");
        }
    }
    Ok(())
}
