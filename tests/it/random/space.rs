//! User namespaces to start in: each is made once, and lives as long as the process that holds it.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

/// One kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The jail's own: none of its own.
    None,
    /// Every id is mapped onto itself.
    Whole,
    /// 65536 ids elsewhere, as an engine's `userns-remap` gives them.
    Shifted,
    /// Root is a user outside, and 65535 ids more are mapped: rootless engines.
    Rootless,
    /// `unshare --map-root-user` of root's: one id, setgroups denied.
    RootAlone,
    /// 1000 alone, setgroups denied.
    UserAlone,
    /// The lower ids are themselves, setgroups denied.
    Denied,
}

impl Space {
    /// All but none.
    pub const MADE: [Self; 6] = [Self::Whole, Self::Shifted, Self::Rootless, Self::RootAlone, Self::UserAlone, Self::Denied];

    /// First id inside, first outside, how many.
    fn map(self) -> &'static [(u32, u32, u32)] {
        match self {
            Self::None | Self::Whole => &[(0, 0, u32::MAX)],
            Self::Shifted => &[(0, 100_000, 65536)],
            Self::Rootless => &[(0, 1000, 1), (1, 100_001, 65535)],
            Self::RootAlone => &[(0, 0, 1)],
            Self::UserAlone => &[(1000, 1000, 1)],
            Self::Denied => &[(0, 0, 5000)],
        }
    }

    /// Whether setgroups(2) is denied in it.
    pub fn denies_setgroups(self) -> bool {
        matches!(self, Self::RootAlone | Self::UserAlone | Self::Denied)
    }

    /// What an id inside is outside; none where it is not mapped.
    pub fn outside(self, id: u32) -> Option<u32> {
        let holds = |&&(inside, _, count): &&(u32, u32, u32)| id >= inside && id - inside < count;
        self.map().iter().find(holds).map(|(inside, outside, _)| outside + (id - inside))
    }
}

/// The namespaces, each by a process that is in it.
pub struct Spaces(Vec<(Space, Child)>);

impl Spaces {
    /// Makes them all.
    pub fn new() -> Self {
        Self(Space::MADE.iter().map(|&space| (space, hold(space))).collect())
    }

    /// Who holds one; 0 for none.
    pub fn holder(&self, space: Space) -> u32 {
        self.0.iter().find(|(made, _)| *made == space).map_or(0, |(_, holder)| holder.id())
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for (_, holder) in &mut self.0 {
            drop(holder.stdin.take());
            let _ = holder.wait();
        }
    }
}

fn hold(space: Space) -> Child {
    let cat = Command::new("unshare").args(["--user", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut holder = cat.expect("unshare");
    // What cat hands back shows that unshare has become it, in a namespace of its own.
    let mut echo = [0];
    holder.stdin.as_mut().expect("stdin").write_all(b".").expect("a byte");
    holder.stdout.as_mut().expect("stdout").read_exact(&mut echo).expect("a user namespace");
    let proc = format!("/proc/{}", holder.id());
    if space.denies_setgroups() {
        fs::write(format!("{proc}/setgroups"), "deny").expect("setgroups");
    }
    let lines: String = space.map().iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect();
    for name in ["uid_map", "gid_map"] {
        fs::write(format!("{proc}/{name}"), &lines).expect("a map");
    }
    holder
}
