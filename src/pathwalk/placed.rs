//! Who could have put a name where it is. The one rule for every path that is followed or opened while privileged.
//!
//! A name says something only where nobody but root could have put it there. Who may write to a directory may put any
//! name into it: a new one, a hard link, or by rename(2) what had another name before. So the owner of what a name leads
//! to says nothing about the name. In a sticky directory (inode(7)) a name is safe from all but two: who owns the
//! directory, and who owns what the name leads to.
//!
//! POSIX ACLs count without a look at them: the group's bits of a mode are the most that any of their entries gives (acl(5)).

use anyhow::Error;

use crate::failure::{call, hinted};
use crate::sys::{self, FileFacts};

/// Those who are root, as far as names are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// A starter that is not root counts as itself only where it has no capability to lose: other processes of the
    /// same user, who have none, make names as well (a unit with `User=` and `AmbientCapabilities=`).
    starter: Option<u32>,
}

/// Who, besides those that are trusted, could have put a name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// Nobody else.
    ByTrusted,
    /// One user.
    ByOne(u32),
    /// Several users, or a group's members.
    ByAnybody,
}

impl Trusted {
    /// Asks who we are. It takes one system call more where that is not root.
    pub fn read() -> Result<Self, Error> {
        let own = nix::unistd::geteuid().as_raw();
        if own == 0 {
            return Ok(Self { starter: None });
        }
        let sets = sys::capget().map_err(|errno| call("capget", errno))?;
        Ok(Self { starter: sets.permitted.is_empty().then_some(own) })
    }

    /// Whether this user is root or counts as it.
    #[must_use]
    pub fn includes(self, uid: u32) -> bool {
        uid == 0 || self.starter == Some(uid)
    }

    /// Who could have put a name of this file into this directory.
    #[must_use]
    pub fn placed(self, directory: &FileFacts, file: &FileFacts) -> Placed {
        let by = |uid| if self.includes(uid) { Placed::ByTrusted } else { Placed::ByOne(uid) };
        let others_write = directory.mode & 0o022 != 0;
        let sticky = directory.mode & libc::S_ISVTX != 0;
        // One of several names may be a hard link of anybody's, which fs.protected_hardlinks need not forbid.
        let has_one_name = file.is_directory() || file.links == 1;
        match (others_write, sticky && has_one_name) {
            (false, _) => by(directory.uid),
            (true, true) => by(directory.uid).and(by(file.uid)),
            (true, false) => Placed::ByAnybody,
        }
    }
}

impl Placed {
    /// Who could have changed one of two names of a path.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::ByTrusted, by) | (by, Self::ByTrusted) => by,
            (Self::ByOne(one), Self::ByOne(same)) if one == same => self,
            _ => Self::ByAnybody,
        }
    }

    /// Whether the name says that this user's file is the one that was meant: nobody could have put it there but root or
    /// that user, who gets no other file than its own by it; nor does the target.
    #[must_use]
    pub fn stands_for(self, owner: u32, target: Option<u32>) -> bool {
        self == Self::ByTrusted || self == Self::ByOne(owner) || target == Some(owner)
    }

    /// Why a file that belongs to `owner` is refused at such a name.
    #[must_use]
    pub fn refusal(self, owner: u32) -> Error {
        let who = match self {
            Self::ByOne(uid) => format!("uid {uid}"),
            Self::ByTrusted | Self::ByAnybody => "others than root".to_owned(),
        };
        hinted(
            format!("it belongs to uid {owner}, and {who} may have put it there in place of what was meant"),
            "a name counts only in directories that root alone may write to (POSIX ACLs count, too): name a path in such a one, \
             or take the others' right to write to this one",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Trusted = Trusted { starter: None };

    fn file(kind: u32, uid: u32, mode: u32, links: u32) -> FileFacts {
        FileFacts { identity: (0, 0, 0), mount: 0, uid, gid: 0, links, mode: kind | mode }
    }

    fn directory(uid: u32, mode: u32) -> FileFacts {
        file(libc::S_IFDIR, uid, mode, 2)
    }

    #[test]
    fn a_name_is_roots_only_where_nobody_else_could_have_put_it_there() {
        let roots = file(libc::S_IFREG, 0, 0o600, 1);
        for (place, placed) in [
            (directory(0, 0o755), Placed::ByTrusted),
            (directory(0, 0o2775), Placed::ByAnybody),
            (directory(0, 0o757), Placed::ByAnybody),
            (directory(1000, 0o755), Placed::ByOne(1000)),
            (directory(1000, 0o777), Placed::ByAnybody),
            (directory(0, 0o1777), Placed::ByTrusted),
            (directory(1000, 0o1777), Placed::ByOne(1000)),
        ] {
            assert_eq!(ROOT.placed(&place, &roots), placed, "{place:?}");
        }
    }

    #[test]
    fn in_a_sticky_directory_a_file_with_several_names_may_be_anybodys() {
        let tmp = directory(0, 0o1777);
        assert_eq!(ROOT.placed(&tmp, &file(libc::S_IFREG, 0, 0o600, 2)), Placed::ByAnybody);
        assert_eq!(ROOT.placed(&tmp, &file(libc::S_IFLNK, 0, 0o777, 2)), Placed::ByAnybody);
        assert_eq!(ROOT.placed(&tmp, &directory(0, 0o700)), Placed::ByTrusted);
        assert_eq!(ROOT.placed(&tmp, &file(libc::S_IFREG, 5, 0o600, 1)), Placed::ByOne(5));
    }

    #[test]
    fn of_all_names_of_a_path_the_least_safe_one_counts() {
        use Placed::{ByAnybody, ByOne, ByTrusted};
        assert_eq!(ByTrusted.and(ByOne(5)), ByOne(5));
        assert_eq!(ByOne(5).and(ByTrusted), ByOne(5));
        assert_eq!(ByOne(5).and(ByOne(5)), ByOne(5));
        assert_eq!(ByOne(5).and(ByOne(6)), ByAnybody);
        assert_eq!(ByAnybody.and(ByTrusted), ByAnybody);
    }

    #[test]
    fn who_could_put_only_its_own_files_there_gains_nothing() {
        assert!(Placed::ByOne(5).stands_for(5, None) && !Placed::ByOne(5).stands_for(0, None));
        assert!(!Placed::ByOne(5).stands_for(6, None) && Placed::ByAnybody.stands_for(6, Some(6)));
        assert!(Placed::ByTrusted.stands_for(0, None) && !Placed::ByAnybody.stands_for(0, Some(6)));
    }

    #[test]
    fn a_starter_with_a_capability_is_nobody_special() {
        assert!(!ROOT.includes(3000) && ROOT.includes(0));
        assert!(Trusted { starter: Some(3000) }.includes(3000));
    }
}
