//! A plugin's lines in the gateway's log, at a bounded rate.

use std::time::Duration;

use metrics::{Counter, counter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::bindings::sluicegate::plugin::log::Level;

/// Bytes of one line at most.
const MAX_LINE: usize = 1_000;
/// Lines of plugins dropped because there were too many.
pub const DROPPED: &str = "sluicegate_plugin_log_dropped_total";

/// One plugin's log.
#[derive(Debug)]
pub struct Log {
    plugin: String,
    per_second: u32,
    window: Mutex<Window>,
    dropped: Counter,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl Log {
    /// The log of the plugin called `plugin`.
    #[must_use]
    pub fn new(plugin: &str, per_second: u32) -> Self {
        let dropped = counter!(DROPPED, "plugin" => plugin.to_owned());
        let window = Window { since: Instant::now(), lines: 0, dropped: 0 };
        Self { plugin: plugin.to_owned(), per_second, window: Mutex::new(window), dropped }
    }

    /// Writes a line, unless there is nothing in it or there were too many in this second.
    pub fn write(&self, level: Level, message: &str) {
        if message.trim_end().is_empty() {
            return;
        }
        let Some(lost) = self.admit() else { return self.dropped.increment(1) };
        let plugin = self.plugin.as_str();
        if lost > 0 {
            tracing::warn!(plugin, lost, "a plugin's log lines were dropped");
        }
        let message = one_line(message);
        match level {
            Level::Debug => tracing::debug!(plugin, "{message}"),
            Level::Info => tracing::info!(plugin, "{message}"),
            Level::Warn => tracing::warn!(plugin, "{message}"),
            Level::Error => tracing::error!(plugin, "{message}"),
        }
    }

    /// Whether a line may be written; with the number of those lost before.
    fn admit(&self) -> Option<u64> {
        let mut window = self.window.lock();
        if window.since.elapsed() >= Duration::from_secs(1) {
            window.since = Instant::now();
            window.lines = 0;
        }
        if window.lines >= self.per_second {
            window.dropped += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.dropped))
    }
}

/// `text` cut to a line's length, with no control characters: a line must not look like several.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_LINE));
    for letter in text.trim_end().chars() {
        if line.len() + letter.len_utf8() > MAX_LINE {
            line.push('…');
            break;
        }
        line.push(if letter.is_control() { ' ' } else { letter });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_to_its_rate() {
        let log = Log::new("p", 3);
        let written = (0..1000).filter(|_| log.admit().is_some()).count();
        assert_eq!(written, 3);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(log.admit(), Some(997));
        assert_eq!(log.admit(), Some(0));
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(one_line("a\nERROR forged\x1b[0m\n"), "a ERROR forged [0m");
        assert_eq!(one_line(&"ä".repeat(5_000)).chars().count(), 501);
    }
}
