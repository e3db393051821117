//! The conditions under which a GPU, its loads or its speed open an upstream's breaker. Pure: it
//! is told what was read and when, and says what should hold the breaker open or trip it.
//!
//! A healthy loaded GPU sits at 85–98 % used for ever, so how full it is does not open a breaker
//! by itself unless that is asked for: what opens it is memory that the upstream's own models do
//! not explain.
//!
//! No condition flaps: each has a threshold above which it begins and a lower one below which it
//! ends, and must stay above or below for a time. Between the two nothing changes.
//!
//! What is not known changes nothing either, for 30 seconds; then the condition is taken to be
//! over. A probe that stopped answering must not keep an upstream from work for ever (fail open).

mod latch;
mod streak;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::latch::{Latch, Level, Timing};
use self::streak::{Loads, Speeds};
use super::Reason;

/// Degrees that a GPU must have cooled below the threshold.
const HEAT_RELEASE: f64 = 5.0;
/// Part of the allowance that foreign memory must have shrunk to. A part, not a number of bytes:
/// the allowance of a small GPU is small, and a desktop always holds some of it.
const FOREIGN_RELEASE: f64 = 0.75;

/// What use of a GPU's memory opens the breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trip {
    /// Nearly full, and not with the upstream's own models: these would have no room to grow, and
    /// no other could be loaded.
    #[default]
    Headroom,
    /// Nearly full with whatever it is.
    Percent,
}

/// The thresholds. Fractions are of the GPU's memory, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// What use of memory counts.
    pub trip: Trip,
    /// Fraction in use from which there is a warning.
    pub warn: f64,
    /// Fraction in use from which the breaker is held open.
    pub critical: f64,
    /// Fraction in use to which it must have fallen; below `critical`.
    pub recover: f64,
    /// Bytes that others may hold besides the part above `critical`: a desktop, the driver.
    pub reserve: u64,
    /// How long a condition must last before it counts.
    pub trip_after: Duration,
    /// How long it must be gone before it ends.
    pub recover_after: Duration,
    /// Degrees Celsius from which there is a warning.
    pub heat_warn: f64,
    /// Degrees Celsius from which the breaker is held open, until it is 5 less.
    pub heat_critical: f64,
    /// Fraction of the learned speed below which an answer is slow; 0 for never.
    pub decode_collapse: f64,
    /// Failed loads in a row that trip; 0 for never.
    pub failed_loads: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            trip: Trip::Headroom,
            warn: 0.85,
            critical: 0.95,
            recover: 0.90,
            reserve: 512 << 20,
            trip_after: Duration::from_secs(1),
            recover_after: Duration::from_secs(5),
            heat_warn: 75.0,
            heat_critical: 85.0,
            decode_collapse: 0.25,
            failed_loads: 2,
        }
    }
}

/// What was read of an upstream's GPUs at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Bytes of memory in use, by whomever.
    pub used: u64,
    /// Bytes of memory; 0 where that is not known.
    pub total: u64,
    /// Bytes that the upstream's own models take; `None` while that is not known.
    pub explained: Option<u64>,
    /// Degrees Celsius, of the hottest.
    pub temperature: Option<f64>,
}

/// What a reading comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Why the breaker is to be held open; for `Breaker::hold`. Of several conditions, the one
    /// that began first of those that last, with the newest figure that kept it up.
    pub reason: Option<Reason>,
    /// What is above a warning threshold, which holds nothing. Also while a `reason` is given.
    pub warning: Option<Reason>,
}

/// The conditions of one upstream.
#[derive(Debug)]
pub struct Conditions {
    limits: Limits,
    memory: Latch,
    heat: Latch,
    memory_warning: Latch,
    heat_warning: Latch,
    speeds: Speeds,
    loads: Loads,
}

impl Conditions {
    /// No condition so far.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            memory: Latch::default(),
            heat: Latch::default(),
            memory_warning: Latch::default(),
            heat_warning: Latch::default(),
            speeds: Speeds::default(),
            loads: Loads::default(),
        }
    }

    /// Takes new limits over. A condition that lasts is measured by them from the next reading.
    pub fn configure(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes in a reading; `None` when the probe did not answer. Call it either way, at every
    /// poll: that is also how a condition ends of which nothing has been heard for 30 seconds.
    pub fn read(&mut self, reading: Option<&Reading>, now: Instant) -> Held {
        let limits = self.limits;
        let Limits { warn, critical, recover, heat_warn, heat_critical, .. } = limits;
        let timing =
            Timing { trip_after: limits.trip_after, recover_after: limits.recover_after, now };
        let memory = |from, to| reading.and_then(|reading| limits.memory(reading, from, to));
        let heat = |from| reading.and_then(|reading| heat(reading, from));
        // The warning's band is as wide as the critical one's.
        self.memory_warning.update(memory(warn, warn - (critical - recover)), timing);
        self.heat_warning.update(heat(heat_warn), timing);
        self.memory.update(memory(critical, recover), timing);
        self.heat.update(heat(heat_critical), timing);
        Held {
            reason: latch::first(&self.memory, &self.heat),
            warning: latch::first(&self.memory_warning, &self.heat_warning),
        }
    }

    /// Takes in the speed of an answer. `learned` is the model's usual speed: pass it only once
    /// enough answers stand behind it. Three slow answers of one model in a row, each within ten
    /// minutes of the one before, are a reason to trip.
    ///
    /// The speed before the first of the three counts, so that it does not matter whether slow
    /// answers are learned from.
    pub fn decoded(
        &mut self,
        model: &Arc<str>,
        tokens_per_second: f64,
        learned: Option<f64>,
        now: Instant,
    ) -> Option<Reason> {
        self.speeds.decoded(model, tokens_per_second, learned?, self.limits.decode_collapse, now)
    }

    /// Takes in how a load ended. `failed_loads` that failed in a row, each within ten minutes of
    /// the one before, are a reason to trip. A load that was not tried for want of room, or that
    /// the client gave up, is none.
    pub fn load_ended(&mut self, ok: bool, now: Instant) -> Option<Reason> {
        self.loads.ended(ok, self.limits.failed_loads, now)
    }
}

impl Limits {
    /// Where the use of memory lies between two fractions.
    fn memory(&self, reading: &Reading, from: f64, to: f64) -> Option<Level> {
        let Reading { used, total, explained, .. } = *reading;
        if total == 0 {
            return None;
        }
        let fraction = used as f64 / total as f64;
        if fraction <= to {
            return Some(Level::Under);
        }
        let (is_over, is_under, reason) = match self.trip {
            Trip::Percent => (true, false, Reason::Vram { percent: (fraction * 100.0) as u8 }),
            Trip::Headroom => {
                let foreign = used.saturating_sub(explained?);
                let allowed = self.reserve as f64 + (1.0 - self.critical) * total as f64;
                let (is_over, is_under) =
                    (foreign as f64 > allowed, foreign as f64 <= allowed * FOREIGN_RELEASE);
                (is_over, is_under, Reason::Foreign { bytes: foreign })
            }
        };
        Some(if is_under {
            Level::Under
        } else if is_over && fraction >= from {
            Level::Over(reason)
        } else {
            Level::Between(reason)
        })
    }
}

/// Where the temperature lies between the threshold and the one below which it is cool again.
fn heat(reading: &Reading, from: f64) -> Option<Level> {
    let celsius = reading.temperature.filter(|celsius| celsius.is_finite())?;
    let reason = Reason::Heat { celsius: celsius as u16 };
    Some(if celsius >= from {
        Level::Over(reason)
    } else if celsius < from - HEAT_RELEASE {
        Level::Under
    } else {
        Level::Between(reason)
    })
}
