//! A plugin's key-value pairs: in the gateway's memory, or in a Redis that replicas share.

mod memory;
mod redis;

use std::time::Duration;

pub use self::memory::Memory;
pub use self::redis::{Connection, Redis};

/// Entries in memory at most.
pub const MAX_ENTRIES: usize = 10_000;
/// Bytes of a key at most.
pub const MAX_KEY: usize = 256;
/// Bytes of a value at most.
pub const MAX_VALUE: usize = 64 << 10;
/// Bytes of all keys and values in memory at most.
pub const MAX_BYTES: usize = 16 << 20;

/// Why a value was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Key or value too large.
    TooLarge,
    /// The value is no number.
    NotANumber,
    /// Redis does not answer as it should.
    Unavailable,
}

/// One plugin's store.
#[derive(Debug)]
pub enum Store {
    /// In this process.
    Memory(Memory),
    /// Elsewhere.
    Redis(Redis),
}

impl Default for Store {
    fn default() -> Self {
        Self::Memory(Memory::default())
    }
}

impl Store {
    /// The value of `key`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.get(key)),
            Self::Redis(redis) => redis.get(key).await,
        }
    }

    /// Sets `key`, to go after `ttl` (zero: never by age).
    ///
    /// # Errors
    /// When key or value is too large, or it cannot be written.
    pub async fn set(&self, key: &str, value: Vec<u8>, ttl: Duration) -> Result<(), StoreError> {
        if key.len() > MAX_KEY || value.len() > MAX_VALUE {
            return Err(StoreError::TooLarge);
        }
        match self {
            Self::Memory(memory) => {
                memory.set(key, value, ttl);
                Ok(())
            }
            Self::Redis(redis) => redis.set(key, value, ttl).await,
        }
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// When that cannot be done.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => {
                memory.delete(key);
                Ok(())
            }
            Self::Redis(redis) => redis.delete(key).await,
        }
    }

    /// Adds `by` to the number at `key` in one step; gives the sum. `ttl` counts from the first
    /// addition.
    ///
    /// # Errors
    /// When the value is no number, the key too large, or it cannot be written.
    pub async fn increment(&self, key: &str, by: i64, ttl: Duration) -> Result<i64, StoreError> {
        if key.len() > MAX_KEY {
            return Err(StoreError::TooLarge);
        }
        match self {
            Self::Memory(memory) => memory.increment(key, by, ttl),
            Self::Redis(redis) => redis.increment(key, by, ttl).await,
        }
    }
}
