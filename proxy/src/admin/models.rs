//! What people do about models: `POST /api/models/load`, `unload`, `pin`, `unpin`.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use tokio::time::timeout;

use super::Source;
use crate::error::{Error, Kind};
use crate::session::Session;

/// Where the actions are.
pub(super) const PATH: &str = "/api/models/";
/// The longest body, in bytes.
const MAX_BODY: usize = 4096;
/// How long it may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have it loaded.
    Load,
    /// Have it unloaded once it is idle.
    Unload,
    /// Keep it loaded, over restarts.
    Pin,
    /// Keep it no more.
    Unpin,
}

impl Action {
    /// The action of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "load" => Some(Action::Load),
            "unload" => Some(Action::Unload),
            "pin" => Some(Action::Pin),
            "unpin" => Some(Action::Unpin),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    model: String,
    #[serde(default)]
    upstream: Option<String>,
}

/// Does what a request asks for.
pub(super) async fn act(
    source: &dyn Source,
    session: &mut Session,
    action: Action,
) -> Result<(), Error> {
    let header = &session.head;
    if header.method != Method::POST {
        let mut error = Error::new(Kind::MethodNotAllowed, "this is done with POST");
        error.allow = Some("POST");
        return Err(error.close());
    }
    // A web page that its reader's browser shows could ask for it too.
    let json = |kind: &[u8]| kind.starts_with(b"application/json");
    if header.fields.has("origin") || !header.fields.get("content-type").is_some_and(json) {
        let message = "send it as `content-type: application/json`, and not from a web page";
        return Err(Error::new(Kind::Forbidden, message).close());
    }
    let body = body(session).await?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|cause| {
        let message =
            format!("expected {{\"model\": NAME, \"upstream\": NAME or nothing}}: {cause}");
        Error::new(Kind::InvalidJson, message)
    })?;
    source.act(action, &asked.model, asked.upstream.as_deref()).await
}

async fn body(session: &mut Session) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    let read = async {
        while let Some(part) = session.read().await {
            let cut = |_| Error::new(Kind::InvalidRequest, "the body is not whole").close();
            body.extend_from_slice(&part.map_err(cut)?);
            if body.len() > MAX_BODY {
                return Err(Error::new(Kind::BodyTooLarge, "the body is too large").close());
            }
        }
        Ok(())
    };
    let late = || Error::new(Kind::RequestTimeout, "the body did not come in time").close();
    timeout(BODY_TIMEOUT, read).await.map_err(|_| late())??;
    Ok(body)
}
