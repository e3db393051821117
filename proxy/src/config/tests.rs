//! What a configuration may say, and how a wrong one is refused.

use super::cache::Vectors;
use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    let source = Source { file: "test.yaml".into(), text: text.into() };
    let environment = HashMap::from([("PORT".to_owned(), "4321".to_owned())]);
    Config::from_source(&source, environment)
}

fn refusal(text: &str) -> String {
    load(text).expect_err("refused").to_string()
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let config = Config::defaults(&HashMap::new()).expect("defaults");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.to_string(), "127.0.0.1:9464");
    assert_eq!(config.upstreams[0].origin.to_string(), "http://127.0.0.1:11434/");
}

#[test]
fn an_empty_file_is_refused() {
    assert!(refusal("  \n").contains("empty"));
}

#[test]
fn secrets_in_wrong_places_are_not_repeated() {
    for text in [
        "upstreams:\n  o: { url: https://h, kind: openai, apikey: sk-hunter2 }\n",
        "keys:\n  - name: a\n    hash: sk-sluicegate-hunter2\n",
        "upstreams:\n  o: { url: 'http://user:hunter2@h', kind: openai }\n",
    ] {
        let error = refusal(text);
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn variables_expand_in_values() {
    assert_eq!(load("listen: 127.0.0.1:${PORT}").expect("valid").listen.port(), 4321);
}

#[test]
fn variables_expand_in_quotes_too() {
    for url in ["\"http://h:${PORT}\"", "'http://h:${PORT}'", "\"http://h:${NONE:-4321}\""] {
        let config = load(&format!("upstreams: {{ o: {{ url: {url}, kind: openai }} }}\n"));
        let origin = config.expect("valid").upstreams[0].origin.to_string();
        assert_eq!(origin, "http://h:4321/");
    }
    for text in ["listen: ${NONE}\n", "listen: \"${NONE}\"\n"] {
        let error = refusal(text);
        assert!(error.starts_with("test.yaml:1:"), "{error}");
        assert!(error.contains("the environment variable `NONE` is not set"), "{error}");
    }
}

#[test]
fn a_variable_without_quotes_in_braces_is_told_to_need_them() {
    let error = refusal("upstreams:\n  o: { url: ${PORT}, kind: openai }\n");
    assert!(error.contains("within { … }, a value with ${…} needs quotes"), "{error}");
}

#[test]
fn what_the_parser_says_is_said_plainly() {
    for (text, place, expected) in [
        ("routes: { model: m }\n", "1:9", "expected a list"),
        ("routes:\n  - model: m\n    targets: [host]\n", "3:15", "expected `key: value` pairs"),
        ("listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", "2:1", "the key `listen` is given twice"),
        ("workers: two\n", "1:10", "expected a whole number"),
        (
            "routes: [{ model: m, targets: [], options: { num_ctx: 8k } }]\n",
            "1:55",
            "expected a number of tokens, or auto",
        ),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(&format!("test.yaml:{place}: {expected}")), "{error}");
        assert!(!error.contains(" at line "), "{error}");
    }
}

#[test]
fn a_builtin_plugin_that_is_not_listed_is_told_how_to_be() {
    let route = "routes:\n  - model: m\n    targets: [{ upstream: host }]\n    plugins: [complexity-router]\n";
    let error = refusal(&format!("{UPSTREAM}{route}"));
    assert!(error.starts_with("test.yaml:6:15: "), "{error}");
    assert!(error.contains("add `{ name: complexity-router, source: builtin }`"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_a_near_name() {
    let error = refusal("listen: 127.0.0.1:0\nheartbeet: 15s\n");
    assert!(error.starts_with("test.yaml:2:1: unknown key `heartbeet`"), "{error}");
    assert!(error.contains("did you mean `heartbeat`?"), "{error}");
    assert!(error.contains(" 2 | heartbeet: 15s"), "{error}");
}

#[test]
fn a_duration_without_a_unit_is_refused_with_its_place() {
    let error = refusal("heartbeat: 15\n");
    assert!(error.starts_with("test.yaml:1:12: "), "{error}");
    assert!(error.contains("with a unit"), "{error}");
}

#[test]
fn a_size_with_a_wrong_unit_is_refused() {
    let error = refusal("limits: { body: 10mb }\n");
    assert!(error.starts_with("test.yaml:1:17: "), "{error}");
    assert!(error.contains("128MiB"), "{error}");
}

const UPSTREAM: &str = "upstreams:\n  host: { url: http://127.0.0.1:1, kind: ollama }\n";

#[test]
fn a_dangling_upstream_is_refused_with_its_place_and_a_near_name() {
    let text = format!("{UPSTREAM}routes:\n  - model: m\n    targets: [{{ upstream: hots }}]\n");
    let error = refusal(&text);
    assert!(error.starts_with("test.yaml:5:27: no upstream is named `hots`"), "{error}");
    assert!(error.contains("did you mean `host`?"), "{error}");
}

#[test]
fn a_route_that_no_request_reaches_is_refused_with_its_place() {
    let routes = |models: &[&str]| {
        let one =
            |model: &&str| format!("  - model: '{model}'\n    targets: [{{ upstream: host }}]\n");
        format!("{UPSTREAM}routes:\n{}", models.iter().map(one).collect::<String>())
    };
    let error = refusal(&routes(&["m", "n", "m"]));
    assert!(
        error.starts_with("test.yaml:8:12: a route for `m` is there already, on line 4"),
        "{error}"
    );
    let error = refusal(&routes(&["*", "b*"]));
    assert!(
        error.starts_with("test.yaml:6:12: no request reaches the route `b*`: `*` on line 4"),
        "{error}"
    );
    for dead in [["a*", "a*"], ["a*", "ab*"], ["*a*", "a*a"], ["a*b", "a*c*b"], ["**", "*"]] {
        assert!(load(&routes(&dead)).is_err(), "{dead:?}");
    }
    for good in [["*", "m"], ["m", "*"], ["b*", "*"], ["ab*", "a*"], ["a*b", "a*"], ["a*", "*a"]] {
        assert!(load(&routes(&good)).is_ok(), "{good:?}");
    }
}

#[test]
fn an_unknown_kind_is_refused_with_what_was_expected() {
    let error = refusal("upstreams:\n  host: { url: http://h:1, kind: olama }\n");
    assert!(error.contains("did you mean `ollama`?"), "{error}");
}

#[test]
fn an_upstream_that_is_the_gateway_itself_is_refused() {
    let error = refusal(
        "listen: 127.0.0.1:9000\nupstreams:\n  me: { url: 'http://localhost:9000/v1', kind: ollama }\n",
    );
    assert!(error.starts_with("test.yaml:3:14: upstream `me` is this gateway itself"), "{error}");
    let error = refusal(
        "admin: 127.0.0.1:9000\nupstreams:\n  me: { url: 'http://127.0.0.1:9000', kind: ollama }\n",
    );
    assert!(error.contains("`admin` is 127.0.0.1:9000"), "{error}");
    // Ollama's own port taken, and Ollama not moved.
    let error = refusal("listen: 127.0.0.1:11434\n");
    assert!(error.contains("upstream `host` is this gateway itself"), "{error}");
}

#[test]
fn an_open_door_must_be_asked_for() {
    assert!(refusal("listen: 0.0.0.0:8080").contains("anonymous: true"));
    assert!(load("listen: 0.0.0.0:8080\nanonymous: true").is_ok());
    assert!(refusal("admin: 0.0.0.0:9464").contains("admin_token"));
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    let error = refusal("upstreams:\n  o: { url: https://h, kind: openai, api_key: sk-hunter2 }\n");
    assert!(error.contains("env:NAME"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_bad_hash_and_a_double_name_are_refused() {
    let hash = blake3::hash(b"k").to_hex();
    assert!(refusal("keys: [{ name: a, hash: plain }]").contains("key new"));
    let twice = format!(
        "keys: [{{ name: a, hash: 'blake3:{hash}' }}, {{ name: a, hash: 'blake3:{hash}' }}]"
    );
    assert!(refusal(&twice).contains("two keys are named `a`"));
}

#[test]
fn every_key_in_the_schema_has_a_description() {
    let schema: serde_json::Value = serde_json::from_str(&schema().expect("schema")).expect("JSON");
    let mut missing = Vec::new();
    undescribed(&schema, "", &mut missing);
    assert!(missing.is_empty(), "no description: {missing:?}");
}

fn undescribed(node: &serde_json::Value, path: &str, missing: &mut Vec<String>) {
    if let Some(properties) = node.get("properties").and_then(|p| p.as_object()) {
        for (name, property) in properties {
            if property.get("description").is_none() {
                missing.push(format!("{path}/{name}"));
            }
        }
    }
    if let Some(object) = node.as_object() {
        for (name, child) in object {
            undescribed(child, &format!("{path}/{name}"), missing);
        }
    }
}

#[test]
fn vectors_in_redis_need_a_redis_and_no_directory() {
    let cache = |exact: &str, semantic: &str| {
        let head = "upstreams:\n  o: { url: 'http://h', kind: ollama }\n";
        format!(
            "{head}cache:\n  exact: {{ {exact} }}\n  semantic: {{ embedder: {{ upstream: o, model: m \
             }}, {semantic} }}\n"
        )
    };
    let redis = "redis: 'redis://r:6379'";
    let config = load(&cache(redis, "vectors: redis")).expect("valid");
    assert_eq!(config.cache.semantic.expect("semantic").vectors, Vectors::Redis);
    let config = load(&cache(redis, "path: /p")).expect("valid");
    assert_eq!(config.cache.semantic.expect("semantic").vectors, Vectors::Memory);
    let error = refusal(&cache("", "vectors: redis"));
    assert!(error.contains("`cache.semantic.vectors: redis` needs a Redis"), "{error}");
    let error = refusal(&cache(redis, "vectors: redis, path: /p"));
    assert!(error.contains("`cache.semantic.path` is for vectors in memory"), "{error}");
}
