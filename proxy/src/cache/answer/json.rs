//! JSON of which only the members that are acted on are read. The rest is kept as it was spelled:
//! a number that passes through a float, or a member that no type names, would be lost.

use std::borrow::Cow;

use serde::ser::Error;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::Unfit;
use crate::json::{self, Malformed};

/// The most members an object that is read may have. No server comes near it, and a bound keeps
/// the search for doubled names linear.
const MAX_MEMBERS: usize = 64;

/// A JSON value in its own spelling, on one line, so that it fits into an event of a stream.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Box<RawValue>")]
pub(super) struct Json(Box<str>);

impl Json {
    /// A value that was read, and so is one. A line end cannot stand inside a string, nor be all that
    /// parts two tokens.
    pub(super) fn of(raw: &str) -> Self {
        match memchr::memchr2(b'\n', b'\r', raw.as_bytes()) {
            None => Self(raw.into()),
            Some(_) => Self(raw.replace(['\n', '\r'], "").into()),
        }
    }

    pub(super) fn null() -> Self {
        Self("null".into())
    }

    pub(super) fn get(&self) -> &str {
        &self.0
    }

    pub(super) fn is_null(&self) -> bool {
        is_null(self.get())
    }

    pub(super) fn size(&self) -> usize {
        self.get().len()
    }
}

impl From<Box<RawValue>> for Json {
    fn from(raw: Box<RawValue>) -> Self {
        Self(raw.into())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// The members of an object, in their order. An object that names one twice is refused: parsers
/// differ on which of the two counts.
#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Members<'a> {
    /// Reads the object that `text` must be.
    pub(super) fn read(text: &'a str) -> Result<Self, Unfit> {
        Self::of(json::members(text)?)
    }

    fn of(written: Vec<json::Member<'a>>) -> Result<Self, Unfit> {
        if written.len() > MAX_MEMBERS {
            return Err(Unfit::Unreadable);
        }
        let mut members: Vec<(Cow<'a, str>, &'a str)> = Vec::with_capacity(written.len());
        for json::Member { key, value } in written {
            let name = json::string(key)?;
            if members.iter().any(|(one, _)| *one == name) {
                return Err(Unfit::Unreadable);
            }
            members.push((name, value));
        }
        Ok(Self(members))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }
}

impl From<Malformed> for Unfit {
    fn from(Malformed: Malformed) -> Self {
        Unfit::Unreadable
    }
}

/// The items of the array that `text` must be.
pub(super) fn items(text: &str) -> Result<Vec<&str>, Unfit> {
    Ok(json::items(text)?)
}

/// The objects of the array that `text` must be; none where it is null.
pub(super) fn objects(text: &str) -> Result<Vec<Members<'_>>, Unfit> {
    match is_null(text) {
        true => Ok(Vec::new()),
        false => json::objects(text)?.into_iter().map(Members::of).collect(),
    }
}

/// Reads what `text` must be.
pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Unfit> {
    serde_json::from_str(text).map_err(|_| Unfit::Unreadable)
}

pub(super) fn is_null(raw: &str) -> bool {
    raw == "null"
}

/// The text of a JSON string. Half a surrogate pair is no text.
pub(super) fn string(raw: &str) -> Result<Cow<'_, str>, Unfit> {
    Ok(json::string(raw)?)
}

/// The text of a member that may be missing or null.
pub(super) fn optional_string(raw: Option<&str>) -> Result<Option<Cow<'_, str>>, Unfit> {
    raw.filter(|raw| !is_null(raw)).map(string).transpose()
}

/// Whether the answer is an error: the `error` member that an SDK raises on, or vLLM's old flat
/// form.
pub(super) fn is_error(members: &Members<'_>) -> bool {
    let falsy = |raw: &str| matches!(raw, "null" | "false" | "0" | "\"\"" | "{}");
    members.get("error").is_some_and(|raw| !falsy(raw))
        || members.get("object") == Some("\"error\"")
}

/// Token counts of the prompt and of the answer, under the names of either OpenAI interface.
pub(super) fn counts(usage: &str) -> (Option<u64>, Option<u64>) {
    let Ok(members) = Members::read(usage) else { return (None, None) };
    let count = |name| read::<u64>(members.get(name)?).ok();
    (
        count("prompt_tokens").or_else(|| count("input_tokens")),
        count("completion_tokens").or_else(|| count("output_tokens")),
    )
}
