//! Prompts that are longer than the context their model is loaded with. Ollama leaves out what does not
//! fit, the oldest messages first, and answers as if it had never been sent.

use http::HeaderValue;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::attempt::CONTEXT_EXCEEDED;
use super::backend::Backend;
use crate::config::admission::LongPrompts;
use crate::config::models::NumCtx;
use crate::error::{Error, Kind};
use crate::native::least;
use crate::request::Request;
use crate::request::endpoint::Endpoint;

/// No model has a context below this many tokens, and a token is a byte at least: shorter bodies need
/// not be looked at.
const SMALLEST_CONTEXT: usize = 256;

/// A prompt that the upstream is going to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Tokens of context that its model is loaded with.
    pub context: u64,
}

impl Cut {
    /// As `x-sluicegate-prompt` tells it.
    #[must_use]
    pub fn header(self) -> HeaderValue {
        let text = format!("cut; context={}", self.context);
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("cut"))
    }
}

/// Whether `backend` is going to cut the prompt of `request` for `model`, as far as is known for certain:
/// the model must be loaded, or its context be a route's.
///
/// # Errors
/// When that is not to be.
pub(super) fn look(
    backend: &Backend,
    request: &Request,
    model: &str,
) -> Result<Option<Cut>, Error> {
    let policy = backend.long_prompts;
    if policy == LongPrompts::Allow
        || !backend.is_ollama()
        || request.body.len() <= SMALLEST_CONTEXT
    {
        return Ok(None);
    }
    let Some(members) = prompt(request.endpoint) else { return Ok(None) };
    let forced = backend.runner(model).and_then(|runner| runner.num_ctx);
    let context = match forced {
        Some(NumCtx::Tokens(tokens)) => Some(tokens),
        // It grows with the prompt.
        Some(NumCtx::Auto(_)) => None,
        None => backend.residency.of(model).context_length,
    };
    let Some(context) = context.filter(|context| request.body.len() as u64 > *context) else {
        return Ok(None);
    };
    if request.endpoint.is_native() && has_own_terms(&request.body, forced.is_some()) {
        return Ok(None);
    }
    if !least::exceeds(&request.body, members, context) {
        return Ok(None);
    }
    match policy {
        LongPrompts::Reject => Err(exceeded(context, model, members)),
        LongPrompts::Allow | LongPrompts::Warn => Ok(Some(Cut { context })),
    }
}

/// Refuses what cannot fit in `context`.
///
/// # Errors
/// A 400 with OpenAI's code, where it does not.
pub(super) fn check(request: &Request, context: u64, model: &str) -> Result<(), Error> {
    let Some(members) = prompt(request.endpoint) else { return Ok(()) };
    let body = &request.body;
    if body.len() as u64 > context && least::exceeds(body, members, context) {
        return Err(exceeded(context, model, members));
    }
    Ok(())
}

fn exceeded(context: u64, model: &str, members: &[&'static str]) -> Error {
    let message = format!(
        "this prompt has more tokens than the context of {context} that `{model}` is run with here"
    );
    let error = Error::new(Kind::InvalidRequest, message)
        .param(members.first().copied().unwrap_or("messages"));
    error.custom(Kind::InvalidRequest.status().as_u16(), CONTEXT_EXCEEDED.into())
}

/// The members of a body that make up the prompt; `None` where nothing is generated.
fn prompt(endpoint: Endpoint) -> Option<&'static [&'static str]> {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::ApiChat => Some(&["messages"]),
        Endpoint::Messages => Some(&["messages", "system"]),
        Endpoint::Completions => Some(&["prompt"]),
        Endpoint::ApiGenerate => Some(&["prompt", "system"]),
        Endpoint::Responses => Some(&["input", "instructions"]),
        _ => None,
    }
}

/// Whether a native request says itself that nothing may be cut, or how long its context is, where that is
/// not `forced`.
fn has_own_terms(body: &[u8], forced: bool) -> bool {
    #[derive(Deserialize)]
    struct Own {
        options: Option<Options>,
        truncate: Option<bool>,
    }
    #[derive(Deserialize)]
    struct Options {
        num_ctx: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Own>(body).is_ok_and(|own| {
        let chosen = own.options.is_some_and(|options| options.num_ctx.is_some());
        own.truncate == Some(false) || (chosen && !forced)
    })
}
