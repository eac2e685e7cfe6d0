//! How much a large tree takes: memory and descriptors don't grow with it.

use std::fs;
use std::os::fd::AsFd;
use std::process::Command;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};

use super::inside::{self, Part, Place, program};
use crate::harness::{Case, Outcome};
use crate::jail::Jail;
use crate::{cases, parts};

pub fn cases() -> Vec<Case> {
    cases![
        a_million_entries_in_one_directory_take_little_memory_and_few_descriptors,
        a_hundred_thousand_directories_in_one_take_little_memory_and_few_descriptors,
        a_hundred_thousand_directories_in_a_thousand_take_little_memory_and_few_descriptors,
    ]
}

pub fn parts() -> Vec<Part> {
    parts![populate, used]
}

/// What stepdown may have had resident at any time, in KiB.
const MEMORY: u64 = 16 * 1024;

fn a_million_entries_in_one_directory_take_little_memory_and_few_descriptors() -> Outcome {
    takes_little("1 1000000 0", 1_000_002)
}

fn a_hundred_thousand_directories_in_one_take_little_memory_and_few_descriptors() -> Outcome {
    takes_little("1 0 100000", 100_002)
}

fn a_hundred_thousand_directories_in_a_thousand_take_little_memory_and_few_descriptors() -> Outcome {
    takes_little("1000 100 100", 201_001)
}

/// Fills a tree, runs stepdown on it with few descriptors, and asks the command how much memory its process has
/// used up to then: stepdown's part was before the execve.
fn takes_little(population: &str, count: u64) -> Outcome {
    let jail = Jail::new()?
        .setup("mkdir $W/d; mount -t tmpfs -o mode=755,size=4g,nr_inodes=0 none $W/d")
        .setup(&format!("WORK=$W {} && ulimit -n 64", inside::line("populate", population)));
    let used = program().display().to_string();
    let ran = jail.run(&["--chown", &jail.at("d"), "1000:1000", "--", &used, "--part", "used", &jail.at("d")])?;
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut numbers = ran.stdout.lines().map(|line| line.trim().parse::<u64>().unwrap_or_else(|_| panic!("{ran:?}")));
    let (memory, right) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    println!("{count} entries: {memory} KiB resident at most");
    assert_eq!(right, count, "{ran:?}");
    assert!((1..MEMORY).contains(&memory), "{memory} KiB for {count} entries");
    Ok(())
}

/// Makes OUTER directories, with so many files and directories in each.
fn populate(place: &Place) {
    let [outer, files, directories] = [0, 1, 2].map(|index| place.words[index].parse::<u32>().expect("a number"));
    for number in 0..outer {
        let path = place.at(format!("d/{number}"));
        fs::create_dir(&path).expect("mkdir");
        let directory = fs::File::open(&path).expect("open");
        for number in 0..files {
            mknodat(directory.as_fd(), format!("f{number}").as_str(), SFlag::S_IFREG, Mode::S_IRUSR, 0).expect("mknod");
        }
        for number in 0..directories {
            mkdirat(directory.as_fd(), format!("d{number}").as_str(), Mode::S_IRWXU).expect("mkdir");
        }
    }
}

/// Prints how much memory this process had resident at most, in all programs that it has been; then how many
/// entries of a tree are the target's.
fn used(place: &Place) {
    println!("{}", getrusage(UsageWho::RUSAGE_SELF).expect("getrusage").max_rss());
    let count = "find \"$0\" -user 1000 -group 1000 -printf . | wc -c";
    Command::new("sh").args(["-c", count, &place.words[0]]).status().expect("find");
}
