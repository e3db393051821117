//! `POST /v1/cache/feedback`: a caller says that an answer from the cache was wrong.

use bytes::Bytes;
use http::StatusCode;
use metrics::counter;
use serde::Deserialize;

use super::ctx::Ctx;
use super::state::Snapshot;
use super::{Pipeline, Stop};
use crate::cache::key::Key;
use crate::cache::redis::Unavailable;
use crate::error::{Error, Kind};
use crate::request::body;
use crate::response::downstream::Head;
use crate::session::Session;
use crate::telemetry::names;

/// What a caller says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    /// The answer's `x-cache-entry`.
    entry: String,
    verdict: Verdict,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Wrong,
}

impl Pipeline {
    /// Drops the answer that a caller calls wrong, if it is one of the caller's own.
    pub(super) async fn feedback(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        ctx: &mut Ctx,
    ) -> Result<(Head, Bytes), Stop> {
        let body = body::read(session, &snapshot.config.limits, &self.shared.budget).await?;
        let Feedback { entry, verdict: Verdict::Wrong } = serde_json::from_slice(&body.bytes)
            .map_err(|cause| {
                let expected = r#"{"entry": "<x-cache-entry>", "verdict": "wrong"}"#;
                Error::new(Kind::InvalidRequest, format!("{cause}; expected {expected}"))
            })?;
        let key = Key::parse(&entry).ok_or_else(|| {
            Error::new(Kind::InvalidRequest, "`entry` is no `x-cache-entry`").param("entry")
        })?;
        let owner = super::cache::owner(snapshot, ctx);
        let found = snapshot.cache.find(&key).await.map_err(unavailable)?;
        if found.is_none_or(|found| found.facts.owner != owner) {
            let message = "no answer of yours is kept under this entry";
            return Err(Error::new(Kind::UnknownPath, message).into());
        }
        snapshot.cache.blame(&key).await.map_err(unavailable)?;
        counter!(names::CACHE_BLAMED).increment(1);
        let mut head = Head::new(StatusCode::OK);
        head.set("content-type", "application/json");
        Ok((head, Bytes::from_static(b"{\"deleted\":true}\n")))
    }
}

fn unavailable(_: Unavailable) -> Error {
    Error::new(Kind::Overloaded, "the cache cannot be reached")
        .retry_after(std::time::Duration::from_secs(2))
}
