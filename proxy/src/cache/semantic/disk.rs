//! The thread that writes questions and answers to disk, and reads answers from there.

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
use crate::cache::store::{Entry, Limits, Record, Store};
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
    Delete(Vec<Key>),
    Read(Key, oneshot::Sender<Option<Bytes>>),
}

/// The way to that thread, which ends with this.
#[derive(Debug)]
pub(super) struct Disk {
    jobs: SyncSender<Job>,
    evicted: Arc<Mutex<Vec<Key>>>,
}

impl Disk {
    /// Opens the store at `path` and starts the thread; gives what is there.
    pub(super) fn open(
        path: &Path,
        limits: Limits,
        now: u64,
    ) -> Result<(Self, Vec<Entry>), String> {
        let (store, loaded) = Store::open(path, limits, now)
            .map_err(|cause| format!("cache.semantic.path: {cause}"))?;
        let dropped = loaded.dropped;
        if dropped.cut_bytes > 0 {
            tracing::warn!(
                bytes = dropped.cut_bytes,
                "a torn end of the cache's files was cut off"
            );
        }
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        let evicted: Arc<Mutex<Vec<Key>>> = Arc::default();
        let theirs = Arc::clone(&evicted);
        std::thread::Builder::new()
            .name("cache-disk".into())
            .spawn(move || run(store, &waiting, &theirs))
            .map_err(|cause| cause.to_string())?;
        Ok((Self { jobs, evicted }, loaded.entries))
    }

    pub(super) fn put(&self, record: Record) {
        if self.jobs.try_send(Job::Put(Box::new(record))).is_err() {
            failed("busy");
        }
    }

    pub(super) fn delete(&self, keys: Vec<Key>) {
        // A delete must not be lost: what it drops would be back after a restart.
        if let Err(cause) = self.jobs.send(Job::Delete(keys)) {
            tracing::error!(%cause, "the cache's files are not written any more");
        }
    }

    pub(super) async fn read(&self, key: Key) -> Option<Bytes> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Read(key, reply)).ok()?;
        tokio::time::timeout(READ, answer).await.ok()?.ok()?
    }

    /// Keys that had to go since this was last called.
    pub(super) fn evicted(&self) -> Vec<Key> {
        std::mem::take(&mut *self.evicted.lock())
    }
}

fn run(mut store: Store, waiting: &Receiver<Job>, evicted: &Mutex<Vec<Key>>) {
    let (mut due, mut rounds) = (Instant::now() + SYNC_EVERY, 0_u32);
    loop {
        match waiting.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(job) => work(&mut store, job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return told(store.sync()),
        }
        if Instant::now() < due {
            continue;
        }
        due = Instant::now() + SYNC_EVERY;
        told(store.sync());
        rounds = rounds.wrapping_add(1);
        if rounds.is_multiple_of(COMPACT_EVERY) {
            told(store.compact(now()).map(|_| ()));
        }
        evicted.lock().extend(store.take_evicted().into_iter().map(Key));
        gauge!(names::CACHE_DISK_BYTES).set(store.bytes() as f64);
    }
}

fn work(store: &mut Store, job: Job) {
    match job {
        Job::Put(record) => told(store.append(&record, now()).map(|_| ())),
        Job::Delete(keys) => {
            keys.iter().for_each(|key| told(store.delete(&key.0).map(|_| ())));
        }
        Job::Read(key, reply) => {
            let answer = store.read_answer(&key.0, now()).unwrap_or_else(|cause| {
                tracing::warn!(%cause, "a damaged answer in the cache's files");
                told(store.delete(&key.0).map(|_| ()));
                None
            });
            // It may have given up by now.
            let _ = reply.send(answer);
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
