//! A command that shares the terminal of a root shell can't type into it.

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::init::terminal::Screen;
use crate::jail::{Jail, programs};

pub fn cases() -> Vec<Case> {
    cases![
        a_command_cant_type_into_a_root_shells_terminal,
        nor_by_numbers_with_bits_above_or_of_another_kind,
        gosu_lets_it,
        job_control_works_there,
        where_nobody_above_shares_it_there_is_no_filter,
        one_that_was_taken_from_a_root_shell_is_shared,
        without_a_terminal_there_is_no_filter,
        allow_new_privs_says_that_the_terminal_is_open,
        a_session_of_its_own_has_no_terminal,
        redirected_streams_make_no_difference,
    ]
}

/// Types a line into the terminal, which the shell reads when the command has ended.
const ATTACK: &str = "python3 -c 'import fcntl
t = open(\"/dev/tty\", \"r+b\", 0)
try:
    for c in b\"echo pwned-$((6*7))-by-$(id -u)\\n\": fcntl.ioctl(t, REQUEST, bytes([c]))
    print(\"typed\")
except OSError as e: print(\"refused\", e.errno)'";

/// Whether the kernel lets anybody type (dev.tty.legacy_tiocsti, Linux 6.2).
fn typing_is_possible() -> Outcome {
    match std::fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti") {
        Ok(text) if text.trim() == "0" => Err(Stop::Skip("dev.tty.legacy_tiocsti is 0 here: nobody can type".to_owned())),
        _ => Ok(()),
    }
}

fn attacked(launcher: &str, request: &str) -> Result<Screen, Stop> {
    Need::Root.programs(&["python3"])?;
    let mut screen = Screen::bash()?;
    let attack = ATTACK.replace("REQUEST", request).replace('\n', "\\n");
    // One line, so that its echo is one.
    screen.types(&format!("{launcher} python3 -c \"$(printf '{}')\"; echo over\n", escape(&attack)))?;
    Ok(screen)
}

/// The program between the outer quotes, for printf within single quotes.
fn escape(attack: &str) -> String {
    let program = attack.trim_start_matches("python3 -c '").trim_end_matches('\'');
    program.replace('%', "%%").replace('\'', "\\047").replace("\\n\":", "\\\\n\":")
}

fn a_command_cant_type_into_a_root_shells_terminal() -> Outcome {
    let mut screen = attacked("$S node", "0x5412")?;
    screen.sees("refused 1\r\n")?;
    screen.sees("over\r\n")?;
    screen.runs("echo alive $((1 + 1))")?;
    assert!(!screen.reads("alive 2\r\n")?.contains("pwned"));
    Ok(())
}

fn nor_by_numbers_with_bits_above_or_of_another_kind() -> Outcome {
    Need::Root.programs(&["python3"])?;
    let program = "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
t = os.open('/dev/tty', os.O_RDWR)
for request in (0x5412, 0x541c, 0x5412 | 1 << 32, 0x541c | 1 << 63):
    for number in NUMBERS:
        print(libc.syscall(ctypes.c_long(number), t, ctypes.c_ulong(request), b'x'), ctypes.get_errno())
print('over')";
    let numbers = if cfg!(target_arch = "x86_64") { "(16, 0x40000000 | 514, 0x40000000 | 16)" } else { "(29,)" };
    let mut screen = Screen::bash()?;
    let file = screen.work().join("attack.py");
    std::fs::write(&file, program.replace("NUMBERS", numbers))?;
    screen.runs(&format!("$S node python3 {}", file.display()))?;
    let said = screen.reads("over\r\n")?;
    let wrong: Vec<&str> = said.lines().filter(|line| *line != "-1 1").collect();
    assert!(wrong.is_empty() && said.lines().count() >= 4, "{said}");
    Ok(())
}

fn gosu_lets_it() -> Outcome {
    Need::Peers.programs(&["gosu"])?;
    typing_is_possible()?;
    let mut screen = attacked("gosu node", "0x5412")?;
    screen.sees("typed\r\n")?;
    screen.sees("pwned-42-by-0\r\n")?;
    Ok(())
}

fn job_control_works_there() -> Outcome {
    let mut screen = Screen::bash()?;
    screen.runs("$S node cat")?;
    screen.types("one\n")?;
    screen.sees("one\r\none\r\n")?;
    screen.types("\x1a")?;
    screen.sees("Stopped")?;
    screen.sees("prompt% ")?;
    screen.runs("fg")?;
    screen.sees("$S node cat\r\n")?;
    screen.types("two\n")?;
    screen.sees("two\r\ntwo\r\n")?;
    screen.types("\x03")?;
    screen.sees("prompt% ")?;
    screen.runs("$S node stty -a >/dev/null && $S node stty sane && echo settings $((1 + 1))")?;
    screen.sees("settings 2\r\n")
}

/// What the report says of filters, from a run of this line in a root shell on a terminal.
fn filters(line: &str) -> Result<i64, Stop> {
    let mut screen = Screen::bash()?;
    let report = screen.work().join("report");
    screen.runs(&format!("{} {} >{}; echo over", line, programs().report.display(), report.display()))?;
    screen.sees("over\r\n")?;
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report)?)?;
    Ok(report["seccomp"].as_i64().unwrap_or(-1))
}

fn redirected_streams_make_no_difference() -> Outcome {
    assert_eq!(filters("$S node")?, 2);
    assert_eq!(filters("</dev/null 2>/dev/null $S node")?, 2);
    assert_eq!(filters("$S --init node")?, 2);
    Ok(())
}

fn a_session_of_its_own_has_no_terminal() -> Outcome {
    let mut screen = Screen::bash()?;
    screen.runs("setsid -w $S --allow-new-privs node sh -c 'echo x >/dev/tty'; echo over")?;
    assert!(screen.reads("over\r\n")?.contains("No such device or address"));
    for line in [
        "$S --init --new-session node sh -c 'echo x >/dev/tty'",
        "$S --init --new-session --allow-new-privs node sh -c 'echo x >/dev/tty'",
        // As what a script starts, it leads no process group.
        "sh -c '$S --new-session node sh -c \"echo x >/dev/tty\"; true'",
    ] {
        screen.runs(&format!("{line}; echo over"))?;
        let said = screen.reads("over\r\n")?;
        assert!(said.contains("No such device or address"), "{line}: {said}");
    }
    screen.runs("$S --new-session node true; echo code $?")?;
    assert!(screen.reads("code 125\r\n")?.contains("--new-session: setsid: EPERM"));
    Ok(())
}

fn where_nobody_above_shares_it_there_is_no_filter() -> Outcome {
    let ran = crate::terminals::under_an_engine("$S 1000:1000 grep Seccomp: /proc/self/status")?;
    assert_eq!(ran.stdout.trim(), "Seccomp:\t0", "{ran:?}");
    Ok(())
}

/// As PID 1, and leading the session: the shell whose terminal it was reads it still.
fn one_that_was_taken_from_a_root_shell_is_shared() -> Outcome {
    let jail = Jail::new()?.through(&["setsid", "--ctty"]);
    let said = crate::command::on_a_terminal(&jail.command(&["1000:1000", "grep", "Seccomp:", "/proc/self/status"]))?;
    assert_eq!(said.trim(), "Seccomp:\t2");
    Ok(())
}

fn without_a_terminal_there_is_no_filter() -> Outcome {
    assert_eq!(Jail::new()?.report(&["node"])?.number("seccomp"), 0);
    let below = Jail::new()?.through(&["sh", "-c", "\"$@\"; exit $?", "sh"]);
    assert_eq!(below.report(&["node"])?.number("seccomp"), 0);
    Ok(())
}

fn allow_new_privs_says_that_the_terminal_is_open() -> Outcome {
    let mut screen = Screen::bash()?;
    screen.runs("$S --allow-new-privs node true; echo code $?")?;
    let said = screen.reads("code 0\r\n")?;
    assert!(said.contains("stepdown: warning: not enforced: the terminal is shared"), "{said}");
    assert_eq!(filters("$S --allow-new-privs node")?, 0);
    Ok(())
}
