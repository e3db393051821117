use super::*;

const GIB: u64 = 1 << 30;
/// How often the GPU is read.
const POLL: Duration = Duration::from_millis(250);

fn limits(trip: Trip) -> Limits {
    Limits { trip, ..Limits::default() }
}

/// Of a GPU with 100 GiB, of which others may hold 5.5 GiB.
fn full(percent: f64, explained: u64) -> Reading {
    let used = (percent * GIB as f64) as u64;
    let explained = Some(explained * GIB);
    Reading { used, total: 100 * GIB, explained, temperature: None }
}

fn hot(celsius: f64) -> Reading {
    Reading { temperature: Some(celsius), ..full(50.0, 50) }
}

/// Conditions with their own clock.
struct Bench {
    conditions: Conditions,
    now: Instant,
}

impl Bench {
    fn new(trip: Trip) -> Self {
        Self { conditions: Conditions::new(limits(trip)), now: Instant::now() }
    }

    fn read(&mut self, reading: Option<Reading>) -> Held {
        self.now += POLL;
        self.conditions.read(reading.as_ref(), self.now)
    }

    /// The last of the readings taken in this time.
    fn during(&mut self, time: Duration, reading: Option<Reading>) -> Held {
        let mut last = Held::default();
        for _ in 0..time.as_millis() / POLL.as_millis() {
            last = self.read(reading);
        }
        last
    }

    /// Seconds until it is held no more, at the same reading.
    fn released_after(&mut self, reading: Option<Reading>) -> f64 {
        let from = self.now;
        while self.read(reading).reason.is_some() {
            assert!(self.now - from < secs(120), "held for ever");
        }
        (self.now - from).as_secs_f64()
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_gpu_full_of_its_own_models_is_never_held() {
    let mut bench = Bench::new(Trip::Headroom);
    for percent in [85.0, 95.0, 98.0, 100.0] {
        let held = bench.during(secs(60), Some(full(percent, percent as u64 - 2)));
        assert_eq!(held, Held::default(), "{percent} %");
    }
}

#[test]
fn foreign_memory_on_a_nearly_full_gpu_holds_and_lets_go() {
    let mut bench = Bench::new(Trip::Headroom);
    assert_eq!(bench.during(secs(60), Some(full(94.0, 40))).reason, None, "there is room left");
    assert_eq!(bench.during(secs(60), Some(full(96.0, 91))).reason, None, "5 GiB are allowed");
    assert_eq!(bench.during(secs(1), Some(full(96.0, 86))).reason, None, "not for long yet");
    let held = bench.read(Some(full(96.0, 86)));
    assert_eq!(held.reason, Some(Reason::Foreign { bytes: 10 * GIB }));
    let held = bench.during(secs(60), Some(full(96.0, 91)));
    assert_eq!(held.reason, Some(Reason::Foreign { bytes: 5 * GIB }), "allowed, but barely");
    assert_eq!(bench.released_after(Some(full(96.0, 92))), 5.25);
}

#[test]
fn a_gpu_with_room_again_is_let_go_whoever_holds_the_rest() {
    let mut bench = Bench::new(Trip::Headroom);
    assert!(bench.during(secs(2), Some(full(96.0, 0))).reason.is_some());
    assert!(bench.during(secs(60), Some(full(91.0, 0))).reason.is_some(), "not below recover");
    assert_eq!(bench.released_after(Some(full(90.0, 0))), 5.25);
}

#[test]
fn what_the_models_take_must_be_known_to_call_the_rest_foreign() {
    let unknown = Reading { explained: None, ..full(99.0, 0) };
    let mut bench = Bench::new(Trip::Headroom);
    assert_eq!(bench.during(secs(60), Some(unknown)), Held::default());
    assert!(bench.during(secs(2), Some(full(99.0, 0))).reason.is_some());
    assert_eq!(bench.released_after(Some(unknown)), 30.0, "and it is not held for ever");
    let mut bench = Bench::new(Trip::Percent);
    assert!(bench.during(secs(2), Some(unknown)).reason.is_some(), "percent needs no such thing");
}

#[test]
fn plain_use_trips_where_that_is_asked_for() {
    let mut bench = Bench::new(Trip::Percent);
    assert_eq!(bench.during(secs(60), Some(full(94.9, 94))).reason, None);
    let held = bench.during(secs(2), Some(full(95.0, 95)));
    assert_eq!(held.reason, Some(Reason::Vram { percent: 95 }));
    assert!(bench.during(secs(60), Some(full(90.1, 90))).reason.is_some());
    assert!(bench.during(secs(5), Some(full(90.0, 90))).reason.is_some(), "not for long yet");
    assert_eq!(bench.read(Some(full(90.0, 90))).reason, None);
}

#[test]
fn a_moment_above_or_below_changes_nothing() {
    let mut bench = Bench::new(Trip::Percent);
    for _ in 0..100 {
        bench.during(secs(1), Some(full(99.0, 0)));
        assert_eq!(bench.read(Some(full(94.0, 0))).reason, None);
    }
    assert!(bench.during(secs(2), Some(full(99.0, 0))).reason.is_some());
    for _ in 0..100 {
        bench.during(secs(5), Some(full(80.0, 0)));
        assert!(bench.read(Some(full(91.0, 0))).reason.is_some());
    }
}

/// How often it was held and let go in ten minutes of noise, 3 % to either side.
fn noisy(trip: Trip, percent: f64, explained: u64, seed: u64) -> (u32, u32) {
    let mut bench = Bench::new(trip);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut opened, mut closed, mut was) = (0, 0, false);
    for _ in 0..secs(600).as_millis() / POLL.as_millis() {
        let noise = random.f64() * 6.0 - 3.0;
        let is = bench.read(Some(full(percent + noise, explained))).reason.is_some();
        opened += u32::from(is && !was);
        closed += u32::from(was && !is);
        was = is;
    }
    if was {
        let after = bench.released_after(Some(full(89.0, explained)));
        assert!(after <= 5.25, "once really below, but after {after} s");
    }
    (opened, closed)
}

#[test]
fn noise_round_a_threshold_does_not_flap() {
    for seed in 0..20 {
        for trip in [Trip::Percent, Trip::Headroom] {
            let (opened, closed) = noisy(trip, 95.0, 10, seed);
            assert_eq!((opened, closed), (1, 0), "round critical, {trip:?}, seed {seed}");
            let counts = noisy(trip, 92.5, 10, seed);
            assert_eq!(counts, (0, 0), "round recover, {trip:?}, seed {seed}");
        }
        // The allowance of others, 5.5 %, in the midst of the noise.
        let (opened, closed) = noisy(Trip::Headroom, 97.9, 92, seed);
        assert!(opened <= 1 && closed == 0, "round the allowance: {opened}, {closed}");
    }
}

#[test]
fn heat_holds_until_it_has_cooled() {
    let mut bench = Bench::new(Trip::Headroom);
    assert_eq!(bench.during(secs(60), Some(hot(84.9))).reason, None);
    assert_eq!(bench.during(secs(2), Some(hot(85.0))).reason, Some(Reason::Heat { celsius: 85 }));
    assert!(bench.during(secs(60), Some(hot(80.0))).reason.is_some());
    assert_eq!(bench.released_after(Some(hot(79.9))), 5.25);
    assert!(bench.during(secs(60), Some(hot(f64::NAN))).reason.is_none());
}

#[test]
fn of_two_conditions_the_first_is_named_and_both_must_end() {
    let both = |percent, celsius| Some(Reading { temperature: Some(celsius), ..full(percent, 0) });
    let mut bench = Bench::new(Trip::Percent);
    bench.during(secs(2), both(50.0, 90.0));
    let held = bench.during(secs(60), both(97.0, 90.0));
    assert_eq!(held.reason, Some(Reason::Heat { celsius: 90 }));
    let held = bench.during(secs(60), both(97.0, 60.0));
    assert_eq!(held.reason, Some(Reason::Vram { percent: 97 }), "what lasts is named");
    assert_eq!(bench.released_after(both(50.0, 60.0)), 5.25);
}

#[test]
fn warnings_hold_nothing() {
    let mut bench = Bench::new(Trip::Percent);
    let held = bench.during(secs(2), Some(full(86.0, 0)));
    assert_eq!((held.reason, held.warning), (None, Some(Reason::Vram { percent: 86 })));
    assert!(bench.during(secs(60), Some(full(80.1, 0))).warning.is_some());
    assert!(bench.during(secs(6), Some(full(80.0, 0))).warning.is_none());
    let held = bench.during(secs(2), Some(hot(76.0)));
    assert_eq!((held.reason, held.warning), (None, Some(Reason::Heat { celsius: 76 })));
    let mut bench = Bench::new(Trip::Headroom);
    assert_eq!(bench.during(secs(2), Some(full(94.0, 93))), Held::default(), "its own models");
}

#[test]
fn a_silent_probe_neither_trips_nor_holds_for_ever() {
    let mut bench = Bench::new(Trip::Percent);
    bench.read(Some(full(99.0, 0)));
    assert_eq!(bench.during(secs(60), None), Held::default());
    assert_eq!(bench.read(Some(full(99.0, 0))).reason, None, "the reading before is too old");
    assert!(bench.during(secs(2), Some(full(99.0, 0))).reason.is_some());
    assert!(bench.during(secs(29), None).reason.is_some());
    assert!(bench.during(secs(2), None).reason.is_none());
}

#[test]
fn a_probe_that_answers_now_and_then_is_listened_to() {
    let mut bench = Bench::new(Trip::Percent);
    for _ in 0..3 {
        bench.during(secs(1), None);
        bench.read(Some(full(99.0, 0)));
    }
    assert!(bench.read(None).reason.is_some());
    for _ in 0..7 {
        bench.during(secs(1), None);
        bench.read(Some(full(50.0, 0)));
    }
    assert!(bench.read(None).reason.is_none());
}

#[test]
fn a_gpu_of_unknown_size_is_not_judged() {
    let mut bench = Bench::new(Trip::Percent);
    let reading = Reading { total: 0, ..full(99.0, 0) };
    assert_eq!(bench.during(secs(60), Some(reading)), Held::default());
}

#[test]
fn new_limits_count_from_the_next_reading() {
    let mut bench = Bench::new(Trip::Percent);
    bench.during(secs(2), Some(full(96.0, 0)));
    bench.conditions.configure(Limits { critical: 0.99, recover: 0.97, ..limits(Trip::Percent) });
    assert_eq!(bench.released_after(Some(full(96.0, 0))), 5.25);
}

#[test]
fn three_slow_answers_of_one_model_trip() {
    let mut conditions = Conditions::new(Limits::default());
    let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
    let now = Instant::now();
    let mut decoded = |model: &Arc<str>, speed| conditions.decoded(model, speed, Some(100.0), now);
    for _ in 0..2 {
        assert_eq!(decoded(&one, 20.0), None);
        assert_eq!(decoded(&other, 100.0), None, "another model's speed says nothing");
    }
    assert_eq!(decoded(&one, 25.0), None, "slow enough to notice, not to trip");
    assert_eq!(decoded(&one, 20.0), None);
    assert_eq!(decoded(&one, 20.0), None);
    let tripped = decoded(&one, 10.0);
    assert_eq!(tripped, Some(Reason::Decode { model: Arc::clone(&one), percent: 10 }));
    assert_eq!(decoded(&one, 10.0), None, "it begins anew");
}

#[test]
fn speeds_without_a_measure_or_a_connection_do_not_trip() {
    let mut conditions = Conditions::new(Limits::default());
    let model: Arc<str> = "model".into();
    let now = Instant::now();
    for _ in 0..10 {
        for learned in [None, Some(0.0), Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(conditions.decoded(&model, 1.0, learned, now), None);
        }
        assert_eq!(conditions.decoded(&model, f64::NAN, Some(100.0), now), None);
    }
    for minutes in 0..10 {
        let now = now + secs(minutes * 601);
        assert_eq!(conditions.decoded(&model, 1.0, Some(100.0), now), None, "far apart");
    }
    conditions.configure(Limits { decode_collapse: 0.0, ..Limits::default() });
    for _ in 0..10 {
        assert_eq!(conditions.decoded(&model, 0.0, Some(100.0), now), None, "turned off");
    }
}

#[test]
fn learning_from_slow_answers_does_not_hide_them() {
    let mut conditions = Conditions::new(Limits::default());
    let model: Arc<str> = "model".into();
    let (now, mut learned, mut tripped) = (Instant::now(), 100.0, 0);
    for _ in 0..3 {
        tripped += u32::from(conditions.decoded(&model, 24.0, Some(learned), now).is_some());
        learned += 0.5 * (24.0 - learned);
    }
    assert_eq!(tripped, 1);
}

#[test]
fn slow_models_are_counted_up_to_a_bound() {
    let mut conditions = Conditions::new(Limits::default());
    let now = Instant::now();
    for number in 0..1000 {
        conditions.decoded(&format!("model {number}").into(), 1.0, Some(100.0), now);
    }
    assert!(conditions.speeds.len() <= 64);
}

#[test]
fn failed_loads_in_a_row_trip() {
    let mut conditions = Conditions::new(Limits::default());
    let now = Instant::now();
    assert_eq!(conditions.load_ended(false, now), None);
    assert_eq!(conditions.load_ended(true, now), None);
    assert_eq!(conditions.load_ended(false, now), None, "one that ended well is between");
    assert_eq!(conditions.load_ended(false, now + secs(601)), None, "far apart");
    assert_eq!(conditions.load_ended(false, now + secs(700)), Some(Reason::Loads { failed: 2 }));
    assert_eq!(conditions.load_ended(false, now + secs(701)), None, "it begins anew");
    conditions.configure(Limits { failed_loads: 0, ..Limits::default() });
    for _ in 0..10 {
        assert_eq!(conditions.load_ended(false, now + secs(702)), None, "turned off");
    }
}
