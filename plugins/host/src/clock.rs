//! The clock that interrupts guests: it ticks only while calls run, and seldom unless one runs for
//! long, because every tick wakes a thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// A guest is interrupted this often at first. Short calls are over by then.
const CALM: Duration = Duration::from_millis(4);
/// A guest that computes for long is interrupted this often, to let others run.
const BUSY: Duration = Duration::from_millis(1);
/// Ticks without any call after which the clock stops, so that an idle gateway does not wake up.
const IDLE_TICKS: u32 = 25;
/// While it stands, whether the engine is still there is looked at this often.
const STANDS: Duration = Duration::from_secs(60);

/// Advances the engine's epoch while calls run.
#[derive(Debug)]
pub(crate) struct Ticker {
    started: AtomicU64,
    running: AtomicU64,
    slow: AtomicU64,
    parked: AtomicBool,
    thread: Thread,
}

/// A call the clock ticks for; or ticks faster for.
#[must_use]
pub(crate) struct Ticking<'a>(&'a AtomicU64);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticker {
    pub(crate) fn start(engine: wasmtime::EngineWeak) -> Result<Arc<Self>, String> {
        let (hand_over, receive) = std::sync::mpsc::sync_channel::<std::sync::Weak<Self>>(1);
        let run = move || {
            let Ok(ticker) = receive.recv() else { return };
            let (mut idle, mut seen) = (0, 0);
            // The thread keeps neither the engine nor the clock alive.
            while let (Some(ticker), Some(engine)) = (ticker.upgrade(), engine.upgrade()) {
                engine.increment_epoch();
                drop(engine);
                let started = ticker.started.load(Ordering::SeqCst);
                let busy = started != seen || ticker.running.load(Ordering::SeqCst) > 0;
                idle = if busy { 0 } else { idle + 1 };
                seen = started;
                if idle >= IDLE_TICKS {
                    ticker.stand(seen);
                    idle = 0;
                }
                let slow = ticker.slow.load(Ordering::SeqCst) > 0;
                drop(ticker);
                thread::sleep(if slow { BUSY } else { CALM });
            }
        };
        let handle = thread::Builder::new()
            .name("plugin-clock".into())
            .spawn(run)
            .map_err(|cause| format!("the plugin clock did not start: {cause}"))?;
        let ticker = Arc::new(Self {
            started: AtomicU64::new(0),
            running: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            thread: handle.thread().clone(),
        });
        hand_over.send(Arc::downgrade(&ticker)).map_err(|cause| cause.to_string())?;
        Ok(ticker)
    }

    fn stand(&self, seen: u64) {
        self.parked.store(true, Ordering::SeqCst);
        // A call that began before the flag was up did not see it.
        if self.started.load(Ordering::SeqCst) == seen {
            thread::park_timeout(STANDS);
        }
        self.parked.store(false, Ordering::SeqCst);
    }

    /// A call begins.
    pub(crate) fn begin(&self) -> Ticking<'_> {
        self.started.fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Ticking(&self.running)
    }

    /// A call turns out to be long.
    pub(crate) fn hurry(&self) -> Ticking<'_> {
        self.slow.fetch_add(1, Ordering::SeqCst);
        Ticking(&self.slow)
    }
}
