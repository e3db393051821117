//! Writes one answer to the client, with the headers every answer has.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;

use crate::error::{Dialect, Error, retry_after_seconds};

/// `x-request-id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Tells the OpenAI SDKs whether a retry makes sense, over their own judgement.
pub const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The largest unread body that is worth reading to keep its connection, in bytes.
const SMALL_BODY: usize = 64 * 1024;
/// The longest wait for it.
const SMALL_WAIT: Duration = Duration::from_millis(500);
/// The most of an unread body that is drained so that the client can read an early answer.
const MAX_LINGER_BYTES: usize = 256 * 1024 * 1024;
/// The longest time for it.
const MAX_LINGER: Duration = Duration::from_secs(5);

/// The client is gone or does not take the answer.
#[derive(Debug)]
pub struct ClientGone;

impl From<Box<pingora_core::Error>> for ClientGone {
    fn from(_: Box<pingora_core::Error>) -> Self {
        ClientGone
    }
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    inner: ResponseHeader,
}

impl Head {
    /// A head with `status`.
    pub fn new(status: StatusCode) -> Self {
        // Only a status outside 100..=999 fails, which `StatusCode` cannot hold.
        let inner = ResponseHeader::build_no_case(status, Some(16));
        Self { inner: inner.unwrap_or_else(|_| ServerSession::generate_error(500)) }
    }

    /// Sets a header.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        // Fails only beyond 32,768 headers; those of an upstream are bounded far below.
        let _ = self.inner.insert_header(name, value);
    }

    /// Adds a header beside others of its name.
    pub fn add(&mut self, name: HeaderName, value: HeaderValue) {
        let _ = self.inner.append_header(name, value);
    }

    /// Sets a header from text; text no header can hold is left out.
    pub fn set_text(&mut self, name: HeaderName, text: &str) {
        if let Ok(value) = HeaderValue::from_str(text) {
            self.set(name, value);
        }
    }

    /// The headers so far.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.inner.headers
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.inner.status
    }
}

/// Sends a whole answer to a request whose head was read.
pub async fn whole(session: &mut ServerSession, head: Head, body: Bytes) -> Result<(), ClientGone> {
    let head_only = session.req_header().method == http::Method::HEAD;
    send(session, head, body, head_only).await
}

/// Tells why a request could not even be read; the connection is of no further use.
pub async fn unreadable(session: &mut ServerSession, cause: &Error) {
    session.set_keepalive(None);
    let (head, body) = error(cause, Dialect::OpenAi);
    // Whatever the sender is, it may be gone already.
    if send(session, head, body, false).await.is_ok() {
        session.shutdown().await;
    }
}

async fn send(
    session: &mut ServerSession,
    mut head: Head,
    body: Bytes,
    head_only: bool,
) -> Result<(), ClientGone> {
    head.set(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    session.write_response_header(Box::new(head.inner)).await?;
    let body = if head_only { Bytes::new() } else { body };
    session.write_response_body(body, true).await?;
    Ok(())
}

/// Sends the head of an answer whose body follows in parts.
pub async fn begin(session: &mut ServerSession, mut head: Head) -> Result<(), ClientGone> {
    let http11 = session.req_header().version == http::Version::HTTP_11;
    if http11 && !head.headers().contains_key(header::CONTENT_LENGTH) {
        head.set(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    session.write_response_header(Box::new(head.inner)).await?;
    Ok(())
}

/// Sends a part of a body.
pub async fn part(session: &mut ServerSession, bytes: Bytes) -> Result<(), ClientGone> {
    session.write_response_body(bytes, false).await?;
    Ok(())
}

/// Ends a body that was sent in parts.
pub async fn end(session: &mut ServerSession) -> Result<(), ClientGone> {
    session.write_response_body(Bytes::new(), true).await?;
    Ok(())
}

/// The head and body of an error.
#[must_use]
pub fn error(error: &Error, dialect: Dialect) -> (Head, Bytes) {
    let mut head = Head::new(error.kind.status());
    head.set(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = error.retry_after {
        head.set(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds(after)));
    }
    if let Some(allow) = error.allow {
        head.set(header::ALLOW, HeaderValue::from_static(allow));
    }
    if error.kind.status() == StatusCode::UNAUTHORIZED {
        head.set(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    (head, error.body(dialect))
}

/// Reads and drops the rest of a small body, so that its connection can be used again after an
/// early answer. What is large, or would only be sent when asked for, is left alone.
pub async fn discard_small(session: &mut ServerSession) {
    let announced = session.get_header_bytes(header::CONTENT_LENGTH);
    let length = std::str::from_utf8(announced).ok().and_then(|text| text.parse::<usize>().ok());
    if length.is_some_and(|length| length <= SMALL_BODY)
        && session.get_header(header::EXPECT).is_none()
    {
        let drain = async { while let Ok(Some(_)) = session.read_request_body().await {} };
        // A body that does not come costs its connection, as a large one does.
        let _ = tokio::time::timeout(SMALL_WAIT, drain).await;
    }
}

/// Reads on for a while after an early answer: closing with unread bytes would reset the
/// connection, and the client would lose the answer (RFC 9112, 9.6).
pub async fn linger(session: &mut ServerSession) {
    let drain = async {
        let mut drained = 0;
        while let Ok(Some(chunk)) = session.read_request_body().await {
            drained += chunk.len();
            if drained > MAX_LINGER_BYTES {
                return;
            }
        }
    };
    // Out of time or of patience: the connection is closed either way.
    let _ = tokio::time::timeout(MAX_LINGER, drain).await;
}
