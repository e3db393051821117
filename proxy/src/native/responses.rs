//! OpenAI's Responses API (<https://platform.openai.com/docs/api-reference/responses>) served through
//! `/api/chat`.
//!
//! The reference is Ollama's own translation (`openai/responses.go` at fb30760), where that loses nothing:
//! an answer that reached its limit is `incomplete` here, words beside calls are kept, and
//! `text.format: json_object` holds. As there, nothing is stored.

pub(super) mod answer;
mod count;
mod echo;
mod items;
pub(super) mod stream;
mod tools;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub use self::count::prompt_tokens;
pub use self::echo::echo;
use super::fields::{boolean, effort, fields, integer, number};
use super::json::{self, Keys, members, text};
use super::settings::{self, Named, Settings};
use super::{Options, Refusal, Think};

/// Translates `body`, a request for a response, for the model Ollama knows as `model`.
///
/// As Ollama does, `previous_response_id`, `conversation` and `tool_choice` are passed over; but with
/// `tool_choice: "none"` the model sees no tools. It sees none either of those that a server would run
/// itself, such as a search of the web: Codex offers that with every request.
///
/// # Errors
/// What `/v1/responses` answers with a 400, wrong types of the fields it reads, and no input at all.
pub fn request(body: &[u8], model: &str, options: &Options) -> Result<Vec<u8>, Refusal> {
    // Go reads what is no UTF-8 as U+FFFD.
    let body = String::from_utf8_lossy(body);
    let given = Given::read(&body)?;
    let settings = given.settings(options)?;
    settings::chat(model, &settings, body.len(), |out| {
        items::write(given.instructions, given.input, out)
    })
}

fields![
    input,
    instructions,
    stream,
    max_output_tokens,
    temperature,
    top_p,
    text,
    reasoning,
    tools,
    tool_choice,
];

impl<'a> Given<'a> {
    fn settings(&self, route: &'a Options) -> Result<Settings<'a>, Refusal> {
        let tools = self
            .tools
            .filter(|_| !no_tools(self.tool_choice))
            .map(tools::translated)
            .transpose()?;
        let tools = tools.filter(|tools| !tools.is_empty());
        Ok(Settings {
            stream: boolean("stream", self.stream)?,
            format: self.format()?,
            keep_alive: settings::keep_alive(route),
            tools: tools.map(|tools| Cow::Owned(json::raw(&tools))),
            options: self.options(route)?,
            think: self.think()?.or_else(|| route.think.clone()),
            truncate: settings::truncate(route),
            ..Settings::default()
        })
    }

    fn options(&self, route: &'a Options) -> Result<Named<'a>, Refusal> {
        let given = [
            ("temperature", number("temperature", self.temperature)?),
            ("top_p", number("top_p", self.top_p)?),
            ("num_predict", integer("max_output_tokens", self.max_output_tokens)?),
        ];
        let options = settings::options(&given, &[], route);
        Ok(settings::default_to_one(options, ["temperature"]))
    }

    fn format(&self) -> Result<Option<Cow<'a, RawValue>>, Refusal> {
        let wrong = |_| Refusal::new("text", "`text` and its `format` must be objects");
        let given = self.text.map_or("null", RawValue::get);
        let [format] = members(given, Keys::AnyCase, ["format"]).map_err(wrong)?;
        let format = format.map_or("null", RawValue::get);
        let [kind, schema] = members(format, Keys::AnyCase, ["type", "schema"]).map_err(wrong)?;
        Ok(match kind.and_then(text).as_deref() {
            Some("json_schema") => schema.map(Cow::Borrowed),
            Some("json_object") => Some(Cow::Owned(json::raw(&"json"))),
            _ => None,
        })
    }

    fn think(&self) -> Result<Option<Think>, Refusal> {
        let wrong = |_| Refusal::new("reasoning", "`reasoning` must be an object");
        let given = self.reasoning.map_or("null", RawValue::get);
        let [given] = members(given, Keys::AnyCase, ["effort"]).map_err(wrong)?;
        given.map_or(Ok(None), |given| effort("reasoning", given))
    }
}

/// Whether no tool is to be called, as the client chose.
fn no_tools(choice: Option<&RawValue>) -> bool {
    choice.and_then(text).is_some_and(|choice| choice == "none")
}

#[cfg(test)]
mod tests;
