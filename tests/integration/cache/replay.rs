//! A hit is what the miss was, whole and as a stream, in each form from each form.

use serde_json::{Value, json};
use sluicegate_simulator::Fault;
use sluicegate_test_support::Gateway;

use super::{ask, cached, cool, outcome, plain};

const TOOLS: &str =
    r#""tools":[{"type":"function","function":{"name":"weather","parameters":{}}}]"#;

fn streamed(more: &str, usage: bool) -> String {
    let options = if usage { r#","stream_options":{"include_usage":true}"# } else { "" };
    format!(r#""stream":true{options},{more}"#)
}

/// An answer without what is new each time.
fn settled(mut answer: Value) -> Value {
    answer["id"] = Value::Null;
    answer["created"] = Value::Null;
    answer
}

/// What an SDK makes of a stream: every choice's message, and the usage.
fn gathered(body: &str) -> Value {
    let mut choices: std::collections::BTreeMap<u64, (serde_json::Map<String, Value>, Value)> =
        std::collections::BTreeMap::new();
    let mut usage = Value::Null;
    let mut ids = std::collections::BTreeSet::new();
    for data in body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")) {
        let Ok(chunk) = serde_json::from_str::<Value>(data) else { continue };
        assert_eq!(chunk["object"], "chat.completion.chunk");
        ids.insert(chunk["id"].to_string());
        for choice in chunk["choices"].as_array().expect("choices") {
            let index = choice["index"].as_u64().expect("an index");
            let (message, finish) = choices.entry(index).or_default();
            for (name, value) in choice["delta"].as_object().expect("a delta") {
                match (message.get_mut(name), value) {
                    (Some(Value::String(held)), Value::String(more)) if name != "role" => {
                        held.push_str(more)
                    }
                    _ => {
                        message.insert(name.clone(), value.clone());
                    }
                }
            }
            if !choice["finish_reason"].is_null() {
                *finish = choice["finish_reason"].clone();
            }
        }
        if !chunk["usage"].is_null() {
            usage = chunk["usage"].clone();
        }
    }
    assert_eq!(ids.len(), 1, "one id in all chunks");
    assert!(body.ends_with("data: [DONE]\n\n"));
    json!({ "choices": choices.into_values().map(|(message, finish)| json!([message, finish])).collect::<Vec<_>>(), "usage": usage })
}

/// A miss and the hit after it.
async fn twice(gateway: &Gateway, body: &str) -> (String, String) {
    let (miss, hit) = (ask(gateway, body).await, ask(gateway, body).await);
    assert_eq!((cached(&miss).0, cached(&hit).0), ("miss", "hit-l1"));
    assert_eq!(miss.header("content-type"), hit.header("content-type"));
    (miss.text(), hit.text())
}

#[tokio::test]
async fn a_hit_is_what_the_miss_was_in_its_own_form() {
    let (gateway, _host) = plain().await;
    for (text, more) in
        [("text", r#""x":1"#), ("reason", r#""reasoning_effort":"high""#), ("tools", TOOLS)]
    {
        let (miss, hit) = twice(&gateway, &cool(text, more)).await;
        let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert_ne!(parse(&miss)["id"], parse(&hit)["id"]);
        assert_eq!(settled(parse(&miss)), settled(parse(&hit)), "{text}");
        for usage in [false, true] {
            let text = format!("{text} {usage}");
            let (miss, hit) = twice(&gateway, &cool(&text, &streamed(more, usage))).await;
            assert_eq!(gathered(&miss), gathered(&hit), "{text}");
            assert_eq!(gathered(&hit)["usage"].is_null(), !usage);
        }
    }
}

#[tokio::test]
async fn a_hit_comes_in_the_form_that_is_asked_for() {
    let (gateway, _host) = plain().await;
    for (text, more) in
        [("text", r#""x":1"#), ("reason", r#""reasoning_effort":"high""#), ("tools", TOOLS)]
    {
        let (whole, stream) = (cool(text, more), cool(text, &streamed(more, true)));
        let kept = ask(&gateway, &whole).await.json();
        let replayed = ask(&gateway, &stream).await;
        assert_eq!(cached(&replayed).0, "hit-l1");
        let replayed = gathered(&replayed.text());
        for name in ["content", "reasoning"] {
            let said = kept["choices"][0]["message"][name].as_str().unwrap_or("");
            assert_eq!(replayed["choices"][0][0][name].as_str().unwrap_or(""), said, "{name}");
        }
        assert_eq!(replayed["usage"], kept["usage"]);
        let other = format!("{text}, the other way round");
        let (whole, stream) = (cool(&other, more), cool(&other, &streamed(more, false)));
        let kept = gathered(&ask(&gateway, &stream).await.text());
        let replayed = ask(&gateway, &whole).await;
        assert_eq!(cached(&replayed).0, "hit-l1");
        let replayed = replayed.json();
        assert_eq!(replayed["object"], "chat.completion");
        for name in ["content", "reasoning"] {
            let said = kept["choices"][0][0][name].as_str().unwrap_or("");
            assert_eq!(
                replayed["choices"][0]["message"][name].as_str().unwrap_or(""),
                said,
                "{name}"
            );
        }
        let name = |call: &Value| call["function"]["name"].clone();
        assert_eq!(
            name(&replayed["choices"][0]["message"]["tool_calls"][0]),
            name(&kept["choices"][0][0]["tool_calls"][0])
        );
        // The gateway asked for it though the client did not.
        assert!(replayed["usage"]["completion_tokens"].is_u64());
    }
}

#[tokio::test]
async fn several_choices_with_reasons_calls_and_logprobs_are_kept_whole() {
    let (gateway, host) = plain().await;
    let chunk = |index: u64, delta: Value, finish: Value, more: &str| {
        let event = json!({"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 9, "model": "m",
            "choices": [{"index": index, "delta": delta, "finish_reason": finish}]});
        format!(
            "data: {}\n\n",
            event.to_string().replace("\"finish_reason\"", &format!("{more}\"finish_reason\""))
        )
    };
    let logprobs =
        r#""logprobs":{"content":[{"token":"a","logprob":-0.1,"bytes":[97],"top_logprobs":[]}]},"#;
    let call = |part: &str| json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": part}}]});
    let events = [
        chunk(0, json!({"role": "assistant", "reasoning": "think"}), Value::Null, ""),
        chunk(1, json!({"role": "assistant", "content": "b"}), Value::Null, ""),
        chunk(0, json!({"content": "a"}), Value::Null, logprobs),
        chunk(0, call("{\"x\":"), Value::Null, ""),
        chunk(0, json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}), Value::Null, ""),
        chunk(1, json!({"refusal": "no"}), json!("stop"), ""),
        chunk(0, json!({}), json!("tool_calls"), ""),
        "data: {\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",\"created\":9,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9007199254740993,\"total_tokens\":4}}\n\n".to_owned(),
        "data: [DONE]\n\n".to_owned(),
    ];
    host.faults().push([Fault::Canned(events.concat())]);
    let body = cool("n", &streamed(r#""n":2,"logprobs":true"#, true));
    ask(&gateway, &body).await;
    let whole = ask(&gateway, &cool("n", r#""n":2,"logprobs":true"#)).await;
    assert_eq!(cached(&whole).0, "hit-l1");
    assert!(whole.text().contains("9007199254740993"));
    let whole = whole.json();
    let message = |n: usize| &whole["choices"][n]["message"];
    assert_eq!(message(0)["reasoning"], "think");
    assert_eq!(message(0)["content"], "a");
    assert_eq!(message(0)["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
    assert_eq!(message(1)["refusal"], "no");
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(whole["choices"][0]["logprobs"]["content"][0]["token"], "a");
    assert_eq!(outcome(&gateway, &body).await, "hit-l1");
}
