//! How much a large tree takes: memory and descriptors don't grow with it.

use std::fs;
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};

use super::inside::{self, Part, Place};
use crate::harness::{Case, Outcome};
use crate::jail::{Jail, programs};
use crate::{cases, parts};

pub fn cases() -> Vec<Case> {
    cases![
        a_million_files_in_one_directory_take_little_memory_and_few_descriptors,
        a_million_files_in_a_hundred_thousand_directories_take_little_memory_and_few_descriptors,
        a_hundred_thousand_directories_in_one_take_little_memory_and_few_descriptors,
        a_level_far_down_takes_little_memory,
    ]
}

pub fn parts() -> Vec<Part> {
    parts![populate, dig]
}

/// What the manual promises, in KiB, and what the shells around it and the report itself may take.
const MEMORY: i64 = 2048;

fn a_million_files_in_one_directory_take_little_memory_and_few_descriptors() -> Outcome {
    takes_little("populate", "1 1 1000000", 1_000_003, MEMORY)
}

fn a_million_files_in_a_hundred_thousand_directories_take_little_memory_and_few_descriptors() -> Outcome {
    takes_little("populate", "100 1000 10", 1_100_101, MEMORY)
}

fn a_hundred_thousand_directories_in_one_take_little_memory_and_few_descriptors() -> Outcome {
    takes_little("populate", "1 100000 0", 100_002, MEMORY)
}

fn a_level_far_down_takes_little_memory() -> Outcome {
    // A level stays in mind until all below it is done: 300 bytes each at the most.
    takes_little("dig", "20000", 20_001, MEMORY + 20_000 * 300 / 1024)
}

/// Fills a tree, runs stepdown on it with few descriptors, and asks the report how much memory its process has used up
/// to then: stepdown's part was before the execve. What find counts is the target's.
fn takes_little(part: &str, population: &str, count: u64, memory: i64) -> Outcome {
    let jail = Jail::new()?
        .setup("mkdir $W/d; mount -t tmpfs -o mode=755,size=4g,nr_inodes=0 none $W/d")
        .setup(&format!("WORK=$W {} && ulimit -n 64", inside::line(part, population)));
    let script =
        format!("find {} -user 1000 -group 1000 -printf . | wc -c >&2; exec {}", jail.at("d"), programs().report.display());
    let ran = jail.run(&["--chown", &jail.at("d"), "1000:1000", "--", "sh", "-c", &script])?;
    let right = ran.stderr.lines().last().unwrap_or_default().trim().to_owned();
    let used = ran.report()?.number("peak_memory");
    println!("{count} entries: {used} KiB resident at most");
    assert_eq!(right, count.to_string());
    assert!((1..memory).contains(&used), "{used} KiB for {count} entries");
    Ok(())
}

/// A chain of so many directories.
fn dig(place: &Place) {
    let mut at: std::os::fd::OwnedFd = fs::File::open(place.at("d")).expect("the top").into();
    for _ in 0..place.words[0].parse().expect("a number") {
        mkdirat(&at, "n", Mode::S_IRWXU).expect("mkdir");
        at = openat(&at, "n", OFlag::O_DIRECTORY, Mode::empty()).expect("open");
    }
}

/// Makes OUTER directories, so many in each of them, and so many files in each of those.
fn populate(place: &Place) {
    let [outer, inner, files] = [0, 1, 2].map(|index| place.words[index].parse::<u32>().expect("a number"));
    for number in 0..outer {
        let path = place.at(format!("d/{number}"));
        fs::create_dir(&path).expect("mkdir");
        let directory = fs::File::open(&path).expect("open");
        for number in 0..inner {
            let name = format!("d{number}");
            mkdirat(directory.as_fd(), name.as_str(), Mode::S_IRWXU).expect("mkdir");
            if files == 0 {
                continue;
            }
            let within = openat(&directory, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).expect("open");
            for number in 0..files {
                mknodat(&within, format!("f{number}").as_str(), SFlag::S_IFREG, Mode::S_IRUSR, 0).expect("mknod");
            }
        }
    }
}
