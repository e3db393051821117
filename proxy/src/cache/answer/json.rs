//! JSON of which only the members that are acted on are read. The rest is kept as it was spelled:
//! a number that passes through a float, or a member that no type names, would be lost.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Unfit;

/// The most members an object that is read may have. No server comes near it, and a bound keeps
/// the search for doubled names linear.
const MAX_MEMBERS: usize = 64;

/// A JSON value in its own spelling, on one line, so that it fits into an event of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Json(Box<RawValue>);

impl Json {
    pub(super) fn of(raw: &RawValue) -> Result<Self, Unfit> {
        let text = raw.get();
        if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_none() {
            return Ok(Self(raw.to_owned()));
        }
        Self::of_lines(text.to_owned())
    }

    /// Joins lines. A line end cannot stand inside a string, nor be all that parts two tokens.
    pub(super) fn of_lines(mut text: String) -> Result<Self, Unfit> {
        text.retain(|c| !matches!(c, '\n' | '\r'));
        Self::of_text(text)
    }

    pub(super) fn of_text(text: String) -> Result<Self, Unfit> {
        RawValue::from_string(text).map(Self).map_err(|_| Unfit::Unreadable)
    }

    pub(super) fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    pub(super) fn get(&self) -> &str {
        self.0.get()
    }

    pub(super) fn raw(&self) -> &RawValue {
        &self.0
    }

    pub(super) fn is_null(&self) -> bool {
        is_null(&self.0)
    }

    pub(super) fn size(&self) -> usize {
        self.get().len()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// The members of an object, in their order. An object that names one twice is refused: parsers
/// differ on which of the two counts.
#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'n>(#[serde(borrow)] Cow<'n, str>);
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Self::Value::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    if members.len() == MAX_MEMBERS || members.iter().any(|(one, _)| *one == name) {
                        return Err(A::Error::custom("too many members, or one twice"));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Members)
    }
}

/// Reads what `text` must be.
pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Unfit> {
    serde_json::from_str(text).map_err(|_| Unfit::Unreadable)
}

pub(super) fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// The text of a JSON string. Half a surrogate pair is no text.
pub(super) fn string(raw: &RawValue) -> Result<Cow<'_, str>, Unfit> {
    let plain = raw.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain {
        Some(text) if memchr::memchr(b'\\', text.as_bytes()).is_none() => Ok(Cow::Borrowed(text)),
        _ => read::<String>(raw.get()).map(Cow::Owned),
    }
}

/// The text of a member that may be missing or null.
pub(super) fn optional_string(raw: Option<&RawValue>) -> Result<Option<Cow<'_, str>>, Unfit> {
    raw.filter(|raw| !is_null(raw)).map(string).transpose()
}

/// Whether the answer is an error: the `error` member that an SDK raises on, or vLLM's old flat
/// form.
pub(super) fn is_error(members: &Members<'_>) -> bool {
    let falsy = |raw: &RawValue| matches!(raw.get(), "null" | "false" | "0" | "\"\"" | "{}");
    members.get("error").is_some_and(|raw| !falsy(raw))
        || members.get("object").is_some_and(|raw| raw.get() == "\"error\"")
}

/// Token counts of the prompt and of the answer, under the names of either OpenAI interface.
pub(super) fn counts(usage: &RawValue) -> (Option<u64>, Option<u64>) {
    let Ok(members) = read::<Members<'_>>(usage.get()) else { return (None, None) };
    let count = |name| read::<u64>(members.get(name)?.get()).ok();
    (
        count("prompt_tokens").or_else(|| count("input_tokens")),
        count("completion_tokens").or_else(|| count("output_tokens")),
    )
}
