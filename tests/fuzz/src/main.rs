//! Fuzzes what reads bytes of strangers: HTTP/1.1 itself, the event splitter, the JSON scanner with its splices, what
//! plugins decide and edit, what the cache keeps and compares, the configuration loader. Structure-aware mutation on stable Rust; a failure prints the input.
//!
//! `cargo run -p sluicegate-fuzz -- [SECONDS] [SEED]`

#![allow(clippy::panic, clippy::expect_used, reason = "a broken invariant is to stop the run")]

mod cache;
mod config;
mod http1;
mod mutate;
mod plugin;
mod splice;
mod stream;

use std::time::Duration;

use mutate::Mutator;

/// One target: its name, its seeds and what must hold for any input.
type Target = (&'static str, &'static [&'static [u8]], fn(&[u8], &mut fastrand::Rng));

const TARGETS: [Target; 6] = [
    ("http1", http1::SEEDS, http1::check),
    ("stream", stream::SEEDS, stream::check),
    ("splice", splice::SEEDS, splice::check),
    ("plugin", plugin::SEEDS, plugin::check),
    ("cache", cache::SEEDS, cache::check),
    ("config", config::SEEDS, config::check),
];

#[allow(clippy::disallowed_methods, reason = "how long a run may take is measured on a real clock")]
fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap_or(0));
    let seconds = arguments.next().unwrap_or(5);
    let seed = arguments.next().unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    for (name, seeds, check) in TARGETS {
        let mut mutator = Mutator::new(seed, seeds);
        let until = std::time::Instant::now() + Duration::from_secs(seconds);
        let mut runs = 0_u64;
        while std::time::Instant::now() < until {
            for _ in 0..64 {
                let input = mutator.next();
                let mut rng = fastrand::Rng::with_seed(mutator.rng.u64(..));
                let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    check(&input, &mut rng)
                }));
                if tried.is_err() {
                    eprintln!("{name}, seed {seed}, input: {}", input.escape_ascii());
                    std::process::exit(1);
                }
                runs += 1;
            }
        }
        eprintln!("{name}: {runs} inputs, no failure");
    }
}
