//! Whole bodies: where their `id` and `created` stand, and the events they consist of.
//!
//! A body is kept as it came, so that all it says, and the order it says it in, comes back.

use std::str;

use super::assemble;
use super::choice::Open;
use super::event::{Choice, Events, Member, Place, Prefix};
use super::json::{self, Json, Members};
use super::template::{Page, Template};
use super::tree::Tree;
use super::{Form, Unfit};

/// Texts that come before the answer.
const REASONING: [&str; 3] = ["reasoning", "reasoning_content", "thinking"];
/// Members that all chunks have; others stand in the last one, for they may be long.
const EVERYWHERE: [&str; 2] = ["system_fingerprint", "service_tier"];

/// What a body says of itself.
pub(super) struct Head {
    pub(super) model: Box<str>,
    pub(super) counts: (Option<u64>, Option<u64>),
}

/// A body, whose `members` these are, with its places. What the upstream put there is not kept.
pub(super) fn page(
    form: Form,
    text: &str,
    members: &Members<'_>,
) -> Result<(Template, Head), Unfit> {
    if json::is_error(members) {
        return Err(Unfit::Error);
    }
    let mut page = Page::with_capacity(text.len());
    let mut from = 0;
    for (name, raw) in members.iter() {
        if form == Form::Raw || !matches!(name, "id" | "created") {
            continue;
        }
        // Members borrow from the text they were read from.
        let start = raw.as_ptr() as usize - text.as_ptr() as usize;
        page.put(&text[from..start]);
        match name {
            "id" => page.id(Prefix::of(form, &json::string(raw).unwrap_or_default())),
            _ => page.created(),
        }
        from = start + raw.len();
    }
    page.put(&text[from..]);
    let model = json::optional_string(members.get("model"))?.unwrap_or_default();
    let counts = members.get("usage").map_or((None, None), json::counts);
    Ok((page.finish(), Head { model: Box::from(&*model), counts }))
}

/// Whether a body that is given back as it is has anything in it.
pub(super) fn check_raw(members: &Members<'_>) -> Result<(), Unfit> {
    let data = json::items(members.get("data").ok_or(Unfit::Unreadable)?)?;
    match data.is_empty() {
        true => Err(Unfit::Empty),
        false => Ok(()),
    }
}

/// The events that a stream of the same answer would have had.
pub(super) fn events(form: Form, members: &Members<'_>) -> Result<Events, Unfit> {
    let id = json::optional_string(members.get("id"))?.unwrap_or_default();
    let model = json::optional_string(members.get("model"))?.unwrap_or_default();
    let (mut head, mut choices, mut usage) = (Vec::new(), Vec::new(), None);
    for (name, raw) in members.iter() {
        match name {
            "id" | "object" | "created" | "model" | "error" => {}
            "usage" if json::is_null(raw) => {}
            "usage" => usage = Some(Json::of(raw)),
            "choices" => {
                for (at, members) in json::objects(raw)?.iter().enumerate() {
                    choices.push(choice(form, at, members)?);
                }
            }
            _ => {
                let every = EVERYWHERE.contains(&name);
                let place = if every { Place::Every } else { Place::Last };
                head.push(Member { name: name.into(), value: Json::of(raw), place });
            }
        }
    }
    choices.sort_by_key(|choice| choice.index);
    if choices.windows(2).any(|pair| pair[0].index == pair[1].index) {
        return Err(Unfit::Unreadable);
    }
    let prefix = Prefix::of(form, &id);
    Ok(Events { prefix, model: Box::from(&*model), head, choices, usage })
}

fn choice(form: Form, at: usize, members: &Members<'_>) -> Result<Choice, Unfit> {
    let mut open = Open::new(assemble::index(at, members)?);
    let logprobs = members.get("logprobs");
    match form {
        Form::Chat => {
            let message = members.get("message").ok_or(Unfit::Unreadable)?;
            message_deltas(&mut open, &Members::read(message)?, logprobs)?;
        }
        Form::Completions | Form::Raw => {
            open.member("text", members.get("text").ok_or(Unfit::Unreadable)?)?;
            logprobs.map_or(Ok(()), |raw| open.logprobs(raw))?;
        }
    }
    for (name, raw) in members.iter() {
        match (form, name) {
            (_, "index" | "logprobs") => {}
            (Form::Chat, "message") | (Form::Completions | Form::Raw, "text") => {}
            (_, "finish_reason") => open.finish_reason(raw)?,
            _ => open.last(name, raw)?,
        }
    }
    open.finish()
}

/// The members of a message in the order in which they would have been streamed.
fn message_deltas(
    open: &mut Open,
    message: &Members<'_>,
    logprobs: Option<&str>,
) -> Result<(), Unfit> {
    let rank = |name: &str| match name {
        "role" => 0,
        name if REASONING.contains(&name) => 1,
        "content" => 2,
        "refusal" => 3,
        "tool_calls" | "function_call" => 5,
        _ => 4,
    };
    let mut members: Vec<_> = message.iter().map(|(name, raw)| (rank(name), name, raw)).collect();
    // Stable: what is of one rank keeps its order.
    members.sort_by_key(|(rank, ..)| *rank);
    let text = members.partition_point(|(rank, ..)| *rank <= 3);
    for (_, name, raw) in &members[..text] {
        open.member(name, raw)?;
    }
    // They belong to the text; to the calls only where there is none.
    if open.has_events() {
        logprobs.map_or(Ok(()), |raw| open.logprobs(raw))?;
        return members[text..].iter().try_for_each(|(_, name, raw)| member(open, name, raw));
    }
    members[text..].iter().try_for_each(|(_, name, raw)| member(open, name, raw))?;
    logprobs.map_or(Ok(()), |raw| open.logprobs(raw))
}

fn member(open: &mut Open, name: &str, raw: &str) -> Result<(), Unfit> {
    if name != "tool_calls" || !raw.starts_with('[') {
        return open.member(name, raw);
    }
    // In a stream each call has a number; in a whole body only Ollama gives them one.
    let calls = json::items(raw)?;
    for (at, raw) in calls.into_iter().enumerate() {
        let mut call = Tree::read(raw)?;
        call.number(at)?;
        open.whole_call(call)?;
    }
    Ok(())
}
