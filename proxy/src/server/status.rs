//! What the admin listener reads: gauges are taken when they are asked for.

use std::sync::Arc;

use async_trait::async_trait;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use super::keeper::{Command, Commands, Refusal};
use crate::admin::models::Action;
use crate::admin::state::{LeftAlone, ModelStatus, QueueStatus, UpstreamStatus};
use crate::admin::{Readiness, Source};
use crate::admission::Headroom;
use crate::breaker::{self, State};
use crate::cache::Cache;
use crate::config::raw::UpstreamKind;
use crate::config::units::Secret;
use crate::error::{Error, Kind};
use crate::gpu::{Gpu, Point, Report};
use crate::ollama::plain;
use crate::pipeline::backend::Backend;
use crate::pipeline::state::Shared;
use crate::plugin::record::Decision;
use crate::telemetry::events::Event;
use crate::telemetry::names;
use crate::upstream::container;
use crate::upstream::residency::Loaded;

/// Models of one upstream in the metrics.
const MAX_MODELS: usize = 128;

pub(super) struct Status {
    shared: Arc<Shared>,
    metrics: PrometheusHandle,
    draining: watch::Receiver<bool>,
    commands: Arc<Commands>,
}

impl Status {
    pub(super) fn new(
        shared: &Arc<Shared>,
        metrics: &PrometheusHandle,
        draining: watch::Receiver<bool>,
        commands: &Arc<Commands>,
    ) -> Self {
        let (shared, commands) = (Arc::clone(shared), Arc::clone(commands));
        Self { shared, metrics: metrics.clone(), draining, commands }
    }

    fn take_gauges(&self) {
        gauge!(names::CONNECTIONS).set(self.shared.connections.open() as f64);
        gauge!(names::BODY_BYTES).set(self.shared.budget.used() as f64);
        self.take_gpu_gauges();
        for backend in &self.shared.snapshot.load().backends {
            let of = |name| gauge!(name, "upstream" => backend.name().to_owned());
            of(names::IN_FLIGHT).set(backend.gate.in_flight() as f64);
            of(names::WAITING).set(backend.gate.waiting() as f64);
            of(names::BREAKER).set(match backend.breaker.state() {
                State::Closed => 0.0,
                State::HalfOpen => 1.0,
                State::Open => 2.0,
            });
            let known = backend.catalogue.known();
            let up = known.problem.is_none() && known.models.is_some();
            of(names::UP).set(f64::from(u8::from(up)));
            let headroom = backend.headroom(&self.shared.gpus);
            of(names::HEADROOM).set(headroom.map_or(f64::NAN, |bytes| bytes as f64));
            if let Some(container) = &backend.container {
                of(names::CONTAINER_UP)
                    .set(f64::from(u8::from(container.state() == container::State::Running)));
            }
            take_model_gauges(backend);
        }
    }
}

impl Status {
    fn take_gpu_gauges(&self) {
        for gpu in &self.shared.gpus.latest().gpus {
            let of = |name| gauge!(name, "gpu" => gpu.id.clone(), "name" => gpu.name.clone());
            of(names::GPU_MEMORY_USED).set(gpu.memory_used as f64);
            of(names::GPU_MEMORY_TOTAL).set(gpu.memory_total as f64);
            let readings = [
                (names::GPU_UTILIZATION, gpu.utilization),
                (names::GPU_TEMPERATURE, gpu.temperature),
                (names::GPU_POWER, gpu.power),
            ];
            for (name, value) in readings {
                // What cannot be read is not zero.
                of(name).set(value.unwrap_or(f64::NAN));
            }
        }
        if let Some(age) = self.shared.gpus.age() {
            gauge!(names::GPU_AGE).set(age.as_secs_f64());
        }
    }
}

/// What is loaded, and how much of it is on GPUs. What is not loaded takes no bytes, and no share of it is
/// anywhere; of what is not known nothing is told.
fn take_model_gauges(backend: &Backend) {
    let seen = backend.residency.seen();
    let figures = backend.figures.load();
    let mut all: Vec<&str> = figures.iter().map(|(name, _)| name).collect();
    all.sort_unstable();
    for model in all.into_iter().take(MAX_MODELS) {
        let of = |name| gauge!(name, "upstream" => backend.name().to_owned(), "model" => model.to_owned());
        let loaded = seen.as_ref().map(|seen| seen.models.iter().find(|one| *one.name == *model));
        let share = |one: &Loaded| one.size_vram as f64 / one.size.max(1) as f64;
        let bytes = loaded.map(|one| one.map_or(0.0, |one| one.size_vram as f64));
        of(names::RESIDENT_BYTES).set(bytes.unwrap_or(f64::NAN));
        let ratio = loaded.flatten().map(share);
        of(names::RESIDENT_RATIO).set(ratio.unwrap_or(f64::NAN));
    }
}

#[async_trait]
impl Source for Status {
    fn metrics(&self) -> String {
        self.take_gauges();
        self.metrics.render()
    }

    fn readiness(&self) -> Readiness {
        if *self.draining.borrow() {
            return Readiness { ready: false, reason: "draining" };
        }
        let snapshot = self.shared.snapshot.load();
        let open = |one: &Arc<Backend>| one.breaker.state() == State::Open;
        let lost =
            |one: &Arc<Backend>| one.container.is_none() && one.catalogue.unreachable().is_some();
        let backends = &snapshot.backends;
        let why = if backends.iter().all(open) {
            Some("every upstream's breaker is open")
        } else if backends.iter().all(|one| open(one) || lost(one)) {
            Some("no upstream can be reached")
        } else {
            None
        };
        Readiness { ready: why.is_none(), reason: why.unwrap_or("serving") }
    }

    fn upstreams(&self) -> Vec<UpstreamStatus> {
        let snapshot = self.shared.snapshot.load();
        snapshot.backends.iter().map(|one| upstream(&self.shared, one)).collect()
    }

    fn decisions(&self) -> Vec<Arc<Decision>> {
        self.shared.decisions.last()
    }

    fn config_problem(&self) -> Option<Arc<String>> {
        self.shared.config_problem.load_full()
    }

    fn decision(&self, id: &str) -> Option<Arc<Decision>> {
        self.shared.decisions.get(id)
    }

    fn gpus(&self) -> Report {
        self.shared.gpus.report()
    }

    fn gpu_history(&self) -> Vec<Point> {
        self.shared.gpus.history()
    }

    fn models(&self) -> Vec<ModelStatus> {
        let snapshot = self.shared.snapshot.load();
        snapshot.backends.iter().flat_map(|one| models(one)).collect()
    }

    fn queues(&self) -> Vec<QueueStatus> {
        let snapshot = self.shared.snapshot.load();
        let queue = |backend: &Arc<Backend>| QueueStatus {
            upstream: backend.name().to_owned(),
            line: backend.gate.report(),
        };
        snapshot.backends.iter().map(queue).collect()
    }

    fn events(&self) -> Vec<Arc<Event>> {
        self.shared.events.last()
    }

    async fn act(&self, action: Action, model: &str, upstream: Option<&str>) -> Result<(), Error> {
        let upstream = match upstream {
            Some(upstream) => upstream.to_owned(),
            None => self.only_upstream_of(model)?,
        };
        let named = Arc::from(model);
        let command = match action {
            Action::Load => Command::Load(named),
            Action::Unload => Command::Unload(named),
            Action::Pin => Command::Pin(named),
            Action::Unpin => Command::Unpin(named),
        };
        self.commands.give(&upstream, command).await.map_err(|refusal| {
            let kind = match &refusal {
                Refusal::NoUpstream | Refusal::NoModel => Kind::ModelNotFound,
                Refusal::Busy(_) => Kind::Overloaded,
                Refusal::Failed(_) => Kind::BadGateway,
            };
            let pinned =
                self.shared.learned.pins(&upstream).iter().any(|pin| **pin == *plain(model));
            let loading = matches!(refusal, Refusal::Busy(_) | Refusal::Failed(_));
            let done = match action {
                Action::Pin if pinned && loading => "it is pinned, but not loaded yet: ",
                _ => "",
            };
            Error::new(kind, format!("`{model}` at `{upstream}`: {done}{refusal}"))
        })
    }

    fn cache(&self) -> Arc<Cache> {
        Arc::clone(&self.shared.snapshot.load().cache)
    }

    fn token(&self) -> Option<Secret> {
        self.shared.snapshot.load().config.admin_token.clone()
    }
}

impl Status {
    /// The only Ollama that has `model`.
    fn only_upstream_of(&self, model: &str) -> Result<String, Error> {
        let snapshot = self.shared.snapshot.load();
        let has = |backend: &&Arc<Backend>| backend.figures.load().get(model).is_some();
        let having: Vec<&str> =
            snapshot.backends.iter().filter(has).map(|one| one.name()).collect();
        match &having[..] {
            [only] => Ok((*only).to_owned()),
            [] => {
                let message = format!("no Ollama among the upstreams has `{model}`");
                Err(Error::new(Kind::ModelNotFound, message))
            }
            several => {
                let message = format!(
                    "several upstreams have `{model}`; name one with `--upstream`: {}",
                    several.join(", ")
                );
                Err(Error::new(Kind::InvalidRequest, message))
            }
        }
    }
}

fn upstream(shared: &Shared, backend: &Backend) -> UpstreamStatus {
    let known = backend.catalogue.known();
    let config = &backend.origin.config;
    let asked = known.problem.is_some() || known.models.is_some();
    let gpus = backend.gpus(&shared.gpus);
    let room = backend.room(&shared.gpus);
    let sum = |of: fn(&Gpu) -> u64| gpus.as_ref().map(|gpus| gpus.iter().map(of).sum());
    UpstreamStatus {
        name: config.name.clone(),
        kind: match config.kind {
            UpstreamKind::Ollama => "ollama",
            UpstreamKind::Openai => "openai",
        }
        .to_owned(),
        url: format!("{}{}", config.origin.to_string().trim_end_matches('/'), config.base_path),
        version: known.version,
        reachable: asked.then_some(known.problem.is_none()),
        problem: known.problem,
        breaker: backend.breaker.state().as_str().to_owned(),
        breaker_reason: backend.breaker.reason().map(|reason| reason.to_string()),
        left_alone: backend.breakers.left_alone().into_iter().map(left_alone).collect(),
        in_flight: backend.gate.in_flight(),
        waiting: backend.gate.waiting(),
        max_concurrent: config.max_concurrent,
        vram_total: config.vram.or_else(|| sum(|gpu| gpu.memory_total)),
        vram_used: sum(|gpu| gpu.memory_used).or_else(|| backend.residency.vram()),
        headroom: room.map(Headroom::total),
        idle: room.map(|room| room.idle),
        container: backend
            .container
            .as_ref()
            .map(|container| container.state().as_str().to_owned()),
        models: known.models.map(|all| all.iter().map(|one| one.id.clone()).collect()),
    }
}

fn left_alone(one: breaker::LeftAlone) -> LeftAlone {
    let why = one.reason.map(|reason| reason.to_string()).unwrap_or_default();
    LeftAlone { model: one.model.to_string(), why }
}

fn models(backend: &Backend) -> Vec<ModelStatus> {
    let seen = backend.residency.seen();
    let loaded = |name: &str| seen.as_ref()?.models.iter().find(|one| &*one.name == name);
    let figures = backend.figures.load();
    let mut all: Vec<ModelStatus> = figures
        .iter()
        .map(|(name, figure)| {
            let loaded = loaded(name);
            let speed = backend.speeds.of(name);
            ModelStatus {
                upstream: backend.name().to_owned(),
                model: name.to_owned(),
                digest: figure.digest.clone(),
                resident: loaded.is_some(),
                partial: loaded.is_some_and(|one| one.partial),
                pinned: backend.is_pinned(name),
                size: loaded.map(|one| one.size),
                size_vram: loaded.map(|one| one.size_vram),
                context: loaded.and_then(|one| one.context),
                expires_in: loaded.and_then(|one| one.expires_in).map(|left| left.as_secs()),
                need: figure.need,
                learned: figure.learned,
                load_seconds: figure.load.map(|time| time.as_secs_f64()),
                decode_per_second: speed.decode,
                prompt_per_second: speed.prompt,
                in_flight: backend.gate.in_flight_of(name),
            }
        })
        .collect();
    all.sort_by(|a, b| (!a.resident, &a.model).cmp(&(!b.resident, &b.model)));
    all
}
