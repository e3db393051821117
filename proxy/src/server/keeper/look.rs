//! What is seen of an Ollama's memory at every poll, and what follows from it: figures for routing,
//! the memory that admission may use, the state of the breaker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::load::{Outcome, Unloaded};
use super::{remote, warm};
use crate::admission::{Memory, Resident};
use crate::breaker::Reason;
use crate::breaker::conditions::{Conditions, Limits, Reading, Trip};
use crate::config::admission::{self, Admission};
use crate::config::models::NumCtx;
use crate::gpu::Gpu;
use crate::ollama::same_model;
use crate::pipeline::backend::Backend;
use crate::pipeline::state::Shared;
use crate::upstream::ask::Unanswered;
use crate::upstream::digests::Tag;
use crate::upstream::figures::{Figure, Figures};
use crate::upstream::learned::{self, Key};
use crate::upstream::residency::{Loaded, Measured, Seen};
use crate::upstream::{Failure, Pool};

/// How often it is looked which models an Ollama has.
const TAGS_EVERY: Duration = Duration::from_secs(10);
/// Answers this slow against what was learned have collapsed.
const DECODE_COLLAPSE: f64 = 0.25;
/// Looks in a row without an answer, of two seconds each, until an upstream is taken to hang.
const HANGS_AFTER: u32 = 2;
/// Loads that fail one after another before the upstream is left alone.
const FAILED_LOADS: u32 = 2;

/// Looks at one Ollama, and remembers what it needs to judge.
#[derive(Debug, Default)]
pub(super) struct Looker {
    conditions: Option<Conditions>,
    warned: Option<&'static str>,
    /// Looks in a row that got no answer in time.
    silent: u32,
}

impl Looker {
    /// Looks once.
    pub(super) async fn look(
        &mut self,
        shared: &Arc<Shared>,
        pool: &Arc<Pool>,
        backend: &Arc<Backend>,
    ) {
        let origin = &backend.origin;
        let asked = backend.residency.refresh(origin, pool).await;
        if asked.is_ok() {
            backend.digests.fresh(origin, pool, TAGS_EVERY).await;
        }
        self.note_hang(shared, backend, asked.err().as_ref());
        remote::refresh(backend, pool).await;
        let gpus = backend.gpus(&shared.gpus);
        let seen = backend.residency.seen();
        if let Some(seen) = seen.as_deref() {
            learn(shared, backend, seen);
        }
        let memory =
            seen.as_deref().map(|seen| Self::memory(shared, backend, seen, gpus.as_deref()));
        backend.figures.store(Arc::new(figures(shared, backend, memory.as_ref())));
        backend.gate.know(memory.map(|known| known.memory));
        let reading = gpus.as_deref().map(|gpus| reading(shared, backend, gpus));
        self.judge(shared, backend, reading.as_ref());
    }

    /// Has requests look elsewhere that wait for an upstream which answers nothing any more. One
    /// that is down says so itself, with every connection.
    fn note_hang(&mut self, shared: &Shared, backend: &Backend, failure: Option<&Unanswered>) {
        let silent = matches!(failure, Some(Unanswered::Failed(Failure::FirstByteTimeout)));
        self.silent = if silent { self.silent.saturating_add(1) } else { 0 };
        let hangs = self.silent >= HANGS_AFTER;
        let changed =
            backend.hangs.send_if_modified(|known| std::mem::replace(known, hangs) != hangs);
        if hangs {
            backend.breaker.trip(Reason::Errors);
        }
        if changed && hangs {
            let what = "it hangs: it answers nothing, not even what it has loaded";
            shared.events.note(backend.name(), None, what.into());
        }
    }

    /// What admission may go by.
    fn memory(shared: &Shared, backend: &Backend, seen: &Seen, gpus: Option<&[Gpu]>) -> Known {
        let reserve = shared.snapshot.load().config.admission.vram.reserve.0;
        let taken: u64 = seen.models.iter().map(|one| one.size_vram).sum();
        let declared = backend.origin.config.vram.map(|vram| vram.saturating_sub(taken));
        let measured = gpus.map(|gpus| gpus.iter().map(Gpu::memory_free).sum());
        let free: Option<u64> = declared.or(measured);
        let free = free.map(|free: u64| free.saturating_sub(reserve));
        let residents = seen.models.iter().map(|one| resident(shared, backend, one)).collect();
        let memory = Memory { free: free.unwrap_or(0), residents };
        let pinned = |one: &&Resident| !one.pinned;
        let movable: u64 = memory.residents.iter().filter(pinned).map(|one| one.vram).sum();
        Known { capacity: free.map(|free| free.saturating_add(movable)), memory }
    }

    /// Has the breaker know what the GPUs say.
    fn judge(&mut self, shared: &Shared, backend: &Backend, reading: Option<&Reading>) {
        let snapshot = shared.snapshot.load();
        let limits = limits(&snapshot.config.admission);
        let conditions = self.conditions.get_or_insert_with(|| Conditions::new(limits));
        conditions.configure(limits);
        let held = conditions.read(reading, Instant::now());
        backend.breaker.hold(held.reason);
        self.judge_speeds(shared, backend);
        let kind = held.warning.as_ref().map(|warning| warning.as_str());
        if let Some(warning) = held.warning.filter(|_| kind != self.warned) {
            shared.events.note(backend.name(), None, format!("warning: {warning}"));
        }
        self.warned = kind;
    }

    /// Has the breaker know of answers far slower than usual, and learns from all.
    fn judge_speeds(&mut self, shared: &Shared, backend: &Backend) {
        let Some((conditions, seen)) = self.conditions.as_mut().zip(backend.residency.seen())
        else {
            return;
        };
        for Measured { model, speed, at_once } in backend.speeds.take_recent() {
            let Some(loaded) = seen.models.iter().find(|one| same_model(&one.name, &model)) else {
                continue;
            };
            let key = key(backend, &loaded.digest, loaded.context);
            let usual = shared.learned.usual_speed(&key);
            let now = Instant::now();
            // Answers given at one time share the GPU, and together are no slower than one alone.
            let together = speed.decode.map(|decode| decode * at_once.max(1) as f64);
            let tripped =
                together.and_then(|decode| conditions.decoded(&model, decode, usual, now));
            shared.learned.speed(&key, &loaded.name, speed.decode, speed.prompt);
            if let Some(reason) = tripped {
                shared.events.note(backend.name(), Some(&model), format!("left alone: {reason}"));
                backend.breaker.trip(reason);
            }
        }
    }

    /// Has the breaker know how a load ended.
    pub(super) fn load_ended(
        &mut self,
        shared: &Shared,
        backend: &Backend,
        model: &str,
        outcome: &Outcome,
    ) {
        let Some(conditions) = &mut self.conditions else { return };
        let ok = match outcome {
            Ok(()) => true,
            Err(Unloaded::Failed(_)) => false,
            Err(Unloaded::Blocked(_)) => return,
        };
        if let Some(reason) = conditions.load_ended(ok, Instant::now()) {
            shared.events.note(backend.name(), Some(model), format!("left alone: {reason}"));
            backend.breaker.trip(reason);
        }
    }
}

/// Memory as admission sees it.
struct Known {
    memory: Memory,
    /// Bytes a model could take with everything else evicted; none where nothing is measured.
    capacity: Option<u64>,
}

fn limits(admission: &Admission) -> Limits {
    let Admission { vram, temperature, .. } = admission;
    Limits {
        trip: match vram.trip {
            admission::Trip::Headroom => Trip::Headroom,
            admission::Trip::Percent => Trip::Percent,
        },
        warn: vram.warn.0,
        critical: vram.critical.0,
        recover: vram.recover.0,
        reserve: vram.reserve.0,
        trip_after: vram.trip_after.0,
        recover_after: vram.recover_after.0,
        heat_warn: temperature.warn.0,
        heat_critical: temperature.critical.0,
        decode_collapse: DECODE_COLLAPSE,
        failed_loads: FAILED_LOADS,
    }
}

/// The GPUs as the breaker sees them; what the models of all upstreams on them take is explained.
fn reading(shared: &Shared, backend: &Backend, gpus: &[Gpu]) -> Reading {
    let snapshot = shared.snapshot.load();
    let on_them =
        snapshot.backends.iter().filter(|one| one.is_ollama() && one.shares_gpus(backend));
    let explained = on_them.map(|one| one.residency.vram()).sum();
    let hottest = gpus.iter().filter_map(|gpu| gpu.temperature).max_by(f64::total_cmp);
    Reading {
        used: gpus.iter().map(|gpu| gpu.memory_used).sum(),
        total: gpus.iter().map(|gpu| gpu.memory_total).sum(),
        explained,
        temperature: hottest,
    }
}

fn resident(shared: &Shared, backend: &Backend, one: &Loaded) -> Resident {
    Resident {
        model: Arc::clone(&one.name),
        vram: one.size_vram,
        partial: one.is_partial(),
        since: one.since,
        pinned: warm::is_pinned(shared, backend, &one.name),
        reload: shared.learned.load_time(&one.digest),
    }
}

/// Figures of what is learned are kept by what they depend on.
fn key(backend: &Backend, digest: &str, context: Option<u64>) -> Key {
    let parallel = u32::try_from(backend.origin.config.max_concurrent).unwrap_or(u32::MAX);
    Key { digest: digest.to_owned(), context: context.unwrap_or(0), parallel }
}

fn learn(shared: &Shared, backend: &Backend, seen: &Seen) {
    for one in &seen.models {
        let key = key(backend, &one.digest, one.context);
        shared.learned.resident(&key, &one.name, one.size, one.size_vram);
    }
}

/// Takes in how long a model took to load, and what of the memory was gone after it.
pub(super) fn learn_load(
    shared: &Shared,
    backend: &Backend,
    model: &str,
    took: Duration,
    delta: Option<u64>,
) {
    let Some(seen) = backend.residency.seen() else { return };
    if let Some(one) = seen.models.iter().find(|one| &*one.name == model) {
        let key = key(backend, &one.digest, one.context);
        shared.learned.loaded(&key, &one.name, took, delta);
    }
}

fn figures(shared: &Shared, backend: &Backend, known: Option<&Known>) -> Figures {
    let Some(tags) = backend.digests.all() else { return Figures::default() };
    let capacity = known.and_then(|known| known.capacity);
    Figures::new(
        tags.iter()
            .map(|(name, tag)| (name.clone(), figure(shared, backend, tag, (name, capacity)))),
    )
}

fn figure(
    shared: &Shared,
    backend: &Backend,
    tag: &Tag,
    (name, capacity): (&str, Option<u64>),
) -> Figure {
    let context = backend.runner(name).and_then(|runner| match runner.options.num_ctx {
        Some(NumCtx::Tokens(tokens)) => Some(tokens),
        Some(NumCtx::Auto(_)) | None => None,
    });
    let Key { parallel, .. } = key(backend, &tag.digest, context);
    let learned = shared.learned.footprint(&tag.digest, context, parallel);
    // An estimate is no evidence: one that is a little too large is tried all the same.
    let estimated = |capacity: u64| learned::estimate(tag.size).min(capacity).max(tag.size);
    let need = capacity
        .filter(|_| !tag.remote)
        .map(|capacity| learned.unwrap_or_else(|| estimated(capacity)));
    let load = shared.learned.load_time(&tag.digest);
    Figure { digest: tag.digest.clone(), need, learned: learned.is_some(), load }
}
