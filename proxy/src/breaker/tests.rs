use super::*;
use crate::config::units::Period;

fn breaker() -> Arc<Breaker> {
    Arc::new(Breaker::new(BreakerConfig {
        errors: 3,
        window: Period::secs(30),
        open_for: Period::secs(10),
        probes: 1,
    }))
}

fn fail(breaker: &Arc<Breaker>, times: usize) {
    for _ in 0..times {
        breaker.try_pass().expect("passes").failure();
    }
}

#[tokio::test(start_paused = true)]
async fn opens_after_enough_failures_within_the_window() {
    let breaker = breaker();
    fail(&breaker, 2);
    assert_eq!(breaker.state(), State::Closed);
    tokio::time::advance(Duration::from_secs(31)).await;
    fail(&breaker, 2);
    assert_eq!(breaker.state(), State::Closed, "old failures are forgotten");
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.try_pass().expect_err("rejects"), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_half_its_requests_is_tripped() {
    let breaker = breaker();
    for _ in 0..2 {
        fail(&breaker, 1);
        breaker.try_pass().expect("passes").success();
    }
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_few_failures_among_many_successes_trip_nothing_and_one_in_three_does() {
    let breaker = breaker();
    let succeed = |times| {
        for _ in 0..times {
            breaker.try_pass().expect("passes").success();
        }
    };
    for _ in 0..20 {
        fail(&breaker, 1);
        succeed(5);
    }
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed);
    succeed(2);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_begun_answer_closes_a_half_open_breaker() {
    let breaker = breaker();
    fail(&breaker, 3);
    breaker.probed(true);
    let mut probe = breaker.try_pass().expect("one probe");
    probe.begun();
    assert_eq!(breaker.state(), State::Closed);
    probe.failure();
    assert_eq!(breaker.state(), State::Closed, "one later failure is one failure");
}

#[tokio::test(start_paused = true)]
async fn stays_open_until_a_probe_answers() {
    let breaker = breaker();
    fail(&breaker, 3);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(breaker.try_pass().is_err());
    breaker.probed(false);
    assert_eq!(breaker.state(), State::Open);
    breaker.probed(true);
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn half_open_lets_probes_through_and_decides_by_them() {
    let breaker = breaker();
    fail(&breaker, 3);
    breaker.probed(true);
    let first = breaker.try_pass().expect("one probe");
    assert!(breaker.try_pass().is_err(), "only one at a time");
    first.failure();
    assert_eq!(breaker.state(), State::Open);
    breaker.probed(true);
    breaker.try_pass().expect("one probe").success();
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_probe_gives_its_place_back() {
    let breaker = breaker();
    fail(&breaker, 3);
    breaker.probed(true);
    drop(breaker.try_pass().expect("one probe"));
    assert!(breaker.try_pass().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_straggler_from_before_the_trip_changes_nothing() {
    let breaker = breaker();
    let (old_ok, old_bad) = (breaker.try_pass().expect("pass"), breaker.try_pass().expect("pass"));
    fail(&breaker, 3);
    old_ok.success();
    assert_eq!(breaker.state(), State::Open);
    breaker.probed(true);
    old_bad.failure();
    assert_eq!(breaker.state(), State::HalfOpen);
}

fn changes(breaker: &Breaker) -> Vec<(State, Option<&'static str>)> {
    std::iter::from_fn(|| breaker.take_change())
        .map(|change| (change.state, change.reason.map(|reason| reason.as_str())))
        .collect()
}

const HEAT: Reason = Reason::Heat { celsius: 90 };
const LOADS: Reason = Reason::Loads { failed: 2 };

#[tokio::test(start_paused = true)]
async fn a_trip_is_probed_as_errors_are() {
    let breaker = breaker();
    breaker.trip(LOADS);
    assert_eq!((breaker.state(), breaker.reason()), (State::Open, Some(LOADS)));
    assert_eq!(breaker.try_pass().expect_err("rejects"), Duration::from_secs(10));
    assert_eq!(breaker.probe_due(), Some(Instant::now() + Duration::from_secs(10)));
    breaker.probed(true);
    assert_eq!((breaker.state(), breaker.reason()), (State::HalfOpen, Some(LOADS)));
    breaker.trip(Reason::Errors);
    assert_eq!((breaker.state(), breaker.reason()), (State::Open, Some(Reason::Errors)));
    breaker.probed(true);
    breaker.try_pass().expect("one probe").success();
    assert_eq!((breaker.state(), breaker.reason()), (State::Closed, None));
}

#[tokio::test(start_paused = true)]
async fn a_second_trip_does_not_keep_it_open_longer() {
    let breaker = breaker();
    breaker.trip(LOADS);
    let due = breaker.probe_due();
    tokio::time::advance(Duration::from_secs(5)).await;
    breaker.trip(Reason::Errors);
    assert_eq!((breaker.probe_due(), breaker.reason()), (due, Some(LOADS)));
}

#[tokio::test(start_paused = true)]
async fn while_held_no_probe_opens_it_and_then_probes_decide() {
    let breaker = breaker();
    breaker.hold(Some(HEAT));
    for _ in 0..100 {
        tokio::time::advance(Duration::from_secs(1)).await;
        breaker.hold(Some(HEAT));
        assert_eq!(breaker.probe_due(), None);
        breaker.probed(true);
        assert_eq!((breaker.state(), breaker.reason()), (State::Open, Some(HEAT)));
        assert_eq!(breaker.try_pass().expect_err("rejects"), HELD_WAIT);
    }
    breaker.hold(None);
    breaker.hold(None);
    assert_eq!((breaker.state(), breaker.reason()), (State::Open, Some(HEAT)));
    assert_eq!(breaker.probe_due(), Some(Instant::now()));
    breaker.probed(true);
    breaker.try_pass().expect("one probe").success();
    breaker.hold(None);
    assert_eq!(breaker.state(), State::Closed);
    let open = (State::Open, Some("heat"));
    let half_open = (State::HalfOpen, Some("heat"));
    assert_eq!(changes(&breaker), [open, half_open, (State::Closed, None)]);
}

#[tokio::test(start_paused = true)]
async fn letting_go_does_not_cut_an_earlier_trip_short() {
    let breaker = breaker();
    fail(&breaker, 3);
    let due = breaker.probe_due();
    breaker.hold(Some(HEAT));
    assert_eq!(breaker.reason(), Some(HEAT), "what holds it is named");
    breaker.trip(LOADS);
    assert_eq!(breaker.try_pass().expect_err("rejects"), Duration::from_secs(10));
    breaker.hold(None);
    assert_eq!((breaker.probe_due(), breaker.reason()), (due, Some(Reason::Errors)));
    breaker.hold(Some(HEAT));
    tokio::time::advance(Duration::from_secs(60)).await;
    breaker.hold(None);
    assert_eq!((breaker.probe_due(), breaker.reason()), (Some(Instant::now()), Some(HEAT)));
}

#[tokio::test(start_paused = true)]
async fn a_hold_takes_a_half_open_one_back() {
    let breaker = breaker();
    fail(&breaker, 3);
    breaker.probed(true);
    let probe = breaker.try_pass().expect("one probe");
    breaker.hold(Some(HEAT));
    assert_eq!(breaker.state(), State::Open);
    probe.success();
    assert_eq!(breaker.state(), State::Open, "it was sent before");
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_an_earlier_half_open_decides_nothing() {
    let breaker = breaker();
    fail(&breaker, 3);
    let mut old = Vec::new();
    for _ in 0..3 {
        breaker.probed(true);
        old.push(breaker.try_pass().expect("one probe"));
        breaker.hold(Some(HEAT));
        breaker.hold(None);
    }
    breaker.probed(true);
    let _current = breaker.try_pass().expect("one probe");
    let (mut one, another, last) = (old.remove(0), old.remove(0), old.remove(0));
    one.begun();
    another.failure();
    drop(last);
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.try_pass().is_err(), "none gave back a place it did not have");
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_once_and_a_bounded_number_kept() {
    let breaker = breaker();
    for _ in 0..3 {
        breaker.trip(LOADS);
    }
    breaker.probed(false);
    assert_eq!(changes(&breaker), [(State::Open, Some("loads"))]);
    for _ in 0..100 {
        breaker.probed(true);
        breaker.trip(LOADS);
    }
    assert_eq!(changes(&breaker).len(), MAX_CHANGES);
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_noise_round_the_threshold_open_it_once() {
    use conditions::{Conditions, Limits, Reading, Trip};
    let breaker = breaker();
    let mut conditions = Conditions::new(Limits { trip: Trip::Percent, ..Limits::default() });
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..1200 {
        tokio::time::advance(Duration::from_millis(500)).await;
        let used = random.u64(920..=980);
        let reading = Reading { used, total: 1000, explained: None, temperature: None };
        breaker.hold(conditions.read(Some(&reading), Instant::now()).reason);
        if breaker.probe_due().is_some_and(|due| due <= Instant::now()) {
            breaker.probed(true);
        }
    }
    assert_eq!(changes(&breaker), [(State::Open, Some("vram"))]);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn reasons_are_short_sentences() {
    let said = [
        (Reason::Errors, "too many errors"),
        (Reason::Vram { percent: 97 }, "97 % of the GPU's memory is in use"),
        (Reason::Foreign { bytes: 3 << 30 }, "others hold 3072 MiB of the GPU's memory"),
        (HEAT, "the GPU is at 90 C"),
        (
            Reason::Decode { model: "llama3.2:3b".into(), percent: 12 },
            "`llama3.2:3b` answers at 12 % of its usual speed",
        ),
        (Reason::Loads { failed: 1 }, "a model could not be loaded"),
        (LOADS, "2 loads in a row failed"),
    ];
    for (reason, sentence) in said {
        assert_eq!(reason.to_string(), sentence);
    }
}
