//! Stands in for the gateway in a plugin's unit tests, one for each thread.
//!
//! ```
//! use sluicegate_plugin::{config, testing};
//! testing::set_config(r#"{"limits": [{"max": 3}]}"#);
//! assert_eq!(config::get("limits.0.max").as_deref(), Some("3"));
//! ```

use std::cell::RefCell;
use std::collections::HashMap;

use serde_json::Value as Json;

use crate::router::{Breaker, Target};
use crate::{Endpoint, Message, Parameters, Request, Role, Shape};

#[derive(Default)]
struct Gateway {
    config: Option<Json>,
    store: HashMap<String, Vec<u8>>,
    records: Vec<String>,
    unix_ms: u64,
}

thread_local! {
    static GATEWAY: RefCell<Gateway> = RefCell::default();
}

/// Sets the plugin's configuration.
///
/// # Panics
/// When `json` is no JSON object.
pub fn set_config(json: &str) {
    let config: Json = serde_json::from_str(json).expect("JSON");
    assert!(config.is_object(), "a configuration is an object");
    GATEWAY.with_borrow_mut(|gateway| gateway.config = Some(config));
}

/// Sets the time.
pub fn set_unix_ms(now: u64) {
    GATEWAY.with_borrow_mut(|gateway| gateway.unix_ms = now);
}

/// What was logged and counted since the last call, in order: `log info: …`, `metric name{label} 1`.
#[must_use]
pub fn take_records() -> Vec<String> {
    GATEWAY.with_borrow_mut(|gateway| std::mem::take(&mut gateway.records))
}

/// A streamed chat request of `messages`, with its shape counted.
#[must_use]
pub fn request(messages: Vec<Message>) -> Request {
    let bytes: usize = messages.iter().map(|message| message.text.len()).sum();
    let chars: usize = messages.iter().map(|message| message.text.chars().count()).sum();
    Request {
        id: "req-1".into(),
        caller: "anonymous".into(),
        route: Some("assistant".into()),
        model: "assistant".into(),
        upstream: None,
        endpoint: Endpoint::ChatCompletions,
        streaming: true,
        body_bytes: bytes as u64,
        parameters: Parameters {
            temperature: None,
            top_p: None,
            max_tokens: None,
            seed: None,
            n: None,
        },
        shape: Shape {
            messages: messages.len() as u32,
            text_chars: chars as u64,
            prompt_tokens: bytes.div_ceil(4) as u64,
            attachments: 0,
            tools: 0,
            structured: false,
            logprobs: false,
        },
        conversation: 1,
        messages,
        headers: Vec::new(),
        labels: Vec::new(),
    }
}

/// A message of plain text.
#[must_use]
pub fn message(role: Role, text: &str) -> Message {
    Message { role, text: text.into(), attachments: 0, tool_calls: Vec::new(), tool_call_id: None }
}

/// A target of which nothing is known.
#[must_use]
pub fn target(upstream: &str, model: &str) -> Target {
    Target {
        upstream: upstream.into(),
        model: model.into(),
        fallback: false,
        weight: 1,
        resident: None,
        partial: None,
        headroom: None,
        in_flight: 0,
        waiting: 0,
        tokens_per_second: None,
        load_ms: None,
        breaker: Breaker::Closed,
        context_length: None,
    }
}

pub(crate) fn config_get(path: &str) -> Option<String> {
    GATEWAY.with_borrow(|gateway| {
        let mut at = gateway.config.as_ref()?;
        for step in path.split('.') {
            at = match at {
                Json::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                other => other.get(step)?,
            };
        }
        match at {
            Json::String(text) => Some(text.clone()),
            Json::Bool(_) | Json::Number(_) => Some(at.to_string()),
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        }
    })
}

pub(crate) fn config_json() -> String {
    GATEWAY
        .with_borrow(|gateway| gateway.config.as_ref().map_or_else(|| "{}".into(), Json::to_string))
}

pub(crate) fn record(line: String) {
    GATEWAY.with_borrow_mut(|gateway| gateway.records.push(line));
}

pub(crate) fn unix_ms() -> u64 {
    GATEWAY.with_borrow(|gateway| gateway.unix_ms)
}

pub(crate) fn load(key: &str) -> Option<Vec<u8>> {
    GATEWAY.with_borrow(|gateway| gateway.store.get(key).cloned())
}

pub(crate) fn save(key: &str, value: &[u8]) {
    GATEWAY.with_borrow_mut(|gateway| gateway.store.insert(key.into(), value.into()));
}

pub(crate) fn remove(key: &str) {
    GATEWAY.with_borrow_mut(|gateway| gateway.store.remove(key));
}
