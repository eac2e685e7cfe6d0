//! Sets of capabilities, by number: a kernel newer than this program may have some that it can't name.

use std::fmt;
use std::str::FromStr;

use caps::Capability;

use crate::printable::{A_FEW, brief};

/// Up to 64 capabilities, one bit each, as capget(2) gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(pub u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// Reads `NET_BIND_SERVICE,cap_chown`: names from capabilities(7), in any case, `CAP_` or not.
    pub fn parse(list: &str) -> Result<Self, String> {
        list.split(',').try_fold(Self::EMPTY, |set, name| {
            let upper = name.to_ascii_uppercase();
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            let one = Capability::from_str(&full).map_err(|_| format!("there is no capability '{name}'"))?;
            Ok(Self(set.0 | 1 << one.index()))
        })
    }

    /// This one alone.
    #[must_use]
    pub fn of(capability: Capability) -> Self {
        Self(1 << capability.index())
    }

    /// Whether the capability is among them.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.has_number(u32::from(capability.index()))
    }

    /// Whether the capability of that number is among them.
    #[must_use]
    pub fn has_number(self, number: u32) -> bool {
        number < u64::BITS && self.0 >> number & 1 == 1
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of this set that the other lacks.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Their numbers, ascending.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(move |&number| self.has_number(number))
    }

    /// All that have a name.
    fn named() -> Self {
        Self(caps::all().into_iter().fold(0, |all, capability| all | 1 << capability.index()))
    }

    /// Their names, all of them, for programs; a number where there is no name yet.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.numbers()
            .map(|number| {
                caps::all()
                    .into_iter()
                    .find(|c| u32::from(c.index()) == number)
                    .map_or_else(|| format!("capability {number}"), |c| c.to_string())
            })
            .collect()
    }
}

/// For people: `none`, `all` (that have a name), a few names, `all but` a few, or the first of them and how many more.
impl fmt::Display for CapSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, but) = (self.names(), Self::named().without(*self).names());
        match (names.len(), but.len()) {
            (0, _) => out.write_str("none"),
            (1..=A_FEW, _) => out.write_str(&brief(&names, ", ")),
            (_, 0) => out.write_str("all"),
            (_, 1..=A_FEW) => write!(out, "all but {}", brief(&but, ", ")),
            _ => out.write_str(&brief(&names, ", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_capabilities_7_in_any_case() {
        let set = CapSet(1 << 10 | 1);
        assert_eq!(CapSet::parse("NET_BIND_SERVICE,CHOWN"), Ok(set));
        assert_eq!(CapSet::parse("cap_chown,Net_Bind_Service"), Ok(set));
        assert_eq!(set.to_string(), "CAP_CHOWN, CAP_NET_BIND_SERVICE");
    }

    #[test]
    fn what_is_no_capability_is_refused_by_name() {
        for list in ["", "all", "CHOWN,", "CHOWN, KILL", "CAP_CAP_CHOWN", "0"] {
            assert!(CapSet::parse(list).is_err(), "{list}");
        }
    }

    #[test]
    fn a_set_is_told_in_few_words() {
        assert_eq!((CapSet::EMPTY.to_string(), CapSet::named().to_string()), ("none".to_owned(), "all".to_owned()));
        assert_eq!(CapSet(u64::MAX).to_string(), "all", "those of a newer kernel, too");
        let few = CapSet::parse("SETPCAP,SYS_ADMIN").unwrap_or_default();
        assert_eq!(CapSet::named().without(few).to_string(), "all but CAP_SETPCAP, CAP_SYS_ADMIN");
        let docker = CapSet(0xa804_25fb);
        assert!(
            docker.to_string().starts_with("CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, ")
                && docker.to_string().ends_with(" and 6 more")
        );
        for set in (0..=u64::BITS).map(|count| CapSet(u64::MAX.checked_shr(count).unwrap_or(0))) {
            assert!(set.to_string().len() < 200, "{set}");
        }
    }

    #[test]
    fn a_capability_without_a_name_keeps_its_number() {
        assert_eq!(CapSet(1 << 63).to_string(), "capability 63");
        assert!(!CapSet(u64::MAX).has_number(64));
    }
}
