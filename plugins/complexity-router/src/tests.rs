use sluicegate_plugin::router::{Breaker, Decision, Ranking, Target};
use sluicegate_plugin::testing::{message, request, set_config, take_records, target};
use sluicegate_plugin::{Endpoint, Guest, Message, Request, Role, Value};

use super::{ComplexityRouter, decide};
use crate::config::Config;
use crate::score::{Class, Level, judge};

const HARD: &str = "Design a fault-tolerant architecture for a payment system in three regions. \
    Compare the trade-offs, analyze each failure mode and explain step by step why.";
const MEDIUM: &str = "Explain why tides happen twice a day and compare spring with neap tides.";

fn config(json: &str) -> Config {
    set_config(json);
    let config: Config = sluicegate_plugin::config::parse().unwrap();
    config.check().unwrap();
    config
}

fn refusal(json: &str) -> String {
    set_config(json);
    ComplexityRouter::describe().unwrap_err()
}

fn ask(text: &str) -> Request {
    request(vec![message(Role::User, text)])
}

fn rank(config: &Config, request: &Request, targets: &[Target]) -> Ranking {
    match decide(config, request, targets) {
        Decision::Rank(ranking) => ranking,
        Decision::Proceed | Decision::Reject(_) => panic!("no ranking"),
    }
}

/// The models in the order they are tried.
fn tried(config: &Config, request: &Request, targets: &[Target]) -> Vec<String> {
    let mut ranked = rank(config, request, targets).targets;
    ranked.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    ranked.iter().map(|ranked| targets[ranked.target as usize].model.clone()).collect()
}

fn model(name: &str) -> Target {
    target("gpu", name)
}

fn loaded(name: &str) -> Target {
    Target { resident: Some(true), ..model(name) }
}

const SIZES: &str = r#"{"levels": {"simple": "small", "medium": "mid", "complex": "big"}}"#;

#[test]
fn levels_follow_the_score() {
    let config = Config::default();
    for (text, level, class) in [
        ("", Level::Simple, Class::Simple),
        ("Hi", Level::Simple, Class::Simple),
        ("What is the capital of France?", Level::Simple, Class::Simple),
        ("Write a Python function that reverses a string", Level::Simple, Class::Code),
        (MEDIUM, Level::Medium, Class::General),
        (HARD, Level::Complex, Class::Architecture),
    ] {
        let verdict = judge(&config, &ask(text));
        assert_eq!((verdict.level, verdict.class), (level, class), "{text}: {}", verdict.score);
    }
}

#[test]
fn a_threshold_belongs_to_the_level_above_it() {
    let score = judge(&Config::default(), &ask(MEDIUM)).score;
    let at = config(&format!(r#"{{"simple_below": {score}, "complex_from": 1}}"#));
    assert_eq!(judge(&at, &ask(MEDIUM)).level, Level::Medium);
    let above = score + 0.01;
    let above = config(&format!(r#"{{"simple_below": {above}, "complex_from": 1}}"#));
    assert_eq!(judge(&above, &ask(MEDIUM)).level, Level::Simple);
    let from = config(&format!(r#"{{"simple_below": 0, "complex_from": {score}}}"#));
    assert_eq!(judge(&from, &ask(MEDIUM)).level, Level::Complex);
}

#[test]
fn every_signal_raises_the_score() {
    let score = |request: &Request| judge(&Config::default(), request).score;
    let plain = ask("Tell me about tides");
    let before = score(&plain);
    let mut tools = plain.clone();
    tools.shape.tools = 3;
    let mut structured = plain.clone();
    structured.shape.structured = true;
    let mut history = plain.clone();
    history.shape.messages = 30;
    let mut context = plain.clone();
    context.shape.prompt_tokens = 8_000;
    for (what, raised) in [
        ("tools", &tools),
        ("structured output", &structured),
        ("history", &history),
        ("a long prompt", &context),
        ("length", &ask(&"tides ".repeat(500))),
        ("code", &ask("Tell me about ```tides```")),
        ("thought", &ask("Tell me why tides")),
        ("questions", &ask("Tell me? About? Tides?")),
    ] {
        assert!(score(raised) > before, "{what}");
    }
    let mut all = ask(&HARD.repeat(1_000));
    all.shape.tools = 9;
    all.shape.structured = true;
    assert_eq!(score(&all), 1.0);
}

#[test]
fn what_is_no_conversation_is_left_alone() {
    let targets = [model("a")];
    let with = |endpoint| Request { endpoint, ..ask("Hi") };
    let leaves = |request: &Request, targets: &[Target]| {
        matches!(decide(&Config::default(), request, targets), Decision::Proceed)
    };
    assert!(leaves(&with(Endpoint::Embeddings), &targets));
    assert!(leaves(&with(Endpoint::Other), &targets));
    assert!(leaves(&request(Vec::<Message>::new()), &targets));
    assert!(leaves(&ask("Hi"), &[]));
    assert!(!leaves(&request(vec![message(Role::System, "Be brief")]), &targets));
}

#[test]
fn a_decision_says_why() {
    let ranking = rank(&Config::default(), &ask(HARD), &[model("a")]);
    let score = judge(&Config::default(), &ask(HARD)).score;
    assert_eq!(ranking.reason, format!("complex:architecture:{score:.2}"));
    assert!(ranking.reason.len() <= 64);
    let label = |name: &str| {
        ranking.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    };
    assert_eq!((label("level"), label("class")), (Some("complex"), Some("architecture")));
    assert_eq!(label("score"), Some(format!("{score:.2}").as_str()));
    assert_eq!(take_records(), ["metric decisions{complex/architecture} 1"]);
}

#[test]
fn a_class_sets_a_temperature_where_the_client_sent_none() {
    let temperature = |config: &Config, request: &Request| {
        let ranking = rank(config, request, &[model("a")]);
        assert_eq!(
            ranking.labels.contains(&("temperature".into(), "default".into())),
            !ranking.defaults.is_empty()
        );
        ranking.defaults.into_iter().next().map(|(name, value)| match value {
            Value::Number(value) if name == "temperature" => value,
            _ => panic!("{name}"),
        })
    };
    let usual = Config::default();
    assert_eq!(temperature(&usual, &ask("Write a Python script")), Some(0.2));
    assert_eq!(temperature(&usual, &ask("A haiku please")), Some(0.8));
    assert_eq!(temperature(&usual, &ask("Find a consensus")), Some(0.3));
    assert_eq!(temperature(&usual, &ask("Backtest my trading idea")), Some(0.1));
    assert_eq!(temperature(&usual, &ask("Hi")), None);
    let set = config(r#"{"classes": {"simple": {"temperature": 0.5}}}"#);
    assert_eq!(temperature(&set, &ask("Hi")), Some(0.5));
    for off in [r#""off""#, "false"] {
        let off = config(&format!(r#"{{"classes": {{"code": {{"temperature": {off}}}}}}}"#));
        assert_eq!(temperature(&off, &ask("Write a Python script")), None);
    }
    let mut sent = ask("A haiku please");
    sent.parameters.temperature = Some(0.0);
    assert_eq!(temperature(&usual, &sent), None);
    let native = Request { endpoint: Endpoint::NativeChat, ..ask("A haiku please") };
    assert_eq!(temperature(&usual, &native), None);
}

#[test]
fn without_configuration_only_loaded_models_go_first() {
    let targets = [model("a"), loaded("b"), model("c")];
    assert_eq!(tried(&Config::default(), &ask("Hi"), &targets), ["b", "a", "c"]);
    assert_eq!(tried(&Config::default(), &ask(MEDIUM), &targets), ["b", "a", "c"]);
    assert_eq!(tried(&Config::default(), &ask(HARD), &targets), ["a", "b", "c"]);
    let equal = rank(&Config::default(), &ask(HARD), &targets).targets;
    assert!(equal.iter().all(|ranked| ranked.weight == equal[0].weight));
    let off = config(r#"{"prefer_resident": false}"#);
    assert_eq!(tried(&off, &ask("Hi"), &targets), ["a", "b", "c"]);
}

#[test]
fn each_level_goes_to_its_target_then_to_the_next_larger() {
    let targets = [model("big"), model("odd"), model("mid"), model("small")];
    let config = config(SIZES);
    assert_eq!(tried(&config, &ask("Hi"), &targets), ["small", "mid", "big", "odd"]);
    assert_eq!(tried(&config, &ask(MEDIUM), &targets), ["mid", "big", "odd", "small"]);
    assert_eq!(tried(&config, &ask(HARD), &targets), ["big", "odd", "mid", "small"]);
}

#[test]
fn where_a_level_has_no_target_those_of_unknown_size_are_its_own() {
    let config = config(r#"{"levels": {"complex": "big"}}"#);
    let targets = [model("big"), model("odd")];
    assert_eq!(tried(&config, &ask("Hi"), &targets), ["odd", "big"]);
    assert_eq!(tried(&config, &ask(HARD), &targets), ["big", "odd"]);
}

#[test]
fn a_loaded_model_goes_first_if_it_is_large_enough() {
    let config = config(SIZES);
    let targets = [model("small"), model("mid"), loaded("big")];
    assert_eq!(tried(&config, &ask("Hi"), &targets)[0], "big");
    assert_eq!(tried(&config, &ask(MEDIUM), &targets)[0], "big");
    let targets = [loaded("small"), model("mid"), model("big")];
    assert_eq!(tried(&config, &ask(MEDIUM), &targets)[0], "mid");
    assert_eq!(tried(&config, &ask(HARD), &targets)[0], "big");
    let targets = [loaded("small"), loaded("mid"), loaded("big")];
    assert_eq!(tried(&config, &ask(MEDIUM), &targets)[0], "mid");
}

#[test]
fn a_model_loaded_in_part_or_behind_a_breaker_is_not_preferred() {
    let part = Target { partial: Some(true), ..loaded("part") };
    let open = Target { breaker: Breaker::Open, ..loaded("open") };
    let probing = Target { breaker: Breaker::HalfOpen, ..loaded("probing") };
    let order = tried(&Config::default(), &ask("Hi"), &[open, part, probing, model("cold")]);
    assert_eq!(order, ["part", "probing", "cold", "open"]);
}

#[test]
fn a_class_goes_to_its_own_target() {
    let classes = r#"{"classes": {"code": {"target": "gpu/coder"}},
        "levels": {"simple": "small", "complex": "big"}}"#;
    let config = config(classes);
    let targets = [model("small"), model("big"), model("coder"), target("other", "coder")];
    assert_eq!(tried(&config, &ask("Debug my Python"), &targets)[0], "coder");
    assert_eq!(rank(&config, &ask("Debug my Python"), &targets).targets[2].weight, 4.0);
    assert_eq!(tried(&config, &ask("Hi"), &targets)[0], "small");
}

#[test]
fn targets_are_named_by_model_upstream_or_both() {
    let targets = [target("a", "m"), target("b", "x/m")];
    for (name, first) in
        [("m", "m"), ("a", "m"), ("a/m", "m"), ("b", "x/m"), ("x/m", "x/m"), ("b/x/m", "x/m")]
    {
        let config = config(&format!(r#"{{"levels": {{"simple": "{name}"}}}}"#));
        assert_eq!(tried(&config, &ask("Hi"), &targets)[0], first, "{name}");
    }
}

#[test]
fn fallbacks_stay_behind() {
    let spare = Target { fallback: true, ..loaded("big") };
    let open = Target { breaker: Breaker::Open, ..model("small") };
    let config = config(SIZES);
    assert_eq!(tried(&config, &ask(HARD), &[spare.clone(), model("mid")]), ["mid", "big"]);
    assert_eq!(tried(&config, &ask("Hi"), &[spare, open]), ["small", "big"]);
}

fn with_context(name: &str, tokens: u64) -> Target {
    Target { context_length: Some(tokens), ..model(name) }
}

#[test]
fn a_prompt_goes_to_a_target_that_holds_it_and_its_answer() {
    let targets = [with_context("short", 1_000), with_context("long", 9_000), model("unknown")];
    let config = Config::default();
    let mut asked = ask(&"word ".repeat(800));
    assert_eq!(asked.shape.prompt_tokens, 1_000);
    assert_eq!(tried(&config, &asked, &targets), ["short", "long", "unknown"]);
    asked.parameters.max_tokens = Some(1);
    assert_eq!(tried(&config, &asked, &targets), ["long", "unknown"]);
}

#[test]
fn a_target_may_have_a_cap_of_its_own() {
    let config = config(r#"{"targets": {"gpu/a": {"max_prompt_tokens": 10}}}"#);
    let targets = [model("a"), model("b")];
    assert_eq!(tried(&config, &ask(&"x".repeat(40)), &targets), ["a", "b"]);
    assert_eq!(tried(&config, &ask(&"x".repeat(41)), &targets), ["b"]);
}

#[test]
fn a_prompt_that_nothing_holds_goes_to_the_largest() {
    let targets = [with_context("a", 10), with_context("b", 100), with_context("c", 50)];
    assert_eq!(tried(&Config::default(), &ask(&"x".repeat(9_999)), &targets), ["b", "c", "a"]);
    let mut endless = ask("Hi");
    endless.parameters.max_tokens = Some(u64::MAX);
    assert_eq!(tried(&Config::default(), &endless, &targets), ["a", "b", "c"]);
}

#[test]
fn a_short_target_stays_when_those_that_hold_the_prompt_are_broken() {
    let broken = Target { breaker: Breaker::Open, ..with_context("long", 9_000) };
    let targets = [broken, with_context("short", 10)];
    assert_eq!(tried(&Config::default(), &ask(&"x".repeat(100)), &targets), ["short", "long"]);
}

#[test]
fn the_canary_gets_its_share_of_conversations() {
    let config = config(r#"{"canary": {"target": "new", "share": 0.05}}"#);
    let targets = [model("new"), model("old")];
    let reason = |conversation| {
        let asked = Request { conversation, ..ask("Hi") };
        (tried(&config, &asked, &targets), rank(&config, &asked, &targets).reason)
    };
    let mut chosen = 0;
    for number in 1..=10_000_u64 {
        // Both neighbouring hashes and scattered ones.
        let conversation =
            if number % 2 == 0 { number } else { number.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        let (order, why) = reason(conversation);
        assert_eq!(reason(conversation).0, order, "a conversation stays where it is");
        assert_eq!(order[0] == "new", why == "canary");
        chosen += u32::from(why == "canary");
    }
    assert!((400..=600).contains(&chosen), "{chosen}");
    assert_eq!(reason(0).0, ["old", "new"]);
}

#[test]
fn a_canary_is_neither_sent_to_a_broken_target_nor_to_a_short_one() {
    let config = config(r#"{"canary": {"target": "new", "share": 1}}"#);
    let first = |new: Target| tried(&config, &ask("Hello there"), &[model("old"), new])[0].clone();
    assert_eq!(first(model("new")), "new");
    assert_eq!(first(Target { breaker: Breaker::Open, ..model("new") }), "old");
    assert_eq!(first(with_context("new", 1)), "old");
    let none = rank(&config, &ask("Hi"), &[model("old")]);
    assert_eq!(none.reason, "simple:simple:0.00");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_key() {
    for (json, part) in [
        (r#"{"simple_bellow": 0.3}"#, "simple_bellow"),
        (r#"{"simple_below": 1.5}"#, "simple_below: expected a number from 0 to 1"),
        (r#"{"simple_below": 0.8}"#, "simple_below: expected at most complex_from"),
        (r#"{"classes": {"poetry": {}}}"#, "unknown variant `poetry`"),
        (r#"{"classes": {"code": {"temperature": 3}}}"#, "classes.code.temperature"),
        (r#"{"classes": {"code": {"temperature": true}}}"#, "classes.code.temperature"),
        (r#"{"classes": {"code": {"temperature": "warm"}}}"#, "or `off`"),
        (r#"{"levels": {"medium": ""}}"#, "levels.medium"),
        (r#"{"targets": {"a": {"max_prompt_tokens": 0}}}"#, "targets.a.max_prompt_tokens"),
        (r#"{"canary": {"target": "a", "share": 5}}"#, "canary.share"),
        (r#"{"canary": {"target": "a"}}"#, "missing field `share`"),
    ] {
        let text = refusal(json);
        assert!(text.contains(part), "{json}: {text}");
    }
    set_config("{}");
    assert_eq!(ComplexityRouter::describe().unwrap().name, "complexity-router");
}
