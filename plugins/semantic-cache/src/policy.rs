//! The decision. It only ever says less than the gateway would do: what it allows must still pass
//! the gateway's own checks of scope and meaning.

use sluicegate_plugin::cache_policy::{Mode, Policy};
use sluicegate_plugin::{Endpoint, Request, Role, host};

use crate::config::{Keep, Settings};
use crate::question::is_comparable;

/// Temperatures up to here ask for much the same answer each time.
const COOL: f64 = 0.3;

/// Decides for `request`.
pub(crate) fn decide(settings: &Settings, request: &Request) -> Policy {
    let mode = mode(settings, request);
    host::count("mode", name(mode), 1);
    let kept = mode != Mode::Off;
    Policy {
        mode: Some(mode),
        ttl_seconds: settings.ttl.filter(|_| kept),
        scope: settings.scope.clone().filter(|_| kept),
        min_similarity: settings.min_similarity.filter(|_| mode == Mode::Similar),
    }
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Exact => "exact",
        Mode::Similar => "similar",
    }
}

fn mode(settings: &Settings, request: &Request) -> Mode {
    match request.endpoint {
        Endpoint::Other => Mode::Off,
        // The same text has the same vector.
        Endpoint::Embeddings => Mode::Exact,
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::Responses
        | Endpoint::Messages
        | Endpoint::NativeChat
        | Endpoint::NativeGenerate => {
            if !is_worth_keeping(settings.keep, request) {
                Mode::Off
            } else if settings.similar && is_question(settings, request) {
                Mode::Similar
            } else {
                Mode::Exact
            }
        }
    }
}

fn is_worth_keeping(keep: Keep, request: &Request) -> bool {
    let seeded = request.parameters.seed.is_some();
    match keep {
        Keep::Always => true,
        Keep::Deterministic => seeded || temperature(request).is_some_and(|value| value <= COOL),
        Keep::UnlessHot => seeded || temperature(request).is_none_or(|value| value <= COOL),
    }
}

/// The client's own temperature. One that a router set says nothing about what the client wants:
/// "regenerate" in a chat window must give another answer.
fn temperature(request: &Request) -> Option<f64> {
    let defaulted = request
        .labels
        .iter()
        .any(|(name, value)| (name.as_str(), value.as_str()) == ("temperature", "default"));
    request.parameters.temperature.filter(|_| !defaulted)
}

/// Whether another request that means the same may get this one's answer: a short question in
/// words, without anything that a likeness of texts does not show.
fn is_question(settings: &Settings, request: &Request) -> bool {
    let shape = &request.shape;
    let plain = shape.attachments == 0 && shape.tools == 0 && !shape.structured && !shape.logprobs;
    let one = request.parameters.n.is_none_or(|n| n <= 1);
    // Two texts that mean the same are continued differently.
    let answers = request.endpoint != Endpoint::Completions;
    if !(plain && one && answers) || request.messages.len() as u64 > settings.max_messages.into() {
        return false;
    }
    let called = request.messages.iter().any(|message| {
        message.role == Role::Tool
            || message.tool_call_id.is_some()
            || !message.tool_calls.is_empty()
    });
    let Some(last) = request.messages.last().filter(|last| last.role == Role::User) else {
        return false;
    };
    !called
        && last.attachments == 0
        && is_comparable(&last.text, settings.max_chars, &settings.time_words)
}

#[cfg(test)]
mod tests;
