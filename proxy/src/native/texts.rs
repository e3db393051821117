//! Texts that are one for Ollama.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::answer::EMPTY;
use super::json::is_string;

/// JSON strings, as they are spelt.
#[derive(Default)]
pub struct Texts<'a>(Vec<&'a RawValue>);

impl<'a> Texts<'a> {
    /// Appends a string; one that is empty says nothing.
    pub fn push(&mut self, string: &'a RawValue) {
        if string.get() != EMPTY {
            self.0.push(string);
        }
    }

    /// Appends a string; what is none is passed over.
    pub fn extend(&mut self, string: Option<&'a RawValue>) {
        if let Some(string) = string.filter(|string| is_string(string)) {
            self.push(string);
        }
    }

    /// All of them; `None` when they say nothing.
    pub fn joined(self) -> Option<Cow<'a, RawValue>> {
        match self.0[..] {
            [] => None,
            [one] => Some(Cow::Borrowed(one)),
            ref all => {
                let all: Vec<&str> = all.iter().map(|text| inner(text)).collect();
                Some(Cow::Owned(quoted(&all.concat())))
            }
        }
    }
}

/// A JSON string without its quotes.
pub fn inner(string: &RawValue) -> &str {
    let quoted = string.get();
    &quoted[1..quoted.len() - 1]
}

/// The JSON string of what [`inner`] gave, or of several of those.
pub fn quoted(inner: &str) -> Box<RawValue> {
    // Strings without their quotes, in quotes, are one.
    RawValue::from_string(format!("\"{inner}\"")).unwrap_or_default()
}

/// Texts that follow one another, on lines of their own: none, mostly one.
#[derive(Default)]
pub struct Lines<'a> {
    first: Option<Cow<'a, RawValue>>,
    more: Vec<Cow<'a, RawValue>>,
}

impl<'a> Lines<'a> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Has `next` follow; they are joined when they are written.
    pub fn append(&mut self, next: impl Into<Self>) {
        let Lines { first, more } = next.into();
        if self.is_empty() {
            self.first = first;
        } else {
            self.more.extend(first);
        }
        self.more.extend(more);
    }
}

impl<'a> From<Option<Cow<'a, RawValue>>> for Lines<'a> {
    fn from(first: Option<Cow<'a, RawValue>>) -> Self {
        Self { first, more: Vec::new() }
    }
}

impl<'a> From<Option<&'a RawValue>> for Lines<'a> {
    fn from(first: Option<&'a RawValue>) -> Self {
        first.map(Cow::Borrowed).into()
    }
}

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.more.is_empty() {
            return self.first.serialize(serializer);
        }
        let all: Vec<&str> = self.first.iter().chain(&self.more).map(|text| inner(text)).collect();
        quoted(&all.join("\\n")).serialize(serializer)
    }
}
