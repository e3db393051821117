//! Everything telemetry needs to know of one finished request.

use std::time::Duration;

use crate::ids::{CallerName, RequestId};
use crate::openai::Usage;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered whole, whatever its status.
    Answered,
    /// The answer began and then failed; the client was told inside it.
    Cut,
    /// The client left before the end.
    ClientGone,
}

impl Outcome {
    /// The name in the access log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Cut => "cut",
            Outcome::ClientGone => "client_gone",
        }
    }
}

/// One finished request.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its id.
    pub id: &'a RequestId,
    /// Whose it was.
    pub caller: &'a CallerName,
    /// Whether a key of the configuration names it.
    pub keyed: bool,
    /// The method as text.
    pub method: &'a str,
    /// The endpoint's path, or `other`.
    pub endpoint: &'static str,
    /// The model asked for; empty when none was.
    pub asked: &'a str,
    /// The upstream that answered.
    pub upstream: Option<&'a str>,
    /// The model's name there.
    pub model: Option<&'a str>,
    /// The targets passed over, and why.
    pub passed: Option<String>,
    /// What the cache had to do with it, where it was asked.
    pub cache: Option<&'static str>,
    /// Status sent; 499 when the client left before any.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// The phase in which the client left.
    pub phase: &'static str,
    /// Why, in a word or a sentence, when it did not end well.
    pub detail: Option<&'a str>,
    /// Header to last byte.
    pub total: Duration,
    /// Waiting for a place.
    pub queued: Duration,
    /// Waiting for upstreams before the answer began.
    pub upstream_wait: Duration,
    /// Header to the answer's first byte or content.
    pub first: Option<Duration>,
    /// Whether it was a stream.
    pub streamed: bool,
    /// Token counts.
    pub usage: Option<Usage>,
}
