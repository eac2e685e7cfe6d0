//! JSON as profiles have it. serde_json's own value keeps the last of two keys of one name in silence, and so would drop
//! a condition that somebody reads in the file.

use std::fmt;

use crate::failure::hinted;
use crate::line_ends::{self, Trace};
use anyhow::{Error, anyhow, bail};
use serde_core::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool,
    /// A whole number from 0 to 2⁶⁴-1: all that profiles have.
    Number(u64),
    /// One that is negative, broken or greater.
    OtherNumber,
    Text(String),
    List(Vec<Json>),
    /// In the order of the file; no key twice.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole file. serde_json bounds how deep it may nest.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if let Some(trace @ Trace::ByteOrderMark) = line_ends::trace(bytes) {
            return Err(hinted(format!("not the JSON of a profile: it {trace}"), trace.mending("FILE")));
        }
        serde_json::from_slice(bytes).map_err(|error| anyhow!("not the JSON of a profile: {error}"))
    }

    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "true or false",
            Self::Number(_) | Self::OtherNumber => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The members of an object.
    pub fn object(&self) -> Result<Object<'_>, Error> {
        match self {
            Self::Object(members) => Ok(Object(members)),
            other => bail!("an object is expected, not {}", other.kind()),
        }
    }

    /// A string.
    pub fn text(&self) -> Result<&str, Error> {
        match self {
            Self::Text(text) => Ok(text),
            other => bail!("a string is expected, not {}", other.kind()),
        }
    }

    /// A whole number that is not greater than this.
    pub fn number(&self, most: u64) -> Result<u64, Error> {
        match self {
            Self::Number(number) if *number <= most => Ok(*number),
            Self::Number(_) | Self::OtherNumber => bail!("a whole number from 0 to {most} is expected"),
            other => bail!("a number is expected, not {}", other.kind()),
        }
    }

    /// The items of an array.
    pub fn list(&self) -> Result<&[Self], Error> {
        match self {
            Self::List(items) => Ok(items),
            other => bail!("an array is expected, not {}", other.kind()),
        }
    }
}

/// The members of an object. What is null is as if it were not there: so Go writes what is empty.
#[derive(Clone, Copy)]
pub(super) struct Object<'a>(&'a [(String, Json)]);

impl<'a> Object<'a> {
    /// All keys.
    pub fn keys(self) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// A member, unless it is missing or null.
    pub fn get(self, key: &str) -> Option<&'a Json> {
        self.0.iter().find(|(name, value)| name == key && *value != Json::Null).map(|(_, value)| value)
    }

    /// A member read; the error names it.
    pub fn read<T>(self, key: &str, read: impl FnOnce(&'a Json) -> Result<T, Error>) -> Result<Option<T>, Error> {
        self.get(key).map(read).transpose().map_err(|error| anyhow!("{key}: {error}"))
    }

    /// A member that has to be there.
    pub fn required<T>(self, key: &str, read: impl FnOnce(&'a Json) -> Result<T, Error>) -> Result<T, Error> {
        self.read(key, read)?.ok_or_else(|| anyhow!("{key} is missing"))
    }

    /// A member that is an array, each item read; the error says which. Empty where it is missing.
    pub fn each<T>(self, key: &str, mut read: impl FnMut(&'a Json) -> Result<T, Error>) -> Result<Vec<T>, Error> {
        let Some(items) = self.read(key, Json::list)? else { return Ok(Vec::new()) };
        let numbered = items.iter().enumerate();
        numbered.map(|(at, item)| read(item).map_err(|error| anyhow!("{key}[{at}]: {error}"))).collect()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Maker)
    }
}

struct Maker;

impl<'de> Visitor<'de> for Maker {
    type Value = Json;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Bool)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        use serde_core::de::Error as _;
        let mut object: Vec<(String, Json)> = Vec::new();
        while let Some(key) = members.next_key::<String>()? {
            if object.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format_args!("the key \"{key}\" stands twice in one object")));
            }
            // More than a profile has, and few enough to be looked through.
            if object.len() == 100 {
                return Err(A::Error::custom("an object has more than 100 keys"));
            }
            let value = members.next_value()?;
            object.push((key, value));
        }
        Ok(Json::Object(object))
    }
}
