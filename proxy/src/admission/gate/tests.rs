use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::admission::decision::Offload;
use crate::admission::line::Priority;
use crate::admission::line::memory::Resident;

fn terms(places: usize) -> Terms {
    Terms {
        places,
        max_waiting: 2_000,
        min_residency: Duration::from_secs(30),
        max_starvation: Duration::from_secs(60),
        offload: Offload::Allow,
    }
}

fn ask(model: &str, caller: &str) -> Ask {
    Ask {
        model: model.into(),
        caller: caller.into(),
        weight: 1,
        priority: Priority::Interactive,
        need: Some(10),
    }
}

fn resident(model: &str, since: Instant) -> Resident {
    let (partial, pinned) = (false, false);
    Resident { model: model.into(), vram: 10, partial, since, pinned, reload: None }
}

fn gate(places: usize) -> Arc<Gate> {
    Arc::new(Gate::new(terms(places)))
}

#[tokio::test(start_paused = true)]
async fn a_dropped_slot_calls_the_next_in_line() {
    let gate = gate(1);
    let slot = gate.try_enter(&ask("a", "x")).expect("free");
    assert_eq!(gate.try_enter(&ask("a", "y")).err(), Some(Decision::Wait));
    let mut place = gate.wait(ask("a", "y")).expect("room");
    assert_eq!(place.in_line().position(), Some(1));
    drop(slot);
    let slot = place.called().await.expect("a place");
    assert_eq!((&**slot.model(), gate.in_flight_of("a")), ("a", 1));
    assert_eq!((place.in_line().position(), place.in_line().estimate()), (None, None));
    assert!(place.called().await.is_err(), "it was called already");
    drop(slot);
    assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_the_line_leaks_nothing() {
    let gate = gate(1);
    let slot = gate.try_enter(&ask("a", "x")).expect("free");
    let called = gate.wait(ask("a", "x")).expect("room");
    let waiting = gate.wait(ask("a", "y")).expect("room");
    let mut last = gate.wait(ask("a", "x")).expect("room");
    drop(slot); // called are `waiting` or `called`, neither of which looks
    drop(waiting);
    drop(called);
    let early = tokio::time::timeout(Duration::from_secs(1), last.called()).await;
    drop(early.expect("called").expect("a place"));
    assert_eq!((gate.in_flight(), gate.waiting(), gate.state.lock().calls.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn waiting_may_be_taken_up_again() {
    let gate = gate(1);
    let slot = gate.try_enter(&ask("a", "x")).expect("free");
    let mut place = gate.wait(ask("a", "y")).expect("room");
    assert!(tokio::time::timeout(Duration::from_secs(5), place.called()).await.is_err());
    drop(slot);
    assert!(place.called().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn more_places_apply_at_once_and_fewer_cut_nobody() {
    let gate = gate(1);
    let first = gate.try_enter(&ask("a", "x")).expect("free");
    let mut place = gate.wait(ask("a", "y")).expect("room");
    gate.configure(terms(2));
    let second = place.called().await.expect("a second place");
    gate.configure(terms(1));
    assert_eq!(gate.in_flight(), 2);
    drop(first);
    assert!(gate.try_enter(&ask("a", "x")).is_err());
    drop(second);
    assert!(gate.try_enter(&ask("a", "x")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_loading_task_is_told_when_to_look() {
    let gate = gate(1);
    let now = Instant::now();
    gate.know(Some(Memory { free: 0, residents: vec![resident("a", now)] }));
    let loader = {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            loop {
                if let Some(load) = gate.next_load() {
                    tokio::time::sleep(Duration::from_secs(8)).await;
                    gate.loaded(&load.model, Ok(()));
                }
                let wake = gate.wake_at();
                let never = Instant::now() + Duration::from_secs(86_400);
                tokio::select! {
                    () = gate.changed().notified() => {}
                    () = tokio::time::sleep_until(wake.unwrap_or(never)) => {}
                }
            }
        })
    };
    let mut place = gate.wait(ask("b", "x")).expect("room");
    let slot = place.called().await.expect("b is loaded");
    assert_eq!(now.elapsed(), Duration::from_secs(30 + 8), "a came of age, b was loaded");
    drop(slot);
    loader.abort();
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_tells_those_who_wait_why() {
    let gate = gate(1);
    gate.know(Some(Memory { free: 20, residents: vec![] }));
    let mut place = gate.wait(ask("b", "x")).expect("room");
    let load = gate.next_load().expect("there is room");
    gate.loaded(&load.model, Err(TurnedAway::LoadFailed("no such file".to_owned())));
    let reason = TurnedAway::LoadFailed("no such file".to_owned());
    assert_eq!(place.called().await.err(), Some(reason));
    drop(place);
    assert_eq!((gate.in_flight(), gate.waiting(), gate.state.lock().calls.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_of_whom_half_leave_are_all_seen_to() {
    let gate = gate(4);
    let served = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for number in 0..1_000_u64 {
        let (gate, served) = (Arc::clone(&gate), Arc::clone(&served));
        tasks.push(tokio::spawn(async move {
            let mut place = gate.wait(ask("a", &format!("{number}"))).expect("room");
            let patience = Duration::from_millis(if number % 2 == 0 { 50 } else { 86_400_000 });
            if let Ok(called) = tokio::time::timeout(patience, place.called()).await {
                let _slot = called.expect("a place");
                tokio::time::sleep(Duration::from_millis(10)).await;
                served.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert!((500..600).contains(&served.load(Ordering::Relaxed)), "{served:?}");
    assert_eq!((gate.in_flight(), gate.waiting(), gate.state.lock().calls.len()), (0, 0, 0));
}
