//! What stands behind an address: `,backlog=128,reuse-port`, in the words of systemd.socket(5).

use anyhow::{Context, Error, bail};

use super::{Address, Kind};
use crate::failure::nearest;
use crate::userspec::UserSpec;

/// One option of a `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `backlog=`: how many connections may wait, 1 or more; net.core.somaxconn cuts it.
    Backlog(i32),
    /// `reuse-port`: SO_REUSEPORT of socket(7).
    ReusePort,
    /// `free-bind`: IP_FREEBIND of ip(7).
    FreeBind,
    /// `v6only`: IPV6_V6ONLY of ipv6(7).
    Families(Families),
    /// `mode=`: the permission bits of the socket's name.
    Mode(u32),
    /// `owner=`: whom the socket's name belongs to. Never `@PATH`.
    Owner(UserSpec),
}

/// Whom an IPv6 socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 clients too.
    Both,
    /// IPv6 clients alone.
    Version6,
}

pub(super) const HINT: &str =
    "options are backlog=N, reuse-port, free-bind and v6only; of a path also mode=MODE and owner=USER[:GROUP]";

const WORDS: [&str; 6] = ["backlog", "reuse-port", "free-bind", "v6only", "mode", "owner"];

impl Choice {
    /// Reads the options behind the first comma, and sees that each is for such a socket.
    pub(super) fn read_all(text: &str, kind: Kind, address: &Address) -> Result<Vec<Self>, Error> {
        let mut all: Vec<Self> = Vec::new();
        for typed in text.split(',') {
            let choice = Self::read(typed)?;
            if let Some(misfit) = choice.misfit(kind, address) {
                bail!("{}: {misfit}", choice.word());
            }
            if all.iter().any(|earlier| earlier.word() == choice.word()) {
                bail!("{} is given twice", choice.word());
            }
            all.push(choice);
        }
        Ok(all)
    }

    fn read(typed: &str) -> Result<Self, Error> {
        let (word, value) = typed.split_once('=').map_or((typed, None), |(word, value)| (word, Some(value)));
        match (word, value) {
            ("reuse-port", None) => Ok(Self::ReusePort),
            ("free-bind", None) => Ok(Self::FreeBind),
            ("v6only", None | Some("yes")) => Ok(Self::Families(Families::Version6)),
            ("v6only", Some("no")) => Ok(Self::Families(Families::Both)),
            ("v6only", Some(_)) => bail!("v6only is yes or no"),
            ("backlog", Some(value)) => {
                let number = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten();
                let number = number.filter(|&number: &i32| number > 0);
                number.map(Self::Backlog).with_context(|| format!("backlog '{value}': a backlog is a number from 1 on"))
            }
            ("mode", Some(value)) => {
                let mode = crate::ids::octal(value, 0o777);
                mode.map(Self::Mode).with_context(|| format!("mode '{value}': a mode is octal, 0 to 777"))
            }
            ("owner", Some(value)) => match UserSpec::parse(value.as_ref()) {
                Ok(UserSpec::OwnerOf(_)) => bail!("owner '{value}': write USER or USER:GROUP"),
                Ok(spec) => Ok(Self::Owner(spec)),
                Err(why) => bail!("owner: {why:#}"),
            },
            ("reuse-port" | "free-bind", Some(_)) => bail!("{word} takes no value"),
            ("backlog" | "mode" | "owner", None) => bail!("{word} needs a value: {word}=..."),
            _ => bail!("unknown option '{word}'{}", nearest(word, &WORDS)),
        }
    }

    fn word(&self) -> &'static str {
        let [backlog, reuse_port, free_bind, v6only, mode, owner] = WORDS;
        match self {
            Self::Backlog(_) => backlog,
            Self::ReusePort => reuse_port,
            Self::FreeBind => free_bind,
            Self::Families(_) => v6only,
            Self::Mode(_) => mode,
            Self::Owner(_) => owner,
        }
    }

    /// Why such a socket can't have it.
    fn misfit(&self, kind: Kind, address: &Address) -> Option<&'static str> {
        let version_6 = match address {
            Address::Port(_) | Address::Scoped(..) => true,
            Address::Internet(address) => address.is_ipv6(),
            Address::Path(_) | Address::Abstract(_) => false,
        };
        let (fits, why) = match self {
            Self::Backlog(_) => (kind == Kind::Stream, "datagrams have no queue of connections"),
            Self::ReusePort => (address.port().is_some(), "a Unix socket has no port"),
            Self::FreeBind => {
                (matches!(address, Address::Internet(_) | Address::Scoped(..)), "it is for an address that no interface has yet")
            }
            Self::Families(_) => (version_6, "it is for a port alone or an IPv6 address"),
            Self::Mode(_) | Self::Owner(_) => (matches!(address, Address::Path(_)), "it is for a Unix socket in the file system"),
        };
        (!fits).then_some(why)
    }
}
