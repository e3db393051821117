//! Every error a client can be sent, and the one map from its kind to status, type and code. Whoever notices a problem names its [`Kind`]; nobody else decides what it looks like on
//! the wire.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

/// What went wrong, from the client's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request itself is malformed or asks for something impossible.
    InvalidRequest,
    /// The body is not JSON.
    InvalidJson,
    /// A key is needed and none, or an unknown one, was sent.
    Unauthorized,
    /// The caller is known but may not do this.
    Forbidden,
    /// No such path.
    UnknownPath,
    /// No upstream and no route has this model.
    ModelNotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The client took too long to send its request.
    RequestTimeout,
    /// The request body is over the limit.
    BodyTooLarge,
    /// The request body has a coding that is not understood.
    UnsupportedEncoding,
    /// The caller's own limit is used up.
    RateLimited,
    /// An upstream could not be reached or gave an unusable answer.
    BadGateway,
    /// The gateway or all upstreams are full or tripped; waiting helps.
    Overloaded,
    /// An upstream did not answer in time.
    GatewayTimeout,
    /// A defect of the gateway.
    Internal,
}

impl Kind {
    /// The HTTP status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Kind::InvalidRequest | Kind::InvalidJson => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::UnknownPath | Kind::ModelNotFound => StatusCode::NOT_FOUND,
            Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Kind::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Kind::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Kind::BadGateway => StatusCode::BAD_GATEWAY,
            Kind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Kind::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// OpenAI's `error.code`, which programs match on.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Kind::InvalidRequest => "invalid_request",
            Kind::InvalidJson => "invalid_json",
            Kind::Unauthorized => "invalid_api_key",
            Kind::Forbidden => "forbidden",
            Kind::UnknownPath => "unknown_path",
            Kind::ModelNotFound => "model_not_found",
            Kind::MethodNotAllowed => "method_not_allowed",
            Kind::RequestTimeout => "request_timeout",
            Kind::BodyTooLarge => "body_too_large",
            Kind::UnsupportedEncoding => "unsupported_encoding",
            Kind::RateLimited => "rate_limit_exceeded",
            Kind::BadGateway => "upstream_failed",
            Kind::Overloaded => "overloaded",
            Kind::GatewayTimeout => "upstream_timeout",
            Kind::Internal => "internal_error",
        }
    }
}

/// OpenAI's `error.type` for a status.
#[must_use]
pub fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// Anthropic's `error.type` for a status (docs.anthropic.com/en/api/errors).
fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// The protocol a caller speaks; decides the shape of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's paths under `/v1`.
    OpenAi,
    /// Anthropic's `/v1/messages`.
    Anthropic,
    /// Ollama's own paths under `/api`.
    Ollama,
}

/// An error on its way to a client.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// One sentence for a person, without secrets or internal addresses of the caller.
    pub message: Cow<'static, str>,
    /// The request field at fault.
    pub param: Option<&'static str>,
    /// When trying again is worth it.
    pub retry_after: Option<Duration>,
    /// The methods that exist, for 405.
    pub allow: Option<&'static str>,
    /// What follows on the connection cannot be trusted to be a request.
    pub close: bool,
    /// Upstreams worked on it already: trying again would only multiply their load.
    pub hopeless: bool,
    /// A status and code of a plugin's choice.
    pub custom: Option<Box<(StatusCode, String)>>,
}

impl Error {
    /// An error of `kind` with a message for a person.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
            allow: None,
            close: false,
            hopeless: false,
            custom: None,
        }
    }

    /// Gives it a status and code of its own. A status that is none leaves it as it is.
    #[must_use]
    pub fn custom(mut self, status: u16, code: String) -> Self {
        self.custom = StatusCode::from_u16(status).ok().map(|status| Box::new((status, code)));
        self
    }

    /// The HTTP status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.custom.as_ref().map_or_else(|| self.kind.status(), |custom| custom.0)
    }

    /// OpenAI's `error.code`, which programs match on.
    #[must_use]
    pub fn code(&self) -> &str {
        self.custom.as_ref().map_or_else(|| self.kind.code(), |custom| custom.1.as_str())
    }

    /// Names the request field at fault.
    #[must_use]
    pub fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Ends the connection after the answer.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// Tells SDKs not to try again.
    #[must_use]
    pub fn hopeless(mut self) -> Self {
        self.hopeless = true;
        self
    }

    /// The body in the caller's own protocol.
    #[must_use]
    pub fn body(&self, dialect: Dialect) -> Bytes {
        render(dialect, self.status(), &self.message, self.param, Some(self.code()))
    }
}

/// Renders an error body in `dialect`.
#[must_use]
pub fn render(
    dialect: Dialect,
    status: StatusCode,
    message: &str,
    param: Option<&str>,
    code: Option<&str>,
) -> Bytes {
    #[derive(Serialize)]
    struct OpenAi<'a> {
        message: &'a str,
        r#type: &'a str,
        param: Option<&'a str>,
        code: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Wrapped<T> {
        error: T,
    }
    #[derive(Serialize)]
    struct Anthropic<'a> {
        r#type: &'a str,
        message: &'a str,
    }
    #[derive(Serialize)]
    struct AnthropicWrapped<'a> {
        r#type: &'a str,
        error: Anthropic<'a>,
    }
    let rendered = match dialect {
        Dialect::OpenAi => serde_json::to_vec(&Wrapped {
            error: OpenAi { message, r#type: openai_type(status), param, code },
        }),
        Dialect::Anthropic => serde_json::to_vec(&AnthropicWrapped {
            r#type: "error",
            error: Anthropic { r#type: anthropic_type(status), message },
        }),
        Dialect::Ollama => serde_json::to_vec(&Wrapped { error: message }),
    };
    // Strings and options always serialise; an empty body would still carry the status.
    rendered.map(Bytes::from).unwrap_or_default()
}

/// `Retry-After` in whole seconds, never zero: a zero would be a busy loop (RFC 9110, 10.2.3).
#[must_use]
pub fn retry_after_seconds(after: Duration) -> u64 {
    after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_has_its_own_envelope() {
        let error = Error::new(Kind::ModelNotFound, "no \"x\"").param("model");
        assert_eq!(
            error.body(Dialect::OpenAi),
            r#"{"error":{"message":"no \"x\"","type":"not_found_error","param":"model","code":"model_not_found"}}"#
        );
        assert_eq!(
            error.body(Dialect::Anthropic),
            r#"{"type":"error","error":{"type":"not_found_error","message":"no \"x\""}}"#
        );
        assert_eq!(error.body(Dialect::Ollama), r#"{"error":"no \"x\""}"#);
    }

    #[test]
    fn retry_after_rounds_up_and_is_never_zero() {
        assert_eq!(retry_after_seconds(Duration::ZERO), 1);
        assert_eq!(retry_after_seconds(Duration::from_millis(1500)), 2);
    }
}
