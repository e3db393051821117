//! Models that are kept loaded, and hours in which they are not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{Local, Timelike};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::Keeper;
use super::load::runner_options;
use crate::breaker::State;
use crate::config::admission::Offload;
use crate::ollama::{plain, same_model};
use crate::pipeline::backend::Backend;
use crate::upstream::loads::{self, How, KeepAlive};
use crate::upstream::residency::Loaded;

/// After a load that failed, the next try comes after this long, then twice as long, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// After one that others were in the way of, the next try comes after this long.
const REFUSED_RETRY: Duration = Duration::from_secs(2);
/// The longest of these times.
const LAST_RETRY: Duration = Duration::from_secs(600);

/// A loaded model is told to go or to stay this often at most.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// A model is freed from the CPU this often at most: should it spill again, there was no room after all.
const WHOLE_EVERY: Duration = Duration::from_secs(600);
/// A loaded model is told to stay within this time.
pub(super) const STAY_TIMEOUT: Duration = Duration::from_secs(10);

/// What was done to keep models loaded.
#[derive(Debug, Default)]
pub(super) struct Warm {
    /// Models warmed since the upstream last came up.
    done: Vec<Arc<str>>,
    failed: HashMap<Arc<str>, Failed>,
    /// When a loaded model was last told to go or to stay.
    told: HashMap<Arc<str>, Instant>,
    /// When one that ran partly on the CPU was last told to go.
    freed: HashMap<Arc<str>, Instant>,
    was_up: bool,
}

#[derive(Debug)]
struct Failed {
    next: Instant,
    wait: Duration,
}

impl Warm {
    /// Takes in how a load ended.
    pub(super) fn ended(&mut self, model: &Arc<str>, ok: bool) {
        if ok {
            self.failed.remove(model);
            return;
        }
        self.done.retain(|done| done != model);
        let wait =
            self.failed.get(model).map_or(FIRST_RETRY, |known| (known.wait * 2).min(LAST_RETRY));
        self.failed.insert(Arc::clone(model), Failed { next: Instant::now() + wait, wait });
    }

    /// Others were in its way.
    fn refused(&mut self, model: &Arc<str>) {
        self.done.retain(|done| done != model);
        let next = Instant::now() + REFUSED_RETRY;
        self.failed
            .entry(Arc::clone(model))
            .and_modify(|failed| failed.next = next)
            .or_insert(Failed { next, wait: FIRST_RETRY / 2 });
    }

    /// The models to be loaded now, of those that are `wanted`: pinned ones whenever they are gone,
    /// the others once each time the upstream comes up.
    fn due(
        &mut self,
        up: bool,
        wanted: &[(Arc<str>, bool)],
        loaded: &[Loaded],
    ) -> Option<Arc<str>> {
        if !up {
            self.was_up = false;
            return None;
        }
        if !std::mem::replace(&mut self.was_up, true) {
            self.done.clear();
            self.failed.clear();
        }
        let now = Instant::now();
        for (model, pinned) in wanted {
            let is_loaded = loaded.iter().any(|one| same_model(&one.name, model));
            let waits = self.failed.get(model).is_some_and(|failed| failed.next > now);
            let done = self.done.contains(model);
            if is_loaded || waits || (done && !pinned) {
                continue;
            }
            if !done {
                self.done.push(Arc::clone(model));
            }
            return Some(Arc::clone(model));
        }
        None
    }
}

impl Keeper {
    /// Begins to load a model that is to be loaded and is not.
    pub(super) fn warm_up(&mut self, backend: &Arc<Backend>, up: bool) {
        if backend.breaker.state() != State::Closed {
            return;
        }
        let seen = backend.residency.seen();
        let loaded = seen.as_ref().map_or(&[][..], |seen| &seen.models);
        let wanted = self.wanted(backend);
        let Some(model) = self.warm.due(up && seen.is_some(), &wanted, loaded) else { return };
        let figures = backend.figures.load();
        let Some(figure) = figures.get(&model) else {
            // It is tried again when it may have been pulled.
            return self.warm.ended(&model, false);
        };
        match backend.gate.begin_load(Arc::clone(&model), figure.need.unwrap_or(0)) {
            Ok(load) => self.start(backend, load, None),
            Err(_) => self.warm.refused(&model),
        }
    }

    /// The models to be kept loaded now, and whether they are pinned.
    fn wanted(&self, backend: &Backend) -> Vec<(Arc<str>, bool)> {
        let minute = minute_of_day();
        let configured = backend.origin.config.models.iter().filter(|(_, keep)| {
            (keep.pin || keep.warm) && !keep.off_hours.is_some_and(|hours| hours.cover(minute))
        });
        let mut wanted: Vec<(Arc<str>, bool)> =
            configured.map(|(name, keep)| (Arc::from(plain(name)), keep.pin)).collect();
        for model in self.shared.learned.pins(&self.name) {
            let keep = backend.keep(&model).and_then(|keep| keep.off_hours);
            if keep.is_some_and(|hours| hours.cover(minute)) {
                continue;
            }
            if !wanted.iter().any(|(known, pinned)| *pinned && same_model(known, &model)) {
                wanted.push((Arc::from(model), true));
            }
        }
        wanted
    }

    /// Has idle models go whose hours are over, or that run partly on the CPU without need, and pinned
    /// ones stay that somebody else loaded.
    pub(super) async fn mind_loaded(&mut self, backend: &Arc<Backend>) {
        let Some(seen) = backend.residency.seen() else { return };
        let minute = minute_of_day();
        for loaded in &seen.models {
            if backend.gate.in_flight_of(&loaded.name) > 0 {
                continue;
            }
            let off = backend
                .keep(&loaded.name)
                .and_then(|keep| keep.off_hours)
                .is_some_and(|hours| hours.cover(minute));
            if !off
                && would_fit_whole(backend, loaded)
                && once_in(WHOLE_EVERY, &mut self.warm.freed, &loaded.name)
            {
                let done = loads::unload(&backend.origin, &self.pool, &loaded.name).await;
                let what = "unloaded: it ran partly on the CPU, and would fit into the GPU now";
                let what =
                    done.map_or_else(|cause| format!("not {what}: {cause}"), |()| what.to_owned());
                self.shared.events.note(&self.name, Some(&loaded.name), what);
                continue;
            }
            let leaves = loaded.expires_in.is_some();
            let stay = leaves && !off && backend.is_pinned(&loaded.name);
            if !(off || stay) || !once_in(TELL_EVERY, &mut self.warm.told, &loaded.name) {
                continue;
            }
            let (done, what) = if off {
                let done = loads::unload(&backend.origin, &self.pool, &loaded.name).await;
                (done, "unloaded: these are its off hours")
            } else {
                let options = loaded_options(backend, &loaded.name);
                let keep_alive = Some(KeepAlive::Forever);
                let how = How { model: &loaded.name, keep_alive, options: &options };
                let done = loads::load(&backend.origin, &self.pool, how, STAY_TIMEOUT).await;
                (done, "kept loaded: it is pinned")
            };
            let what =
                done.map_or_else(|cause| format!("not {what}: {cause}"), |()| what.to_owned());
            self.shared.events.note(&self.name, Some(&loaded.name), what);
        }
    }
}

/// Whether `model` was not told within `time`; from now on it was.
fn once_in(time: Duration, told: &mut HashMap<Arc<str>, Instant>, model: &Arc<str>) -> bool {
    let now = Instant::now();
    told.retain(|_, at| now.duration_since(*at) < time);
    let may = !told.contains_key(model);
    if may {
        told.insert(Arc::clone(model), now);
    }
    may
}

/// Whether a model runs partly on the CPU though all of it would fit: Ollama leaves it there for as long
/// as it is used.
fn would_fit_whole(backend: &Backend, loaded: &Loaded) -> bool {
    let Some(room) = backend.gate.headroom().filter(|_| loaded.partial) else { return false };
    let need = backend.figures.load().get(&loaded.name).and_then(|figure| figure.need);
    backend.offload != Offload::Allow
        && need.is_some_and(|need| need <= room.free.saturating_add(loaded.size_vram))
}

/// What a loaded model is to be asked for with: another context would have it loaded anew.
pub(super) fn loaded_options(backend: &Backend, model: &str) -> Map<String, Value> {
    let mut options = runner_options(backend, model);
    let loaded = backend.residency.of(model).context_length;
    if let Some(context) = loaded.filter(|_| !options.contains_key("num_ctx")) {
        options.insert("num_ctx".into(), context.into());
    }
    options
}

/// How long a model is to stay that the gateway loads; none leaves that to Ollama.
pub(super) fn keep_alive(backend: &Backend, model: &str) -> Option<KeepAlive> {
    if backend.is_pinned(model) {
        return Some(KeepAlive::Forever);
    }
    backend.keep(model)?.keep_alive.map(|time| KeepAlive::For(time.0))
}

fn minute_of_day() -> u16 {
    let now = Local::now();
    u16::try_from(now.hour() * 60 + now.minute()).unwrap_or(0)
}
