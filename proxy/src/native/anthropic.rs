//! Anthropic's Messages API (<https://docs.anthropic.com/en/api/messages>) served through `/api/chat`.
//!
//! The reference is Ollama's own translation (`anthropic/anthropic.go` at fb30760), where that loses
//! nothing. Its search of the web is left to Ollama: a request for that cannot be served here.

pub(super) mod answer;
mod content;
pub(super) mod stream;

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::fields::{boolean, fields, integer, number, strings};
use super::json::{self, Keys, each, members, text};
use super::settings::{self, Named, Settings};
use super::tool::{Function, Tool};
use super::{Options, Refusal, Think};

/// Ollama's words where a model is to think that cannot.
const NO_THOUGHT: &str = "does not support thinking";

/// Translates `body`, a request for a message, for the model Ollama knows as `model`.
///
/// As Ollama does, `metadata` and `tool_choice` are passed over; but with `tool_choice: {"type": "none"}` the
/// model sees no tools.
///
/// # Errors
/// What `/v1/messages` answers with a 400, wrong types of the fields it reads, and a search of the web.
pub fn request(body: &[u8], model: &str, options: &Options) -> Result<Vec<u8>, Refusal> {
    // Go reads what is no UTF-8 as U+FFFD.
    let body = String::from_utf8_lossy(body);
    let given = Given::read(&body)?;
    let settings = given.settings(options)?;
    settings::chat(model, &settings, body.len(), |out| {
        content::write(given.system, given.messages, out)
    })
}

/// `body`, a translated request, for a model that cannot think, where its answer's `error` says that it is
/// one and the client asked for thoughts: Claude Code does of every model.
#[must_use]
pub fn without_thought(body: &[u8], error: &[u8]) -> Option<Vec<u8>> {
    memchr::memmem::find(error, NO_THOUGHT.as_bytes())?;
    // Nothing of the client's stands after it.
    let start = memchr::memmem::rfind(body, b",\"think\":")?;
    let value = start + b",\"think\":".len();
    let end = value + body[value..].iter().position(|byte| matches!(byte, b',' | b'}'))?;
    Some([&body[..start], &body[end..]].concat())
}

fields![
    messages,
    system,
    stream,
    max_tokens,
    temperature,
    top_p,
    top_k,
    stop_sequences,
    tools,
    tool_choice,
    thinking,
    output_config,
];

impl<'a> Given<'a> {
    fn settings(&self, route: &'a Options) -> Result<Settings<'a>, Refusal> {
        let tools = self.tools()?;
        Ok(Settings {
            stream: boolean("stream", self.stream)?,
            keep_alive: settings::keep_alive(route),
            tools: (!tools.is_empty()).then(|| Cow::Owned(json::raw(&tools))),
            options: self.options(route)?,
            think: self.think()?.or_else(|| route.think.clone()),
            truncate: settings::truncate(route),
            ..Settings::default()
        })
    }

    fn options(&self, route: &'a Options) -> Result<Named<'a>, Refusal> {
        let limit = integer("max_tokens", self.max_tokens)?
            .filter(|limit| limit.get().parse::<i64>().is_ok_and(|limit| limit > 0));
        let missing = "max_tokens is required and must be positive";
        let limit = limit.ok_or_else(|| Refusal::new("max_tokens", missing))?;
        let given = [
            ("num_predict", Some(limit)),
            ("temperature", number("temperature", self.temperature)?),
            ("top_p", number("top_p", self.top_p)?),
            ("top_k", integer("top_k", self.top_k)?),
        ];
        Ok(settings::options(&given, &self.stops()?, route))
    }

    fn stops(&self) -> Result<Vec<&'a RawValue>, Refusal> {
        const PARAM: &str = "stop_sequences";
        let wrong = || Refusal::new(PARAM, "`stop_sequences` must be an array of strings");
        self.stop_sequences.map_or(Ok(Vec::new()), |given| strings(given, wrong))
    }

    fn tools(&self) -> Result<Vec<Tool<'a>>, Refusal> {
        let wrong = || Refusal::new("tools", "`tools` must be an array of tools");
        let mut tools = Vec::new();
        let Some(given) = self.tools else { return Ok(tools) };
        each(given, wrong, |tool| {
            let names = ["type", "name", "description", "input_schema"];
            let found = members(tool.get(), Keys::AnyCase, names).map_err(|_| wrong())?;
            let [kind, name, description, schema] = found;
            if kind.and_then(text).is_some_and(|kind| kind.starts_with("web_search")) {
                let message = "web_search is Ollama's own, and is not to be had with the options that \
                               this model is run with here";
                return Err(Refusal::new("tools", message));
            }
            let empty = || json::raw(&serde_json::json!({ "type": "object", "properties": {} }));
            let parameters = Some(schema.map_or_else(|| Cow::Owned(empty()), Cow::Borrowed));
            let function = Function { name: name.map(Cow::Borrowed), description, parameters };
            tools.push(Tool { r#type: "function".into(), function });
            Ok(())
        })?;
        if self.kind_of("tool_choice", self.tool_choice)?.as_deref() == Some("none") {
            tools.clear();
        }
        Ok(tools)
    }

    fn think(&self) -> Result<Option<Think>, Refusal> {
        match self.kind_of("thinking", self.thinking)?.as_deref() {
            Some("enabled") => return Ok(Some(Think::Bool(true))),
            Some("disabled") => return Ok(Some(Think::Bool(false))),
            _ => {}
        }
        let wrong = || Refusal::new("output_config", "`output_config` must be an object");
        let Some(config) = self.output_config else { return Ok(None) };
        let [effort] = members(config.get(), Keys::AnyCase, ["effort"]).map_err(|_| wrong())?;
        let effort = effort.and_then(text).unwrap_or_default().trim().to_lowercase();
        Ok(match &*effort {
            "xhigh" => Some(Think::Level("high".into())),
            "low" | "medium" | "high" | "max" => Some(Think::Level(effort)),
            _ => None,
        })
    }

    /// The `type` of the object `given`.
    fn kind_of(
        &self,
        field: &'static str,
        given: Option<&'a RawValue>,
    ) -> Result<Option<Cow<'a, str>>, Refusal> {
        let wrong = |_| Refusal::new(field, format!("`{field}` must be an object"));
        let object = given.map_or("null", RawValue::get);
        let [kind] = members(object, Keys::AnyCase, ["type"]).map_err(wrong)?;
        Ok(kind.and_then(text))
    }
}

#[cfg(test)]
mod tests;
