//! How fast the simulator is just now, and whether it answers at all.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Slower than this factor is as good as hung.
const SLOWEST: f64 = 1e6;

/// The pace of all answers.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    slow: Mutex<f64>,
    hung: watch::Sender<bool>,
}

impl Pace {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, slow: Mutex::new(1.0), hung: watch::Sender::new(false) }
    }

    pub(crate) fn slow(&self, factor: f64) {
        // Not a number is not a factor.
        *self.slow.lock() = if factor.is_nan() { 1.0 } else { factor.clamp(0.0, SLOWEST) };
    }

    /// Time between tokens from now on.
    pub(crate) fn interval(&self) -> Duration {
        self.interval.mul_f64(*self.slow.lock())
    }

    pub(crate) fn hang(&self, hang: bool) {
        self.hung.send_replace(hang);
    }

    pub(crate) fn hung(&self) -> bool {
        *self.hung.borrow()
    }

    /// Waits while the simulator hangs.
    pub(crate) async fn awake(&self) {
        // The sender lives as long as `self`: this cannot fail.
        let _ = self.hung.subscribe().wait_for(|hung| !*hung).await;
    }
}
