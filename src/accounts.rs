//! /etc/passwd and /etc/group, from their bytes.
//!
//! Read by ourselves because the C libraries differ: `x:x::::/:/sh` is root in one and no entry in
//! another, and a static glibc loads NSS modules. Here a line counts only when it has exactly the fields
//! of passwd(5) or group(5) and its ids are plain decimals; any other line is no entry, whatever it looks
//! like, and never spoils another. The first match wins.

use crate::ids::{Gid, Uid};
use crate::line_ends::{self, Trace};

/// One line of /etc/passwd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// The login name.
    pub name: &'a [u8],
    /// The user id.
    pub uid: Uid,
    /// The primary group id.
    pub gid: Gid,
    /// The home directory, perhaps empty.
    pub home: &'a [u8],
    /// The login shell, perhaps empty.
    pub shell: &'a [u8],
}

/// One line of /etc/group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// The group's name.
    pub name: &'a [u8],
    /// The group id.
    pub gid: Gid,
    members: &'a [u8],
}

impl Group<'_> {
    /// Whether the line lists the user, spelled exactly so.
    #[must_use]
    pub fn lists(&self, user: &[u8]) -> bool {
        self.members.split(|&byte| byte == b',').any(|member| member == user)
    }
}

impl<'a> User<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let [name, _password, uid, gid, _gecos, home, shell] = fields(line)?;
        Some(User { name, uid: Uid::parse(uid).ok()?, gid: Gid::parse(gid).ok()?, home, shell })
    }
}

impl<'a> Group<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let [name, _password, gid, members] = fields(line)?;
        Some(Group { name, gid: Gid::parse(gid).ok()?, members })
    }
}

/// The entries of /etc/passwd.
pub fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(User::of)
}

/// The entries of /etc/group.
pub fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(Group::of)
}

/// A line that would be an entry but for what stands at its end or its start. It counts for nothing, like any other that is
/// malformed, and whoever loses by that is told.
pub struct Lost<E> {
    /// Its number, from 1.
    pub line: usize,
    /// What makes it none.
    pub trace: Trace,
    /// The entry that it would be.
    pub entry: E,
}

/// The entries of /etc/passwd that are lost.
pub fn lost_users(passwd: &[u8]) -> impl Iterator<Item = Lost<User<'_>>> {
    lost(passwd, User::of)
}

/// The entries of /etc/group that are lost.
pub fn lost_groups(group: &[u8]) -> impl Iterator<Item = Lost<Group<'_>>> {
    lost(group, Group::of)
}

fn lost<'a, E: 'a>(file: &'a [u8], read: impl Fn(&'a [u8]) -> Option<E> + 'a) -> impl Iterator<Item = Lost<E>> + 'a {
    lines(file).zip(1..).filter_map(move |(text, line)| {
        let trace = line_ends::trace(text)?;
        Some(Lost { line, trace, entry: read(line_ends::plain(text))? })
    })
}

/// The number, from 1, of the first line that begins as an entry of that name would, and what stands at its ends. Where the
/// name was not found, that line is malformed, and whoever wrote it wants to know.
#[must_use]
pub fn malformed_line(file: &[u8], name: &[u8]) -> Option<(usize, Option<Trace>)> {
    let begins = |line: &[u8]| line_ends::plain(line).strip_prefix(name).is_some_and(|rest| rest.starts_with(b":"));
    let (line, number) = lines(file).zip(1..).find(|(line, _)| begins(line))?;
    Some((number, line_ends::trace(line)))
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|&byte| byte == b'\n')
}

/// Exactly `N` fields, the first one a name; else the line is no entry. `#` begins a comment, `+` and
/// `-` an NIS line, and a control character has no business in either file.
fn fields<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    if matches!(line.first(), None | Some(b':' | b'#' | b'+' | b'-'))
        || line.iter().any(u8::is_ascii_control)
        || line_ends::trace(line).is_some()
    {
        return None;
    }
    let mut found = [&b""[..]; N];
    let mut rest = line.split(|&byte| byte == b':');
    for field in &mut found {
        *field = rest.next()?;
    }
    rest.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = include_bytes!("../tests/fixtures/passwd-hostile");
    const GROUP: &[u8] = include_bytes!("../tests/fixtures/group-hostile");

    #[test]
    fn a_malformed_line_a_comment_or_a_nis_line_is_no_entry_and_never_makes_another_lookup_fail() {
        let names: Vec<_> = users(PASSWD).map(|user| String::from_utf8_lossy(user.name).into_owned()).collect();
        assert_eq!(names, ["root", "node", "twin", "twin", "bare", "top", "last"]);
        let names: Vec<_> = groups(GROUP).map(|group| String::from_utf8_lossy(group.name).into_owned()).collect();
        assert_eq!(names, ["root", "node", "audio", "spaced", "again", "last"]);
    }

    #[test]
    fn a_group_lists_a_user_only_by_the_exact_name() {
        let lists = |group: &str, user: &str| groups(GROUP).any(|g| g.name == group.as_bytes() && g.lists(user.as_bytes()));
        assert!(lists("audio", "node"));
        assert!(!lists("audio", "nod"));
        assert!(lists("spaced", "twin"));
        assert!(!lists("spaced", "node"), "' node' is not node");
        assert!(!lists("node", "node"), "an empty list holds nobody");
    }

    #[test]
    fn a_malformed_line_is_found_again_for_the_message() {
        assert_eq!(malformed_line(b"a:x:1\nnode:x:1000", b"node"), Some((2, None)));
        assert_eq!(malformed_line(b"node:x:1000\r\n", b"node"), Some((1, Some(Trace::CarriageReturn))));
        assert_eq!(malformed_line(b"\xef\xbb\xbfnode:x:1000", b"node"), Some((1, Some(Trace::ByteOrderMark))));
        assert_eq!(malformed_line(b"nodejs:x:1000", b"node"), None);
    }

    #[test]
    fn an_entry_in_cr_lf_or_behind_a_byte_order_mark_is_lost_and_told_as_such() {
        let group = b"\xef\xbb\xbfroot:x:0:\naudio:x:29:node\r\nbroken:x\r\nnode:x:1000:\n";
        let lost: Vec<_> = lost_groups(group).map(|lost| (lost.line, lost.trace, lost.entry.gid.get())).collect();
        assert_eq!(lost, [(1, Trace::ByteOrderMark, 0), (2, Trace::CarriageReturn, 29)]);
        assert_eq!(groups(group).map(|group| group.gid.get()).collect::<Vec<_>>(), [1000]);
        assert!(lost_groups(group).any(|lost| lost.entry.lists(b"node")));
    }

    /// Bytes that look like passwd(5) often enough to get past the first checks.
    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b":".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"0".to_vec()),
            Just(b"4294967296".to_vec()),
            Just(b"node".to_vec()),
            Just(b"#".to_vec()),
            Just(b",".to_vec()),
            Just(b"-1".to_vec()),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
    }

    fn spelled_out(file: &[u8], name: &[u8], field: usize, id: u32, fields: usize) -> bool {
        file.split(|&b| b == b'\n').any(|line| {
            let found: Vec<_> = line.split(|&b| b == b':').collect();
            found.len() == fields && found[0] == name && found[field] == id.to_string().as_bytes()
        })
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_yield_an_id_that_the_file_does_not_spell_out(file in plausible()) {
            for user in users(&file) {
                prop_assert!(spelled_out(&file, user.name, 2, user.uid.get(), 7));
                prop_assert!(spelled_out(&file, user.name, 3, user.gid.get(), 7));
            }
            for group in groups(&file) {
                prop_assert!(spelled_out(&file, group.name, 2, group.gid.get(), 4));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(file in prop::collection::vec(any::<u8>(), 0..4096), name in "[a-z:]{0,6}") {
            users(&file).for_each(drop);
            let _ = groups(&file).filter(|group| group.lists(name.as_bytes())).count();
            let _ = malformed_line(&file, name.as_bytes());
        }
    }
}
