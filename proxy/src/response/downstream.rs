//! Writes one answer to the client, with the headers every answer has.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use pingora_core::ErrorType;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

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
/// The longest time for it, and for each part of it.
const MAX_LINGER: Duration = Duration::from_secs(60);
const MAX_LINGER_PAUSE: Duration = Duration::from_secs(5);
/// Headers of an answer for which there is room from the start.
const EXPECTED_HEADERS: usize = 14;
/// The longest write where no limit is configured.
const MAX_WRITE: Duration = Duration::from_secs(60);

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
    status: StatusCode,
    headers: HeaderMap,
}

impl Head {
    /// A head with `status`.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::with_capacity(EXPECTED_HEADERS) }
    }

    /// Sets a header. More than 32,768 would panic; an upstream's answer has a hundred at most.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// Adds a header beside others of its name.
    pub fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.append(name, value);
    }

    /// Sets a header from text; text no header can hold is left out.
    pub fn set_text(&mut self, name: HeaderName, text: String) {
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
            self.set(name, value);
        }
    }

    /// Copies the values. They are slices of what the upstream's head was read into, 8 KiB, which would
    /// stay for as long as a head does: to the end of its stream.
    pub fn detach(&mut self) {
        for value in self.headers.values_mut() {
            // Valid as it was.
            if let Ok(own) = HeaderValue::from_bytes(value.as_bytes()) {
                *value = own;
            }
        }
    }

    /// The headers so far.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn into_response(self) -> Box<ResponseHeader> {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = self.status;
        parts.headers = self.headers;
        Box::new(ResponseHeader::from(parts))
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
    // RFC 9110, 8.6: no length where there can be no body.
    if head.status() != StatusCode::NO_CONTENT {
        head.set(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let body = if head_only { Bytes::new() } else { body };
    let written = timeout(limit(session), async {
        session.write_response_header(head.into_response()).await?;
        session.write_response_body(body, true).await
    });
    taken(written.await)
}

/// How long a write may take. pingora bounds that of body writes only, not of heads and ends.
fn limit(session: &ServerSession) -> Duration {
    session.get_write_timeout().unwrap_or(MAX_WRITE)
}

fn taken(written: Result<pingora_core::Result<()>, Elapsed>) -> Result<(), ClientGone> {
    Ok(written.map_err(|_| ClientGone)??)
}

/// Sends the head of an answer whose body follows in parts.
pub async fn begin(session: &mut ServerSession, mut head: Head) -> Result<(), ClientGone> {
    if !head.headers().contains_key(header::CONTENT_LENGTH) {
        match session.req_header().version {
            http::Version::HTTP_11 => {
                head.set(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            // Only the end of its connection ends the body (RFC 9112, 9.3); the head is to say so.
            _ => session.set_keepalive(None),
        }
    }
    taken(timeout(limit(session), session.write_response_header(head.into_response())).await)
}

/// Sends a part of a body.
pub async fn part(session: &mut ServerSession, bytes: Bytes) -> Result<(), ClientGone> {
    session.write_response_body(bytes, false).await?;
    Ok(())
}

/// Ends a body that was sent in parts.
pub async fn end(session: &mut ServerSession) -> Result<(), ClientGone> {
    taken(timeout(limit(session), session.write_response_body(Bytes::new(), true)).await)
}

/// The head and body of an error.
#[must_use]
pub fn error(error: &Error, dialect: Dialect) -> (Head, Bytes) {
    let mut head = Head::new(error.status());
    head.set(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = error.retry_after {
        head.set(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds(after)));
    }
    if error.hopeless {
        head.set(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(allow) = error.allow {
        head.set(header::ALLOW, HeaderValue::from_static(allow));
    }
    if error.status() == StatusCode::UNAUTHORIZED {
        head.set(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    (head, error.body(dialect))
}

/// Waits for the client to leave. A request that comes early, before the answer to this one, is
/// read away, which ends the connection after this one (RFC 9112, 9.3.2).
pub async fn client_left(session: &mut ServerSession) {
    loop {
        match session.read_body_or_idle(true).await {
            Err(cause) if *cause.etype() == ErrorType::ConnectError => session.set_keepalive(None),
            Ok(_) | Err(_) => return,
        }
    }
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
        let _ = timeout(SMALL_WAIT, drain).await;
    }
}

/// Reads on for a while after an early answer: closing with unread bytes would reset the
/// connection, and the client would lose the answer (RFC 9112, 9.6).
pub async fn linger(session: &mut ServerSession) {
    let drain = async {
        let mut drained = 0;
        let mut next = async || {
            let read = session.read_request_body();
            timeout(MAX_LINGER_PAUSE, read).await.ok()?.ok()?
        };
        while let Some(chunk) = next().await {
            drained += chunk.len();
            if drained > MAX_LINGER_BYTES {
                return;
            }
        }
    };
    // Out of time or of patience: the connection is closed either way.
    let _ = timeout(MAX_LINGER, drain).await;
}
