//! The addresses that `--listen` takes: `[NAME=]ADDR`, with ADDR as in systemd.socket(5)'s `ListenStream=`.

use std::ffi::CString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Error, anyhow, bail};

use crate::failure::hinted;

/// One `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What LISTEN_FDNAMES calls it; `unknown` where nothing was said, as sd_listen_fds_with_names(3) has it.
    pub name: String,
    /// Connections or datagrams.
    pub kind: Kind,
    /// Where.
    pub address: Address,
    /// As typed, for messages.
    pub typed: String,
}

/// What flows through the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connections: listen(2) is called.
    Stream,
    /// Datagrams: bound, and that is all.
    Datagram,
}

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A port alone: every address of both families, or of IPv4 where the kernel has no IPv6.
    Port(u16),
    /// One address.
    Internet(SocketAddr),
    /// A link-local address with an interface by name, which only the kernel can turn into a number.
    Scoped(Ipv6Addr, CString, u16),
    /// A path in the file system.
    Path(CString),
    /// A name in the network namespace's abstract list, without the leading NUL byte.
    Abstract(Vec<u8>),
}

/// sun_path of unix(7) holds 108 bytes, one of them the NUL byte before or behind the name.
pub const UNIX_NAME_MAX: usize = 107;

impl Listen {
    /// Reads the option's value.
    pub fn parse(typed: &str) -> Result<Self, Error> {
        Self::read(typed).map_err(|why| {
            hinted(
                format!("--listen '{typed}': {why:#}"),
                "write [NAME=]ADDR, ADDR one of 80, 127.0.0.1:80, [::1]:80, /run/app.sock, @name, or udp: in front of these",
            )
        })
    }

    fn read(typed: &str) -> Result<Self, Error> {
        // An '=' in a path belongs to the path: a name has no '/', '@' or '['.
        let (name, address) = match typed.split_once('=') {
            Some((name, address)) if !name.contains(['/', '@', '[']) => (valid_name(name)?, address),
            _ => ("unknown", typed),
        };
        let (kind, address) = match address.strip_prefix("udp:") {
            Some(address) => (Kind::Datagram, address),
            None => (Kind::Stream, address.strip_prefix("tcp:").unwrap_or(address)),
        };
        Ok(Self { name: name.to_owned(), kind, address: Address::parse(address)?, typed: typed.to_owned() })
    }
}

/// The rule of sd_pid_notify_with_fds(3): printable ASCII without the colon, 1 to 255 bytes.
fn valid_name(name: &str) -> Result<&str, Error> {
    if name.is_empty() || name.len() > 255 || !name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b':') {
        bail!("a name is 1 to 255 printable ASCII characters without a colon");
    }
    Ok(name)
}

impl Address {
    fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            bail!("the address is empty");
        }
        if text.starts_with('/') {
            return Ok(Self::Path(CString::new(text)?));
        }
        if let Some(name) = text.strip_prefix('@') {
            return match name.len() {
                1..=UNIX_NAME_MAX => Ok(Self::Abstract(name.as_bytes().to_vec())),
                _ => bail!("an abstract name is 1 to {UNIX_NAME_MAX} bytes"),
            };
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            bail!("an IPv6 address stands in brackets, its port behind them");
        }
        if text.parse::<Ipv4Addr>().is_ok() || text.starts_with('[') && text.ends_with(']') {
            bail!("no port stands behind the address");
        }
        if text.contains('/') && !text.contains(':') {
            bail!("a path begins with '/'");
        }
        let Some((host, digits)) = text.rsplit_once(':') else { return port(text).map(Self::Port) };
        let number = port(digits)?;
        if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return Self::version_6(inside, number);
        }
        match host.parse::<Ipv4Addr>() {
            Err(_) if host.is_empty() => bail!("no address stands before the colon"),
            Ok(ip) => Ok(Self::Internet(SocketAddr::new(IpAddr::V4(ip), number))),
            Err(_) if host.parse::<Ipv6Addr>().is_ok() => bail!("an IPv6 address stands in brackets: [{host}]:{number}"),
            Err(_) => bail!("'{host}' is no IP address, and names are not looked up"),
        }
    }

    fn version_6(inside: &str, port: u16) -> Result<Self, Error> {
        let (ip, scope) = inside.split_once('%').map_or((inside, None), |(ip, scope)| (ip, Some(scope)));
        let ip: Ipv6Addr = ip.parse().ok().with_context(|| format!("'{inside}' is no IPv6 address"))?;
        match scope {
            Some("") => bail!("no interface stands behind the %"),
            Some(scope) => Ok(Self::Scoped(ip, CString::new(scope)?, port)),
            None => Ok(Self::Internet(SocketAddr::new(IpAddr::V6(ip), port))),
        }
    }

    /// The port, where it has one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Port(port) | Self::Scoped(_, _, port) => Some(*port),
            Self::Internet(address) => Some(address.port()),
            Self::Path(_) | Self::Abstract(_) => None,
        }
    }
}

/// 1 to 65535: port 0 would be another one at every start.
fn port(text: &str) -> Result<u16, Error> {
    match text.parse::<u16>() {
        Ok(port) if port != 0 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(anyhow!("'{text}' is no port: ports are 1 to 65535")),
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.typed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(typed: &str) -> Result<Address, Error> {
        Listen::parse(typed).map(|listen| listen.address)
    }

    #[test]
    fn addr_is_what_systemd_listen_stream_takes() -> Result<(), Error> {
        assert_eq!(address("80")?, Address::Port(80));
        assert_eq!(address("127.0.0.1:80")?, Address::Internet("127.0.0.1:80".parse()?));
        assert_eq!(address("[::1]:80")?, Address::Internet("[::1]:80".parse()?));
        assert_eq!(address("[fe80::1%eth0]:80")?, Address::Scoped("fe80::1".parse()?, c"eth0".to_owned(), 80));
        assert_eq!(address("/run/a=b.sock")?, Address::Path(c"/run/a=b.sock".to_owned()));
        assert_eq!(address("@app")?, Address::Abstract(b"app".to_vec()));
        Ok(())
    }

    #[test]
    fn a_name_stands_in_front_of_the_equals_sign() -> Result<(), Error> {
        let http = Listen::parse("http=udp:53")?;
        assert_eq!((http.name.as_str(), http.kind, http.address), ("http", Kind::Datagram, Address::Port(53)));
        assert_eq!(Listen::parse("80")?.name, "unknown");
        Ok(())
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for typed in [
            "",
            "0",
            "65536",
            "+80",
            "-1",
            "http",
            "http=",
            "=80",
            "a:b=80",
            "localhost:80",
            "::1:80",
            "[::1]",
            "[::1]:",
            "[::1]:0",
            "127.0.0.1:",
            "1.2.3:80",
            "[fe80::1%]:80",
            "@",
            "run/app.sock",
            "udp:",
            "80,90",
            "[1.2.3.4]:80",
            "080x",
        ] {
            assert!(address(typed).is_err(), "{typed:?}");
        }
        assert!(address(&format!("@{}", "x".repeat(108))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_never_yields_port_0(any in ".{0,40}", plausible in "[a-z=@/0-9:.%\\[\\]]{0,24}") {
            for text in [any, plausible] {
                if let Ok(listen) = Listen::parse(&text) {
                    proptest::prop_assert!(listen.address.port() != Some(0));
                }
            }
        }
    }
}
