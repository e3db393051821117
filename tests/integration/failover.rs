use std::time::{Duration, Instant};

use serde_json::json;
use sluicegate_simulator::{Fault, Model, Settings};
use sluicegate_test_support::{Canned, Connection, Gateway, eventually, get, post, reserved};

use super::{BIN, CHAT, MODEL, chat, pair, simulator, upstream};

/// Two upstreams that a route names in this order.
fn ordered(first: &str, second: &str, more: &str) -> String {
    format!(
        "{more}\nupstreams:\n{first}{second}routes:\n  - model: \"{MODEL}\"\n    targets: [{{ upstream: first }}]\n    fallback: [{{ upstream: second }}]\n"
    )
}

#[tokio::test]
async fn a_refused_connection_moves_on_and_so_does_a_killed_host() {
    let (mut first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let gateway = Gateway::start(
        BIN,
        &ordered(&upstream("first", &first, ""), &upstream("second", &second, ""), ""),
    );
    let served = async || {
        let answer = post(gateway.data, CHAT, chat("")).await;
        (answer.status, answer.header("x-sluicegate-upstream").map(str::to_owned))
    };
    assert_eq!(served().await, (200, Some("first".into())));
    first.kill().await;
    for _ in 0..8 {
        assert_eq!(served().await, (200, Some("second".into())));
    }
}

#[tokio::test]
async fn an_answer_says_that_it_is_a_fallback_and_why() {
    let (mut first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let gateway = Gateway::start(
        BIN,
        &ordered(&upstream("first", &first, ""), &upstream("second", &second, ""), ""),
    );
    let reason = async |body: String| {
        let answer = post(gateway.data, CHAT, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("x-sluicegate-reason").expect("a reason").to_owned()
    };
    assert_eq!(reason(chat("")).await, "route");
    first.faults().push([Fault::Status(500, "{}".into())]);
    assert_eq!(reason(chat("")).await, "route; fallback: first failed (status 500)");
    first.faults().push([Fault::StatusRetry(429, 9)]);
    assert_eq!(reason(chat("")).await, "route; fallback: first failed (status 429)");
    first.faults().push([Fault::EndAfter(0)]);
    let streamed = chat(r#""stream":true"#);
    assert_eq!(reason(streamed).await, "route; fallback: first failed (empty_stream)");
    first.kill().await;
    assert_eq!(reason(chat("")).await, "route; fallback: first failed (connect)");
}

#[tokio::test]
async fn when_all_fail_the_error_names_each_and_why() {
    let (third, fourth) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    third.faults().always(Some(Fault::Status(401, r#"{"error":"key-of-the-gateway"}"#.into())));
    fourth.faults().always(Some(Fault::Close));
    let dead =
        |name: &str| format!("  {name}: {{ url: \"http://{}\", kind: ollama }}\n", reserved());
    let config = format!(
        "upstreams:\n{}{}{}{}routes:\n  - model: \"{MODEL}\"\n    targets: [{{ upstream: first }}, {{ upstream: second }}]\n    fallback: [{{ upstream: third }}, {{ upstream: fourth }}]\n",
        dead("first"),
        dead("second"),
        upstream("third", &third, ""),
        upstream("fourth", &fourth, "")
    );
    let gateway = Gateway::start(BIN, &config);
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(answer.status, 502);
    let message = answer.json()["error"]["message"].as_str().expect("text").to_owned();
    // Which of two targets of a tier is the first is left to chance.
    for part in [
        "no upstream could serve this: the upstream `",
        "the upstream `first` failed: cannot connect",
        "the upstream `second` failed: cannot connect",
        "; the upstream `third` refused the gateway's own credentials (status 401)",
        "; the upstream `fourth` failed: the connection broke",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("127.0.0.1") && !message.contains("key-of-the"), "{message}");
}

#[tokio::test]
async fn failures_before_the_first_content_move_on_also_for_streams() {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let timeouts = "timeouts: { first_byte: 400ms }";
    let breaker = "breaker: { errors: 100 }";
    let gateway = Gateway::start(
        BIN,
        &ordered(&upstream("first", &first, timeouts), &upstream("second", &second, ""), breaker),
    );
    let streamed = chat(r#""stream":true"#);
    for (fault, body) in [
        (Fault::Close, chat("")),
        (Fault::Close, streamed.clone()),
        (Fault::Status(500, "{}".into()), streamed.clone()),
        (Fault::EndAfter(0), streamed.clone()),
        (Fault::CutAfter(0), streamed.clone()),
        (Fault::CrashAfter(0), streamed.clone()),
        (Fault::ErrorAfter(0), streamed.clone()),
        (Fault::StallAfter(0), streamed.clone()),
        (Fault::SlowFirst(5_000), streamed.clone()),
    ] {
        first.faults().push([fault.clone()]);
        let answer = post(gateway.data, CHAT, &body).await;
        assert_eq!(answer.status, 200, "{fault:?}: {}", answer.text());
        assert_eq!(answer.header("x-sluicegate-upstream"), Some("second"), "{fault:?}");
        assert!(!answer.text().contains("\"error\""), "{fault:?}");
    }
}

#[tokio::test]
async fn a_server_error_is_tried_at_most_twice_in_all() {
    let mut simulators = Vec::new();
    let mut config = String::from("breaker: { errors: 100 }\nupstreams:\n");
    let mut targets = String::new();
    for index in 0..4 {
        let one = simulator(Settings::default()).await;
        one.faults()
            .always(Some(Fault::Status(500, r#"{"error":{"message":"out of memory"}}"#.into())));
        config += &upstream(&format!("u{index}"), &one, "");
        targets += &format!("{{ upstream: u{index} }}, ");
        simulators.push(one);
    }
    config += &format!("routes:\n  - {{ model: \"{MODEL}\", targets: [{targets}] }}\n");
    let gateway = Gateway::start(BIN, &config);
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.json()["error"]["message"],
        json!("out of memory"),
        "the upstream's own words"
    );
    let tried: usize = simulators.iter().map(|one| one.recorder().started()).sum();
    assert_eq!(tried, 2);
}

#[tokio::test]
async fn targets_that_did_no_work_do_not_count() {
    let mut simulators = Vec::new();
    let mut config = String::from("upstreams:\n");
    for (name, fault) in [
        ("limited", Some(Fault::StatusRetry(429, 9))),
        ("denied", Some(Fault::Status(401, "{}".into()))),
        ("moved", None),
    ] {
        let one = simulator(Settings::default()).await;
        one.faults().always(fault);
        config += &upstream(name, &one, "");
        simulators.push(one);
    }
    config += &format!(
        "routes:\n  - model: \"{MODEL}\"\n    targets: [{{ upstream: limited }}]\n    fallback: [{{ upstream: denied }}, {{ upstream: moved }}]\n"
    );
    let gateway = Gateway::start(BIN, &config);
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!((answer.status, answer.header("x-sluicegate-upstream")), (200, Some("moved")));
    simulators[2].faults().always(Some(Fault::Status(308, "{}".into())));
    let redirected = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(redirected.status, 429, "a redirect is not the client's to follow");
    assert_eq!(redirected.header("retry-after"), Some("9"));
}

#[tokio::test]
async fn a_recovered_upstream_is_open_to_all_while_its_first_stream_runs() {
    let breaker = "breaker: { errors: 1, open_for: 200ms }";
    let (gateway, simulator) = pair(super::paced(100, Duration::from_millis(50)), breaker).await;
    simulator.faults().push([Fault::Status(500, "{}".into())]);
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 500);
    let mut long = Connection::open(gateway.data).await;
    eventually("it is let through again", async || {
        long.post(CHAT, chat(r#""stream":true"#)).await;
        let head = long.head().await;
        if head.status != 200 {
            long.body().await.expect("whole");
        }
        head.status == 200
    })
    .await;
    assert_eq!(post(gateway.data, CHAT, chat(r#""max_tokens":1"#)).await.status, 200);
}

#[tokio::test]
async fn a_single_upstreams_server_error_is_not_repeated() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    simulator.faults().push([Fault::Status(500, "oops".into())]);
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!((answer.status, answer.json()["error"]["message"].clone()), (500, json!("oops")));
    assert_eq!(simulator.recorder().started(), 1);
}

#[tokio::test]
async fn back_pressure_keeps_its_retry_after_and_trips_nothing() {
    let (gateway, simulator) = pair(Settings::default(), "breaker: { errors: 1 }").await;
    for status in [429, 503] {
        simulator.faults().push([Fault::StatusRetry(status, 17)]);
        let answer = post(gateway.data, CHAT, chat("")).await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, Some("17")));
    }
    simulator.faults().push([Fault::Status(400, "{}".into())]);
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 400);
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200, "the breaker is closed");
}

#[tokio::test]
async fn a_failing_upstream_is_left_alone_probed_and_taken_back() {
    let breaker = "breaker: { errors: 3, open_for: 600ms }";
    let (gateway, mut simulator) = pair(Settings::default(), breaker).await;
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    simulator.kill().await;
    for _ in 0..3 {
        assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 502);
    }
    let rejected = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(rejected.status, 503);
    assert!(rejected.header("retry-after").is_some());
    assert_eq!(get(gateway.admin, "/readyz").await.status, 503);
    let status = get(gateway.admin, "/api/upstreams").await.json();
    assert_eq!(status[0]["breaker"], json!("open"));
    simulator.revive().await.expect("the port is free");
    eventually("the upstream is probed and serves again", async || {
        post(gateway.data, CHAT, chat("")).await.status == 200
    })
    .await;
    assert_eq!(gateway.metric("sluicegate_breaker_state{upstream=\"host\"}").await, 0.0);
    assert_eq!(get(gateway.admin, "/readyz").await.status, 200);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_told_as_such_and_taken_back_as_soon_as_it_answers() {
    let terms = "breaker: { errors: 3, open_for: 10m }\nadmission: { vram: { poll: 50ms } }";
    let (gateway, mut simulator) = pair(Settings::default(), terms).await;
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    let status = || async { get(gateway.admin, "/api/status").await.json() };
    let is_loaded =
        |status: &serde_json::Value| status["models"].to_string().contains("\"resident\":true");
    eventually("its model is seen", async || is_loaded(&status().await)).await;
    simulator.kill().await;
    eventually("it is seen to be down", async || {
        let status = status().await;
        let down = status["upstreams"][0]["reachable"] == json!(false);
        assert!(!down || !is_loaded(&status), "what it had loaded went with it: {status}");
        down && status["events"].to_string().contains("not reachable at http://127.0.0.1:")
    })
    .await;
    assert_eq!(get(gateway.admin, "/readyz").await.status, 503);
    for _ in 0..3 {
        assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 502);
    }
    let rejected = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(rejected.status, 503);
    assert!(rejected.text().contains("host: cannot connect: "), "{}", rejected.text());
    let shown = std::process::Command::new(BIN)
        .args(["status", "--admin", &gateway.admin.to_string()])
        .output()
        .expect("runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("not reachable (cannot connect"), "{shown}");
    simulator.revive().await.expect("the port is free");
    // Long before the breaker would have it probed.
    eventually("it serves again", async || post(gateway.data, CHAT, chat("")).await.status == 200)
        .await;
    eventually("and is told to", async || {
        let status = status().await;
        status["events"].to_string().contains("reachable again")
            && status["upstreams"][0]["reachable"] == json!(true)
    })
    .await;
    assert_eq!(get(gateway.admin, "/readyz").await.status, 200);
}

#[tokio::test]
async fn what_is_no_whole_answer_is_none_and_the_next_target_serves() {
    let second = simulator(Settings::default()).await;
    for (answer, why) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"choices\":[{\"mess",
            "broken",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "empty_stream"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "empty_stream"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "status 101"),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", "status 304"),
        ("HTTP/1.1 999 What\r\nContent-Length: 2\r\n\r\n{}", "status 999"),
        ("HTTP/1.1 what\r\n\r\n", "garbled"),
    ] {
        let canned = Canned::start(answer).await;
        let first = format!("  first: {{ url: \"{}\", kind: openai }}\n", canned.url());
        let gateway = Gateway::start(BIN, &ordered(&first, &upstream("second", &second, ""), ""));
        let served = post(gateway.data, CHAT, chat("")).await;
        assert_eq!(
            (served.status, served.header("x-sluicegate-upstream")),
            (200, Some("second")),
            "{answer}"
        );
        let reason = format!("route; fallback: first failed ({why})");
        assert_eq!(served.header("x-sluicegate-reason"), Some(&*reason), "{answer}");
    }
    let whole = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"choices\":[]}";
    let canned = Canned::start(whole).await;
    let first = format!("  first: {{ url: \"{}\", kind: openai }}\n", canned.url());
    let gateway = Gateway::start(BIN, &ordered(&first, &upstream("second", &second, ""), ""));
    let served = post(gateway.data, CHAT, chat("")).await;
    assert_eq!((served.status, served.text().as_str()), (200, "{\"choices\":[]}"));
}

#[tokio::test]
async fn a_target_that_does_not_have_the_model_is_passed_over() {
    let models = |name| Settings { models: vec![Model::new(name, 1)], ..Settings::default() };
    let (first, second) = (simulator(models("other:1")).await, simulator(models(MODEL)).await);
    let gateway = Gateway::start(
        BIN,
        &ordered(&upstream("first", &first, ""), &upstream("second", &second, ""), ""),
    );
    for body in [chat(""), chat(r#""stream":true"#)] {
        for _ in 0..6 {
            let answer = post(gateway.data, CHAT, &body).await;
            assert_eq!(
                (answer.status, answer.header("x-sluicegate-upstream")),
                (200, Some("second"))
            );
            let reason = answer.header("x-sluicegate-reason");
            assert_eq!(reason, Some("route; fallback: first failed (model_absent)"));
        }
    }
    let status = get(gateway.admin, "/api/upstreams").await.json();
    assert_eq!((&status[0]["breaker"], &status[0]["left_alone"]), (&json!("closed"), &json!([])));
    second.faults().push([Fault::Status(404, r#"{"error":{"message":"no such model"}}"#.into())]);
    let neither = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(
        (neither.status, neither.json()["error"]["code"].as_str()),
        (404, Some("model_not_found"))
    );
}

#[tokio::test]
async fn a_model_that_fails_does_not_take_the_others_of_its_host_with_it() {
    const BAD: &str =
        r#"{"model":"all-minilm:latest","messages":[{"role":"user","content":"hi"}]}"#;
    let breaker = "breaker: { errors: 3, open_for: 600ms }";
    let (gateway, simulator) = pair(Settings::default(), breaker).await;
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    for _ in 0..3 {
        simulator.faults().push([Fault::Status(500, "its runner has ended".into())]);
        assert_eq!(post(gateway.data, CHAT, BAD).await.status, 500);
    }
    let rejected = post(gateway.data, CHAT, BAD).await;
    assert_eq!(rejected.status, 503);
    assert!(rejected.header("retry-after").is_some());
    assert!(rejected.text().contains("too many errors"), "{}", rejected.text());
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200, "the other is served");
    let status = get(gateway.admin, "/api/upstreams").await.json();
    assert_eq!(status[0]["breaker"], json!("closed"));
    let left = json!([{ "model": "all-minilm:latest", "why": "too many errors" }]);
    assert_eq!(status[0]["left_alone"], left);
    assert_eq!(get(gateway.admin, "/readyz").await.status, 200);
    eventually("it is tried again", async || post(gateway.data, CHAT, BAD).await.status == 200)
        .await;
    let status = get(gateway.admin, "/api/upstreams").await.json();
    assert_eq!(status[0]["left_alone"], json!([]));
    let series = "sluicegate_model_breaker_changes_total{upstream=\"host\",model=\"all-minilm:latest\",\
                  state=\"closed\",reason=\"none\"}";
    eventually("it is told", async || gateway.metric(series).await == 1.0).await;
}

#[tokio::test]
async fn truncated_streams_count_against_an_upstream() {
    let (gateway, simulator) =
        pair(Settings::default(), "breaker: { errors: 2, open_for: 60s }").await;
    simulator.faults().always(Some(Fault::EndAfter(2)));
    for _ in 0..2 {
        assert_eq!(post(gateway.data, CHAT, chat(r#""stream":true"#)).await.status, 200);
    }
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 503);
    let cut = "sluicegate_upstream_failures_total{upstream=\"host\",reason=\"cut\"}";
    assert_eq!(gateway.metric(cut).await, 2.0);
}

#[tokio::test]
async fn an_unreachable_upstream_is_an_error_that_says_so() {
    let config =
        format!("upstreams:\n  host: {{ url: \"http://{}\", kind: ollama }}\n", reserved());
    let gateway = Gateway::start(BIN, &config);
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(answer.status, 502);
    assert!(answer.json()["error"]["message"].as_str().expect("text").contains("cannot connect"));
    eventually("the start says so too", async || gateway.stderr().contains("NOT reachable")).await;
}

#[tokio::test]
async fn the_start_warns_of_models_that_are_not_there() {
    let simulator = simulator(Settings::default()).await;
    let models = "models: { \"typo:1b\": { pin: true } }";
    let config = format!(
        "upstreams:\n{}routes:\n  - {{ model: assistant, targets: [{{ upstream: host, model: \"gone:1b\" }}] }}\n",
        upstream("host", &simulator, models)
    );
    let gateway = Gateway::start(BIN, &config);
    for model in ["typo:1b", "gone:1b"] {
        eventually("it is told", async || {
            let told = gateway.stderr();
            let line = told.lines().find(|line| line.contains("warning") && line.contains(model));
            line.is_some_and(|line| line.contains(&format!("`ollama pull {model}`")))
        })
        .await;
    }
}

#[tokio::test]
async fn a_timeout_is_a_504() {
    let simulator = simulator(Settings::default()).await;
    let config =
        format!("upstreams:\n{}", upstream("host", &simulator, "timeouts: { first_byte: 200ms }"));
    let gateway = Gateway::start(BIN, &config);
    simulator.faults().push([Fault::SlowFirst(600), Fault::SlowFirst(10_000)]);
    let whole = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(whole.status, 200, "a whole answer begins when it is ready");
    let since = Instant::now();
    let late = post(gateway.data, CHAT, chat(r#""stream":true"#)).await;
    assert_eq!((late.status, late.header("x-should-retry")), (504, Some("false")));
    assert!(since.elapsed() < Duration::from_secs(5));
    simulator.recorder().until(|recorder| recorder.aborted() == 1).await;
}

#[tokio::test]
async fn a_stale_connection_is_never_an_error() {
    let (gateway, mut simulator) = pair(Settings::default(), "").await;
    let mut connection = Connection::open(gateway.data).await;
    for _ in 0..5 {
        connection.post(CHAT, chat("")).await;
        assert_eq!(connection.response().await.status, 200);
        // Every kept connection is closed under the gateway.
        simulator.kill().await;
        simulator.revive().await.expect("the port is free");
    }
    assert_eq!(simulator.recorder().started(), 5, "nothing was sent twice");
}

#[tokio::test]
async fn a_kept_connection_that_is_closed_on_sight_of_a_request_is_no_error() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    simulator.faults().push([Fault::Close]);
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    assert_eq!(simulator.recorder().started(), 3);
}

#[tokio::test]
async fn weights_share_requests_and_models_are_renamed_per_target() {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let config = format!(
        "upstreams:\n{}{}routes:\n  - model: 'ab-*'\n    targets:\n      - {{ upstream: first, model: \"{MODEL}\", weight: 1 }}\n      - {{ upstream: second, model: \"all-minilm:latest\", weight: 3 }}\n",
        upstream("first", &first, ""),
        upstream("second", &second, "")
    );
    let gateway = Gateway::start(BIN, &config);
    let mut connection = Connection::open(gateway.data).await;
    for _ in 0..200 {
        connection.post(CHAT, r#"{"model":"ab-x","messages":[]}"#).await;
        assert_eq!(connection.response().await.status, 200);
    }
    let (few, many) = (first.recorder().started(), second.recorder().started());
    assert!((25..80).contains(&few) && few + many == 200, "{few} {many}");
    let sent = second.recorder().last().expect("a request").body;
    assert_eq!(sent, r#"{"model":"all-minilm:latest","messages":[]}"#);
}

#[tokio::test]
async fn an_unrouted_model_goes_to_the_upstream_that_has_it() {
    use sluicegate_simulator::Model;
    let only = |name: &str| Settings { models: vec![Model::new(name, 1)], ..Settings::default() };
    let (first, second) = (simulator(only("a:1")).await, simulator(only("b:latest")).await);
    let gateway = Gateway::start(
        BIN,
        &format!(
            "upstreams:\n{}{}",
            upstream("first", &first, ""),
            upstream("second", &second, "")
        ),
    );
    for (model, by) in [("a:1", "first"), ("b", "second"), ("b:latest", "second")] {
        let answer =
            post(gateway.data, CHAT, format!(r#"{{"model":"{model}","messages":[]}}"#)).await;
        assert_eq!(
            (answer.status, answer.header("x-sluicegate-upstream")),
            (200, Some(by)),
            "{model}"
        );
    }
    let unknown = post(gateway.data, CHAT, r#"{"model":"a:2","messages":[]}"#).await;
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.json()["error"]["message"].as_str().expect("text").contains("did you mean `a:1`?")
    );
}
