//! A plugin's metrics, as handles found once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use crate::call::{Failure, FailureKind};
use crate::plugin::Interface;
use crate::{events, logging};

/// Time of a call; its count is the number of calls.
pub const SECONDS: &str = "sluicegate_plugin_seconds";
/// Calls that failed, by kind.
pub const FAILURES: &str = "sluicegate_plugin_failures_total";
/// Instances in use or kept for the next call.
pub const INSTANCES: &str = "sluicegate_plugin_instances";

/// Registers the help texts.
pub fn describe() {
    describe_histogram!(SECONDS, Unit::Seconds, "Time of a plugin's call.");
    describe_counter!(FAILURES, "Plugin calls that failed.");
    describe_gauge!(INSTANCES, "Plugin instances in use or kept for the next call.");
    describe_counter!(events::EVENTS, "What plugins count.");
    describe_counter!(logging::DROPPED, "Log lines of plugins beyond their rate.");
}

/// One plugin's metrics.
#[derive(Debug)]
pub struct Figures {
    pub(crate) instances: Gauge,
    seconds: [Histogram; 4],
    failures: [Counter; 5],
    memory: AtomicUsize,
}

impl Figures {
    pub(crate) fn new(plugin: &str) -> Self {
        let plugin = plugin.to_owned();
        Self {
            instances: gauge!(INSTANCES, "plugin" => plugin.clone()),
            seconds: Interface::ALL.map(|interface| {
                histogram!(SECONDS, "plugin" => plugin.clone(), "interface" => interface.as_str())
            }),
            failures: FailureKind::ALL.map(|kind| {
                counter!(FAILURES, "plugin" => plugin.clone(), "kind" => kind.as_str())
            }),
            memory: AtomicUsize::new(0),
        }
    }

    pub(crate) fn record(&self, interface: Interface, took: Duration, failure: Option<&Failure>) {
        self.seconds[interface as usize].record(took.as_secs_f64());
        if let Some(failure) = failure {
            self.failed(failure.kind);
        }
    }

    pub(crate) fn held(&self, bytes: usize) {
        self.memory.fetch_max(bytes, Ordering::Relaxed);
    }

    /// The most memory that an instance held after a call, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// Counts a failure.
    pub fn failed(&self, kind: FailureKind) {
        self.failures[kind as usize].increment(1);
    }
}
