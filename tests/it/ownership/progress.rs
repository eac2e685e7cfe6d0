//! What is seen of a `--chown` that takes long, and of one that fails.

use std::time::{Duration, Instant};

use crate::cases;
use crate::command::{on_a_terminal, raw_on_a_terminal};
use crate::harness::{Case, Need, Outcome, Stop, linux};
use crate::jail::Jail;

pub fn cases() -> Vec<Case> {
    cases![
        a_short_chown_says_nothing,
        a_long_chown_says_so_in_one_line,
        a_long_chown_that_fails_says_so_and_how_long_it_took,
        a_long_chown_shows_progress_on_a_terminal,
        progress_goes_by_the_clock_and_not_by_the_number_of_entries,
        progress_fits_the_terminal_and_says_which_path,
        what_is_listed_meanwhile_has_lines_of_its_own,
        verbose_names_each_entry_that_cant_be_changed_once,
    ]
}

/// Holds up each change for 2.2 s. All the trees here have one wrong directory at the most, so that many
/// threads take as long as one.
const SLOWLY: [&str; 8] =
    ["strace", "-f", "-qq", "-o/dev/null", "-e", "trace=fchownat", "-e", "inject=fchownat:delay_enter=2200000"];

fn a_short_chown_says_nothing() -> Outcome {
    let jail = Jail::new()?.setup("mkdir -p $W/d; cd $W/d; seq 1 600 | xargs touch; cd /; chown -R 0:0 $W/d");
    let line = ["--chown", &jail.at("d"), "node", "true"];
    // Short is what took less than two seconds by our clock, which began before its own: on a busy machine, another time.
    for _ in 0..50 {
        let begun = Instant::now();
        let ran = jail.run(&line)?;
        let said = on_a_terminal(&jail.command(&line))?;
        assert_eq!(ran.code, 0, "{ran:?}");
        if begun.elapsed() < Duration::from_secs(2) {
            assert_eq!((ran.stderr.as_str(), said.as_str()), ("", ""));
            return Ok(());
        }
    }
    Err(Stop::Fail("it never took less than two seconds".into()))
}

fn a_long_chown_says_so_in_one_line() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    for option in ["--chown", "--chown-if-possible"] {
        let jail = Jail::new()?.setup("mkdir -p $W/d; touch $W/d/a $W/d/b; chown 1000:1000 $W/d/a $W/d/b").through(&SLOWLY);
        let ran = jail.run(&[option, &jail.at("d"), "node", "true"])?;
        let told = format!("stepdown: {option} {}: 3 entries looked at, 1 changed in ", jail.at("d"));
        assert!(ran.code == 0 && ran.stderr.starts_with(&told) && ran.stderr.ends_with(" s\n"), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
    Ok(())
}

fn a_long_chown_that_fails_says_so_and_how_long_it_took() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let inject = "inject=fchownat:error=EIO:delay_enter=2200000";
    let jail = Jail::new()?.setup("mkdir -p $W/d").through(&SLOWLY[..7]).through(&[inject]);
    let ran = jail.run(&["--chown", &jail.at("d"), "node", "true"])?;
    assert_eq!(ran.code, 125, "{ran:?}");
    assert_eq!(ran.stderr.matches("1 entries looked at, 0 changed in ").count(), 1, "{ran:?}");
    assert!(ran.stderr.contains("--chown: 1 of 1 entries can't be changed, the first: "), "{ran:?}");
    Ok(())
}

fn a_long_chown_shows_progress_on_a_terminal() -> Outcome {
    Need::Strace.programs(&["strace", "script"])?;
    let jail = Jail::new()?.setup("mkdir -p $W/d; cd $W/d; seq 1 4000 | xargs touch; chown 1000:1000 *; chown 0 1 2; cd /");
    let jail = jail.through(&["strace", "-f", "-qq", "-o/dev/null", "-e", "trace=statx", "-e", "inject=statx:delay_enter=800"]);
    let said = on_a_terminal(&jail.command(&["--chown", &jail.at("d"), "node", "true"]))?;
    assert!(said.contains(" entries looked at, ") && said.contains(" changed, ") && said.contains("/s "), "{said:?}");
    let last = said.lines().last().unwrap_or_default();
    assert!(said.ends_with(" s\n") && last.contains("4001 entries looked at, 3 changed in "), "{said:?}");
    Ok(())
}

/// Holds up each look at an entry.
const EACH_SLOWLY: [&str; 8] =
    ["strace", "-f", "-qq", "-o/dev/null", "-e", "trace=statx", "-e", "inject=statx:delay_enter=100000"];

/// The terminal's width, for what is started through it.
fn columns(columns: u16) -> [String; 4] {
    ["sh".into(), "-c".into(), format!("stty rows 20 cols {columns} <&2; exec \"$@\""), "sh".into()]
}

/// What was written over a line that was there, from terminal output as it came.
fn shown_in_place(said: &str) -> Vec<&str> {
    let lines = said.split(['\r', '\n']).map(str::trim_end);
    lines.filter(|line| line.contains(" looked at") && !line.ends_with(" s")).collect()
}

fn progress_goes_by_the_clock_and_not_by_the_number_of_entries() -> Outcome {
    Need::Strace.programs(&["strace", "script"])?;
    // Forty entries of a tenth of a second each, in one directory and in many.
    for furnish in ["mkdir -p $W/d; cd $W/d; seq 1 40 | xargs touch", "mkdir -p $W/d; cd $W/d; seq 1 40 | xargs mkdir"] {
        let jail = Jail::new()?.setup(furnish).setup("chown -R 1000:1000 $W/d; cd /").through(&EACH_SLOWLY);
        let said = raw_on_a_terminal(&jail.command(&["--chown", &jail.at("d"), "node", "true"]))?;
        let shown = shown_in_place(&said);
        assert!(shown.len() > 2, "each time it is due: {said:?}");
        let counts: Vec<u64> =
            shown.iter().filter_map(|line| line.rsplit_once(" entries looked at")?.0.rsplit_once(' ')?.1.parse().ok()).collect();
        assert!(counts.len() == shown.len() && counts.is_sorted() && counts.first() < counts.last(), "it goes on: {said:?}");
        assert!(said.contains("41 entries looked at, 0 changed in "), "{said:?}");
    }
    Ok(())
}

fn progress_fits_the_terminal_and_says_which_path() -> Outcome {
    Need::Strace.programs(&["strace", "script", "stty"])?;
    let long = format!("{}/the-last-name", "a-long-name".repeat(12));
    for (name, end) in [("tree", "/tree"), (&long, "name"), ("\u{65e5}\u{672c}\u{8a9e}\u{65e5}\u{672c}\u{8a9e}\u{202e}x", "x")] {
        for width in [30, 40] {
            let setup =
                "touch $D/work/first; mkdir -p \"$P\"; cd \"$P\"; seq 1 40 | xargs touch; chown -R 1000:1000 \"$P\"; cd /";
            let jail = Jail::new()?;
            let path = jail.at(name);
            let through = columns(width);
            let jail =
                jail.variable("P", &path).setup(setup).through(&through.each_ref().map(String::as_str)).through(&EACH_SLOWLY);
            let said = raw_on_a_terminal(&jail.command(&["--chown", &path, "node", "true"]))?;
            let shown = shown_in_place(&said);
            assert!(!shown.is_empty(), "{width}: {said:?}");
            for line in shown {
                // What is not ASCII may take two columns.
                let columns: usize = line.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum();
                assert!(columns < usize::from(width), "{width}: {line:?}");
                let (told, _) = line.rsplit_once(": ").unwrap_or_else(|| panic!("{line:?}"));
                assert!(told.ends_with(end), "{width}: which PATH: {line:?}");
            }
        }
    }
    Ok(())
}

fn what_is_listed_meanwhile_has_lines_of_its_own() -> Outcome {
    Need::Strace.programs(&["strace", "script"])?;
    // The top is changed after all that it holds, of which each entry takes its time.
    let jail = Jail::new()?.setup("mkdir -p $W/d; cd $W/d; seq 1 4000 | xargs touch; chown 1000:1000 *; cd /");
    let strace = ["strace", "-f", "-qq", "-o/dev/null", "-e", "trace=statx,fchownat", "-e", "inject=statx:delay_enter=800"];
    let jail = jail.through(&strace).through(&["-e", "inject=fchownat:error=EIO"]);
    let said = on_a_terminal(&jail.command(&["--verbose", "--chown", &jail.at("d"), "node", "true"]))?;
    let listed = format!("stepdown: {}: fchownat(1000, 1000): EIO: I/O error", jail.at("d"));
    let (progress, line) = (said.find("/s "), said.find(&listed));
    assert!(progress.is_some() && progress < line, "the progress came first: {said:?}");
    assert!(said.lines().any(|line| line == listed), "{said:?}");
    Ok(())
}

fn verbose_names_each_entry_that_cant_be_changed_once() -> Outcome {
    linux((6, 0), "immutable files on tmpfs")?;
    let jail = Jail::new()?
        .setup("mkdir -p $W/d; mount -t tmpfs none $W/d; mkdir $W/d/a $W/d/b; touch $W/d/a/one $W/d/a/fine $W/d/b/two $W/d/three")
        .setup("mkdir $W/d/odd; touch \"$(printf '%s/d/odd/line\\nend' $W)\"")
        .setup("chattr +i $W/d/a/one $W/d/b/two $W/d/three $W/d/odd/* || exit 77");
    let ran = jail.run(&["--verbose", "--chown", &jail.at("d"), "1000:1000", "true"])?;
    if ran.code == 77 {
        return Err(Need::Filesystems.missing(format!("needs immutable files on tmpfs: {}", ran.stderr)));
    }
    assert_eq!(ran.code, 125, "{ran:?}");
    let summary = ran.stderr.lines().position(|line| line.contains("4 of 9 entries can't be changed"));
    let Some(summary) = summary else { panic!("no summary: {ran:?}") };
    let listed: Vec<&str> = ran.stderr.lines().take(summary).collect();
    assert_eq!(listed.len(), 4, "each once, and nothing that follows from it: {ran:?}");
    for name in ["d/a/one", "d/b/two", "d/three", "d/odd/line"] {
        let told = format!("stepdown: {}", jail.at(name));
        let told: Vec<_> = listed.iter().filter(|line| line.starts_with(&told)).collect();
        assert!(told.len() == 1 && told[0].contains("EPERM"), "{name}: {ran:?}");
    }
    // Without it, the first alone.
    let ran = jail.run(&["--chown", &jail.at("d"), "1000:1000", "true"])?;
    assert_eq!(ran.stderr.matches("EPERM").count(), 1, "{ran:?}");
    Ok(())
}
