//! Copies of answers that Redis gave lately, good for as long as it tells of no change.
//!
//! A copy is given when all that Redis told, up to this moment, has been looked at, and when it has told something
//! within the last second. What is dropped anywhere is thus not given from here either once Redis's word of it is here;
//! where the network is cut it may be given for that second. Copies are made anew from time to time: Redis sees what is
//! in use, and what it tells nothing of, such as `SWAPDB`, counts then.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::ConnectionInfo;
use tokio::time::{Instant, timeout};

use super::CONNECT;
use super::watch::{Told, Trouble, Watch};
use crate::cache::bounded::Bounded;
use crate::cache::entry::Entry;
use crate::cache::key::Key;
use crate::cache::now;

/// Copies are made anew, over a new connection, so often: its name may have become another server's.
const RENEW: Duration = Duration::from_secs(30);
/// The largest answer that is copied, as Redis has it, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Until a connection is tried again after one that failed.
const RETRY: Duration = Duration::from_secs(2);
/// The same after Redis has refused.
const RETRY_REFUSED: Duration = Duration::from_secs(30);

/// The copies.
#[derive(Debug)]
pub(super) struct Near {
    /// Those given lately.
    pub(super) copies: Bounded,
    /// Redis has been asked for something that was not looked at yet.
    waiting: AtomicBool,
    watching: Mutex<Watching>,
}

#[derive(Debug)]
enum Watching {
    On(Watch),
    /// Not before then.
    Off(Instant, Option<Trouble>),
}

impl Near {
    /// Room for copies of `bytes` in all.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            copies: Bounded::new(bytes),
            waiting: AtomicBool::new(false),
            watching: Mutex::new(Watching::Off(Instant::now(), None)),
        }
    }

    /// The answer under `key`, as Redis has it now.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        if self.waiting.load(Ordering::Acquire) {
            self.told(|_| Ok(()));
        }
        let entry = self.copies.get(key, now())?;
        let current = self.told(|watch| Ok(watch.is_current()));
        // What was told may have been that it is no more.
        (current == Some(true) && self.copies.has(&entry)).then_some(entry)
    }

    /// Redis has just given `entry`, which takes it so many `bytes`: it is worth a copy.
    pub(super) fn want(&self, entry: &Entry, bytes: usize) {
        if bytes > MAX_BYTES || self.copies.get(&entry.key, now()).is_some() {
            return;
        }
        self.told(|watch| watch.ask(&entry.key, &entry.facts.owner, &entry.facts.model));
    }

    /// The answer under `key` was changed or dropped.
    pub(super) fn forget(&self, key: &Key) {
        self.forget_all(|one| one == key);
        self.copies.remove(key);
    }

    /// Any answer may have been.
    pub(super) fn clear(&self) {
        self.forget_all(|_| true);
        self.copies.clear();
    }

    fn forget_all(&self, dropped: impl Fn(&Key) -> bool) {
        if let Watching::On(watch) = &mut *self.watching.lock() {
            watch.give_up(dropped);
        }
    }

    /// Takes in what Redis has told, then does something with the connection; nothing without one.
    fn told<T>(&self, and: impl FnOnce(&mut Watch) -> io::Result<T>) -> Option<T> {
        let mut watching = self.watching.lock();
        let Watching::On(watch) = &mut *watching else { return None };
        let told = watch.take_in(|told| match told {
            Told::Has(entry) => self.copies.insert(entry),
            Told::Changed(key) => drop(self.copies.remove(&key)),
            Told::AllChanged => self.copies.clear(),
        });
        let done = told.and_then(|()| and(watch));
        self.waiting.store(done.is_ok() && watch.is_waiting(), Ordering::Release);
        match done {
            Ok(value) => Some(value),
            Err(cause) => {
                tracing::debug!(%cause, "the cache's Redis tells of changes no more");
                *watching = Watching::Off(Instant::now() + RETRY, None);
                self.copies.clear();
                None
            }
        }
    }

    /// Looks after the connection; to be called more than once a second.
    pub(super) async fn keep(&self, to: &ConnectionInfo) {
        let is_young = |watch: &mut Watch| match watch.opened.elapsed() < RENEW {
            true => watch.ping().map(|()| true),
            false => Ok(false),
        };
        if self.told(is_young) == Some(true) {
            return;
        }
        if matches!(&*self.watching.lock(), Watching::Off(at, _) if *at > Instant::now()) {
            return;
        }
        let late = || Err(Trouble::Failed(io::ErrorKind::TimedOut));
        match timeout(CONNECT, Watch::open(to)).await.unwrap_or_else(|_| late()) {
            Ok(watch) => self.on(watch),
            Err(trouble) => self.off(trouble),
        }
    }

    fn on(&self, watch: Watch) {
        let mut watching = self.watching.lock();
        *watching = Watching::On(watch);
        self.copies.clear();
    }

    fn off(&self, trouble: Trouble) {
        tracing::debug!(cause = %trouble, "the cache's Redis cannot be asked to tell of changes");
        let mut watching = self.watching.lock();
        let after = match &trouble {
            Trouble::Refused(_) => RETRY_REFUSED,
            Trouble::Failed(_) => RETRY,
        };
        let told = matches!(&*watching, Watching::Off(_, Some(known)) if *known == trouble);
        if let (Trouble::Refused(cause), false) = (&trouble, told) {
            tracing::info!(%cause, "the cache's Redis tells of no changes: it is asked for every answer");
        }
        *watching = Watching::Off(Instant::now() + after, Some(trouble));
        self.copies.clear();
    }
}

#[cfg(test)]
mod tests;
