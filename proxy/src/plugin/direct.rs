//! Answers that a plugin gives itself, in the caller's own protocol.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use sluicegate_plugin_host::types::Endpoint;

/// What is answered, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Direct<'a> {
    /// The request's id.
    pub id: &'a str,
    /// The model asked for.
    pub model: &'a str,
    /// Where.
    pub endpoint: Endpoint,
    /// The text.
    pub text: &'a str,
}

impl Direct<'_> {
    /// Whether the endpoint has answers of plain text.
    #[must_use]
    pub fn fits(endpoint: Endpoint) -> bool {
        matches!(
            endpoint,
            Endpoint::ChatCompletions
                | Endpoint::Completions
                | Endpoint::NativeChat
                | Endpoint::NativeGenerate
        )
    }

    /// The whole answer.
    #[must_use]
    pub fn whole(&self) -> String {
        let (model, text) = (self.model, self.text);
        let choice = |choice: serde_json::Value, object: &str| {
            let usage = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
            json!({"id": self.id, "object": object, "created": seconds(), "model": model,
                "choices": [choice], "usage": usage})
        };
        match self.endpoint {
            Endpoint::NativeChat => json!({"model": model, "created_at": time(), "done": true,
                "done_reason": "stop", "message": {"role": "assistant", "content": text}}),
            Endpoint::NativeGenerate => json!({"model": model, "created_at": time(), "done": true,
                "done_reason": "stop", "response": text}),
            Endpoint::Completions => choice(
                json!({"index": 0, "text": text, "logprobs": null, "finish_reason": "stop"}),
                "text_completion",
            ),
            _ => choice(
                json!({"index": 0, "finish_reason": "stop", "logprobs": null,
                    "message": {"role": "assistant", "content": text, "refusal": null}}),
                "chat.completion",
            ),
        }
        .to_string()
    }

    /// The answer as a stream, in one piece.
    #[must_use]
    pub fn stream(&self) -> String {
        match self.endpoint {
            Endpoint::NativeChat | Endpoint::NativeGenerate => self.whole() + "\n",
            Endpoint::Completions => format!("data: {}\n\ndata: [DONE]\n\n", self.whole()),
            _ => [
                self.chunk(&json!({"role": "assistant", "content": self.text}), None),
                self.chunk(&json!({}), Some("stop")),
                "data: [DONE]\n\n".to_owned(),
            ]
            .concat(),
        }
    }

    /// The text as one event of a chat's stream that goes on.
    #[must_use]
    pub fn event(&self) -> String {
        self.chunk(&json!({"role": "assistant", "content": self.text}), None)
    }

    fn chunk(&self, delta: &serde_json::Value, finish: Option<&str>) -> String {
        chunk(self.id, self.model, 0, delta, finish)
    }
}

/// A text as one event of a chat's stream.
#[must_use]
pub fn text_event(id: &str, model: &str, choice: u32, text: &str) -> String {
    chunk(id, model, choice, &json!({"content": text}), None)
}

fn chunk(
    id: &str,
    model: &str,
    choice: u32,
    delta: &serde_json::Value,
    finish: Option<&str>,
) -> String {
    let choice =
        json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": finish});
    let event = json!({"id": id, "object": "chat.completion.chunk", "created": seconds(),
        "model": model, "choices": [choice]});
    format!("data: {event}\n\n")
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Now, as RFC 3339 has it.
fn time() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}
