//! Completions, OpenAI's responses, and messages of Anthropic's, served through Ollama's own API.
//!
//! Ollama's `/v1/chat/completions` has no way to say `num_ctx`, `keep_alive` or `think: true`. A
//! route that sets one of them is served natively, and its client must not notice. So the reference
//! is Ollama's own translation (`openai/openai.go` and `middleware/openai.go` at fb30760), with its
//! oddities: the same message splitting, the same defaults, the same chunks.
//!
//! What the client wrote is spliced, not re-encoded: strings, numbers, schemas and tools reach
//! Ollama, and come back, with the digits, escapes and key order they had.
//!
//! # Layout
//!
//! * [`chat_request`]: the body of `/v1/chat/completions` to that of `/api/chat`
//! * `messages`: its messages
//! * [`answer`]: a whole native answer to a `chat.completion`
//! * [`stream`]: native lines to server-sent events; `chunks`: those of a chat completion
//! * [`completions`] translates `/v1/completions`
//! * [`anthropic`] translates `/v1/messages`, [`responses`] translates `/v1/responses`
//! * [`context`]: how much context a request needs
//! * [`count`]: the same for Anthropic's Messages API
//! * [`opening`]: how a conversation begins
//! * [`least`]: what a prompt has at the very least
//! * `json`: reading JSON the way Go reads it

pub mod answer;
pub mod anthropic;
pub mod chat_request;
pub mod completions;
pub mod context;
pub mod count;
pub mod least;
pub mod opening;
pub mod responses;
pub mod stream;

mod chunks;
mod events;
mod fields;
mod json;
mod message;
mod messages;
mod settings;
mod texts;
mod tool;

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

pub use self::answer::whole;
pub use self::chat_request::request;
pub use self::stream::Stream;

/// What a route has its models run with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Tokens of context; forced, because each other value would load the model anew.
    pub num_ctx: Option<u64>,
    /// How long the model stays loaded, as Ollama takes it: `10m`, or seconds such as `-1`; forced.
    pub keep_alive: Option<String>,
    /// Whether, or how hard, the model thinks where the client does not say.
    pub think: Option<Think>,
    /// Further options by Ollama's own names, such as `num_gpu`; forced.
    pub others: Map<String, Value>,
}

/// Ollama's `think`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Think {
    /// On or off.
    Bool(bool),
    /// `low`, `medium`, `high` or `max`.
    Level(String),
}

/// A request that `/v1` would have refused too: a 400 in the caller's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One sentence for a person.
    pub message: String,
    /// The request field at fault.
    pub param: Option<&'static str>,
}

impl Refusal {
    fn new(param: &'static str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param) }
    }
}

/// What an answer says of itself that the native one does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The model as the client asked for it.
    pub model: String,
    /// The answer's id, such as `chatcmpl-…`.
    pub id: String,
    /// What it is to be.
    pub form: Form,
}

/// What a native answer becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A chat completion.
    Chat {
        /// Unix time, the same in every chunk.
        created: u64,
        /// Whether the client asked for a chunk with usage.
        include_usage: bool,
    },
    /// A legacy completion.
    Completion {
        /// Unix time, the same in every chunk.
        created: u64,
        /// Whether the client asked for a chunk with usage.
        include_usage: bool,
    },
    /// A message of Anthropic's.
    Message {
        /// Tokens of the prompt, guessed: a stream begins before they are counted.
        prompt_tokens: u64,
    },
    /// A response of OpenAI's newer API.
    Response {
        /// Unix time.
        created: u64,
        /// What it repeats of its request, a JSON object.
        echo: Arc<str>,
    },
}

impl Form {
    fn created(&self) -> u64 {
        match self {
            Form::Chat { created, .. }
            | Form::Completion { created, .. }
            | Form::Response { created, .. } => *created,
            Form::Message { .. } => 0,
        }
    }
}

#[cfg(test)]
mod lines;
#[cfg(test)]
mod tests;
