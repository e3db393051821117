//! Texts that are one for Ollama.

use std::borrow::Cow;

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

/// Two texts that follow one another, on lines of their own.
pub fn lines<'a>(
    first: Option<Cow<'a, RawValue>>,
    second: Option<Cow<'a, RawValue>>,
) -> Option<Cow<'a, RawValue>> {
    match (first, second) {
        (Some(first), Some(second)) => {
            Some(Cow::Owned(quoted(&format!("{}\\n{}", inner(&first), inner(&second)))))
        }
        (first, second) => first.or(second),
    }
}
