//! The addresses that `--listen` takes: `[NAME=]ADDR[,OPTION...]`, with ADDR as in systemd.socket(5)'s `ListenStream=`.

mod options;
mod prefix;

pub use options::{Choice, Families};

use std::borrow::Cow;
use std::ffi::CString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Error, anyhow, bail};

use crate::failure::hinted;
use crate::userspec::UserSpec;
use prefix::Misplaced;

/// One `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What LISTEN_FDNAMES calls it; `unknown` where nothing was said, as sd_listen_fds_with_names(3) has it.
    pub name: String,
    /// Connections or datagrams.
    pub kind: Kind,
    /// Where.
    pub address: Address,
    /// The options, each kind at most once, and only those that such a socket can have.
    pub choices: Vec<Choice>,
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

const ADDRESSES: &str =
    "write [NAME=]ADDR, ADDR one of 80, 127.0.0.1:80, [::1]:80, /run/app.sock, @name, or udp: in front of these";

/// What a descriptor without a name is called, as sd_listen_fds_with_names(3) has it.
const UNNAMED: &str = "unknown";

impl Listen {
    /// Reads the option's value.
    pub fn parse(typed: &str) -> Result<Self, Error> {
        let refused = |why: &Error, hint: &str| hinted(format!("--listen '{typed}': {why:#}"), hint);
        let (front, options) = split_options(typed);
        let (name, address) = split_name(&front);
        if let Some(Misplaced { what, right }) = prefix::of_address(address) {
            // As it stands on the line, so that it can be copied from the message.
            let before = name.map_or_else(String::new, |name| format!("{name}="));
            let behind = options.map_or_else(String::new, |options| format!(",{options}"));
            let hint = right.map(|right| format!("write {before}{}{behind}", right.replace(',', "\\,")));
            return Err(refused(
                &anyhow!("'{what}' is no part of an address: udp: alone may stand in front"),
                hint.as_deref().unwrap_or(ADDRESSES),
            ));
        }
        let (name, kind, address) = Self::read(name, address).map_err(|why| refused(&why, ADDRESSES))?;
        let choices = match options {
            Some(options) => Choice::read_all(options, kind, &address).map_err(|why| refused(&why, options::HINT))?,
            None => Vec::new(),
        };
        Ok(Self { name, kind, address, choices, typed: typed.to_owned() })
    }

    fn read(name: Option<&str>, address: &str) -> Result<(String, Kind, Address), Error> {
        let name = name.map_or(Ok(UNNAMED), valid_name)?;
        let (kind, address) = match address.strip_prefix("udp:") {
            Some(address) => (Kind::Datagram, address),
            None => (Kind::Stream, address),
        };
        Ok((name.to_owned(), kind, Address::parse(address)?))
    }

    /// What `owner=` says.
    #[must_use]
    pub fn owner(&self) -> Option<&UserSpec> {
        self.choices.iter().find_map(|choice| if let Choice::Owner(spec) = choice { Some(spec) } else { None })
    }

    /// Whether both can't be bound: the address is the same, and they do not share it.
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        let shares = |one: &Self| one.choices.contains(&Choice::ReusePort);
        (self.kind, &self.address) == (other.kind, &other.address) && !(shares(self) && shares(other))
    }
}

/// An '=' in a path belongs to the path: a name has no '/', '@' or '['.
fn split_name(front: &str) -> (Option<&str>, &str) {
    match front.split_once('=') {
        Some((name, address)) if !name.contains(['/', '@', '[']) => (Some(name), address),
        _ => (None, front),
    }
}

/// The options begin at the first comma; one that belongs to a path is written `\,`.
fn split_options(typed: &str) -> (Cow<'_, str>, Option<&str>) {
    let comma =
        typed.match_indices(',').map(|(place, _)| place).find(|&place| !typed.get(..place).is_some_and(|s| s.ends_with('\\')));
    let (front, options) = match comma.and_then(|comma| typed.split_at_checked(comma)) {
        Some((front, rest)) => (front, rest.get(1..)),
        None => (typed, None),
    };
    let front = if front.contains("\\,") { Cow::Owned(front.replace("\\,", ",")) } else { Cow::Borrowed(front) };
    (front, options)
}

/// The rule of sd_pid_notify_with_fds(3): printable ASCII without the colon, 1 to 255 bytes.
pub fn valid_name(name: &str) -> Result<&str, Error> {
    if name.is_empty() || name.len() > 255 || !name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b':') {
        bail!("a name is 1 to 255 printable ASCII characters without a colon");
    }
    Ok(name)
}

impl Address {
    /// Reads it; nothing may stand in front.
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
            "80,",
            "80,,reuse-port",
            ",80",
            "[1.2.3.4]:80",
            "080x",
            "unix:/run/s",
            "unix:@a",
            "tcp:80",
            "http=tcp://0.0.0.0:80",
            "udp://0.0.0.0:80",
        ] {
            assert!(address(typed).is_err(), "{typed:?}");
        }
        assert!(address(&format!("@{}", "x".repeat(108))).is_err());
    }

    fn choices(typed: &str) -> Result<Vec<Choice>, Error> {
        Listen::parse(typed).map(|listen| listen.choices)
    }

    #[test]
    fn options_follow_behind_a_comma() -> Result<(), Error> {
        let all = [Choice::Backlog(128), Choice::ReusePort, Choice::Families(Families::Version6)];
        assert_eq!(choices("http=80,backlog=128,reuse-port,v6only")?, all);
        assert_eq!(choices("80,v6only=no")?, [Choice::Families(Families::Both)]);
        assert_eq!(choices("udp:10.0.0.1:80,free-bind")?, [Choice::FreeBind]);
        let owner = Choice::Owner(UserSpec::parse("www-data:$GROUP".as_ref())?);
        assert_eq!(choices("/run/s,mode=0600,owner=www-data:$GROUP")?, [Choice::Mode(0o600), owner]);
        Ok(())
    }

    #[test]
    fn a_comma_of_a_path_is_written_with_a_backslash() -> Result<(), Error> {
        let listen = Listen::parse("a=/run/x\\,y\\z,backlog=1")?;
        assert_eq!((listen.address, listen.choices), (Address::Path(c"/run/x,y\\z".to_owned()), vec![Choice::Backlog(1)]));
        assert_eq!(address("@x\\,")?, Address::Abstract(b"x,".to_vec()));
        Ok(())
    }

    #[test]
    fn an_option_that_such_a_socket_cannot_have_is_refused() {
        for typed in [
            "80,mode=0660",
            "80,owner=node",
            "@a,mode=0660",
            "udp:80,backlog=1",
            "udp:/run/s,backlog=1",
            "127.0.0.1:80,v6only",
            "/run/s,v6only",
            "/run/s,reuse-port",
            "@a,reuse-port",
            "80,free-bind",
            "/run/s,free-bind",
            "80,backlog=0",
            "80,backlog=+1",
            "80,backlog=2147483648",
            "80,backlog",
            "80,reuse-port=yes",
            "80,reuse-port,reuse-port",
            "80,v6only,v6only=no",
            "80,v6only=maybe",
            "/run/s,mode=8",
            "/run/s,mode=1777",
            "/run/s,owner=",
            "/run/s,owner=@/work",
        ] {
            assert!(choices(typed).is_err(), "{typed:?}");
        }
    }

    #[test]
    fn an_unknown_option_is_named_with_its_nearest_neighbour() {
        for (typed, near) in
            [("reuseport", "reuse-port"), ("ReusePort", "reuse-port"), ("free_bind", "free-bind"), ("backlgo", "backlog")]
        {
            let said = choices(&format!("80,{typed}")).map_err(|error| error.to_string());
            assert_eq!(said, Err(format!("--listen '80,{typed}': unknown option '{typed}': did you mean {near}?")));
        }
        let said = choices("80,xyz").map_err(|error| error.to_string());
        assert_eq!(said, Err("--listen '80,xyz': unknown option 'xyz'".to_owned()));
    }

    #[test]
    fn one_address_is_bound_twice_only_where_both_share_it() -> Result<(), Error> {
        let collide = |a: &str, b: &str| Ok::<_, Error>(Listen::parse(a)?.collides_with(&Listen::parse(b)?));
        assert!(collide("80", "http=80")? && collide("80,reuse-port", "80")?);
        assert!(!collide("80,reuse-port", "80,reuse-port")? && !collide("80", "udp:80")?);
        Ok(())
    }

    proptest::proptest! {
        #[test]
        fn options_never_panic_and_are_each_there_once(
            any in "[a-z0-9=,\\\\:@/-]{0,40}",
            words in proptest::collection::vec("(backlog|reuse-port|free-bind|v6only|mode|owner)(=[a-z0-9:]{0,4})?", 0..5),
            address in "(80|udp:53|\\[::1\\]:80|/run/s|@a)",
        ) {
            let _ = Listen::parse(&any);
            let typed: Vec<String> = std::iter::once(address).chain(words.iter().cloned()).collect();
            if let Ok(listen) = Listen::parse(&typed.join(",")) {
                proptest::prop_assert_eq!(listen.choices.len(), words.len());
                for choice in &listen.choices {
                    let same = |other: &&Choice| std::mem::discriminant(*other) == std::mem::discriminant(choice);
                    proptest::prop_assert_eq!(listen.choices.iter().filter(same).count(), 1);
                }
            }
        }

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
