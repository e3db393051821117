//! The places of one upstream and the queue for them.
//!
//! Invariant: `in_flight` counts the [`Slot`]s alive plus those on their way to a waiter. A slot
//! that is dropped goes to the first waiter, else back to the pool.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The places of one upstream.
#[derive(Debug)]
pub struct Slots {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    in_flight: usize,
    next_ticket: u64,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// Why no place was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is at its bound.
    QueueFull,
    /// The wait was too long.
    TimedOut,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
}

impl Slots {
    /// `limit` places, all free.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let waiting = VecDeque::new();
        Self { inner: Mutex::new(Inner { limit, in_flight: 0, next_ticket: 0, waiting }) }
    }

    /// Changes the number of places. Slots above a lower limit run to their end.
    pub fn set_limit(&self, limit: usize) {
        let mut inner = self.inner.lock();
        inner.limit = limit;
        while inner.in_flight < inner.limit && inner.hand_over() {
            inner.in_flight += 1;
        }
    }

    /// Requests that hold a place.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.lock().in_flight
    }

    /// Requests that wait for one.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// Takes a place if one is free and nobody waits for it.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>) -> Option<Slot> {
        let mut inner = self.inner.lock();
        if inner.in_flight < inner.limit && inner.waiting.is_empty() {
            inner.in_flight += 1;
            return Some(Slot { slots: Arc::clone(self) });
        }
        None
    }

    /// Takes a place, waiting in line until `deadline` if at most `max_waiting` wait already.
    /// Dropping the future leaves the line.
    pub async fn acquire(
        self: &Arc<Self>,
        max_waiting: usize,
        deadline: Instant,
    ) -> Result<Slot, Refused> {
        if let Some(slot) = self.try_acquire() {
            return Ok(slot);
        }
        let mut place = self.enqueue(max_waiting).ok_or(Refused::QueueFull)?;
        tokio::time::timeout_at(deadline, place.turn()).await.map_err(|_| Refused::TimedOut)
    }

    fn enqueue(self: &Arc<Self>, max_waiting: usize) -> Option<Place> {
        let mut inner = self.inner.lock();
        if inner.waiting.len() >= max_waiting {
            return None;
        }
        let (sender, called) = oneshot::channel();
        let ticket = inner.next_ticket;
        inner.next_ticket += 1;
        inner.waiting.push_back((ticket, sender));
        Some(Place { slots: Arc::clone(self), ticket, called: Some(called) })
    }

    fn release(&self) {
        let mut inner = self.inner.lock();
        if inner.in_flight > inner.limit || !inner.hand_over() {
            inner.in_flight -= 1;
        }
    }
}

impl Inner {
    /// Gives a place to the first waiter that is still there; false when there is none.
    fn hand_over(&mut self) -> bool {
        while let Some((_, waiter)) = self.waiting.pop_front() {
            if waiter.send(()).is_ok() {
                return true;
            }
        }
        false
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.release();
    }
}

/// A place in line. Dropped before its turn it leaves the line; dropped after a slot was handed to
/// it, it passes that slot on.
struct Place {
    slots: Arc<Slots>,
    ticket: u64,
    called: Option<oneshot::Receiver<()>>,
}

impl Place {
    async fn turn(&mut self) -> Slot {
        if let Some(called) = self.called.as_mut() {
            // The sender is only dropped after it was used or together with this place.
            let _ = called.await;
        }
        self.called = None;
        Slot { slots: Arc::clone(&self.slots) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(mut called) = self.called.take() else { return };
        self.slots.inner.lock().waiting.retain(|(ticket, _)| *ticket != self.ticket);
        if called.try_recv().is_ok() {
            self.slots.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_first_come_first_served() {
        let slots = Arc::new(Slots::new(1));
        let first = slots.try_acquire().expect("free");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..3 {
            let (slots, order) = (Arc::clone(&slots), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let slot = slots.acquire(8, soon()).await.expect("a turn");
                order.lock().push(number);
                drop(slot);
            }));
            tokio::task::yield_now().await;
        }
        assert_eq!(slots.waiting(), 3);
        drop(first);
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!(*order.lock(), [0, 1, 2]);
        assert_eq!((slots.in_flight(), slots.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_and_the_wait_are_bounded() {
        let slots = Arc::new(Slots::new(1));
        let _held = slots.try_acquire().expect("free");
        let waiter = {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move { slots.acquire(1, soon()).await.map(|_| ()) })
        };
        tokio::task::yield_now().await;
        assert_eq!(slots.acquire(1, soon()).await.err(), Some(Refused::QueueFull));
        assert_eq!(waiter.await.expect("no panic"), Err(Refused::TimedOut));
        assert_eq!(slots.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_the_line_leaks_nothing() {
        let slots = Arc::new(Slots::new(1));
        let held = slots.try_acquire().expect("free");
        let called = slots.enqueue(8).expect("room");
        let waiting = slots.enqueue(8).expect("room");
        drop(held); // hands the slot to `called`, which never looks
        drop(waiting);
        drop(called);
        assert_eq!((slots.in_flight(), slots.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_limit_applies_at_once_and_never_cuts_a_request() {
        let slots = Arc::new(Slots::new(2));
        let (a, b) = (slots.try_acquire().expect("free"), slots.try_acquire().expect("free"));
        slots.set_limit(1);
        drop(a);
        assert!(slots.try_acquire().is_none());
        drop(b);
        assert!(slots.try_acquire().is_some());
    }
}
