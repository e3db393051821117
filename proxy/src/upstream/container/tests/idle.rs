//! Stopping after idling, and gateways that come and go.

use super::super::State;
use super::*;

#[tokio::test(start_paused = true)]
async fn it_is_stopped_when_it_has_idled_long_enough_and_started_again_when_needed() {
    let scene = Scene::new();
    assert_eq!(scene.container.stop_if_idle(0).await, Ok(false));
    scene.ensure().await.expect("runs");
    pass(599).await;
    assert_eq!(scene.container.stop_if_idle(0).await, Ok(false));
    scene.container.touch();
    pass(599).await;
    assert_eq!(scene.container.stop_if_idle(0).await, Ok(false));
    pass(1).await;
    assert_eq!(scene.container.stop_if_idle(0).await, Ok(true));
    assert_eq!(scene.container.state(), State::Stopped);
    assert!(!scene.running());
    assert_eq!(scene.container.stop_if_idle(0).await, Ok(false));
    scene.ensure().await.expect("runs again");
    assert_eq!(scene.engine.count("create"), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_never_stopped_under_a_request_and_idles_from_its_end() {
    let scene = Scene::new();
    scene.ensure().await.expect("runs");
    pass(1000).await;
    assert_eq!(scene.container.stop_if_idle(1).await, Ok(false));
    pass(599).await;
    assert_eq!(scene.container.stop_if_idle(0).await, Ok(false));
    pass(1).await;
    assert_eq!(scene.container.stop_if_idle(0).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn only_one_that_is_started_on_demand_and_may_idle_out_is_stopped() {
    let changes: [fn(&mut Settings); 3] = [
        |settings| settings.start = Start::Always,
        |settings| settings.start = Start::Never,
        |settings| settings.stop_after_idle = None,
    ];
    for change in changes {
        let scene = Scene::new();
        scene.ensure().await.expect("runs");
        let other = scene.again(change);
        assert_eq!(other.adopt().await, State::Running);
        pass(100_000).await;
        assert_eq!(other.stop_if_idle(0).await, Ok(false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_while_it_stops_starts_it_again() {
    let scene = Arc::new(Scene::new());
    scene.ensure().await.expect("runs");
    pass(600).await;
    scene.engine.world().slow = Some(("/stop", Duration::from_secs(4)));
    let container = Arc::clone(&scene.container);
    let stopping = tokio::spawn(async move { container.stop_if_idle(0).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.ensure().await.expect("runs again");
    assert_eq!(stopping.await.expect("ended"), Ok(true));
    assert!(scene.running());
    assert_eq!(scene.engine.count("/start"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_was_dropped_in_the_middle_is_looked_after() {
    let scene = Scene::new();
    scene.ensure().await.expect("runs");
    pass(600).await;
    scene.engine.world().slow = Some(("/stop", Duration::from_secs(4)));
    let stop = tokio::time::timeout(Duration::from_secs(1), scene.container.stop_if_idle(0));
    assert!(stop.await.is_err());
    // The engine stops it all the same.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!scene.running());
    scene.ensure().await.expect("runs again");
    assert!(scene.running());
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_fails_is_tried_again() {
    let scene = Scene::new();
    scene.ensure().await.expect("runs");
    pass(600).await;
    scene.engine.world().slow = Some(("/stop", Duration::from_secs(3600)));
    let cause = scene.container.stop_if_idle(0).await.expect_err("too late");
    assert_eq!(cause.to_string(), "Docker Engine: no answer to stop within 15s");
    scene.engine.world().slow = None;
    assert_eq!(scene.container.stop_if_idle(0).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_ends_leaves_it_running_and_the_next_one_adopts_it() {
    let mut scene = Scene::new();
    scene.ensure().await.expect("runs");
    scene.container = scene.again(|_| {});
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(scene.running());
    assert_eq!(scene.container.state(), State::Unknown);
    assert_eq!(scene.container.adopt().await, State::Running);
    scene.ensure().await.expect("runs");
    assert_eq!((scene.engine.count("create"), scene.engine.count("/start")), (1, 1));
    pass(600).await;
    assert_eq!(scene.container.stop_if_idle(0).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn an_adopted_container_is_seen_to_answer_before_it_is_relied_on() {
    let scene = Scene::new();
    scene.engine.world().container = Some(One::foreign(IMAGE, true));
    scene.set_well(false);
    assert_eq!(scene.container.adopt().await, State::Running);
    assert!(matches!(scene.ensure().await, Err(StartError::Unhealthy { .. })));
}

#[tokio::test(start_paused = true)]
async fn there_may_be_nothing_to_adopt() {
    let scene = Scene::new();
    assert_eq!(scene.container.adopt().await, State::Absent);
    let container = scene.again(|settings| settings.socket = Some("/nowhere".into()));
    assert!(matches!(container.adopt().await, State::Failed { .. }));
}
