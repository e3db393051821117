//! Answers of the gateway's own to what it cannot serve.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Version};

use crate::error::{Dialect, Error, retry_after_seconds};
pub use crate::http1::Head;
pub use crate::session::ClientGone;
use crate::session::http1::Http1;

/// `x-request-id`.
pub const X_REQUEST_ID: &str = "x-request-id";
/// Tells the OpenAI SDKs whether a retry makes sense, over their own judgement.
pub const X_SHOULD_RETRY: &str = "x-should-retry";

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
