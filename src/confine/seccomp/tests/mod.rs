//! Programs are run here by an interpreter, and what they answer is compared with a plain reading of what was asked for.

mod agreement;
mod interpreter;
mod reading;
mod service;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::calls;
use interpreter::{Call, run};

/// The number of a call that is known here.
fn number(name: &str) -> u32 {
    static NUMBERS: OnceLock<BTreeMap<&str, u32>> = OnceLock::new();
    *NUMBERS.get_or_init(|| calls::all().collect()).get(name).expect(name)
}

/// Where the kernel's headers are installed, every call in them is known, by that number.
#[test]
fn the_table_agrees_with_the_kernels_headers() {
    let header = format!("/usr/include/{}-linux-gnu/asm/unistd_64.h", std::env::consts::ARCH);
    let Ok(header) = std::fs::read_to_string(header) else { return };
    let mut compared = 0;
    for line in header.lines() {
        if let Some((name, theirs)) = line.strip_prefix("#define __NR_").and_then(|rest| rest.split_once(' ')) {
            assert_eq!(number(name), theirs.parse::<u32>().unwrap(), "{name}");
            compared += 1;
        }
    }
    assert!(compared > 300);
}

#[test]
fn no_call_stands_in_the_table_twice() {
    let (mut names, mut numbers): (Vec<_>, Vec<_>) = calls::all().unzip();
    let (count, all) = (names.len(), numbers.len());
    names.sort_unstable();
    names.dedup();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!((names.len(), numbers.len()), (count, all));
    assert!(numbers.last().is_some_and(|&last| (last as usize) < calls::END));
    assert!(names.iter().all(|name| !name.is_empty() && !name.contains("SYS")));
}
