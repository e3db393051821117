//! The cost of the hot path.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::admission::{Ask, Gate, Memory, Offload, Priority, Resident, Terms};
use tokio::time::Instant;

const BATCHES: usize = 2_001;
const ROUNDS: u32 = 500;

/// One `try_enter` of a resident model and the drop of its slot, while three others are in flight.
pub fn nanoseconds() -> f64 {
    let gate = Arc::new(Gate::new(Terms {
        places: 8,
        max_waiting: 64,
        min_residency: Duration::from_secs(30),
        max_starvation: Duration::from_secs(60),
        offload: Offload::Allow,
    }));
    let residents = ["llama3.2:3b", "qwen3:8b", "nomic-embed-text"].map(|name| Resident {
        model: name.into(),
        vram: 5 << 30,
        partial: false,
        since: Instant::now(),
        pinned: false,
        reload: None,
    });
    gate.know(Some(Memory { free: 1 << 30, residents: residents.into() }));
    let ask = |caller: &str| Ask {
        model: "nomic-embed-text:latest".into(),
        caller: caller.into(),
        weight: 1,
        priority: Priority::Interactive,
        need: Some(5 << 30),
    };
    let held = ["a", "b", "c"].map(|caller| gate.try_enter(&ask(caller)));
    let ask = ask("d");
    let mut batches: Vec<Duration> = (0..BATCHES)
        .map(|_| {
            let since = Instant::now();
            for _ in 0..ROUNDS {
                let slot = gate.try_enter(black_box(&ask));
                drop(black_box(slot));
            }
            since.elapsed()
        })
        .collect();
    drop(held);
    // The median: on a busy machine the mean is mostly the time of others.
    batches.sort_unstable();
    batches[BATCHES / 2].as_secs_f64() * 1e9 / f64::from(ROUNDS)
}
