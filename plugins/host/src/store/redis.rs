//! Key-value pairs in Redis. One that is gone, slow or stopped costs a call a short wait at most, and
//! nothing at all once it has failed a few times.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult};
use tokio::runtime::{Builder, Handle};

use super::StoreError;
use crate::streak::Streak;

/// Opening a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// An answer. A plugin waits for it within its own deadline.
const RESPONSE: Duration = Duration::from_millis(100);

/// The gateway's connection to Redis. Cheap to clone; opened when first used.
#[derive(Clone)]
pub struct Connection(ConnectionManager);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// A connection to the Redis at `url`, which is not asked yet.
    ///
    /// # Errors
    /// In words that do not repeat the URL, which may hold a password.
    pub fn new(url: &str) -> Result<Self, String> {
        let told = |cause: RedisError| format!("not the URL of a Redis: {}", cause.category());
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE))
            .set_number_of_retries(0);
        let client = Client::open(url).map_err(told)?;
        let driver = driver().map_err(|cause| format!("no thread for a Redis: {cause}"))?;
        let _within = driver.enter();
        ConnectionManager::new_lazy_with_config(client, config).map(Self).map_err(told)
    }
}

/// A runtime on a thread of its own, which ends with the process: the connection is used from
/// several runtimes, and outlives some.
fn driver() -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("plugin-store".into()).spawn(run)?;
    Ok(handle)
}

/// One plugin's store.
#[derive(Debug)]
pub struct Redis {
    connection: Connection,
    prefix: String,
    streak: Streak,
}

impl Redis {
    /// The store of the plugin called `plugin`: keys begin with `sluicegate:plugin:<plugin>:`.
    #[must_use]
    pub fn new(connection: Connection, plugin: &str) -> Self {
        let prefix = format!("sluicegate:plugin:{plugin}:");
        Self { connection, prefix, streak: Streak::default() }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let command = Cmd::get(self.key(key));
        self.ask(async |connection| command.query_async(connection).await).await
    }

    pub(super) async fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let command = match millis(ttl) {
            None => Cmd::set(self.key(key), value),
            Some(millis) => Cmd::pset_ex(self.key(key), value, millis),
        };
        self.ask(async |connection| command.query_async(connection).await).await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let command = Cmd::del(self.key(key));
        self.ask(async |connection| command.query_async(connection).await).await
    }

    pub(super) async fn increment(
        &self,
        key: &str,
        by: i64,
        ttl: Duration,
    ) -> Result<i64, StoreError> {
        let key = self.key(key);
        let mut first = redis::cmd("SET");
        first.arg(&key).arg(0).arg("NX");
        if let Some(millis) = millis(ttl) {
            first.arg("PX").arg(millis);
        }
        let mut both = Pipeline::new();
        both.atomic().add_command(first).ignore().incr(&key, by);
        let sums: Vec<i64> =
            self.ask(async |connection| both.query_async(connection).await).await?;
        sums.first().copied().ok_or(StoreError::Unavailable)
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn ask<T>(
        &self,
        run: impl AsyncFnOnce(&mut ConnectionManager) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        if !self.streak.may_call() {
            return Err(StoreError::Unavailable);
        }
        match run(&mut self.connection.0.clone()).await {
            Ok(value) => {
                self.streak.succeeded();
                Ok(value)
            }
            // Redis is well, the value is not what was expected.
            Err(cause) if is_no_number(&cause) => {
                self.streak.succeeded();
                Err(StoreError::NotANumber)
            }
            Err(cause) => {
                tracing::debug!(%cause, "the plugins' Redis failed");
                self.streak.failed();
                Err(StoreError::Unavailable)
            }
        }
    }
}

fn is_no_number(cause: &RedisError) -> bool {
    let of_type = matches!(cause.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
    of_type && cause.to_string().contains("not an integer")
}

fn millis(ttl: Duration) -> Option<u64> {
    (!ttl.is_zero()).then(|| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}
