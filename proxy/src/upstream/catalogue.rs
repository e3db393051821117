//! Which models an upstream has, and whether it can be reached at all.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::ask::{self, Unanswered};
use super::exchange::{Call, send};
use super::origin::Origin;
use super::pool::Pool;
use crate::config::raw::UpstreamKind;
use crate::ollama::{Version, same_model};
use crate::openai::{Model, ModelListIn};

/// A list or a probe that takes longer than this counts as unreachable.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest list read, in bytes.
const MAX_LIST: usize = 16 * 1024 * 1024;

/// What is known of an upstream's models.
#[derive(Debug, Default)]
pub struct Catalogue {
    state: Mutex<State>,
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    models: Option<Arc<Vec<Model>>>,
    version: Option<String>,
    asked: Option<Instant>,
    problem: Option<String>,
    unreachable: Option<String>,
}

/// What is known of an upstream's models, at one time.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The models as last read; `None` while none could be read.
    pub models: Option<Arc<Vec<Model>>>,
    /// Ollama's version.
    pub version: Option<String>,
    /// Why the last reading failed.
    pub problem: Option<String>,
}

impl Listing {
    /// Whether the upstream has `model`; `None` when it is not known what it has.
    #[must_use]
    pub fn has(&self, model: &str) -> Option<bool> {
        has(self.models.as_ref(), model)
    }
}

fn has(models: Option<&Arc<Vec<Model>>>, model: &str) -> Option<bool> {
    Some(models?.iter().any(|one| same_model(&one.id, model)))
}

impl Catalogue {
    /// [`Listing::has`] of what is known now.
    #[must_use]
    pub fn has(&self, model: &str) -> Option<bool> {
        has(self.state.lock().models.as_ref(), model)
    }

    /// What is known now, without asking.
    #[must_use]
    pub fn known(&self) -> Listing {
        let state = self.state.lock();
        Listing {
            models: state.models.clone(),
            version: state.version.clone(),
            problem: state.unreachable.clone().or_else(|| state.problem.clone()),
        }
    }

    /// Notes that the upstream cannot be reached, and why, or that it can be again.
    pub fn reach(&self, unreachable: Option<String>) {
        self.state.lock().unreachable = unreachable;
    }

    /// Why the upstream cannot be reached, if it cannot.
    #[must_use]
    pub fn unreachable(&self) -> Option<String> {
        self.state.lock().unreachable.clone()
    }

    /// Whether the last reading is younger than `age`.
    fn is_younger(&self, age: Duration) -> bool {
        self.state.lock().asked.is_some_and(|at| at.elapsed() < age)
    }

    /// What is known, asking the upstream if that is older than `age`. However many want to know,
    /// one asks.
    pub async fn fresh(&self, origin: &Origin, pool: &Arc<Pool>, age: Duration) -> Listing {
        if !self.is_younger(age) {
            let _one_asks = self.refreshing.lock().await;
            if !self.is_younger(age) {
                self.refresh(origin, pool).await;
            }
        }
        self.known()
    }

    async fn refresh(&self, origin: &Origin, pool: &Arc<Pool>) {
        let models = get_json::<ModelListIn>(origin, pool, "/v1/models").await;
        let version = match (&models, origin.config.kind) {
            (Ok(_), UpstreamKind::Ollama) => {
                get_json::<Version>(origin, pool, "/api/version").await.ok()
            }
            (Ok(_), UpstreamKind::Openai) | (Err(_), _) => None,
        };
        let mut state = self.state.lock();
        state.asked = Some(Instant::now());
        match models {
            Ok(list) => {
                state.models = Some(Arc::new(list.data.unwrap_or_default()));
                state.version = version.map(|answer| answer.version);
                state.problem = None;
            }
            // What it had is still the best guess at what it will have again.
            Err(problem) => state.problem = Some(problem.to_string()),
        }
    }
}

/// Reads a JSON answer from an upstream, within the time for a probe.
pub async fn get_json<T: DeserializeOwned>(
    origin: &Origin,
    pool: &Arc<Pool>,
    path: &'static str,
) -> Result<T, Unanswered> {
    ask::get_json(origin, pool, path, PROBE_TIMEOUT).await
}

/// Reads a whole answer with status 200 from an upstream, within the time for a probe.
pub async fn get(
    origin: &Origin,
    pool: &Arc<Pool>,
    path: &'static str,
) -> Result<bytes::Bytes, Unanswered> {
    ask::get(origin, pool, path, PROBE_TIMEOUT).await
}

/// Whether the upstream answers at all. Ollama's root is its own liveness check; other servers are
/// asked for their models, and any answer but a 5xx will do.
pub async fn is_alive(origin: &Origin, pool: &Arc<Pool>) -> bool {
    let path = match origin.config.kind {
        UpstreamKind::Ollama => "/api/version",
        UpstreamKind::Openai => "/v1/models",
    };
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let Ok(mut reply) = send(origin, pool, &Call::get(path), deadline).await else { return false };
    let alive = !reply.status.is_server_error();
    // Read to its end so that the connection can be used again.
    alive && reply.collect(MAX_LIST, PROBE_TIMEOUT, deadline).await.is_ok()
}
