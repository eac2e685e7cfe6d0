//! How foreign text is printed: nothing in it hides, to people or to programs.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran};

pub fn cases() -> Vec<Case> {
    cases![what_unicode_says_cant_be_seen_is_printed_escaped, no_message_prints_a_hidden_character]
}

/// Perl has tables of its own. What they don't have yet is in neither list.
const HIDDEN: &str = r"\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Zs}\p{Default_Ignorable_Code_Point}\p{Bidi_Control}";
const SEEN: &str = r"\p{L}\p{M}\p{N}\p{P}\p{S}";

/// The characters that are one and not the other, from U+0001 on; a plain space is neither.
fn characters(are: &str, are_not: &str) -> Result<Vec<char>, Stop> {
    let script = format!(
        r"binmode STDOUT, ':utf8'; for (1..0xd7ff, 0xe000..0x10ffff) {{ my $c = chr; print $c if $c ne ' ' && $c =~ /[{are}]/ && $c !~ /[{are_not}]/ }}"
    );
    let output = Command::new("perl").args(["-X", "-e", &script]).output()?;
    Ok(String::from_utf8(output.stdout).expect("UTF-8").chars().collect())
}

/// As arguments that are short enough.
fn words(characters: &[char]) -> Vec<String> {
    characters.chunks(8000).map(|chunk| chunk.iter().collect()).collect()
}

fn what_unicode_says_cant_be_seen_is_printed_escaped() -> Outcome {
    Need::Root.programs(&["perl"])?;
    let jail = Jail::new()?;
    let (hidden, seen) = (characters(HIDDEN, " ")?, characters(SEEN, HIDDEN)?);
    assert!(hidden.len() > 4000 && seen.len() > 100_000, "{} {}", hidden.len(), seen.len());
    for (characters, is_seen) in [(hidden, false), (seen, true)] {
        for words in words(&characters).chunks(8) {
            let line = |first: &str| [&[first.to_owned(), "node".to_owned(), "true".to_owned()], words].concat();
            let (people, programs) = (jail.run(&line("--dry-run"))?, jail.run(&line("--dry-run=json"))?);
            assert_eq!((people.code, programs.code), (0, 0), "{people:?}");
            let sets = [&people, &programs].map(|ran| ran.stdout.chars().collect::<HashSet<char>>());
            for character in words.iter().flat_map(|word| word.chars()) {
                // A line end is what separates lines; JSON escapes a quote and a backslash whatever they are.
                if !matches!(character, '\n' | '"' | '\\') {
                    let printed = [sets[0].contains(&character), sets[1].contains(&character)];
                    assert_eq!(printed, [is_seen, is_seen], "U+{:04X}", u32::from(character));
                }
            }
            let told: serde_json::Value = serde_json::from_str(&programs.stdout)?;
            let expected: Vec<&str> = std::iter::once("true").chain(words.iter().map(String::as_str)).collect();
            assert_eq!(told["command"], serde_json::json!(expected), "for a program it is the same text");
        }
    }
    Ok(())
}

/// One of each kind, and two bytes that are no UTF-8.
const FOREIGN: &[u8] =
    "a\u{1b}[2J\u{7}\n\u{7f}\u{9b}31m\u{a0}\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{200b}\u{202e}\u{2028}\u{2066}\u{3164}\
    \u{fe0f}\u{feff}\u{fff9}\u{e0041}\u{e0100}"
        .as_bytes();

fn no_message_prints_a_hidden_character() -> Outcome {
    let foreign = [FOREIGN, b"\x9b\xff"].concat();
    let text = std::str::from_utf8(FOREIGN).expect("UTF-8");
    let jail = Jail::new()?
        .setup("mount --bind $W $W; mount -o remount,bind,ro $W")
        .variable("WHO", text)
        .variable("LISTEN_FDS", text)
        .variable("LISTEN_PID", "1");
    let directory = jail.work().join(OsStr::from_bytes(&foreign));
    fs::create_dir(&directory)?;
    fs::write(directory.join(OsStr::from_bytes(&foreign)), "")?;
    let script = directory.join("script");
    fs::write(&script, [b"#!", FOREIGN.split(|&byte| byte == b'\n').next().unwrap_or_default(), b"\n"].concat())?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let path = directory.as_os_str().as_bytes();
    let with = |front: &[u8]| [front, &foreign].concat();
    let at = |option: &str, path: &[u8]| vec![option.as_bytes().to_vec(), path.to_vec(), b"node".to_vec(), b"true".to_vec()];
    let mut lines = vec![
        vec![foreign.clone(), b"true".to_vec()],
        vec![FOREIGN.to_vec(), b"true".to_vec()],
        vec![with(b"node:"), b"true".to_vec()],
        vec![b"$WHO".to_vec(), b"true".to_vec()],
        vec![with(b"@/"), b"true".to_vec()],
        vec![b"node".to_vec(), foreign.clone()],
        vec![b"node".to_vec(), with(b"/")],
        vec![b"node".to_vec(), script.as_os_str().as_bytes().to_vec()],
        vec![foreign.clone()],
        vec![with(b"--"), b"node".to_vec(), b"true".to_vec()],
        vec![with(b"--chow"), b"node".to_vec(), b"true".to_vec()],
        vec!["-\u{202e}".as_bytes().to_vec(), b"node".to_vec(), b"true".to_vec()],
        vec![b"-\xff".to_vec(), b"node".to_vec(), b"true".to_vec()],
        vec![with(b"--init="), b"node".to_vec(), b"true".to_vec()],
        vec![b"--verbose".to_vec(), b"--chown".to_vec(), path.to_vec(), b"node".to_vec(), b"true".to_vec()],
        at("--env", &with(b"PATH=/")),
    ];
    for option in [
        "--groups",
        "--mkdir",
        "--chown",
        "--chown-if-possible",
        "--chown-policy",
        "--listen",
        "--secret",
        "--open",
        "--keep-cap",
        "--keep-fd",
        "--env",
        "--unset-env",
        "--chdir",
        "--umask",
        "--ro",
        "--rwx",
        "--bind-tcp",
        "--seccomp",
        "--ulimit",
        "--nice",
        "--pdeathsig",
        "--dry-run",
        "--rewrite",
        "--exit-as",
        "--grace",
    ] {
        lines.extend([FOREIGN.to_vec(), with(b"/"), with(b"A=/"), path.to_vec()].map(|value| {
            let option = [option.as_bytes(), b"=", &value].concat();
            vec![option, b"--init".to_vec(), b"node".to_vec(), b"true".to_vec()]
        }));
    }
    let hides = |c: char| c != '\n' && !c.is_ascii_graphic() && c != ' ' && text.contains(c);
    for line in lines {
        let words: Vec<&OsStr> = line.iter().map(|word| OsStr::from_bytes(word)).collect();
        let output = jail.command(&words).output()?;
        let raw = String::from_utf8(output.stderr.clone()).expect("UTF-8").chars().find(|&c| hides(c));
        let ran = Ran::of(output);
        assert!(raw.is_none(), "{words:?}: {raw:?} in {ran:?}");
        assert!(ran.stderr.lines().all(|line| line.starts_with("stepdown: ")), "{words:?}: {ran:?}");
        // A few are no mistake, or the command's; and one message has no room for what was typed.
        let shown = ["\\u{202e}", "-\u{fffd}", "takes no value"].iter().any(|part| ran.stderr.contains(part));
        assert!(matches!(ran.code, 0 | 126) || shown, "{words:?}: what was typed is not shown: {ran:?}");
    }
    Ok(())
}
