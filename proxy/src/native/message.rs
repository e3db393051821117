//! A message as Ollama's `/api/chat` takes it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

/// A message; what is JSON in it is as the client spelt it.
#[derive(Default, Serialize)]
pub struct Message<'a> {
    /// Who says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Cow<'a, RawValue>>,
    /// What is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Cow<'a, RawValue>>,
    /// What was thought before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<&'a RawValue>,
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
