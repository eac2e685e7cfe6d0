//! User and group ids that can be handed to the kernel, and permission bits.
//!
//! `setresuid(-1, …)` means "leave it" and returns success, so a launcher that lets `u32::MAX` through
//! reports a switch that never took place (CVE-2019-14287 is sudo's). [`Uid`] and [`Gid`] can't hold it.

use std::fmt;

/// Why a run of bytes is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadId {
    /// Something other than the digits 0 to 9, or nothing at all.
    NotDecimal,
    /// `01750`: some tools read it as octal, others as decimal.
    LeadingZero,
    /// Above 4294967294, the largest id the kernel can give a process.
    TooLarge,
}

impl fmt::Display for BadId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NotDecimal => "an id is written in decimal digits alone",
            Self::LeadingZero => "an id has no leading zero",
            Self::TooLarge => "ids are 0 to 4294967294",
        })
    }
}

/// Reads an id as passwd(5) and the command line spell it: decimal digits, no sign, no leading zero,
/// 0 to 4294967294.
pub fn decimal(text: &[u8]) -> Result<u32, BadId> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(BadId::NotDecimal);
    }
    if text.len() > 1 && text.first() == Some(&b'0') {
        return Err(BadId::LeadingZero);
    }
    text.iter()
        .try_fold(0u32, |value, digit| value.checked_mul(10)?.checked_add(u32::from(digit - b'0')))
        .filter(|&value| value != u32::MAX)
        .ok_or(BadId::TooLarge)
}

macro_rules! id {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $Name(u32);

        impl $Name {
            /// Root's.
            pub const ROOT: Self = Self(0);

            /// `None` for `u32::MAX`, which tells the kernel to change nothing.
            #[must_use]
            pub const fn new(raw: u32) -> Option<Self> {
                if raw == u32::MAX { None } else { Some(Self(raw)) }
            }

            /// The number the kernel takes.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }

            /// Reads decimal digits: see [`decimal`].
            pub fn parse(text: &[u8]) -> Result<Self, BadId> {
                decimal(text).map(Self)
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

id!(
    /// A user id: 0 to 4294967294.
    Uid
);
id!(
    /// A group id: 0 to 4294967294.
    Gid
);

/// Permission bits, in octal digits alone.
#[must_use]
pub fn octal(typed: &str, most: u32) -> Option<u32> {
    let digits = !typed.is_empty() && typed.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    u32::from_str_radix(typed, 8).ok().filter(|&mode| digits && mode <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_alone_are_an_id() {
        assert_eq!(decimal(b"0"), Ok(0));
        assert_eq!(decimal(b"1000"), Ok(1000));
        assert_eq!(decimal(b"4294967294"), Ok(u32::MAX - 1));
    }

    #[test]
    fn what_other_tools_read_as_root_or_as_minus_one_is_no_id() {
        for text in ["4294967295", "4294967296", "4294967297", "18446744073709551616", "99999999999999999999"] {
            assert_eq!(decimal(text.as_bytes()), Err(BadId::TooLarge), "{text}");
        }
        for text in ["", "-1", "+1000", " 1000", "1000 ", "0x10", "1e3", "１０００"] {
            assert_eq!(decimal(text.as_bytes()), Err(BadId::NotDecimal), "{text}");
        }
        for text in ["00", "01750", "0000000000"] {
            assert_eq!(decimal(text.as_bytes()), Err(BadId::LeadingZero), "{text}");
        }
    }

    #[test]
    fn no_id_tells_the_kernel_to_change_nothing() {
        assert_eq!(Uid::new(u32::MAX), None);
        assert_eq!(Gid::new(u32::MAX), None);
    }
}
