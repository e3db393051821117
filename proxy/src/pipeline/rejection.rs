//! Why a target gave no answer, and what that means for the next one and for the client.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use crate::error::{Error, Kind};
use crate::upstream::Failure;

/// Why a target gave no answer.
#[derive(Debug)]
pub enum Rejection {
    /// The exchange failed.
    Failed(Failure),
    /// It answered that it cannot: 429 or a 5xx.
    Status {
        /// The status.
        status: StatusCode,
        /// Its `Retry-After`.
        retry_after: Option<String>,
        /// A person's text.
        message: String,
    },
    /// Its stream began with an error or ended before any content.
    EmptyStream(String),
    /// It refused the gateway's own credentials.
    Credentials(StatusCode),
    /// It does not have the model, in its own words; another target may.
    ModelAbsent(String),
}

impl Rejection {
    /// The name in metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Rejection::Failed(failure) => failure.as_str(),
            Rejection::Status { status, .. } if status.as_u16() == 429 => "rate_limited",
            Rejection::Status { status, .. } if status.as_u16() == 503 => "busy",
            Rejection::Status { .. } => "status",
            Rejection::EmptyStream(_) => "empty_stream",
            Rejection::Credentials(_) => "credentials",
            Rejection::ModelAbsent(_) => "model_absent",
        }
    }

    /// Whether it says that the upstream is full, not that it is broken.
    #[must_use]
    pub fn is_back_pressure(&self) -> bool {
        matches!(self, Rejection::Status { status, .. } if matches!(status.as_u16(), 429 | 503))
    }

    /// Whether the request may have been worked on, so that trying again multiplies the load.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        match self {
            Rejection::Failed(Failure::Connect(_) | Failure::ConnectTimeout)
            | Rejection::Credentials(_)
            | Rejection::ModelAbsent(_) => false,
            Rejection::Status { status, .. } => status.as_u16() != 429,
            Rejection::Failed(_) | Rejection::EmptyStream(_) => true,
        }
    }

    /// Why `upstream` gave no answer, in a word and in a sentence; `error` is what the client would be told.
    #[must_use]
    pub fn told(&self, upstream: &str, error: &Error) -> (Cow<'static, str>, String) {
        match self {
            // Its own words are for when nobody was asked after it.
            Rejection::Status { status, .. } => {
                let code = status.as_u16();
                let sentence = format!("the upstream `{upstream}` answered with status {code}");
                (format!("status {code}").into(), sentence)
            }
            Rejection::ModelAbsent(why) => {
                (self.as_str().into(), format!("the upstream `{upstream}` answered: {why}"))
            }
            Rejection::Failed(_) | Rejection::EmptyStream(_) | Rejection::Credentials(_) => {
                (self.as_str().into(), error.message.to_string())
            }
        }
    }

    /// The error for the client when nobody else can serve.
    #[must_use]
    pub fn error(&self, upstream: &str) -> Error {
        match self {
            Rejection::Failed(failure) => {
                let kind = match failure {
                    Failure::ConnectTimeout
                    | Failure::FirstByteTimeout
                    | Failure::Stalled
                    | Failure::TotalTimeout => Kind::GatewayTimeout,
                    Failure::Connect(_) | Failure::Broken(_) | Failure::Garbled(_) => {
                        Kind::BadGateway
                    }
                };
                let message = format!("the upstream `{upstream}` failed: {failure}");
                let error = Error::new(kind, message);
                if self.was_sent() { error.hopeless() } else { error }
            }
            Rejection::EmptyStream(why) => {
                Error::new(Kind::BadGateway, format!("the upstream `{upstream}` failed: {why}"))
            }
            Rejection::Credentials(status) => {
                let message = format!(
                    "the upstream `{upstream}` refused the gateway's own credentials (status {})",
                    status.as_u16()
                );
                Error::new(Kind::BadGateway, message)
            }
            Rejection::ModelAbsent(why) => {
                Error::new(Kind::ModelNotFound, why.clone()).param("model")
            }
            Rejection::Status { status, message, retry_after } => {
                let kind = match status.as_u16() {
                    429 => Kind::RateLimited,
                    503 => Kind::Overloaded,
                    504 => Kind::GatewayTimeout,
                    500 => Kind::Internal,
                    _ => Kind::BadGateway,
                };
                let error = Error::new(kind, message.clone());
                match retry_after
                    .as_deref()
                    .and_then(seconds)
                    .or(self.is_back_pressure().then_some(1))
                {
                    Some(wait) => error.retry_after(Duration::from_secs(wait)),
                    None => error.hopeless(),
                }
            }
        }
    }
}

/// `Retry-After` in seconds, given as such or as a date (RFC 9110, 10.2.3).
fn seconds(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| {
        let at = httpdate::parse_http_date(text).ok()?;
        Some(at.duration_since(std::time::SystemTime::now()).map_or(1, |wait| wait.as_secs() + 1))
    })
}
