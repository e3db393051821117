use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use super::super::test_data::{file, gpu};
use super::super::{Gpu, ProbeError};
use super::*;

const TICK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);

/// A probe that says what the function says.
struct Scripted<F>(F);

impl<F: FnMut() -> Result<Vec<Gpu>, ProbeError> + Send> Probe for Scripted<F> {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn sample(&mut self) -> Result<Vec<Gpu>, ProbeError> {
        (self.0)()
    }

    fn left_out(&self) -> Option<String> {
        Some("x:9: asleep".to_owned())
    }
}

fn scripted(says: impl FnMut() -> Result<Vec<Gpu>, ProbeError> + Send + 'static) -> Box<dyn Probe> {
    Box::new(Scripted(says))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn without_gpus() -> Options {
    Options {
        nvml_library: Some("/nonexistent/libnvidia-ml.so.1".into()),
        amdgpu_root: "/nonexistent".into(),
        interval: TICK,
        ..Options::default()
    }
}

#[test]
fn one_probe_that_fails_takes_nothing_from_the_others() {
    let mut probes: Probes = vec![
        scripted(|| Err(ProbeError::Lost("the driver is gone".to_owned()))),
        scripted(|| Err(ProbeError::Absent("none".to_owned()))),
        scripted(|| Ok(vec![gpu("x:0", 5)])),
    ];
    let sample = take(&mut probes, 7);
    assert_eq!((sample.taken_unix_ms, sample.gpus), (7, vec![gpu("x:0", 5)]));
    let problem = sample.problem.expect("told");
    assert_eq!(problem, "scripted: lost: the driver is gone; x:9: asleep");
}

#[test]
fn samples_are_bounded() {
    let many = || Ok((0..100).map(|number| gpu(&format!("x:{number}"), 0)).collect());
    assert_eq!(take(&mut vec![scripted(many)], 1).gpus.len(), MAX_GPUS);
}

#[test]
fn publishes_samples_and_keeps_a_bounded_history() {
    let mut used = 0;
    let counting = scripted(move || {
        used += 1;
        Ok(vec![gpu("x:0", used)])
    });
    let sampler = Sampler::start(vec![counting], Duration::ZERO, 5);
    eventually("ten samples", || sampler.latest().gpus.first().is_some_and(|g| g.memory_used > 9));
    let history = sampler.history();
    assert_eq!(history.len(), 5);
    assert!(history.windows(2).all(|pair| pair[1].memory_used == pair[0].memory_used + 1));
    assert_eq!(sampler.status(), Status::Sampling);
    assert!(sampler.latest().taken_unix_ms > 1_700_000_000_000);
}

#[test]
fn a_stuck_probe_shows_by_age_and_not_by_waiting() {
    let (resume, stuck) = sync_channel::<()>(0);
    let mut first = true;
    let sampler = Sampler::start(
        vec![scripted(move || {
            if !std::mem::take(&mut first) {
                let _ = stuck.recv();
            }
            Ok(vec![gpu("x:0", 1)])
        })],
        TICK,
        5,
    );
    eventually("a first sample", || sampler.status() == Status::Sampling);
    let limit = Duration::from_millis(100);
    eventually("an old sample", || sampler.age().is_some_and(|age| age > limit));
    assert_eq!(sampler.within(limit), None);
    assert!(sampler.within(PATIENCE).is_some());
    assert_eq!(sampler.latest().gpus.len(), 1, "readers still get the last");
    assert!(sampler.report().age_ms.is_some_and(|age| age >= 100));
    let start = Instant::now();
    drop(sampler);
    assert!(start.elapsed() < Duration::from_secs(1), "dropping waits for nobody");
    drop(resume);
}

#[test]
fn dropping_ends_the_thread() {
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let ended = Arc::new(AtomicUsize::new(0));
    let alive = Alive(Arc::clone(&ended));
    let probe = scripted(move || {
        let _ = &alive;
        Ok(vec![])
    });
    // Long enough that only the drop can wake it.
    let sampler = Sampler::start(vec![probe], Duration::from_secs(3600), 5);
    eventually("a first sample", || sampler.status() == Status::Sampling);
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    drop(sampler);
    eventually("the probe is dropped", || ended.load(Ordering::SeqCst) == 1);
}

#[test]
fn without_gpus_nobody_keeps_looking() {
    for sampler in [Sampler::detect(without_gpus()), Sampler::absent()] {
        eventually("absent", || sampler.status() == Status::Absent);
        assert_eq!((sampler.age(), sampler.within(PATIENCE)), (None, None));
        assert_eq!(sampler.latest().gpus, []);
        let body = serde_json::to_string(&sampler.report()).expect("json");
        assert_eq!(body, r#"{"age_ms":null,"taken_unix_ms":0,"gpus":[],"problem":null}"#);
    }
}

#[test]
fn finds_amd_cards_by_itself() {
    let sampler = Sampler::detect(Options { amdgpu_root: file("amdgpu"), ..without_gpus() });
    eventually("two cards", || sampler.latest().gpus.len() == 2);
    let body = serde_json::to_vec(&sampler.report()).expect("json");
    let there = super::super::remote::parse("node-2", &body).expect("what a gateway writes");
    assert_eq!(there[0].id, "remote:node-2/amdgpu:card1");
}
