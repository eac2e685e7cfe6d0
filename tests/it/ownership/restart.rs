//! Killed at any moment, a run leaves no directory right above something wrong, and the next one completes it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use super::inside::{Part, Place, inside};
use super::tree::{assert_can_be_redone, build, give_to_root, look, wrong};
use crate::harness::{Case, Need, Outcome};
use crate::jail::Jail;
use crate::{cases, parts};

pub fn cases() -> Vec<Case> {
    cases![
        killed_at_each_change_the_next_run_completes_it,
        killed_at_each_look_the_next_run_completes_it,
        killed_at_random_moments_the_next_run_completes_it
    ]
}

pub fn parts() -> Vec<Part> {
    parts![killed_at, killed_at_random]
}

/// For trees that are completed in one go, whatever became of them before.
const ON_MISMATCH: [&str; 1] = ["--chown-policy=on-root-mismatch"];

fn jail() -> Result<Jail, crate::harness::Stop> {
    Ok(Jail::new()?.setup("mkdir $W/m; mount -t tmpfs -o mode=755 none $W/m"))
}

fn killed_at_each_change_the_next_run_completes_it() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    inside(jail()?, "killed_at", &["fchownat"])
}

fn killed_at_each_look_the_next_run_completes_it() -> Outcome {
    Need::Strace.programs(&["strace"])?;
    inside(jail()?, "killed_at", &["getdents64", "openat"])
}

/// Kills it at the K-th call, for each K up to one that isn't reached.
fn killed_at(place: &Place) {
    let top = place.at("m/d");
    build(&top, 3, 2);
    let mut cut_off = 0;
    for call in &place.words {
        for when in 1.. {
            give_to_root(&top);
            let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={when}"));
            let strace = ["strace", "-f", "-qq", "-o/dev/null", "-e", &trace, "-e", &inject];
            let ended = place.command(&strace, &[], &top).stderr(Stdio::null()).status().expect("strace");
            assert_can_be_redone(&top);
            let left = wrong(&top).len();
            cut_off += usize::from(left > 0 && left < look(&top).len());
            place.owns(&ON_MISMATCH, &top);
            assert!(wrong(&top).is_empty(), "{call} {when}: {:?}", wrong(&top));
            if ended.success() {
                assert_eq!(left, 0, "{call} {when}");
                break;
            }
            assert!(when < 1000, "{call} never ends");
        }
    }
    println!("{cut_off} runs were cut off half-way");
    assert!(cut_off > 3, "{cut_off}");
}

fn killed_at_random_moments_the_next_run_completes_it() -> Outcome {
    inside(jail()?, "killed_at_random", &[])
}

/// xorshift64: any moment will do, and the seed is printed.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn killed_at_random(place: &Place) {
    let top = place.at("m/d");
    build(&top, 6, 4);
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_nanos() as u64 | 1;
    let (begun, mut state) = (Instant::now(), seed);
    place.owns(&[], &top);
    let whole = begun.elapsed();
    let mut cut_off = 0;
    // On a busy machine the first run says little of how long the next ones take.
    for round in 0.. {
        if round >= 60 && cut_off > 0 || round >= 1000 {
            break;
        }
        give_to_root(&top);
        // Up to three runs are killed one after the other.
        for _ in 0..=round % 3 {
            kill_after(place, &top, whole.mul_f64((next(&mut state) % 1000) as f64 / 1000.0));
            assert_can_be_redone(&top);
        }
        let left = wrong(&top).len();
        cut_off += usize::from(left > 0 && left < look(&top).len());
        place.owns(&ON_MISMATCH, &top);
        assert!(wrong(&top).is_empty(), "seed {seed}, round {round}: {:?}", wrong(&top));
    }
    println!("seed {seed}: {cut_off} were cut off half-way");
    assert!(cut_off > 0, "none was cut off half-way");
}

fn kill_after(place: &Place, top: &Path, delay: Duration) {
    let mut child = place.command(&[], &ON_MISMATCH, top).stderr(Stdio::null()).spawn().expect("stepdown");
    std::thread::sleep(delay);
    // By then it may have ended by itself.
    let _ = child.kill();
    child.wait().expect("wait");
}
