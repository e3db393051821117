//! Writes events as a stream: a chunk for what comes before each choice, one for each event, one
//! for its end, then the usage.

use super::super::Form;
use super::super::event::{Choice, Event, Events, Member, Part, Place};
use super::super::template::{Page, Template};
use super::{put_logprobs, put_member, put_members, top};

/// The answer as server-sent events.
pub(in super::super) fn stream(form: Form, events: &Events, include_usage: bool) -> Template {
    let mut chunks = Chunks {
        page: Page::with_capacity(events.size() + 512),
        form,
        events,
        include_usage,
        first: true,
    };
    let last = events.choices.len().saturating_sub(1);
    for (at, choice) in events.choices.iter().enumerate() {
        chunks.choice(choice, at == last);
    }
    if let (true, Some(usage)) = (include_usage, &events.usage) {
        chunks.begin(false);
        chunks.page.put(",\"choices\":[],\"usage\":");
        chunks.page.json(usage);
        chunks.page.put("}\n\n");
    }
    chunks.page.put("data: [DONE]\n\n");
    chunks.page.finish()
}

struct Chunks<'a> {
    page: Page,
    form: Form,
    events: &'a Events,
    include_usage: bool,
    /// Nothing was written yet.
    first: bool,
}

/// What one chunk is for.
#[derive(Clone, Copy)]
enum Step<'a> {
    Opening,
    /// A delta, and members that come with it.
    Delta(&'a [Event]),
    Finish,
}

impl Chunks<'_> {
    fn choice(&mut self, choice: &Choice, is_last: bool) {
        let mut first = true;
        // A legacy chunk has its text or none.
        if self.form == Form::Chat && !choice.opening.is_empty() {
            self.chunk(choice, Step::Opening, first, false);
            first = false;
        }
        let mut rest = &choice.events[..];
        while !rest.is_empty() {
            let (delta, more) = rest.split_at(together(rest));
            self.chunk(choice, Step::Delta(delta), first, false);
            first = false;
            rest = more;
        }
        self.chunk(choice, Step::Finish, first, is_last);
    }

    fn chunk(&mut self, choice: &Choice, step: Step<'_>, first: bool, ends: bool) {
        self.begin(ends);
        let page = &mut self.page;
        page.put(",\"choices\":[{\"index\":");
        page.json(&choice.index);
        match (self.form, step) {
            (Form::Chat, Step::Opening) => {
                page.put(",\"delta\":{");
                put_members(page, choice.opening.iter().map(|(name, value)| (&**name, value)));
                page.put("}");
            }
            (Form::Chat, Step::Delta(delta)) => put_delta(page, delta),
            (Form::Chat, Step::Finish) => page.put(",\"delta\":{}"),
            (
                Form::Completions | Form::Raw,
                Step::Delta([Event { part: Part::Text(_, text), .. }, ..]),
            ) => {
                page.put(",\"text\":");
                page.json(text);
            }
            (Form::Completions | Form::Raw, _) => page.put(",\"text\":\"\""),
        }
        let columns = match step {
            Step::Delta([event, ..]) => event.logprobs.as_deref(),
            Step::Delta([]) | Step::Opening | Step::Finish => None,
        };
        put_logprobs(page, columns, choice.nulls);
        let last = matches!(step, Step::Finish);
        for member in choice.members.iter().filter(|member| stands(member, first, last)) {
            put_member(page, &member.name, &member.value);
        }
        page.put(",\"finish_reason\":");
        match step {
            Step::Finish => page.json(&choice.finish),
            Step::Opening | Step::Delta(_) => page.put("null"),
        }
        page.put("}]");
        page.put(if self.include_usage { ",\"usage\":null}\n\n" } else { "}\n\n" });
    }

    /// The members that each chunk begins with.
    fn begin(&mut self, ends: bool) {
        let page = &mut self.page;
        page.put("data: {\"id\":");
        page.id(self.events.prefix);
        let chat = self.form == Form::Chat;
        top(
            page,
            if chat { "chat.completion.chunk" } else { "text_completion" },
            &self.events.model,
        );
        for member in self.events.head.iter().filter(|member| stands(member, self.first, ends)) {
            put_member(page, &member.name, &member.value);
        }
        self.first = false;
    }
}

/// How many events go into one chunk: a value stands beside the text it came with.
fn together(events: &[Event]) -> usize {
    let name = |event: &Event| match &event.part {
        Part::Value(name, _) if event.logprobs.is_none() => Some(name.clone()),
        Part::Text(..) | Part::Call(_) | Part::Function(_) | Part::Value(..) | Part::Bare => None,
    };
    let mut names: Vec<Box<str>> = events.first().and_then(name).into_iter().collect();
    for event in events.iter().skip(1) {
        match name(event) {
            Some(name) if !names.contains(&name) => names.push(name),
            _ => break,
        }
    }
    1.max(names.len() + usize::from(events.first().is_some_and(|event| name(event).is_none())))
}

fn put_delta(page: &mut Page, delta: &[Event]) {
    page.put(",\"delta\":{");
    let mut comma = "";
    for event in delta {
        let name = match &event.part {
            Part::Text(name, _) | Part::Value(name, _) => name,
            Part::Call(_) => "tool_calls",
            Part::Function(_) => "function_call",
            Part::Bare => continue,
        };
        page.put(comma);
        comma = ",";
        page.json(name);
        page.put(":");
        match &event.part {
            Part::Text(_, text) => page.json(text),
            Part::Value(_, value) => page.json(value),
            Part::Call(call) => page.json(&[call]),
            Part::Function(call) => page.json(call),
            Part::Bare => {}
        }
    }
    page.put("}");
}

fn stands(member: &Member, first: bool, last: bool) -> bool {
    match member.place {
        Place::Every => true,
        Place::First => first,
        Place::Last => last,
    }
}
