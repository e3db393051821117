//! Reads JSON as Go's `encoding/json` does, one level at a time, values as the text they are.
//!
//! Keys of Go's structs are matched without regard to case and the last one wins; `null` is as good
//! as nothing; an unpaired surrogate is U+FFFD, not an error.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};

use crate::json;

/// How keys are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// As Go fills a struct.
    AnyCase,
    /// As Go fills a map.
    Exact,
}

/// The values of `names` in `object`; the others are only checked to be JSON.
///
/// # Errors
/// When `object` is not a JSON object.
pub fn members<'a, const N: usize>(
    object: &'a str,
    keys: Keys,
    names: [&str; N],
) -> serde_json::Result<[Option<&'a RawValue>; N]> {
    if object == "null" {
        return Ok([None; N]);
    }
    let mut json = serde_json::Deserializer::from_str(object);
    let found = json.deserialize_map(Members { keys, names })?;
    json.end()?;
    Ok(found)
}

struct Members<'n, const N: usize> {
    keys: Keys,
    names: [&'n str; N],
}

impl<'a, const N: usize> Visitor<'a> for Members<'_, N> {
    type Value = [Option<&'a RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(key) = map.next_key_seed(Bytes)? {
            let at = match self.keys {
                Keys::AnyCase => {
                    let key = folded(&key);
                    self.names.iter().position(|name| key.eq_ignore_ascii_case(name.as_bytes()))
                }
                Keys::Exact => self.names.iter().position(|name| *key == *name.as_bytes()),
            };
            let value: &'a RawValue = map.next_value()?;
            if let Some(slot) = at.and_then(|at| found.get_mut(at)) {
                *slot = (value.get() != "null").then_some(value);
            }
        }
        Ok(found)
    }
}

/// A key with letters beyond ASCII as the letters that Go takes them for.
fn folded<'k>(key: &'k [u8]) -> Cow<'k, [u8]> {
    match std::str::from_utf8(key) {
        Ok(text) if !key.is_ascii() => Cow::Owned(json::folded(text).into_bytes()),
        _ => Cow::Borrowed(key),
    }
}

/// Calls `visit` with each element of `array`, so that no list of them is made.
///
/// # Errors
/// Those of `visit`; `not_array` when `array` is no array.
pub fn each<'a, E>(
    array: &'a RawValue,
    not_array: impl FnOnce() -> E,
    visit: impl FnMut(&'a RawValue) -> Result<(), E>,
) -> Result<(), E> {
    let mut failed = None;
    let mut json = serde_json::Deserializer::from_str(array.get());
    let read = json.deserialize_seq(Elements { visit, failed: &mut failed });
    match (failed, read) {
        (Some(failure), _) => Err(failure),
        (None, Err(_)) => Err(not_array()),
        (None, Ok(())) => Ok(()),
    }
}

struct Elements<'f, F, E> {
    visit: F,
    failed: &'f mut Option<E>,
}

impl<'a, F: FnMut(&'a RawValue) -> Result<(), E>, E> Visitor<'a> for Elements<'_, F, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<&'a RawValue>()? {
            if let Err(failure) = (self.visit)(element) {
                *self.failed = Some(failure);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// The text of a JSON string; `None` when `raw` is something else.
#[must_use]
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = raw.get();
    if !is_string(raw) {
        return None;
    }
    let inner = &quoted[1..quoted.len() - 1];
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    let bytes = Bytes.deserialize(&mut serde_json::Deserializer::from_str(quoted)).ok()?;
    Some(Cow::Owned(replace_surrogates(bytes.into_owned())))
}

/// Whether `raw` is a JSON string.
#[must_use]
pub fn is_string(raw: &RawValue) -> bool {
    raw.get().starts_with('"')
}

/// Unpaired surrogates come out of serde_json in the form of UTF-8 (ED A0..BF xx).
fn replace_surrogates(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|refused| {
        let mut bytes = refused.into_bytes();
        let mut at = 0;
        while at + 2 < bytes.len() {
            if bytes[at] == 0xED && bytes[at + 1] >= 0xA0 {
                bytes[at..at + 3].copy_from_slice("\u{FFFD}".as_bytes());
            }
            at += 1;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The bytes of a JSON string, without the demand that its escapes make UTF-8.
struct Bytes;

impl<'a> DeserializeSeed<'a> for Bytes {
    type Value = Cow<'a, [u8]>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'a> Visitor<'a> for Bytes {
    type Value = Cow<'a, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'a [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text.as_bytes()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.as_bytes().to_vec()))
    }
}

/// The same JSON without white space between its tokens; a carriage return there would end a line
/// of an event.
#[must_use]
pub fn compact(raw: &RawValue) -> Cow<'_, RawValue> {
    let text = raw.get();
    if !text.contains([' ', '\t', '\r', '\n']) {
        return Cow::Borrowed(raw);
    }
    let (mut inside, mut escaped) = (false, false);
    let kept = text.chars().filter(|&c| {
        let keep = inside || !matches!(c, ' ' | '\t' | '\r' | '\n');
        inside ^= c == '"' && !escaped;
        escaped = inside && c == '\\' && !escaped;
        keep
    });
    // What was JSON is JSON without its white space.
    RawValue::from_string(kept.collect()).map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// Appends `value` as JSON; the types written here always serialise.
pub fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Values that are written one after another, comma-separated.
pub struct List<'o> {
    out: &'o mut Vec<u8>,
    /// Nothing was written yet.
    pub empty: bool,
}

impl<'o> List<'o> {
    /// Of nothing yet, in `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, empty: true }
    }

    /// Appends `value`.
    pub fn push(&mut self, value: &impl Serialize) {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        write(value, self.out);
    }
}

/// `value` as JSON; as [`write`].
#[must_use]
pub fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).expect("JSON")
    }

    #[test]
    fn the_last_of_a_key_wins_in_whatever_case() {
        let body = r#"{"Stop":1,"x":{"stop":9},"\u0053TOP":2,"seed":null,"\ud800":0}"#;
        let [stop, seed] = members(body, Keys::AnyCase, ["stop", "seed"]).expect("object");
        assert_eq!((stop.map(RawValue::get), seed.map(RawValue::get)), (Some("2"), None));
        let [exact] = members(body, Keys::Exact, ["Stop"]).expect("object");
        assert_eq!(exact.map(RawValue::get), Some("1"));
        assert!(members("[]", Keys::Exact, ["a"]).is_err());
        assert!(members("{}x", Keys::Exact, ["a"]).is_err());
    }

    #[test]
    fn letters_that_go_takes_for_ascii_are_taken_so() {
        let body = r#"{"\u017ftop":1,"ſeed":2,"\u212aeep_alive":3,"ünicode":4,"\ud800top":5}"#;
        let names = ["stop", "seed", "keep_alive", "top"];
        let found = members(body, Keys::AnyCase, names).expect("object");
        assert_eq!(
            found.map(|one| one.map(RawValue::get)),
            [Some("1"), Some("2"), Some("3"), None]
        );
        let exact = members(body, Keys::Exact, names).expect("object");
        assert!(exact.iter().all(Option::is_none));
    }

    #[test]
    fn strings_decode_as_go_decodes_them() {
        assert_eq!(text(raw(r#""a\n\u00e9\/\ud83d\ude00""#)).as_deref(), Some("a\né/😀"));
        assert_eq!(
            text(raw(r#""\ud800x\udc00é\ud800""#)).as_deref(),
            Some("\u{FFFD}x\u{FFFD}é\u{FFFD}")
        );
        assert_eq!(text(raw("\"é\"")).as_deref(), Some("é"));
        assert_eq!(text(raw("7")), None);
    }

    #[test]
    fn compaction_leaves_strings_alone() {
        let json = "{ \"a b\" :\r\n[ \"c \\\" d\\\\\" , 1 ,\t\" \" ] }";
        assert_eq!(compact(raw(json)).get(), r#"{"a b":["c \" d\\",1," "]}"#);
    }
}
