//! Legacy completions (<https://platform.openai.com/docs/api-reference/completions>) served through
//! `/api/generate`.
//!
//! The reference is Ollama's own translation (`openai/openai.go` at fb30760), which tells no
//! probabilities either.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::answer::{EMPTY, FINGERPRINT, Line, Usage};
use super::chunks::event;
use super::context::Tally;
use super::fields::{boolean, fields, integer, number, strings};
use super::json::{self, Keys, is_string, members, text};
use super::settings::{self, Named, Settings};
use super::{About, Form, Options, Refusal};

/// Translates `body`, a request for a completion, for the model Ollama knows as `model`. As by Ollama,
/// other fields than these are ignored.
///
/// # Errors
/// What `/v1/completions` answers with a 400, and wrong types of the fields it reads.
pub fn request(body: &[u8], model: &str, options: &Options) -> Result<Vec<u8>, Refusal> {
    // Go reads what is no UTF-8 as U+FFFD.
    let body = String::from_utf8_lossy(body);
    let given = Given::read(&body)?;
    let settings = given.settings(options)?;
    for (field, value) in [("prompt", given.prompt), ("suffix", given.suffix)] {
        if value.is_some_and(|value| !is_string(value)) {
            return Err(Refusal::new(field, format!("`{field}` must be a string")));
        }
    }
    settings::body(model, &settings, body.len(), |out| {
        out.extend_from_slice(b"\"prompt\":");
        out.extend_from_slice(given.prompt.map_or(EMPTY, RawValue::get).as_bytes());
        if let Some(suffix) = given.suffix {
            out.extend_from_slice(b",\"suffix\":");
            out.extend_from_slice(suffix.get().as_bytes());
        }
        Ok(())
    })
}

/// Tokens of the prompt of `body` and of what follows it, guessed as [`super::context`] does.
#[must_use]
pub fn prompt_tokens(body: &[u8]) -> u64 {
    let body = String::from_utf8_lossy(body);
    let found = members(&body, Keys::AnyCase, ["prompt", "suffix"]).unwrap_or_default();
    let mut tally = Tally::default();
    found.into_iter().flatten().filter_map(text).for_each(|text| tally.add(&text));
    tally.tokens()
}

fields![
    prompt,
    suffix,
    stream,
    max_tokens,
    max_completion_tokens,
    seed,
    stop,
    temperature,
    frequency_penalty,
    presence_penalty,
    top_p,
    logprobs,
];

impl<'a> Given<'a> {
    fn settings(&self, route: &'a Options) -> Result<Settings<'a>, Refusal> {
        integer("logprobs", self.logprobs)?;
        Ok(Settings {
            stream: boolean("stream", self.stream)?,
            keep_alive: settings::keep_alive(route),
            options: self.options(route)?,
            think: route.think.clone(),
            truncate: settings::truncate(route),
            ..Settings::default()
        })
    }

    fn options(&self, route: &'a Options) -> Result<Named<'a>, Refusal> {
        let zero = |raw: &&RawValue| raw.get().parse() == Ok(0.0);
        let given = [
            ("temperature", number("temperature", self.temperature)?),
            ("top_p", number("top_p", self.top_p)?.filter(|top_p| !zero(top_p))),
            ("frequency_penalty", number("frequency_penalty", self.frequency_penalty)?),
            ("presence_penalty", number("presence_penalty", self.presence_penalty)?),
            ("seed", integer("seed", self.seed)?),
            ("num_predict", self.max_tokens()?),
        ];
        let mut options = settings::options(&given, &self.stops()?, route);
        // What /v1 has where a client says nothing, whatever the model has.
        for penalty in ["frequency_penalty", "presence_penalty"] {
            options.entry(penalty).or_insert_with(|| json::raw(&0));
        }
        Ok(settings::default_to_one(options, ["temperature", "top_p"]))
    }

    /// The limit by the name Ollama reads, else by OpenAI's newer one.
    fn max_tokens(&self) -> Result<Option<&'a RawValue>, Refusal> {
        let newer = integer("max_completion_tokens", self.max_completion_tokens)?;
        Ok(integer("max_tokens", self.max_tokens)?.or(newer))
    }

    fn stops(&self) -> Result<Vec<&'a RawValue>, Refusal> {
        let wrong = || Refusal::new("stop", "`stop` must be a string or an array of strings");
        match self.stop {
            None => Ok(Vec::new()),
            Some(stop) if is_string(stop) => Ok(vec![stop]),
            Some(stops) => strings(stops, wrong),
        }
    }
}

/// Translates a whole native answer.
///
/// # Errors
/// A text saying that it is not one of Ollama's.
pub(super) fn completion(line: &Line<'_>, about: &About) -> Result<Vec<u8>, String> {
    let content = line.content()?;
    let mut out = Vec::new();
    json::write(
        &Completion::new(about, Some(Choice::of(line, content)), Some(usage(line))),
        &mut out,
    );
    out.push(b'\n');
    Ok(out)
}

/// Appends to `out` the chunks of a line of a stream.
///
/// # Errors
/// When it is not as Ollama's are.
pub(super) fn chunks(line: &Line<'_>, about: &About, out: &mut Vec<u8>) -> Result<(), String> {
    let content = line.content()?;
    event(&Completion::new(about, Some(Choice::of(line, content)), None), out);
    if line.done {
        if matches!(about.form, Form::Completion { include_usage: true, .. }) {
            event(&Completion::new(about, None, Some(usage(line))), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
    Ok(())
}

fn usage(line: &Line<'_>) -> Usage {
    Usage::of(line.prompt_eval_count, line.eval_count)
}

/// A completion, or a chunk of one.
#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

impl<'a> Completion<'a> {
    fn new(about: &'a About, choice: Option<Choice<'a>>, usage: Option<Usage>) -> Self {
        Self {
            id: &about.id,
            object: "text_completion",
            created: about.form.created(),
            model: &about.model,
            system_fingerprint: FINGERPRINT,
            choices: choice.into_iter().collect(),
            usage,
        }
    }
}

#[derive(Serialize)]
struct Choice<'a> {
    text: Cow<'a, RawValue>,
    index: u64,
    finish_reason: Option<&'a str>,
}

impl<'a> Choice<'a> {
    fn of(line: &'a Line<'a>, text: Cow<'a, RawValue>) -> Self {
        let finish_reason = line.done_reason.as_deref().filter(|reason| !reason.is_empty());
        Self { text, index: 0, finish_reason }
    }
}

#[cfg(test)]
mod tests;
