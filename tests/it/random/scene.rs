//! The files of one combination, and what the chores promise of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use super::line::{Choice, Line};
use super::model::{Begun, Forecast, Promise};
use super::space::Space;

/// What the kernel shows in place of an id that a namespace does not map.
pub const OVERFLOW: u32 = 65534;
/// CAP_CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID.
const FILES: u64 = 0b11111;
const REFUSED: i32 = 125;

/// A directory of its own, made anew for each step.
pub struct Scene {
    /// It.
    pub directory: String,
    /// Where the programs under test are.
    pub programs: String,
}

/// Name, uid, gid, mode; a directory where it ends in a slash.
const FILES_THERE: [(&str, u32, u32, u32); 11] = [
    ("", 0, 0, 0o755),
    ("open/", 0, 0, 0o755),
    ("closed/", 0, 0, 0o700),
    ("data/", 1000, 50, 0o755),
    ("data/below/", 0, 0, 0o755),
    ("data/below/file", 0, 50, 0o644),
    ("theirs/", 3000, 3000, 0o750),
    ("theirs/file", 1000, 1000, 0o600),
    ("roots/", 0, 50, 0o755),
    ("groups/", 1000, 0, 0o755),
    ("plain", 0, 0, 0o644),
];

impl Scene {
    /// Makes it.
    pub fn make(&self) {
        for (name, uid, gid, mode) in FILES_THERE {
            let path = format!("{}/{name}", self.directory);
            if name.is_empty() || name.ends_with('/') {
                fs::create_dir(&path).expect("mkdir");
            } else {
                fs::write(&path, "").expect("a file");
            }
            lchown(&path, Some(uid), Some(gid)).expect("chown");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
        symlink("data", self.path("link")).expect("a link");
        fs::write(self.path("report"), "").expect("a file");
        fs::set_permissions(self.path("report"), fs::Permissions::from_mode(0o666)).expect("chmod");
    }

    /// Removes it.
    pub fn remove(&self) {
        fs::remove_dir_all(&self.directory).expect("remove");
    }

    /// A path of it; the empty one is `/`.
    pub fn path(&self, name: &str) -> String {
        if name.is_empty() { "/".to_owned() } else { format!("{}/{name}", self.directory) }
    }

    /// All that is there, whose it is and its mode: what a dry run leaves alone.
    pub fn look(&self) -> Vec<(String, u32, u32, u32)> {
        let mut all = Vec::new();
        let mut left = vec![self.directory.clone()];
        while let Some(path) = left.pop() {
            let facts = fs::symlink_metadata(&path).expect("stat");
            if facts.is_dir() {
                let entries = fs::read_dir(&path).expect("a directory");
                left.extend(entries.map(|entry| entry.expect("an entry").path().display().to_string()));
            }
            all.push((path, facts.uid(), facts.gid(), facts.mode()));
        }
        all.sort();
        all
    }

    /// uid and gid of a path, seen from a namespace.
    pub fn owner_seen(&self, space: Space, name: &str) -> Option<(u32, u32)> {
        let name = if name == "link" { "data" } else { name };
        let (_, uid, gid, _) = FILES_THERE.into_iter().find(|(there, ..)| there.trim_end_matches('/') == name)?;
        // Ids are few here: the one that is mapped onto it is found by trying.
        let seen = |outside| (0..=8888).find(|&inside| space.outside(inside) == Some(outside)).unwrap_or(OVERFLOW);
        Some((seen(uid), seen(gid)))
    }

    /// Whether root starts, with all it takes to reach and change any file, in no user namespace.
    pub fn is_plain(&self, begun: &Begun<'_>) -> bool {
        begun.start.space == Space::None && begun.report.uids()[1] == 0 && begun.has(FILES)
    }

    /// What chores are to have done, and whether they can be.
    pub fn chores(&self, begun: &Begun<'_>, line: &Line, promise: &mut Promise, told: &mut Forecast) {
        let plain = self.is_plain(begun);
        let mkdirs: Vec<&str> = line
            .choices
            .iter()
            .filter_map(|choice| if let Choice::Mkdir(name, _) = choice { Some(*name) } else { None })
            .collect();
        for choice in &line.choices {
            match *choice {
                Choice::Mkdir(name, mode) => {
                    promise.made.push((name, mode.unwrap_or(0o755)));
                    if !plain {
                        told.tried(REFUSED, "a directory that this starter may not make");
                    }
                }
                Choice::Chown(name) => {
                    let there = mkdirs.contains(&name) || self.owner_seen(begun.start.space, name).is_some();
                    if !there && !promise.bystander {
                        told.must(REFUSED, "no such path to change");
                    } else if !there {
                        told.may(REFUSED, "no such path to warn about");
                    } else if !promise.bystander {
                        promise.owned.push(name);
                    }
                    if !plain {
                        told.tried(REFUSED, "a tree that this starter may not change");
                    }
                }
                Choice::ChownIfPossible(name) if plain => promise.owned.push(name),
                Choice::ChownIfPossible(_) => told.tried(REFUSED, "a tree that this starter may not look into"),
                _ => {}
            }
        }
    }

    /// What is not as it was promised.
    pub fn differs(&self, space: Space, promise: &Promise) -> Vec<String> {
        let mut differences = Vec::new();
        let ids = (space.outside(promise.target.uid), space.outside(promise.target.gid));
        for (name, mode) in &promise.made {
            let facts = fs::metadata(self.path(name));
            let right = |facts: fs::Metadata| {
                facts.is_dir() && facts.mode() & 0o7777 == *mode && (Some(facts.uid()), Some(facts.gid())) == ids
            };
            if !facts.is_ok_and(right) {
                differences.push(format!("--mkdir {name}: {:?}", fs::metadata(self.path(name))));
            }
        }
        for name in &promise.owned {
            let below = self.path(name);
            let below = Path::new(&below);
            for (path, uid, gid, _) in self.look() {
                if Path::new(&path).starts_with(below) && (Some(uid), Some(gid)) != ids {
                    differences.push(format!("--chown {name}: {path} is {uid}:{gid}"));
                }
            }
        }
        differences
    }
}
