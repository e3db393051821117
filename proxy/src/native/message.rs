//! A message as Ollama's `/api/chat` takes it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::json::{self, List};
use super::texts::Lines;

/// A message; what is JSON in it is as the client spelt it.
#[derive(Default, Serialize)]
pub struct Message<'a> {
    /// Who says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Cow<'a, RawValue>>,
    /// What is said.
    #[serde(skip_serializing_if = "Lines::is_empty")]
    pub content: Lines<'a>,
    /// What was thought before.
    #[serde(skip_serializing_if = "Lines::is_empty")]
    pub thinking: Lines<'a>,
    /// Images and sounds in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Cow<'a, str>>,
    /// Tools that are called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Call<'a>>,
    /// The tool whose result it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<String>,
    /// The id of the call whose result it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<&'a RawValue>,
}

/// A tool call.
#[derive(Serialize)]
pub struct Call<'a> {
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a RawValue>,
    /// What is called.
    pub function: Function<'a>,
}

/// What is called.
#[derive(Serialize)]
pub struct Function<'a> {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a RawValue>,
    /// What it is given, an object.
    pub arguments: Cow<'a, RawValue>,
}

/// Who says something, as Ollama knows them: few of its templates have OpenAI's `developer`, and with the
/// others what developers say would be lost.
pub fn role(given: &RawValue) -> Cow<'_, RawValue> {
    match given.get() {
        r#""developer""# => Cow::Owned(json::raw(&"system")),
        _ => Cow::Borrowed(given),
    }
}

/// What a tool is called with, from the text that OpenAI's APIs make of it; `None` where that is no object.
pub fn arguments(json: Cow<'_, str>) -> Option<Box<RawValue>> {
    let json = RawValue::from_string(json.into_owned()).ok()?;
    (json.get().starts_with('{') || json.get() == "null").then_some(json)
}

/// Writes messages, the last of which may still change.
pub struct Writer<'a, 'o> {
    list: List<'o>,
    /// The last one.
    pub last: Option<Message<'a>>,
}

impl<'a, 'o> Writer<'a, 'o> {
    /// Of none yet, to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { list: List::new(out), last: None }
    }

    /// Appends one.
    pub fn push(&mut self, message: Message<'a>) {
        self.flush();
        self.last = Some(message);
    }

    /// Writes the last one.
    pub fn flush(&mut self) {
        if let Some(message) = self.last.take() {
            self.list.push(&message);
        }
    }

    /// Whether there was none at all.
    pub fn is_empty(&self) -> bool {
        self.list.empty && self.last.is_none()
    }
}
