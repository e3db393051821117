//! Idle connections, kept for the next request. Each worker has a pool of its own, so that a
//! connection is never polled from two threads.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection::Connection;
use super::origin::Origin;

/// Idle connections kept for one upstream.
const MAX_IDLE: usize = 256;
/// Longest a connection idles: less than the 60 s after which many servers close theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// A worker's idle connections, by upstream.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a connection is large and moves with every request")]
pub struct Pool {
    idle: Mutex<HashMap<u64, Vec<Box<Connection>>>>,
}

impl Pool {
    /// The most recently used connection that still stands.
    pub(super) fn take(&self, origin: &Origin) -> Option<Box<Connection>> {
        loop {
            let mut connection = self.idle.lock().get_mut(&origin.pool_key)?.pop()?;
            if connection.idle_since.elapsed() < IDLE_TIMEOUT && connection.is_usable() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose exchange came to its end, if it can carry another.
    pub(super) fn give_back(&self, origin_key: u64, mut connection: Box<Connection>) {
        if !connection.is_usable() {
            return;
        }
        connection.reused = true;
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        let kept = idle.entry(origin_key).or_default();
        if kept.len() < MAX_IDLE {
            kept.push(connection);
        }
    }

    /// Drops connections that were closed or idled too long.
    pub fn sweep(&self) {
        let mut idle = self.idle.lock();
        for kept in idle.values_mut() {
            kept.retain_mut(|one| one.idle_since.elapsed() < IDLE_TIMEOUT && one.is_usable());
            kept.shrink_to_fit();
        }
        idle.retain(|_, kept| !kept.is_empty());
    }
}
