//! What people write in front of an address or a path out of habit: `tcp:`, `http://`, `unix:`, `file:`.
//!
//! **The rule: what stands in front of a colon is taken for what it says, or refused.** Where it was dropped, or taken for
//! part of a name, something else is bound or changed than what was meant (`tcp://0.0.0.0:80` as a Unix socket called
//! `//0.0.0.0:80`), and the run goes on. That of addresses is in `address`.

use anyhow::Error;

use crate::failure::hinted;

/// Words for what has a path.
pub const PATHS: [&str; 8] = ["unix", "unix-stream", "unix-dgram", "unix-listen", "unixgram", "local", "file", "path"];

/// Refuses a path that begins like a URL; one that really does is written `./a:b`.
pub fn refuse_in_path(place: &str, path: &[u8]) -> Result<(), Error> {
    let text = String::from_utf8_lossy(path);
    let Some((word, rest)) = scheme(&text) else { return Ok(()) };
    let is_known = PATHS.contains(&word.to_ascii_lowercase().as_str());
    let hint = match path_behind(rest).filter(|_| is_known) {
        Some(right) => format!("write {right}, or ./{text} if that is its name"),
        None => format!("write ./{text} if that is its name"),
    };
    Err(hinted(format!("{place} '{text}': '{word}:' stands in front of the path, and none is known"), hint))
}

/// The word in front of the first colon, by the rule of URLs, and what stands behind it.
#[must_use]
pub fn scheme(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.split_once(':')?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-_".contains(&byte);
    // An IPv6 address may begin with a letter.
    let is_word = word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.bytes().all(legal);
    (is_word && text.parse::<std::net::Ipv6Addr>().is_err()).then_some((word, rest))
}

/// An absolute path, however many slashes stand in front of it.
#[must_use]
pub fn path_behind(rest: &str) -> Option<String> {
    let plain = rest.trim_start_matches('/');
    (plain.len() < rest.len() && !plain.is_empty() && !plain.starts_with('@')).then(|| format!("/{plain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_begins_like_a_url_is_refused() {
        for path in ["file:/data", "FILE:///data", "a:b", "http://x/y", "foo:bar/baz"] {
            assert!(refuse_in_path("--chown", path.as_bytes()).is_err(), "{path}");
        }
        for path in ["/file:/data", "./a:b", "../a:b", "a/b:c", ":a", "1:2", "a", "\u{e4}:b"] {
            assert!(refuse_in_path("--chown", path.as_bytes()).is_ok(), "{path}");
        }
    }
}
