//! The gate before one upstream: the [`Line`] behind a lock, with wake-ups, and places that give
//! themselves back.
//!
//! Every change ends with a call of whoever may run now. The lock is held for that only, never over
//! an await; what travels to a waiter under it is a [`Grant`], which does nothing when dropped, and
//! becomes a [`Slot`] in the waiter's hands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::decision::Decision;
use super::line::memory::{Headroom, Memory};
use super::line::report::Report;
use super::line::{Ask, Grant, Line, Load, QueueFull, Terms, Ticket};

/// The gate of one upstream.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    line: Line,
    /// Where those who wait are called, by ticket number.
    calls: HashMap<u64, oneshot::Sender<Result<Grant, TurnedAway>>>,
}

/// Why one who waited gets no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// The load of the model failed, for this reason.
    #[error("the model could not be loaded: {0}")]
    LoadFailed(String),
    /// It could not be loaded now, for this reason: later it may.
    #[error("the model could not be loaded: {0}")]
    Blocked(String),
}

impl Gate {
    /// A gate before an upstream of which nothing is known.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        let state = State { line: Line::new(terms), calls: HashMap::new() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Changes the terms. Running requests are never cut; more places apply at once.
    pub fn configure(self: &Arc<Self>, terms: Terms) {
        self.change(|state, _| state.line.configure(terms));
    }

    /// Takes note of what was last seen of the memory; see [`Line::know`] for what is believed.
    pub fn know(self: &Arc<Self>, memory: Option<Memory>) {
        self.change(|state, _| state.line.know(memory));
    }

    /// What to do with a request. Changes nothing.
    #[must_use]
    pub fn consider(&self, ask: &Ask) -> Decision {
        self.state.lock().line.consider(ask, Instant::now())
    }

    /// Gives a place at once where [`Decision::Run`] is the decision; else says what is.
    pub fn try_enter(self: &Arc<Self>, ask: &Ask) -> Result<Slot, Decision> {
        let now = Instant::now();
        let grant = self.state.lock().line.enter(ask, now)?;
        Ok(Slot { gate: Arc::clone(self), grant })
    }

    /// Joins the line, whatever [`consider`](Self::consider) says: it waits for a place, for the
    /// load of its model, or for room. Who chose to wait is served by a partial model too.
    pub fn wait(self: &Arc<Self>, ask: Ask) -> Result<Place, QueueFull> {
        let (sender, called) = oneshot::channel();
        let ticket = self.change(|state, now| {
            let ticket = state.line.join(&ask, now)?;
            state.calls.insert(ticket.number(), sender);
            Ok(ticket)
        })?;
        Ok(Place { gate: Arc::clone(self), ticket, called: Some(called) })
    }

    /// A load that is due now, for the one task that loads. It counts as running until
    /// [`loaded`](Self::loaded), which must follow in any case: there is one at a time.
    #[must_use]
    pub fn next_load(self: &Arc<Self>) -> Option<Load> {
        self.state.lock().line.next_load(Instant::now())
    }

    /// Begins a load that nobody waits for; see [`Line::begin_load`]. Its end is told to
    /// [`loaded`](Self::loaded) as well.
    pub fn begin_load(self: &Arc<Self>, model: Arc<str>, need: u64) -> Result<Load, Decision> {
        self.state.lock().line.begin_load(&model, need, Instant::now())
    }

    /// The load has ended. On an error all who wait for the model are turned away with its text.
    pub fn loaded(self: &Arc<Self>, model: &str, outcome: Result<(), TurnedAway>) {
        self.change(|state, now| {
            let turned_away = state.line.loaded(model, outcome.is_ok(), now);
            let Err(reason) = outcome else { return };
            for ticket in turned_away {
                if let Some(call) = state.calls.remove(&ticket.number()) {
                    // Nobody listens: it has just left.
                    let _ = call.send(Err(reason.clone()));
                }
            }
        });
    }

    /// Notified when [`next_load`](Self::next_load) or [`wake_at`](Self::wake_at) may say something
    /// new. It remembers one notification, so one listener misses nothing.
    #[must_use]
    pub fn changed(&self) -> &Notify {
        &self.changed
    }

    /// When time alone makes a load due; see [`Line::wake_at`].
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        self.state.lock().line.wake_at()
    }

    /// Whether a load runs.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.state.lock().line.is_loading()
    }

    /// Requests that hold a place.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.lock().line.in_flight()
    }

    /// Those of one model.
    #[must_use]
    pub fn in_flight_of(&self, model: &str) -> usize {
        self.state.lock().line.in_flight_of(model)
    }

    /// What a model could still take; `None` where the memory cannot be seen.
    #[must_use]
    pub fn headroom(&self) -> Option<Headroom> {
        self.state.lock().line.headroom()
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().line.waiting()
    }

    /// When a request of the model last began or ended.
    #[must_use]
    pub fn last_used(&self, model: &str) -> Option<Instant> {
        self.state.lock().line.last_used(model)
    }

    /// When a newcomer could expect a place: what to tell a client that is turned away.
    #[must_use]
    pub fn retry_after(&self, model: &str) -> Duration {
        self.state.lock().line.retry_after(model, Instant::now())
    }

    /// The line as it stands.
    #[must_use]
    pub fn report(&self) -> Report {
        self.state.lock().line.report(Instant::now())
    }

    /// Makes a change, then calls whoever may run because of it.
    fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = Instant::now();
        let mut state = self.state.lock();
        let outcome = change(&mut state, now);
        state.call(now);
        drop(state);
        self.changed.notify_one();
        outcome
    }

    fn release(&self, grant: &Grant) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.line.release(grant, now);
        if state.line.waiting() == 0 {
            return;
        }
        state.call(now);
        drop(state);
        self.changed.notify_one();
    }
}

impl State {
    /// Calls those who may run now.
    fn call(&mut self, now: Instant) {
        while let Some((ticket, grant)) = self.line.next(now) {
            let call = self.calls.remove(&ticket.number());
            let unheard = match call.map(|call| call.send(Ok(grant))) {
                Some(Err(Ok(grant))) => grant,
                Some(Ok(()) | Err(Err(_))) | None => continue,
            };
            // A place leaves the line before it stops listening, so this is a second net.
            self.line.release(&unheard, now);
        }
    }
}

/// One place at the upstream, given back when dropped.
#[derive(Debug)]
pub struct Slot {
    gate: Arc<Gate>,
    grant: Grant,
}

impl Slot {
    /// Its model, without `:latest`.
    #[must_use]
    pub fn model(&self) -> &Arc<str> {
        &self.grant.model
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.release(&self.grant);
    }
}

/// A place in line. Dropped before it is called it leaves the line; dropped after, it passes what
/// it was given on.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    ticket: Ticket,
    called: Option<oneshot::Receiver<Result<Grant, TurnedAway>>>,
}

impl Place {
    /// Waits to be called. Dropping the future leaves the place in line; the caller sets the
    /// deadline. To be called until it answers, and not again after that.
    pub async fn called(&mut self) -> Result<Slot, TurnedAway> {
        let answer = match self.called.as_mut() {
            Some(called) => called.await.ok(),
            None => None,
        };
        self.called = None;
        match answer {
            Some(Ok(grant)) => Ok(Slot { gate: Arc::clone(&self.gate), grant }),
            Some(Err(turned_away)) => Err(turned_away),
            None => Err(TurnedAway::LoadFailed("this place was called before".to_owned())),
        }
    }

    /// Lets others see where it stands.
    #[must_use]
    pub fn in_line(&self) -> InLine {
        InLine { gate: Arc::clone(&self.gate), ticket: self.ticket.clone() }
    }
}

/// Where a [`Place`] stands, for those who tell its client meanwhile.
#[derive(Clone, Debug)]
pub struct InLine {
    gate: Arc<Gate>,
    ticket: Ticket,
}

impl InLine {
    /// Where in the line it is, 1 being the next; `None` once it was called.
    #[must_use]
    pub fn position(&self) -> Option<usize> {
        self.gate.state.lock().line.position(&self.ticket, Instant::now())
    }

    /// How long it still waits, as far as can be told; `None` once it was called.
    #[must_use]
    pub fn estimate(&self) -> Option<Duration> {
        self.gate.state.lock().line.estimate(&self.ticket, Instant::now())
    }
}

impl std::fmt::Display for InLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.position(), self.estimate()) {
            (Some(position), Some(wait)) => {
                let seconds = wait.as_secs().saturating_add(1);
                write!(f, "waiting: number {position} in line, about {seconds} s")
            }
            (Some(position), None) => write!(f, "waiting: number {position} in line"),
            (None, _) => f.write_str("waiting"),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(mut called) = self.called.take() else { return };
        self.gate.change(|state, now| {
            if state.line.leave(&self.ticket) {
                state.calls.remove(&self.ticket.number());
            } else if let Ok(Ok(grant)) = called.try_recv() {
                state.line.release(&grant, now);
            }
        });
    }
}

#[cfg(test)]
mod tests;
