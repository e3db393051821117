//! Compares three ways to share one GPU between two models that do not fit together: this
//! gateway's line (the real one, on simulated time), a gateway that is strictly first come first
//! served, and Ollama alone. Prints Markdown. Same seeds, same figures.
//!
//! What it cannot show: a real GPU serves several requests of one model at once more slowly each,
//! and clients give up. Here service times are given and nobody leaves.

mod figures;
mod hot;
mod policy;
mod simulation;

use std::io::Write;
use std::time::Duration;

use crate::figures::Figures;
use crate::policy::{Fifo, Ollama, Ours, Policy};
use crate::simulation::{Outcome, requests, simulate};

/// The policy with the gateway's own defaults: `min_residency` / `max_starvation`.
const DEFAULTS: &str = "ours, 20 s / 60 s";
/// Pooled into one row each.
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "| in parallel | load | policy | done/h of asked/h | p50 wait | p95 wait | max wait \
         | p95 wait of the modest | swaps/h | Jain |\n|--|--|--|--|--|--|--|--|--|--|"
    )?;
    let mut estimates = Vec::new();
    for parallel in [1, 4] {
        for load in [0.5, 0.8, 0.95] {
            let policies: [(&str, Make); 5] = [
                (DEFAULTS, |parallel| ours(parallel, 20, 60)),
                ("ours, 20 s / 120 s", |parallel| ours(parallel, 20, 120)),
                ("ours, 60 s / 300 s", |parallel| ours(parallel, 60, 300)),
                ("plain FIFO", |parallel| Box::new(Fifo::new(parallel))),
                ("Ollama alone", |parallel| Box::new(Ollama::new(parallel))),
            ];
            for (name, make) in policies {
                let outcomes: Vec<Outcome> = SEEDS
                    .iter()
                    .map(|&seed| simulate(requests(seed, load, parallel), &mut *make(parallel)))
                    .collect();
                let figures = Figures::of(&outcomes);
                writeln!(out, "| {parallel} | {load} | {name} | {figures} |")?;
                if name == DEFAULTS {
                    let cells = figures.estimates();
                    estimates.push(format!("| {parallel} | {load} | {cells} |"));
                }
            }
        }
    }
    writeln!(out, "\nEstimates given to those who had to wait, {DEFAULTS}; median / p95:\n")?;
    writeln!(out, "| in parallel | load | told | waited | off by |\n|--|--|--|--|--|")?;
    writeln!(out, "{}", estimates.join("\n"))?;
    writeln!(out, "\nOne `try_enter` and the drop of its slot: {:.0} ns", hot::nanoseconds())
}

type Make = fn(usize) -> Box<dyn Policy>;

fn ours(parallel: usize, min_residency: u64, max_starvation: u64) -> Box<dyn Policy> {
    let seconds = Duration::from_secs;
    Box::new(Ours::new(parallel, seconds(min_residency), seconds(max_starvation)))
}
