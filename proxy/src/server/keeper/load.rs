//! One load: what is in the way goes first, then the model comes, and both are looked at.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use metrics::{counter, histogram};
use serde_json::{Map, Value};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::warm;
use crate::admission::Load;
use crate::config::models::NumCtx;
use crate::gpu::Gpu;
use crate::pipeline::backend::Backend;
use crate::pipeline::container;
use crate::pipeline::state::Shared;
use crate::telemetry::names;
use crate::upstream::Pool;
use crate::upstream::ask::Unanswered;
use crate::upstream::loads::{self, How};

/// Longest time for an idle model to be gone.
const EVICTED_WITHIN: Duration = Duration::from_secs(30);
/// Longest time after that for its memory to come free: drivers are slow at it.
const FREE_WITHIN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How a load ended: how long it took, else why there is none.
pub(super) type Outcome = Result<Duration, Unloaded>;

/// Why a model is not loaded.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Unloaded {
    /// Others use what is in its way, or the upstream is busy: no fault of its.
    #[error("{0}")]
    Blocked(String),
    /// It was tried.
    #[error("{0}")]
    Failed(String),
}

/// Does `load` in a task of its own.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    pool: &Arc<Pool>,
    backend: &Arc<Backend>,
    load: Load,
) -> JoinHandle<Outcome> {
    let (shared, pool, backend) = (Arc::clone(shared), Arc::clone(pool), Arc::clone(backend));
    tokio::spawn(async move { Run { shared, pool, backend }.run(&load).await })
}

struct Run {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    backend: Arc<Backend>,
}

impl Run {
    async fn run(&self, load: &Load) -> Outcome {
        // A container may have been stopped meanwhile.
        container::start(&self.shared, &self.pool, &self.backend)
            .await
            .map_err(|cause| Unloaded::Blocked(cause.to_string()))?;
        for model in &load.evict {
            if let Err(blocked) = self.evict(model, &load.model).await {
                self.note_failure(load, &blocked);
                return Err(blocked);
            }
        }
        if !load.evict.is_empty() {
            self.await_memory(load.need).await;
        }
        let started = Instant::now();
        let loaded = self.load(&load.model).await;
        let took = started.elapsed();
        let result = if loaded.is_ok() { "loaded" } else { "failed" };
        let upstream = || self.backend.name().to_owned();
        counter!(names::LOADS, "upstream" => upstream(), "result" => result).increment(1);
        if let Err(why) = loaded {
            self.note_failure(load, &why);
            return Err(why);
        }
        histogram!(names::LOAD_SECONDS, "upstream" => upstream()).record(took);
        let part = match self.backend.residency.of(&load.model).partial {
            Some(true) => ", partly on the CPU",
            Some(false) | None => "",
        };
        let what = format!("loaded in {:.1} s{part}", took.as_secs_f64());
        self.shared.events.note(self.backend.name(), Some(&load.model), what);
        Ok(took)
    }

    fn note_failure(&self, load: &Load, why: &Unloaded) {
        let what = format!("could not be loaded: {why}");
        self.shared.events.note(self.backend.name(), Some(&load.model), what);
    }

    async fn evict(&self, model: &str, for_model: &str) -> Result<(), Unloaded> {
        let backend = &self.backend;
        let failed = |why: String| {
            let in_the_way = "which is in its way, could not be evicted";
            Unloaded::Blocked(format!("`{model}`, {in_the_way}: {why}"))
        };
        let gone = unload(&self.shared, &self.pool, backend, model, EVICTED_WITHIN).await;
        if !gone.map_err(|cause| failed(cause.to_string()))? {
            return Err(failed("it is still in use".into()));
        }
        counter!(names::EVICTIONS, "upstream" => backend.name().to_owned()).increment(1);
        self.shared.events.note(backend.name(), Some(model), format!("evicted for {for_model}"));
        Ok(())
    }

    /// Waits until the GPUs show the memory as free. It goes on without: Ollama looks for itself.
    async fn await_memory(&self, need: u64) {
        let evicted = Instant::now();
        while evicted.elapsed() < FREE_WITHIN {
            let Some((gpus, taken)) = self.backend.gpus_read(&self.shared.gpus) else { return };
            let free: u64 = gpus.iter().map(Gpu::memory_free).sum();
            let total: u64 = gpus.iter().map(|gpu| gpu.memory_total).sum();
            if taken > evicted && (free >= need || need > total) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn load(&self, model: &str) -> Result<(), Unloaded> {
        let backend = &self.backend;
        let options = runner_options(backend, model);
        let keep_alive = warm::keep_alive(backend, model);
        let how = How { model, keep_alive, options: &options };
        let wait = backend.origin.config.timeouts.first_byte.0;
        loads::load(&backend.origin, &self.pool, how, wait).await.map_err(|cause| match cause {
            Unanswered::Status(StatusCode::SERVICE_UNAVAILABLE, why) => Unloaded::Blocked(why),
            other => Unloaded::Failed(other.to_string()),
        })?;
        let failed = |why: &str| Err(Unloaded::Failed(why.to_owned()));
        let asked = backend.refresh_residency(&self.shared.gpus, &self.pool).await;
        match asked.map(|()| backend.residency.of(model).resident) {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false) | None) => failed("Ollama said it was loaded, and does not list it"),
            Err(cause) => failed(&format!("it cannot be seen whether it is loaded: {cause}")),
        }
    }
}

/// Has `model` unloaded, and looks for `limit` at most whether it is gone.
///
/// # Errors
/// When the upstream could not be told.
pub(super) async fn unload(
    shared: &Shared,
    pool: &Arc<Pool>,
    backend: &Backend,
    model: &str,
    limit: Duration,
) -> Result<bool, Unanswered> {
    loads::unload(&backend.origin, pool, model).await?;
    let deadline = Instant::now() + limit;
    loop {
        // What cannot be asked is still there as far as anybody knows.
        let asked = backend.refresh_residency(&shared.gpus, pool).await;
        if asked.is_ok() && backend.residency.of(model).resident == Some(false) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What requests for `model` run with: loaded otherwise, the first of them would load it anew.
pub(super) fn runner_options(backend: &Backend, model: &str) -> Map<String, Value> {
    let Some(runner) = backend.runner(model) else { return Map::new() };
    runner.options(match runner.num_ctx {
        Some(NumCtx::Tokens(tokens)) => Some(tokens),
        Some(NumCtx::Auto(_)) => backend.context(model),
        None => None,
    })
}
