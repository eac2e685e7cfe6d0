//! `USER[:GROUP]`, `@PATH` and `$VARIABLE`, as typed. What they stand for is the plan's to find out.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Error, anyhow, bail};

use crate::failure::hinted;
use crate::ids;
use crate::line_ends;
use crate::prefix;

/// Who the command is to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSpec {
    /// `node`, `1000:50`, `$PUID:$PGID`.
    Account {
        /// The part before the colon.
        user: Part,
        /// The part behind it.
        group: Option<Part>,
    },
    /// `@/work`: whoever owns that path.
    OwnerOf(CString),
}

/// One side of the colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Written out.
    Literal(Account),
    /// `$NAME` or `${NAME:-DEFAULT}`.
    Variable {
        /// The environment variable.
        name: String,
        /// What stands in where it is unset or empty.
        default: Option<String>,
    },
}

/// A user or a group: digits alone are an id and never a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// 0 to 4294967294.
    Id(u32),
    /// To be found in /etc/passwd or /etc/group.
    Name(String),
}

impl UserSpec {
    /// Reads the argument; looks nothing up.
    pub fn parse(argument: &OsStr) -> Result<Self, Error> {
        if let Some(trace) = line_ends::trace(argument.as_bytes()) {
            return Err(hinted(format!("USER '{}': it {trace}", argument.to_string_lossy()), trace.mending_of_the_source()));
        }
        if let [b'@', path @ ..] = argument.as_bytes() {
            if path.is_empty() {
                return Err(refused("@", "no path stands behind the @"));
            }
            prefix::refuse_in_path("USER '@PATH'", path)?;
            return Ok(Self::OwnerOf(CString::new(path)?));
        }
        let text = argument.to_str().ok_or_else(|| refused(&argument.to_string_lossy(), "it is not UTF-8"))?;
        Self::parse_account(text).map_err(|why| refused(text, &format!("{why:#}")))
    }

    fn parse_account(text: &str) -> Result<Self, Error> {
        let (user, rest) = Part::take(text)?;
        let Some(rest) = rest else { return Ok(Self::Account { user, group: None }) };
        let (group, rest) = Part::take(rest)?;
        if rest.is_some() {
            bail!("there is more than one colon");
        }
        Ok(Self::Account { user, group: Some(group) })
    }
}

fn refused(spec: &str, why: &str) -> Error {
    hinted(format!("USER '{spec}': {why}"), "write a name, an id, USER:GROUP, UID:GID, @PATH or '$VARIABLE'")
}

impl Part {
    /// The list that `--groups` takes.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, Error> {
        text.split(',')
            .map(|part| match Self::take(part)? {
                (part, None) => Ok(part),
                (_, Some(_)) => Err(anyhow!("a group has no colon")),
            })
            .collect()
    }

    /// Takes one part off the front; the rest is what stands behind the colon, if there is one.
    fn take(text: &str) -> Result<(Self, Option<&str>), Error> {
        let (part, rest) = match text.strip_prefix("${") {
            Some(inside) => {
                let (inside, rest) = inside.split_once('}').ok_or_else(|| anyhow!("'${{' is never closed"))?;
                let (name, default) = match inside.split_once(":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (inside, None),
                };
                (Self::variable(name, default)?, rest)
            }
            None => {
                let (part, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                match part.strip_prefix('$') {
                    Some(name) => (Self::variable(name, None)?, rest),
                    None if part.contains('$') => bail!("a part is one variable or a literal, not both"),
                    None => (Self::Literal(Account::parse(part)?), rest),
                }
            }
        };
        match rest.strip_prefix(':') {
            Some(rest) => Ok((part, Some(rest))),
            None if rest.is_empty() => Ok((part, None)),
            None => bail!("a part is one variable or a literal, not both"),
        }
    }

    fn variable(name: &str, default: Option<&str>) -> Result<Self, Error> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
            bail!("'${name}' names no environment variable");
        }
        Ok(Self::Variable { name: name.to_owned(), default: default.map(str::to_owned) })
    }
}

impl Account {
    /// Tells an id from a name, and both from what other tools misread as an id.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            bail!("a part is empty");
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return ids::decimal(text.as_bytes()).map(Self::Id).map_err(|why| anyhow!("{why}"));
        }
        if text.starts_with(['+', '-']) {
            bail!("neither an id nor a name begins with a sign");
        }
        // systemd once took the user 0x… for a number (CVE-2020-13776): neither reading is safe.
        if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            bail!("an id is written in decimal digits alone");
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':') {
            bail!("a name has no white space, control character or colon");
        }
        Ok(Self::Name(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<UserSpec, Error> {
        UserSpec::parse(OsStr::new(text))
    }

    fn name(text: &str) -> Part {
        Part::Literal(Account::Name(text.to_owned()))
    }

    fn id(raw: u32) -> Part {
        Part::Literal(Account::Id(raw))
    }

    fn variable(name: &str, default: Option<&str>) -> Part {
        Part::Variable { name: name.to_owned(), default: default.map(str::to_owned) }
    }

    #[test]
    fn every_form_of_the_table() -> Result<(), Error> {
        let account = |user, group| UserSpec::Account { user, group };
        assert_eq!(parse("node")?, account(name("node"), None));
        assert_eq!(parse("1000")?, account(id(1000), None));
        assert_eq!(parse("node:staff")?, account(name("node"), Some(name("staff"))));
        assert_eq!(parse("node:50")?, account(name("node"), Some(id(50))));
        assert_eq!(parse("7777:8888")?, account(id(7777), Some(id(8888))));
        assert_eq!(parse("@/work")?, UserSpec::OwnerOf(c"/work".to_owned()));
        assert_eq!(parse("@/a:b")?, UserSpec::OwnerOf(c"/a:b".to_owned()));
        assert_eq!(parse("$PUID:$PGID")?, account(variable("PUID", None), Some(variable("PGID", None))));
        assert_eq!(parse("${PUID:-1000}")?, account(variable("PUID", Some("1000")), None));
        assert_eq!(parse("${PUID:-1000}:50")?, account(variable("PUID", Some("1000")), Some(id(50))));
        assert_eq!(parse("0day")?, account(name("0day"), None));
        Ok(())
    }

    #[test]
    fn what_the_peers_misread_is_an_error() {
        for text in [
            "",
            ":",
            "node:",
            ":50",
            "a:b:c",
            " 1000",
            "1000 ",
            "+1000",
            "-1",
            "01750",
            "0x10",
            "0X1f",
            "4294967295",
            "4294967296",
            "node:4294967296",
            "a b",
            "a\tb",
            "@",
            "$",
            "$:50",
            "${PUID",
            "${}",
            "$1",
            "x$PUID",
            "$PUIDx-",
            "${PUID}x",
            "node:$",
            "a\u{85}b",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn groups_are_parts_between_commas() -> Result<(), Error> {
        assert_eq!(Part::parse_list("a,44,$G")?, [name("a"), id(44), variable("G", None)]);
        for text in ["", "a,", ",a", "a,,b", "a:b", "a, b"] {
            assert!(Part::parse_list(text).is_err(), "{text:?}");
        }
        Ok(())
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_yield_an_id_that_is_not_spelled_out(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..24), digits in "[0-9:+$-]{0,14}") {
            for text in [bytes.as_slice(), digits.as_bytes()] {
                if let Ok(UserSpec::Account { user: Part::Literal(Account::Id(id)), .. }) = UserSpec::parse(OsStr::from_bytes(text)) {
                    let written = id.to_string();
                    let rest = text.strip_prefix(written.as_bytes());
                    proptest::prop_assert!(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b":")));
                }
            }
        }
    }
}
