use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluicegate_simulator::Settings;
use sluicegate_test_support::{Gateway, eventually, guest, post};

use super::{at, config, house, plugin};
use crate::{BIN, CHAT, MODEL, chat, simulator};

fn reloads(plugin: &str, result: &str) -> String {
    format!("sluicegate_plugin_reloads_total{{plugin=\"{plugin}\",result=\"{result}\"}}")
}

/// Replaces a file at once, as a deployment does.
fn replace(path: &std::path::Path, with: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, with).expect("written");
    fs::rename(new, path).expect("renamed");
}

/// The guest with a custom section at its end: another file that does the same.
fn variant(tag: u8) -> Vec<u8> {
    let mut wasm = fs::read(guest::faulty()).expect("built");
    wasm.extend([0, 3, 1, b'v', tag]);
    wasm
}

#[tokio::test]
async fn a_changed_file_is_taken_on_under_load_and_a_bad_one_is_not() {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("p.wasm");
    replace(&file, &variant(0));
    let p = at(&file, "p", "config: { do: last-first }");
    let gateway = Gateway::start(BIN, &config(&first, &second, &p, "p", ""));
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (stop, to) = (Arc::clone(&stop), gateway.data);
            tokio::spawn(async move {
                let mut served = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = post(to, CHAT, chat("")).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.header("x-sluicegate-upstream"), Some("second"));
                    served += 1;
                }
                served
            })
        })
        .collect();
    for tag in 1..=3 {
        replace(&file, &variant(tag));
        eventually("it is reloaded", async || {
            gateway.metric(&reloads("p", "ok")).await == f64::from(tag)
        })
        .await;
    }
    replace(&file, b"\0asm no plugin");
    eventually("it is refused", async || gateway.metric(&reloads("p", "error")).await >= 1.0).await;
    assert!(gateway.stderr().contains("the last good one stays"), "{}", gateway.stderr());
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.store(true, Ordering::Relaxed);
    for task in load {
        assert!(task.await.expect("no failed request") > 0);
    }
}

#[tokio::test]
async fn a_configuration_that_a_plugin_refuses_leaves_the_last_good_one() {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let of = |more: &str| config(&first, &second, &plugin("p", more), "p", "");
    let gateway = Gateway::start(BIN, &of("config: { do: last-first }"));
    gateway.write_config(&of("config: { do: last-first, describe: refuse }"));
    let failed = "sluicegate_config_reloads_total{result=\"error\"}";
    eventually("it is refused", async || gateway.metric(failed).await >= 1.0).await;
    assert!(gateway.stderr().contains("it says: `describe` says refuse"), "{}", gateway.stderr());
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(answer.header("x-sluicegate-upstream"), Some("second"));
    gateway.write_config(&of("config: { do: none }"));
    eventually("it is taken on", async || {
        post(gateway.data, CHAT, chat("")).await.header("x-sluicegate-upstream") == Some("first")
    })
    .await;
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_at_the_start_with_its_name() {
    let sim = simulator(Settings::default()).await;
    let dir = tempfile::tempdir().expect("a directory");
    let garbage = dir.path().join("garbage.wasm");
    fs::write(&garbage, b"garbage").expect("written");
    let pinned = format!("sha256: \"{}\"", "0".repeat(64));
    let written = |name: &str, bytes: &[u8]| {
        let file = dir.path().join(name);
        fs::write(&file, bytes).expect("written");
        file
    };
    let core = written("core.wasm", b"\0asm\x01\0\0\0");
    let empty = written("empty.wasm", b"\0asm\x0d\0\x01\0");
    for (p, complaint) in [
        (at(&garbage, "p", ""), "it is no WASM file"),
        (at(&core, "p", ""), "it is a core module, and a component is expected"),
        (at(&empty, "p", ""), "it is no plugin, or one for another version of the contract"),
        (at(&dir.path().join("none.wasm"), "p", ""), "No such file"),
        (plugin("p", &pinned), "not the one that `sha256` pins"),
        (plugin("p", "config: { describe: trap }"), "its `describe` failed"),
        (plugin("p", "config: { describe: refuse }"), "says refuse"),
        ("  - { name: complexity-route, source: builtin }\n".into(), "no builtin has this name"),
    ] {
        let chain = if p.contains("builtin") { "complexity-route" } else { "p" };
        let file = dir.path().join("config.yaml");
        fs::write(&file, config(&sim, &sim, &p, chain, "").replacen("second:", "other:", 0))
            .expect("written");
        let out = Command::new(BIN).arg("check").arg(&file).output().expect("ran");
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(64), "{text}");
        assert!(text.contains(complaint) && text.contains(chain), "{complaint}: {text}");
    }
}

#[tokio::test]
async fn the_start_tells_the_plugins_and_the_routes() {
    let more = "config: { mode: pass }, shadow: true";
    let builtin = "  - { name: semantic-cache, source: builtin }\n";
    let house = house(&(plugin("p", more) + builtin), "p, semantic-cache", "").await;
    let file = guest::faulty().display();
    let lines = [
        format!(
            "\n  plugin    p: faulty 0.1.0, {file}, router + rewriter + cache-policy + responder, in shadow mode\n"
        ),
        "\n  plugin    semantic-cache: semantic-cache 0.1.0, builtin, cache-policy\n".to_owned(),
        format!("\n  routes    1: {}\n", MODEL),
    ];
    eventually("all is told", async || {
        let told = house.gateway.stderr();
        lines.iter().all(|line| told.contains(line.as_str()))
    })
    .await;
}
