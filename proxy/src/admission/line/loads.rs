//! Which model is loaded next, and what goes to make room for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::memory::{Resident, plain_name};
use super::models::Model;
use super::{Ask, Line, Presence, Priority, Ticket};
use crate::admission::decision::Decision;
use crate::admission::eviction::{Candidate, plan};
use crate::ollama::plain;

/// A load to be carried out: evict, load, then tell how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// What to load; a name without `:latest`.
    pub model: Arc<str>,
    /// What to evict before.
    pub evict: Vec<Arc<str>>,
    /// Bytes of GPU memory it is expected to take.
    pub need: u64,
}

/// A load that runs.
#[derive(Debug)]
pub(super) struct Loading {
    pub(super) model: Arc<str>,
    pub(super) evict: Vec<Arc<str>>,
    pub(super) need: u64,
    pub(super) since: Instant,
}

/// Residents that empty for a model that starves. Kept until its load begins: a plan made anew each
/// time would close one today and another tomorrow, and none would ever be idle.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) model: Arc<str>,
    pub(super) evict: Vec<Arc<str>>,
}

impl Drain {
    pub(super) fn empties(&self, model: &str) -> bool {
        self.evict.iter().any(|one| &**one == model)
    }
}

/// Who counts as idle in a plan.
#[derive(Clone, Copy)]
enum Idle {
    /// Only those without requests.
    Now,
    /// All: the busy ones can be emptied first.
    InTheEnd,
}

impl Line {
    /// A load that is due now; from here on it runs, until [`loaded`](Self::loaded) is told.
    pub fn next_load(&mut self, now: Instant) -> Option<Load> {
        self.looked = Some(now);
        self.observe(now);
        if self.loading.is_some() {
            return None;
        }
        let (model, need, evict) = if let Some(drain) = &self.drain {
            if drain.evict.iter().any(|one| self.in_flight_of(one) > 0) {
                return None;
            }
            let need = self.models.get(&drain.model).and_then(|one| one.need).unwrap_or(0);
            (Arc::clone(&drain.model), need, drain.evict.clone())
        } else {
            let mut missed: Vec<&Model> =
                self.models.iter().filter(|model| self.is_missed(model)).collect();
            missed.sort_by_key(|model| self.load_order(model, now));
            missed.into_iter().find_map(|model| {
                let need = model.need.unwrap_or(0);
                let min_residency = self.terms.min_residency;
                let evict = self.evictions(need, now, min_residency, Idle::Now)?;
                Some((Arc::clone(&model.name), need, evict))
            })?
        };
        Some(self.begin(model, need, evict, now))
    }

    /// Begins a load that no request waits for: a person's wish, or a warm-up. `min_residency` does
    /// not stand in its way, everything else does, pinned models too. `Run`: it is there already; `Wait`: another one
    /// loads, or the room is promised to a model that starves.
    pub fn begin_load(
        &mut self,
        model: &Arc<str>,
        need: u64,
        now: Instant,
    ) -> Result<Load, Decision> {
        self.observe(now);
        if self.loading.is_some() || self.drain.is_some() {
            return Err(Decision::Wait);
        }
        let model = plain_name(model);
        let ask = Ask {
            model: Arc::clone(&model),
            caller: Arc::from(""),
            weight: 1,
            priority: Priority::Interactive,
            need: Some(need),
        };
        if self.memory.is_none() {
            return Ok(self.begin(model, need, Vec::new(), now));
        }
        match (self.presence(&model, ask.need), self.consider(&ask, now)) {
            (Presence::Absent, Decision::Load | Decision::NoRoom) => {}
            (Presence::Absent, other) => return Err(other),
            (_, Decision::Wait) => return Err(Decision::Run),
            (_, other) => return Err(other),
        }
        if need > self.capacity && self.pinned_in_the_way(need) {
            return Err(Decision::NoRoom);
        }
        let evict = self.evictions(need, now, Duration::ZERO, Idle::Now);
        evict.map_or(Err(Decision::NoRoom), |evict| Ok(self.begin(model, need, evict, now)))
    }

    /// The load has ended. Where it failed, all who wait for the model leave the line; they are
    /// returned to be told.
    pub fn loaded(&mut self, model: &str, succeeded: bool, now: Instant) -> Vec<Ticket> {
        let model = plain(model);
        let Some(loading) = self.loading.take_if(|one| &*one.model == model) else {
            return Vec::new();
        };
        let took = now.saturating_duration_since(loading.since);
        if let Some(memory) = &mut self.memory {
            // Even a load that failed may have evicted them; if not, the next look shows it.
            memory.evicted(&loading.evict);
            if succeeded {
                memory.loaded(Resident {
                    model: Arc::clone(&loading.model),
                    vram: loading.need.min(self.capacity),
                    partial: loading.need > self.capacity,
                    since: now,
                    pinned: false,
                    reload: Some(took),
                });
            }
            self.capacity = memory.capacity();
        }
        if succeeded {
            self.models.entry(&loading.model).reload = Some(took);
            return Vec::new();
        }
        let numbers = self.models.get(model).map(|one| one.queue.keys().copied().collect());
        let numbers: Vec<u64> = numbers.unwrap_or_default();
        let tickets = numbers.into_iter().map(|number| {
            let model = Arc::clone(&loading.model);
            Ticket { model, number }
        });
        let tickets: Vec<Ticket> = tickets.collect();
        tickets.into_iter().filter(|ticket| self.leave(ticket)).collect()
    }

    /// When time alone makes a load due: a resident comes of age, or a model starves. Later than
    /// the last time [`next_load`](Self::next_load) was asked, so a loop of the two does not spin.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let memory = self.memory.as_ref().filter(|_| self.loading.is_none() && self.waiting > 0)?;
        let missed = self.models.iter().filter(|model| self.is_missed(model));
        let starving = missed
            .filter_map(Model::missed_since)
            .filter_map(|since| since.checked_add(self.terms.max_starvation));
        let mut starving = starving.peekable();
        starving.peek()?;
        let of_age = memory
            .residents
            .iter()
            .filter(|one| !one.pinned)
            .filter_map(|one| one.since.checked_add(self.terms.min_residency));
        starving.chain(of_age).filter(|&at| self.looked.is_none_or(|looked| at > looked)).min()
    }

    /// Sees to those who starve: begins to empty what stands in their way, and stops when nobody
    /// needs it any more.
    pub(super) fn observe(&mut self, now: Instant) {
        if self.waiting == 0 || self.loading.is_some() {
            self.drain = None;
            return;
        }
        let starving = self
            .models
            .iter()
            .filter(|model| self.is_missed(model) && self.starves(model, now))
            .min_by_key(|model| model.missed_since().zip(model.oldest()));
        let Some((model, need)) = starving.map(|one| (&one.name, one.need.unwrap_or(0))) else {
            self.drain = None;
            return;
        };
        if self.drain.as_ref().is_some_and(|drain| self.still_suits(drain, model, need, now)) {
            return;
        }
        let model = Arc::clone(model);
        let evict = self.evictions(need, now, self.terms.min_residency, Idle::InTheEnd);
        self.drain = evict.map(|evict| Drain { model, evict });
    }

    /// Whether the model can be loaded now.
    pub(super) fn room(&self, model: &str, need: u64, now: Instant) -> bool {
        if self.loading.is_some() {
            return false;
        }
        match &self.drain {
            Some(drain) => {
                &*drain.model == model && drain.evict.iter().all(|one| self.in_flight_of(one) == 0)
            }
            None => self.evictions(need, now, self.terms.min_residency, Idle::Now).is_some(),
        }
    }

    /// Who is loaded first: the starving, then those for whom somebody interactive waits, then
    /// whose oldest request waits longest.
    pub(super) fn load_order(&self, model: &Model, now: Instant) -> impl Ord {
        let max = self.terms.max_starvation;
        let starving = model.missed_since().filter(|_| self.starves(model, now));
        let yields = model.queue.values().all(|waiter| waiter.yields(now, max));
        (starving.is_none(), starving, yields, model.oldest())
    }

    /// Time until those in the way of a model of `need` bytes may be evicted.
    pub(super) fn until_of_age(&self, need: u64, now: Instant) -> Duration {
        let Some(memory) = &self.memory else { return Duration::ZERO };
        let min = self.terms.min_residency;
        let unpinned = memory.residents.iter().filter(|one| !one.pinned);
        let mut waits: Vec<Duration> = unpinned
            .map(|one| min.saturating_sub(now.saturating_duration_since(one.since)))
            .collect();
        waits.push(Duration::ZERO);
        waits.sort_unstable();
        let enough = |wait: &Duration| {
            let then = now.checked_add(*wait);
            then.is_some_and(|then| self.evictions(need, then, min, Idle::InTheEnd).is_some())
        };
        waits.into_iter().find(enough).unwrap_or(Duration::ZERO)
    }

    fn starves(&self, model: &Model, now: Instant) -> bool {
        model
            .missed_since()
            .is_some_and(|since| now.saturating_duration_since(since) >= self.terms.max_starvation)
    }

    fn still_suits(&self, drain: &Drain, model: &str, need: u64, now: Instant) -> bool {
        let Some(memory) = &self.memory else { return false };
        let mut room = memory.free;
        for one in &drain.evict {
            let Some(resident) = memory.resident(one) else { return false };
            let age = now.saturating_duration_since(resident.since);
            if resident.pinned || age < self.terms.min_residency {
                return false;
            }
            room = room.saturating_add(resident.vram);
        }
        *drain.model == *model && room >= need.min(self.capacity)
    }

    fn begin(&mut self, model: Arc<str>, need: u64, evict: Vec<Arc<str>>, now: Instant) -> Load {
        self.drain = None;
        for one in &evict {
            self.models.entry(one).evicted = Some(now);
        }
        let loading = Loading { model: Arc::clone(&model), evict: evict.clone(), need, since: now };
        self.loading = Some(loading);
        Load { model, evict, need }
    }

    /// What to evict for `need` bytes. Whoever waits for a model that can never fit wholly chose to
    /// have it partly on the CPU: it gets what there is.
    fn evictions(
        &self,
        need: u64,
        now: Instant,
        min_residency: Duration,
        idle: Idle,
    ) -> Option<Vec<Arc<str>>> {
        let memory = self.memory.as_ref()?;
        let candidates: Vec<Candidate> =
            memory.residents.iter().map(|one| self.candidate(one, now, idle)).collect();
        let chosen = plan(memory.free, need.min(self.capacity), &candidates, min_residency)?;
        Some(chosen.into_iter().map(|index| Arc::clone(&memory.residents[index].model)).collect())
    }

    /// Whether a model of `need` bytes would fit but for pinned ones.
    fn pinned_in_the_way(&self, need: u64) -> bool {
        let Some(memory) = &self.memory else { return false };
        let pinned = memory.residents.iter().filter(|one| one.pinned).map(|one| one.vram);
        need <= self.capacity.saturating_add(pinned.sum())
    }

    fn candidate(&self, resident: &Resident, now: Instant, idle: Idle) -> Candidate {
        let known = self.models.get(&resident.model);
        let used = known.and_then(|one| one.last_used);
        let since = used.map_or(resident.since, |used| used.max(resident.since));
        let busy = known.is_some_and(|one| one.in_flight > 0 || !one.queue.is_empty());
        let unused_for = now.saturating_duration_since(since);
        Candidate {
            vram: resident.vram,
            idle: match idle {
                Idle::Now => !busy,
                Idle::InTheEnd => true,
            },
            pinned: resident.pinned,
            resident_for: now.saturating_duration_since(resident.since),
            unused_for: if busy { Duration::ZERO } else { unused_for },
            reload: resident.reload.or_else(|| known.and_then(|one| one.reload)),
        }
    }
}
