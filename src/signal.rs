//! Signals by number, 1 to 64, and by the names of signal(7). No library's type can hold the real-time ones.

use std::fmt;

/// A signal that can be sent: 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(u8);

crate::sys::plain!(Signal(number));

/// What kill(1) and signal(7) call them, from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
    "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The older names.
const ALIASES: [(&str, u8); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// SIGRTMIN as kill(1), Docker and systemd count it; the kernel's own 32 and 33 belong to the C library.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

macro_rules! named {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(#[doc = concat!("SIG", stringify!($name))] pub const $name: Self = Self($number);)*
    };
}

impl Signal {
    named! {
        HUP = 1, INT = 2, QUIT = 3, ILL = 4, TRAP = 5, BUS = 7, FPE = 8, KILL = 9, SEGV = 11, TERM = 15, CHLD = 17, CONT = 18,
        STOP = 19, TSTP = 20, TTIN = 21, TTOU = 22, WINCH = 28, SYS = 31,
    }

    /// By number.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| (1..=RTMAX).contains(number)).map(Self)
    }

    /// `TERM`, `SIGTERM`, `15`, `RTMIN+3`, `SIGRTMAX-1`; letters in either case.
    #[must_use]
    pub fn parse(typed: &str) -> Option<Self> {
        if typed.starts_with(|first: char| first.is_ascii_digit()) {
            return Self::new(small(typed)?.into());
        }
        let upper = typed.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let numbers = NAMES.iter().copied().zip(1..).chain(ALIASES).chain([("RTMIN", RTMIN), ("RTMAX", RTMAX)]);
        for (known, number) in numbers {
            if known == name {
                return Some(Self(number));
            }
        }
        let real_time = if let Some(offset) = name.strip_prefix("RTMIN+") {
            RTMIN.checked_add(small(offset)?)
        } else {
            RTMAX.checked_sub(small(name.strip_prefix("RTMAX-")?)?)
        };
        real_time.filter(|number| (RTMIN..=RTMAX).contains(number)).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0.into()
    }

    /// Its place in a table that has one for each number from 0 on.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// Decimal, without a sign or a leading zero.
fn small(text: &str) -> Option<u8> {
    crate::ids::decimal(text.as_bytes()).ok().and_then(|number| u8::try_from(number).ok())
}

impl fmt::Display for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.index() - 1) {
            Some(name) => write!(out, "SIG{name}"),
            None if self.0 < RTMIN => write!(out, "signal {}", self.0),
            None if self.0 == RTMIN => out.write_str("SIGRTMIN"),
            None if self.0 == RTMAX => out.write_str("SIGRTMAX"),
            None => write!(out, "SIGRTMIN+{}", self.0 - RTMIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_and_every_signal_reads_back() {
        for (typed, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("1", 1),
            ("64", 64),
            ("33", 33),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("RTMAX", 64),
            ("RTMIN+30", 64),
            ("IOT", 6),
            ("SIGPOLL", 29),
            ("stkflt", 16),
        ] {
            assert_eq!(Signal::parse(typed), Signal::new(number), "{typed}");
        }
        for number in (1..=64).filter(|number| ![32, 33].contains(number)) {
            let signal = Signal::new(number);
            assert_eq!(signal.and_then(|signal| Signal::parse(&signal.to_string())), signal, "{number}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for typed in [
            "",
            "0",
            "65",
            "-1",
            "+1",
            "015",
            "256",
            "SIG",
            "SIGSIGTERM",
            "TERM ",
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN-1",
            "EXIT",
            "RTMIN+",
        ] {
            assert_eq!(Signal::parse(typed), None, "{typed}");
        }
        assert_eq!((Signal::new(0), Signal::new(65), Signal::new(-1)), (None, None, None));
    }
}
