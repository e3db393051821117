//! Starts that work, and those that do not.

use tokio::time::Instant;

use super::super::State;
use super::*;

#[tokio::test(start_paused = true)]
async fn however_many_ask_one_starts_it_and_all_share_the_outcome() {
    let scene = Arc::new(Scene::new());
    scene.set_well(false);
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.ensure().await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(matches!(scene.container.state(), State::Starting { .. }));
    scene.set_well(true);
    for caller in callers {
        assert_eq!(caller.await.expect("ended"), Ok(()));
    }
    assert_eq!((scene.engine.count("create"), scene.engine.count("/start")), (1, 1));
    assert_eq!(scene.container.state(), State::Running);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_does_not_stop_the_start() {
    let scene = Scene::new();
    scene.set_well(false);
    let left = tokio::time::timeout(Duration::from_secs(2), scene.ensure()).await;
    assert!(left.is_err());
    scene.set_well(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.container.state(), State::Running);
    assert_eq!(scene.ensure().await, Ok(()));
    assert_eq!(scene.engine.count("create"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_running_container_costs_no_call() {
    let scene = Scene::new();
    scene.ensure().await.expect("runs");
    let before = scene.engine.count("");
    for _ in 0..10 {
        pass(60).await;
        scene.ensure().await.expect("runs");
    }
    assert_eq!(scene.engine.count(""), before);
}

#[tokio::test(start_paused = true)]
async fn without_an_engine_the_error_names_the_socket() {
    let scene = Scene::with(|settings| settings.socket = Some("/nowhere/docker.sock".into()));
    let cause = scene.ensure().await.expect_err("no engine");
    assert!(matches!(cause, StartError::EngineMissing(_)), "{cause:?}");
    assert!(cause.to_string().contains("/nowhere/docker.sock"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_has_ended_is_missing_though_its_socket_lies_there() {
    let scene = Scene::new();
    let dead = scene.engine.socket().with_file_name("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).expect("bound"));
    let container = scene.again(|settings| settings.socket = Some(dead));
    let cause = scene.ensure_of(&container, Ok(Gpus::None)).await.expect_err("no engine");
    assert!(matches!(cause, StartError::EngineMissing(_)), "{cause:?}");
    assert!(cause.to_string().contains("refused"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_told_and_not_pulled() {
    let scene = Scene::new();
    scene.engine.world().image_missing = true;
    let cause = scene.ensure().await.expect_err("no image");
    assert_eq!(cause, StartError::ImageMissing { image: IMAGE.to_owned() });
    let message = "the image ollama/ollama:latest is not on this machine; docker pull \
                   ollama/ollama:latest";
    assert_eq!(cause.to_string(), message);
    assert_eq!(scene.engine.count("/images"), 0);
    let State::Failed { why, .. } = scene.container.state() else { panic!("it failed") };
    assert_eq!(why, message);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_is_tried_again_after_a_back_off_that_doubles() {
    let scene = Scene::new();
    scene.engine.world().image_missing = true;
    let mut waits = Vec::new();
    for creates in 1..=8 {
        let since = Instant::now();
        while scene.engine.count("create") < creates && since.elapsed().as_secs() < 99 {
            scene.ensure().await.expect_err("no image");
            pass(1).await;
        }
        waits.push(since.elapsed().as_secs());
    }
    // The second that passes after each attempt is the first of the wait for the next one.
    assert_eq!(waits, [1, 1, 2, 4, 8, 16, 32, 60]);
    scene.engine.world().image_missing = false;
    pass(60).await;
    scene.ensure().await.expect("runs");
    scene.die();
    scene.container.suspect();
    pass(1).await;
    scene.engine.world().exits = Some((1, String::new()));
    scene.ensure().await.expect_err("ends");
    scene.engine.world().exits = None;
    pass(1).await;
    scene.ensure().await.expect("the first back-off again: one second");
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_at_once_is_told_at_once_with_its_last_words() {
    let scene = Scene::new();
    let log = "starting\n\u{1b}[31mError: listen tcp 127.0.0.1:11435: in use\r\n".to_owned();
    scene.engine.world().exits = Some((3, log));
    let since = Instant::now();
    let cause = scene.ensure().await.expect_err("it ended");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    let StartError::Exited { code: 3, log_tail } = &cause else { panic!("{cause:?}") };
    assert_eq!(log_tail, "starting\n[31mError: listen tcp 127.0.0.1:11435: in use");
    assert!(!cause.to_string().contains('\n'));
    let State::Failed { log_tail, .. } = scene.container.state() else { panic!("it failed") };
    assert_eq!(log_tail.as_deref(), cause.log_tail());
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_hide_that_it_ended() {
    let scene = Scene::new();
    scene.engine.world().exits = Some((1, "out of memory".to_owned()));
    let asked = AtomicBool::new(false);
    let after_the_first = move || std::future::ready(asked.swap(true, Ordering::SeqCst)).boxed();
    let cause = scene.container.ensure(after_the_first, || unreachable!("it wants no GPU")).await;
    assert!(matches!(cause, Err(StartError::Exited { code: 1, .. })), "{cause:?}");
}

#[tokio::test(start_paused = true)]
async fn another_server_at_the_address_is_not_taken_for_the_container() {
    let scene = Scene::new();
    let always = || std::future::ready(true).boxed();
    let cause = scene.container.ensure(always, || unreachable!("it wants no GPU")).await;
    assert_eq!(cause, Err(StartError::AddressTaken));
    assert_eq!(scene.engine.count("/start"), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_never_answers_is_stopped_when_its_time_is_up() {
    let scene = Scene::new();
    scene.set_well(false);
    let since = Instant::now();
    let cause = scene.ensure().await.expect_err("it does not answer");
    assert_eq!(since.elapsed().as_secs(), 60);
    assert_eq!(cause.to_string(), "the container runs but did not answer within 60s");
    assert!(!scene.running());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_does_not_hang_the_start() {
    let scene = Scene::new();
    let since = Instant::now();
    let hangs = || std::future::pending().boxed();
    let cause = scene.container.ensure(hangs, || unreachable!("it wants no GPU")).await;
    assert!(matches!(cause, Err(StartError::Unhealthy { .. })), "{cause:?}");
    // One probe before it is started, and then its time.
    assert_eq!(since.elapsed().as_secs(), 65);
}

#[tokio::test(start_paused = true)]
async fn no_call_waits_longer_than_its_deadline() {
    for call in ["version", "json", "create", "/start"] {
        let scene = Scene::new();
        scene.engine.world().slow = Some((call, Duration::from_secs(3600)));
        let since = Instant::now();
        let cause = scene.ensure().await.expect_err("too late");
        assert!(cause.to_string().ends_with("within 10s"), "{call}: {cause}");
        assert_eq!(since.elapsed().as_secs(), 10, "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_gets_the_gpus_granted_when_it_starts() {
    let scene = Scene::with(|settings| settings.gpus = Gpus::All);
    let requests = |scene: &Scene| {
        let world = scene.engine.world();
        world.container.as_ref().map(|one| one.body["HostConfig"]["DeviceRequests"].clone())
    };
    let busy = StartError::GpuBusy("the host's upstream holds 7.5 GiB".to_owned());
    let cause = scene.ensure_of(&scene.container, Err(busy.clone())).await;
    assert_eq!(cause, Err(busy));
    pass(1).await;
    scene.ensure_of(&scene.container, Ok(Gpus::None)).await.expect("runs on the CPU");
    assert!(requests(&scene).is_some_and(|requests| requests.is_null()));
    // Later the GPU is free, but one that runs is left alone.
    scene.container.suspect();
    pass(1).await;
    scene.ensure_of(&scene.container, Ok(Gpus::All)).await.expect("runs");
    assert_eq!(scene.engine.count("create"), 1);
    scene.die();
    scene.container.suspect();
    pass(1).await;
    scene.ensure_of(&scene.container, Ok(Gpus::All)).await.expect("runs on the GPU");
    assert!(requests(&scene).is_some_and(|requests| requests[0]["Count"] == -1));
}

#[test]
fn the_state_is_told_in_json() {
    let state = State::Failed { why: "x".into(), log_tail: None, at_unix_ms: 5 };
    let json =
        serde_json::json!({ "state": "failed", "why": "x", "log_tail": null, "at_unix_ms": 5 });
    assert_eq!(serde_json::to_value(state).expect("JSON"), json);
    let json = serde_json::json!({ "state": "running" });
    assert_eq!(serde_json::to_value(State::Running).expect("JSON"), json);
}
