use sluicegate_plugin::Guest;
use sluicegate_plugin::responder::{Answer, Piece};
use sluicegate_plugin::testing::set_config;

use super::{ResponseShaper, shape};
use crate::config::Settings;
use crate::state::State;

const PHRASES: &str = r#"{"openings": {
    "strip": ["Certainly!", "Sure,", "Sure, here it is:", "Natürlich!", "Well"],
    "vary": [{"from": "Of course", "to": ["Yes", "Gladly"]}]}}"#;

fn settings(json: &str) -> Settings {
    set_config(json);
    sluicegate_plugin::config::parse().unwrap()
}

fn answer(id: &str) -> Answer {
    Answer {
        request_id: id.into(),
        caller: "anonymous".into(),
        route: None,
        model: "m".into(),
        streaming: true,
    }
}

/// The pieces that are sent for the pieces of an answer; the last one ends it.
fn sent(settings: &Settings, pieces: &[&str], finish: &str) -> Vec<String> {
    let mut state = Vec::new();
    let last = pieces.len() - 1;
    let edit = |(index, text): (usize, &&str)| {
        let finish = (index == last).then(|| finish.to_owned());
        let piece = Piece { choice: 0, text: (*text).into(), finish, state: state.clone() };
        let edited = shape(settings, &answer("req-1"), piece);
        state = edited.state;
        edited.text
    };
    pieces.iter().enumerate().map(edit).collect()
}

/// What is sent for `text`, in one piece; checks that it is the same however a stream cuts it.
fn whole(settings: &Settings, text: &str, finish: &str) -> String {
    let expected = sent(settings, &[text], finish).concat();
    for (cut, _) in text.char_indices() {
        let (head, tail) = text.split_at(cut);
        assert_eq!(sent(settings, &[head, tail], finish).concat(), expected, "{text:?} at {cut}");
        assert_eq!(
            sent(settings, &[head, tail, ""], finish).concat(),
            expected,
            "{text:?} at {cut}"
        );
    }
    let chars: Vec<String> = text.chars().map(String::from).collect();
    let chars: Vec<&str> = chars.iter().map(String::as_str).chain([""]).collect();
    assert_eq!(sent(settings, &chars, finish).concat(), expected, "{text:?} by characters");
    expected
}

#[test]
fn an_answer_is_not_changed_without_need() {
    for json in ["{}", PHRASES, r#"{"close": {"brackets": true}}"#] {
        let settings = settings(json);
        for text in ["", "Hi", "```\ncode\n```", "  Surely not", "{\"a\": 1}", "Ünïcode 🦀", "\n\n"]
        {
            assert_eq!(whole(&settings, text, "stop"), text, "{json}");
            assert_eq!(whole(&settings, text, "length"), text, "{json}");
        }
        assert_eq!(whole(&settings, "```\ncode {", "stop"), "```\ncode {");
    }
}

#[test]
fn deltas_go_on_at_once_when_there_is_no_phrase() {
    let pieces = ["Hel", "lo", " world", ""];
    assert_eq!(sent(&settings("{}"), &pieces, "stop"), pieces);
    assert_eq!(sent(&settings(PHRASES), &pieces, "stop"), pieces);
}

#[test]
fn a_truncated_answer_is_closed() {
    let usual = settings("{}");
    assert_eq!(whole(&usual, "See:\n```py\nprint(", "length"), "See:\n```py\nprint(\n```");
    assert_eq!(whole(&usual, "{\"a\": [1", "length"), "{\"a\": [1");
    let all = settings(r#"{"close": {"fences": true, "brackets": true}}"#);
    assert_eq!(whole(&all, "{\"a\": [\"ü", "length"), "{\"a\": [\"ü\"]}");
    let none = settings(r#"{"close": {"fences": false}}"#);
    assert_eq!(whole(&none, "```\ncode", "length"), "```\ncode");
}

#[test]
fn nothing_is_closed_twice() {
    let settings = settings("{}");
    let first = Piece {
        choice: 0,
        text: "```\ncode".into(),
        finish: Some("length".into()),
        state: Vec::new(),
    };
    let state = shape(&settings, &answer("a"), first.clone()).state;
    let again = Piece { text: String::new(), state, ..first };
    assert_eq!(shape(&settings, &answer("a"), again).text, "");
}

#[test]
fn an_opening_phrase_is_stripped() {
    let settings = settings(PHRASES);
    for (text, expected) in [
        ("Certainly! here you are", "Here you are"),
        ("certainly! Here", "Here"),
        ("\n\n Certainly!\n\nélan", "Élan"),
        ("Sure, I can", "I can"),
        ("Sure, here it is: x", "X"),
        ("Sure, here it was", "Here it was"),
        ("Natürlich! gern", "Gern"),
        ("Certainly!```\nx\n```", "```\nx\n```"),
        ("Well done", "Done"),
    ] {
        assert_eq!(whole(&settings, text, "stop"), expected, "{text:?}");
    }
}

#[test]
fn what_only_begins_like_a_phrase_stays() {
    let settings = settings(PHRASES);
    for text in [
        "Certainly",
        "Certainly not",
        "Sure",
        "Sur",
        "Wellington",
        "Well, no",
        "NATÜRLICH! Ja",
        "It is. Certainly! Yes",
        "Of courses",
        " ",
        "\u{2003}\u{2003}",
    ] {
        assert_eq!(whole(&settings, text, "stop"), text, "{text:?}");
    }
}

#[test]
fn an_answer_of_nothing_but_a_phrase_stays() {
    let settings = settings(PHRASES);
    for text in ["Certainly!", "Certainly!\n", "  Sure,", "Sure, here it is:"] {
        assert_eq!(whole(&settings, text, "stop"), text, "{text:?}");
    }
}

#[test]
fn text_is_held_back_no_longer_than_needed() {
    let settings = settings(PHRASES);
    assert_eq!(sent(&settings, &["Cert", "ain", "ty", "!"], "stop"), ["", "", "Certainty", "!"]);
    assert_eq!(sent(&settings, &["Certainly!", " ", "no", "w"], "stop"), ["", "", "No", "w"]);
    assert_eq!(sent(&settings, &["Of course", ",", " x"], "stop")[0], "");
    let space = " ".repeat(200);
    let held = sent(&settings, &[&space, &space, "x"], "stop");
    assert_eq!(held, ["", &space.repeat(2), "x"], "white space without end is let go");
}

#[test]
fn an_opening_phrase_is_varied_by_request() {
    let settings = settings(PHRASES);
    let varied = |id: &str, choice| {
        let text = " Of course! Here".to_owned();
        let piece = Piece { choice, text, finish: Some("stop".into()), state: Vec::new() };
        shape(&settings, &answer(id), piece).text
    };
    let mut seen: Vec<String> = (0..50).map(|id| varied(&format!("req-{id}"), 0)).collect();
    assert_eq!(seen[0], varied("req-0", 0), "the same request is answered the same");
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [" Gladly! Here", " Yes! Here"]);
    whole(&settings, "Of course, here", "stop");
    assert_ne!(whole(&settings, "Of course", "stop"), "Of course");
}

#[test]
fn choices_do_not_mix() {
    let settings = settings("{}");
    let piece = |choice, text: &str, finish: Option<&str>, state: Vec<u8>| {
        let (text, finish) = (text.into(), finish.map(str::to_owned));
        shape(&settings, &answer("a"), Piece { choice, text, finish, state })
    };
    let first = piece(0, "```\n", None, Vec::new());
    let second = piece(1, "plain", None, Vec::new());
    assert_eq!(piece(1, "", Some("length"), second.state).text, "");
    assert_eq!(piece(0, "", Some("length"), first.state).text, "```");
}

#[test]
fn a_state_that_makes_no_sense_counts_as_none() {
    let settings = settings(PHRASES);
    let valid = {
        let piece = Piece { choice: 0, text: "Sure".into(), finish: None, state: Vec::new() };
        shape(&settings, &answer("a"), piece).state
    };
    assert_ne!(State::decode(&valid), State::default());
    for cut in 0..valid.len() - "Sure".len() {
        assert_eq!(State::decode(&valid[..cut]), State::default(), "{cut}");
    }
    // Whatever the bytes are, the text goes on.
    for at in 0..valid.len() {
        for byte in 0..=u8::MAX {
            let mut state = valid.clone();
            state[at] = byte;
            let finish = Some("length".to_owned());
            let piece = Piece { choice: 0, text: "[x".into(), finish, state };
            assert!(shape(&settings, &answer("a"), piece).text.contains("[x"), "{at} {byte}");
        }
    }
    let noise = Piece { choice: 0, text: "x".into(), finish: None, state: vec![0xff; 70_000] };
    assert_eq!(shape(&settings, &answer("a"), noise).text, "x");
}

#[test]
fn a_state_stays_small() {
    let settings = settings(r#"{"close": {"brackets": true}}"#);
    let text = "[".repeat(1_000_000);
    let piece = Piece { choice: 0, text, finish: None, state: Vec::new() };
    assert!(shape(&settings, &answer("a"), piece).state.len() < 1_024);
}

#[test]
fn a_client_that_waits_is_told_after_a_while() {
    let waiting = settings(r#"{"waiting": {"after_ms": 5000, "text": "Still loading… "}}"#);
    assert_eq!(waiting.waiting_text(4_999), None);
    assert_eq!(waiting.waiting_text(5_000).as_deref(), Some("Still loading… "));
    assert_eq!(settings("{}").waiting_text(u64::MAX), None);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_key() {
    for (json, part) in [
        (r#"{"closed": {}}"#, "closed"),
        (r#"{"close": {"braces": true}}"#, "braces"),
        (r#"{"openings": {"strip": ["a", " b"]}}"#, "openings.strip[1]: expected a phrase"),
        (r#"{"openings": {"strip": [""]}}"#, "openings.strip[0]"),
        (r#"{"openings": {"vary": [{"from": "", "to": ["a"]}]}}"#, "openings.vary[0].from"),
        (r#"{"openings": {"vary": [{"from": "a", "to": []}]}}"#, "openings.vary[0].to: expected"),
        (r#"{"openings": {"vary": [{"from": "a", "to": [" "]}]}}"#, "openings.vary[0].to"),
        (r#"{"waiting": {"after_ms": 1, "text": ""}}"#, "waiting.text: expected a text"),
        (r#"{"waiting": {"text": "a"}}"#, "missing field `after_ms`"),
    ] {
        set_config(json);
        let text = ResponseShaper::describe().unwrap_err();
        assert!(text.contains(part), "{json}: {text}");
    }
    set_config("{}");
    assert_eq!(ResponseShaper::describe().unwrap().name, "response-shaper");
}
