//! The cache's embedder run by the gateway itself, on a small model that the test writes.

use std::path::Path;
use std::process::Command;

use sluicegate_simulator::Settings;

use self::model::ModelDirectory;
use super::{ask, cached, cool, outcome};
use crate::{BIN, pair};

#[allow(dead_code, reason = "the embedder's own tests use more of it")]
#[path = "../../../proxy/embedder/tests/integration/model.rs"]
mod model;

fn config(directory: &Path) -> String {
    let path = directory.display();
    format!("cache: {{ semantic: {{ embedder: {{ path: \"{path}\" }}, deadline: 5s }} }}")
}

#[tokio::test]
async fn a_model_in_a_directory_finds_questions_of_the_same_meaning() {
    let directory = ModelDirectory::new();
    let (gateway, host) = pair(Settings::default(), &config(directory.path())).await;
    ask(&gateway, &cool("How do I reset my password?", "")).await;
    let hit = ask(&gateway, &cool("how do i reset my password", "")).await;
    assert_eq!(cached(&hit), ("hit-l3", "meaning"));
    assert_eq!(outcome(&gateway, &cool("How do I not reset my password?", "")).await, "miss");
    assert_eq!(outcome(&gateway, &cool("What is the weather in Paris?", "")).await, "miss");
    assert_eq!(host.recorder().started(), 3);
    // Longer than the model reads: a miss, never a part of it.
    let long = format!("How do I reset {}?", "the lazy brown dog ".repeat(20));
    for _ in 0..2 {
        let answer = ask(&gateway, &cool(&long, r#""seed":1"#)).await;
        assert_eq!(answer.status, 200);
    }
    // A reload keeps the model, also when its files are gone.
    drop(directory);
    let text = std::fs::read_to_string(gateway.config_path()).expect("the configuration");
    gateway.write_config(&format!("{text}\n# changed\n"));
    sluicegate_test_support::eventually("it is reloaded", async || {
        gateway.metric("sluicegate_config_reloads_total{result=\"ok\"}").await == 1.0
    })
    .await;
    let hit = ask(&gateway, &cool("how do i reset my password!", "")).await;
    assert_eq!(cached(&hit).0, "hit-l3");
}

#[test]
fn a_directory_without_a_model_is_told_at_start() {
    let empty = tempfile::tempdir().expect("a directory");
    let file = empty.path().join("gateway.yaml");
    let listen = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n";
    std::fs::write(&file, format!("{listen}{}\n", config(empty.path()))).expect("written");
    let ended = Command::new(BIN).arg("serve").arg("--config").arg(&file).output().expect("runs");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success());
    assert!(
        told.contains("`cache.semantic.embedder.path`") && told.contains("config.json"),
        "{told}"
    );
}
