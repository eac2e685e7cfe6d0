//! Random starts times random command lines, beside a model that is written from the manual alone.
//!
//! A combination is decided by its seed. A copy of this program sets its start up ([`start`], [`begin`]) and becomes the
//! report, to see what the kernel made of it; then stepdown with `--dry-run` in front; then stepdown. The [`model`] says
//! from the first what must come of the last: a refusal and its exit code, or exactly what the command has. Of every
//! report that agrees one thing is turned afterwards ([`compare::lie`]), and that must not agree: a comparison that
//! looks at nothing fails.
//!
//! `STEPDOWN_RANDOM_COUNT` says how many combinations (2,000; a million takes some hours), `STEPDOWN_RANDOM_SEED` the
//! first one's seed; the others follow it. Without it they are the same each time, so that what a change breaks is the
//! change's doing; who looks for more gives another seed (`STEPDOWN_RANDOM_SEED=$RANDOM$RANDOM`). The seed is printed always, and with a failure the line that repeats that combination alone.

mod begin;
mod compare;
mod dice;
mod line;
mod model;
mod scene;
mod space;
mod start;
mod trial;
mod who;
mod words;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::harness::{Case, Outcome};
use crate::jail::Jail;
use crate::ownership::inside::{Part, Place, inside};
use crate::{cases, parts};

use dice::Dice;
use line::Line;
use scene::Scene;
use space::Spaces;
use start::Start;
use trial::End;

/// How many combinations are tried where nobody says.
const COUNT: u64 = 2000;
/// The first one's seed where nobody says.
const SEED: u64 = 0;
/// How many failures are told in full.
const TOLD: usize = 5;

pub fn cases() -> Vec<Case> {
    cases![what_runs_and_what_it_has_is_what_the_manual_says]
}

/// What is done inside the jail.
pub fn parts() -> Vec<Part> {
    let begin: fn(&Place) = begin::begin;
    [parts![try_all], vec![("begin", begin)]].concat()
}

/// A start and a command line.
pub struct Combination {
    seed: u64,
    work: String,
    start: Start,
    line: Line,
    scene: Scene,
}

impl Combination {
    /// The one of that seed, in a directory of its own below `work`.
    pub fn new(seed: u64, work: &str, programs: &str) -> Self {
        let mut dice = Dice::new(seed);
        let start = Start::random(&mut dice, programs);
        let line = Line::random(&mut dice, &start);
        let scene = Scene { directory: format!("{work}/{seed}"), programs: programs.to_owned() };
        Self { seed, work: work.to_owned(), start, line, scene }
    }

    /// Where its files are.
    pub fn directory(&self) -> String {
        self.scene.directory.clone()
    }

    fn told(&self) -> String {
        let quoted = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
        let line = self.words(trial::Step::Run).iter().map(quoted).collect::<Vec<_>>().join(" ");
        let seed = self.seed;
        format!(
            "repeat: STEPDOWN_RANDOM_SEED={seed} STEPDOWN_RANDOM_COUNT=1 cargo test --test it random::\n{line}\n{:?}",
            self.start
        )
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value}: it is no number")))
}

fn what_runs_and_what_it_has_is_what_the_manual_says() -> Outcome {
    let seed = number("STEPDOWN_RANDOM_SEED").unwrap_or(SEED);
    let count = number("STEPDOWN_RANDOM_COUNT").unwrap_or(COUNT);
    println!("STEPDOWN_RANDOM_SEED={seed} STEPDOWN_RANDOM_COUNT={count}");
    // A /dev/null of its own: all here depends on its mode, and the machine's is everybody's.
    let null = "mknod -m 666 $W/null c 1 3; mount --bind $W/null /dev/null";
    let jail = Jail::new()?.setup("mount -t tmpfs -o mode=755 none $W").setup(null);
    inside(jail, "try_all", &[&seed.to_string(), &count.to_string()])
}

/// Tries them, by a thread for each processor.
fn try_all(place: &Place) {
    let word = |index: usize| place.words[index].parse::<u64>().expect("a number");
    let (seed, count) = (word(0), word(1));
    let programs = place.stepdown.parent().expect("a directory").display().to_string();
    let work = place.work.display().to_string();
    let spaces = Spaces::new();
    let next = AtomicU64::new(0);
    let (ends, failures) = (Mutex::new(BTreeMap::<End, u64>::new()), Mutex::new(Vec::new()));
    let reasons = Mutex::new(BTreeMap::<String, u64>::new());
    let worker = || {
        while failures.lock().expect("a list").len() < TOLD {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            let combination = Combination::new(seed.wrapping_add(index), &work, &programs);
            match combination.tried(place, spaces.holder(combination.start.space)) {
                Ok((end, why)) => {
                    *ends.lock().expect("counts").entry(end).or_default() += 1;
                    why.into_iter().for_each(|why| *reasons.lock().expect("counts").entry(why).or_default() += 1);
                }
                Err(why) => failures.lock().expect("a list").push(why),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
    let (ends, failures) = (ends.into_inner().expect("counts"), failures.into_inner().expect("a list"));
    let told = format!("from seed {seed} on: {ends:?}");
    assert!(failures.is_empty(), "{told}\n{}", failures.join("\n\n"));
    println!("{told}\nrefusals, by what they are for: {:?}", reasons.into_inner().expect("counts"));
    let of = |end| ends.get(&end).copied().unwrap_or(0);
    // A model that leaves all open, or starts that are all refused, would find nothing.
    let open = of(End::RanPerhaps) + of(End::RefusedPerhaps);
    assert!(count < 1000 || of(End::Ran) > count / 5 && of(End::Refused) > count / 5 && open < count / 5, "{told}");
}
