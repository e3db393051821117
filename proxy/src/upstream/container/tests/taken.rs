//! Containers that are there already.

use super::super::State;
use super::*;

#[tokio::test(start_paused = true)]
async fn somebody_elses_container_of_another_image_is_never_touched() {
    for running in [false, true] {
        let scene = Scene::new();
        scene.engine.world().container = Some(One::foreign("redis:7", running));
        let cause = scene.ensure().await.expect_err("taken");
        let image = "redis:7".to_owned();
        assert_eq!(cause, StartError::NameTaken { name: NAME.to_owned(), image });
        assert!(matches!(scene.container.adopt().await, State::Failed { .. }));
        assert_eq!(scene.engine.count("POST") + scene.engine.count("DELETE"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_users_container_of_the_same_image_is_started_and_never_stopped() {
    let scene = Scene::new();
    scene.engine.world().container = Some(One::foreign("docker.io/ollama/ollama", false));
    scene.ensure().await.expect("runs");
    assert_eq!((scene.engine.count("create"), scene.engine.count("/start")), (0, 1));
    pass(3600).await;
    assert_eq!(scene.container.stop_if_idle(0).await, Ok(false));
    // Nor when it hangs.
    scene.set_well(false);
    scene.container.suspect();
    assert!(matches!(scene.ensure().await, Err(StartError::Unhealthy { .. })));
    assert!(scene.running());
}

#[tokio::test(start_paused = true)]
async fn our_stopped_container_is_started_again_and_not_made_anew() {
    let scene = Scene::new();
    scene.ensure().await.expect("runs");
    scene.die();
    let restarted = scene.again(|settings| settings.stop_after_idle = None);
    assert_eq!(restarted.adopt().await, State::Stopped);
    scene.ensure_of(&restarted, Ok(Gpus::None)).await.expect("runs");
    assert_eq!((scene.engine.count("create"), scene.engine.count("/start")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn our_stopped_container_of_other_settings_is_made_anew() {
    let changes: [fn(&mut Settings); 2] = [
        |settings| settings.image = "ollama/ollama:0.12".to_owned(),
        |settings| settings.env = vec!["OLLAMA_NUM_PARALLEL=2".to_owned()],
    ];
    for change in changes {
        let scene = Scene::new();
        scene.ensure().await.expect("runs");
        scene.die();
        scene.ensure_of(&scene.again(change), Ok(Gpus::None)).await.expect("runs");
        assert_eq!((scene.engine.count("DELETE"), scene.engine.count("create")), (1, 2));
        // Its volumes stay.
        assert_eq!(scene.engine.count("v=false"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn our_running_container_of_other_settings_is_left_alone_while_it_answers() {
    let scene = Scene::new();
    scene.ensure().await.expect("runs");
    let changed = scene.again(|settings| settings.env = vec!["A=1".to_owned()]);
    assert_eq!(changed.adopt().await, State::Running);
    scene.ensure_of(&changed, Ok(Gpus::None)).await.expect("runs");
    assert_eq!(scene.engine.count("DELETE"), 0);
    // It would be waited for in vain: the new settings may be what makes it answer.
    changed.suspect();
    scene.set_well(false);
    pass(1).await;
    let ensured = scene.ensure_of(&changed, Ok(Gpus::None));
    let recover = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.set_well(true);
    };
    assert_eq!(tokio::join!(ensured, recover).0, Ok(()));
    assert_eq!((scene.engine.count("DELETE"), scene.engine.count("create")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn what_another_gateway_made_meanwhile_is_used() {
    let scene = Scene::new();
    scene.ensure().await.expect("runs");
    let made = scene.engine.world().container.take();
    scene.engine.world().rival = made;
    scene.container.suspect();
    pass(1).await;
    scene.ensure().await.expect("runs");
    assert_eq!((scene.engine.count("create"), scene.engine.count("/start")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_only_the_user_starts_is_used_once_it_runs() {
    let scene = Scene::with(|settings| settings.start = Start::Never);
    assert_eq!(scene.ensure().await, Err(StartError::NotStarted));
    scene.engine.world().container = Some(One::foreign(IMAGE, false));
    pass(1).await;
    assert_eq!(scene.ensure().await, Err(StartError::NotStarted));
    scene.change(|one| one.running = true);
    pass(1).await;
    assert_eq!(scene.ensure().await, Ok(()));
    assert_eq!(scene.engine.count("POST"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_dies_is_noticed_when_it_is_suspected() {
    let scene = Scene::new();
    scene.ensure().await.expect("runs");
    scene.die();
    pass(1).await;
    scene.ensure().await.expect("nobody knows yet");
    scene.container.suspect();
    scene.ensure().await.expect("runs again");
    assert_eq!((scene.engine.count("create"), scene.engine.count("/start")), (1, 2));
    assert!(scene.running());
}

#[tokio::test(start_paused = true)]
async fn a_suspected_container_is_looked_at_once_a_second_at_most() {
    let scene = Scene::new();
    scene.ensure().await.expect("runs");
    let before = scene.engine.count("json");
    for _ in 0..50 {
        scene.container.suspect();
        scene.ensure().await.expect("runs");
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let looks = scene.engine.count("json") - before;
    assert!((4..=5).contains(&looks), "{looks}");
}
