//! The GPUs of the machine, from a tree as the kernel's driver for AMD cards has it and from a library
//! that stands in for NVIDIA's.

use std::path::PathBuf;
use std::process::Command;

use sluicegate_simulator::Settings;
use sluicegate_test_support::{Gateway, eventually, get};

use crate::pair;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}

async fn gpus(gateway: &Gateway) -> Vec<serde_json::Value> {
    let answer = get(gateway.admin, "/api/gpu").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["gpus"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn amd_cards_are_shown_and_measured() {
    let config = format!("gpus: {{ amdgpu_root: \"{}\", poll: 50ms }}", data("amdgpu").display());
    let (gateway, _host) = pair(Settings::default(), &config).await;
    eventually("they are found", async || gpus(&gateway).await.len() == 2).await;
    let first = &gpus(&gateway).await[0];
    assert!(first["id"].as_str().is_some_and(|id| id.starts_with("amdgpu:card")), "{first}");
    assert!(first["memory_total"].as_u64() > first["memory_used"].as_u64());
    let page = gateway.metrics().await;
    let line = page.lines().find(|line| line.starts_with("sluicegate_gpu_memory_total_bytes{"));
    assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{page}");
}

#[tokio::test]
async fn nvidia_cards_are_shown_and_measured() {
    let dir = tempfile::tempdir().expect("a directory");
    let library = dir.path().join("libnvidia-ml.so.1");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(format!("-DCONTROL=\"{}\"", dir.path().join("control").display()))
        .arg(data("fake_nvml.c"))
        .status();
    let Ok(built) = built else {
        return sluicegate_test_support::skipped("there is no C compiler");
    };
    assert!(built.success(), "the library does not compile");
    let config = format!("gpus: {{ nvml_library: \"{}\", poll: 50ms }}", library.display());
    let (gateway, _host) = pair(Settings::default(), &config).await;
    eventually("they are found", async || !gpus(&gateway).await.is_empty()).await;
    assert!(gpus(&gateway).await[0]["id"].as_str().is_some_and(|id| id.starts_with("nvml:")));
}

#[tokio::test]
async fn a_machine_without_gpus_serves_as_ever() {
    let (gateway, _host) = pair(Settings::default(), "gpus: { probe: none }").await;
    assert_eq!(gpus(&gateway).await.len(), 0);
    assert_eq!(get(gateway.admin, "/readyz").await.status, 200);
}
