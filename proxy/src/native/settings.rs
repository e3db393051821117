//! What the bodies of `/api/chat` and `/api/generate` say apart from the prompt.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::json;
use super::{Options, Refusal, Think};

/// All but the model and the prompt. It is never empty: `stream` is always there.
#[derive(Default, Serialize)]
pub struct Settings<'a> {
    pub stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Cow<'a, RawValue>>,
    pub options: Named<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub think: Option<Think>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub _debug_render_only: bool,
    /// Without it, Ollama drops the oldest messages of a prompt that is too long, and answers as if
    /// they had never been sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
}

/// The body of a chat with `model`, of some `length`, with the messages that `write` writes.
pub fn chat(
    model: &str,
    settings: &Settings<'_>,
    length: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Refusal>,
) -> Result<Vec<u8>, Refusal> {
    body(model, settings, length, |out| {
        out.extend_from_slice(b"\"messages\":[");
        write(out)?;
        out.push(b']');
        Ok(())
    })
}

/// The body of a request for `model`, of some `length`, with the members that `write` writes.
pub fn body(
    model: &str,
    settings: &Settings<'_>,
    length: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Refusal>,
) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::with_capacity(length + 512);
    out.extend_from_slice(b"{\"model\":");
    json::write(&model, &mut out);
    out.push(b',');
    write(&mut out)?;
    let start = out.len();
    json::write(settings, &mut out);
    // The settings' own brace: they go on where the members ended.
    out[start] = b',';
    Ok(out)
}

/// Options of Ollama's by their names.
pub type Named<'a> = BTreeMap<&'a str, Box<RawValue>>;

/// What is `given`, with the texts that end an answer, and what a model is run with here, whatever a
/// client says.
pub fn options<'a>(
    given: &[(&'a str, Option<&RawValue>)],
    stops: &[&RawValue],
    route: &'a Options,
) -> Named<'a> {
    let given = given.iter().filter_map(|(name, value)| Some((*name, (*value)?.to_owned())));
    let mut options: Named<'a> = given.collect();
    if !stops.is_empty() {
        options.insert("stop", json::raw(&stops));
    }
    options.extend(route.others.iter().map(|(name, value)| (name.as_str(), json::raw(value))));
    if let Some(tokens) = route.num_ctx {
        options.insert("num_ctx", json::raw(&tokens));
    }
    options
}

/// Sets those of `names` to 1 that nobody set, as `/v1` does.
pub fn default_to_one<'a, const N: usize>(
    mut options: Named<'a>,
    names: [&'a str; N],
) -> Named<'a> {
    for name in names {
        options.entry(name).or_insert_with(|| json::raw(&1.0));
    }
    options
}

/// Whether a prompt that is too long for the context may be cut: not where that was chosen.
pub fn truncate(route: &Options) -> Option<bool> {
    route.num_ctx.map(|_| false)
}

/// How long the model stays loaded. Ollama takes seconds only as a number and other units only as a string.
pub fn keep_alive(route: &Options) -> Option<Box<RawValue>> {
    let duration = route.keep_alive.as_deref()?;
    Some(match serde_json::from_str::<serde_json::Number>(duration.trim()) {
        Ok(seconds) => json::raw(&seconds),
        Err(_) => json::raw(&duration),
    })
}
