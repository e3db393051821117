//! The line before one upstream: who runs next, which model is loaded next. A state machine without
//! I/O, tasks or a clock: every method that depends on the time is told it.
//!
//! Invariants: `in_flight` is the number of [`Grant`]s given and not released; at most one load runs
//! at a time; a model in flight or pinned is never in the plan of a load.
//!
//! # Rules
//!
//! - Requests of resident models run while places are free, the caller with the smallest account of
//!   service first; those of absent models wait for their load.
//! - A model is loaded when it fits beside those that are busy, pinned or younger than
//!   `min_residency`; the one whose oldest request waits longest goes first.
//! - When that request has waited for `max_starvation`, the residents in its way admit nobody until
//!   they are idle and evicted: under a steady stream they never would be. The time before the model
//!   was evicted itself does not count; under overload two models would change places as soon as
//!   `min_residency` lets them, because old requests wait for either.

mod accounts;
mod forecast;
mod loads;
pub mod memory;
mod models;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::accounts::Accounts;
use self::loads::{Drain, Loading};
use self::memory::{Headroom, Memory, Resident};
use self::models::{Model, Models, Waiter};
use super::decision::{Decision, Offload, Standing, decide};
use crate::ollama::plain;

pub use self::loads::Load;

/// The terms of one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Requests in flight at a time.
    pub places: usize,
    /// Requests that may wait for one model.
    pub max_waiting: usize,
    /// A model is not evicted before it was resident for this long.
    pub min_residency: Duration,
    /// After this long, those who wait for an absent model get it loaded though others are busy, and
    /// batch requests are treated as interactive ones.
    pub max_starvation: Duration,
    /// The policy for models that are partly on the CPU.
    pub offload: Offload,
}

/// How urgent a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Somebody waits for the answer.
    Interactive,
    /// It yields to interactive requests, though not for ever.
    Batch,
}

/// A request, as the line sees it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Its model, with or without `:latest`.
    pub model: Arc<str>,
    /// On whose account.
    pub caller: Arc<str>,
    /// The caller's share relative to others; 0 counts as 1.
    pub weight: u32,
    /// How urgent it is.
    pub priority: Priority,
    /// Bytes of GPU memory the model takes; where nobody knows, Ollama decides by itself.
    pub need: Option<u64>,
}

/// As many as may wait for this model do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A position in the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) model: Arc<str>,
    /// Unique, in order of arrival.
    pub(super) number: u64,
}

impl Ticket {
    /// Unique in this line, and in order of arrival.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// The right to a place, to be given to [`Line::release`] exactly once.
#[must_use]
#[derive(Debug)]
pub struct Grant {
    pub(super) model: Arc<str>,
    caller: Arc<str>,
    since: Instant,
    charged: Duration,
}

/// The line.
#[derive(Debug)]
pub struct Line {
    terms: Terms,
    memory: Option<Memory>,
    /// What a model could take with all unpinned ones gone, as of the last quiet moment: while a
    /// load runs the figures do not add up.
    capacity: u64,
    models: Models,
    accounts: Accounts,
    loading: Option<Loading>,
    drain: Option<Drain>,
    /// When `next_load` was last asked: what is due later is still to be waited for.
    looked: Option<Instant>,
    in_flight: usize,
    waiting: usize,
    next_number: u64,
}

/// Where a model is.
enum Presence {
    /// Its requests may run.
    Open {
        partial: bool,
    },
    /// Loaded, but it empties for a model that starves.
    Closed {
        partial: bool,
    },
    Loading,
    Absent,
}

impl Line {
    /// An empty line, before an upstream of which nothing is known.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            memory: None,
            capacity: u64::MAX,
            models: Models::default(),
            accounts: Accounts::default(),
            loading: None,
            drain: None,
            looked: None,
            in_flight: 0,
            waiting: 0,
            next_number: 0,
        }
    }

    /// Changes the terms. Requests above a lower number of places run to their end.
    pub fn configure(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// Takes note of what was last seen of the memory; `None` when it cannot be seen.
    ///
    /// A model that is not listed is absent, with one exception: what is seen while a load runs may
    /// be older than its effects. So models that the load evicts stay gone even if listed, and the
    /// one that it loads is resident from its end on even if not listed. The next call after the
    /// end of the load is believed in full; it must tell of a look taken after that end.
    pub fn know(&mut self, memory: Option<Memory>) {
        self.memory = memory.map(Memory::with_plain_names);
        let Some(memory) = &self.memory else {
            self.capacity = u64::MAX;
            return;
        };
        for one in &memory.residents {
            if one.reload.is_some() {
                self.models.entry(&one.model).reload = one.reload;
            }
        }
        if self.loading.is_none() {
            self.capacity = memory.capacity();
        }
    }

    /// What to do with a request. Changes nothing.
    #[must_use]
    pub fn consider(&self, ask: &Ask, now: Instant) -> Decision {
        let model = plain(&ask.model);
        let standing = match self.presence(model, ask.need) {
            Presence::Open { partial } => Standing::Resident { partial, admits: true },
            Presence::Closed { partial } => Standing::Resident { partial, admits: false },
            Presence::Loading => Standing::Loading,
            Presence::Absent => {
                let need = ask.need.unwrap_or(0);
                let room = self.room(model, need, now);
                Standing::Absent { fits: need <= self.capacity, room }
            }
        };
        let turn = self.in_flight < self.terms.places && !self.anybody_may_run();
        decide(standing, turn, self.terms.offload)
    }

    /// Gives a place at once, where [`Decision::Run`] is the decision; else says what is.
    pub fn enter(&mut self, ask: &Ask, now: Instant) -> Result<Grant, Decision> {
        self.observe(now);
        match self.consider(ask, now) {
            Decision::Run => {}
            other => return Err(other),
        }
        self.accounts.begin(&ask.caller, ask.weight);
        Ok(self.grant(&ask.model, Arc::clone(&ask.caller), now))
    }

    /// Joins the line, whatever [`consider`](Self::consider) says.
    pub fn join(&mut self, ask: &Ask, now: Instant) -> Result<Ticket, QueueFull> {
        let max_waiting = self.terms.max_waiting;
        if self.models.get(plain(&ask.model)).map_or(0, |one| one.queue.len()) >= max_waiting {
            return Err(QueueFull);
        }
        let model = self.models.entry(&ask.model);
        let number = self.next_number;
        model.need = ask.need;
        model.queue.insert(number, Waiter::new(ask, now));
        let model = Arc::clone(&model.name);
        self.next_number += 1;
        self.waiting += 1;
        self.accounts.begin(&ask.caller, ask.weight);
        Ok(Ticket { model, number })
    }

    /// Leaves the line; false when the ticket is no longer in it.
    pub fn leave(&mut self, ticket: &Ticket) -> bool {
        let model = self.models.get_mut(&ticket.model);
        let Some(waiter) = model.and_then(|one| one.queue.remove(&ticket.number)) else {
            return false;
        };
        self.waiting -= 1;
        self.accounts.end(&waiter.caller);
        true
    }

    /// Calls the next in line, if a place is free for anybody. To be repeated until there is none,
    /// after every change.
    pub fn next(&mut self, now: Instant) -> Option<(Ticket, Grant)> {
        if self.waiting == 0 || self.in_flight >= self.terms.places {
            return None;
        }
        self.observe(now);
        let max_starvation = self.terms.max_starvation;
        let runnable = self.models.iter().filter(|model| self.may_run(model));
        let waiters = runnable.flat_map(|model| {
            model.queue.iter().map(move |(&number, waiter)| (model, number, waiter))
        });
        let (model, number, _) = waiters.min_by_key(|(_, number, waiter)| {
            let yields = waiter.yields(now, max_starvation);
            (yields, self.accounts.used(&waiter.caller), *number)
        })?;
        let model = Arc::clone(&model.name);
        let waiter = self.models.get_mut(&model)?.queue.remove(&number)?;
        self.waiting -= 1;
        // It was counted as active when it joined.
        let grant = self.grant(&model, waiter.caller, now);
        Some((Ticket { model, number }, grant))
    }

    /// Takes a place back. The time it was held teaches how long the model serves.
    pub fn release(&mut self, grant: &Grant, now: Instant) {
        let service = now.saturating_duration_since(grant.since);
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(model) = self.models.get_mut(&grant.model) {
            model.in_flight = model.in_flight.saturating_sub(1);
            model.last_used = Some(now);
            model.served(service);
        }
        self.accounts.served(&grant.caller, grant.charged, service);
        self.accounts.end(&grant.caller);
    }

    /// Whether a load runs.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Requests that hold a place.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Those of one model.
    #[must_use]
    pub fn in_flight_of(&self, model: &str) -> usize {
        self.models.get(plain(model)).map_or(0, |one| one.in_flight)
    }

    /// What a model could still take; `None` where the memory cannot be seen.
    #[must_use]
    pub fn headroom(&self) -> Option<Headroom> {
        let memory = self.memory.as_ref()?;
        let may_go = |one: &&Resident| !one.pinned && self.in_flight_of(&one.model) == 0;
        let idle = memory.residents.iter().filter(may_go).map(|one| one.vram).sum();
        Some(Headroom { free: memory.free, idle })
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// When a request of the model last began or ended.
    #[must_use]
    pub fn last_used(&self, model: &str) -> Option<Instant> {
        self.models.get(plain(model)).and_then(|one| one.last_used)
    }

    /// The caller must be counted as active already.
    fn grant(&mut self, model: &Arc<str>, caller: Arc<str>, now: Instant) -> Grant {
        let model = self.models.entry(model);
        model.in_flight += 1;
        model.last_used = Some(now);
        let (model, charged) = (Arc::clone(&model.name), model.service());
        self.in_flight += 1;
        self.accounts.charge(&caller, charged);
        Grant { model, caller, since: now, charged }
    }

    fn presence(&self, model: &str, need: Option<u64>) -> Presence {
        if let Some(loading) = &self.loading {
            if &*loading.model == model {
                return Presence::Loading;
            }
            if loading.evict.iter().any(|one| &**one == model) {
                return Presence::Absent;
            }
        }
        let Some(memory) = &self.memory else { return Presence::Open { partial: false } };
        match memory.resident(model) {
            Some(resident) => {
                let partial = resident.partial;
                let closed = self.drain.as_ref().is_some_and(|drain| drain.empties(model));
                if closed { Presence::Closed { partial } } else { Presence::Open { partial } }
            }
            None if need.is_none() => Presence::Open { partial: false },
            None => Presence::Absent,
        }
    }

    /// Whether this model's waiting requests may run. They chose to wait, so the policy on offload
    /// does not concern them any more.
    fn may_run(&self, model: &Model) -> bool {
        !model.queue.is_empty()
            && matches!(self.presence(&model.name, model.need), Presence::Open { .. })
    }

    fn anybody_may_run(&self) -> bool {
        self.waiting > 0 && self.models.iter().any(|model| self.may_run(model))
    }

    /// Whether the model's requests wait for a load.
    fn is_missed(&self, model: &Model) -> bool {
        !model.queue.is_empty()
            && matches!(self.presence(&model.name, model.need), Presence::Absent)
    }
}

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod tests;
