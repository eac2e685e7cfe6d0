//! What a text from another system has at its ends: the carriage return of CR LF, and a byte order mark.
//!
//! **The rule: it is never passed over, and never a part of a name in silence.** Neither belongs to what it stands at, and
//! nobody sees it in an editor. So whoever reads a text or takes a value asks here: what can't be used is refused or
//! counts for nothing as ever, and the message says why, and how to mend it.

use std::fmt;

/// UTF-8's.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What stands at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// At the end of a line.
    CarriageReturn,
    /// At the start of a file.
    ByteOrderMark,
}

/// What of it the text has.
#[must_use]
pub fn trace(text: &[u8]) -> Option<Trace> {
    if text.ends_with(b"\r") {
        Some(Trace::CarriageReturn)
    } else if text.starts_with(BYTE_ORDER_MARK) {
        Some(Trace::ByteOrderMark)
    } else {
        None
    }
}

/// The text without.
#[must_use]
pub fn plain(text: &[u8]) -> &[u8] {
    let mut text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    while let [front @ .., b'\r'] = text {
        text = front;
    }
    text
}

impl Trace {
    /// How the file is mended.
    #[must_use]
    pub fn mending(self, file: &str) -> String {
        match self {
            Self::CarriageReturn => format!("sed -i 's/\\r$//' {file}, or dos2unix {file}"),
            Self::ByteOrderMark => format!("sed -i '1s/^\\xEF\\xBB\\xBF//' {file}"),
        }
    }

    /// How the file is mended that nobody here knows: a script, or one that sets variables.
    #[must_use]
    pub fn mending_of_the_source(self) -> String {
        format!("mend the file that it comes from: {}", self.mending("FILE"))
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::CarriageReturn => "ends in a carriage return, as lines do that end in CR LF",
            Self::ByteOrderMark => "begins with a byte order mark",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_seen_and_taken_off() {
        for (text, found, rest) in [
            (&b"a\r"[..], Some(Trace::CarriageReturn), &b"a"[..]),
            (b"a\r\r", Some(Trace::CarriageReturn), b"a"),
            (b"\r", Some(Trace::CarriageReturn), b""),
            (b"\xef\xbb\xbfa", Some(Trace::ByteOrderMark), b"a"),
            (b"a\rb", None, b"a\rb"),
            (b"", None, b""),
        ] {
            assert_eq!((trace(text), plain(text)), (found, rest), "{text:?}");
        }
    }
}
