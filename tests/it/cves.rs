//! The field's vulnerabilities: that the table in tests/cves.md is whole and names tests that are there, and the attacks
//! that no other test makes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, PASSWD, owner, programs};

pub fn cases() -> Vec<Case> {
    cases![
        the_table_is_whole_and_names_tests_that_are_there,
        a_name_that_begins_with_a_digit_is_a_name_and_never_root,
        a_number_too_large_for_an_id_is_no_name,
        a_control_character_in_an_account_makes_it_none_and_is_not_printed,
        a_set_user_id_bit_does_not_survive_a_change_of_owner,
        what_is_right_already_keeps_its_bits_and_capabilities,
        without_arguments_the_environment_is_not_taken_for_them,
        no_file_is_opened_because_the_environment_or_nsswitch_names_it,
        a_process_is_not_taken_for_anothers_child_by_its_name,
        the_command_cant_open_the_file_of_the_supervisor,
        without_init_nothing_of_the_launcher_stays,
        nothing_is_written_to_what_only_looks_like_proc,
    ]
}

static KNOWN: OnceLock<BTreeSet<String>> = OnceLock::new();

/// Takes the names of all tests, `concern::name`, which the table is compared with.
pub fn know(names: BTreeSet<String>) {
    let _ = KNOWN.set(names);
}

const TABLE: &str = include_str!("../cves.md");

/// The fewest rows that the table may have.
const FEWEST: usize = 45;

fn the_table_is_whole_and_names_tests_that_are_there() -> Outcome {
    let (mut numbers, mut class, mut wrong) = (BTreeSet::new(), None, Vec::new());
    for line in TABLE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            class = Some(heading);
        }
        let Some(row) = line.strip_prefix('|').and_then(|rest| rest.strip_suffix('|')) else { continue };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        match cells[..] {
            ["CVE", ..] | ["---" | "", ..] => {}
            [number, program, what, answer] => {
                let mut say = |why: &str| wrong.push(format!("{number}: {why}"));
                if !is_a_number(number) {
                    say("is no CVE number");
                }
                if !numbers.insert(number) {
                    say("stands twice");
                }
                if class.is_none() {
                    say("has no class");
                }
                if program.is_empty() || what.len() < 25 || !what.ends_with('.') {
                    say("does not say what went wrong, and where");
                }
                answered(answer).unwrap_or_else(|why| say(&why));
            }
            _ => wrong.push(format!("no row: {line}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(numbers.len() >= FEWEST, "{} rows", numbers.len());
    Ok(())
}

/// `CVE-YEAR-NUMBER`.
fn is_a_number(text: &str) -> bool {
    let is_of = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    matches!(text.split('-').collect::<Vec<_>>()[..], ["CVE", year, number]
        if is_of(year, 4..=4) && ("1999"..="2099").contains(&year) && is_of(number, 4..=7))
}

/// Tests that are all there, or a reason that is one.
fn answered(answer: &str) -> Result<(), String> {
    let named: Vec<&str> =
        answer.split('`').skip(1).step_by(2).filter(|word| word.contains("::") || word.contains(".rs: ")).collect();
    let missing: Vec<&str> = named.iter().copied().filter(|name| !is_there(name)).collect();
    let reason = answer.strip_prefix("Can't apply: ");
    match (named.is_empty(), reason) {
        _ if !missing.is_empty() => Err(format!("there is no test {}", missing.join(", "))),
        (true, None) => Err("names neither a test nor the reason why it can't apply".to_owned()),
        (true, Some(reason)) if reason.len() < 60 => Err(format!("is too short a reason: {reason}")),
        _ => Ok(()),
    }
}

/// `concern::name`, or `src/FILE.rs: name`.
fn is_there(name: &str) -> bool {
    match name.split_once(": ") {
        Some((file, function)) => {
            let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default();
            let test = source.split_once("#[cfg(test)]").map(|(_, tests)| tests).unwrap_or_default();
            test.contains(&format!("#[test]\n    fn {function}(")) || test.contains(&format!("#[test]\n        fn {function}("))
        }
        None => KNOWN.get().is_some_and(|known| known.contains(name)),
    }
}

/// CVE-2017-1000082: systemd found the name invalid, and went on as root.
fn a_name_that_begins_with_a_digit_is_a_name_and_never_root() -> Outcome {
    let jail = Jail::new()?.variable("PUID", "0day");
    for spec in ["0day", "0day:0day", "$PUID", "7up:50", "0_", "0xg"] {
        jail.run(&[spec, "true"])?.refused(125, "there is no user");
    }
    let passwd = format!("{PASSWD}0day:x:1234:1234::/:/bin/sh\n");
    Jail::new()?.accounts(Some(passwd.as_bytes()), Some(b""))?.report(&["0day"])?.is_exactly(1234, 1234, &[1234]);
    Ok(())
}

/// CVE-2026-46680: what did not fit into an id was looked up as a name, which the image's own passwd had.
fn a_number_too_large_for_an_id_is_no_name() -> Outcome {
    for number in ["4294967296", "99999999999999999999", "4294967295"] {
        let passwd = format!("{PASSWD}{number}:x:0:0::/root:/bin/sh\n");
        let group = format!("{number}:x:0:node\n");
        let jail = Jail::new()?.accounts(Some(passwd.as_bytes()), Some(group.as_bytes()))?.variable("N", number);
        jail.run(&[number, "true"])?.refused(125, "ids are 0 to 4294967294");
        jail.run(&[format!("node:{number}").as_str(), "true"])?.refused(125, "ids are 0 to 4294967294");
        jail.run(&["$N", "true"])?.refused(125, "the variable N is");
        jail.run(&["--groups", number, "node", "true"])?.refused(125, "ids are 0 to 4294967294");
    }
    Ok(())
}

/// CVE-2023-29383: a carriage return in a field shows whoever looks at the file another account than is there.
fn a_control_character_in_an_account_makes_it_none_and_is_not_printed() -> Outcome {
    for field in ["No\rroot:x:0:0:", "\u{1b}[1A\u{1b}[2K", "a\u{7f}b", "\u{8}\u{8}"] {
        let passwd = format!("root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000:{field}:/home/node:/bin/sh\n");
        let ran = Jail::new()?.accounts(Some(passwd.as_bytes()), Some(b""))?.run(&["node", "true"])?;
        ran.refused(125, "there is no user 'node'");
        let raw = ran.stderr.chars().filter(|letter| letter.is_control() && *letter != '\n').count();
        assert_eq!(raw, 0, "{field:?}: {ran:?}");
    }
    Ok(())
}

/// Programs with a set-user-ID and a set-group-ID bit, and with a capability, in a tree of uid and gid `of`.
fn with_bits(of: u32) -> Result<Jail, Stop> {
    Need::Root.programs(&["setcap", "getcap"])?;
    let jail = Jail::new()?;
    fs::create_dir(jail.at("d"))?;
    for name in ["d/bits", "d/capable"] {
        fs::copy("/bin/true", jail.at(name))?;
    }
    for name in ["d", "d/bits", "d/capable"] {
        std::os::unix::fs::chown(jail.at(name), Some(of), Some(of))?;
    }
    fs::set_permissions(jail.at("d/bits"), std::os::unix::fs::PermissionsExt::from_mode(0o6755))?;
    let set = Command::new("setcap").args(["cap_net_raw+ep", &jail.at("d/capable")]).output()?;
    if !set.status.success() {
        return Err(Need::Filesystems.missing(format!("no file capabilities here: {}", String::from_utf8_lossy(&set.stderr))));
    }
    Ok(jail)
}

/// The mode of the one, and the capabilities of the other.
fn bits(jail: &Jail) -> Result<(u32, bool), Stop> {
    let capabilities = Command::new("getcap").arg(jail.at("d/capable")).output()?.stdout;
    Ok((fs::metadata(jail.at("d/bits"))?.mode() & 0o7777, !capabilities.is_empty()))
}

/// CVE-2019-3843: who had the tree before may have left a program in it, which would be the target's then.
fn a_set_user_id_bit_does_not_survive_a_change_of_owner() -> Outcome {
    for (of, option) in [(0, "--chown"), (500, "--chown"), (500, "--chown-if-possible")] {
        let jail = with_bits(of)?;
        assert_eq!(bits(&jail)?, (0o6755, true), "as it was made");
        let ran = jail.run(&[option, &jail.at("d"), "node", "true"])?;
        assert_eq!((ran.code, owner(jail.at("d/bits")), owner(jail.at("d/capable"))), (0, (1000, 1000), (1000, 1000)), "{ran:?}");
        assert_eq!(bits(&jail)?, (0o755, false), "{of} {option}");
    }
    Ok(())
}

/// CVE-2015-1350: a chown that changes nothing takes capabilities away all the same, even one that is refused.
fn what_is_right_already_keeps_its_bits_and_capabilities() -> Outcome {
    let jail = with_bits(1000)?;
    for line in [&["--chown"][..], &["--chown-if-possible"], &["--chown-policy=on-root-mismatch", "--chown"]] {
        let ran = jail.run(&[line, &[&jail.at("d"), "node", "true"]].concat())?;
        assert_eq!((ran.code, bits(&jail)?), (0, (0o6755, true)), "{line:?}: {ran:?}");
    }
    // Where the change is refused, too: a starter without CAP_CHOWN.
    let jail = with_bits(0)?.through(&["setpriv", "--bounding-set=-chown", "--inh-caps=-all"]);
    jail.run(&["--chown", &jail.at("d"), "node", "true"])?.refused(125, "EPERM");
    assert_eq!(bits(&jail)?, (0o6755, true));
    Ok(())
}

/// Starts what it is given without a single argument, in an environment that reads like some.
const WITHOUT_ARGUMENTS: &str = "import ctypes,sys
libc=ctypes.CDLL(None)
words=[b'node',b'/bin/echo',b'ran',b'--chown=/srv',b'GCONV_PATH=.',None]
libc.execve(sys.argv[1].encode(),(ctypes.c_char_p*1)(None),(ctypes.c_char_p*len(words))(*words))";

/// CVE-2021-4034: behind an empty argv lies the environment.
fn without_arguments_the_environment_is_not_taken_for_them() -> Outcome {
    Need::Root.programs(&["python3"])?;
    let ran = Jail::new()?.through(&["python3", "-c", WITHOUT_ARGUMENTS]).run(&[] as &[&str])?;
    ran.refused(125, "no USER is given");
    assert_eq!(ran.stdout, "");
    Ok(())
}

/// Variables by which C libraries and their like find files; each names one of the attacker's.
const VARIABLES: [&str; 16] = [
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "LANG",
    "LC_ALL",
    "LANGUAGE",
    "TZ",
    "TZDIR",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "RESOLV_HOST_CONF",
    "MALLOC_TRACE",
    "TMPDIR",
    "HOME",
    "XDG_CONFIG_HOME",
    "ENV",
];

/// CVE-2014-9680, CVE-2019-14271, CVE-2025-32463: root opened, or loaded, what somebody else's files or variables named.
fn no_file_is_opened_because_the_environment_or_nsswitch_names_it() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let etc = "mkdir -p $W/etc $W/evil; cp /etc/passwd /etc/group $W/etc/; echo 'passwd: evil' >$W/etc/nsswitch.conf; \
               for f in ld.so.preload gai.conf host.conf; do echo $W/evil >$W/evil/$f; done; \
               if [ -e /etc/ld.so.cache ]; then cp /etc/ld.so.cache $W/etc; fi; mount --bind $W/etc /etc; touch $W/trace";
    for line in [&["node", "true"][..], &["nosuch", "true"], &["node", "no\u{1b}such"], &["--nosuch", "\u{e4}", "true"]] {
        let jail = Jail::new()?.setup("rm -rf $W/*").setup(etc);
        let (trace, evil) = (jail.at("trace"), jail.at("evil"));
        let jail = VARIABLES.iter().fold(jail, |jail, name| jail.variable(name, format!("{evil}/{name}")));
        let jail = jail.variable("GLIBC_TUNABLES", "glibc.malloc.mxfast=glibc.malloc.mxfast=A");
        let strace = ["strace", "-qq", "-o", &trace, "-e", "trace=open,openat,openat2,execve"];
        let jail = jail.through(&strace);
        let ran = jail.run(line)?;
        assert!(ran.code == 0 || ran.stderr.starts_with("stepdown: "), "{ran:?}");
        let trace = fs::read_to_string(trace)?;
        // From the start of the launcher to that of the command.
        let calls: Vec<&str> = trace.lines().skip(1).take_while(|call| !call.starts_with("execve(")).collect();
        let foreign: Vec<&&str> = calls.iter().filter(|call| !call.split('"').nth(1).is_some_and(is_expected)).collect();
        assert!(foreign.is_empty(), "{line:?}: {foreign:?}");
        assert!(line[0] == "--nosuch" || calls.iter().any(|call| call.contains("/etc/passwd")), "{line:?}: {trace}");
    }
    Ok(())
}

/// What a run without chores opens (the root directory is where closing is tried), and what the loader needs of a build that is not static.
fn is_expected(path: &str) -> bool {
    let of_the_loader = ["libc.so.6", "libgcc_s.so.1", "libm.so.6"].iter().any(|name| {
        path.strip_suffix(name).is_some_and(|directory| directory.starts_with("/lib") || directory.starts_with("/usr/lib"))
    });
    of_the_loader || ["/etc/ld.so.cache", "/etc/passwd", "/etc/group", "/dev/tty", "/dev/null", "/"].contains(&path)
}

/// Calls itself what the fields of /proc/PID/stat look like behind a name, so that its parent would be read as `$1`.
const DISGUISED: &str = "import ctypes,sys,time
ctypes.CDLL(None).prctl(15,(') S %s 1' % sys.argv[1]).encode(),0,0,0)
open(sys.argv[2],'w').close(); time.sleep(60)";

/// CVE-2017-1000367: sudo took a name with spaces in it for the fields that follow.
fn a_process_is_not_taken_for_anothers_child_by_its_name() -> Outcome {
    Need::Root.programs(&["python3"])?;
    // The command leaves something behind, so that the supervisor looks for what is below it.
    let left = "sleep 60 & until [ -e $0 ]; do sleep 0.01; done; exit 3";
    let script = format!(
        "{} --init node sh -c '{left}' $0 & stepdown=$!\n\
         setpriv --reuid=1000 --regid=1000 --clear-groups python3 -c \"$1\" $stepdown $0 & outside=$!\n\
         wait $stepdown; echo $?; cat /proc/$outside/comm; kill -0 $outside && echo alive; kill -9 $outside",
        programs().stepdown.display()
    );
    let jail = Jail::new()?.setup("chmod 777 $W");
    let ready = jail.at("ready");
    let ran = jail.through(&["sh", "-c", &script, &ready, DISGUISED]).instead("true".as_ref()).run(&[] as &[&str])?;
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(matches!(lines[..], ["3", name, "alive"] if name.starts_with(") S ")), "{ran:?}");
    Ok(())
}

/// CVE-2019-5736, CVE-2019-12499: the file of a launcher that stays is overwritten through /proc/PID/exe.
fn the_command_cant_open_the_file_of_the_supervisor() -> Outcome {
    let before = fs::read(&programs().stepdown)?;
    // As root without any capability, too, to whom the file belongs.
    for user in ["node", "root"] {
        for above in [&[][..], &["sh", "-c", "\"$@\"; exit $?", "sh"]] {
            let script = "for how in '>>' '<' '<>'; do eval \"(: $how/proc/$PPID/exe)\" && echo opened; done; exit 0";
            let ran = Jail::new()?.through(above).run(&["--init", user, "sh", "-c", script])?;
            assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{user} {above:?}: {ran:?}");
            assert_eq!(ran.stderr.matches("Permission denied").count(), 3, "{user} {above:?}: {ran:?}");
        }
    }
    assert!(fs::read(&programs().stepdown)? == before);
    Ok(())
}

/// Likewise: what is not there can't be overwritten.
fn without_init_nothing_of_the_launcher_stays() -> Outcome {
    let script = "readlink /proc/1/exe; ls /proc | grep -c '^[0-9]'; grep -c stepdown /proc/1/maps; exit 0";
    let jail = Jail::new()?;
    let ran = jail.run(&["--mkdir", &jail.at("d"), "node", "sh", "-c", script])?;
    let lines: Vec<&str> = ran.stdout.lines().collect();
    // The shell, and the two sides of the pipe.
    assert!(matches!(lines[..], [shell, "3", "0"] if !shell.contains("stepdown")), "{ran:?}");
    Ok(())
}

/// CVE-2019-16884, CVE-2025-52881: a volume in the place of /proc, and root writes where its links lead.
fn nothing_is_written_to_what_only_looks_like_proc() -> Outcome {
    let fake = "mkdir -p $W/fake/real; printf 0 >$W/victim; chmod 600 $W/victim";
    for (place, said) in [
        ("mkdir $W/fake/self; ln -s $W/victim $W/fake/self/oom_score_adj", "/proc/self/oom_score_adj: ELOOP"),
        ("mkdir $W/fake/self; ln $W/victim $W/fake/self/oom_score_adj", "/proc/self/oom_score_adj: ENOENT"),
        (
            "ln -s real $W/fake/self; mv $W/victim $W/fake/real/oom_score_adj; ln $W/fake/real/oom_score_adj $W/victim",
            "/proc/self/oom_score_adj: ENOENT",
        ),
        ("mkdir $W/fake/self; mkfifo $W/fake/self/oom_score_adj", "/proc/self/oom_score_adj: ENXIO"),
    ] {
        let jail = Jail::new()?.setup(fake).setup(place).setup("mount --bind $W/fake /proc");
        for init in [&[][..], &["--init"]] {
            let ran = jail.run(&[init, &["--oom-score-adj", "5", "node", "true"]].concat());
            ran?.refused(125, said);
            assert_eq!(fs::read_to_string(jail.at("victim"))?, "0", "{place}");
            fs::remove_dir_all(jail.at("fake"))?;
            fs::remove_file(jail.at("victim"))?;
        }
    }
    Ok(())
}
