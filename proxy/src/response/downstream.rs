//! Answers that end a request early: their head and body, and what becomes of what was not read.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Version};
use tokio::time::timeout;

use crate::error::{Dialect, Error, retry_after_seconds};
pub use crate::http1::Head;
pub use crate::session::ClientGone;
use crate::session::http1::Http1;
use crate::session::{Session, expects_continue};

/// `x-request-id`.
pub const X_REQUEST_ID: &str = "x-request-id";
/// Tells the OpenAI SDKs whether a retry makes sense, over their own judgement.
pub const X_SHOULD_RETRY: &str = "x-should-retry";

/// The largest unread body that is worth reading to keep its connection, in bytes.
const SMALL_BODY: usize = 64 * 1024;
/// The longest wait for it.
const SMALL_WAIT: Duration = Duration::from_millis(500);
/// The most of an unread body that is drained so that the client can read an early answer.
const MAX_LINGER_BYTES: usize = 256 * 1024 * 1024;
/// The longest time for it, and for each part of it.
const MAX_LINGER: Duration = Duration::from_secs(60);
const MAX_LINGER_PAUSE: Duration = Duration::from_secs(5);
/// Tells why a request could not even be read; the connection is of no further use.
pub async fn unreadable(mut connection: Http1, cause: &Error, limit: Duration) {
    connection.end_connection();
    let (mut head, body) = error(cause, Dialect::OpenAi);
    head.set("content-length", body.len().to_string());
    // Whatever the sender is, it may be gone already.
    if connection.send(head, body, Version::HTTP_11, limit).await.is_ok() {
        connection.finish().await;
    }
}

/// The head and body of an error.
#[must_use]
pub fn error(error: &Error, dialect: Dialect) -> (Head, Bytes) {
    let mut head = Head::new(error.status());
    head.set("content-type", "application/json");
    if let Some(after) = error.retry_after {
        head.set("retry-after", retry_after_seconds(after).to_string());
    }
    if error.hopeless {
        head.set(X_SHOULD_RETRY, "false");
    }
    if let Some(allow) = error.allow {
        head.set("allow", allow);
    }
    if error.status() == StatusCode::UNAUTHORIZED {
        head.set("www-authenticate", "Bearer");
    }
    (head, error.body(dialect))
}

/// Reads and drops the rest of a small body, so that its connection can be used again after an
/// early answer. What is large, or would only be sent when asked for, is left alone.
pub async fn discard_small(session: &mut Session) {
    let announced = session.head.fields.text("content-length");
    let length = announced.and_then(|text| text.parse::<usize>().ok());
    if length.is_some_and(|length| length <= SMALL_BODY) && !expects_continue(&session.head) {
        let drain = async { while let Some(Ok(_)) = session.read().await {} };
        // A body that does not come costs its connection, as a large one does.
        let _ = timeout(SMALL_WAIT, drain).await;
    }
}

/// Reads on for a while after an early answer: closing with unread bytes would reset the
/// connection, and the client would lose the answer (RFC 9112, 9.6).
pub async fn linger(session: &mut Session) {
    let drain = async {
        let mut drained = 0;
        let mut next = async || timeout(MAX_LINGER_PAUSE, session.read()).await.ok()?;
        while let Some(Ok(chunk)) = next().await {
            drained += chunk.len();
            if drained > MAX_LINGER_BYTES {
                return;
            }
        }
    };
    // Out of time or of patience: the connection is closed either way.
    let _ = timeout(MAX_LINGER, drain).await;
}
