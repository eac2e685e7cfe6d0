//! The runs: everybody in turn, from the same state.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, ptr};

use crate::place::{Kind, Place};
use crate::turns;
use crate::{Cache, OWN_PROGRAM, OWNER, Shape, State, Wanted, cores};

/// Everything about one situation.
pub struct Cell {
    pub files: u64,
    pub kind: Kind,
    pub shape: Shape,
    pub state: State,
    pub cache: Cache,
    pub runners: Vec<Runner>,
}

pub struct Runner {
    pub name: String,
    command: Vec<CString>,
    pub runs: Vec<Run>,
}

#[derive(Clone, Copy)]
pub struct Run {
    pub took: Duration,
    /// Of the processors, by all threads and children.
    pub busy: Duration,
    /// Of the largest process, KiB; the bench's own at least, which an execve does not wipe out.
    pub peak: i64,
    /// The bench's own.
    pub own_peak: i64,
    /// What lies in the upper layer afterwards.
    pub copied: u64,
}

pub fn all(wanted: &Wanted, work: &Path) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &files in &wanted.sizes {
        for &kind in &wanted.kinds {
            for &shape in &wanted.shapes {
                let directory = tempfile::tempdir_in(work).expect("a directory");
                let place = Place::new(kind, directory.path(), files);
                part(&["make", &place.source(), &files.to_string(), shape.name()]);
                for (&state, &cache) in
                    wanted.states.iter().flat_map(|state| wanted.caches.iter().map(move |cache| (state, cache)))
                {
                    if (kind, cache) != (Kind::Tmpfs, Cache::Cold) {
                        let mut cell = Cell { files, kind, shape, state, cache, runners: runners(&place.tree()) };
                        cell.measure(&place, wanted.rounds);
                        cells.push(cell);
                    }
                }
            }
        }
    }
    cells
}

/// The first is stepdown, the last the floor on all cores.
fn runners(tree: &str) -> Vec<Runner> {
    let owner = format!("{OWNER}:{OWNER}");
    let runner = |name: &str, words: &[&str]| Runner {
        name: name.to_owned(),
        command: words.iter().map(|word| CString::new(*word).expect("no null")).collect(),
        runs: Vec::new(),
    };
    let mut runners: Vec<_> = turns::stepdown()
        .iter()
        .enumerate()
        .map(|(index, program)| {
            let name = if index == 0 { "stepdown".to_owned() } else { format!("stepdown ({})", index + 1) };
            runner(&name, &[program.to_str().expect("a path of text"), "--chown", tree, &owner, "--", "/bin/true"])
        })
        .collect();
    runners.push(runner("chown -R", &["chown", "-R", &owner, tree]));
    let id = OWNER.to_string();
    let mut find = vec!["find", tree, "!", "(", "-user", &id, "-group", &id, ")"];
    find.extend(["-exec", "chown", "-h", &owner, "{}", "+"]);
    runners.push(runner("find", &find));
    let mut threads = vec![1, cores()];
    threads.dedup();
    runners.extend(threads.into_iter().map(|threads| {
        let name = if threads == 1 { "floor, 1 thread".to_owned() } else { format!("floor, {threads} threads") };
        runner(&name, &[OWN_PROGRAM, "part", "floor", tree, &threads.to_string()])
    }));
    runners
}

impl Cell {
    fn measure(&mut self, place: &Place, rounds: Option<usize>) {
        let rounds = rounds.unwrap_or(if self.files > 100_000 { 3 } else { 9 });
        let mut order: Vec<usize> = (0..self.runners.len()).collect();
        let mut seed = 1;
        place.lower_layer_alone();
        self.prepare(place);
        for _ in 0..rounds {
            turns::shuffle(&mut order, &mut seed);
            for &index in &order {
                let run = self.run(place, index);
                self.runners[index].runs.push(run);
            }
        }
        eprintln!("{}", crate::table::line(self));
    }

    fn prepare(&self, place: &Place) {
        part(&["prepare", &place.source(), self.state.share()]);
    }

    fn run(&self, place: &Place, index: usize) -> Run {
        let runner = &self.runners[index];
        match place.kind {
            Kind::Overlay => place.renew(),
            _ => self.prepare(place),
        }
        place.settle();
        match self.cache {
            Cache::Warm => drop(count(&place.tree())),
            Cache::Cold => place.chill(),
        }
        let mut run = start(&runner.command, &runner.name);
        let (seen, wrong) = count(&place.tree());
        assert_eq!(wrong, 0, "{} left {wrong} of {seen} entries wrong", runner.name);
        assert!(seen > self.files, "there are but {seen} entries");
        run.copied = place.upper().map_or(0, |upper| count(&upper).0 - 1);
        let harmless = self.state != State::Right || !runner.name.starts_with("stepdown") || run.copied == 0;
        assert!(harmless, "{} copied {} entries up with nothing to change", runner.name, run.copied);
        run
    }
}

/// Entries, and those of them with another owner.
fn count(tree: &str) -> (u64, u64) {
    let told = part(&["count", tree]);
    let mut numbers = told.split_whitespace().map(|word| word.parse().expect("a number"));
    (numbers.next().expect("a number"), numbers.next().expect("a number"))
}

fn part(words: &[&str]) -> String {
    let done =
        Command::new(OWN_PROGRAM).arg("part").args(words).stderr(std::process::Stdio::inherit()).output().expect("the bench");
    assert!(done.status.success(), "{words:?} failed");
    String::from_utf8(done.stdout).expect("text")
}

/// From the call that starts it until its end has been seen.
fn start(command: &[CString], name: &str) -> Run {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    let words: Vec<_> = command.iter().map(|word| word.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let (mut child, mut status, mut usage) = (0, -1, MaybeUninit::<libc::rusage>::zeroed());
    let begin = Instant::now();
    // SAFETY: C strings, and arrays of them that end with a null pointer; places for the numbers, of which zero is a value.
    let (took, usage) = unsafe {
        let failed = libc::posix_spawnp(&raw mut child, words[0], ptr::null(), ptr::null(), words.as_ptr(), environ);
        assert_eq!(failed, 0, "posix_spawnp {name}");
        assert_eq!(libc::wait4(child, &raw mut status, 0, usage.as_mut_ptr()), child, "wait4");
        (begin.elapsed(), usage.assume_init())
    };
    assert_eq!(status, 0, "{name} failed");
    let duration = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    let busy = duration(usage.ru_utime) + duration(usage.ru_stime);
    Run { took, busy, peak: usage.ru_maxrss, own_peak: own_peak(), copied: 0 }
}

/// Not what getrusage(2) says: that began with cargo's.
fn own_peak() -> i64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
