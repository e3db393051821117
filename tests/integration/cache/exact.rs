//! Two requests share an answer when they mean the same, and never otherwise.

use serde_json::json;
use sluicegate_simulator::Settings;
use sluicegate_test_support::{eventually, get, post, request};

use super::{ask, cached, cool, outcome, plain};
use crate::{BIN, CHAT, MODEL, pair, simulator, upstream};

#[tokio::test]
async fn how_a_request_is_written_does_not_matter_and_what_it_says_does() {
    let (gateway, host) = plain().await;
    ask(&gateway, &cool("hi", "")).await;
    for same in [
        format!(
            r#"{{ "messages":[{{"content":"\u0068i","role":"user"}}], "temperature":0.0e3,"model":"{MODEL}" }}"#
        ),
        cool("hi", r#""n":1,"user":"somebody","metadata":{"a":"b"}"#),
    ] {
        assert_eq!(outcome(&gateway, &same).await, "hit-l1", "{same}");
    }
    for other in [
        cool("hi!", ""),
        cool("Hi", ""),
        cool("hi", r#""max_tokens":5"#),
        cool("hi", r#""unheard_of":true"#),
        cool("hi", r#""tools":[{"type":"function","function":{"name":"f"}}]"#),
    ] {
        assert_eq!(outcome(&gateway, &other).await, "miss", "{other}");
    }
    assert_eq!(host.recorder().started(), 6);
}

#[tokio::test]
async fn another_system_prompt_or_history_is_another_question() {
    let (gateway, host) = plain().await;
    let with = |before: serde_json::Value| {
        let mut messages = before.as_array().expect("a list").clone();
        messages.push(json!({"role": "user", "content": "why?"}));
        json!({"model": MODEL, "temperature": 0, "messages": messages}).to_string()
    };
    for before in [
        json!([]),
        json!([{"role": "system", "content": "Be brief."}]),
        json!([{"role": "system", "content": "Be long."}]),
        json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
    ] {
        assert_eq!(outcome(&gateway, &with(before.clone())).await, "miss", "{before}");
        assert_eq!(outcome(&gateway, &with(before)).await, "hit-l1");
    }
    assert_eq!(host.recorder().started(), 4);
}

#[tokio::test]
async fn callers_never_share_unless_they_are_to() {
    let host = simulator(Settings::default()).await;
    let key = |name: &str, tenant: &str| {
        let hash = blake3::hash(name.as_bytes());
        format!("  - {{ name: {name}, hash: \"blake3:{hash}\"{tenant} }}\n")
    };
    for (share, expected) in [
        ("key", ["miss", "miss", "miss"]),
        ("tenant", ["miss", "hit-l1", "miss"]),
        ("all", ["miss", "hit-l1", "hit-l1"]),
    ] {
        let keys = [key("ann", ", tenant: lab"), key("ben", ", tenant: lab"), key("cem", "")];
        let config = format!(
            "cache: {{ share: {share} }}\nkeys:\n{}upstreams:\n{}",
            keys.concat(),
            upstream("host", &host, "")
        );
        let gateway = sluicegate_test_support::Gateway::start(BIN, &config);
        for (name, expected) in ["ann", "ben", "cem"].into_iter().zip(expected) {
            let length = cool("hi", "").len();
            let head = format!(
                "POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\
                 Authorization: Bearer {name}"
            );
            let answer = request(gateway.data, &head, cool("hi", "").as_bytes()).await;
            assert_eq!(cached(&answer).0, expected, "{share} {name}");
        }
    }
}

#[tokio::test]
async fn a_pull_of_new_weights_makes_old_answers_unfindable() {
    let (gateway, host) = plain().await;
    ask(&gateway, &cool("hi", "")).await;
    assert_eq!(outcome(&gateway, &cool("hi", "")).await, "hit-l1");
    host.pull();
    eventually("the new weights are noticed", async || {
        outcome(&gateway, &cool("hi", "")).await == "miss"
    })
    .await;
    assert_eq!(outcome(&gateway, &cool("hi", "")).await, "hit-l1");
}

#[tokio::test]
async fn an_answer_is_kept_under_the_model_that_gave_it() {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let config = format!(
        "routes:\n  - model: pair\n    targets: [{{ upstream: first, model: \"{MODEL}\" }}]\n    \
         fallback: [{{ upstream: second, model: \"all-minilm:latest\" }}]\nupstreams:\n{}{}",
        upstream("first", &first, ""),
        upstream("second", &second, "")
    );
    let gateway = sluicegate_test_support::Gateway::start(BIN, &config);
    let to = |model: &str| {
        json!({"model": model, "seed": 1, "messages": [{"role": "user", "content": "hi"}]})
            .to_string()
    };
    let fault = sluicegate_simulator::Fault::Status(500, "{}".into());
    first.faults().push([fault]);
    let answer = ask(&gateway, &to("pair")).await;
    assert_eq!(answer.header("x-sluicegate-upstream"), Some("second"));
    // The first would have given another, so it is asked when it can be.
    let answer = ask(&gateway, &to("pair")).await;
    assert_eq!(cached(&answer), ("miss", "absent"));
    assert_eq!(answer.header("x-sluicegate-upstream"), Some("first"));
    assert_eq!(cached(&ask(&gateway, &to("pair")).await), ("hit-l1", "equal"));
}

#[tokio::test]
async fn embeddings_are_given_again_and_other_endpoints_are_left_alone() {
    let (gateway, host) = plain().await;
    let body = r#"{"model":"all-minilm","input":"hi"}"#;
    let first = post(gateway.data, "/v1/embeddings", body).await;
    let again = post(gateway.data, "/v1/embeddings", body).await;
    assert_eq!((cached(&first).0, cached(&again).0), ("miss", "hit-l1"));
    assert_eq!(first.json(), again.json());
    assert_eq!(host.recorder().started(), 1);
    let other =
        post(gateway.data, "/v1/responses", format!(r#"{{"model":"{MODEL}","input":"hi"}}"#));
    assert_eq!(other.await.header("x-cache"), None);
}

#[tokio::test]
async fn what_is_no_whole_good_answer_is_not_kept() {
    use sluicegate_simulator::Fault::{Canned, CrashAfter, EndAfter, ErrorAfter, Status};
    let (gateway, host) = plain().await;
    let stream = |text: &str| cool(text, r#""stream":true"#);
    let cut = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"length"}]}"#;
    let empty = cut.replace("\"length\"", "\"stop\"").replace("\"x\"", "\"\"");
    for (index, (fault, streaming)) in [
        (Status(400, r#"{"error":{"message":"no"}}"#.into()), false),
        (Canned(cut.into()), false),
        (Canned(empty), false),
        (Canned(r#"{"error":{"message":"no"}}"#.into()), false),
        (CrashAfter(3), true),
        (EndAfter(3), true),
        (ErrorAfter(3), true),
    ]
    .into_iter()
    .enumerate()
    {
        let text = index.to_string();
        let body = if streaming { stream(&text) } else { cool(&text, "") };
        host.faults().push([fault.clone()]);
        let first = post(gateway.data, CHAT, &body);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(10), first).await;
        assert_eq!(outcome(&gateway, &body).await, "miss", "{fault:?}");
        assert_eq!(outcome(&gateway, &body).await, "hit-l1", "{fault:?}");
    }
}

#[tokio::test]
async fn a_host_that_is_down_still_answers_from_the_cache() {
    let (gateway, mut host) = pair(Settings::default(), "").await;
    ask(&gateway, &cool("hi", "")).await;
    host.kill().await;
    assert_eq!(outcome(&gateway, &cool("hi", "")).await, "hit-l1");
    assert_eq!(get(gateway.admin, "/healthz").await.status, 200);
}
