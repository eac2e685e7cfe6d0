//! What stands in front of an address, or behind it, and is no part of it: see [`crate::prefix`].

use super::Address;
use crate::prefix::{PATHS, path_behind, scheme};

/// Words for datagrams and for connections. Any other word counts where `//` stands behind it.
const DATAGRAMS: [&str; 3] = ["udp", "udp4", "udp6"];
const CONNECTIONS: [&str; 12] =
    ["tcp", "tcp4", "tcp6", "http", "https", "ws", "wss", "ssl", "tls", "inet", "inet6", "tcp-listen"];

/// What stands in front of an address that takes none of it, and how the address is written.
#[derive(Debug, PartialEq, Eq)]
pub struct Misplaced {
    /// The word, with its colon and slashes.
    pub what: String,
    /// The right form, where it can be guessed.
    pub right: Option<String>,
}

/// Looks at an address, `udp:` being the one prefix there is.
#[must_use]
pub fn of_address(text: &str) -> Option<Misplaced> {
    if let Some(datagrams) = text.strip_prefix("udp:").filter(|rest| !rest.starts_with("//")) {
        let inner = of_plain_address(datagrams)?;
        let right = inner.right.map(|right| if right.starts_with("udp:") { right } else { format!("udp:{right}") });
        return Some(Misplaced { right, ..inner });
    }
    of_plain_address(text)
}

fn of_plain_address(text: &str) -> Option<Misplaced> {
    if let Some(front) = text.strip_suffix("/tcp").or_else(|| text.strip_suffix("/udp"))
        && let Some(right) = internet(front)
    {
        let datagrams = if text.ends_with("/udp") { "udp:" } else { "" };
        return Some(Misplaced {
            what: text.strip_prefix(front).unwrap_or_default().to_owned(),
            right: Some(format!("{datagrams}{right}")),
        });
    }
    if let Some(rest) = text.strip_prefix("//") {
        return internet(rest).map(|right| Misplaced { what: "//".to_owned(), right: Some(right) });
    }
    let (word, rest) = scheme(text)?;
    let plain = word.to_ascii_lowercase();
    let bare = rest.strip_prefix("//").unwrap_or(rest);
    let is = |words: &[&str]| words.contains(&plain.as_str());
    let right = match () {
        () if is(&PATHS) => path_behind(rest).or_else(|| bare.starts_with('@').then(|| bare.to_owned())),
        () if plain == "abstract" => Some(format!("@{}", bare.trim_start_matches('@'))),
        () if is(&DATAGRAMS) => internet(bare).or_else(|| path_behind(rest)).map(|right| format!("udp:{right}")),
        () if is(&CONNECTIONS) => internet(bare).or_else(|| path_behind(bare)),
        // A word that is none of these is the name of a host, and said to be none.
        () if bare.len() == rest.len() => return None,
        () => internet(bare),
    };
    let slashes = if bare.len() == rest.len() { "" } else { "//" };
    Some(Misplaced { what: format!("{word}:{slashes}"), right })
}

/// A port, or an IP address with one; of a URL, that part.
fn internet(text: &str) -> Option<String> {
    let text = text.split_once('/').map_or(text, |(authority, _)| authority);
    let text = match text.rsplit_once(':') {
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        Some(("" | "*", port)) => port.to_owned(),
        _ => text.to_owned(),
    };
    Address::parse(&text).ok().filter(|address| address.port().is_some()).map(|_| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(text: &str) -> Option<String> {
        of_address(text).map(|found| format!("{} {}", found.what, found.right.unwrap_or_default()))
    }

    #[test]
    fn a_prefix_is_named_and_the_right_form_shown() {
        for (typed, expected) in [
            ("tcp:80", "tcp: 80"),
            ("tcp:/run/s", "tcp: /run/s"),
            ("tcp://0.0.0.0:80", "tcp:// 0.0.0.0:80"),
            ("TCP:[::1]:80", "TCP: [::1]:80"),
            ("tcp6:[::]:80", "tcp6: [::]:80"),
            ("tcp:", "tcp: "),
            ("udp://0.0.0.0:53", "udp:// udp:0.0.0.0:53"),
            ("UDP:53", "UDP: udp:53"),
            ("udp:tcp:80", "tcp: udp:80"),
            ("udp:udp:80", "udp: udp:80"),
            ("udp:unix:/run/s", "unix: udp:/run/s"),
            ("http://0.0.0.0:80/path", "http:// 0.0.0.0:80"),
            ("https://localhost:443", "https:// 127.0.0.1:443"),
            ("http://localhost", "http:// "),
            ("http://:8080", "http:// 8080"),
            ("unix:/run/s", "unix: /run/s"),
            ("unix:///run/s", "unix:// /run/s"),
            ("unix://run/s", "unix:// /run/s"),
            ("unix:@a", "unix: @a"),
            ("unix:run/s", "unix: "),
            ("file:///run/s", "file:// /run/s"),
            ("abstract:app", "abstract: @app"),
            ("quic://1.2.3.4:5", "quic:// 1.2.3.4:5"),
            ("fd://3", "fd:// 3"),
            ("//0.0.0.0:80", "// 0.0.0.0:80"),
            ("80/tcp", "/tcp 80"),
            ("127.0.0.1:53/udp", "/udp udp:127.0.0.1:53"),
        ] {
            assert_eq!(right(typed).as_deref(), Some(expected), "{typed}");
        }
    }

    #[test]
    fn what_has_no_prefix_is_left_to_the_parser() {
        for typed in [
            "80",
            "127.0.0.1:80",
            "[::1]:80",
            "fe80::1",
            "/run/a:b",
            "//run/s",
            "@tcp:80",
            "udp:53",
            "udp:/run/s",
            "localhost:80",
            "a.b:80",
        ] {
            assert_eq!(of_address(typed), None, "{typed}");
        }
    }
}
