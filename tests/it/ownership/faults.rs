//! One call among many fails: the run goes on, says what failed, and leaves the tree so that it is redone.

use std::path::{Path, PathBuf};

use super::tree::{assert_can_be_redone, build, failures, wrong};
use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran, programs};

pub fn cases() -> Vec<Case> {
    cases![
        a_change_that_fails_is_counted_and_nothing_above_it_becomes_right,
        a_look_that_fails_leaves_all_above_wrong,
        a_directory_that_cant_be_opened_leaves_all_above_wrong,
        a_directory_that_cant_be_read_leaves_all_above_wrong,
        many_failures_are_all_counted,
        many_failures_of_several_threads_are_all_counted,
    ]
}

/// How many entries the tree of these tests has, its top included.
const ENTRIES: usize = 16;

fn grow(top: &Path) {
    build(top, 3, 1);
}

/// So much that a walk takes more than one thread: 340 directories and 1364 files, and the top.
fn grow_large(top: &Path) {
    build(top, 4, 4);
}

/// Runs `--chown` on a fresh tree, while strace tampers with a kind of call.
fn tampered(grow: fn(&Path), call: &str, what: &str) -> Result<(Jail, Ran), Stop> {
    Need::Strace.programs(&["strace"])?;
    // env, so that the same jail can be run without strace as well.
    let jail = Jail::new()?.instead(Path::new("env"));
    grow(&jail.work().join("d"));
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}"));
    let strace = ["strace", "-f", "-qq", "-o/dev/null", "-e", &trace, "-e", &inject];
    let ran = jail.run(&[&strace.map(str::to_owned)[..], &stepdown(&jail, &[])].concat())?;
    Ok((jail, ran))
}

fn stepdown(jail: &Jail, options: &[&str]) -> Vec<String> {
    let program = programs().stepdown.display().to_string();
    let (options, tree) = (options.iter().copied(), jail.at("d"));
    let words = std::iter::once(program.as_str()).chain(options).chain(["--chown", &tree, "1000:1000", "true"]);
    words.map(str::to_owned).collect()
}

/// The count and the first path of `--chown: COUNT of SEEN entries can't be changed, the first: PATH: …`.
fn told(ran: &Ran) -> Option<(usize, PathBuf)> {
    let (_, said) = ran.stderr.split_once("--chown: ")?;
    let (count, said) = said.split_once(" of ")?;
    let (seen, said) = said.split_once(" entries can't be changed, the first: ")?;
    let (first, _) = said.split_once(": ")?;
    let (count, seen) = (count.parse().ok()?, seen.parse().ok()?);
    assert!(count <= seen, "what failed was looked at: {ran:?}");
    Some((count, first.into()))
}

/// Makes the K-th call of a kind fail, for each K, judges what is left, and lets the next run finish it.
/// Calls before and after the walk are among them: without a failure all must be right, or it must be said.
fn each_fails(call: &str, error: &str, calls: usize, judge: fn(&Path, usize, &Path)) -> Outcome {
    let mut hits = 0;
    for when in 1..=calls {
        let (jail, ran) = tampered(grow, call, &format!("error={error}:when={when}"))?;
        let tree = jail.work().join("d");
        assert_can_be_redone(&tree);
        match (ran.code, told(&ran)) {
            (0, _) => assert_eq!(wrong(&tree), Vec::<PathBuf>::new(), "{call} {when}: {ran:?}"),
            (125, None) => assert!(ran.stderr.starts_with("stepdown: "), "{call} {when}: {ran:?}"),
            (125, Some((count, first))) => {
                hits += 1;
                assert!(ran.stderr.contains(error) && first.starts_with(&tree), "{call} {when}: {ran:?}");
                judge(&tree, count, &first);
            }
            // The command's own start, or the C library's.
            (_, told) => assert!(told.is_none() && !ran.stderr.contains("stepdown: --chown"), "{call} {when}: {ran:?}"),
        }
        let ran = jail.run(&stepdown(&jail, &["--chown-policy=on-root-mismatch"]))?;
        assert_eq!((ran.code, wrong(&tree)), (0, Vec::new()), "the next run completes it: {ran:?}");
    }
    println!("{hits} calls to {call} failed in the walk");
    assert!(hits > 2, "hardly any {call} of the walk was hit");
    Ok(())
}

fn a_change_that_fails_is_counted_and_nothing_above_it_becomes_right() -> Outcome {
    each_fails("fchownat", "EIO", 20, |tree, count, first| {
        let failed = failures(tree);
        assert_eq!(count, failed.len());
        assert!(failed.iter().any(|path| path == first), "{first:?} of {failed:?}");
    })
}

/// What could not be looked at or into is wrong still, and all above it.
fn left_wrong(_: &Path, count: usize, first: &Path) {
    assert!(count >= 1);
    assert_ne!(crate::jail::owner(first), super::NODE, "{}", first.display());
}

/// The look that failed may be the one after the change: then what it looked at is right, and all above it is wrong.
fn above_left_wrong(_: &Path, count: usize, first: &Path) {
    assert!(count >= 1);
    let above = first.parent().expect("it is in the tree");
    assert!([first, above].into_iter().any(|path| crate::jail::owner(path) != super::NODE), "{}", first.display());
}

fn a_look_that_fails_leaves_all_above_wrong() -> Outcome {
    each_fails("statx", "EIO", 190, above_left_wrong)
}

fn a_directory_that_cant_be_opened_leaves_all_above_wrong() -> Outcome {
    each_fails("openat", "EACCES", 40, left_wrong)
}

fn a_directory_that_cant_be_read_leaves_all_above_wrong() -> Outcome {
    each_fails("getdents64", "EIO", 12, left_wrong)
}

fn many_failures_are_all_counted() -> Outcome {
    all_are_counted(grow, ENTRIES)
}

fn many_failures_of_several_threads_are_all_counted() -> Outcome {
    all_are_counted(grow_large, 1705)
}

fn all_are_counted(grow: fn(&Path), entries: usize) -> Outcome {
    for what in ["error=EPERM:when=1+2", "error=EPERM:when=3+7", "error=EPERM"] {
        let (jail, ran) = tampered(grow, "fchownat", what)?;
        let tree = jail.work().join("d");
        assert_can_be_redone(&tree);
        let failed = failures(&tree);
        let (count, first) = told(&ran).unwrap_or_else(|| panic!("{what}: {ran:?}"));
        assert_eq!((ran.code, count), (125, failed.len()), "{what}: {ran:?}");
        assert!(failed.contains(&first) && ran.stderr.contains(&format!(" of {entries} entries ")), "{what}: {ran:?}");
        assert!(ran.stderr.contains("hint: "), "{ran:?}");
    }
    Ok(())
}
