//! OpenAI's and Anthropic's endpoints, in the shapes Ollama gives them.

use std::convert::Infallible;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::answer::{Answer, Parts, Reply, reply};
use crate::faults::Fault;
use crate::recorder::Running;
use crate::speech::{CALL_ID, PROMPT_TOKENS, Speech, count, word, words};
use crate::{World, embedding};

pub(crate) const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";

pub(crate) fn error(status: u16, message: &str) -> Result<Reply, Infallible> {
    let kind = match status {
        400 => "invalid_request_error",
        404 => "not_found_error",
        _ => "api_error",
    };
    let body =
        json!({ "error": { "message": message, "type": kind, "param": null, "code": null } });
    reply(status, JSON, Answer::whole(body.to_string()))
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
    let place = match world.scheduler.place(model, None, None).await {
        Ok(place) => place,
        Err(refusal) => {
            running.finish();
            return error(refusal.status(), refusal.message());
        }
    };
    if let Some(why) = model.refusal(words(&request), place.context, true) {
        running.finish();
        return error(400, why);
    }
    tokio::time::sleep(world.settings.first_token + fault.delay()).await;
    if path == "/v1/embeddings" {
        running.finish();
        return embedding::v1(&request);
    }
    let limit = request.get("max_tokens").or(request.get("max_output_tokens"));
    let tokens = count(&world.settings, limit);
    if request["stream"] == json!(true) {
        let parts = match path {
            "/v1/responses" => responses_stream(&request, name, tokens),
            "/v1/messages" => messages_stream(name, tokens),
            "/v1/completions" => completions_stream(&request, name, tokens),
            _ => chat_stream(world, &request, name, &fault),
        };
        let body = Answer::stream(parts, &world.pace, fault, running, place);
        return reply(200, SSE, body);
    }
    let tokens_u32 = u32::try_from(tokens).unwrap_or(u32::MAX);
    tokio::time::sleep(world.pace.interval() * tokens_u32).await;
    running.finish();
    let whole = match path {
        "/v1/responses" => responses(&request, name, tokens),
        "/v1/messages" => messages(name, tokens),
        "/v1/completions" => completions(name, tokens),
        _ => chat(world, &request, name),
    };
    reply(200, JSON, Answer::whole(whole.to_string() + "\n"))
}

fn text(tokens: usize) -> String {
    (0..tokens).map(word).collect()
}

fn usage(tokens: usize) -> Value {
    json!({ "prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens })
}

/// The tool call of an answer, where it has one.
fn calls(speech: &Speech) -> Option<Value> {
    let name = speech.call.as_ref()?;
    Some(json!([{
        "id": CALL_ID, "index": 0, "type": "function",
        "function": { "name": name, "arguments": Speech::arguments().to_string() }
    }]))
}

fn finish(world: &World, speech: &Speech) -> &'static str {
    if speech.call.is_some() {
        "tool_calls"
    } else if speech.cut && world.settings.v1_length {
        "length"
    } else {
        "stop"
    }
}

fn chat(world: &World, request: &Value, model: &str) -> Value {
    let speech = Speech::v1(&world.settings, request);
    let mut message = json!({ "role": "assistant", "content": speech.text() });
    if !speech.thoughts.is_empty() {
        message["reasoning"] = json!(speech.thoughts.concat());
    }
    if let Some(calls) = calls(&speech) {
        message["tool_calls"] = calls;
    }
    let mut choice =
        json!({ "index": 0, "message": message, "finish_reason": finish(world, &speech) });
    if let Some(logprobs) = speech.logprobs(&speech.pieces) {
        choice["logprobs"] = json!({ "content": logprobs });
    }
    json!({
        "id": "chatcmpl-123", "object": "chat.completion", "created": 1_700_000_000, "model": model,
        "system_fingerprint": "fp_ollama", "choices": [choice], "usage": usage(speech.tokens),
    })
}

fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

fn wants_usage(request: &Value) -> bool {
    request["stream_options"]["include_usage"] == json!(true)
}

fn chat_stream(world: &World, request: &Value, model: &str, fault: &Fault) -> Parts {
    let chunk = |choice: Value| {
        event(&json!({
            "id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": model, "system_fingerprint": "fp_ollama", "choices": [choice],
        }))
    };
    let choice = |delta: Value| json!({ "index": 0, "delta": delta, "finish_reason": Value::Null });
    let mut speech = Speech::v1(&world.settings, request);
    speech.swell(fault);
    let thoughts = speech.thoughts.iter();
    let mut choices: Vec<Value> = thoughts
        .map(|thought| choice(json!({ "content": "", "reasoning": thought })))
        .chain(calls(&speech).map(|calls| choice(json!({ "content": "", "tool_calls": calls }))))
        .collect();
    choices.extend(speech.pieces.iter().map(|piece| {
        let mut choice = choice(json!({ "content": piece }));
        if let Some(logprobs) = speech.logprobs(std::slice::from_ref(piece)) {
            choice["logprobs"] = json!({ "content": logprobs });
        }
        choice
    }));
    if let Some(first) = choices.first_mut() {
        first["delta"]["role"] = json!("assistant");
    }
    let end = finish(world, &speech);
    let mut last = vec![chunk(json!({ "index": 0, "delta": {}, "finish_reason": end }))];
    if wants_usage(request) {
        last.push(event(&json!({
            "id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": model, "choices": [], "usage": usage(speech.tokens),
        })));
    }
    last.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Parts {
        tokens: choices.into_iter().map(chunk).collect(),
        last,
        crash: event(&json!({
            "id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "",
            "choices": [{ "index": 0, "delta": { "content": "" }, "finish_reason": null }],
        })),
        error: event(&json!({ "error": { "message": "out of memory", "type": "api_error" } })),
    }
}

fn completion(model: &str, choices: Value) -> Value {
    json!({
        "id": "cmpl-123", "object": "text_completion", "created": 1_700_000_000, "model": model,
        "system_fingerprint": "fp_ollama", "choices": choices,
    })
}

fn completions(model: &str, tokens: usize) -> Value {
    let choice = json!({ "index": 0, "text": text(tokens), "finish_reason": "stop" });
    let mut whole = completion(model, json!([choice]));
    whole["usage"] = usage(tokens);
    whole
}

fn completions_stream(request: &Value, model: &str, tokens: usize) -> Parts {
    let with_usage = wants_usage(request);
    let chunk = |text: &str, finish: Value| {
        let choice = json!({ "index": 0, "text": text, "finish_reason": finish });
        let mut chunk = completion(model, json!([choice]));
        // The real one sends zeros with every chunk when usage is asked for.
        if with_usage {
            chunk["usage"] =
                json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0 });
        }
        event(&chunk)
    };
    let mut last = vec![chunk("", json!("stop"))];
    if with_usage {
        let mut counts = completion(model, json!([]));
        counts["usage"] = usage(tokens);
        last.push(event(&counts));
    }
    last.push(Bytes::from_static(b"data: [DONE]\n\n"));
    let error = event(&json!({ "error": { "message": "out of memory" } }));
    let tokens = (0..tokens).map(|index| chunk(&word(index), Value::Null)).collect();
    Parts { tokens, last, crash: Bytes::new(), error }
}

/// A response as Ollama tells it, in the state `status`.
fn response(request: &Value, model: &str, (status, output): (&str, Value)) -> Value {
    let given = |name: &str, default: Value| request.get(name).cloned().unwrap_or(default);
    json!({
        "id": "resp_123", "object": "response", "created_at": 1_700_000_000, "completed_at": null,
        "status": status, "incomplete_details": null, "model": model, "previous_response_id": null,
        "instructions": given("instructions", Value::Null), "output": output, "error": null,
        "tools": given("tools", json!([])), "tool_choice": "auto",
        "truncation": given("truncation", json!("disabled")), "parallel_tool_calls": true,
        "text": given("text", json!({ "format": { "type": "text" } })), "top_p": given("top_p", json!(1)),
        "presence_penalty": 0, "frequency_penalty": 0, "top_logprobs": 0,
        "temperature": given("temperature", json!(1)), "reasoning": given("reasoning", Value::Null),
        "usage": null, "max_output_tokens": given("max_output_tokens", Value::Null), "max_tool_calls": null,
        "store": false, "background": false, "service_tier": "default", "metadata": {},
        "safety_identifier": null, "prompt_cache_key": null,
    })
}

fn output_message(text: &str, status: &str) -> Value {
    let part = json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
    json!({ "id": "msg_123", "type": "message", "role": "assistant", "status": status, "content": [part] })
}

fn responses(request: &Value, model: &str, tokens: usize) -> Value {
    let output = json!([output_message(&text(tokens), "completed")]);
    let mut whole = response(request, model, ("completed", output));
    whole["completed_at"] = json!(1_700_000_001);
    whole["usage"] = json!({
        "input_tokens": PROMPT_TOKENS, "output_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens,
        "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens_details": { "reasoning_tokens": 0 },
    });
    whole
}

fn named(kind: &str, mut value: Value) -> Bytes {
    value["type"] = json!(kind);
    Bytes::from(format!("event: {kind}\ndata: {value}\n\n"))
}

fn responses_stream(request: &Value, model: &str, tokens: usize) -> Parts {
    let begun = response(request, model, ("in_progress", json!([])));
    let mut item = output_message("", "in_progress");
    let part = item["content"][0].clone();
    item["content"] = json!([]);
    let of_part = |number: usize, more: (&str, Value)| {
        let mut event = json!({
            "sequence_number": number, "item_id": "msg_123", "output_index": 0, "content_index": 0
        });
        event[more.0] = more.1;
        event
    };
    let of_text = |number: usize, more: (&str, Value)| {
        let mut event = of_part(number, more);
        event["logprobs"] = json!([]);
        event
    };
    let head = [
        named("response.created", json!({ "sequence_number": 0, "response": begun })),
        named("response.in_progress", json!({ "sequence_number": 1, "response": begun })),
        named(
            "response.output_item.added",
            json!({ "sequence_number": 2, "output_index": 0, "item": item }),
        ),
        named("response.content_part.added", of_part(3, ("part", part))),
    ]
    .concat();
    let delta = |index: usize| {
        named("response.output_text.delta", of_text(4 + index, ("delta", json!(word(index)))))
    };
    let mut parts: Vec<Bytes> = vec![Bytes::from(head)];
    parts.extend((0..tokens).map(delta));
    let (text, item) = (text(tokens), output_message(&text(tokens), "completed"));
    let (next, whole) = (4 + tokens, responses(request, model, tokens));
    let last = vec![
        named("response.output_text.done", of_text(next, ("text", json!(text)))),
        named(
            "response.content_part.done",
            of_part(next + 1, ("part", item["content"][0].clone())),
        ),
        named(
            "response.output_item.done",
            json!({ "sequence_number": next + 2, "output_index": 0, "item": item }),
        ),
        named("response.completed", json!({ "sequence_number": next + 3, "response": whole })),
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
        "usage": { "input_tokens": PROMPT_TOKENS, "output_tokens": tokens },
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
