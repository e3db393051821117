use super::memory::Resident;
use super::*;

const GB: u64 = 1 << 30;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn terms() -> Terms {
    Terms {
        places: 1,
        max_waiting: 100,
        min_residency: secs(30),
        max_starvation: secs(60),
        offload: Offload::Allow,
    }
}

/// A request of a model that needs 10 GB.
fn ask(model: &str, caller: &str) -> Ask {
    Ask {
        model: model.into(),
        caller: caller.into(),
        weight: 1,
        priority: Priority::Interactive,
        need: Some(10 * GB),
    }
}

fn resident(model: &str, since: Instant) -> Resident {
    Resident {
        model: model.into(),
        vram: 10 * GB,
        partial: false,
        since,
        pinned: false,
        reload: Some(secs(8)),
    }
}

fn memory(free: u64, residents: Vec<Resident>) -> Option<Memory> {
    Some(Memory { free: free * GB, residents })
}

/// A line with `a` resident since 100 s on a GPU of 16 GB, and the time.
fn line(terms: Terms) -> (Line, Instant) {
    let start = Instant::now();
    let mut line = Line::new(terms);
    line.know(memory(6, vec![resident("a", start)]));
    (line, start + secs(100))
}

/// Who is served, in order, when each holds the place for `service` and nobody comes any more.
fn served(line: &mut Line, mut now: Instant, service: Duration) -> Vec<(Ticket, Arc<str>)> {
    let mut order = Vec::new();
    while let Some((ticket, grant)) = line.next(now) {
        now += service;
        line.release(&grant, now);
        order.push((ticket, grant.caller));
    }
    order
}

fn callers(order: &[(Ticket, Arc<str>)]) -> String {
    order.iter().map(|(_, caller)| &**caller).collect()
}

#[test]
fn what_is_known_decides() {
    let (mut one, now) = line(terms());
    let (a, b) = (ask("a", "x"), ask("b", "x"));
    assert_eq!(Line::new(terms()).consider(&b, now), Decision::Run, "nothing is known");
    assert_eq!(one.consider(&a, now), Decision::Run);
    assert_eq!(one.consider(&b, now), Decision::Load);
    assert_eq!(one.consider(&Ask { need: None, ..b.clone() }, now), Decision::Run);
    let grant = one.enter(&a, now).expect("a place");
    assert_eq!(one.enter(&a, now).err(), Some(Decision::Wait));
    assert_eq!(one.consider(&b, now), Decision::NoRoom, "a is busy");
    one.release(&grant, now);
    one.know(memory(6, vec![resident("a", now - secs(29))]));
    assert_eq!(one.consider(&b, now), Decision::NoRoom, "a is young");
    assert_eq!(one.consider(&Ask { need: Some(6 * GB), ..b.clone() }, now), Decision::Load);
    one.know(memory(6, vec![Resident { pinned: true, ..resident("a", now - secs(99)) }]));
    assert_eq!(one.consider(&b, now), Decision::Load, "allowed to spill");
    for (offload, expected) in
        [(Offload::Fallback, Decision::Partial), (Offload::Reject, Decision::Refuse)]
    {
        one.configure(Terms { offload, ..terms() });
        assert_eq!(one.consider(&b, now), expected, "a is pinned, b never fits");
        one.know(memory(6, vec![Resident { partial: true, ..resident("a", now) }]));
        assert_eq!(one.consider(&a, now), expected, "a is partial");
        let ticket = one.join(&a, now).expect("room");
        let (called, grant) = one.next(now).expect("it chose to wait");
        assert_eq!(called, ticket);
        one.release(&grant, now);
        one.know(memory(6, vec![Resident { pinned: true, ..resident("a", now - secs(99)) }]));
    }
}

#[test]
fn names_with_and_without_latest_are_one_model() {
    let (mut line, now) = line(terms());
    let a = ask("a:latest", "x");
    let grant = line.enter(&a, now).expect("a is resident");
    assert_eq!((line.in_flight_of("a"), line.in_flight_of("a:latest")), (1, 1));
    line.release(&grant, now);
    line.know(memory(6, vec![resident("b:latest", now)]));
    assert_eq!(line.consider(&ask("b", "x"), now), Decision::Run);
    line.join(&a, now).expect("room");
    let load = line.next_load(now + secs(30)).expect("b is idle");
    assert_eq!((&*load.model, &*load.evict[0]), ("a", "b"));
    line.loaded("a:latest", true, now + secs(38));
    assert!(line.next(now + secs(38)).is_some());
}

#[test]
fn an_idle_model_makes_room_and_admits_nobody_meanwhile() {
    let (mut line, now) = line(terms());
    let b = line.join(&ask("b", "x"), now).expect("room");
    assert!(line.next(now).is_none());
    let load = line.next_load(now).expect("a is idle");
    assert_eq!(load, Load { model: "b".into(), evict: vec!["a".into()], need: 10 * GB });
    assert_eq!(line.consider(&ask("a", "x"), now), Decision::NoRoom);
    assert_eq!(line.consider(&ask("b", "x"), now), Decision::Wait);
    assert_eq!(line.next_load(now), None, "one at a time");
    assert!(line.next(now).is_none());
    line.loaded("b", true, now + secs(12));
    let (ticket, grant) = line.next(now + secs(12)).expect("b is there");
    assert_eq!(ticket, b);
    line.release(&grant, now + secs(13));
    assert_eq!(line.consider(&ask("a", "x"), now + secs(41)), Decision::NoRoom, "b is young");
    assert_eq!(line.consider(&ask("a", "x"), now + secs(42)), Decision::Load);
}

#[test]
fn other_residents_go_on_while_a_model_loads() {
    let (mut line, now) = line(Terms { places: 2, ..terms() });
    let both = vec![resident("a", now - secs(99)), resident("c", now - secs(99))];
    line.know(memory(0, both));
    let grant = line.enter(&ask("c", "x"), now).expect("c is resident");
    line.join(&ask("b", "x"), now).expect("room");
    let load = line.next_load(now).expect("a is idle");
    assert_eq!(&*load.evict[0], "a");
    let other = line.enter(&ask("c", "y"), now).expect("a second place");
    line.release(&other, now);
    line.release(&grant, now);
}

#[test]
fn what_is_seen_during_a_load_may_be_older_than_its_effects() {
    let (mut line, now) = line(terms());
    line.join(&ask("b", "x"), now).expect("room");
    line.next_load(now).expect("a is idle");
    line.know(memory(6, vec![resident("a", now - secs(99))]));
    assert_eq!(line.consider(&ask("a", "x"), now), Decision::NoRoom, "a was evicted");
    line.loaded("b", true, now + secs(9));
    let (_, grant) = line.next(now + secs(9)).expect("b is resident though it was not listed");
    line.release(&grant, now + secs(9));
    assert_eq!(line.consider(&ask("b", "x"), now + secs(9)), Decision::Run);
    line.know(memory(16, vec![]));
    assert_eq!(line.consider(&ask("b", "x"), now + secs(9)), Decision::Load, "a later look counts");
}

#[test]
fn a_failed_load_turns_away_all_who_wait_for_it() {
    let (mut line, now) = line(terms());
    let first = line.join(&ask("b", "x"), now).expect("room");
    line.next_load(now).expect("a is idle");
    let second = line.join(&ask("b", "y"), now).expect("room");
    line.join(&ask("a", "y"), now).expect("room");
    assert_eq!(line.loaded("c", false, now), [], "another model");
    assert_eq!(line.loaded("b", false, now), [first, second]);
    assert_eq!(line.waiting(), 1);
    let load = line.next_load(now).expect("a again, as it was evicted");
    assert_eq!((&*load.model, load.evict.len()), ("a", 0));
}

#[test]
fn a_young_model_stays_and_the_time_is_told() {
    let (mut line, now) = line(terms());
    line.know(memory(6, vec![resident("a", now)]));
    line.join(&ask("b", "x"), now).expect("room");
    assert_eq!(line.next_load(now), None);
    assert_eq!(line.wake_at(), Some(now + secs(30)));
    assert_eq!(line.next_load(now + secs(29)), None);
    assert!(line.next_load(now + secs(30)).is_some());
    assert_eq!(line.wake_at(), None, "the end of the load will tell");
}

/// A steady stream for `a` while one request waits for `b`: how long until `b` loads.
#[test]
fn a_steady_stream_starves_nobody_longer_than_agreed() {
    let (mut line, start) = line(Terms { places: 2, ..terms() });
    line.join(&ask("b", "x"), start).expect("room");
    let (mut now, mut grants, mut load) = (start, Vec::new(), None);
    while load.is_none() && now < start + secs(600) {
        // Requests of 10 s each, overlapping: `a` is never idle by itself.
        line.join(&ask("a", "y"), now).expect("room");
        grants.extend(line.next(now).map(|(_, grant)| (grant, now + secs(10))));
        let (over, running) = grants.into_iter().partition::<Vec<_>, _>(|(_, end)| *end <= now);
        grants = running;
        for (grant, _) in over {
            line.release(&grant, now);
            grants.extend(line.next(now).map(|(_, grant)| (grant, now + secs(10))));
        }
        load = line.next_load(now);
        now += secs(1);
    }
    assert!(load.is_some());
    assert!(now >= start + secs(60), "not before it starved");
    assert!(now <= start + secs(72), "then only what was in flight: {:?}", now - start);
    line.loaded("b", true, now + secs(12));
    assert_eq!(line.next(now + secs(12)).map(|(ticket, _)| ticket.model), Some("b".into()));
    assert_eq!(line.next_load(now + secs(41)), None, "b is young, though many wait for a");
}

#[test]
fn under_overload_models_change_places_no_sooner_than_somebody_starves() {
    let (mut line, start) = line(terms());
    let mut loads: Vec<Duration> = Vec::new();
    let mut running: Option<Grant> = None;
    for second in 0..1_000 {
        let now = start + secs(second);
        // One request a second for either, of 2 s each: the queues only grow.
        for model in ["a", "b"] {
            let _ = line.join(&ask(model, "x"), now);
        }
        if second % 2 == 0 {
            running.into_iter().for_each(|grant| line.release(&grant, now));
            running = line.next(now).map(|(_, grant)| grant);
        }
        if let Some(load) = line.next_load(now) {
            loads.push(secs(second));
            line.loaded(&load.model, true, now);
        }
    }
    assert!(loads.len() > 10, "{loads:?}");
    assert!(loads.windows(2).all(|pair| pair[1] - pair[0] >= secs(60)), "{loads:?}");
    assert!(loads.windows(2).all(|pair| pair[1] - pair[0] <= secs(63)), "{loads:?}");
}

#[test]
fn nobody_is_kept_out_for_one_who_has_left() {
    let (mut line, now) = line(terms());
    let running = line.enter(&ask("a", "x"), now).expect("a place");
    let b = line.join(&ask("b", "x"), now).expect("room");
    line.join(&ask("a", "y"), now).expect("room");
    let late = now + secs(60);
    assert_eq!((line.next_load(now), line.wake_at()), (None, Some(late)));
    assert_eq!((line.next_load(late), line.wake_at()), (None, None));
    line.release(&running, late);
    assert!(line.next(late).is_none(), "a empties for b");
    assert!(line.leave(&b));
    assert!(!line.leave(&b));
    assert!(line.next(late).is_some());
}

#[test]
fn a_model_that_was_loaded_anew_is_not_emptied_before_its_time() {
    let (mut line, now) = line(terms());
    let _running = line.enter(&ask("a", "x"), now).expect("a place");
    line.configure(Terms { places: 2, ..terms() });
    line.join(&ask("b", "x"), now).expect("room");
    let late = now + secs(60);
    assert_eq!(line.next_load(late), None);
    assert_eq!(line.enter(&ask("a", "y"), late).err(), Some(Decision::Wait), "a empties");
    line.know(memory(6, vec![resident("a", late)]));
    assert!(line.enter(&ask("a", "y"), late).is_ok(), "somebody loaded it again");
    assert_eq!(line.next_load(late), None);
    assert_eq!(line.wake_at(), Some(late + secs(30)));
}

#[test]
fn who_waits_longest_is_loaded_first() {
    let (mut line, now) = line(terms());
    line.know(memory(16, vec![]));
    line.join(&ask("c", "x"), now).expect("room");
    line.join(&ask("b", "x"), now + secs(1)).expect("room");
    line.join(&ask("c", "x"), now + secs(2)).expect("room");
    let load = line.next_load(now + secs(3)).expect("room for one");
    assert_eq!(&*load.model, "c");
}

#[test]
fn requests_are_batched_by_model() {
    let (mut line, now) = line(terms());
    for model in ["a", "b", "a", "b", "a"] {
        line.join(&ask(model, "x"), now).expect("room");
    }
    assert_eq!(line.next_load(now), None, "a is wanted");
    let models = |order: Vec<(Ticket, Arc<str>)>| -> String {
        order.into_iter().map(|(ticket, _)| ticket.model.to_string()).collect()
    };
    assert_eq!(models(served(&mut line, now, secs(4))), "aaa");
    let now = now + secs(12);
    line.next_load(now).expect("a is idle");
    line.loaded("b", true, now + secs(12));
    assert_eq!(models(served(&mut line, now + secs(12), secs(4))), "bb");
}

#[test]
fn service_follows_the_weights() {
    let (mut line, mut now) = line(terms());
    let heavy = Ask { weight: 3, ..ask("a", "h") };
    let light = ask("a", "l");
    for _ in 0..3 {
        line.join(&light, now).expect("room");
        line.join(&heavy, now).expect("room");
    }
    let mut service = [0; 2];
    for turn in 0..400_u64 {
        let (_, grant) = line.next(now).expect("both always wait");
        let seconds = 1 + turn * 7 % 5;
        now += secs(seconds);
        line.release(&grant, now);
        let one = if &*grant.caller == "h" { &heavy } else { &light };
        service[usize::from(&*grant.caller == "h")] += seconds;
        line.join(one, now).expect("room");
    }
    let ratio = service[1] as f64 / service[0] as f64;
    assert!((2.8..3.2).contains(&ratio), "{service:?}");
}

#[test]
fn nobody_saves_up_turns_while_idle() {
    let (mut line, now) = line(terms());
    let running = line.enter(&ask("a", "x"), now).expect("a place");
    for _ in 0..4 {
        line.join(&ask("a", "x"), now).expect("room");
    }
    line.release(&running, now + secs(1_000));
    for _ in 0..4 {
        line.join(&ask("a", "y"), now + secs(1_000)).expect("room");
    }
    let order = served(&mut line, now + secs(1_000), secs(4));
    assert_eq!(callers(&order).matches("yy").count(), 0, "{}", callers(&order));
}

#[test]
fn a_row_of_strangers_keeps_nobody_waiting_for_ever() {
    let (mut line, mut now) = line(terms());
    let mut running = line.enter(&ask("a", "x"), now).expect("a place");
    line.join(&ask("a", "y"), now).expect("room");
    // x has used much; y waits, so x is behind everybody.
    line.join(&ask("a", "x"), now).expect("room");
    now += secs(100);
    line.release(&running, now);
    for stranger in 0.. {
        line.join(&ask("a", &format!("{stranger}")), now).expect("room");
        running = line.next(now).expect("somebody waits").1;
        if &*running.caller == "x" {
            return;
        }
        assert!(stranger < 400, "x starves");
        now += secs(1);
        line.release(&running, now);
    }
}

#[test]
fn batch_requests_yield_though_not_for_ever() {
    let (mut line, now) = line(terms());
    let running = line.enter(&ask("a", "x"), now).expect("a place");
    let batch = Ask { priority: Priority::Batch, ..ask("a", "b") };
    line.join(&batch, now).expect("room");
    line.join(&ask("a", "i"), now + secs(1)).expect("room");
    line.release(&running, now + secs(2));
    let (_, running) = line.next(now + secs(2)).expect("two wait");
    assert_eq!(&*running.caller, "i");
    line.join(&ask("a", "i"), now + secs(2)).expect("room");
    line.release(&running, now + secs(60));
    let (_, running) = line.next(now + secs(60)).expect("two wait");
    assert_eq!(&*running.caller, "b");
}

#[test]
fn the_queue_of_each_model_is_bounded() {
    let (mut line, now) = line(Terms { max_waiting: 1, ..terms() });
    line.join(&ask("b", "x"), now).expect("room");
    assert_eq!(line.join(&ask("b:latest", "y"), now), Err(QueueFull));
    assert!(line.join(&ask("c", "y"), now).is_ok());
}

#[test]
fn a_person_may_load_what_is_young_but_not_what_is_busy_or_pinned() {
    let (mut line, now) = line(terms());
    line.know(memory(6, vec![resident("a", now)]));
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b:latest".into());
    assert_eq!(line.begin_load(&a, GB, now), Err(Decision::Run));
    let grant = line.enter(&ask("a", "x"), now).expect("a place");
    assert_eq!(line.begin_load(&b, 10 * GB, now), Err(Decision::NoRoom));
    line.release(&grant, now);
    line.configure(Terms { offload: Offload::Reject, ..terms() });
    assert_eq!(line.begin_load(&b, 17 * GB, now), Err(Decision::Refuse));
    let load = line.begin_load(&b, 10 * GB, now).expect("a is idle");
    assert_eq!((&*load.model, &*load.evict[0]), ("b", "a"));
    assert_eq!(line.begin_load(&b, 10 * GB, now), Err(Decision::Wait));
    line.loaded("b", true, now);
    line.know(memory(6, vec![Resident { pinned: true, ..resident("b", now) }]));
    assert_eq!(line.begin_load(&a, 10 * GB, now), Err(Decision::Refuse), "b is pinned");
}

#[test]
fn a_model_that_never_fits_is_loaded_as_far_as_it_goes_for_those_who_wait() {
    let (mut line, now) = line(terms());
    let big = Ask { need: Some(40 * GB), ..ask("big", "x") };
    line.join(&big, now).expect("room");
    let load = line.next_load(now).expect("a goes");
    assert_eq!((&*load.evict[0], load.need), ("a", 40 * GB));
    line.loaded("big", true, now);
    assert!(line.next(now).is_some());
    assert_eq!(line.consider(&ask("a", "x"), now + secs(30)), Decision::NoRoom, "big is busy");
}

#[test]
fn positions_and_waits_are_told() {
    let (mut line, now) = line(terms());
    let first = line.enter(&ask("a", "x"), now).expect("a place");
    let now = now + secs(4);
    line.release(&first, now);
    let running = line.enter(&ask("a", "x"), now).expect("a place");
    let x = line.join(&ask("a", "x"), now).expect("room");
    let b = line.join(&ask("b", "y"), now).expect("room");
    let y = line.join(&ask("a", "y"), now).expect("room");
    let positions = [&y, &x, &b].map(|ticket| line.position(ticket, now));
    assert_eq!(positions, [Some(1), Some(2), Some(3)]);
    // The one that runs, then those before, 4 s each; then the load, of unknown length.
    let waits = [&y, &x, &b].map(|ticket| line.estimate(ticket, now));
    assert_eq!(waits, [Some(secs(4)), Some(secs(8)), Some(secs(12 + 10))]);
    assert_eq!(line.retry_after("a", now), secs(12));
    assert_eq!(line.retry_after("b", now), secs(22 + 5), "5 s are assumed of b");
    line.configure(Terms { places: 2, ..terms() });
    assert_eq!(line.estimate(&x, now), Some(secs(2)), "y has a free place, x the next");
    line.leave(&x);
    assert_eq!((line.position(&x, now), line.estimate(&x, now)), (None, None));
    line.release(&running, now);
    let report = serde_json::to_value(line.report(now)).expect("serializes");
    assert_eq!(report["waiting_total"], 2);
    assert_eq!(report["waiting"][0]["caller"], "y");
    assert_eq!(report["waiting"][1]["position"], 2);
}

#[test]
fn the_wait_for_a_load_counts_its_time_and_the_youth_of_others() {
    let (mut line, now) = line(terms());
    let b = Resident { reload: Some(secs(12)), ..resident("b", now) };
    line.know(memory(6, vec![b]));
    line.know(memory(6, vec![resident("a", now - secs(10))]));
    let ticket = line.join(&ask("b", "x"), now).expect("room");
    assert_eq!(line.estimate(&ticket, now), Some(secs(20 + 12)));
    line.next_load(now + secs(20)).expect("a is of age");
    assert_eq!(line.estimate(&ticket, now + secs(25)), Some(secs(12 - 5)));
}

#[test]
fn a_retry_is_told_within_bounds() {
    let (mut line, now) = line(terms());
    assert_eq!(line.retry_after("a", now), secs(1));
    for _ in 0..100 {
        line.join(&ask("a", "x"), now).expect("room");
    }
    assert_eq!(line.retry_after("a", now), secs(120));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut line = Line::new(Terms { places: 2, ..terms() });
    let mut now = Instant::now();
    let _held = line.enter(&ask("m", "always"), now).expect("a place");
    for number in 0..5_000 {
        let ask = ask(&format!("m{number}"), &format!("c{number}"));
        let grant = line.enter(&ask, now).expect("a place");
        now += secs(9);
        line.release(&grant, now);
    }
    assert!(line.models.len() <= 256, "{}", line.models.len());
    assert!(line.accounts.len() <= 300, "{}", line.accounts.len());
    assert_eq!(line.in_flight_of("m"), 1);
}
