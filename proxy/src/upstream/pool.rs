//! Idle connections, kept for the next request. Each worker has a pool of its own, so that a
//! connection is never polled from two threads.

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
    /// With the upstream's key; there are few upstreams.
    idle: Mutex<Vec<(u64, Vec<Box<Connection>>)>>,
}

impl Pool {
    /// The most recently used connection that still stands.
    pub(super) fn take(&self, origin: &Origin, now: Instant) -> Option<Box<Connection>> {
        loop {
            let mut connection = {
                let mut idle = self.idle.lock();
                let (_, kept) = idle.iter_mut().find(|(key, _)| *key == origin.pool_key)?;
                kept.pop()?
            };
            let idle = now.saturating_duration_since(connection.idle_since);
            if idle < IDLE_TIMEOUT && connection.is_usable() {
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
        match idle.iter_mut().find(|(key, _)| *key == origin_key) {
            Some((_, kept)) if kept.len() < MAX_IDLE => kept.push(connection),
            Some(_) => {}
            None => idle.push((origin_key, vec![connection])),
        }
    }

    /// Drops connections that were closed or idled too long.
    pub fn sweep(&self) {
        let mut idle = self.idle.lock();
        for (_, kept) in idle.iter_mut() {
            kept.retain_mut(|one| one.idle_since.elapsed() < IDLE_TIMEOUT && one.is_usable());
            kept.shrink_to_fit();
        }
        idle.retain(|(_, kept)| !kept.is_empty());
    }
}
