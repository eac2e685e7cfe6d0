//! Where an id came from, and the one rule about root's.

use std::fmt;

use anyhow::{Error, anyhow};

use crate::failure::hinted;
use crate::userspec::{Account, Part};

/// Where a word that became an id came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `root` or `0`, written on the command line in so many letters.
    Root,
    /// Any other word of the command line.
    WrittenOut,
    /// The value of a variable; or the default that stands in for it, which is written in the variable's place.
    Variable,
    /// The owner or the group of a path.
    Path,
}

/// Which of a process's ids it is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A user id.
    User,
    /// A group id: the primary one or a supplementary one.
    Group,
}

impl Origin {
    /// Of a word on the command line.
    pub fn of_literal(account: &Account) -> Self {
        match account {
            Account::Id(0) => Self::Root,
            Account::Name(name) if name == "root" => Self::Root,
            Account::Id(_) | Account::Name(_) => Self::WrittenOut,
        }
    }

    /// Of the groups that the account files give a user of this origin: they are as good as written out where the user is.
    pub fn of_its_groups(self) -> Self {
        match self {
            Self::Root | Self::WrittenOut => Self::Root,
            Self::Variable | Self::Path => self,
        }
    }
}

/// **The rule: id 0 is taken only where whoever wrote the command line wrote `root` or `0` in its place.** A variable is
/// somebody else's word, and so is its default's place; a path's owner is chosen by who could make the path; another name
/// of id 0 (toor) is an account file's word. Every id of the plan passes through here: USER, GROUP, what the account files
/// say of them, `--groups` and `owner=`. `shown` is the place and what stands there.
pub fn refuse_root(id: u32, origin: Origin, of: Of, shown: impl fmt::Display) -> Result<(), Error> {
    if id != 0 || origin == Origin::Root {
        return Ok(());
    }
    Err(match (origin, of) {
        (Origin::Path, _) => {
            let what = if of == Of::User { "uid 0" } else { "gid 0" };
            hinted(
                format!("{shown}: it belongs to {what}, and root is only run as where it is written out"),
                "give the path its owner, or write root",
            )
        }
        (_, Of::User) => hinted(
            format!("{shown} is uid 0, and root is only run as where 'root' or '0' is written out"),
            "name an ordinary user, or write root",
        ),
        (_, Of::Group) => anyhow!("{shown} is gid 0, and root's group is only taken where 'root' or '0' is written out"),
    })
}

/// A part as it was typed.
pub struct Shown<'a>(pub &'a Part);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Part::Literal(Account::Id(raw)) => raw.fmt(out),
            Part::Literal(Account::Name(name)) => out.write_str(name),
            Part::Variable { name, default: None } => write!(out, "${name}"),
            Part::Variable { name, default: Some(default) } => write!(out, "${{{name}:-{default}}}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_two_words_and_its_groups_follow_who_is_written_out() {
        let name = |name: &str| Account::Name(name.to_owned());
        for (account, origin) in [
            (Account::Id(0), Origin::Root),
            (name("root"), Origin::Root),
            (name("toor"), Origin::WrittenOut),
            (Account::Id(1), Origin::WrittenOut),
        ] {
            assert_eq!(Origin::of_literal(&account), origin, "{account:?}");
        }
        for origin in [Origin::Root, Origin::WrittenOut, Origin::Variable, Origin::Path] {
            for of in [Of::User, Of::Group] {
                assert_eq!(refuse_root(0, origin, of, "x").is_ok(), origin == Origin::Root, "{origin:?}");
                assert!(refuse_root(1, origin, of, "x").is_ok());
            }
        }
        assert_eq!(Origin::WrittenOut.of_its_groups(), Origin::Root);
        assert_eq!(Origin::Variable.of_its_groups(), Origin::Variable);
    }
}
