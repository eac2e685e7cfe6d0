//! How foreign text and long lists are printed: nothing hides, and nothing is longer than anybody reads.

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
    cases![
        what_unicode_says_cant_be_seen_is_printed_escaped,
        no_message_prints_a_hidden_character,
        a_set_of_capabilities_is_told_in_few_words,
        a_long_list_is_told_by_its_beginning_and_its_length,
    ]
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

fn a_set_of_capabilities_is_told_in_few_words() -> Outcome {
    // The kernel may have more than setpriv can name.
    let without = |names: &str| ["setpriv".to_owned(), format!("--bounding-set={names}"), "--inh-caps=-all".to_owned()];
    // The runner's own set may lack some already.
    for names in ["setpcap", "chown,setpcap,sys_admin"] {
        let setpriv = without(&names.split(',').map(|name| format!("-{name}")).collect::<Vec<_>>().join(","));
        let ran = Jail::new()?.through(&setpriv.each_ref().map(String::as_str)).run(&["--allow-new-privs", "node", "true"])?;
        let but = ran.stderr.split_once("the command could regain all but ").unwrap_or_else(|| panic!("{ran:?}")).1;
        let but: Vec<&str> = but.lines().next().unwrap_or_default().split(", ").collect();
        let named = names.split(',').all(|name| but.contains(&format!("CAP_{}", name.to_uppercase()).as_str()));
        assert!(named && but.len() <= 8, "{ran:?}");
    }
    for (bounding, regained) in [
        ("-all,+setuid,+setgid,+kill", "CAP_KILL, CAP_SETGID, CAP_SETUID"),
        (
            "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+net_bind_service",
            "CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE",
        ),
        (
            "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+net_bind_service,+net_raw,+sys_chroot,+mknod",
            "CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE and 3 more",
        ),
    ] {
        let setpriv = without(bounding);
        let jail = Jail::new()?.through(&setpriv.each_ref().map(String::as_str));
        jail.run(&["--allow-new-privs", "node", "true"])?.refused(
            125,
            &format!("so the bounding set can't be dropped, and the command could regain {regained}\nstepdown: hint: "),
        );
    }
    let docker = "CHOWN,DAC_OVERRIDE,FOWNER,FSETID,KILL,SETGID,SETUID,NET_BIND_SERVICE,NET_RAW,SYS_CHROOT,MKNOD";
    let jail = Jail::new()?;
    let told = jail.run(&["--dry-run", "--keep-cap", docker, "node", "true"])?;
    assert!(told.stdout.contains(", CAP_NET_BIND_SERVICE and 3 more in all five sets\n"), "{told:?}");
    let told: serde_json::Value =
        serde_json::from_str(&jail.run(&["--dry-run=json", "--keep-cap", docker, "node", "true"])?.stdout)?;
    let names: Vec<&str> = told["capabilities"].as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
    assert!(names.len() == 11 && docker.split(',').all(|name| names.contains(&format!("CAP_{name}").as_str())), "all: {told}");
    Ok(())
}

fn a_long_list_is_told_by_its_beginning_and_its_length() -> Outcome {
    let many: Vec<String> = (5000..5200).map(|gid| gid.to_string()).collect();
    let groups = many.join(",");
    let jail = Jail::new()?;
    let told = jail.run(&["--dry-run", "--groups", &groups, "node", "true"])?;
    let line = told.stdout.lines().find(|line| line.starts_with("groups")).unwrap_or_default();
    assert!(line.starts_with("groups        1000, 5000, 5001, ") && line.ends_with(", 5030 and 169 more"), "{line}");
    let told: serde_json::Value =
        serde_json::from_str(&jail.run(&["--dry-run=json", "--groups", &groups, "node", "true"])?.stdout)?;
    assert_eq!(told["user"]["groups"].as_array().map(Vec::len), Some(201), "all of them for a program");
    let setpriv = ["setpriv", "--reuid=1000", "--regid=1000", &format!("--groups={groups}")];
    Jail::new()?.through(&setpriv).run(&["--groups", "node", "node", "true"])?.refused(
        125,
        "but in groups [5000, 5001, 5002, 5003, 5004, 5005, 5006, 5007 and 192 more] besides, and CAP_SETGID is missing",
    );
    // Groups that are left to say; a PATH of hundreds of directories, each closed.
    let namespace = ["setpriv", "--bounding-set=-setgid", "--inh-caps=-all", "--reuid=0"];
    Jail::new()?.through(&namespace).run(&["--groups", &groups, "node", "true"])?.refused(125, "CAP_SETGID is missing");
    let jail = Jail::new()?
        .setup("for i in $(seq 300); do mkdir -m 700 $W/$i; printf '#!/bin/sh' >$W/$i/tool; chmod 755 $W/$i/tool; done");
    let path: Vec<String> = (1..=300).map(|number| jail.at(&number.to_string())).collect();
    let ran = jail.run(&["--env", &format!("PATH={}", path.join(":")), "node", "tool"])?;
    ran.refused(127, &format!("COMMAND 'tool' is not found in PATH ({} and 292 more; ", path[..8].join(":")));
    ran.refused(127, &format!("; {}/tool is closed to uid 1000 and 292 more)\n", path[7]));
    Ok(())
}
