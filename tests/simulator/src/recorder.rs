//! What was received, and how each request ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Longest wait for something to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Everything received.
#[derive(Debug, Default)]
pub struct Recorder {
    requests: Mutex<Vec<Received>>,
    keep: Mutex<bool>,
    started: AtomicUsize,
    finished: AtomicUsize,
    aborted: AtomicUsize,
    connections: AtomicUsize,
    changed: Notify,
}

/// One request on its way; dropped before its end it was aborted by the client.
#[derive(Debug)]
pub(crate) struct Running {
    recorder: Arc<Recorder>,
    finished: bool,
}

impl Recorder {
    /// Whether bodies and headers are kept; benches have no use for them.
    pub fn keep(&self, keep: bool) {
        *self.keep.lock() = keep;
    }

    /// The requests for models so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.requests.lock().clone()
    }

    /// The last request for a model.
    #[must_use]
    pub fn last(&self) -> Option<Received> {
        self.requests.lock().last().cloned()
    }

    /// Requests for models that arrived.
    #[must_use]
    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Requests answered to their end.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }

    /// Requests whose client left before.
    #[must_use]
    pub fn aborted(&self) -> usize {
        self.aborted.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until `holds` is true of the recorder, which must be in reasonable time.
    pub async fn until(&self, holds: impl Fn(&Recorder) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if holds(self) {
                    return;
                }
                changed.await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "never came true of {self:?}");
    }

    pub(crate) fn start(self: &Arc<Self>, request: Received) -> Running {
        if *self.keep.lock() {
            self.requests.lock().push(request);
        }
        self.started.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        Running { recorder: Arc::clone(self), finished: false }
    }
}

impl Running {
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let counter = if self.finished { &self.recorder.finished } else { &self.recorder.aborted };
        counter.fetch_add(1, Ordering::SeqCst);
        self.recorder.changed.notify_waiters();
    }
}
