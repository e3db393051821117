//! Figures that plugins count, as series of the gateway's metrics. Bounded for each plugin.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use metrics::{Counter, counter};
use parking_lot::Mutex;

/// What plugins count.
pub const EVENTS: &str = "sluicegate_plugin_events_total";
/// Pairs of name and label of one plugin.
const MAX_SERIES: usize = 64;
/// Bytes of a name or label.
const MAX_TEXT: usize = 64;
/// The name and label of what is beyond a bound.
const OTHER: &str = "other";

/// One plugin's figures.
#[derive(Debug)]
pub struct Events {
    plugin: String,
    series: Mutex<Series>,
}

/// Counters by name and label.
#[derive(Debug, Default)]
struct Series {
    counters: HashMap<String, HashMap<String, Counter, RandomState>, RandomState>,
    count: usize,
}

impl Series {
    fn get(&self, name: &str, label: &str) -> Option<&Counter> {
        self.counters.get(name)?.get(label)
    }
}

impl Events {
    /// The figures of the plugin called `plugin`.
    #[must_use]
    pub fn new(plugin: &str) -> Self {
        Self { plugin: plugin.to_owned(), series: Mutex::default() }
    }

    /// Adds `by`.
    pub fn add(&self, name: &str, label: &str, by: u64) {
        let mut series = self.series.lock();
        // What is known is clean.
        if let Some(known) = series.get(name, label) {
            return known.increment(by);
        }
        let (mut name, mut label) = (clean(name), clean(label));
        if series.get(&name, &label).is_none() && series.count >= MAX_SERIES {
            (name, label) = (OTHER.to_owned(), OTHER.to_owned());
        }
        if let Some(known) = series.get(&name, &label) {
            return known.increment(by);
        }
        let counter = counter!(EVENTS, "plugin" => self.plugin.clone(), "name" => name.clone(), "label" => label.clone());
        counter.increment(by);
        series.count += 1;
        series.counters.entry(name).or_default().insert(label, counter);
    }
}

fn clean(text: &str) -> String {
    let end =
        text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_TEXT);
    let end = end.last().unwrap_or(0);
    text[..end].chars().map(|c| if c.is_control() { '_' } else { c }).collect()
}
