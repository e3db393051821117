//! Loading and unloading the models of an Ollama, as its own API has it: a request without a prompt
//! loads, one with `keep_alive: 0` unloads.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::ask::{self, Unanswered};
use super::origin::Origin;
use super::pool::Pool;

/// An unload is only noted; the memory comes free later.
const UNLOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How a model is loaded.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// Its name.
    pub model: &'a str,
    /// How long it stays after its last request; none leaves that to Ollama.
    pub keep_alive: Option<KeepAlive>,
    /// What its runner is started with. Another set than its requests have would only make the first
    /// of them load it anew.
    pub options: &'a Map<String, Value>,
}

/// How long a model stays loaded after its last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// For ever.
    Forever,
    /// So long.
    For(Duration),
}

impl KeepAlive {
    /// As it stands on the wire: seconds, negative for ever.
    #[must_use]
    pub fn seconds(self) -> f64 {
        match self {
            KeepAlive::Forever => -1.0,
            KeepAlive::For(time) => time.as_secs_f64(),
        }
    }
}

/// Loads a model, waiting for it no longer than `wait`.
///
/// # Errors
/// Why it is not loaded.
pub async fn load(
    origin: &Origin,
    pool: &Arc<Pool>,
    how: How<'_>,
    wait: Duration,
) -> Result<(), Unanswered> {
    let mut body = json!({ "model": how.model, "stream": false });
    if let Some(keep_alive) = how.keep_alive {
        body["keep_alive"] = json!(keep_alive.seconds());
    }
    if !how.options.is_empty() {
        body["options"] = Value::Object(how.options.clone());
    }
    match ask::post(origin, pool, "/api/generate", &body, wait).await {
        // A model that only embeds.
        Err(Unanswered::Status(StatusCode::BAD_REQUEST, text))
            if text.contains("does not support generate") =>
        {
            body["input"] = json!([]);
            ask::post(origin, pool, "/api/embed", &body, wait).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// Has a model unloaded as soon as it is idle.
///
/// # Errors
/// Why that could not be asked for.
pub async fn unload(origin: &Origin, pool: &Arc<Pool>, model: &str) -> Result<(), Unanswered> {
    let body = json!({ "model": model, "keep_alive": 0, "stream": false });
    ask::post(origin, pool, "/api/generate", &body, UNLOAD_TIMEOUT).await.map(drop)
}
