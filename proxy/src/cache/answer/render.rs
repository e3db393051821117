//! Writes events as one body; `stream` writes them as a stream.

mod stream;

pub(super) use self::stream::stream;

use serde::Serialize;

use super::Form;
use super::event::{Choice, Events, Member, Part, Prefix};
use super::json::Json;
use super::logprobs;
use super::template::{Page, Template};
use super::tree::Tree;

/// The answer as one JSON document.
pub(super) fn whole(form: Form, events: &Events) -> Template {
    let mut page = Page::with_capacity(events.size());
    page.put("{\"id\":");
    page.id(events.prefix);
    let object = if form == Form::Chat { "chat.completion" } else { "text_completion" };
    top(&mut page, object, &events.model);
    latest(&events.head).for_each(|member| put_member(&mut page, &member.name, &member.value));
    page.put(",\"choices\":[");
    for (at, choice) in events.choices.iter().enumerate() {
        page.put(if at > 0 { "," } else { "" });
        whole_choice(&mut page, form, choice);
    }
    page.put("]");
    if let Some(usage) = &events.usage {
        put_member(&mut page, "usage", usage);
    }
    page.put("}");
    page.finish()
}

fn whole_choice(page: &mut Page, form: Form, choice: &Choice) {
    page.put("{\"index\":");
    page.json(&choice.index);
    match form {
        Form::Chat => {
            page.put(",\"message\":");
            page.json(&message(choice));
        }
        Form::Completions | Form::Raw => {
            page.put(",\"text\":");
            page.json(&text(choice));
        }
    }
    let columns = choice.events.iter().filter_map(|event| event.logprobs.as_deref());
    // Joining what was joined before cannot fail.
    let columns = logprobs::join(columns).unwrap_or_default();
    put_logprobs(page, Some(&*columns).filter(|columns| !columns.is_empty()), choice.nulls);
    latest(&choice.members).for_each(|member| put_member(page, &member.name, &member.value));
    page.put(",\"finish_reason\":");
    page.json(&choice.finish);
    page.put("}");
}

/// What an SDK has put together when the stream is over.
fn message(choice: &Choice) -> Tree {
    let mut members: Vec<(Box<str>, Tree)> = Vec::new();
    let mut calls = Vec::new();
    for name in ["role", "content"] {
        members.push((name.into(), Tree::Leaf(Json::null())));
    }
    for (name, value) in &choice.opening {
        // No call is no member, as the SDKs' types have it.
        if !matches!(&**name, "tool_calls" | "function_call") {
            *slot(&mut members, name) = Tree::Leaf(value.clone());
        }
    }
    for event in &choice.events {
        match &event.part {
            Part::Text(name, text) => match slot(&mut members, name) {
                Tree::Text(known) => known.push_str(text),
                other => *other = Tree::Text(text.clone()),
            },
            Part::Value(name, value) => {
                // What cannot be taken apart is replaced.
                let value = Tree::read(value.get()).unwrap_or_else(|_| Tree::Leaf(value.clone()));
                slot(&mut members, name).merge("", value);
            }
            Part::Call(call) => calls.push(call.unnumbered()),
            Part::Function(call) => slot(&mut members, "function_call").merge("", call.clone()),
            Part::Bare => {}
        }
    }
    let is_call = !calls.is_empty() || members.iter().any(|(name, _)| &**name == "function_call");
    if !calls.is_empty() {
        members.push(("tool_calls".into(), Tree::List(calls)));
    }
    for (name, value) in &mut members {
        let Tree::Leaf(json) = &value else { continue };
        match &**name {
            "role" if json.is_null() => *value = Tree::Text("assistant".into()),
            // Servers that send empty text before calls have none in their whole answers.
            "content" if is_call => *value = Tree::Leaf(Json::null()),
            _ => {}
        }
    }
    Tree::Map(members)
}

fn slot<'a>(members: &'a mut Vec<(Box<str>, Tree)>, name: &str) -> &'a mut Tree {
    let at = members.iter().position(|(known, _)| &**known == name).unwrap_or_else(|| {
        members.push((name.into(), Tree::Leaf(Json::null())));
        members.len() - 1
    });
    &mut members[at].1
}

fn text(choice: &Choice) -> String {
    let texts = choice.events.iter().filter_map(|event| match &event.part {
        Part::Text(_, text) => Some(&**text),
        Part::Call(_) | Part::Function(_) | Part::Value(..) | Part::Bare => None,
    });
    texts.collect()
}

/// A text as one document, as OpenAI would have written it.
pub(super) fn text_whole(form: Form, model: &str, text: &str) -> Template {
    let mut page = Page::with_capacity(text.len() + 384);
    let chat = form == Form::Chat;
    page.put("{\"id\":");
    page.id(Prefix::of(form, ""));
    top(&mut page, if chat { "chat.completion" } else { "text_completion" }, model);
    page.put(",\"choices\":[{\"index\":0,");
    page.put(if chat { "\"message\":{\"role\":\"assistant\",\"content\":" } else { "\"text\":" });
    page.json(text);
    page.put(if chat { ",\"refusal\":null}" } else { "" });
    page.put(",\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":");
    page.put("{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}}");
    page.finish()
}

/// The last value of each member.
fn latest(members: &[Member]) -> impl Iterator<Item = &Member> {
    let is_latest = |at: usize, name: &str| members[at + 1..].iter().all(|m| &*m.name != name);
    let all = members.iter().enumerate();
    all.filter(move |(at, member)| is_latest(*at, &member.name)).map(|(_, member)| member)
}

fn top(page: &mut Page, object: &str, model: &str) {
    page.put(",\"object\":\"");
    page.put(object);
    page.put("\",\"created\":");
    page.created();
    page.put(",\"model\":");
    page.json(model);
}

fn put_logprobs(page: &mut Page, columns: Option<&[(Box<str>, Json)]>, nulls: bool) {
    match columns {
        Some(columns) => {
            page.put(",\"logprobs\":{");
            put_members(page, columns.iter().map(|(name, value)| (&**name, value)));
            page.put("}");
        }
        None if nulls => page.put(",\"logprobs\":null"),
        None => {}
    }
}

fn put_members<'a>(page: &mut Page, members: impl Iterator<Item = (&'a str, &'a Json)>) {
    let mut comma = "";
    for (name, value) in members {
        page.put(comma);
        comma = ",";
        page.json(name);
        page.put(":");
        page.json(value);
    }
}

fn put_member<T: Serialize + ?Sized>(page: &mut Page, name: &str, value: &T) {
    page.put(",");
    page.json(name);
    page.put(":");
    page.json(value);
}
