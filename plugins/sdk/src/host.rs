//! What the gateway does for a plugin. In a unit test, which has no gateway, [`testing`] stands in
//! for it.
//!
//! [`testing`]: crate::testing

use crate::bindings::base::sluicegate::plugin as wit;
pub use wit::log::Level;
pub use wit::store::Failure;

/// Whether this runs in a gateway.
const INSIDE: bool = cfg!(target_arch = "wasm32");

pub(crate) fn config_get(path: &str) -> Option<String> {
    if INSIDE { wit::config::get(path) } else { crate::testing::config_get(path) }
}

pub(crate) fn config_json() -> String {
    if INSIDE { wit::config::json() } else { crate::testing::config_json() }
}

/// Writes a line to the gateway's log.
pub fn log(level: Level, message: &str) {
    if INSIDE {
        wit::log::write(level, message);
    } else {
        crate::testing::record(format!("log {}: {message}", level_name(level)));
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// Adds to `sluicegate_plugin_events_total{plugin, name, label}`.
pub fn count(name: &str, label: &str, by: u64) {
    if INSIDE {
        wit::metric::add(name, label, by);
    } else {
        crate::testing::record(format!("metric {name}{{{label}}} {by}"));
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub fn unix_ms() -> u64 {
    if INSIDE { wit::clock::unix_ms() } else { crate::testing::unix_ms() }
}

/// Microseconds since some moment before; never goes back.
pub fn monotonic_us() -> u64 {
    if INSIDE { wit::clock::monotonic_us() } else { crate::testing::unix_ms() * 1000 }
}

/// The value of `key` in the plugin's store.
pub fn load(key: &str) -> Result<Option<Vec<u8>>, Failure> {
    if INSIDE { wit::store::get(key) } else { Ok(crate::testing::load(key)) }
}

/// Sets `key`; it goes after `ttl_ms` milliseconds (0: never by age).
pub fn save(key: &str, value: &[u8], ttl_ms: u64) -> Result<(), Failure> {
    if INSIDE {
        wit::store::set(key, value, ttl_ms)
    } else {
        crate::testing::save(key, value);
        Ok(())
    }
}

/// Removes `key`.
pub fn remove(key: &str) -> Result<(), Failure> {
    if INSIDE {
        wit::store::delete(key)
    } else {
        crate::testing::remove(key);
        Ok(())
    }
}

/// Adds to the number at `key` in one step; gives the sum. `ttl_ms` counts from the first addition.
pub fn increment(key: &str, by: i64, ttl_ms: u64) -> Result<i64, Failure> {
    if INSIDE {
        return wit::store::increment(key, by, ttl_ms);
    }
    let before = match crate::testing::load(key) {
        None => 0,
        Some(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(Failure::NotANumber)?,
    };
    let sum = i64::saturating_add(before, by);
    crate::testing::save(key, sum.to_string().as_bytes());
    Ok(sum)
}
