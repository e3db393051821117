//! What the line knows of each model: who waits for it, who runs, and what was learned.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::memory::plain_name;
use super::{Ask, Priority};
use crate::ollama::plain;

/// Models that nobody uses are remembered up to this number, the least recently used forgotten.
const MAX_KNOWN: usize = 256;
/// Service time assumed of a model before one of its requests has ended.
pub(super) const DEFAULT_SERVICE: Duration = Duration::from_secs(5);
/// How much of a learned service time the newest request makes up.
const NEWEST: f64 = 0.2;

/// All models, by name without `:latest`.
#[derive(Debug, Default)]
pub(super) struct Models {
    by_name: HashMap<Arc<str>, Model, RandomState>,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: Arc<str>,
    /// By ticket number, so in order of arrival.
    pub(super) queue: BTreeMap<u64, Waiter>,
    pub(super) in_flight: usize,
    /// GPU memory it needs, as the newest ask has it.
    pub(super) need: Option<u64>,
    /// Mean time that a request holds its place.
    pub(super) service: Option<Duration>,
    /// How long it took to load.
    pub(super) reload: Option<Duration>,
    pub(super) last_used: Option<Instant>,
    /// When it was last evicted to make room.
    pub(super) evicted: Option<Instant>,
}

/// A waiting request.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) caller: Arc<str>,
    pub(super) weight: u32,
    pub(super) priority: Priority,
    pub(super) since: Instant,
}

impl Models {
    pub(super) fn get(&self, name: &str) -> Option<&Model> {
        self.by_name.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Model> {
        self.by_name.get_mut(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Model> {
        self.by_name.values()
    }

    /// The model of this name, which may end in `:latest`; new where it was not known.
    pub(super) fn entry(&mut self, name: &Arc<str>) -> &mut Model {
        // A name that is known must not be allocated anew: this is on the path of every request.
        let name = match self.by_name.get_key_value(plain(name)) {
            Some((known, _)) => Arc::clone(known),
            None => {
                if self.by_name.len() >= MAX_KNOWN {
                    self.forget_one();
                }
                plain_name(name)
            }
        };
        self.by_name.entry(name).or_insert_with_key(|name| Model::new(Arc::clone(name)))
    }

    fn forget_one(&mut self) {
        let unused = self.by_name.values().filter(|one| one.in_flight == 0 && one.queue.is_empty());
        let oldest = unused.min_by_key(|one| one.last_used).map(|one| Arc::clone(&one.name));
        if let Some(name) = oldest {
            self.by_name.remove(&name);
        }
    }

    /// Models on record.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}

impl Model {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            queue: BTreeMap::new(),
            in_flight: 0,
            need: None,
            service: None,
            reload: None,
            last_used: None,
            evicted: None,
        }
    }

    /// Mean time that a request holds its place, or what is assumed of it.
    pub(super) fn service(&self) -> Duration {
        self.service.unwrap_or(DEFAULT_SERVICE)
    }

    /// A request has held its place for this long.
    pub(super) fn served(&mut self, service: Duration) {
        self.service = Some(self.service.map_or(service, |mean| {
            Duration::from_secs_f64(
                mean.as_secs_f64() * (1.0 - NEWEST) + service.as_secs_f64() * NEWEST,
            )
        }));
    }

    /// Since when somebody waits for it in vain: since its oldest request came, or since it was
    /// evicted if that was later. While it was resident its requests had their turns; one that waits
    /// still does so for the sake of fairness, and must not force a swap the sooner for that.
    pub(super) fn missed_since(&self) -> Option<Instant> {
        let (_, oldest) = self.oldest()?;
        Some(self.evicted.map_or(oldest, |evicted| evicted.max(oldest)))
    }

    /// Since when its oldest request waits.
    pub(super) fn oldest(&self) -> Option<(u64, Instant)> {
        self.queue.first_key_value().map(|(&number, waiter)| (number, waiter.since))
    }
}

impl Waiter {
    pub(super) fn new(ask: &Ask, now: Instant) -> Self {
        Self {
            caller: Arc::clone(&ask.caller),
            weight: ask.weight,
            priority: ask.priority,
            since: now,
        }
    }

    /// Whether it lets interactive requests go first. It does not for ever.
    pub(super) fn yields(&self, now: Instant, max_starvation: Duration) -> bool {
        match self.priority {
            Priority::Interactive => false,
            Priority::Batch => now.saturating_duration_since(self.since) < max_starvation,
        }
    }
}
