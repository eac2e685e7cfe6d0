//! What `--chown` costs: `cargo bench --bench chown -- [WORD...]`, as root.
//!
//! Everybody brings the same tree to the same owner, in turn with the others and in another order each round.
//! The tree is brought back before each run, which is not in the time, and looked through after it: whoever
//! left one entry wrong ends the bench. A start of the program is in the time of all.
//!
//! Without words all is measured; a word keeps of its kind what it names, and several can be given.
//!
//! | words | what |
//! |---|---|
//! | `10k 100k 1M` | files in the tree |
//! | `tmpfs ext4 overlayfs` | ext4 is an image mounted by loop; overlayfs lies over one, with the tree in the lower layer |
//! | `spread flat` | ten files in a directory on average, directories in directories; or all in one |
//! | `wrong right percent` | all is root's; all is right, as at a second start; one in a hundred is root's |
//! | `warm cold` | cold: mounted anew, nothing of the image in the page cache (not on tmpfs, which is memory) |
//! | `--quick` | no 1M, three rounds |
//! | a number | rounds |
//!
//! `STEPDOWN_BIN` is the program, several with colons between; the release build for musl where unset.
//! `CHOWN_WORK` is where the images lie, up to 12 GB of them; the directory for temporary files where unset.
#![allow(missing_docs, unsafe_code, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod floor;
mod measure;
mod place;
mod table;
#[path = "../turns.rs"]
mod turns;

use std::ffi::CString;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::{env, fs, thread};

use place::Kind;

/// Whose everything shall be.
pub const OWNER: u32 = 1000;

/// What is measured: of each kind what the line names, or all.
pub struct Wanted {
    sizes: Vec<u64>,
    kinds: Vec<Kind>,
    shapes: Vec<Shape>,
    states: Vec<State>,
    caches: Vec<Cache>,
    rounds: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Spread,
    Flat,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Wrong,
    Right,
    Percent,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    Warm,
    Cold,
}

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "part") {
        return part(&words[1..]);
    }
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        println!("chown: not measured: giving files away needs root");
        return;
    }
    let wanted = Wanted::read(&words);
    place::leave_the_others_mounts();
    let work = env::var_os("CHOWN_WORK").map_or_else(env::temp_dir, PathBuf::from);
    let work = tempfile::tempdir_in(work).expect("a directory for the images");
    let cells = measure::all(&wanted, work.path());
    print!("{}", table::all(&cells));
}

impl Wanted {
    fn read(words: &[String]) -> Self {
        let quick = words.iter().any(|word| word == "--quick");
        let rounds = words.iter().find_map(|word| word.parse().ok());
        let mut known = vec!["--quick"];
        let mut left = |known_here: &[&'static str]| -> Vec<usize> {
            known.extend(known_here);
            let named = |place: &usize| words.iter().any(|word| word == known_here[*place]);
            let all = 0..known_here.len();
            Some(all.clone().filter(named).collect()).filter(|some: &Vec<_>| !some.is_empty()).unwrap_or_else(|| all.collect())
        };
        let of_size = |place: usize| [10_000, 100_000, 1_000_000][place];
        let wanted = Self {
            sizes: left(&["10k", "100k", "1M"]).into_iter().map(of_size).filter(|&size| !quick || size < 1_000_000).collect(),
            kinds: left(&Kind::ALL.map(Kind::name)).into_iter().map(|place| Kind::ALL[place]).collect(),
            shapes: left(&["spread", "flat"]).into_iter().map(|place| [Shape::Spread, Shape::Flat][place]).collect(),
            states: left(&["wrong", "right", "percent"])
                .into_iter()
                .map(|place| [State::Wrong, State::Right, State::Percent][place])
                .collect(),
            caches: left(&["warm", "cold"]).into_iter().map(|place| [Cache::Warm, Cache::Cold][place]).collect(),
            rounds: rounds.or(quick.then_some(3)),
        };
        let odd = words.iter().find(|word| word.parse::<usize>().is_err() && !known.contains(&word.as_str()));
        assert!(odd.is_none(), "{odd:?} is none of the words: {known:?}");
        wanted
    }
}

/// How many threads a parallel walk gets.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The bench itself, even after cargo has built another in its place.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

// ---- what the bench starts itself for, so that its own memory stays small: a child's peak counts from its parent's

fn part(words: &[String]) {
    let number = |place: usize| words[place].parse::<u64>().expect("a number");
    let tree = CString::new(words[1].as_bytes()).expect("no null");
    let differs = |facts: &libc::statx, owner| facts.stx_uid != owner || facts.stx_gid != owner;
    let wrong = move |facts: &libc::statx| differs(facts, OWNER).then_some(OWNER);
    match words[0].as_str() {
        "floor" => drop(floor::walk(&tree, number(2) as usize, true, &wrong)),
        "count" => {
            let count = floor::walk(&tree, cores(), false, &wrong);
            println!("{} {}", count.seen, count.wrong);
        }
        "prepare" => {
            let share = number(2);
            let judge = move |facts: &libc::statx| {
                // The high bits of a product with the golden ratio: which files these are looks like chance.
                let owner = if (facts.stx_ino.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 100 < share { 0 } else { OWNER };
                differs(facts, owner).then_some(owner)
            };
            floor::walk(&tree, cores(), true, &judge);
        }
        "make" if words[3] == "flat" => make(&words[1], &[usize::MAX], number(2)),
        "make" => make(&words[1], &[2, 3, 4, 5, 6, 8, 10, 12, 20, 30], number(2)),
        word => panic!("{word}: no such part"),
    }
}

/// Empty files and, one in fifty, symbolic links that lead nowhere; so many in each directory, by turns. Each
/// directory holds eight others, until there are enough.
fn make(top: &str, held: &[usize], files: u64) {
    let mut directories = vec![top.to_owned()];
    fs::create_dir(top).expect("mkdir");
    let (mut place, mut room) = (0, held[0]);
    for number in 0..files {
        if room == 0 {
            place += 1;
            room = held[place % held.len()];
            directories.push(format!("{}/package-{place}", directories[(place - 1) / 8]));
            fs::create_dir(&directories[place]).expect("mkdir");
        }
        room -= 1;
        let name = format!("{}/module-{number}.js", directories[place]);
        if number % 50 == 49 {
            symlink("nowhere", &name).expect("symlink");
        } else {
            drop(File::create_new(&name).unwrap_or_else(|error| panic!("{name}: {error}")));
        }
    }
}
