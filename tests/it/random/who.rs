//! The model of USER[:GROUP] and `--groups`: the manual's first chapter.

use std::collections::BTreeMap;

use super::scene::OVERFLOW;
use crate::jail::{GROUP, PASSWD};

/// Who the command is to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub uid: u32,
    pub gid: u32,
    /// Ascending, each once.
    pub groups: Vec<u32>,
    /// Name, home and shell of its entry.
    pub entry: Option<[&'static str; 3]>,
}

/// What the specification is read with.
pub struct Readers<'a> {
    /// The environment as it came.
    pub environment: &'a BTreeMap<String, String>,
    /// uid and gid of `@NAME`, as seen by who starts; none where it does not exist.
    pub owner: &'a dyn Fn(&str) -> Option<(u32, u32)>,
}

/// A word of the specification, and whether it is written out.
struct Word<'a> {
    text: &'a str,
    written_out: bool,
}

/// Name, uid, gid, home, shell.
fn users() -> impl Iterator<Item = (&'static str, u32, u32, [&'static str; 3])> {
    PASSWD.lines().map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields[0], fields[2].parse().expect("a uid"), fields[3].parse().expect("a gid"), [fields[0], fields[5], fields[6]])
    })
}

/// Name, gid, members.
fn groups() -> impl Iterator<Item = (&'static str, u32, Vec<&'static str>)> {
    GROUP.lines().map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields[0], fields[2].parse().expect("a gid"), fields[3].split(',').collect())
    })
}

/// "Digits alone are an id, never a name; ids are 0 to 4294967294, without sign or leading zero."
fn id(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let canonical = text == "0" || !text.starts_with('0');
    let id = text.parse().ok().filter(|&id| canonical && id != u32::MAX);
    id.map(Some).ok_or_else(|| format!("'{text}' is no id"))
}

fn group(word: &Word<'_>) -> Result<u32, String> {
    let gid = match id(word.text)? {
        Some(gid) => gid,
        None => groups().find(|(name, ..)| *name == word.text).map(|(_, gid, _)| gid).ok_or("an unknown group")?,
    };
    if gid == 0 && !(word.written_out && ["root", "0"].contains(&word.text)) {
        return Err("gid 0 is taken only where root or 0 is written out".to_owned());
    }
    Ok(gid)
}

impl Readers<'_> {
    /// The variable's value, where the word names one.
    fn expand<'a>(&'a self, word: &'a str) -> Result<Word<'a>, String> {
        let Some(name) = word.strip_prefix('$') else { return Ok(Word { text: word, written_out: true }) };
        let (name, default) = match name.strip_prefix('{') {
            None => (name, None),
            Some(inner) => {
                let inner = inner.strip_suffix('}').ok_or("an open brace")?;
                inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)))
            }
        };
        let value = self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let text = value.or(default).ok_or_else(|| format!("{name} is unset or empty"))?;
        if text.contains(':') {
            return Err(format!("{name} is '{text}'"));
        }
        Ok(Word { text, written_out: false })
    }

    /// Reads all of it.
    pub fn target(&self, spec: &str, list: Option<&str>) -> Result<Target, String> {
        let mut target = match spec.strip_prefix('@') {
            Some(path) => self.owner_of(path)?,
            None => self.account(spec)?,
        };
        if let Some(list) = list {
            target.groups = vec![target.gid];
            for word in list.split(',') {
                target.groups.push(group(&self.expand(word)?)?);
            }
        }
        target.groups.sort_unstable();
        target.groups.dedup();
        Ok(target)
    }

    fn owner_of(&self, path: &str) -> Result<Target, String> {
        let (uid, gid) = (self.owner)(path).ok_or("no such path")?;
        if uid == 0 || gid == 0 {
            return Err("uid 0 and gid 0 are never taken from a path".to_owned());
        }
        if uid == OVERFLOW || gid == OVERFLOW {
            return Err("an owner that the user namespace does not map".to_owned());
        }
        let entry = users().find(|(_, found, ..)| *found == uid).map(|(.., entry)| entry);
        Ok(Target { uid, gid, groups: vec![gid], entry })
    }

    fn account(&self, spec: &str) -> Result<Target, String> {
        // The colon of a variable's default parts nothing.
        let name_ends = if spec.starts_with("${") { spec.find('}').unwrap_or(0) } else { 0 };
        let colon = spec[name_ends..].find(':').map(|at| name_ends + at);
        let (user, given) = colon.map_or((spec, None), |at| (&spec[..at], Some(&spec[at + 1..])));
        if user.is_empty() || given.is_some_and(|group| group.is_empty() || !group.starts_with('$') && group.contains(':')) {
            return Err(format!("'{spec}' is no USER"));
        }
        let user = self.expand(user)?;
        let found = match id(user.text)? {
            Some(id) => users().find(|(_, uid, ..)| *uid == id).ok_or(id),
            None => Ok(users().find(|(name, ..)| *name == user.text).ok_or("an unknown user")?),
        };
        let uid = found.as_ref().map_or_else(|id| *id, |(_, uid, ..)| *uid);
        if uid == 0 && !(user.written_out && ["root", "0"].contains(&user.text)) {
            return Err("uid 0 is run as only where root or 0 is written out".to_owned());
        }
        let entry = found.as_ref().ok().map(|(.., entry)| *entry);
        let (gid, groups) = match (given, found) {
            (Some(given), _) => {
                let gid = group(&self.expand(given)?)?;
                (gid, vec![gid])
            }
            (None, Ok((name, _, gid, _))) => {
                let listed = groups().filter(|(.., members)| members.contains(&name)).map(|(_, gid, _)| gid);
                (gid, std::iter::once(gid).chain(listed).collect())
            }
            (None, Err(_)) => return Err("an id without an entry needs a group".to_owned()),
        };
        // "Where a variable names the user, gid 0 has to be written out as well."
        if given.is_none() && !user.written_out && groups.contains(&0) {
            return Err("gid 0 of a user that a variable names".to_owned());
        }
        Ok(Target { uid, gid, groups, entry })
    }
}
