//! Ollama's own endpoints.

use std::convert::Infallible;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::World;
use crate::answer::{Answer, Parts, Reply, reply};
use crate::faults::Fault;
use crate::openai::{BUSY, count, vector, word};
use crate::recorder::Running;
use crate::scheduler::{Busy, details, rfc3339};

const JSON: &str = "application/json; charset=utf-8";
const NDJSON: &str = "application/x-ndjson";

fn error(status: u16, message: &str) -> Result<Reply, Infallible> {
    reply(status, JSON, Answer::whole(json!({ "error": message }).to_string()))
}

pub(crate) fn show(world: &World, body: &Bytes) -> Result<Reply, Infallible> {
    let request: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let name = request["model"].as_str().unwrap_or("");
    let Some(model) = world.settings.find(name) else {
        return error(404, &format!("model '{name}' not found"));
    };
    let shown = json!({
        "modelfile": "", "parameters": "", "template": "", "details": details(),
        "model_info": {
            "general.architecture": "llama", "llama.context_length": model.context,
            "llama.embedding_length": 8
        },
        "capabilities": ["completion", "tools"],
    });
    reply(200, JSON, Answer::whole(shown.to_string()))
}

/// `keep_alive` in seconds: a number, or a string with a unit.
fn keep_alive(request: &Value) -> Option<f64> {
    match &request["keep_alive"] {
        Value::Number(seconds) => seconds.as_f64(),
        Value::String(text) => {
            let digits = text.trim_end_matches(char::is_alphabetic);
            let factor = match &text[digits.len()..] {
                "h" => 3600.0,
                "m" => 60.0,
                "ms" => 0.001,
                _ => 1.0,
            };
            digits.parse::<f64>().ok().map(|number| number * factor)
        }
        _ => None,
    }
}

pub(crate) async fn serve(
    world: &World,
    path: &str,
    body: &Bytes,
    fault: Fault,
    mut running: Running,
) -> Result<Reply, Infallible> {
    let request: Value = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(cause) => return error(400, &format!("invalid character: {cause}")),
    };
    let name = request["model"].as_str().unwrap_or("");
    let Some(model) = world.settings.find(name) else {
        running.finish();
        return error(404, &format!("model '{name}' not found"));
    };
    let keep_alive = keep_alive(&request);
    let Ok(place) = world.scheduler.place(model, keep_alive).await else {
        let Busy = Busy;
        running.finish();
        return error(503, BUSY);
    };
    tokio::time::sleep(world.settings.first_token + fault.delay()).await;
    if path == "/api/embed" || path == "/api/embeddings" {
        running.finish();
        return embed(&request, path);
    }
    let chat = path == "/api/chat";
    let empty = if chat {
        request["messages"].as_array().is_none_or(Vec::is_empty)
    } else {
        request["prompt"].as_str().is_none_or(str::is_empty)
    };
    if empty {
        running.finish();
        drop(place);
        return load_or_unload(world, name, chat, keep_alive);
    }
    let tokens = count(world, request["options"].get("num_predict"));
    if request["stream"] == json!(false) {
        running.finish();
        let text: String = (0..tokens).map(word).collect();
        let whole = last_line(name, chat, tokens, &text, "stop");
        return reply(200, JSON, Answer::whole(whole.to_string()));
    }
    let line = |value: &Value| Bytes::from(format!("{value}\n"));
    let mut last = last_line(name, chat, tokens, "", "stop");
    if let Fault::HugeContext(length) = fault {
        last["context"] = json!(vec![128_000; length]);
    }
    let parts = Parts {
        tokens: (0..tokens).map(|index| line(&token_line(name, chat, &word(index)))).collect(),
        last: vec![line(&last)],
        crash: line(&json!({ "error": "llama runner process has terminated" })),
        error: line(&json!({ "error": "out of memory" })),
    };
    let body = Answer::stream(parts, world.settings.token_interval, fault, running, place);
    reply(200, NDJSON, body)
}

fn load_or_unload(
    world: &World,
    name: &str,
    chat: bool,
    keep_alive: Option<f64>,
) -> Result<Reply, Infallible> {
    let unload = keep_alive == Some(0.0);
    if unload && let Some(model) = world.settings.find(name) {
        world.scheduler.unload(&model.name);
    }
    let reason = if unload { "unload" } else { "load" };
    reply(200, JSON, Answer::whole(last_line(name, chat, 0, "", reason).to_string()))
}

fn token_line(model: &str, chat: bool, text: &str) -> Value {
    let mut line =
        json!({ "model": model, "created_at": rfc3339(SystemTime::now()), "done": false });
    put_text(&mut line, chat, text);
    line
}

fn put_text(line: &mut Value, chat: bool, text: &str) {
    if chat {
        line["message"] = json!({ "role": "assistant", "content": text });
    } else {
        line["response"] = json!(text);
    }
}

fn last_line(model: &str, chat: bool, tokens: usize, text: &str, reason: &str) -> Value {
    let mut line = json!({
        "model": model, "created_at": rfc3339(SystemTime::now()), "done": true,
        "done_reason": reason, "total_duration": 5_000_000, "load_duration": 1_000_000,
        "prompt_eval_count": 11, "prompt_eval_duration": 1_000_000,
        "eval_count": tokens, "eval_duration": 3_000_000,
    });
    put_text(&mut line, chat, text);
    line
}

fn embed(request: &Value, path: &str) -> Result<Reply, Infallible> {
    if path == "/api/embeddings" {
        let vector = vector(request["prompt"].as_str().unwrap_or(""));
        return reply(200, JSON, Answer::whole(json!({ "embedding": vector }).to_string()));
    }
    let inputs: Vec<&str> = match &request["input"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => return error(400, "invalid input type"),
    };
    let vectors: Vec<Vec<f32>> = inputs.iter().map(|text| vector(text)).collect();
    let body = json!({
        "model": request["model"], "embeddings": vectors, "total_duration": 1_000_000,
        "load_duration": 100_000, "prompt_eval_count": inputs.len(),
    });
    reply(200, JSON, Answer::whole(body.to_string()))
}
