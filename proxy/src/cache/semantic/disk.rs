//! The thread that writes questions and answers to disk, and reads answers from there.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cache::key::Key;
use crate::cache::now;
use crate::cache::store::{Entry, Limits, OpenError, Record, Store};
use crate::telemetry::names;

/// What waits to be written or read; more is not kept.
const MAX_WAITING: usize = 256;
/// How often what was written is made sure of: a crash of the machine loses this much.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Compaction is looked at once in so many syncs.
const COMPACT_EVERY: u32 = 30;
/// The longest wait for an answer from disk.
const READ: Duration = Duration::from_millis(100);

enum Job {
    Put(Box<Record>),
    Read(Key, oneshot::Sender<Option<Bytes>>),
}

/// The way to that thread, which ends with this.
#[derive(Debug)]
pub(super) struct Disk {
    jobs: SyncSender<Job>,
    evicted: Arc<Mutex<Vec<Key>>>,
    /// To be deleted: never lost for want of room, or what was dropped would be back after a restart.
    /// No more than there are entries.
    doomed: Arc<Mutex<HashSet<Key>>>,
}

impl Disk {
    /// Opens the store at `path` and starts the thread; gives what is there.
    pub(super) fn open(
        path: &Path,
        limits: Limits,
        now: u64,
    ) -> Result<(Self, Vec<Entry>), OpenError> {
        let (store, loaded) = Store::open(path, limits, now)?;
        let dropped = loaded.dropped;
        if dropped.cut_bytes > 0 {
            tracing::warn!(
                bytes = dropped.cut_bytes,
                "a torn end of the cache's files was cut off"
            );
        }
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        let evicted: Arc<Mutex<Vec<Key>>> = Arc::default();
        let doomed: Arc<Mutex<HashSet<Key>>> = Arc::default();
        let writer = Writer { store, evicted: Arc::clone(&evicted), doomed: Arc::clone(&doomed) };
        std::thread::Builder::new()
            .name("cache-disk".into())
            .spawn(move || writer.run(&waiting))
            .map_err(|source| OpenError::Io { dir: path.to_path_buf(), source })?;
        Ok((Self { jobs, evicted, doomed }, loaded.entries))
    }

    pub(super) fn put(&self, record: Record) {
        self.doomed.lock().remove(&Key(record.key));
        if self.jobs.try_send(Job::Put(Box::new(record))).is_err() {
            failed("busy");
        }
    }

    pub(super) fn delete(&self, keys: impl IntoIterator<Item = Key>) {
        self.doomed.lock().extend(keys);
    }

    pub(super) async fn read(&self, key: Key) -> Option<Bytes> {
        if self.doomed.lock().contains(&key) {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Read(key, reply)).ok()?;
        tokio::time::timeout(READ, answer).await.ok()?.ok()?
    }

    /// Keys that had to go since this was last called.
    pub(super) fn evicted(&self) -> Vec<Key> {
        std::mem::take(&mut *self.evicted.lock())
    }
}

struct Writer {
    store: Store,
    evicted: Arc<Mutex<Vec<Key>>>,
    doomed: Arc<Mutex<HashSet<Key>>>,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Job>) {
        let (mut due, mut rounds) = (Instant::now() + SYNC_EVERY, 0_u32);
        loop {
            match waiting.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(job) => self.work(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.delete();
                    return told(self.store.sync());
                }
            }
            if Instant::now() < due {
                continue;
            }
            due = Instant::now() + SYNC_EVERY;
            self.delete();
            told(self.store.sync());
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(COMPACT_EVERY) {
                told(self.store.compact(now()).map(|_| ()));
            }
            self.evicted.lock().extend(self.store.take_evicted().into_iter().map(Key));
            gauge!(names::CACHE_DISK_BYTES).set(self.store.bytes() as f64);
        }
    }

    fn delete(&mut self) {
        let doomed = std::mem::take(&mut *self.doomed.lock());
        for key in doomed {
            told(self.store.delete(&key.0).map(|_| ()));
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Put(record) => told(self.store.append(&record, now()).map(|_| ())),
            Job::Read(key, reply) => {
                let answer = self.store.read_answer(&key.0, now()).unwrap_or_else(|cause| {
                    tracing::warn!(%cause, "a damaged answer in the cache's files");
                    told(self.store.delete(&key.0).map(|_| ()));
                    None
                });
                // It may have given up by now.
                let _ = reply.send(answer);
            }
        }
    }
}

fn told(outcome: std::io::Result<()>) {
    if let Err(cause) = outcome {
        tracing::debug!(%cause, "the cache's files");
        failed("disk");
    }
}

fn failed(reason: &'static str) {
    counter!(names::CACHE_WRITE_FAILURES, "reason" => reason).increment(1);
}
