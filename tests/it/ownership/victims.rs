//! What must not change while a tree is attacked, and the shape that it shares with the tree.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;

use super::inside::Place;
use super::tree::{Facts, look};

/// The directories and files that are attacked, below the tree and likewise below the victims.
pub fn names() -> Vec<String> {
    let shapes = ["", "/d", "/d/d", "/f", "/d/f", "/d/d/f", "/d/d/g"];
    (0..4).flat_map(|index| shapes.map(|shape| format!("d{index}{shape}"))).collect()
}

pub fn is_file(name: &str) -> bool {
    name.ends_with('f') || name.ends_with('g')
}

/// Makes a tree of [`names`]; in the attacker's, everybody may do everything.
pub fn grow(top: &Path, mode: u32) {
    fs::create_dir_all(top).expect("mkdir");
    for name in names() {
        let path = top.join(&name);
        if is_file(&name) {
            fs::write(&path, name.as_bytes()).expect("a file");
        } else if !path.exists() {
            fs::create_dir(&path).expect("mkdir");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    fs::set_permissions(top, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// So many files in each directory that a walk takes more than one thread.
pub fn fill(top: &Path) {
    for name in names().iter().filter(|name| !is_file(name)) {
        for number in 0..200 {
            fs::write(top.join(name).join(format!("more{number}")), "").expect("a file");
        }
    }
}

/// What must not change, held by descriptor: whatever is done to names, these are the inodes.
pub struct Victims(Vec<(PathBuf, OwnedFd, Facts)>);

impl Victims {
    pub fn new(place: &Place) -> Self {
        let top = place.at("m/victims");
        // These first: the directory that they stand in is a victim, too.
        for name in ["arena", "home", "counts", "park"] {
            fs::create_dir_all(place.at("m").join(name)).expect("mkdir");
        }
        grow(&top, 0o755);
        for name in ["sticky", "mirror/new", "mirror/data/new", "a/b/a/b"] {
            fs::create_dir_all(top.join(name)).expect("mkdir");
        }
        fs::write(top.join("secret"), "").expect("a file");
        fs::set_permissions(top.join("secret"), fs::Permissions::from_mode(0o600)).expect("chmod");
        for name in ["f", "a/f", "a/b/f"] {
            fs::write(top.join(name), "").expect("a file");
        }
        fs::write(top.join("shared"), "").expect("a file");
        fs::write(top.join("somebodys"), "").expect("a file");
        lchown(top.join("somebodys"), Some(5), Some(60)).expect("chown");
        symlink("secret", top.join("link")).expect("a link");
        mkfifo(&top.join("fifo"), Mode::S_IRWXU).expect("a FIFO");
        mknod(&top.join("device"), SFlag::S_IFCHR, Mode::S_IRUSR, libc::makedev(1, 3)).expect("a device");
        fs::write(top.join("sticky/file"), "").expect("a file");
        fs::set_permissions(top.join("shared"), fs::Permissions::from_mode(0o666)).expect("chmod");
        fs::set_permissions(top.join("sticky"), fs::Permissions::from_mode(0o1777)).expect("chmod");
        let out = place.at("m/out");
        fs::create_dir(&out).expect("mkdir");
        fs::set_permissions(&out, fs::Permissions::from_mode(0o1777)).expect("chmod");
        let all = look(&top).into_keys().chain([out, place.at("m"), place.at("")]);
        Self(
            all.map(|path| {
                let held = open(&path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()).expect("open");
                let facts = facts(&held);
                (path, held, facts)
            })
            .collect(),
        )
    }

    /// Whether one of them belongs to somebody else by now.
    pub fn were_taken(&self) -> bool {
        self.0.iter().any(|(_, held, before)| facts(held).owner != before.owner)
    }

    /// Panics where one has changed. Where others may make names (in it or of it) its change time is theirs.
    pub fn check(&self, when: &str) {
        for (path, held, before) in &self.0 {
            let mut now = facts(held);
            if ["shared", "sticky", "out"].iter().any(|name| path.ends_with(name)) {
                now.changed = before.changed;
            }
            assert_eq!(now, *before, "{when}: {} has changed", path.display());
        }
    }
}

fn facts(held: &OwnedFd) -> Facts {
    File::from(held.try_clone().expect("a descriptor")).metadata().expect("stat").into()
}
