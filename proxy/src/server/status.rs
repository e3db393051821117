//! What the admin listener reads: gauges are taken when they are asked for.

use std::sync::Arc;

use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::admin::{Readiness, Source, UpstreamStatus};
use crate::breaker::State;
use crate::cache::Cache;
use crate::config::raw::UpstreamKind;
use crate::config::units::Secret;
use crate::gpu::Report;
use crate::pipeline::state::{Backend, Shared};
use crate::plugin::record::Decision;
use crate::telemetry::names;

pub(super) struct Status {
    shared: Arc<Shared>,
    metrics: PrometheusHandle,
    draining: watch::Receiver<bool>,
}

impl Status {
    pub(super) fn new(
        shared: &Arc<Shared>,
        metrics: &PrometheusHandle,
        draining: watch::Receiver<bool>,
    ) -> Self {
        Self { shared: Arc::clone(shared), metrics: metrics.clone(), draining }
    }

    fn take_gauges(&self) {
        gauge!(names::CONNECTIONS).set(self.shared.connections.open() as f64);
        gauge!(names::BODY_BYTES).set(self.shared.budget.used() as f64);
        self.take_gpu_gauges();
        for backend in &self.shared.snapshot.load().backends {
            let of = |name| gauge!(name, "upstream" => backend.name().to_owned());
            of(names::IN_FLIGHT).set(backend.slots.in_flight() as f64);
            of(names::WAITING).set(backend.slots.waiting() as f64);
            of(names::BREAKER).set(match backend.breaker.state() {
                State::Closed => 0.0,
                State::HalfOpen => 1.0,
                State::Open => 2.0,
            });
            let known = backend.catalogue.known();
            let up = known.problem.is_none() && known.models.is_some();
            of(names::UP).set(f64::from(u8::from(up)));
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
        let any = snapshot.backends.iter().any(|one| one.breaker.state() != State::Open);
        let reason = if any { "serving" } else { "every upstream's breaker is open" };
        Readiness { ready: any, reason }
    }

    fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.shared.snapshot.load().backends.iter().map(|one| upstream(one)).collect()
    }

    fn decision(&self, id: &str) -> Option<Arc<Decision>> {
        self.shared.decisions.get(id)
    }

    fn gpus(&self) -> Report {
        self.shared.gpus.report()
    }

    fn cache(&self) -> Arc<Cache> {
        Arc::clone(&self.shared.snapshot.load().cache)
    }

    fn token(&self) -> Option<Secret> {
        self.shared.snapshot.load().config.admin_token.clone()
    }
}

fn upstream(backend: &Backend) -> UpstreamStatus {
    let known = backend.catalogue.known();
    let config = &backend.origin.config;
    let asked = known.problem.is_some() || known.models.is_some();
    UpstreamStatus {
        name: config.name.clone(),
        kind: match config.kind {
            UpstreamKind::Ollama => "ollama",
            UpstreamKind::Openai => "openai",
        },
        url: format!("{}{}", config.origin.to_string().trim_end_matches('/'), config.base_path),
        version: known.version,
        reachable: asked.then_some(known.problem.is_none()),
        problem: known.problem,
        breaker: backend.breaker.state().as_str(),
        in_flight: backend.slots.in_flight(),
        waiting: backend.slots.waiting(),
        max_concurrent: config.max_concurrent,
        models: known.models.map(|all| all.iter().map(|one| one.id.clone()).collect()),
    }
}
