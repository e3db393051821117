//! The loaded models, and the memory that they and others take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::card::Card;
use crate::models::Model;

/// What there is to share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of VRAM.
    pub(super) vram: u64,
    /// Bytes that each runner takes beside its model.
    pub(super) overhead: u64,
    /// Models loaded at a time.
    pub(super) max_loaded: usize,
}

/// One loaded model.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) id: u64,
    pub(super) model: Model,
    pub(super) context: u64,
    pub(super) size: u64,
    pub(super) size_vram: u64,
    pub(super) slots: Arc<Semaphore>,
    pub(super) users: usize,
    pub(super) keep_alive: Duration,
    pub(super) expires: Instant,
    /// Goes as soon as it is idle, and takes no more requests until then.
    pub(super) evicted: bool,
}

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) loads: BTreeMap<String, usize>,
    pub(super) evictions: usize,
    pub(super) swaps: usize,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) runners: Vec<Runner>,
    pub(super) foreign: u64,
    pub(super) counts: Counts,
    /// Bytes of the model that is being loaded.
    loading: u64,
    last_id: u64,
}

/// The loaded models, shared with the requests that use them.
#[derive(Debug)]
pub(super) struct Runners {
    limits: Limits,
    card: Option<Card>,
    state: Mutex<State>,
    /// Told whenever there may be more room.
    pub(super) freed: Notify,
}

/// What a request needs loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need<'a> {
    pub(super) model: &'a Model,
    pub(super) context: u64,
    pub(super) keep_alive: Option<Duration>,
}

/// A request's part in a runner, which it has until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    runners: Arc<Runners>,
    runner: u64,
    /// Context of the runner, in tokens.
    pub(crate) context: u64,
    /// Time until the model was there.
    pub(crate) load_time: Duration,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let runner = self.runner;
        self.runners.change(|state| {
            if let Some(runner) = state.runners.iter_mut().find(|one| one.id == runner) {
                runner.users -= 1;
                runner.expires = Instant::now() + runner.keep_alive;
            }
        });
        self.runners.freed.notify_waiters();
    }
}

/// Memory set aside for a model while it loads; given back when dropped.
#[derive(Debug)]
pub(super) struct Room {
    runners: Arc<Runners>,
    bytes: u64,
    size: u64,
    size_vram: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.runners.change(|state| state.loading -= self.bytes);
            self.runners.freed.notify_waiters();
        }
    }
}

impl State {
    fn used(&self, overhead: u64) -> u64 {
        let runners = self.runners.iter().map(|one| one.size_vram.saturating_add(overhead));
        runners.fold(self.foreign.saturating_add(self.loading), u64::saturating_add)
    }

    /// Lets go of what is idle and has expired, or is evicted.
    fn tidy(&mut self) {
        let now = Instant::now();
        let counts = &mut self.counts;
        self.runners.retain(|one| {
            let stays = one.users > 0 || (!one.evicted && one.expires > now);
            counts.evictions += usize::from(!stays && one.evicted);
            stays
        });
    }

    /// Whom to evict: an idle one, which would expire soonest; or else, once it is idle, the one that
    /// is kept alive for the shortest time, as Ollama does.
    fn victim(&mut self) -> Option<&mut Runner> {
        let idle = self.runners.iter().any(|one| one.users == 0);
        if !idle && self.runners.iter().any(|one| one.evicted) {
            return None;
        }
        let runners = self.runners.iter_mut();
        if idle {
            runners.filter(|one| one.users == 0).min_by_key(|one| one.expires)
        } else {
            runners.min_by_key(|one| one.keep_alive)
        }
    }
}

impl Runners {
    pub(super) fn new(limits: Limits, card: Option<Card>) -> Self {
        Self { limits, card, state: Mutex::default(), freed: Notify::new() }
    }

    /// Changes or reads the state as it is now, and shows it on the card.
    pub(super) fn change<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        state.tidy();
        let done = act(&mut state);
        state.tidy();
        if let Some(card) = &self.card {
            let used = state.used(self.limits.overhead).min(self.limits.vram);
            card.show(used, state.runners.iter().any(|one| one.users > 0));
        }
        done
    }

    pub(super) fn memory(&self) -> (u64, u64) {
        let used = self.change(|state| state.used(self.limits.overhead));
        (used.min(self.limits.vram), self.limits.vram)
    }

    pub(super) fn set_temperature(&self, celsius: f64) {
        if let Some(card) = &self.card {
            card.set_temperature(celsius);
            self.change(|_| ());
        }
    }

    /// Joins a runner that is as needed; the semaphore is what the place still has to pass.
    pub(super) fn join(self: &Arc<Self>, need: &Need) -> Option<(Place, Arc<Semaphore>)> {
        self.change(|state| {
            let runner = state.runners.iter_mut().find(|one| {
                one.model.name == need.model.name && one.context == need.context && !one.evicted
            })?;
            if let Some(keep_alive) = need.keep_alive {
                runner.keep_alive = keep_alive;
            }
            runner.expires = Instant::now() + runner.keep_alive;
            runner.users += 1;
            Some((self.place(runner), Arc::clone(&runner.slots)))
        })
    }

    fn place(self: &Arc<Self>, runner: &Runner) -> Place {
        Place {
            runners: Arc::clone(self),
            runner: runner.id,
            context: runner.context,
            load_time: Duration::ZERO,
            permit: None,
        }
    }

    /// Sets memory aside for a model of `size` bytes; none while one that has to go is busy. What
    /// does not fit into all that can be had stays on the CPU.
    pub(super) fn reserve(
        self: &Arc<Self>,
        name: &str,
        size: u64,
        swaps: &mut bool,
    ) -> Option<Room> {
        let Limits { vram, overhead, max_loaded } = self.limits;
        self.change(|state| {
            loop {
                state.tidy();
                if let Some(old) = state.runners.iter_mut().find(|one| one.model.name == name) {
                    old.evicted = true;
                    if old.users > 0 {
                        return None;
                    }
                    continue;
                }
                let free = vram.saturating_sub(state.used(overhead));
                let fits = free >= size.saturating_add(overhead);
                let alone = state.runners.is_empty();
                if alone || (fits && state.runners.len() < max_loaded) {
                    let size_vram = free.saturating_sub(overhead).min(size);
                    let bytes = size_vram.saturating_add(overhead);
                    state.loading = state.loading.saturating_add(bytes);
                    state.counts.swaps += usize::from(*swaps);
                    return Some(Room { runners: Arc::clone(self), bytes, size, size_vram });
                }
                let victim = state.victim()?;
                victim.evicted = true;
                *swaps = true;
                if victim.users > 0 {
                    return None;
                }
            }
        })
    }
}

impl Room {
    /// The model is loaded: its runner takes the room over.
    pub(super) fn fill(
        mut self,
        need: &Need,
        keep_alive: Duration,
        slots: usize,
    ) -> (Place, Arc<Semaphore>) {
        let bytes = std::mem::take(&mut self.bytes);
        let semaphore = Arc::new(Semaphore::new(slots));
        let place = self.runners.change(|state| {
            state.loading -= bytes;
            *state.counts.loads.entry(need.model.name.clone()).or_default() += 1;
            state.last_id += 1;
            let runner = Runner {
                id: state.last_id,
                model: need.model.clone(),
                context: need.context,
                size: self.size,
                size_vram: self.size_vram,
                slots: Arc::clone(&semaphore),
                users: 1,
                keep_alive,
                expires: Instant::now() + keep_alive,
                evicted: false,
            };
            let place = self.runners.place(&runner);
            state.runners.push(runner);
            place
        });
        (place, semaphore)
    }
}
