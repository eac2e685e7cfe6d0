//! The same attacks as [`attack`](super::attack), but each at every moment there is: the walk is stopped after each of its
//! system calls in turn, the target swaps something, the walk goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::{Uid, setfsuid};

use super::inside::{Part, Place, inside};
use super::kernel;
use super::tree::{look, wrong};
use super::victims::Victims;
use crate::harness::{Case, Need, Outcome};
use crate::jail::Jail;
use crate::{cases, parts};

pub fn cases() -> Vec<Case> {
    cases![
        a_directory_that_becomes_a_link_at_any_moment_leads_nowhere,
        a_file_that_becomes_a_link_at_any_moment_leads_nowhere,
        a_directory_and_a_file_that_change_places_at_any_moment_change_nothing_else,
        a_directory_moved_out_at_any_moment_is_no_way_out,
        a_deep_directory_moved_out_at_any_moment_is_no_way_up,
        a_mount_that_comes_into_the_tree_at_any_moment_is_not_entered,
        what_is_removed_at_any_moment_is_no_error,
        a_hard_link_that_comes_or_goes_at_any_moment_changes_no_file_outside,
        a_hard_link_that_the_kernel_allows_changes_no_file_outside_at_any_moment,
        what_another_walk_makes_the_targets_at_any_moment_can_be_swapped_and_changes_nothing_else,
    ]
}

pub fn parts() -> Vec<Part> {
    parts![moments]
}

/// The calls after which the walk is stopped.
const CALLS: [&str; 4] = ["statx", "openat", "getdents64", "fchownat"];

/// How many moments of a kind of call are tried where there are many.
const MOMENTS: usize = 24;

fn at_each_moment(setup: &str, depth: &str, swaps: &[&str]) -> Outcome {
    Need::Strace.programs(&["strace"])?;
    let jail = Jail::new()?.setup("mkdir $W/m; mount -t tmpfs -o mode=755 none $W/m").setup(setup);
    inside(jail, "moments", &[&[depth], swaps].concat())
}

fn a_directory_that_becomes_a_link_at_any_moment_leads_nowhere() -> Outcome {
    at_each_moment("", "1", &["link a", "link a/b"])
}

fn a_file_that_becomes_a_link_at_any_moment_leads_nowhere() -> Outcome {
    at_each_moment("", "1", &["link f", "link a/b/f"])
}

fn a_directory_and_a_file_that_change_places_at_any_moment_change_nothing_else() -> Outcome {
    at_each_moment("", "1", &["exchange a f", "exchange a/b a/f"])
}

fn a_directory_moved_out_at_any_moment_is_no_way_out() -> Outcome {
    at_each_moment("", "1", &["out a", "out a/b"])
}

fn a_deep_directory_moved_out_at_any_moment_is_no_way_up() -> Outcome {
    // Deeper than the walk holds directories open: it has to find its way back up.
    let deep = format!("out a/b{}", "/a/b".repeat(14));
    at_each_moment("", "60", &["out a/b/a/b", &deep])
}

fn a_mount_that_comes_into_the_tree_at_any_moment_is_not_entered() -> Outcome {
    let bound = "mkdir -p $W/m/victims/bound/below $W/m/park/x/bound; mount --bind $W/m/victims/bound $W/m/park/x/bound";
    at_each_moment(bound, "1", &["mount a", "mount a/b"])
}

fn what_is_removed_at_any_moment_is_no_error() -> Outcome {
    at_each_moment("", "1", &["remove a", "remove a/b", "remove f"])
}

fn a_hard_link_that_comes_or_goes_at_any_moment_changes_no_file_outside() -> Outcome {
    // Without /proc, links are as good as unprotected; those to what everybody may write are not protected in fact.
    at_each_moment("mount -t tmpfs none /proc", "1", &["hard f", "hard a/b/f", "unhard h", "over f h", "exchange h f"])
}

fn a_hard_link_that_the_kernel_allows_changes_no_file_outside_at_any_moment() -> Outcome {
    if fs::read_to_string("/proc/sys/fs/protected_hardlinks")?.trim() != "1" {
        return Err(Need::Root.missing("needs fs.protected_hardlinks=1"));
    }
    // Everybody may read and write that file, and so may link it.
    at_each_moment("", "1", &["hard f", "hard a/b/f", "unhard h", "over f h", "exchange h f"])
}

/// The depth of a tree that is root's alone to begin with. At the moment in question another start of the same service
/// makes all of it the target's, whose process is running by then.
const ROOTS_ALONE: &str = "1 root's alone";

fn what_another_walk_makes_the_targets_at_any_moment_can_be_swapped_and_changes_nothing_else() -> Outcome {
    let bound = "mkdir -p $W/m/victims/bound/below $W/m/park/x/bound; mount --bind $W/m/victims/bound $W/m/park/x/bound";
    let swaps =
        ["link a", "link a/b", "link f", "link a/b/f", "exchange a f", "exchange a/b a/f", "out a", "out a/b", "mount a/b"];
    at_each_moment(bound, ROOTS_ALONE, &swaps)
}

/// Tries each swap at each moment.
fn moments(place: &Place) {
    let (depth, swaps) = place.words.split_first().expect("a depth");
    let mode = if depth == ROOTS_ALONE { 0o755 } else { 0o777 };
    let depth = depth.split(' ').next().and_then(|depth| depth.parse().ok()).expect("a number");
    let victims = Victims::new(place);
    let park = place.at("m/park");
    let mut all = Vec::new();
    for swap in swaps {
        let words: Vec<&str> = swap.split(' ').collect();
        let hard = words.contains(&"h");
        renew(place, depth, mode, hard);
        let (mut stopped, mut refused) = (0, 0);
        for (call, when) in calls_of_the_walk(place) {
            renew(place, depth, mode, hard);
            let told = format!("{swap} after {call} {when}");
            let mut swapped = false;
            let status = stop_after(place, call, when, || {
                if !std::mem::replace(&mut swapped, true) {
                    if mode == 0o755 {
                        place.owns(&[], &tree(place));
                    }
                    as_target(|| make(place, &words));
                }
            });
            stopped += usize::from(swapped);
            refused += usize::from(status.code() == Some(125));
            let right: &[i32] = if words[0] == "remove" { &[0] } else { &[0, 125] };
            let said = fs::read_to_string(place.at("m/counts/said")).unwrap_or_default();
            assert!(status.code().is_some_and(|code| right.contains(&code)), "{told}: {status}: {said}");
            victims.check(&told);
            if words[0] == "mount" {
                // Back, before the tree is removed with all that is in it.
                exchange(&tree(place).join(words[1]), &park.join("x"), swapped);
            } else if depth == 1 && !words[0].contains("hard") && !hard {
                place.owns(&[], &tree(place));
                assert!(wrong(&tree(place)).is_empty(), "{told}: the next run completes it: {:?}", wrong(&tree(place)));
                victims.check(&told);
            }
        }
        all.push(format!("{swap}: {stopped} moments, {refused} refused"));
        assert!(stopped > 10, "{all:?}");
    }
    println!("{}", all.join("; "));
}

fn tree(place: &Place) -> std::path::PathBuf {
    place.at("m/home/tree")
}

/// A tree as new: root's, with the mode that decides who may do what in it. `a/b` repeats itself as deep as is said.
fn renew(place: &Place, depth: usize, mode: u32, hard: bool) {
    let tree = tree(place);
    for path in [tree.clone(), place.at("m/out/moved"), place.at("m/park/away")] {
        match fs::symlink_metadata(&path) {
            Ok(facts) if facts.is_dir() => fs::remove_dir_all(&path).expect("remove"),
            Ok(_) => fs::remove_file(&path).expect("remove"),
            Err(_) => {}
        }
    }
    fs::create_dir_all(tree.join("a/b".to_owned() + &"/a/b".repeat(depth - 1))).expect("mkdir");
    let mut at = tree.clone();
    for _ in 0..depth {
        for name in ["f", "a", "b"] {
            if name == "f" {
                fs::write(at.join("f"), "").expect("a file");
            } else {
                at.push(name);
                fs::write(at.join("f"), "").expect("a file");
            }
        }
    }
    for path in look(&tree).keys() {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    if hard {
        fs::hard_link(place.at("m/victims/shared"), tree.join("h")).expect("a link");
    }
    for path in [place.at("m/park"), place.at("m/park/x")] {
        if path.exists() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
            lchown(path, Some(1000), Some(1000)).expect("chown");
        }
    }
}

/// Does something with the rights of the target on files.
fn as_target(what: impl FnOnce()) {
    setfsuid(Uid::from_raw(1000));
    what();
    setfsuid(Uid::from_raw(0));
}

/// Swaps; where a name has gone already, or is gone with another one, that is no failure.
fn make(place: &Place, words: &[&str]) {
    let at = |name: &str| tree(place).join(name);
    let (what, name) = (words[0], at(words[1]));
    let shared = place.at("m/victims/shared");
    match what {
        "link" => {
            fs::rename(&name, place.at("m/park/away")).expect("rename");
            symlink(place.at("m/victims").join(words[1]), &name).expect("a link");
        }
        "exchange" => exchange(&name, &at(words[2]), true),
        "over" => fs::rename(&name, at(words[2])).expect("rename"),
        "out" => fs::rename(&name, place.at("m/out/moved")).expect("rename"),
        "mount" => exchange(&name, &place.at("m/park/x"), true),
        "remove" if name.is_dir() => fs::remove_dir_all(&name).expect("remove"),
        "remove" | "unhard" => fs::remove_file(&name).expect("remove"),
        "hard" => {
            fs::remove_file(&name).expect("remove");
            fs::hard_link(shared, &name).expect("a link");
        }
        _ => panic!("{what}"),
    }
}

fn exchange(one: &Path, other: &Path, really: bool) {
    if really {
        renameat2(AT_FDCWD.as_fd(), one, AT_FDCWD.as_fd(), other, RenameFlags::RENAME_EXCHANGE).expect("an exchange");
    }
}

/// Which calls the walk itself makes, by their number in their thread, as strace counts them.
fn calls_of_the_walk(place: &Place) -> Vec<(&'static str, usize)> {
    let trace = place.at("m/counts/trace");
    let strace =
        ["strace", "-f", "-qq", "-o", &trace.display().to_string(), "-e", "trace=execve,statx,openat,getdents64,fchownat"];
    let command = place.command(&strace, &[], &tree(place)).stderr(Stdio::null()).status();
    assert!(matches!(command.expect("strace").code(), Some(0 | 125)));
    let text = fs::read_to_string(trace).expect("a trace");
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut found: BTreeMap<&'static str, BTreeSet<usize>> = BTreeMap::new();
    let (mut walking, mut started) = (false, 0);
    for line in text.lines() {
        let Some((pid, line)) = line.split_once(' ') else { continue };
        let name = line.trim_start().split('(').next().unwrap_or_default();
        started += usize::from(name == "execve");
        walking |= name == "getdents64";
        if started > 1 {
            break;
        }
        let Some(name) = CALLS.into_iter().find(|call| *call == name) else { continue };
        let count = counts.entry((pid, name)).or_default();
        *count += 1;
        if walking {
            found.entry(name).or_default().insert(*count);
        }
    }
    let spread = |(call, all): (&'static str, BTreeSet<usize>)| {
        let step = all.len().div_ceil(MOMENTS);
        all.into_iter().step_by(step).map(move |when| (call, when)).collect::<Vec<_>>()
    };
    found.into_iter().flat_map(spread).collect()
}

/// Runs it, stopped after the K-th call of a kind (of each thread) until something is done.
fn stop_after(place: &Place, call: &str, when: usize, mut then: impl FnMut()) -> ExitStatus {
    let trace = place.at("m/counts/trace");
    fs::write(&trace, "").expect("a file");
    let said = fs::File::create(place.at("m/counts/said")).expect("a file");
    let (only, inject) = (format!("trace={call}"), format!("inject={call}:signal=STOP:when={when}"));
    let strace = ["strace", "-f", "-qq", "-o", &trace.display().to_string(), "-e", &only, "-e", &inject];
    let mut child = place.command(&strace, &[], &tree(place)).stderr(said).spawn().expect("strace");
    let (mut seen, deadline) = (0, Instant::now() + Duration::from_secs(60));
    loop {
        let text = fs::read_to_string(&trace).expect("a trace");
        for line in text.lines().skip(seen).take_while(|_| text.ends_with('\n')) {
            seen += 1;
            if line.contains("--- stopped by SIGSTOP ---") {
                then();
                let pid = line.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
                kernel::signal(pid, libc::SIGCONT);
            }
        }
        if let Some(status) = child.try_wait().expect("wait") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it hangs after {call} {when}: {text}");
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}
