//! Takes a guest through its call in turns, so that one that computes for long or for ever lets
//! everything else on its worker go on.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use crate::clock::Ticker;

/// Longest wait for a place, and for all turns of a call together. It is not the guest's time: on a
/// busy machine it may take many times as long as the call itself.
pub(crate) const MAX_TURN_WAIT: Duration = Duration::from_secs(1);
/// A call that has used this much when it has waited too long is one of those that others wait for.
const LONG: Duration = Duration::from_millis(5);

/// Why a call was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// It took longer than it may.
    Limit,
    /// It did not get its turn.
    Turn,
}

/// Drives `work` to its end, for `limit` of its own time: processor time, and time it waits for
/// something.
///
/// Most calls end when first polled, and cost nothing more. One that does not end soon was interrupted
/// by the clock again or waits: from then on it runs in the slow lane, where one guest (for each worker) takes
/// its turn, a tick long, with everything else the worker has to do. It is pinned by the caller: a future
/// taken by value lies in the state twice.
pub(crate) async fn drive<T>(
    limit: Duration,
    slow: &Semaphore,
    clock: &Ticker,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Expired> {
    // Twice: a short call that the clock happened to interrupt is not one to wait for its turn.
    for _ in 0..2 {
        if let Poll::Ready(value) = poll(&mut work, Waker::noop()) {
            return Ok(value);
        }
    }
    let _faster = clock.hurry();
    let woken = Arc::new(Woken(Notify::new()));
    let waker = Waker::from(Arc::clone(&woken));
    let mut used = Duration::ZERO;
    let mut waited = Duration::ZERO;
    while used < limit {
        let queued = Instant::now();
        // The semaphore is never closed.
        let Ok(turn) = timeout(MAX_TURN_WAIT.saturating_sub(waited), slow.acquire()).await else {
            return Err(if used < LONG { Expired::Turn } else { Expired::Limit });
        };
        waited += queued.elapsed();
        // To the scheduler, not only to other tasks: sockets are looked at in between.
        tokio::task::yield_now().await;
        let before = processor_time();
        let polled = poll_fn(|_| Poll::Ready(poll(&mut work, &waker))).await;
        drop(turn);
        if let Poll::Ready(value) = polled {
            return Ok(value);
        }
        used += processor_time().saturating_sub(before);
        let waits = Instant::now();
        let left = limit.saturating_sub(used);
        // At once, when it was only interrupted.
        timeout(left, woken.0.notified()).await.map_err(|_| Expired::Limit)?;
        used += waits.elapsed();
    }
    Err(Expired::Limit)
}

fn poll<T>(work: &mut Pin<&mut impl Future<Output = T>>, waker: &Waker) -> Poll<T> {
    work.as_mut().poll(&mut Context::from_waker(waker))
}

/// What this thread has used: what others use meanwhile is not the guest's.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    /// Computes for as long as it is let, a millisecond at a time.
    async fn endless() {
        loop {
            let begin = processor_time();
            while processor_time() - begin < Duration::from_millis(1) {
                std::hint::black_box(());
            }
            let mut first = true;
            poll_fn(|context| {
                context.waker().wake_by_ref();
                if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
        }
    }

    fn clock() -> Arc<Ticker> {
        let engine = wasmtime::Engine::default();
        Ticker::start(engine.weak()).expect("a thread")
    }

    fn sleep_a_little() -> tokio::time::Sleep {
        tokio::time::sleep(Duration::from_millis(1))
    }

    fn limit() -> Duration {
        Duration::from_millis(20)
    }

    #[tokio::test]
    async fn one_that_never_ends_is_given_up_and_others_run_meanwhile() {
        let slow = Semaphore::new(1);
        let clock = clock();
        let mut ticks = 0;
        let other = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticks += 1;
            }
        };
        let work = pin!(endless());
        tokio::select! {
            ended = drive(limit(), &slow, &clock, work) => assert_eq!(ended, Err(Expired::Limit)),
            () = other => {}
        }
        assert!(ticks >= 3, "{ticks}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_its_own_time() {
        let slow = Semaphore::new(1);
        let sleep = |millis| tokio::time::sleep(Duration::from_millis(millis));
        assert_eq!(drive(limit(), &slow, &clock(), pin!(sleep(10))).await, Ok(()));
        assert_eq!(drive(limit(), &slow, &clock(), pin!(sleep(30))).await, Err(Expired::Limit));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_turn_is_not() {
        let slow = Semaphore::new(1);
        let taken = slow.acquire().await.expect("open");
        let work = sleep_a_little();
        let driven = async { drive(limit(), &slow, &clock(), pin!(work)).await };
        let release = async {
            tokio::time::sleep(limit() * 10).await;
            drop(taken);
        };
        assert_eq!(tokio::join!(driven, release).0, Ok(()));
        let _taken = slow.acquire().await.expect("open");
        let work = sleep_a_little();
        assert_eq!(drive(limit(), &slow, &clock(), pin!(work)).await, Err(Expired::Turn));
    }
}
