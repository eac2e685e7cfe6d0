//! What a process that stays costs: `cargo bench --bench init -- [ROUNDS] [time] [idle] [orphans] [lost]`, as root.
//!
//! `stepdown --init` next to tini, tini-static, dumb-init and catatonit, and to the chains that also give root up: gosu
//! or setpriv in front of tini-static. All are PID 1 of a namespace of their own, take turns, and in another order each
//! round. Measured are
//!
//! - `time`: a start with its end: the target exits at once. In three situations: with all of root's capabilities, with the
//!   fourteen that a container has by default, and as the target already, where there is nothing to give up;
//! - `idle`: what stays, in memory, and how often it wakes up in ten seconds while its command sleeps; and how many system
//!   calls it makes;
//! - `orphans`: the processor time that one takes;
//! - `lost`: how many stop requests are lost that come in the first two milliseconds.
//!
//! Without such a word all is measured.
//!
//! Whoever is not here is left out. `STEPDOWN_BIN` is the program, several with colons between; the release build for musl
//! where unset. The others are looked for in PATH, unless `TINI`, `TINI_STATIC`, `DUMB_INIT`, `CATATONIT`, `GOSU` or
//! `SETPRIV` says where one is.
#![allow(missing_docs, unsafe_code, clippy::panic, clippy::expect_used, clippy::indexing_slicing)]

mod calls;
mod first;
mod idle;
mod lost;
mod orphans;
#[path = "../starts.rs"]
mod starts;
mod table;
mod time;
#[path = "../turns.rs"]
mod turns;

use std::env;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use starts::{c_string, install};

/// Who is measured.
pub struct Row {
    pub name: String,
    /// What stands in front of a command. Nothing where the program is not here.
    pub words: Option<Vec<CString>>,
    /// Whether it stays when the command runs.
    pub stays: bool,
    /// Whether it has root to give up, and fails where it is not root.
    pub needs_root: bool,
}

/// Where the programs are, and what they start.
pub struct Place {
    directory: PathBuf,
    /// A static program that exits at once.
    pub target: CString,
    /// This program, where everybody may run it.
    pub own: CString,
}

/// The row that the others are compared with.
pub const PEER: &str = "tini-static";

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [part, count] = words.as_slice()
        && part == "orphans"
    {
        return orphans::play(count.parse().expect("a number"));
    }
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        println!("init: not measured: a PID namespace, and giving root up, need root");
        return;
    }
    let rounds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1000);
    starts::leave_cargos_environment();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = Place::new(directory.path());
    let rows = place.rows();
    for row in rows.iter().filter(|row| row.words.is_none()) {
        println!("{} is not here, and left out", row.name);
    }
    let rows: Vec<Row> = rows.into_iter().filter(|row| row.words.is_some()).collect();
    let parts = ["time", "idle", "orphans", "lost"];
    let odd = words.iter().find(|word| word.parse::<usize>().is_err() && !parts.contains(&word.as_str()));
    assert!(odd.is_none(), "{odd:?} is none of {parts:?}");
    let named = |part: &str| words.iter().any(|word| word == part);
    let wanted = |part: &str| named(part) || !parts.iter().any(|part| named(part));
    if wanted("time") {
        time::all(&rows, &place, rounds);
    }
    let rows: Vec<Row> = rows.into_iter().filter(|row| row.stays).collect();
    if wanted("idle") {
        print!("{}", table::idle(&rows, &idle::all(&rows), &calls::all(&rows, &place)));
    }
    if wanted("orphans") {
        print!("{}", table::orphans(&rows, &orphans::all(&rows, &place)));
    }
    if wanted("lost") {
        print!("{}", table::lost(&rows, &lost::all(&rows)));
    }
}

impl Place {
    fn new(directory: &Path) -> Self {
        starts::set_open(directory);
        let target = c_string(&starts::build_floor(directory));
        let own = c_string(&install(Path::new("/proc/self/exe"), directory, "own"));
        Self { directory: directory.to_owned(), target, own }
    }

    /// A copy as it is after a boot: on the disk, and nothing of it in memory. While it waits to be written all of it counts
    /// as dirty; and what the kernel reads in pieces of its own choice it maps in other pieces.
    fn install(&self, from: &Path, name: &str, options: &str) -> Vec<CString> {
        let copy = install(from, &self.directory, name);
        let file = File::open(&copy).expect("the copy");
        file.sync_all().expect("fsync");
        // SAFETY: a descriptor and numbers.
        assert_eq!(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) }, 0, "posix_fadvise");
        starts::command(&copy, options)
    }

    fn rows(&self) -> Vec<Row> {
        let program = |variable: &str, name: &str, options: &str| {
            starts::find(variable, name).map(|from| self.install(&from, name, options))
        };
        let row = |name: &str, words, stays, needs_root| Row { name: name.to_owned(), words, stays, needs_root };
        let mut rows = vec![row("target alone", Some(Vec::new()), false, false)];
        for (index, from) in turns::stepdown().into_iter().enumerate() {
            let stepdown = |options: &str| Some(self.install(&from, &format!("stepdown{index}"), options));
            let tag = if index == 0 { String::new() } else { format!(" ({})", index + 1) };
            rows.push(row(&format!("stepdown{tag}"), stepdown("nobody"), false, false));
            rows.push(row(&format!("stepdown{tag} --init"), stepdown("--init nobody"), true, false));
        }
        let tini = program("TINI_STATIC", PEER, "--");
        rows.push(row("tini", program("TINI", "tini", "--"), true, false));
        rows.push(row(PEER, tini.clone(), true, false));
        rows.push(row("dumb-init", program("DUMB_INIT", "dumb-init", "--"), true, false));
        rows.push(row("catatonit", program("CATATONIT", "catatonit", "--"), true, false));
        let in_front = |program: Option<Vec<CString>>| program.zip(tini.clone()).map(|(front, tini)| [front, tini].concat());
        rows.push(row("gosu and tini-static", in_front(program("GOSU", "gosu", "nobody")), true, true));
        rows.push(row("setpriv and tini-static", in_front(program("SETPRIV", "setpriv", starts::SETPRIV)), true, true));
        rows
    }
}

impl Row {
    /// The whole line.
    pub fn line(&self, command: &[CString]) -> Vec<CString> {
        [self.words.as_deref().unwrap_or_default(), command].concat()
    }
}
