//! The discrete-event simulation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

use crate::policy::{Orders, Policy};

/// Simulated time.
pub const HOUR: Duration = Duration::from_secs(3_600);
/// Callers; the first is greedy.
pub const CALLERS: usize = 3;
/// Loading times of the two models.
pub const LOAD_TIMES: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(12)];
/// Mean of the exponential service time.
const SERVICE: f64 = 4.0;
/// Requests of each caller, relative to each other.
const RATES: [f64; CALLERS] = [4.0, 1.0, 1.0];
/// Share of each caller's requests that are for the first model.
const FIRST: [f64; CALLERS] = [0.5, 0.8, 0.2];

/// A request, and what became of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it comes.
    pub at: Duration,
    /// Whose.
    pub caller: usize,
    /// Which model it is for.
    pub model: usize,
    /// How long it takes.
    pub service: Duration,
    /// When it was started, if it was.
    pub started: Option<Duration>,
    /// What it was told of its wait when it came, if it had to wait.
    pub estimate: Option<Duration>,
}

/// What a policy made of an hour.
#[derive(Debug)]
pub struct Outcome {
    /// All that came.
    pub requests: Vec<Request>,
    /// Loads.
    pub swaps: usize,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize),
    Done(usize),
    Loaded,
    Wake,
}

/// An hour of requests at `load` times what a GPU that never swaps could serve.
pub fn requests(seed: u64, load: f64, parallel: usize) -> Vec<Request> {
    let mut rng = Rng::with_seed(seed);
    let capacity = parallel as f64 / SERVICE;
    let total: f64 = RATES.iter().sum();
    let mut all = Vec::new();
    for caller in 0..CALLERS {
        let rate = load * capacity * RATES[caller] / total;
        let mut at = exponential(&mut rng, 1.0 / rate);
        while at < HOUR {
            let model = usize::from(rng.f64() >= FIRST[caller]);
            let service = exponential(&mut rng, SERVICE);
            all.push(Request { at, caller, model, service, started: None, estimate: None });
            at += exponential(&mut rng, 1.0 / rate);
        }
    }
    all.sort_by_key(|one| one.at);
    all
}

fn exponential(rng: &mut Rng, mean: f64) -> Duration {
    Duration::from_secs_f64(-mean * (1.0 - rng.f64()).ln())
}

/// Plays the hour.
pub fn simulate(mut requests: Vec<Request>, policy: &mut dyn Policy) -> Outcome {
    let mut events = BinaryHeap::new();
    for (id, request) in requests.iter().enumerate() {
        events.push(Reverse((request.at, Event::Arrival(id))));
    }
    let (mut swaps, mut wake) = (0, None);
    while let Some(Reverse((now, event))) = events.pop() {
        if now >= HOUR {
            break;
        }
        let mut orders = Orders::default();
        match event {
            Event::Arrival(id) => {
                policy.arrive(id, &requests[id], now, &mut orders);
                requests[id].estimate = policy.estimate(now);
            }
            Event::Done(id) => policy.done(id, now, &mut orders),
            Event::Loaded => policy.loaded(now, &mut orders),
            Event::Wake => policy.wake(now, &mut orders),
        }
        for id in orders.start {
            requests[id].started = Some(now);
            events.push(Reverse((now + requests[id].service, Event::Done(id))));
        }
        if let Some(model) = orders.load {
            swaps += 1;
            events.push(Reverse((now + LOAD_TIMES[model], Event::Loaded)));
        }
        if let Some(at) = orders.wake.filter(|_| orders.wake != wake) {
            events.push(Reverse((at, Event::Wake)));
        }
        wake = orders.wake;
    }
    Outcome { requests, swaps }
}
