//! A tool as Ollama's `/api/chat` takes it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

/// A tool; what is JSON in it is as the client spelt it.
#[derive(Serialize)]
pub struct Tool<'a> {
    /// `function`, or what the client says it is.
    pub r#type: Cow<'a, str>,
    /// What can be called.
    pub function: Function<'a>,
}

/// What can be called.
#[derive(Serialize)]
pub struct Function<'a> {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Cow<'a, RawValue>>,
    /// What it does, for the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a RawValue>,
    /// The JSON schema of what it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Cow<'a, RawValue>>,
}
