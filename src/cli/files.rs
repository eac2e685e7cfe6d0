//! `--secret` and `--open`.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Error, bail};

use super::grammar::{Typed, many, path};
use crate::address::valid_name;
use crate::failure::{hinted, nearest};

/// Files that are handed to the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// `--secret`, in order.
    pub secrets: Vec<Secret>,
    /// `--open`, in order.
    pub open: Vec<Open>,
}

/// One `--secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The environment variable that is to hold the path of the copy.
    pub name: String,
    /// The file.
    pub path: CString,
}

/// One `--open`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// What LISTEN_FDNAMES calls it.
    pub name: String,
    /// The file.
    pub path: CString,
    /// What for.
    pub access: Access,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `ro`.
    Read,
    /// `rw`.
    ReadWrite,
    /// `append`: write, and at the end alone.
    Append,
}

impl Access {
    /// As it is typed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "ro",
            Self::ReadWrite => "rw",
            Self::Append => "append",
        }
    }
}

impl Files {
    /// Reads both options.
    pub(super) fn read(options: &Typed) -> Result<Self, Error> {
        let secrets: Vec<Secret> = many(options, "secret").map(|typed| Secret::parse(typed)).collect::<Result<_, _>>()?;
        for (index, secret) in secrets.iter().enumerate() {
            if secrets.iter().take(index).any(|earlier| earlier.name == secret.name) {
                bail!("--secret {} is given twice", secret.name);
            }
        }
        let open = many(options, "open").map(|typed| Open::parse(typed)).collect::<Result<_, _>>()?;
        Ok(Self { secrets, open })
    }

    /// Whether none is handed on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.open.is_empty()
    }
}

impl Secret {
    fn parse(typed: &OsStr) -> Result<Self, Error> {
        let shown = typed.to_string_lossy();
        let refused =
            |why: &str| hinted(format!("--secret '{shown}': {why}"), "write NAME=PATH: --secret TLS_KEY=/etc/tls/key.pem");
        let (name, file) = cut(typed, b'=').ok_or_else(|| refused("no '=' stands behind the name"))?;
        let name = std::str::from_utf8(name).ok().filter(|name| is_variable(name));
        let name = name.ok_or_else(|| refused("a variable's name is letters, digits and _, and begins with no digit"))?;
        if file.is_empty() {
            return Err(refused("the path is empty"));
        }
        Ok(Self { name: name.to_owned(), path: path("secret", OsStr::from_bytes(file))? })
    }
}

/// The names that POSIX has shells understand.
fn is_variable(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(legal)
}

impl Open {
    fn parse(typed: &OsStr) -> Result<Self, Error> {
        let shown = typed.to_string_lossy();
        let (name, rest) = match cut(typed, b'=') {
            // An '=' in a path belongs to the path.
            Some((name, rest)) if !name.contains(&b'/') => (Some(name), rest),
            _ => (None, typed.as_bytes()),
        };
        let (file, access) = rest
            .iter()
            .rposition(|&byte| byte == b':')
            .and_then(|colon| Some((rest.get(..colon)?, access(rest.get(colon + 1..)?)?)))
            .unwrap_or((rest, Access::Read));
        let path = path("open", OsStr::from_bytes(file))?;
        // OpenFile= of systemd.service(5) names the descriptor after the file, too.
        let name = name.or_else(|| file.split(|&byte| byte == b'/').next_back()).unwrap_or_default();
        let refused = |why: String| hinted(format!("--open '{shown}': {why}"), "write NAME=PATH, or NAME=PATH:rw or :append");
        let Ok(name) = std::str::from_utf8(name) else { return Err(refused("the name is not ASCII".into())) };
        // A colon can't be in a name, so that the word behind it was meant to say what the file is opened for.
        if let Some((_, word)) = name.rsplit_once(':') {
            let words = [Access::Read, Access::ReadWrite, Access::Append].map(Access::word);
            return Err(refused(format!("'{word}' is not ro, rw or append{}", nearest(word, &words))));
        }
        let name = valid_name(name).map_err(|why| refused(format!("{why:#}")))?;
        Ok(Self { name: name.to_owned(), path, access })
    }
}

fn access(word: &[u8]) -> Option<Access> {
    [Access::Read, Access::ReadWrite, Access::Append].into_iter().find(|access| access.word().as_bytes() == word)
}

fn cut(typed: &OsStr, at: u8) -> Option<(&[u8], &[u8])> {
    let bytes = typed.as_bytes();
    let place = bytes.iter().position(|&byte| byte == at)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(typed: &str) -> Result<(String, CString, Access), Error> {
        Open::parse(OsStr::new(typed)).map(|open| (open.name, open.path, open.access))
    }

    #[test]
    fn a_word_behind_the_last_colon_says_what_a_file_is_opened_for() -> Result<(), Error> {
        assert_eq!(open("/etc/app.conf")?, ("app.conf".to_owned(), c"/etc/app.conf".to_owned(), Access::Read));
        assert_eq!(open("log=/var/log/app:append")?, ("log".to_owned(), c"/var/log/app".to_owned(), Access::Append));
        assert_eq!(open("x=/a:b:rw")?, ("x".to_owned(), c"/a:b".to_owned(), Access::ReadWrite));
        assert_eq!(open("x=/a:b")?, ("x".to_owned(), c"/a:b".to_owned(), Access::Read));
        assert_eq!(open("/a=b:ro")?, ("a=b".to_owned(), c"/a=b".to_owned(), Access::Read));
        for typed in ["", ":rw", "x=", "=/a", "/a:b", "/", "/ä", "a:b=/x"] {
            assert!(open(typed).is_err(), "{typed:?}");
        }
        Ok(())
    }

    #[test]
    fn a_secret_has_the_name_of_a_variable() -> Result<(), Error> {
        let secret = Secret::parse(OsStr::new("TLS_KEY=/run/a=b"))?;
        assert_eq!((secret.name.as_str(), secret.path.as_c_str()), ("TLS_KEY", c"/run/a=b"));
        for typed in ["", "KEY", "=/a", "KEY=", "1KEY=/a", "TLS-KEY=/a", "TLS KEY=/a", "ä=/a"] {
            assert!(Secret::parse(OsStr::new(typed)).is_err(), "{typed:?}");
        }
        Ok(())
    }
}
