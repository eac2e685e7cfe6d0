//! What the command may reach and call: `--ro` and its like, `--bind-tcp`, `--connect-tcp`, `--scope`, `--seccomp`.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::ops::RangeInclusive;

use anyhow::{Error, bail};

use super::grammar::{Typed, given, many, path, placed, text};
use crate::failure::{hinted, lossy};
use crate::ids;

/// All of it, as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// `--ro`, `--rox`, `--rw`, `--rwx`, in the order of the line.
    pub paths: Vec<PathRule>,
    /// `--bind-tcp`.
    pub bind: Option<Ports>,
    /// `--connect-tcp`.
    pub connect: Option<Ports>,
    /// `--scope`.
    pub scope: Scope,
    /// `--seccomp`.
    pub filter: Option<Filter>,
    /// `--best-effort`.
    pub effort: Effort,
}

/// What may be done to a file, and to all below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// The file or directory.
    pub path: CString,
    /// What may be done.
    pub access: PathAccess,
}

/// landrun's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathAccess {
    /// `--ro`.
    Read,
    /// `--rox`.
    ReadExecute,
    /// `--rw`.
    ReadWrite,
    /// `--rwx`.
    ReadWriteExecute,
}

/// TCP ports, as ranges; none at all where `none` was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(Vec<RangeInclusive<u16>>);

/// Whether the command may reach processes outside by abstract sockets and signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// As ever.
    #[default]
    Open,
    /// Only what it starts itself.
    Own,
}

/// `--seccomp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// `service`: our own.
    Service,
    /// A profile in the format of OCI and Docker.
    Profile(CString),
}

/// What becomes of a rule that this kernel can't enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// It is an error.
    #[default]
    Strict,
    /// `--best-effort`: a warning.
    Best,
}

impl PathAccess {
    const ALL: [Self; 4] = [Self::Read, Self::ReadExecute, Self::ReadWrite, Self::ReadWriteExecute];

    /// The option's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "ro",
            Self::ReadExecute => "rox",
            Self::ReadWrite => "rw",
            Self::ReadWriteExecute => "rwx",
        }
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "--{} {}", self.access.word(), lossy(&self.path))
    }
}

impl Confinement {
    pub(super) fn read(options: &Typed) -> Result<Self, Error> {
        let mut paths = Vec::new();
        for access in PathAccess::ALL {
            for (place, typed) in placed(options, access.word()) {
                paths.push((place, PathRule { path: path(access.word(), typed)?, access }));
            }
        }
        paths.sort_by_key(|(place, _)| *place);
        let filter = match many(options, "seccomp").next() {
            None => None,
            Some(typed) if typed == OsStr::new("service") => Some(Filter::Service),
            Some(typed) => Some(Filter::Profile(path("seccomp", typed)?)),
        };
        Ok(Self {
            paths: paths.into_iter().map(|(_, rule)| rule).collect(),
            bind: Ports::read(options, "bind-tcp")?,
            connect: Ports::read(options, "connect-tcp")?,
            scope: if given(options, "scope") { Scope::Own } else { Scope::Open },
            filter,
            effort: if given(options, "best-effort") { Effort::Best } else { Effort::Strict },
        })
    }

    /// Whether Landlock has anything to do.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        !self.paths.is_empty() || self.has_ports() || self.scope == Scope::Own
    }

    /// Whether TCP ports are confined.
    #[must_use]
    pub fn has_ports(&self) -> bool {
        self.bind.is_some() || self.connect.is_some()
    }
}

impl Ports {
    fn read(options: &Typed, name: &str) -> Result<Option<Self>, Error> {
        let mut ports = Vec::new();
        let (mut count, mut none) = (0, false);
        for typed in many(options, name) {
            let typed = text(name, typed)?;
            for part in typed.split(',') {
                count += 1;
                match range(part) {
                    _ if part == "none" => none = true,
                    Some(range) => ports.push(range),
                    None => return Err(no_port(name, typed, part)),
                }
            }
        }
        if none && count > 1 {
            bail!("--{name}: none stands alone");
        }
        ports.sort_by_key(|range| *range.start());
        Ok((count > 0).then_some(Self(ports)))
    }

    /// Each of them, once or more.
    pub fn each(&self) -> impl Iterator<Item = u16> {
        self.0.iter().cloned().flatten()
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contain(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => out.write_str("--seccomp service"),
            Self::Profile(path) => write!(out, "--seccomp {}", lossy(path)),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("none");
        }
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}{}", range.start())?;
            if range.start() != range.end() {
                write!(out, "-{}", range.end())?;
            }
        }
        Ok(())
    }
}

/// An address is shown what of it counts: a rule is for a port, whatever the address.
fn no_port(name: &str, typed: &str, part: &str) -> Error {
    let behind = part.trim_end_matches('/').trim_end_matches("/tcp").rsplit(':').next().unwrap_or_default();
    let hint = match range(behind).filter(|_| !part.to_ascii_lowercase().starts_with("udp") && behind.len() < part.len()) {
        Some(_) => format!("a rule is for a port of TCP, whatever the address: write --{name} {behind}"),
        None => "write a port, 0 to 65535, a range of them, or none: 80, 8000-8010, 80,443".to_owned(),
    };
    hinted(format!("--{name} '{typed}': '{part}' is no port"), hint)
}

fn range(typed: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| ids::decimal(text.as_bytes()).ok().and_then(|port| u16::try_from(port).ok());
    let (first, last) = typed.split_once('-').unwrap_or((typed, typed));
    let range = port(first)?..=port(last)?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_and_ranges_of_them() {
        for (typed, first, last) in [("80", 80, 80), ("0", 0, 0), ("8000-8010", 8000, 8010), ("0-65535", 0, 65535), ("5-5", 5, 5)]
        {
            assert_eq!(range(typed), Some(first..=last), "{typed}");
        }
        for typed in ["", "-", "80-", "-80", "65536", "9-8", "080", "+80", " 80", "80 ", "http", "1-2-3", "0x50", "1–2"] {
            assert_eq!(range(typed), None, "{typed}");
        }
    }

    #[test]
    fn ports_are_told_as_they_are_typed() {
        let ports = Ports(vec![80..=80, 8000..=8010]);
        assert_eq!((ports.to_string(), Ports(Vec::new()).to_string()), ("80,8000-8010".to_owned(), "none".to_owned()));
        assert_eq!(ports.each().count(), 12);
        assert!(ports.contain(8005) && !ports.contain(81) && !Ports(Vec::new()).contain(0));
    }
}
