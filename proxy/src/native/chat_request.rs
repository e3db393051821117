//! The body of `/v1/chat/completions` to that of `/api/chat`.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::fields::{self, boolean, fields, integer, number};
use super::json::{self, Keys, each, is_string, members, text};
use super::settings::{self, Named, Settings};
use super::{Options, Refusal, Think, messages};

/// Most alternatives Ollama gives for a token.
const MAX_TOP_LOGPROBS: i64 = 20;

/// Translates `body`, a chat completion request, for the model Ollama knows as `model`.
///
/// Fields that `/v1` ignores are ignored: `n`, `logit_bias`, `options` and `keep_alive` above all,
/// because two clients with different options would make the model load anew in turns. In three
/// points the gateway does more than `/v1`: `max_completion_tokens` limits, developers speak as the
/// system, and with `tool_choice: "none"` the model sees no tools.
///
/// # Errors
/// What `/v1` answers with a 400, and wrong types of the fields it reads.
pub fn request(body: &[u8], model: &str, options: &Options) -> Result<Vec<u8>, Refusal> {
    // Go reads what is no UTF-8 as U+FFFD.
    let body = String::from_utf8_lossy(body);
    let given = Given::read(&body)?;
    let missing = || Refusal::new("messages", "[] is too short - 'messages'");
    let messages = given.messages.ok_or_else(missing)?;
    settings::chat(model, &given.settings(options)?, body.len(), |out| {
        messages::write(messages, out)
    })
}

fields![
    messages,
    stream,
    max_tokens,
    max_completion_tokens,
    seed,
    stop,
    temperature,
    frequency_penalty,
    presence_penalty,
    top_p,
    response_format,
    tools,
    tool_choice,
    reasoning,
    reasoning_effort,
    logprobs,
    top_logprobs,
    _debug_render_only,
];

impl<'a> Given<'a> {
    fn settings(&self, route: &'a Options) -> Result<Settings<'a>, Refusal> {
        let effort = self.think()?;
        Ok(Settings {
            stream: boolean("stream", self.stream)?,
            format: self.format()?,
            keep_alive: settings::keep_alive(route),
            tools: self.tools()?.map(Cow::Borrowed),
            options: self.options(route)?,
            think: effort.or_else(|| route.think.clone()),
            logprobs: boolean("logprobs", self.logprobs)?,
            top_logprobs: self.top_logprobs()?,
            _debug_render_only: boolean("_debug_render_only", self._debug_render_only)?,
            truncate: settings::truncate(route),
        })
    }

    fn options(&self, route: &'a Options) -> Result<Named<'a>, Refusal> {
        let given = [
            ("temperature", number("temperature", self.temperature)?),
            ("top_p", number("top_p", self.top_p)?),
            ("frequency_penalty", number("frequency_penalty", self.frequency_penalty)?),
            ("presence_penalty", number("presence_penalty", self.presence_penalty)?),
            ("seed", integer("seed", self.seed)?),
            ("num_predict", self.max_tokens()?),
        ];
        let options = settings::options(&given, &self.stops(), route);
        Ok(settings::default_to_one(options, ["temperature", "top_p"]))
    }

    /// The limit by the name Ollama reads, else by OpenAI's newer one.
    fn max_tokens(&self) -> Result<Option<&'a RawValue>, Refusal> {
        let newer = integer("max_completion_tokens", self.max_completion_tokens)?;
        Ok(integer("max_tokens", self.max_tokens)?.or(newer))
    }

    /// A stop that is no string is passed over, as Ollama does.
    fn stops(&self) -> Vec<&'a RawValue> {
        let Some(stop) = self.stop else { return Vec::new() };
        if is_string(stop) {
            return vec![stop];
        }
        let mut stops = Vec::new();
        let read = each(
            stop,
            || (),
            |element| {
                stops.extend(is_string(element).then_some(element));
                Ok(())
            },
        );
        // No array: of no effect on /v1 either.
        if read.is_ok() { stops } else { Vec::new() }
    }

    fn format(&self) -> Result<Option<Cow<'a, RawValue>>, Refusal> {
        const PARAM: &str = "response_format";
        let wrong = |_| Refusal::new(PARAM, "`response_format` must be an object");
        let Some(format) = self.response_format else { return Ok(None) };
        let [kind, schema] =
            members(format.get(), Keys::AnyCase, ["type", "json_schema"]).map_err(wrong)?;
        let kind = match kind {
            None => Cow::Borrowed(""),
            Some(kind) => text(kind).ok_or_else(|| {
                Refusal::new(PARAM, "`type` of `response_format` must be a string")
            })?,
        };
        match kind.trim().to_lowercase().as_str() {
            "json_object" => Ok(Some(Cow::Owned(json::raw(&"json")))),
            "json_schema" => {
                let schema = schema.map_or("null", RawValue::get);
                let [schema] = members(schema, Keys::AnyCase, ["schema"]).map_err(|_| {
                    Refusal::new(PARAM, "`json_schema` of `response_format` must be an object")
                })?;
                Ok(schema.map(Cow::Borrowed))
            }
            _ => Ok(None),
        }
    }

    fn tools(&self) -> Result<Option<&'a RawValue>, Refusal> {
        let none = self.tool_choice.and_then(text).is_some_and(|choice| choice == "none");
        match self.tools {
            Some(tools) if !tools.get().starts_with('[') => {
                Err(Refusal::new("tools", "`tools` must be an array"))
            }
            tools => Ok(tools.filter(|_| !none)),
        }
    }

    fn think(&self) -> Result<Option<Think>, Refusal> {
        let (param, effort) = match self.reasoning {
            Some(reasoning) => {
                let [effort] = members(reasoning.get(), Keys::AnyCase, ["effort"])
                    .map_err(|_| Refusal::new("reasoning", "`reasoning` must be an object"))?;
                ("reasoning", effort)
            }
            None => ("reasoning_effort", self.reasoning_effort),
        };
        effort.map_or(Ok(None), |effort| fields::effort(param, effort))
    }

    fn top_logprobs(&self) -> Result<Option<i64>, Refusal> {
        let Some(count) = integer("top_logprobs", self.top_logprobs)? else { return Ok(None) };
        let range = 0..=MAX_TOP_LOGPROBS;
        count
            .get()
            .parse()
            .ok()
            .filter(|count| range.contains(count))
            .map(Some)
            .ok_or_else(|| Refusal::new("top_logprobs", "top_logprobs must be between 0 and 20"))
    }
}

#[cfg(test)]
mod tests;
