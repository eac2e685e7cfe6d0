//! `--ulimit`, `--nice`, `--oom-score-adj`, `--new-session`, `--pdeathsig`.

use std::fmt;
use std::ops::RangeInclusive;

use anyhow::{Context, Error, bail};

use super::grammar::{Typed, given, many, one, text};
use crate::failure::{hinted, nearest};
use crate::ids;
use crate::signal::Signal;

/// What the command's process is like; as it was for stepdown where nothing was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `--ulimit`, in order.
    pub ulimits: Vec<Ulimit>,
    /// `--nice`.
    pub nice: Option<i32>,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--new-session`.
    pub session: Session,
    /// `--pdeathsig`.
    pub pdeathsig: Option<Signal>,
}

/// One resource limit; [`Ulimit::UNLIMITED`] for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// Which.
    pub resource: Resource,
    /// What is in force.
    pub soft: u64,
    /// What the command may raise it to.
    pub hard: u64,
}

/// A resource of getrlimit(2), by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Docker's and ulimit's word.
    pub name: &'static str,
    /// The kernel's number.
    pub number: u32,
}

/// Whether the command leaves the session it was started in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Session {
    /// It stays.
    #[default]
    AsFound,
    /// It leads one of its own, without a terminal.
    New,
}

macro_rules! resources {
    ($($name:literal = $number:ident),* $(,)?) => { [$(Resource { name: $name, number: libc::$number as u32 }),*] };
}

/// getrlimit(2).
pub const RESOURCES: [Resource; 16] = resources! {
    "as" = RLIMIT_AS, "core" = RLIMIT_CORE, "cpu" = RLIMIT_CPU, "data" = RLIMIT_DATA, "fsize" = RLIMIT_FSIZE,
    "locks" = RLIMIT_LOCKS, "memlock" = RLIMIT_MEMLOCK, "msgqueue" = RLIMIT_MSGQUEUE, "nice" = RLIMIT_NICE,
    "nofile" = RLIMIT_NOFILE, "nproc" = RLIMIT_NPROC, "rss" = RLIMIT_RSS, "rtprio" = RLIMIT_RTPRIO,
    "rttime" = RLIMIT_RTTIME, "sigpending" = RLIMIT_SIGPENDING, "stack" = RLIMIT_STACK,
};

impl Resource {
    /// Of open files.
    pub const NOFILE: &str = "nofile";
}

impl Limits {
    pub(super) fn read(options: &Typed) -> Result<Self, Error> {
        let mut ulimits: Vec<Ulimit> = Vec::new();
        for typed in many(options, "ulimit") {
            let one = Ulimit::parse(text("ulimit", typed)?)?;
            if ulimits.iter().any(|earlier| earlier.resource == one.resource) {
                bail!("--ulimit {} is given twice", one.resource.name);
            }
            ulimits.push(one);
        }
        let pdeathsig = one(options, "pdeathsig")?.map(|typed| {
            let signal = Signal::parse(typed);
            signal.ok_or_else(|| hinted(format!("--pdeathsig '{typed}': there is no such signal"), "write TERM, SIGTERM or 15"))
        });
        Ok(Self {
            ulimits,
            nice: number(options, "nice", -20..=19)?,
            oom_score_adj: number(options, "oom-score-adj", -1000..=1000)?,
            session: if given(options, "new-session") { Session::New } else { Session::AsFound },
            pdeathsig: pdeathsig.transpose()?,
        })
    }

    /// The limit of open files that the command begins with, where one was typed.
    #[must_use]
    pub fn open_files(&self) -> Option<u64> {
        self.ulimits.iter().find(|one| one.resource.name == Resource::NOFILE).map(|one| one.soft)
    }
}

impl Ulimit {
    /// RLIM_INFINITY.
    pub const UNLIMITED: u64 = u64::MAX;

    fn parse(typed: &str) -> Result<Self, Error> {
        let refused = |why: String| {
            hinted(format!("--ulimit '{typed}': {why}"), "write NAME=SOFT or NAME=SOFT:HARD: nofile=65536, core=0:unlimited")
        };
        let (name, values) = typed.split_once('=').ok_or_else(|| refused("there is no '='".to_owned()))?;
        let Some(&resource) = RESOURCES.iter().find(|resource| resource.name == name) else {
            let names: Vec<&str> = RESOURCES.iter().map(|resource| resource.name).collect();
            return Err(refused(format!("there is no limit '{name}'{}", nearest(name, &names))));
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let value = |text: &str| value(text).ok_or_else(|| refused(format!("'{text}' is no limit")));
        let (soft, hard) = (value(soft)?, value(hard)?);
        if soft > hard {
            return Err(refused("the soft limit is above the hard one".to_owned()));
        }
        Ok(Self { resource, soft, hard })
    }

    /// A value as it is typed.
    #[must_use]
    pub fn shown(value: u64) -> String {
        if value == Self::UNLIMITED { "unlimited".to_owned() } else { value.to_string() }
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}={}:{}", self.resource.name, Self::shown(self.soft), Self::shown(self.hard))
    }
}

/// Docker takes -1 for no limit.
fn value(typed: &str) -> Option<u64> {
    match typed {
        "unlimited" | "-1" => Some(Ulimit::UNLIMITED),
        _ if typed.starts_with('+') => None,
        _ => typed.parse().ok().filter(|&value| value != Ulimit::UNLIMITED),
    }
}

fn number(options: &Typed, name: &str, range: RangeInclusive<i32>) -> Result<Option<i32>, Error> {
    let Some(typed) = one(options, name)? else { return Ok(None) };
    let digits = typed.strip_prefix('-').unwrap_or(typed);
    let number = ids::decimal(digits.as_bytes()).ok().and_then(|_| typed.parse().ok());
    let number = number.filter(|number| range.contains(number));
    let (first, last) = (range.start(), range.end());
    number.map(Some).with_context(|| format!("--{name} '{typed}': write a number from {first} to {last}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_name_and_one_or_two_values() -> Result<(), Error> {
        let read = |typed: &str| Ulimit::parse(typed).map(|one| (one.resource.name, one.soft, one.hard));
        assert_eq!(read("nofile=1024")?, ("nofile", 1024, 1024));
        assert_eq!(read("core=0:unlimited")?, ("core", 0, u64::MAX));
        assert_eq!(read("memlock=-1")?, ("memlock", u64::MAX, u64::MAX));
        for typed in [
            "",
            "nofile",
            "nofile=",
            "nofile=:",
            "nofile=1:",
            "nofile=2:1",
            "nofile=-2",
            "nofile=+1",
            "files=1",
            "=1",
            "cpu=1s",
            "cpu=1:2:3",
            "cpu=18446744073709551615",
        ] {
            assert!(Ulimit::parse(typed).is_err(), "{typed:?}");
        }
        Ok(())
    }
}
