//! Whatever a plugin decides about whatever body: it is refused in words, or the body is JSON again
//! that differs only in what was to change. And an answer's text goes back to where it was.

use serde_json::Value as Json;
use sluicegate::plugin::document::{Document, Form};
use sluicegate::plugin::{answer, decision, edit};
use sluicegate_plugin_host::rewriter::{Edit, Insertion};
use sluicegate_plugin_host::router::{Ranked, Ranking};
use sluicegate_plugin_host::types::{Rejection, Role, Value};

pub(crate) const SEEDS: &[&[u8]] = &[
    br#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}],"seed":9007199254740993}"#,
    br#"{"system":[{"type":"text","text":"s"}],"messages":[{"role":"assistant","tool_calls":[{"id":"c"}]},{"role":"tool","tool_call_id":"c"}]}"#,
    br#"{"instructions":"i","input":[{"type":"function_call","call_id":"c"},{"type":"function_call_output","call_id":"c","output":"o"}]}"#,
    br#"{"prompt":"p","Prompt":"q","options":{"temperature":0.5,"num_predict":1e999}}"#,
    br#"{"choices":[{"index":0,"delta":{"content":"a\u00e4"},"finish_reason":null}]}"#,
    br#"{"message":{"role":"assistant","content":"t"},"done":true,"response":"r"}"#,
];

const FORMS: [Form; 6] =
    [Form::Chat, Form::Messages, Form::Responses, Form::Prompt, Form::Generate, Form::Other];
const NAMES: [&str; 6] = ["temperature", "Seed", "model", "", "a\"b", "system"];

pub(crate) fn check(input: &[u8], rng: &mut fastrand::Rng) {
    decisions(rng);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let slots = answer::slots(text);
    let same: Vec<String> = slots.iter().map(|slot| slot.text.clone()).collect();
    assert_eq!(answer::fill(text, &slots, &same), text);
    let Ok(before) = serde_json::from_str::<Json>(text) else { return };
    let other = vec!["\"new\"\n".to_owned(); slots.len()];
    serde_json::from_str::<Json>(&answer::fill(text, &slots, &other)).expect("JSON again");
    if !before.is_object() {
        return;
    }
    for form in FORMS {
        let Ok(document) = Document::parse(form, input) else { continue };
        let _ = document.shape();
        let _ = document.parameters();
        assert_ne!(document.conversation("c"), 0);
        let edits: Vec<Edit> = (0..rng.usize(..5)).map(|_| any_edit(rng)).collect();
        let Ok((body, _)) = edit::apply(&document, &edits) else { continue };
        let after: Json = serde_json::from_slice(&body).expect("JSON again");
        if edits.is_empty() {
            assert_eq!(after, before);
        }
        let model = |json: &Json| json.get("model").cloned();
        assert_eq!(model(&after), model(&before), "the model is no edit's to change");
    }
}

fn any_edit(rng: &mut fastrand::Rng) -> Edit {
    let name = NAMES[rng.usize(..NAMES.len())].to_owned();
    let index = rng.u32(..4);
    match rng.u8(..7) {
        0 => Edit::SetParameter((name, any_value(rng))),
        1 => Edit::RemoveParameter(name),
        2 => Edit::InsertMessage(Insertion {
            before: index,
            role: if rng.bool() { Role::System } else { Role::User },
            text: "in\"serted".into(),
        }),
        3 => Edit::ReplaceText((index, "re\"placed".into())),
        4 => Edit::DropMessage(index),
        5 => Edit::KeepLast(index),
        _ => Edit::SetModel(name),
    }
}

fn any_value(rng: &mut fastrand::Rng) -> Value {
    match rng.u8(..4) {
        0 => Value::Boolean(rng.bool()),
        1 => Value::Integer(rng.i64(..)),
        2 => Value::Number(f64::from_bits(rng.u64(..))),
        _ => Value::Text("te\"xt".into()),
    }
}

fn decisions(rng: &mut fastrand::Rng) {
    let count = rng.usize(..4);
    let any = |rng: &mut fastrand::Rng| Ranked {
        target: rng.u32(..5),
        weight: if rng.bool() { f64::from_bits(rng.u64(..)) } else { rng.f64() },
    };
    let ranking = Ranking {
        targets: (0..rng.usize(..5)).map(|_| any(rng)).collect(),
        reason: (0..rng.usize(..70)).map(|_| char::from(rng.u8(..))).collect(),
        defaults: Vec::new(),
        labels: Vec::new(),
    };
    if let Ok(order) = decision::order(ranking, count) {
        assert!(!order.targets.is_empty() && order.targets.iter().all(|index| *index < count));
        assert!(order.reason.is_ascii() && !order.reason.contains(['\r', '\n']));
    }
    let given = Rejection { status: rng.u16(..), code: "c".into(), message: "m".into() };
    if let Ok(rejection) = decision::rejection(given) {
        assert!((400..600).contains(&rejection.status));
    }
}
