use sluicegate_plugin::Message;
use sluicegate_plugin::testing::{message, request, take_records};

use super::*;
use crate::config::settings;

const QUESTION: &str = "What is the capital of France?";

type Change = fn(&mut Request);

/// A cool request of one message.
fn ask(text: &str) -> Request {
    let mut asked = request(vec![message(Role::User, text)]);
    asked.parameters.temperature = Some(0.0);
    asked
}

fn mode_of(config: &str, request: &Request) -> Mode {
    decide(&settings(config), request).mode.unwrap()
}

fn changed(change: impl FnOnce(&mut Request)) -> Mode {
    let mut asked = ask(QUESTION);
    change(&mut asked);
    mode_of("{}", &asked)
}

#[test]
fn a_short_question_is_matched_by_meaning() {
    assert_eq!(mode_of("{}", &ask(QUESTION)), Mode::Similar);
    assert_eq!(take_records(), ["metric mode{similar} 1"]);
    assert_eq!(mode_of(r#"{"similar": false}"#, &ask(QUESTION)), Mode::Exact);
}

#[test]
fn only_repeatable_answers_are_kept_unless_the_operator_wants_more() {
    for (temperature, seed, deterministic, unless_hot) in [
        (None, None, false, true),
        (None, Some(1), true, true),
        (Some(0.0), None, true, true),
        (Some(0.3), None, true, true),
        (Some(0.31), None, false, false),
        (Some(1.0), Some(1), true, true),
    ] {
        let mut asked = ask(QUESTION);
        asked.parameters.temperature = temperature;
        asked.parameters.seed = seed;
        let kept =
            |policy: &str| mode_of(&format!(r#"{{"policy": "{policy}"}}"#), &asked) != Mode::Off;
        let case = format!("{temperature:?} {seed:?}");
        assert_eq!(kept("deterministic"), deterministic, "{case}");
        assert_eq!(kept("unless_hot"), unless_hot, "{case}");
        assert!(kept("always"), "{case}");
    }
}

#[test]
fn a_temperature_that_a_router_set_is_not_the_clients() {
    let label = || ("temperature".to_owned(), "default".to_owned());
    assert_eq!(changed(|asked| asked.labels.push(label())), Mode::Off);
    let mut asked = ask(QUESTION);
    asked.labels.push(label());
    assert_eq!(mode_of(r#"{"policy": "unless_hot"}"#, &asked), Mode::Similar);
}

#[test]
fn embeddings_are_matched_exactly_and_unknown_endpoints_never() {
    let at = |endpoint| {
        let mut asked = ask(QUESTION);
        asked.parameters.temperature = None;
        asked.endpoint = endpoint;
        mode_of("{}", &asked)
    };
    assert_eq!(at(Endpoint::Embeddings), Mode::Exact);
    assert_eq!(at(Endpoint::Other), Mode::Off);
    assert_eq!(at(Endpoint::ChatCompletions), Mode::Off);
}

#[test]
fn what_a_likeness_of_texts_does_not_show_is_matched_exactly() {
    let exact: [(&str, Change); 10] = [
        ("tools", |asked| asked.shape.tools = 1),
        ("structured output", |asked| asked.shape.structured = true),
        ("attachments", |asked| asked.shape.attachments = 1),
        ("attachments of the last message", |asked| asked.messages[0].attachments = 1),
        ("several answers", |asked| asked.parameters.n = Some(2)),
        ("a text to continue", |asked| asked.endpoint = Endpoint::Completions),
        ("no messages", |asked| asked.messages.clear()),
        ("an answer last", |asked| asked.messages.push(message(Role::Assistant, QUESTION))),
        ("a call", |asked| {
            let call = message(Role::Assistant, "");
            asked.messages.insert(0, Message { tool_calls: vec!["a".into()], ..call });
        }),
        ("a call's result", |asked| asked.messages.insert(0, message(Role::Tool, "42"))),
    ];
    for (what, change) in exact {
        assert_eq!(changed(change), Mode::Exact, "{what}");
    }
    assert_eq!(changed(|asked| asked.parameters.n = Some(1)), Mode::Similar);
}

#[test]
fn a_conversation_of_three_messages_is_matched_and_a_longer_one_is_not() {
    let with = |before: usize| {
        changed(|asked| {
            for _ in 0..before {
                asked.messages.insert(0, message(Role::Assistant, "Hello"));
            }
        })
    };
    assert_eq!(with(2), Mode::Similar);
    assert_eq!(with(3), Mode::Exact);
    let long = r#"{"max_messages": 1}"#;
    let mut two = ask(QUESTION);
    two.messages.insert(0, message(Role::System, "Be kind."));
    assert_eq!(mode_of(long, &two), Mode::Exact);
}

#[test]
fn words_of_time_and_length_are_the_operators_choice() {
    assert_eq!(mode_of("{}", &ask("What is the latest news from France?")), Mode::Exact);
    let own = r#"{"time_words": ["PARIS"], "max_chars": 40}"#;
    assert_eq!(mode_of(own, &ask("What is the latest news of France?")), Mode::Similar);
    assert_eq!(mode_of(own, &ask("What news from Paris, France?")), Mode::Exact);
    assert_eq!(mode_of(own, &ask("What is the latest news from all of France?")), Mode::Exact);
}

#[test]
fn a_policy_carries_what_the_operator_set_and_nothing_else() {
    let set = r#"{"ttl": 60, "min_similarity": 0.97, "scope": "v2"}"#;
    let policy = decide(&settings(set), &ask(QUESTION));
    assert_eq!(policy.ttl_seconds, Some(60));
    assert_eq!(policy.scope.as_deref(), Some("v2"));
    assert_eq!(policy.min_similarity, Some(0.97));
    let exact = decide(&settings(set), &ask("Hi"));
    assert_eq!((exact.mode, exact.min_similarity), (Some(Mode::Exact), None));
    let plain = decide(&settings("{}"), &ask(QUESTION));
    assert!(plain.ttl_seconds.is_none() && plain.scope.is_none());
}
