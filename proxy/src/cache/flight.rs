//! Single flight: of equal requests that come while the first is still being answered, one asks the
//! upstream, and the others get what it has got so far and then follow.
//!
//! A follower never waits for a client: the one that leads writes down what came, and the others
//! read it from there. When the leader has nothing to give, each follower is told so and may lead.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::entry::{Entry, Shape};
use super::key::Key;

/// The most of one answer that is kept for those who come later, in bytes; beyond it, it is kept only
/// for those who follow already.
const MAX_HELD: usize = 8 << 20;
/// The most that is kept for these.
const MAX_FOLLOWED: usize = 64 << 20;
/// The most of all answers that is kept for those who come later, in bytes; beyond it, answers that
/// nobody follows are let go.
const MAX_HELD_BY_ALL: usize = 256 << 20;
/// Flights at one time; more requests go on alone.
const MAX_FLIGHTS: usize = 10_000;

/// Requests being answered, by their key. `M` is what the leader knows of the answer's origin.
#[derive(Debug)]
pub struct Flights<M> {
    open: Mutex<HashMap<Key, Arc<Flight<M>>, RandomState>>,
    /// Bytes held by all of them.
    held: AtomicUsize,
}

impl<M> Default for Flights<M> {
    fn default() -> Self {
        Self { open: Mutex::default(), held: AtomicUsize::new(0) }
    }
}

#[derive(Debug)]
struct Flight<M> {
    shape: Shape,
    state: Mutex<State<M>>,
    /// Something has happened.
    news: Notify,
    followers: AtomicUsize,
    /// A follower came or left.
    crowd: Notify,
}

#[derive(Debug)]
struct State<M> {
    origin: Option<M>,
    parts: Vec<Bytes>,
    bytes: usize,
    end: Option<End>,
}

/// How a leader's answer ended.
#[derive(Clone, Debug)]
pub enum End {
    /// It is whole.
    Whole {
        /// As it was sent, where it is no stream.
        body: Option<Bytes>,
        /// As it is kept, where it can be.
        entry: Option<Arc<Entry>>,
    },
    /// It broke off after it had begun; what was sent says so. Why.
    Cut(String),
    /// There is nothing to share: the leader failed, left, or its answer is too large.
    Nothing,
}

/// What a request is to do.
#[derive(Debug)]
pub enum Role<M> {
    /// Ask the upstream.
    Leader(Leader<M>),
    /// Wait for the one that asks.
    Follower(Follower<M>),
    /// Ask the upstream for itself alone.
    Alone,
}

impl<M: Clone> Flights<M> {
    /// Joins the flight of `key`, or begins it.
    #[must_use]
    pub fn join(self: &Arc<Self>, key: Key, shape: Shape) -> Role<M> {
        let mut open = self.open.lock();
        if let Some(flight) = open.get(&key) {
            return Role::Follower(Follower::new(Arc::clone(flight)));
        }
        if open.len() >= MAX_FLIGHTS {
            return Role::Alone;
        }
        let flight = Flight::new(shape);
        open.insert(key, Arc::clone(&flight));
        Role::Leader(Leader { flights: Arc::clone(self), key, flight, ended: false })
    }

    /// A flight that nobody can join.
    #[must_use]
    pub fn solo(self: &Arc<Self>, key: Key, shape: Shape) -> Leader<M> {
        Leader { flights: Arc::clone(self), key, flight: Flight::new(shape), ended: false }
    }

    /// Flights at this time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The request that asks the upstream. Dropped without an end, it has failed.
#[derive(Debug)]
pub struct Leader<M> {
    flights: Arc<Flights<M>>,
    key: Key,
    flight: Arc<Flight<M>>,
    ended: bool,
}

impl<M> Leader<M> {
    /// Says where the answer comes from.
    pub fn begun(&self, origin: M) {
        self.flight.state.lock().origin = Some(origin);
        self.flight.tell();
    }

    /// Adds what came of a stream.
    pub fn push(&mut self, part: Bytes) {
        if self.ended {
            return;
        }
        let mut state = self.flight.state.lock();
        state.bytes += part.len();
        let all = self.flights.held.fetch_add(part.len(), Ordering::AcqRel);
        let bytes = state.bytes;
        state.parts.push(part);
        if bytes > MAX_HELD || all > MAX_HELD_BY_ALL {
            drop(state);
            self.seal();
            if bytes > MAX_FOLLOWED || !self.is_followed() {
                return self.close(End::Nothing);
            }
            return self.flight.tell();
        }
        drop(state);
        self.flight.tell();
    }

    /// What came so far, joined.
    #[must_use]
    pub fn so_far(&self) -> Bytes {
        match self.flight.state.lock().parts.as_slice() {
            [single] => single.clone(),
            several => Bytes::from(several.concat()),
        }
    }

    /// How many parts came so far.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.flight.state.lock().parts.len()
    }

    /// Whether the answer can still be shared and kept.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.ended
    }

    /// Lets nobody else follow; whoever comes now asks for itself.
    pub fn seal(&self) {
        let mut open = self.flights.open.lock();
        // By now it may be another's.
        if open.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            open.remove(&self.key);
        }
    }

    /// Ends the flight.
    pub fn end(mut self, end: End) {
        self.close(end);
    }

    fn close(&mut self, end: End) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.seal();
        let mut state = self.flight.state.lock();
        self.flights.held.fetch_sub(state.bytes, Ordering::AcqRel);
        state.end = Some(end);
        // Whoever follows has them in hand; nobody else will come.
        if self.flight.followers.load(Ordering::Acquire) == 0 {
            state.parts = Vec::new();
        }
        drop(state);
        self.flight.tell();
    }

    /// Whether anybody follows.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.flight.followers.load(Ordering::Acquire) > 0
    }

    /// Waits until somebody follows.
    pub async fn followed(&self) {
        self.until(true).await;
    }

    /// Waits until nobody follows.
    pub async fn abandoned(&self) {
        self.until(false).await;
    }

    async fn until(&self, followed: bool) {
        loop {
            let mut changed = pin!(self.flight.crowd.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.is_followed() == followed {
                return;
            }
            changed.await;
        }
    }

    /// Follows one's own flight, from what was sent to one's client already.
    #[must_use]
    pub fn follow(&self, sent: usize) -> Follower<M> {
        let mut follower = Follower::new(Arc::clone(&self.flight));
        follower.at = sent;
        follower
    }
}

impl<M> Drop for Leader<M> {
    fn drop(&mut self) {
        self.close(End::Nothing);
    }
}

impl<M> Flight<M> {
    fn new(shape: Shape) -> Arc<Self> {
        Arc::new(Self {
            shape,
            state: Mutex::new(State { origin: None, parts: Vec::new(), bytes: 0, end: None }),
            news: Notify::new(),
            followers: AtomicUsize::new(0),
            crowd: Notify::new(),
        })
    }

    fn tell(&self) {
        self.news.notify_waiters();
    }
}

/// A request that waits for another's answer.
#[derive(Debug)]
pub struct Follower<M> {
    flight: Arc<Flight<M>>,
    at: usize,
}

/// What a follower finds next.
#[derive(Debug)]
pub enum News {
    /// More of a stream.
    Parts(Vec<Bytes>),
    /// No more will come.
    End(End),
}

impl<M> Follower<M> {
    fn new(flight: Arc<Flight<M>>) -> Self {
        flight.followers.fetch_add(1, Ordering::AcqRel);
        flight.crowd.notify_waiters();
        Self { flight, at: 0 }
    }

    /// The form in which the leader gets its answer.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.flight.shape
    }

    /// What comes next of the leader's stream, or its end.
    pub async fn next(&mut self) -> News {
        loop {
            let mut changed = pin!(self.flight.news.notified());
            // From here on nothing is missed.
            changed.as_mut().enable();
            {
                let state = self.flight.state.lock();
                if let Some(parts) = state.parts.get(self.at..).filter(|parts| !parts.is_empty()) {
                    self.at += parts.len();
                    return News::Parts(parts.to_vec());
                }
                if let Some(end) = &state.end {
                    return News::End(end.clone());
                }
            }
            changed.await;
        }
    }

    /// How it ends, without what comes before.
    pub async fn end(&mut self) -> End {
        loop {
            match self.next().await {
                News::Parts(_) => {}
                News::End(end) => return end,
            }
        }
    }
}

impl<M: Clone> Follower<M> {
    /// Where the answer comes from, once that is known.
    #[must_use]
    pub fn origin(&self) -> Option<M> {
        self.flight.state.lock().origin.clone()
    }
}

impl<M> Drop for Follower<M> {
    fn drop(&mut self) {
        self.flight.followers.fetch_sub(1, Ordering::AcqRel);
        self.flight.crowd.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
