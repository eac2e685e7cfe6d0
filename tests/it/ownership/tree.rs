//! Trees as the tests make them and look at them, by a walk that owes nothing to stepdown's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::NODE;

/// What must not change of what is nobody's business, and what must of what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub owner: (u32, u32),
    pub mode: u32,
    pub changed: (i64, i64),
}

impl From<fs::Metadata> for Facts {
    fn from(facts: fs::Metadata) -> Self {
        let changed = (facts.ctime(), facts.ctime_nsec());
        Self { owner: (facts.uid(), facts.gid()), mode: facts.mode(), changed }
    }
}

/// The path itself and all below, by path.
pub fn look(top: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![top.to_owned()];
    while let Some(path) = ahead.pop() {
        let facts = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if facts.is_dir() {
            ahead.extend(fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        }
        found.insert(path, facts.into());
    }
    found
}

/// What is not the target's, of the path itself and all below.
pub fn wrong(top: &Path) -> Vec<PathBuf> {
    look(top).into_iter().filter(|(_, facts)| facts.owner != NODE).map(|(path, _)| path).collect()
}

/// Panics where a directory is right while something below it is wrong.
#[track_caller]
pub fn assert_can_be_redone(top: &Path) {
    let facts = look(top);
    for (path, _) in facts.iter().filter(|(_, facts)| facts.owner != NODE) {
        for above in path.ancestors().skip(1).take_while(|above| above.starts_with(top)) {
            assert_ne!(facts[above].owner, NODE, "{} is right, while {} is wrong", above.display(), path.display());
        }
    }
}

/// What is wrong and has nothing wrong below it: each of these is a failure of its own, all others follow.
pub fn failures(top: &Path) -> Vec<PathBuf> {
    // Sorted by name after name: what is below a path comes right after it.
    let wrong = wrong(top);
    let below = |at: usize| wrong.get(at + 1).is_some_and(|next| next.starts_with(&wrong[at]));
    (0..wrong.len()).filter(|&at| !below(at)).map(|at| wrong[at].clone()).collect()
}

/// Makes directories `width` wide and `depth` deep, with as many files in each, all root's.
pub fn build(top: &Path, width: usize, depth: usize) {
    fs::create_dir_all(top).expect("mkdir");
    for index in 0..width {
        fs::write(top.join(format!("f{index}")), "").expect("a file");
        if depth > 0 {
            build(&top.join(format!("d{index}")), width, depth - 1);
        }
    }
}

/// Gives everything to root.
pub fn give_to_root(top: &Path) {
    for path in look(top).keys() {
        std::os::unix::fs::lchown(path, Some(0), Some(0)).expect("chown");
    }
}
