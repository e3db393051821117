//! Positions and expected waits: the order in which the line would be served if nobody else came.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::models::{Model, Waiter};
use super::{Line, Presence, Ticket};
use crate::admission::eviction::DEFAULT_RELOAD;
use crate::ollama::plain;

/// A client is never told to come back sooner.
const SOONEST: Duration = Duration::from_secs(1);
/// Nor later: client libraries do not retry at all above it.
const LATEST: Duration = Duration::from_secs(120);

/// One who waits, in the order of service.
pub(super) struct Expected<'a> {
    pub(super) number: u64,
    pub(super) model: &'a Model,
    pub(super) waiter: &'a Waiter,
    pub(super) wait: Duration,
    yields: bool,
    /// The caller's account by the time of this request.
    tag: u128,
    stage: usize,
}

/// Sums up the wait along the order of service.
#[derive(Default)]
struct Tally {
    /// Service of all who are before.
    work: Duration,
    /// Loads that come before.
    loads: Duration,
    /// Models whose load is in there.
    stage: usize,
}

impl Line {
    /// Where in the line a request is, 1 being the next to run; `None` when it is not in it. Takes
    /// time in the order of those waiting, as do the other forecasts: not for the hot path.
    #[must_use]
    pub fn position(&self, ticket: &Ticket, now: Instant) -> Option<usize> {
        let index = self.forecast(now).iter().position(|one| one.number == ticket.number)?;
        Some(index + 1)
    }

    /// How long it still waits, as far as can be told: the service of those before it over the
    /// number of places, and the loads before it.
    #[must_use]
    pub fn estimate(&self, ticket: &Ticket, now: Instant) -> Option<Duration> {
        let forecast = self.forecast(now);
        forecast.iter().find(|one| one.number == ticket.number).map(|one| one.wait)
    }

    /// When a newcomer behind all who wait for this model could expect a place: 1 s to 120 s.
    #[must_use]
    pub fn retry_after(&self, model: &str, now: Instant) -> Duration {
        let model = plain(model);
        let known = self.models.get(model);
        let last = self.forecast(now).into_iter().rfind(|one| &*one.model.name == model);
        let wait = if let Some(last) = last {
            last.wait + last.model.service() / self.places()
        } else {
            let absent = match self.presence(model, known.and_then(|one| one.need).or(Some(0))) {
                Presence::Open { .. } => Duration::ZERO,
                Presence::Loading => self.load_left(now),
                Presence::Closed { .. } | Presence::Absent => self.until_loaded(known, now),
            };
            let open = self.models.iter().filter(|one| self.may_run(one));
            let work = open.map(|one| one.service() * count(one.queue.len())).sum::<Duration>();
            absent + (work + self.residual()) / self.places()
        };
        wait.clamp(SOONEST, LATEST)
    }

    /// All who wait, in the order of service.
    pub(super) fn forecast(&self, now: Instant) -> Vec<Expected<'_>> {
        if self.waiting == 0 {
            return Vec::new();
        }
        let mut all = Vec::with_capacity(self.waiting);
        for (stage, model) in self.stages(now) {
            all.extend(model.queue.iter().map(|(&number, waiter)| Expected {
                number,
                model,
                waiter,
                wait: Duration::ZERO,
                yields: waiter.yields(now, self.terms.max_starvation),
                tag: 0,
                stage,
            }));
        }
        // A caller's own requests come one after the other, so each counts for those behind it.
        all.sort_by_key(|one| (one.yields, one.stage, one.number));
        let mut used: HashMap<&Arc<str>, u128> = HashMap::new();
        for one in &mut all {
            let caller = &one.waiter.caller;
            let tag = used.entry(caller).or_insert_with(|| self.accounts.used(caller).into());
            one.tag = *tag;
            *tag += one.model.service().as_nanos() / u128::from(one.waiter.weight.max(1));
        }
        all.sort_by_key(|one| (one.stage, one.yields, one.tag, one.number));

        let mut tally = Tally::default();
        let residual = self.residual();
        for one in &mut all {
            if one.stage != tally.stage {
                tally.stage = one.stage;
                tally.loads += match self.presence(&one.model.name, one.model.need) {
                    Presence::Open { .. } => Duration::ZERO,
                    Presence::Loading => self.load_left(now),
                    Presence::Closed { .. } | Presence::Absent => {
                        self.until_loaded(Some(one.model), now)
                    }
                };
            }
            one.wait = tally.loads + (tally.work + residual) / self.places();
            tally.work += one.model.service();
        }
        all
    }

    /// Models that are waited for, by stage: 0 are those that run now, then one load after another.
    fn stages(&self, now: Instant) -> Vec<(usize, &Model)> {
        let awaited = self.models.iter().filter(|model| !model.queue.is_empty());
        let mut awaited: Vec<(u8, &Model)> = awaited
            .map(|model| match self.presence(&model.name, model.need) {
                Presence::Open { .. } => (0, model),
                Presence::Loading => (1, model),
                Presence::Absent => (2, model),
                Presence::Closed { .. } => (3, model),
            })
            .collect();
        awaited.sort_by_key(|(kind, model)| (*kind, self.load_order(model, now)));
        let mut last = 0;
        let number = |(kind, model)| {
            if kind > 0 {
                last += 1;
            }
            (last, model)
        };
        awaited.into_iter().map(number).collect()
    }

    /// Time until one of the places is free, on average, when none is.
    fn residual(&self) -> Duration {
        if self.in_flight < self.terms.places || self.in_flight == 0 {
            return Duration::ZERO;
        }
        let sum: Duration =
            self.models.iter().map(|one| one.service() * count(one.in_flight)).sum();
        sum / count(self.in_flight)
    }

    fn load_left(&self, now: Instant) -> Duration {
        let Some(loading) = &self.loading else { return Duration::ZERO };
        let known = self.models.get(&loading.model).and_then(|one| one.reload);
        known.unwrap_or(DEFAULT_RELOAD).saturating_sub(now.saturating_duration_since(loading.since))
    }

    /// Loading time of a model that is absent, and until those in its way may be evicted.
    fn until_loaded(&self, model: Option<&Model>, now: Instant) -> Duration {
        let need = model.and_then(|one| one.need).unwrap_or(0);
        let reload = model.and_then(|one| one.reload).unwrap_or(DEFAULT_RELOAD);
        self.until_of_age(need, now) + reload
    }

    fn places(&self) -> u32 {
        count(self.terms.places.max(1))
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
