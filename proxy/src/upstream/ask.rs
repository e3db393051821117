//! A question of the gateway's own to an upstream: one call, one whole answer, one deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::exchange::{Call, Failure, send};
use super::origin::Origin;
use super::pool::Pool;
use crate::openai::error_text;

/// The largest answer read, in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unanswered {
    /// The exchange failed.
    #[error("{0}")]
    Failed(#[from] Failure),
    /// The upstream answered with an error.
    #[error("{1}")]
    Status(StatusCode, String),
    /// What it answered is no use.
    #[error("{0}")]
    Unusable(String),
}

/// `GET path`: the whole answer, within `wait` in all.
pub async fn get(
    origin: &Origin,
    pool: &Arc<Pool>,
    path: &'static str,
    wait: Duration,
) -> Result<Bytes, Unanswered> {
    call(origin, pool, &Call::get(path), wait).await
}

/// [`get`], read as JSON.
pub async fn get_json<T: DeserializeOwned>(
    origin: &Origin,
    pool: &Arc<Pool>,
    path: &'static str,
    wait: Duration,
) -> Result<T, Unanswered> {
    let bytes = get(origin, pool, path, wait).await?;
    serde_json::from_slice(&bytes)
        .map_err(|cause| Unanswered::Unusable(format!("{path}: not the JSON expected: {cause}")))
}

/// `POST path` with a JSON `body`: the whole answer, within `wait` in all.
pub async fn post(
    origin: &Origin,
    pool: &Arc<Pool>,
    path: &'static str,
    body: &serde_json::Value,
    wait: Duration,
) -> Result<Bytes, Unanswered> {
    let body = Bytes::from(body.to_string());
    let asked = Call {
        method: Method::POST,
        path,
        query: "",
        fields: b"content-type: application/json\r\n",
        body,
    };
    call(origin, pool, &asked, wait).await
}

async fn call(
    origin: &Origin,
    pool: &Arc<Pool>,
    call: &Call<'_>,
    wait: Duration,
) -> Result<Bytes, Unanswered> {
    let deadline = Instant::now() + wait;
    let mut reply = send(origin, pool, call, deadline).await?;
    let (body, more) = reply.collect(MAX_ANSWER, wait, deadline).await?;
    if !reply.status.is_success() {
        return Err(Unanswered::Status(reply.status, error_text(&body, reply.status)));
    }
    if more {
        let path = call.path;
        let text = format!("{path}: the answer is larger than {MAX_ANSWER} bytes");
        return Err(Unanswered::Unusable(text));
    }
    Ok(body)
}
