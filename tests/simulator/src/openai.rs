//! OpenAI's and Anthropic's endpoints, in the shapes Ollama gives them.

use std::convert::Infallible;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::World;
use crate::answer::{Answer, Parts, Reply, reply};
use crate::faults::Fault;
use crate::recorder::Running;
use crate::scheduler::Busy;

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";
/// Ollama's own text, with its two spaces.
pub(crate) const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";

fn error(status: u16, message: &str) -> Result<Reply, Infallible> {
    let kind = match status {
        400 => "invalid_request_error",
        404 => "not_found_error",
        _ => "api_error",
    };
    let body =
        json!({ "error": { "message": message, "type": kind, "param": null, "code": null } });
    reply(status, JSON, Answer::whole(body.to_string()))
}

/// One token of the answer every prompt gets.
pub(crate) fn word(index: usize) -> String {
    const WORDS: [&str; 8] = ["The", " answer", " is", " forty", "-two", ",", " naturally", "."];
    WORDS[index % WORDS.len()].to_owned()
}

pub(crate) fn count(world: &World, asked: Option<&Value>) -> usize {
    let limit = asked.and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(world.settings.tokens, |limit| limit.min(world.settings.tokens.max(1_000_000)))
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
    let place = match world.scheduler.place(model, None).await {
        Ok(place) => place,
        Err(Busy) => {
            running.finish();
            return error(503, BUSY);
        }
    };
    tokio::time::sleep(world.settings.first_token + fault.delay()).await;
    if path == "/v1/embeddings" {
        running.finish();
        return embeddings(&request);
    }
    let limit = request.get("max_tokens").or(request.get("max_output_tokens"));
    let tokens = count(world, limit);
    if request["stream"] == json!(true) {
        let parts = match path {
            "/v1/responses" => responses_stream(name, tokens),
            "/v1/messages" => messages_stream(name, tokens),
            "/v1/completions" => completions_stream(&request, name, tokens),
            _ => chat_stream(&request, name, tokens, &fault),
        };
        let body = Answer::stream(parts, world.settings.token_interval, fault, running, place);
        return reply(200, SSE, body);
    }
    let tokens_u32 = u32::try_from(tokens).unwrap_or(u32::MAX);
    tokio::time::sleep(world.settings.token_interval * tokens_u32).await;
    running.finish();
    let whole = match path {
        "/v1/responses" => responses(name, tokens),
        "/v1/messages" => messages(name, tokens),
        "/v1/completions" => completions(name, tokens),
        _ => chat(&request, name, tokens),
    };
    reply(200, JSON, Answer::whole(whole.to_string() + "\n"))
}

fn text(tokens: usize) -> String {
    (0..tokens).map(word).collect()
}

/// What the answer to a request is: tool calls where tools are offered, JSON where it is asked for.
fn content(request: &Value, tokens: usize) -> (String, Option<Value>) {
    if let Some(tool) = request["tools"].get(0) {
        let call = json!([{
            "id": "call_ab12cd34", "index": 0, "type": "function",
            "function": { "name": tool["function"]["name"], "arguments": "{\"city\":\"Paris\"}" }
        }]);
        return (String::new(), Some(call));
    }
    let wants_json = request["response_format"]["type"].as_str().is_some_and(|kind| kind != "text");
    if wants_json { ("{\"answer\":42}".into(), None) } else { (text(tokens), None) }
}

/// What a model that thinks says first.
const THOUGHTS: [&str; 2] = ["Let me ", "think. "];

fn thinks(request: &Value) -> bool {
    request["reasoning_effort"].as_str().is_some_and(|effort| effort != "none")
}

fn usage(tokens: usize) -> Value {
    json!({ "prompt_tokens": 11, "completion_tokens": tokens, "total_tokens": 11 + tokens })
}

fn chat(request: &Value, model: &str, tokens: usize) -> Value {
    let (content, calls) = content(request, tokens);
    let finish = if calls.is_some() { "tool_calls" } else { "stop" };
    let mut message = json!({ "role": "assistant", "content": content });
    if thinks(request) {
        message["reasoning"] = json!(THOUGHTS.concat());
    }
    if let Some(calls) = calls {
        message["tool_calls"] = calls;
    }
    json!({
        "id": "chatcmpl-123", "object": "chat.completion", "created": 1_700_000_000, "model": model,
        "system_fingerprint": "fp_ollama",
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
        "usage": usage(tokens),
    })
}

fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

fn wants_usage(request: &Value) -> bool {
    request["stream_options"]["include_usage"] == json!(true)
}

fn chat_stream(request: &Value, model: &str, tokens: usize, fault: &Fault) -> Parts {
    let chunk = |delta: Value, finish: Value| {
        event(&json!({
            "id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": model, "system_fingerprint": "fp_ollama",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        }))
    };
    let (content, calls) = content(request, tokens);
    let mut deltas: Vec<Value> = match (&calls, request["response_format"]["type"].as_str()) {
        (Some(calls), _) => vec![json!({ "content": "", "tool_calls": calls })],
        (None, Some(kind)) if kind != "text" => vec![json!({ "content": content })],
        (None, _) => (0..tokens).map(|index| json!({ "content": word(index) })).collect(),
    };
    if thinks(request) {
        let thoughts = THOUGHTS.map(|thought| json!({ "content": "", "reasoning": thought }));
        deltas.splice(0..0, thoughts);
    }
    if let (Fault::HugeToken(length), Some(first)) = (fault, deltas.first_mut()) {
        first["content"] = json!("x".repeat(*length));
    }
    if let Some(first) = deltas.first_mut() {
        first["role"] = json!("assistant");
    }
    let finish = if calls.is_some() { "tool_calls" } else { "stop" };
    let mut last = vec![chunk(json!({}), json!(finish))];
    if wants_usage(request) {
        last.push(event(&json!({
            "id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": model, "choices": [], "usage": usage(tokens),
        })));
    }
    last.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Parts {
        tokens: deltas.into_iter().map(|delta| chunk(delta, Value::Null)).collect(),
        last,
        crash: event(&json!({
            "id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "",
            "choices": [{ "index": 0, "delta": { "content": "" }, "finish_reason": null }],
        })),
        error: event(&json!({ "error": { "message": "out of memory", "type": "api_error" } })),
    }
}

fn completions(model: &str, tokens: usize) -> Value {
    json!({
        "id": "cmpl-123", "object": "text_completion", "created": 1_700_000_000, "model": model,
        "choices": [{ "index": 0, "text": text(tokens), "finish_reason": "stop" }],
        "usage": usage(tokens),
    })
}

fn completions_stream(request: &Value, model: &str, tokens: usize) -> Parts {
    let with_usage = wants_usage(request);
    let chunk = |index: usize| {
        let finish = if index + 1 == tokens { json!("stop") } else { Value::Null };
        let mut chunk = json!({
            "id": "cmpl-123", "object": "text_completion", "created": 1_700_000_000, "model": model,
            "choices": [{ "index": 0, "text": word(index), "finish_reason": finish }],
        });
        // The real one sends zeros with every chunk when usage is asked for.
        if with_usage {
            chunk["usage"] = usage(0);
        }
        event(&chunk)
    };
    let mut last = Vec::new();
    if with_usage {
        last.push(event(&json!({ "id": "cmpl-123", "object": "text_completion", "choices": [], "usage": usage(tokens) })));
    }
    last.push(Bytes::from_static(b"data: [DONE]\n\n"));
    let error = event(&json!({ "error": { "message": "out of memory" } }));
    Parts { tokens: (0..tokens).map(chunk).collect(), last, crash: Bytes::new(), error }
}

fn responses(model: &str, tokens: usize) -> Value {
    json!({
        "id": "resp_123", "object": "response", "created_at": 1_700_000_000, "status": "completed",
        "model": model, "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
        "output": [{
            "id": "msg_123", "type": "message", "role": "assistant", "status": "completed",
            "content": [{ "type": "output_text", "text": text(tokens), "annotations": [] }],
        }],
        "usage": {
            "input_tokens": 11, "output_tokens": tokens, "total_tokens": 11 + tokens,
            "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens_details": { "reasoning_tokens": 0 },
        },
    })
}

fn named(kind: &str, mut value: Value) -> Bytes {
    value["type"] = json!(kind);
    Bytes::from(format!("event: {kind}\ndata: {value}\n\n"))
}

fn responses_stream(model: &str, tokens: usize) -> Parts {
    let whole = responses(model, tokens);
    let mut begun = whole.clone();
    begun["status"] = json!("in_progress");
    begun["output"] = json!([]);
    let item = json!({ "id": "msg_123", "type": "message", "role": "assistant", "status": "in_progress", "content": [] });
    let part = json!({ "type": "output_text", "text": "", "annotations": [] });
    let head = [
        named("response.created", json!({ "sequence_number": 0, "response": begun })),
        named("response.in_progress", json!({ "sequence_number": 1, "response": begun })),
        named("response.output_item.added", json!({ "sequence_number": 2, "output_index": 0, "item": item })),
        named(
            "response.content_part.added",
            json!({ "sequence_number": 3, "item_id": "msg_123", "output_index": 0, "content_index": 0, "part": part }),
        ),
    ]
    .concat();
    let delta = |index: usize| {
        named(
            "response.output_text.delta",
            json!({
                "sequence_number": 4 + index, "item_id": "msg_123", "output_index": 0,
                "content_index": 0, "delta": word(index), "logprobs": []
            }),
        )
    };
    let mut parts: Vec<Bytes> = vec![Bytes::from(head)];
    parts.extend((0..tokens).map(delta));
    let done = json!({
        "sequence_number": 4 + tokens, "item_id": "msg_123", "output_index": 0, "content_index": 0,
        "text": text(tokens), "logprobs": []
    });
    let last = vec![
        named("response.output_text.done", done),
        named("response.completed", json!({ "sequence_number": 5 + tokens, "response": whole })),
    ];
    let error = named(
        "error",
        json!({ "message": "out of memory", "code": null, "param": null, "sequence_number": 5 }),
    );
    Parts { tokens: parts, last, crash: Bytes::new(), error }
}

fn messages(model: &str, tokens: usize) -> Value {
    json!({
        "id": "msg_123", "type": "message", "role": "assistant", "model": model,
        "content": [{ "type": "text", "text": text(tokens) }],
        "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 11, "output_tokens": tokens },
    })
}

fn messages_stream(model: &str, tokens: usize) -> Parts {
    let mut begun = messages(model, 0);
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    let head = [
        named("message_start", json!({ "message": begun })),
        named(
            "content_block_start",
            json!({ "index": 0, "content_block": { "type": "text", "text": "" } }),
        ),
    ]
    .concat();
    let mut parts = vec![Bytes::from(head)];
    parts.extend((0..tokens).map(|index| {
        let delta = json!({ "type": "text_delta", "text": word(index) });
        named("content_block_delta", json!({ "index": 0, "delta": delta }))
    }));
    let last = vec![
        named("content_block_stop", json!({ "index": 0 })),
        named(
            "message_delta",
            json!({ "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": { "output_tokens": tokens } }),
        ),
        named("message_stop", json!({})),
    ];
    let error =
        named("error", json!({ "error": { "type": "api_error", "message": "out of memory" } }));
    Parts { tokens: parts, last, crash: Bytes::new(), error }
}

/// Vectors of eight numbers: the sum of its words', so that texts of like words are alike.
pub(crate) fn vector(text: &str) -> Vec<f32> {
    let mut sum = [0.0_f32; 8];
    let lower = text.to_lowercase();
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let mut state = 0xcbf2_9ce4_8422_2325_u64;
        for byte in word.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        for (place, value) in sum.iter_mut().enumerate() {
            let part = (state >> (place * 8)) & 0xff;
            *value += f32::from(u8::try_from(part).unwrap_or(0)) / 255.0 - 0.5;
        }
    }
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    // A text without words has a direction too.
    if length == 0.0 { vec![1.0; 8] } else { sum.iter().map(|value| value / length).collect() }
}

fn embeddings(request: &Value) -> Result<Reply, Infallible> {
    let inputs: Vec<&str> = match &request["input"] {
        Value::String(one) => vec![one],
        Value::Array(many) if many.iter().all(Value::is_string) && !many.is_empty() => {
            many.iter().filter_map(Value::as_str).collect()
        }
        Value::Array(many) if !many.is_empty() => return error(400, "invalid input type"),
        _ => return error(400, "invalid input"),
    };
    let base64 = request["encoding_format"] == json!("base64");
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = vector(text);
            let embedding = if base64 {
                let bytes: Vec<u8> =
                    vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                json!(base64_of(&bytes))
            } else {
                json!(vector)
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let body = json!({
        "object": "list", "data": data, "model": request["model"],
        "usage": { "prompt_tokens": inputs.len(), "total_tokens": inputs.len() },
    });
    reply(200, JSON, Answer::whole(body.to_string() + "\n"))
}

fn base64_of(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte));
        let word = word << (8 * (3 - group.len()));
        for place in 0..4 {
            if place <= group.len() {
                let index = (word >> (18 - 6 * place)) & 63;
                out.push(char::from(ALPHABET[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}
