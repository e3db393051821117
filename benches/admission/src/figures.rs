//! What is read off the outcomes.

use std::fmt;
use std::time::Duration;

use crate::simulation::{CALLERS, HOUR, Outcome, Request};

/// One row of the table, over several hours of the same kind.
pub struct Figures {
    done: f64,
    asked: f64,
    /// Sorted. Who was never started has waited until the end of the hour.
    waits: Vec<Duration>,
    modest: Vec<Duration>,
    swaps: f64,
    jain: f64,
    /// Sorted: how far off the estimates were, and the waits that they were of.
    errors: Vec<Duration>,
    estimated: Vec<Duration>,
    actual: Vec<Duration>,
}

impl Figures {
    /// Takes them.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let hours = outcomes.len() as f64;
        let all = || outcomes.iter().flat_map(|one| &one.requests);
        let sorted = |mut waits: Vec<Duration>| {
            waits.sort_unstable();
            waits
        };
        let done = all().filter(|one| one.started.is_some_and(|at| at + one.service <= HOUR));
        let swaps: usize = outcomes.iter().map(|one| one.swaps).sum();
        let told = || all().filter_map(|one| Some((one.estimate?, one.started? - one.at)));
        Self {
            errors: sorted(told().map(|(told, wait)| told.abs_diff(wait)).collect()),
            estimated: sorted(told().map(|(told, _)| told).collect()),
            actual: sorted(told().map(|(_, wait)| wait).collect()),
            done: done.count() as f64 / hours,
            asked: all().count() as f64 / hours,
            waits: sorted(all().map(wait).collect()),
            modest: sorted(all().filter(|one| one.caller > 0).map(wait).collect()),
            swaps: swaps as f64 / hours,
            jain: outcomes.iter().map(jain).sum::<f64>() / hours,
        }
    }
}

impl Figures {
    /// How the estimates fared: cells of the second table.
    pub fn estimates(&self) -> String {
        let cells = [&self.estimated, &self.actual, &self.errors]
            .map(|sorted| format!("{} / {}", seconds(sorted, 0.5), seconds(sorted, 0.95)));
        cells.join(" | ")
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:.0} of {:.0} | {} | {} | {} | {} | {:.0} | {:.3}",
            self.done,
            self.asked,
            seconds(&self.waits, 0.5),
            seconds(&self.waits, 0.95),
            seconds(&self.waits, 1.0),
            seconds(&self.modest, 0.95),
            self.swaps,
            self.jain
        )
    }
}

fn wait(request: &Request) -> Duration {
    request.started.unwrap_or(HOUR) - request.at
}

fn seconds(sorted: &[Duration], share: f64) -> String {
    let last = sorted.len().saturating_sub(1) as f64;
    let at = sorted.get((last * share) as usize).copied().unwrap_or_default();
    format!("{:.0} s", at.as_secs_f64())
}

/// Jain's index over the callers' service received, each divided by its max-min fair share (no more
/// than it asked for) of all the service that was given in this outcome.
fn jain(outcome: &Outcome) -> f64 {
    let (mut received, mut asked) = ([0.0; CALLERS], [0.0; CALLERS]);
    for one in &outcome.requests {
        asked[one.caller] += one.service.as_secs_f64();
        if let Some(at) = one.started {
            received[one.caller] += one.service.min(HOUR - at).as_secs_f64();
        }
    }
    let shares = fair_shares(received.iter().sum(), &asked);
    let ratios: Vec<f64> =
        received.iter().zip(shares).map(|(got, share)| got / share.max(1e-9)).collect();
    let sum: f64 = ratios.iter().sum();
    let squares: f64 = ratios.iter().map(|one| one * one).sum();
    sum * sum / (CALLERS as f64 * squares)
}

/// Water-filling: everybody gets the same, except who asks for less.
fn fair_shares(total: f64, asked: &[f64; CALLERS]) -> [f64; CALLERS] {
    let mut order: Vec<usize> = (0..CALLERS).collect();
    order.sort_by(|&a, &b| asked[a].total_cmp(&asked[b]));
    let (mut left, mut shares) = (total, [0.0; CALLERS]);
    for (served, caller) in order.into_iter().enumerate() {
        shares[caller] = asked[caller].min(left / (CALLERS - served) as f64);
        left -= shares[caller];
    }
    shares
}
