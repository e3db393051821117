use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::models::{Model, NO_SHIFT, OVERFLOW};

const MODEL: &str = "llama3.2:3b";

/// Status and body of a request on a connection of its own.
async fn send(simulator: &Simulator, method: &str, path: &str, body: &Value) -> (u16, String) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(simulator.address()).await.expect("connected");
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

async fn post(simulator: &Simulator, path: &str, mut body: Value) -> (u16, Value) {
    if !path.starts_with("/_") && body["model"].is_null() {
        body["model"] = json!(MODEL);
    }
    let (status, text) = send(simulator, "POST", path, &body).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

async fn start(settings: Settings) -> Simulator {
    Simulator::start(settings).await.expect("a simulator")
}

/// Merges the lines of a native stream into one message and the last line.
fn gather(text: &str) -> (Value, Value) {
    let mut message = json!({ "content": "", "thinking": "", "tool_calls": null });
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let lines: Vec<Value> = lines.collect();
    for line in &lines {
        for name in ["content", "thinking"] {
            let more = line["message"][name].as_str().unwrap_or("");
            message[name] = json!(format!("{}{more}", message[name].as_str().expect("text")));
        }
        if !line["message"]["tool_calls"].is_null() {
            message["tool_calls"] = line["message"]["tool_calls"].clone();
        }
    }
    (message, lines.last().expect("a line").clone())
}

#[tokio::test]
async fn an_empty_prompt_loads_and_keep_alive_0_unloads() {
    let simulator = start(Settings::default()).await;
    let reason = async |path: &str, body: Value| {
        let (status, answer) = post(&simulator, path, body).await;
        (status, answer["done_reason"].as_str().map(str::to_owned))
    };
    let done = |reason: &str| (200, Some(reason.to_owned()));
    let models = || simulator.scheduler().ps()["models"].as_array().map_or(0, Vec::len);
    assert_eq!(reason("/api/generate", json!({ "keep_alive": 0 })).await, done("unload"));
    assert_eq!(simulator.scheduler().loads(MODEL), 0, "an absent model is not loaded first");
    for (path, body) in [
        ("/api/generate", json!({})),
        ("/api/generate", json!({ "prompt": "", "keep_alive": -1 })),
        ("/api/chat", json!({ "messages": [], "keep_alive": "10m" })),
    ] {
        assert_eq!(reason(path, body).await, done("load"));
        assert_eq!(models(), 1);
        assert_eq!(reason(path, json!({ "keep_alive": 0 })).await, done("unload"));
        assert_eq!(models(), 0);
    }
    let (status, answer) = post(&simulator, "/api/embed", json!({ "input": [] })).await;
    assert_eq!((status, &answer["embeddings"], models()), (200, &json!([]), 1));
    assert_eq!(post(&simulator, "/api/generate", json!({ "keep_alive": "10" })).await.0, 400);
}

#[tokio::test]
async fn a_model_of_embeddings_neither_generates_nor_chats_but_unloads() {
    let simulator = start(Settings::default()).await;
    let body = |more: Value| {
        let mut body = json!({ "model": "all-minilm" });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        body
    };
    let (status, answer) = post(&simulator, "/api/generate", body(json!({}))).await;
    let message = json!("\"all-minilm\" does not support generate");
    assert_eq!((status, &answer["error"]), (400, &message));
    let chat = body(json!({ "messages": [{ "role": "user", "content": "hi" }] }));
    assert_eq!(post(&simulator, "/api/chat", chat).await.0, 400);
    assert_eq!(post(&simulator, "/api/embed", body(json!({ "input": "x" }))).await.0, 200);
    let (status, answer) =
        post(&simulator, "/api/generate", body(json!({ "keep_alive": 0 }))).await;
    assert_eq!((status, &answer["done_reason"]), (200, &json!("unload")));
    assert_eq!(simulator.scheduler().ps()["models"], json!([]));
}

#[tokio::test]
async fn a_native_answer_says_what_a_v1_answer_says() {
    let simulator = start(Settings { v1_length: true, ..Settings::default() }).await;
    let messages = json!([{ "role": "user", "content": "hi", "images": ["aGk="] }]);
    let tools = json!([{ "type": "function", "function": { "name": "weather" } }]);
    for (v1, native) in [
        (json!({}), json!({})),
        (json!({ "tools": tools }), json!({ "tools": tools })),
        (json!({ "reasoning_effort": "low" }), json!({ "think": true })),
        (json!({ "response_format": { "type": "json_object" } }), json!({ "format": "json" })),
        (json!({ "max_tokens": 3 }), json!({ "options": { "num_predict": 3 } })),
        (json!({ "logprobs": true }), json!({ "logprobs": true })),
    ] {
        let (mut v1, mut native) = (v1, native);
        for body in [&mut v1, &mut native] {
            body["messages"] = messages.clone();
        }
        let expected = post(&simulator, "/v1/chat/completions", v1).await.1;
        let choice = &expected["choices"][0];
        native["model"] = json!(MODEL);
        let streamed = send(&simulator, "POST", "/api/chat", &native).await.1;
        native["stream"] = json!(false);
        let (status, whole) = post(&simulator, "/api/chat", native.clone()).await;
        assert_eq!(status, 200);
        let (message, last) = gather(&streamed);
        for (said, end) in [(&message, &last), (&whole["message"], &whole)] {
            assert_eq!(said["content"], choice["message"]["content"], "{native}");
            let thought = |value: &Value| value.as_str().unwrap_or("").to_owned();
            assert_eq!(thought(&said["thinking"]), thought(&choice["message"]["reasoning"]));
            let call = &choice["message"]["tool_calls"][0]["function"];
            let function = &said["tool_calls"][0]["function"];
            assert_eq!(function["name"], call["name"]);
            if call.is_object() {
                assert_eq!(json!(function["arguments"].to_string()), call["arguments"]);
            }
            let finish = if call.is_object() { &json!("tool_calls") } else { &end["done_reason"] };
            assert_eq!(finish, &choice["finish_reason"]);
            assert_eq!(end["prompt_eval_count"], expected["usage"]["prompt_tokens"]);
            assert_eq!(end["eval_count"], expected["usage"]["completion_tokens"]);
            assert!(end["eval_duration"].as_u64() > Some(0));
        }
        assert_eq!(whole["logprobs"], choice["logprobs"]["content"]);
    }
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_and_a_failed_load_are_told_in_both_shapes() {
    let small = Model { context: 4, ..Model::new(MODEL, 3) };
    let fixed = Model { context: 4, shifts: false, ..Model::new("fixed", 3) };
    let simulator = start(Settings { models: vec![small, fixed], ..Settings::default() }).await;
    let ask = |words: &str, context: Option<u64>| {
        let mut body = json!({ "messages": [{ "role": "user", "content": words }] });
        if let Some(context) = context {
            body["options"] = json!({ "num_ctx": context });
        }
        body
    };
    let (v1, native) = ("/v1/chat/completions", "/api/chat");
    // Both cut what is too long, unless they are told not to, or cannot.
    for path in [v1, native] {
        let mut body = ask("a b c d e", None);
        assert_eq!(post(&simulator, path, body.clone()).await.0, 200);
        body["truncate"] = json!(false);
        let (status, answer) = post(&simulator, path, body.clone()).await;
        if path == native {
            assert_eq!((status, &answer["error"]), (400, &json!(OVERFLOW)));
        } else {
            assert_eq!(status, 200);
        }
        body["model"] = json!("fixed");
        body["truncate"] = json!(true);
        let (status, answer) = post(&simulator, path, body).await;
        assert_eq!(status, 400);
        assert!(answer["error"].to_string().contains(NO_SHIFT), "{answer}");
    }
    let mut longer = ask("a b c d e", Some(5));
    longer["truncate"] = json!(false);
    assert_eq!(post(&simulator, native, longer).await.0, 200);
    assert_eq!(simulator.scheduler().loads(MODEL), 2);

    let text = "llama runner process has terminated: exit status 2";
    simulator.faults().loads(2, text);
    let (status, answer) = post(&simulator, v1, ask("a", None)).await;
    assert_eq!((status, &answer["error"]["message"]), (500, &json!(text)));
    assert_eq!(answer["error"]["type"], "api_error");
    let (status, answer) = post(&simulator, native, ask("a", None)).await;
    assert_eq!((status, &answer["error"]), (500, &json!(text)));
    assert_eq!(post(&simulator, native, ask("a", None)).await.0, 200);
}

#[tokio::test]
async fn a_host_that_hangs_reads_and_answers_nothing_until_it_goes_on() {
    let simulator = Arc::new(start(Settings::default()).await);
    simulator.hang(true);
    let waiting = |method: &'static str, path: &'static str, body: Value| {
        let simulator = Arc::clone(&simulator);
        tokio::spawn(async move { send(&simulator, method, path, &body).await.0 })
    };
    let get = waiting("GET", "/api/version", Value::Null);
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi" }] });
    let chat = waiting("POST", "/v1/chat/completions", body);
    simulator.recorder().until(|recorder| recorder.started() == 1).await;
    assert_eq!(send(&simulator, "GET", "/_seen", &Value::Null).await.0, 200);
    assert_eq!(simulator.scheduler().loads(MODEL), 0);
    assert!(!get.is_finished() && !chat.is_finished());
    assert_eq!(post(&simulator, "/_card", json!({ "hang": false })).await.0, 204);
    assert_eq!((get.await.expect("ends"), chat.await.expect("ends")), (200, 200));
}

#[tokio::test]
async fn a_script_sets_what_the_card_shows() {
    let root = std::env::temp_dir().join(format!("simulated-host-{}", std::process::id()));
    let settings = Settings { card: Some(root.clone()), overhead: 1 << 30, ..Settings::default() };
    let simulator = start(settings).await;
    let read = |file: &str| {
        let text = std::fs::read_to_string(root.join("card0/device").join(file)).expect("a file");
        text.trim().parse::<u64>().expect("a number")
    };
    assert_eq!((read("mem_info_vram_total"), read("mem_info_vram_used")), (24 << 30, 0));
    let conditions = json!({ "foreign_bytes": 5_u64 << 30, "temperature": 93.0, "slow": 2.0 });
    assert_eq!(post(&simulator, "/_card", conditions).await.0, 204);
    assert_eq!((read("mem_info_vram_used"), read("hwmon/hwmon0/temp1_input")), (5 << 30, 93_000));
    assert_eq!(post(&simulator, "/api/generate", json!({})).await.0, 200);
    assert_eq!(read("mem_info_vram_used"), 9 << 30, "foreign, model and overhead");
    assert_eq!(simulator.scheduler().memory(), (9 << 30, 24 << 30));
    for wrong in [json!({ "foreign": 1 }), json!({ "hang": 1 })] {
        assert_eq!(post(&simulator, "/_card", wrong).await.0, 400);
    }
    drop(simulator);
    std::fs::remove_dir_all(&root).expect("it was there");
}
