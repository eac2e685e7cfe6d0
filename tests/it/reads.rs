//! A file is read as a whole or not at all, whatever the file system gives at once and however often a signal comes.

use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{GROUP, Jail, PASSWD};

pub fn cases() -> Vec<Case> {
    cases![
        account_files_that_come_in_pieces_are_read_whole,
        a_file_that_ends_before_its_size_is_an_error,
        a_profile_and_a_secret_that_come_in_pieces_are_read_whole,
        a_read_that_a_signal_interrupts_is_made_again,
        a_message_that_a_signal_interrupts_is_written_whole,
        a_call_that_is_always_interrupted_ends_the_run,
    ]
}

/// Mounts a file over `target` that gives so many bytes at once; it says that it is longer than it is by so many.
fn on_fuse(jail: Jail, target: &str, pieces: usize, longer: i64) -> Result<Jail, Stop> {
    Need::Filesystems.programs(&["python3"])?;
    if !std::path::Path::new("/dev/fuse").exists() {
        return Err(Need::Filesystems.missing("needs /dev/fuse"));
    }
    let server = jail.at("fuse.py");
    std::fs::write(&server, include_str!("../fixtures/fuse.py"))?;
    Ok(jail.setup(&format!(
        "cat {target} >$W/content; python3 {server} {target} $W/content {pieces} $(($(stat -c %s {target}) + {longer}))"
    )))
}

/// Cut after any byte: in a name, an id, a list, at a line's end.
fn account_files_that_come_in_pieces_are_read_whole() -> Outcome {
    // `node` listed as the last of a line, and a group called like the half of it.
    let group = GROUP.to_owned() + "nod:x:999:\nlate:x:77:nodebob,node\n";
    for pieces in [1, 7, 64] {
        let jail = Jail::new()?.accounts(Some(PASSWD.as_bytes()), Some(group.as_bytes()))?;
        let jail = on_fuse(on_fuse(jail, "/etc/group", pieces, 0)?, "/etc/passwd", pieces, 0)?;
        jail.report(&["node"])?.is_exactly(1000, 1000, &[1, 4, 77, 100, 1000]);
        jail.report(&["node:late"])?.is_exactly(1000, 77, &[77]);
    }
    // A file that says 0, as those of /proc do, is read to its end.
    let jail = Jail::new()?.accounts(Some(PASSWD.as_bytes()), Some(group.as_bytes()))?;
    let says_nothing = -i64::try_from(group.len()).unwrap_or(0);
    on_fuse(jail, "/etc/group", 7, says_nothing)?.report(&["node"])?.is_exactly(1000, 1000, &[1, 4, 77, 100, 1000]);
    Ok(())
}

fn a_file_that_ends_before_its_size_is_an_error() -> Outcome {
    for (file, spec) in [("/etc/passwd", "1000:1000"), ("/etc/group", "node")] {
        on_fuse(Jail::new()?, file, 16, 1)?.run(&[spec, "true"])?.refused(125, &format!("{file} ended after"));
        on_fuse(Jail::new()?, file, 4096, -1)?.run(&[spec, "true"])?.refused(125, &format!("{file} grew while it was read"));
    }
    for option in ["--seccomp", "--secret"] {
        let jail = Jail::new()?.setup("echo '{\"defaultAction\":\"SCMP_ACT_ALLOW\"}' >$W/file");
        let value = if option == "--seccomp" { jail.at("file") } else { format!("K={}", jail.at("file")) };
        let path = jail.at("file");
        on_fuse(jail, &path, 16, 1)?.run(&[option, &value, "node", "true"])?.refused(125, "it ended after 35 of its 36 bytes");
    }
    Ok(())
}

fn a_profile_and_a_secret_that_come_in_pieces_are_read_whole() -> Outcome {
    let jail = Jail::new()?.setup("echo '{\"defaultAction\":\"SCMP_ACT_ALLOW\"}' >$W/file");
    let path = jail.at("file");
    let jail = on_fuse(jail, &path, 5, 0)?;
    let ran = jail.run(&["--seccomp", &path, "--secret", &format!("K={path}"), "node", "sh", "-c", "cat $K"])?;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}\n"), "{ran:?}");
    Ok(())
}

/// A jail in which a call on a path, or on any, says EINTR.
fn interrupted(call: &str, when: &str, path: Option<&str>) -> Result<Jail, Stop> {
    Need::Strace.programs(&["strace"])?;
    let inject = format!("inject={call}:error=EINTR{when}");
    let mut words = vec!["strace", "-qq", "-o/dev/null", "-e", "signal=none", "-e", &inject];
    words.extend(path.iter().flat_map(|path| ["-P", path]));
    Ok(Jail::new()?.through(&words))
}

fn a_read_that_a_signal_interrupts_is_made_again() -> Outcome {
    for path in ["/etc/passwd", "/etc/group"] {
        for call in ["read", "openat"] {
            interrupted(call, ":when=1+2", Some(path))?.report(&["node"])?.is_exactly(1000, 1000, &[1, 4, 100, 1000]);
        }
    }
    let jail = interrupted("getdents64", ":when=1+2", None)?.setup("mkdir -p $W/d/e; touch $W/d/e/f");
    assert_eq!(jail.run(&["--chown", &jail.at("d"), "node", "true"])?.code, 0);
    assert_eq!(crate::jail::owner(jail.at("d/e/f")), (1000, 1000));
    Ok(())
}

fn a_message_that_a_signal_interrupts_is_written_whole() -> Outcome {
    // More than the page that is written at once, in no more directories than are named.
    let path = format!("{}:", format!("/{}", "x".repeat(200)).repeat(5)).repeat(7);
    let variable = format!("PATH={path}");
    for call in ["write", "poll"] {
        let ran = interrupted(call, ":when=1+2", None)?.run(&["--env", &variable, "node", "none"])?;
        assert_eq!((ran.code, ran.stderr), (127, format!("stepdown: COMMAND 'none' is not found in PATH ({path})\n")), "{call}");
    }
    Ok(())
}

/// A filter that says EINTR for ever must not hold the start of a container for ever.
fn a_call_that_is_always_interrupted_ends_the_run() -> Outcome {
    interrupted("read", "", Some("/etc/passwd"))?.run(&["node", "true"])?.refused(125, "read(/etc/passwd): EINTR");
    Ok(())
}
