//! Prompts that are longer than the context their model is loaded with. Ollama leaves out what does not
//! fit, the oldest messages first, and answers as if it had never been sent.

use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;

use super::attempt::{Begin, Begun, CONTEXT_EXCEEDED, is_overflow};
use super::backend::Backend;
use super::rejection::Rejection;
use crate::config::admission::LongPrompts;
use crate::config::models::NumCtx;
use crate::error::{Error, Kind};
use crate::gpu::Sampler;
use crate::native::{count, least};
use crate::request::Request;
use crate::request::endpoint::Endpoint;
use crate::upstream::Pool;

/// No model has a context below this many tokens: for bodies of fewer bytes, nothing need be known of it.
const SMALLEST_CONTEXT: usize = 256;

/// A prompt of fewer tokens is short: Ollama's own contexts begin at twice that.
const SHORT: u64 = 2048;

/// A prompt that the upstream is going to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Tokens of context that its model is loaded with.
    pub context: u64,
}

impl Cut {
    /// As `x-sluicegate-prompt` tells it.
    #[must_use]
    pub fn header(self) -> String {
        format!("cut; context={}", self.context)
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
    if policy == LongPrompts::Allow || !backend.is_ollama() {
        return Ok(None);
    }
    let Some(members) = prompt(request.endpoint) else { return Ok(None) };
    let forced = backend.num_ctx(model);
    if request.endpoint.is_native() {
        let own = Own::of(&request.body);
        match own.context() {
            Some(tokens) if forced.is_none() => {
                backend.pass_context(model, tokens);
                return Ok(None);
            }
            _ if own.truncate == Some(false) => return Ok(None),
            _ => {}
        }
    }
    if request.body.len() <= SMALLEST_CONTEXT {
        return Ok(None);
    }
    let context = match forced {
        Some(NumCtx::Tokens(tokens)) => Some(tokens),
        // It grows with the prompt.
        Some(NumCtx::Auto(_)) => None,
        None => backend.lasting_context(model),
    };
    match context.filter(|context| is_longer(request, members, *context)) {
        Some(context) if policy == LongPrompts::Reject => Err(exceeded(context, model, request)),
        context => Ok(context.map(|context| Cut { context })),
    }
}

/// Refuses what cannot fit in `context`.
///
/// # Errors
/// A 400 with OpenAI's code, where it does not.
pub(super) fn check(request: &Request, context: u64, model: &str) -> Result<(), Error> {
    let Some(members) = prompt(request.endpoint) else { return Ok(()) };
    if is_longer(request, members, context) {
        Err(exceeded(context, model, request))
    } else {
        Ok(())
    }
}

/// Whether its prompt has more tokens than `context` for certain. A token is a byte at least.
fn is_longer(request: &Request, members: &[&str], context: u64) -> bool {
    request.body.len() as u64 > context && least::exceeds(&request.body, members, context)
}

fn exceeded(context: u64, model: &str, request: &Request) -> Error {
    let message = match request.endpoint {
        Endpoint::Messages => {
            let guess = count::message_tokens(&request.body).unwrap_or_default();
            too_long(guess.max(context.saturating_add(1)), context)
        }
        _ => format!(
            "this prompt has more tokens than the context of {context} that `{model}` is run with here"
        ),
    };
    let error = Error::new(Kind::InvalidRequest, message).param(param(request.endpoint));
    error.custom(Kind::InvalidRequest.status().as_u16(), CONTEXT_EXCEEDED.into())
}

/// Anthropic's own words, by which Claude Code knows that it is to make its conversation shorter.
fn too_long(tokens: u64, context: u64) -> String {
    format!("prompt is too long: {tokens} tokens > {context} maximum")
}

/// The same of an upstream's `message` that a prompt is too long, which may tell both counts.
pub(super) fn in_anthropics_words(message: &str) -> String {
    let words = message.split([' ', '(']).collect::<Vec<_>>();
    let counts = words.windows(2).filter(|pair| pair[1].trim_end_matches([')', ',']) == "tokens");
    let counts: Vec<u64> = counts.filter_map(|pair| pair[0].parse().ok()).collect();
    match counts[..] {
        [tokens, context] => too_long(tokens, context),
        _ => format!("prompt is too long: {message}"),
    }
}

/// The member of a body that has most of the prompt.
pub(super) fn param(endpoint: Endpoint) -> &'static str {
    prompt(endpoint).and_then(|members| members.first().copied()).unwrap_or("messages")
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

/// Whether it may have to be judged by [`look`] once `model` is loaded: its context is not known yet, and the
/// prompt is no short one.
pub(super) fn is_open(backend: &Backend, request: &Request, model: &str) -> bool {
    let judged = backend.long_prompts != LongPrompts::Allow
        && backend.is_ollama()
        && backend.num_ctx(model).is_none();
    // Nothing is known of one that cannot be asked.
    let unknown = || backend.residency.of(model).resident == Some(false);
    let long = |members: &[&str]| is_longer(request, members, SHORT);
    judged && unknown() && prompt(request.endpoint).is_some_and(long)
}

/// [`look`] at a request that was open, when its model was loaded for it.
///
/// # Errors
/// As there.
pub(super) async fn judge(
    backend: &Backend,
    request: &Request,
    model: &str,
    (gpus, pool): (&Sampler, &Arc<Pool>),
) -> Result<Option<Cut>, Error> {
    match backend.refresh_residency(gpus, pool).await {
        Ok(()) => look(backend, request, model),
        Err(cause) => {
            tracing::debug!(upstream = backend.name(), %cause, "its contexts are not known");
            Ok(None)
        }
    }
}

/// Whether the context that was chosen for a prompt was too small for it, and is a larger one from now.
pub(super) fn widen(backend: &Backend, model: &str, tried: &Result<Begun, Rejection>) -> bool {
    let Ok(Begun { reply, body: Begin::Whole(error) }) = tried else { return false };
    let chosen = backend.num_ctx(model);
    let too_long = reply.status == StatusCode::BAD_REQUEST && is_overflow(error);
    match (chosen, backend.context(model)) {
        (Some(NumCtx::Auto(_)), Some(context)) if too_long => {
            backend.grow_context(model, context.saturating_mul(2)) > context
        }
        _ => false,
    }
}

/// What a native request says of its context.
#[derive(Default, Deserialize)]
struct Own {
    options: Option<Options>,
    /// Whether the prompt may be cut.
    truncate: Option<bool>,
}

#[derive(Deserialize)]
struct Options {
    num_ctx: Option<u64>,
}

impl Own {
    /// What is malformed says nothing; the upstream complains of it.
    fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    fn context(&self) -> Option<u64> {
        self.options.as_ref()?.num_ctx
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claude_code_is_told_both_counts_where_they_are_known() {
        for (told, expected) in [
            (
                "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
                "prompt is too long: 9000 tokens > 8192 maximum",
            ),
            (
                "input length (9000 tokens) exceeds the model's maximum context length (8192 tokens)",
                "prompt is too long: 9000 tokens > 8192 maximum",
            ),
            (
                "the input length exceeds the context length",
                "prompt is too long: the input length exceeds the context length",
            ),
        ] {
            assert!(is_overflow(told.as_bytes()), "{told}");
            assert_eq!(in_anthropics_words(told), expected);
            assert!(is_overflow(expected.as_bytes()), "a larger context is tried");
        }
    }
}
