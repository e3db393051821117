//! Vectors of texts, in the shapes of both dialects.

use std::convert::Infallible;

use serde_json::{Value, json};

use crate::answer::{Answer, Reply, reply};
use crate::{native, openai};

/// Vectors of eight numbers: the sum of its words', so that texts of like words are alike.
fn vector(text: &str) -> Vec<f32> {
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

/// `/v1/embeddings`.
pub(crate) fn v1(request: &Value) -> Result<Reply, Infallible> {
    let inputs: Vec<&str> = match &request["input"] {
        Value::String(one) => vec![one],
        Value::Array(many) if many.iter().all(Value::is_string) && !many.is_empty() => {
            many.iter().filter_map(Value::as_str).collect()
        }
        Value::Array(many) if !many.is_empty() => return openai::error(400, "invalid input type"),
        _ => return openai::error(400, "invalid input"),
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
    reply(200, openai::JSON, Answer::whole(body.to_string() + "\n"))
}

/// The texts of `/api/embed`; none where it only loads the model.
pub(crate) fn inputs(request: &Value) -> Result<Vec<&str>, &'static str> {
    const WRONG: &str = "invalid input type";
    match &request["input"] {
        Value::Null => Ok(Vec::new()),
        Value::String(one) if one.is_empty() => Ok(Vec::new()),
        Value::String(one) => Ok(vec![one]),
        Value::Array(many) => many.iter().map(|one| one.as_str().ok_or(WRONG)).collect(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Err(WRONG),
    }
}

/// `/api/embed`, and `/api/embeddings`, which is older.
pub(crate) fn native(request: &Value, path: &str) -> Result<Reply, Infallible> {
    if path == "/api/embeddings" {
        let vector = vector(request["prompt"].as_str().unwrap_or(""));
        let body = json!({ "embedding": vector }).to_string();
        return reply(200, native::JSON, Answer::whole(body));
    }
    let inputs = inputs(request).unwrap_or_default();
    let vectors: Vec<Vec<f32>> = inputs.iter().map(|text| vector(text)).collect();
    let mut body = json!({ "model": request["model"], "embeddings": vectors });
    if !inputs.is_empty() {
        body["total_duration"] = json!(1_000_000);
        body["load_duration"] = json!(100_000);
        body["prompt_eval_count"] = json!(inputs.len());
    }
    reply(200, native::JSON, Answer::whole(body.to_string()))
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
