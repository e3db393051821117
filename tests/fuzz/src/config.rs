//! The loader never panics, and an error shows a place inside the file.

use std::collections::HashMap;

use sluicegate::config::Config;
use sluicegate::config::load::Source;

pub(crate) const SEEDS: &[&[u8]] = &[
    b"listen: 127.0.0.1:8080\nheartbeat: 15s\nlimits: { body: 1MiB }\n",
    b"upstreams:\n  host: { url: http://127.0.0.1:1, kind: ollama, max_concurrent: 4 }\nroutes:\n  - model: 'a*'\n    targets: [{ upstream: host, weight: 3 }]\n",
    b"keys:\n  - name: a\n    hash: \"blake3:0000000000000000000000000000000000000000000000000000000000000000\"\n    models: [x]\n",
    b"breaker: { errors: 5, window: 30s, open_for: 10s }\ncors: { origins: ['*'] }\naccess_log: { format: json }\n",
    b"upstreams: &a\n  o: { url: https://h/v1, kind: openai, api_key: env:HOME, timeouts: { idle: 1m30s } }\n",
];

pub(crate) fn check(input: &[u8], _: &mut fastrand::Rng) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let source = Source { file: "fuzz.yaml".into(), text: text.to_owned() };
    let environment = HashMap::from([("A".to_owned(), "b".to_owned())]);
    if let Err(error) = Config::from_source(&source, environment) {
        assert!(!error.to_string().is_empty());
    }
}
