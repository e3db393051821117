//! From bytes to a [`Request`]: endpoint, caller, body and the few fields the gateway acts on.

pub mod auth;
pub mod body;
pub mod cors;
pub mod endpoint;
pub mod headers;
pub mod patch;
pub mod rate;
pub mod scan;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use self::body::{Body, Reserved};
use self::endpoint::Endpoint;
use self::patch::Changes;
use self::scan::{Scan, ScanError};
use crate::config::raw::UpstreamKind;
use crate::error::{Error, Kind};

/// The longest query passed on, in bytes.
const MAX_QUERY: usize = 4096;

/// A request for a model, read whole.
#[derive(Debug)]
pub struct Request {
    /// Where it was sent.
    pub endpoint: Endpoint,
    /// The query string, with its `?`, or nothing.
    pub query: String,
    /// The body as the client wrote it (decoded).
    pub body: Bytes,
    /// What the body says, as far as it matters here.
    pub scan: Scan,
    /// Whether the answer is to be a stream.
    pub streaming: bool,
    /// Whether the client asked for usage in its stream.
    pub wants_usage: bool,
    /// Whether the events of its stream are to be kept apart, because each will be looked at.
    pub separate_events: bool,
    /// Its share of the memory for bodies.
    reserved: Reserved,
}

impl Request {
    /// Scans a body.
    pub fn parse(endpoint: Endpoint, query: &str, body: Body) -> Result<Self, Error> {
        if query.len() > MAX_QUERY {
            return Err(Error::new(Kind::InvalidRequest, "the query is too long"));
        }
        let scan = scan::scan(&body.bytes).map_err(|cause| explain(&cause))?;
        if scan.model.is_empty() {
            let message = "you must name a model: the body has no `model`";
            return Err(Error::new(Kind::InvalidRequest, message).param("model"));
        }
        // Ollama's native chat and generate stream unless told not to.
        let native_stream = matches!(endpoint, Endpoint::ApiChat | Endpoint::ApiGenerate);
        let can_stream = !matches!(
            endpoint,
            Endpoint::Embeddings
                | Endpoint::ApiEmbed
                | Endpoint::ApiEmbeddings
                | Endpoint::ApiShow
                | Endpoint::CountTokens
        );
        Ok(Self {
            endpoint,
            query: if query.is_empty() { String::new() } else { format!("?{query}") },
            streaming: can_stream && scan.stream.unwrap_or(native_stream),
            wants_usage: patch::wants_usage(&body.bytes, &scan),
            separate_events: false,
            body: body.bytes,
            scan,
            reserved: body.reserved,
        })
    }

    /// Takes on a body made of the one it had.
    ///
    /// # Errors
    /// When it cannot be read, or there is no memory for what it has grown by.
    pub fn replace_body(&mut self, body: Bytes) -> Result<(), Error> {
        self.reserved.grow_to(body.len())?;
        self.scan = scan::scan(&body).map_err(|cause| explain(&cause))?;
        self.body = body;
        Ok(())
    }

    /// The body for an upstream of `kind` that knows the model as `model`.
    #[must_use]
    pub fn body_for(&self, kind: UpstreamKind, model: &str) -> Bytes {
        let chat_like = matches!(self.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
        let changes = Changes {
            model: (model != self.scan.model).then_some(model),
            include_usage: self.asks_usage(),
            map_max_tokens: chat_like && kind == UpstreamKind::Ollama,
        };
        patch::apply(&self.body, &self.scan, &changes)
    }

    /// What of it an Ollama would not heed, and not say so.
    #[must_use]
    pub fn unheeded(&self) -> Option<&'static str> {
        let heard = matches!(
            self.endpoint,
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Responses
        );
        self.scan.unheeded.filter(|_| heard)
    }

    /// Whether it runs a model, for which it must be loaded. A native request without a prompt and
    /// with `keep_alive: 0` has one unloaded.
    #[must_use]
    pub fn runs_model(&self) -> bool {
        #[derive(Deserialize)]
        struct Native {
            #[serde(default)]
            keep_alive: Option<serde_json::Value>,
            #[serde(default)]
            prompt: Option<IgnoredText>,
            #[serde(default)]
            messages: Option<Vec<IgnoredAny>>,
        }
        if !self.endpoint.runs_model() || !self.endpoint.is_native() {
            return self.endpoint.runs_model();
        }
        let Ok(native) = serde_json::from_slice::<Native>(&self.body) else { return true };
        let zero = native.keep_alive.is_some_and(|time| match time {
            serde_json::Value::Number(seconds) => seconds.as_f64() == Some(0.0),
            serde_json::Value::String(time) => time.trim_end_matches(char::is_alphabetic) == "0",
            _ => false,
        });
        let empty = native.prompt.is_none_or(|IgnoredText(length)| length == 0)
            && native.messages.is_none_or(|messages| messages.is_empty());
        !(zero && empty)
    }

    /// The most tokens that its answer may have, as the client said.
    #[must_use]
    pub fn max_tokens(&self) -> Option<u64> {
        let Scan { max_tokens, max_completion_tokens, max_output_tokens, .. } = &self.scan;
        let given = match self.endpoint {
            Endpoint::Responses => max_output_tokens.as_ref(),
            Endpoint::Messages => max_tokens.as_ref(),
            _ => max_completion_tokens.as_ref().or(max_tokens.as_ref()),
        }?;
        std::str::from_utf8(self.body.get(given.span.clone())?).ok()?.parse().ok()
    }

    /// Whether the gateway asks for usage that the client did not ask for.
    #[must_use]
    pub fn asks_usage(&self) -> bool {
        let chat_like = matches!(self.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
        chat_like && self.streaming && !self.wants_usage
    }
}

/// A text of which only the length matters, in bytes.
struct IgnoredText(usize);

impl<'de> Deserialize<'de> for IgnoredText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer).map(|text| Self(text.len()))
    }
}

fn explain(cause: &ScanError) -> Error {
    match cause {
        ScanError::Syntax(text) => {
            Error::new(Kind::InvalidJson, format!("the body is not a valid JSON object: {text}"))
        }
        ScanError::WrongType { field, expected } => {
            Error::new(Kind::InvalidRequest, format!("`{field}` must be {expected}")).param(field)
        }
        ScanError::LongModel => {
            let message = "the model's name is too long";
            Error::new(Kind::InvalidRequest, message).param("model")
        }
        ScanError::AmbiguousModel => {
            let message = "the body names two different models";
            Error::new(Kind::InvalidRequest, message).param("model")
        }
    }
}
