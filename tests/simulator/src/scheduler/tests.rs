use std::sync::Arc;

use tokio::task::JoinHandle;

use super::*;

const GIB: u64 = 1 << 30;

fn settings() -> Settings {
    Settings {
        models: vec![Model::new("a:1", 10), Model::new("b:1", 10), Model::new("big:1", 40)],
        vram: 16 << 30,
        num_parallel: 1,
        max_queue: 1,
        ..Settings::default()
    }
}

fn scheduler(settings: &Settings) -> Arc<Scheduler> {
    Arc::new(Scheduler::new(settings.clone(), Arc::default()).expect("no card"))
}

fn loaded(scheduler: &Scheduler) -> Vec<(String, u64)> {
    let models = scheduler.ps()["models"].as_array().expect("a list").clone();
    let gib = |one: &Value| one["size_vram"].as_u64().expect("bytes") / GIB;
    models.iter().map(|one| (one["name"].as_str().expect("a name").into(), gib(one))).collect()
}

async fn place(scheduler: &Scheduler, model: &Model) -> Place {
    scheduler.place(model, None, None).await.expect("loads")
}

/// A request that waits for its place in a task of its own.
async fn later(
    scheduler: &Arc<Scheduler>,
    model: &Model,
    context: Option<u64>,
) -> JoinHandle<Result<Place, Refusal>> {
    let (scheduler, model) = (Arc::clone(scheduler), model.clone());
    let task = tokio::spawn(async move { scheduler.place(&model, context, None).await });
    tokio::task::yield_now().await;
    task
}

#[tokio::test(start_paused = true)]
async fn an_idle_model_makes_room_and_a_big_one_spills() {
    let settings = settings();
    let scheduler = scheduler(&settings);
    drop(place(&scheduler, &settings.models[0]).await);
    drop(place(&scheduler, &settings.models[1]).await);
    assert_eq!(loaded(&scheduler), [("b:1".into(), 10)]);
    drop(place(&scheduler, &settings.models[2]).await);
    assert_eq!(loaded(&scheduler), [("big:1".into(), 16)]);
    assert_eq!((scheduler.evictions(), scheduler.swaps()), (2, 2));
    assert_eq!((scheduler.loads("a:1"), scheduler.loads("c:1")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_only_for_models_that_are_not_loaded() {
    let settings = settings();
    let scheduler = scheduler(&settings);
    let held = place(&scheduler, &settings.models[0]).await;
    for _ in 0..10 {
        let (scheduler, model) = (Arc::clone(&scheduler), settings.models[0].clone());
        tokio::spawn(async move { scheduler.place(&model, None, None).await.map(drop) });
    }
    let waiting = later(&scheduler, &settings.models[1], None).await;
    let refused = scheduler.place(&settings.models[2], None, None).await;
    assert_eq!(refused.err(), Some(Refusal::Busy));
    drop(held);
    assert!(waiting.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_model_expires_after_its_last_request_and_not_before() {
    let settings = settings();
    let scheduler = scheduler(&settings);
    let held = scheduler.place(&settings.models[0], None, Some(10.0)).await.expect("loads");
    tokio::time::advance(Duration::from_secs(60)).await;
    drop(held);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(loaded(&scheduler).len(), 1, "the time starts anew with the end of a request");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(loaded(&scheduler), []);
    assert_eq!(scheduler.evictions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_busy_model_is_unloaded_with_its_last_request() {
    let settings = settings();
    let scheduler = scheduler(&settings);
    let held = place(&scheduler, &settings.models[0]).await;
    scheduler.unload("a:1");
    assert_eq!(loaded(&scheduler).len(), 1);
    drop(held);
    assert_eq!(loaded(&scheduler), []);
    let (first, second) = (place(&scheduler, &settings.models[0]), Some(0.0));
    drop(first.await);
    drop(scheduler.place(&settings.models[0], None, second).await);
    assert_eq!((loaded(&scheduler), scheduler.loads("a:1")), (vec![], 2));
}

#[tokio::test(start_paused = true)]
async fn another_context_reloads_the_model_once_it_is_idle() {
    let mut settings = Settings { num_parallel: 2, max_queue: 9, ..settings() };
    settings.models[0].kv_per_token = GIB / 8192;
    let scheduler = scheduler(&settings);
    let held = place(&scheduler, &settings.models[0]).await;
    assert_eq!(scheduler.memory(), (12 * GIB, 16 * GIB));
    let other = later(&scheduler, &settings.models[0], Some(4096)).await;
    let same = later(&scheduler, &settings.models[0], None).await;
    assert_eq!((other.is_finished(), same.is_finished()), (false, false));
    drop(held);
    let other = other.await.expect("no panic").expect("loads");
    assert_eq!((other.context, scheduler.memory().0), (4096, 11 * GIB));
    drop(other);
    assert_eq!(same.await.expect("no panic").expect("loads").context, 8192);
    assert_eq!((scheduler.loads("a:1"), scheduler.evictions(), scheduler.swaps()), (3, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_busy_model_that_has_to_go_takes_no_more_requests() {
    let settings = Settings { max_queue: 9, ..settings() };
    let scheduler = scheduler(&settings);
    let held = place(&scheduler, &settings.models[0]).await;
    let second = later(&scheduler, &settings.models[1], None).await;
    let third = later(&scheduler, &settings.models[0], None).await;
    drop(held);
    let second = second.await.expect("no panic").expect("loads");
    assert_eq!((loaded(&scheduler), third.is_finished()), (vec![("b:1".into(), 10)], false));
    drop(second);
    drop(third.await.expect("no panic").expect("loads"));
    assert_eq!((scheduler.loads("a:1"), scheduler.swaps()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_others_hold_and_runners_take_beside_their_models_is_no_room() {
    let settings = Settings { overhead: GIB, vram: 24 * GIB, ..settings() };
    let scheduler = scheduler(&settings);
    scheduler.take_foreign(GIB);
    scheduler.take_foreign(GIB);
    drop(place(&scheduler, &settings.models[0]).await);
    assert_eq!(scheduler.memory(), (13 * GIB, 24 * GIB));
    drop(place(&scheduler, &settings.models[1]).await);
    assert_eq!(loaded(&scheduler), [("a:1".into(), 10), ("b:1".into(), 10)]);
    assert_eq!(scheduler.memory().0, 24 * GIB);
    scheduler.set_foreign(20 * GIB);
    assert_eq!(scheduler.memory().0, 24 * GIB, "no card has more than it has");
    drop(place(&scheduler, &settings.models[2]).await);
    assert_eq!(loaded(&scheduler), [("big:1".into(), 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_load_takes_memory_before_it_ends_and_gives_it_back_if_it_is_given_up() {
    let mut settings = settings();
    settings.models[0].load_time = Some(Duration::from_secs(5));
    let scheduler = scheduler(&settings);
    let loading = later(&scheduler, &settings.models[0], None).await;
    assert_eq!((loaded(&scheduler), scheduler.memory().0), (vec![], 10 * GIB));
    loading.abort();
    assert!(loading.await.is_err());
    assert_eq!((scheduler.memory().0, scheduler.loads("a:1")), (0, 0));
    let start = Instant::now();
    let place = place(&scheduler, &settings.models[0]).await;
    assert_eq!((start.elapsed(), place.load_time), (Duration::from_secs(5), start.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_the_queue_of_a_slot_leaves_the_model() {
    let settings = settings();
    let scheduler = scheduler(&settings);
    let held = place(&scheduler, &settings.models[0]).await;
    let left = later(&scheduler, &settings.models[0], None).await;
    left.abort();
    assert!(left.await.is_err());
    drop(held);
    drop(place(&scheduler, &settings.models[1]).await);
    assert_eq!(loaded(&scheduler), [("b:1".into(), 10)]);
}

#[tokio::test(start_paused = true)]
async fn loads_fail_as_often_as_they_are_told_to() {
    let settings = settings();
    let faults = Arc::new(Faults::default());
    let scheduler = Scheduler::new(settings.clone(), Arc::clone(&faults)).expect("no card");
    faults.loads(2, "exit status 2");
    for _ in 0..2 {
        let failed = scheduler.place(&settings.models[0], None, None).await;
        assert_eq!(failed.err(), Some(Refusal::Failed("exit status 2".into())));
        assert_eq!(scheduler.memory().0, 0);
    }
    assert!(scheduler.place(&settings.models[0], None, None).await.is_ok());
    assert_eq!(scheduler.loads("a:1"), 1);
}
