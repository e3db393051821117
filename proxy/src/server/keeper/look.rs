//! What is seen of an Ollama's memory at every poll, and what follows from it: figures for routing,
//! the memory that admission may use, the state of the breaker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::{Ledger, Shown};
use super::load::{Outcome, Unloaded};
use super::remote;
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
/// Looks in a row without a connection until an upstream cannot be reached.
const LOST_AFTER: u32 = 2;
/// Loads that are remembered until the GPUs show what they took.
const MAX_UNSEEN: usize = 16;
/// Loads that fail one after another before the upstream is left alone.
const FAILED_LOADS: u32 = 2;

/// Looks at one Ollama, and remembers what it needs to judge.
#[derive(Debug, Default)]
pub(super) struct Looker {
    conditions: Option<Conditions>,
    warned: Option<&'static str>,
    /// Looks in a row that got no answer in time.
    silent: u32,
    /// Looks in a row at which no connection was to be had.
    refused: u32,
    /// The GPUs of another machine could not be read when last tried.
    remote_lost: bool,
    ledger: Ledger,
    /// Models that were loaded and how long that took; what they take is not seen yet.
    loaded: Vec<(Arc<str>, Duration)>,
}

impl Looker {
    /// Looks once; gives whether the upstream answered.
    pub(super) async fn look(
        &mut self,
        shared: &Arc<Shared>,
        pool: &Arc<Pool>,
        backend: &Arc<Backend>,
    ) -> bool {
        let origin = &backend.origin;
        let asked = backend.refresh_residency(&shared.gpus, pool).await;
        let asked_well = asked.is_ok();
        if asked_well {
            backend.digests.fresh(origin, pool, TAGS_EVERY).await;
        }
        self.note_reach(shared, pool, backend, asked.as_ref().err()).await;
        self.note_hang(shared, backend, asked.err().as_ref());
        self.note_remote(backend, remote::refresh(backend, pool).await.err());
        backend.pins.store(Arc::new(shared.learned.pins(backend.name())));
        backend.forget_contexts();
        self.tell(shared, backend);
        asked_well
    }

    /// Has admission and the breaker know what was seen, and learns from it.
    pub(super) fn tell(&mut self, shared: &Shared, backend: &Backend) {
        let seen = backend.residency.seen();
        if let Some(seen) = seen.as_deref() {
            learn(shared, backend, seen);
        }
        let (gpus, shown) = shown(shared, backend);
        let loading = backend.gate.is_loading();
        if seen.is_some() {
            self.ledger.enter(models_on(shared, backend), loading, Instant::now());
            if self.learn_loads(shared, backend, shown.as_ref()) {
                // What they are expected to take is known better now.
                self.ledger.enter(models_on(shared, backend), loading, Instant::now());
            }
        }
        if let Some(shown) = &shown {
            self.ledger.settle(shown);
        }
        let memory = seen.as_deref().map(|seen| self.memory(shared, backend, seen, shown.as_ref()));
        backend.figures.store(Arc::new(figures(shared, backend, memory.as_ref())));
        backend.gate.know(memory.map(|known| known.memory));
        let reading = shown.map(|shown| self.reading(&gpus, &shown));
        self.judge(shared, backend, reading.as_ref());
    }

    /// Has everybody know soon that it cannot be reached, or can be again.
    async fn note_reach(
        &mut self,
        shared: &Shared,
        pool: &Arc<Pool>,
        backend: &Backend,
        failure: Option<&Unanswered>,
    ) {
        let note = |what: String| {
            // A container that does not run is no news.
            if backend.container.is_none() {
                shared.events.note(backend.name(), None, what);
            }
        };
        match failure {
            Some(Unanswered::Failed(why @ (Failure::Connect(_) | Failure::ConnectTimeout))) => {
                self.refused = self.refused.saturating_add(1);
                if self.refused == LOST_AFTER {
                    let at = backend.origin.config.origin.to_string();
                    note(format!("not reachable at {}: {why}", at.trim_end_matches('/')));
                    // What it had loaded went with it.
                    backend.residency.forget();
                    backend.catalogue.reach(Some(why.to_string()));
                }
            }
            // It says nothing, which is looked after elsewhere.
            Some(Unanswered::Failed(_)) => {}
            Some(Unanswered::Status(..) | Unanswered::Unusable(_)) | None => {
                if std::mem::take(&mut self.refused) >= LOST_AFTER {
                    backend.catalogue.reach(None);
                    backend.catalogue.fresh(&backend.origin, pool, Duration::ZERO).await;
                    backend.breaker.back();
                    note("reachable again".into());
                }
            }
        }
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

    /// Tells once that the GPUs of another machine cannot be read, and why.
    fn note_remote(&mut self, backend: &Backend, failure: Option<String>) {
        if let Some(why) = failure.as_ref().filter(|_| !self.remote_lost) {
            tracing::warn!(upstream = backend.name(), why, "the GPUs behind it cannot be read");
        }
        self.remote_lost = failure.is_some();
    }

    /// What admission may go by.
    fn memory(
        &self,
        shared: &Shared,
        backend: &Backend,
        seen: &Seen,
        shown: Option<&Shown>,
    ) -> Known {
        let reserve = shared.snapshot.load().config.admission.vram.reserve.0;
        let residents: Vec<Resident> =
            seen.models.iter().map(|one| resident(shared, backend, one)).collect();
        let taken: u64 = residents.iter().map(|one| one.vram).sum();
        let declared = backend.origin.config.vram.map(|vram| vram.saturating_sub(taken));
        let measured = shown.and_then(|shown| self.ledger.free(shown));
        let free = declared.into_iter().chain(measured).min();
        let free = free.map(|free| free.saturating_sub(reserve));
        let movable: u64 = residents.iter().filter(|one| !one.pinned).map(|one| one.vram).sum();
        let memory = Memory { free: free.unwrap_or(0), residents };
        Known { capacity: free.map(|free| free.saturating_add(movable)), memory }
    }

    /// The GPUs as the breaker sees them.
    fn reading(&self, gpus: &[Gpu], shown: &Shown) -> Reading {
        let hottest = gpus.iter().filter_map(|gpu| gpu.temperature).max_by(f64::total_cmp);
        let explained = self.ledger.foreign().map(|foreign| shown.used.saturating_sub(foreign));
        Reading { used: shown.used, total: shown.total, explained, temperature: hottest }
    }

    /// Learns from loads once the GPUs show what they took; gives whether it did.
    fn learn_loads(&mut self, shared: &Shared, backend: &Backend, shown: Option<&Shown>) -> bool {
        let settled = shown.is_none_or(|shown| self.ledger.is_settled(shown));
        let Some(seen) = backend.residency.seen().filter(|_| settled && !self.loaded.is_empty())
        else {
            return false;
        };
        let loaded = std::mem::take(&mut self.loaded);
        // Of several it cannot be told which took what.
        let alone = loaded.len() == 1;
        for (model, took) in loaded {
            let Some(one) = seen.models.iter().find(|one| same_model(&one.name, &model)) else {
                continue;
            };
            let account = account(backend, &one.name);
            let delta =
                shown.filter(|_| alone).and_then(|shown| self.ledger.taken_by(&account, shown));
            // Far more than it told is what others took meanwhile.
            let most = one.size_vram.saturating_add(one.size_vram / 8 + (1 << 30));
            let delta = delta.filter(|delta| *delta <= most);
            shared.learned.loaded(&key(backend, &one.digest, one.context), &one.name, took, delta);
        }
        true
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

    /// Has the breaker know how a load ended, and remembers to learn from it.
    pub(super) fn load_ended(
        &mut self,
        shared: &Shared,
        backend: &Backend,
        model: &str,
        outcome: &Outcome,
    ) {
        if let Ok(took) = outcome
            && self.loaded.len() < MAX_UNSEEN
        {
            self.loaded.push((Arc::from(model), *took));
        }
        let Some(conditions) = &mut self.conditions else { return };
        let ok = match outcome {
            Ok(_) => true,
            Err(Unloaded::Failed(_)) => false,
            Err(Unloaded::Blocked(_)) => return,
        };
        if let Some(reason) = conditions.load_ended(ok, Instant::now()) {
            shared.events.note(backend.name(), Some(model), format!("left alone: {reason}"));
            backend.breakers.trip(model, reason);
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

/// The GPUs behind an upstream, and what they show together.
fn shown(shared: &Shared, backend: &Backend) -> (Vec<Gpu>, Option<Shown>) {
    let Some((gpus, taken)) = backend.gpus_read(&shared.gpus) else { return (Vec::new(), None) };
    let sum = |of: fn(&Gpu) -> u64| gpus.iter().map(of).sum();
    let (used, total) = (sum(|gpu| gpu.memory_used), sum(|gpu| gpu.memory_total));
    (gpus, Some(Shown { used, total, taken }))
}

/// The models of all upstreams on the GPUs behind `backend`, and what each is expected to take.
fn models_on(shared: &Shared, backend: &Backend) -> Vec<(String, u64)> {
    let snapshot = shared.snapshot.load();
    let on_them = snapshot.backends.iter().filter(|one| {
        one.is_ollama() && (one.name() == backend.name() || one.shares_gpus(backend, &shared.gpus))
    });
    let mut models = Vec::new();
    for one in on_them {
        let Some(seen) = one.residency.seen() else { continue };
        let of = |loaded: &Loaded| (account(one, &loaded.name), expected(shared, one, loaded));
        models.extend(seen.models.iter().map(of));
    }
    models.sort();
    models
}

fn account(backend: &Backend, model: &str) -> String {
    format!("{}/{model}", backend.name())
}

/// Bytes of VRAM that a loaded model takes: what Ollama tells, or what it was seen to take beside.
fn expected(shared: &Shared, backend: &Backend, one: &Loaded) -> u64 {
    let Key { digest, context, parallel } = key(backend, &one.digest, one.context);
    let learned = shared.learned.footprint(&digest, Some(context), parallel);
    if one.partial { one.size_vram } else { one.size_vram.max(learned.unwrap_or(0)) }
}

fn resident(shared: &Shared, backend: &Backend, one: &Loaded) -> Resident {
    Resident {
        model: Arc::clone(&one.name),
        vram: expected(shared, backend, one),
        partial: one.partial,
        since: one.since,
        pinned: backend.is_pinned(&one.name),
        reload: shared.learned.load_time(&key(backend, &one.digest, None).digest),
    }
}

/// What is learned is kept by what it depends on; what one upstream does on a GPU says nothing of
/// another on a CPU.
fn key(backend: &Backend, digest: &str, context: Option<u64>) -> Key {
    let parallel = u32::try_from(backend.origin.config.max_concurrent).unwrap_or(u32::MAX);
    let digest = format!("{}/{digest}", backend.name());
    Key { digest, context: context.unwrap_or(0), parallel }
}

fn learn(shared: &Shared, backend: &Backend, seen: &Seen) {
    for one in &seen.models {
        let key = key(backend, &one.digest, one.context);
        shared.learned.resident(&key, &one.name, one.size, one.size_vram);
    }
}

fn figures(shared: &Shared, backend: &Backend, known: Option<&Known>) -> Figures {
    let Some(tags) = backend.digests.all() else { return Figures::default() };
    let capacity = known.and_then(|known| known.capacity);
    let figure =
        |(name, tag)| (str::to_owned(name), figure(shared, backend, tag, (name, capacity)));
    tags.iter().map(figure).collect()
}

fn figure(
    shared: &Shared,
    backend: &Backend,
    tag: &Tag,
    (name, capacity): (&str, Option<u64>),
) -> Figure {
    let context = backend.runner(name).and_then(|runner| match runner.num_ctx? {
        NumCtx::Tokens(tokens) => Some(tokens),
        NumCtx::Auto(_) => backend.context(name),
    });
    let Key { parallel, digest, .. } = key(backend, &tag.digest, context);
    let learned = shared.learned.footprint(&digest, context, parallel);
    // An estimate is no evidence: one that is a little too large is tried all the same.
    let estimated = |capacity: u64| learned::estimate(tag.size).min(capacity).max(tag.size);
    let need = capacity
        .filter(|_| !tag.remote)
        .map(|capacity| learned.unwrap_or_else(|| estimated(capacity)));
    let load = shared.learned.load_time(&digest);
    Figure { digest: tag.digest.clone(), need, learned: learned.is_some(), load }
}
