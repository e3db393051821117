//! Native lines to the events of a response of OpenAI's
//! (<https://platform.openai.com/docs/api-reference/responses-streaming>).

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::About;
use super::super::answer::{EMPTY, Line, ToolCall};
use super::super::chunks::Failure;
use super::super::events;
use super::super::json;
use super::super::texts::{inner, quoted};
use super::answer::{End, Ids, Item, Part, failed, whole};

/// The longest answer repeated at its end, in bytes.
const MAX_HELD: usize = 64 * 1024 * 1024;

/// Writes the events of one response.
#[derive(Debug)]
pub struct Events {
    about: About,
    /// The number of the next event.
    number: u64,
    /// The item that is open.
    open: Option<Open>,
    /// Items that are whole; the last event has them all.
    output: Vec<Box<RawValue>>,
    /// Bytes of the answer so far.
    held: usize,
}

/// An item to which more is added; calls come whole.
#[derive(Debug)]
struct Open {
    kind: Kind,
    id: String,
    /// What it says so far, as it is spelt in JSON.
    said: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
}

impl Events {
    /// A writer at the start of a response.
    #[must_use]
    pub fn new(about: About) -> Self {
        Self { about, number: 0, open: None, output: Vec::new(), held: 0 }
    }

    /// Appends to `out` the events of what a line adds.
    ///
    /// # Errors
    /// When it is not as Ollama's are, or the answer is too long.
    pub fn content(&mut self, line: &Line<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let (said, thought, calls) = (line.content()?, line.thinking()?, line.tool_calls(0)?);
        self.begin(out);
        if let Some(thought) = thought {
            self.delta(Kind::Reasoning, thought, out)?;
        }
        if said.get() != EMPTY {
            self.delta(Kind::Message, &said, out)?;
        }
        calls.iter().try_for_each(|call| self.call(call, out))
    }

    /// The events that end a response.
    pub fn finish(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let end = End::of(line);
        self.close(end.status(), out);
        let name = match end.status() {
            "incomplete" => "response.incomplete",
            _ => "response.completed",
        };
        let response = whole(&self.about, &self.output, Some(&end));
        self.event(name, &Of { response: &response }, out);
    }

    /// The events that tell of an error: Codex reads the first, OpenAI's SDKs raise on the second.
    pub fn failure(&mut self, error: &RawValue, out: &mut Vec<u8>) {
        let response = failed(&self.about, &self.output, error);
        self.event("response.failed", &Of { response: &response }, out);
        self.event("error", &Failure::of(error), out);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.number > 0 {
            return;
        }
        let response = whole(&self.about, &[], None);
        self.event("response.created", &Of { response: &response }, out);
        self.event("response.in_progress", &Of { response: &response }, out);
    }

    fn delta(&mut self, kind: Kind, words: &RawValue, out: &mut Vec<u8>) -> Result<(), String> {
        self.hold(words.get().len())?;
        let mut open = match self.open.take() {
            Some(open) if open.kind == kind => open,
            other => {
                self.open = other;
                self.close("completed", out);
                self.start(kind, out)
            }
        };
        let at = At { item_id: &open.id, output_index: self.output.len() };
        match kind {
            Kind::Reasoning => {
                let delta = OfSummary { at, summary_index: 0, delta: Some(words), text: None };
                self.event("response.reasoning_summary_text.delta", &delta, out);
            }
            Kind::Message => {
                let delta =
                    OfText { at, content_index: 0, delta: Some(words), text: None, logprobs: [] };
                self.event("response.output_text.delta", &delta, out);
            }
        }
        open.said.push_str(inner(words));
        self.open = Some(open);
        Ok(())
    }

    fn hold(&mut self, more: usize) -> Result<(), String> {
        self.held = self.held.saturating_add(more);
        if self.held > MAX_HELD {
            return Err("the upstream's answer is too long".into());
        }
        Ok(())
    }

    fn start(&mut self, kind: Kind, out: &mut Vec<u8>) -> Open {
        let ids = Ids::of(&self.about);
        let index = self.output.len();
        let id = match kind {
            Kind::Reasoning => ids.of_item("rs", index),
            Kind::Message => ids.of_item("msg", index),
        };
        let item = match kind {
            Kind::Reasoning => Item::reasoning(&id, None),
            Kind::Message => Item::message(&id, "in_progress", None),
        };
        self.event("response.output_item.added", &OfItem { output_index: index, item: &item }, out);
        let at = At { item_id: &id, output_index: index };
        let empty = json::raw(&"");
        match kind {
            Kind::Reasoning => {
                let part = Part::SummaryText { text: &empty };
                let part = OfSummaryPart { at, summary_index: 0, part };
                self.event("response.reasoning_summary_part.added", &part, out);
            }
            Kind::Message => {
                let part = OfPart { at, content_index: 0, part: Part::words(&empty) };
                self.event("response.content_part.added", &part, out);
            }
        }
        Open { kind, id, said: String::new() }
    }

    /// Ends the item that is open, in the state `status`.
    fn close(&mut self, status: &'static str, out: &mut Vec<u8>) {
        let Some(Open { kind, id, said }) = self.open.take() else { return };
        let words = quoted(&said);
        let at = At { item_id: &id, output_index: self.output.len() };
        let text = Some(&*words);
        let item = match kind {
            Kind::Reasoning => {
                let done = OfSummary { at, summary_index: 0, delta: None, text };
                self.event("response.reasoning_summary_text.done", &done, out);
                let part = Part::SummaryText { text: &words };
                let part = OfSummaryPart { at, summary_index: 0, part };
                self.event("response.reasoning_summary_part.done", &part, out);
                Item::reasoning(&id, text)
            }
            Kind::Message => {
                let done = OfText { at, content_index: 0, delta: None, text, logprobs: [] };
                self.event("response.output_text.done", &done, out);
                let part = OfPart { at, content_index: 0, part: Part::words(&words) };
                self.event("response.content_part.done", &part, out);
                Item::message(&id, status, text)
            }
        };
        self.done(&item, out);
    }

    fn call(&mut self, call: &ToolCall<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let arguments = &*call.function.arguments;
        self.hold(arguments.len())?;
        self.close("completed", out);
        let output_index = self.output.len();
        let id = Ids::of(&self.about).of_item("fc", output_index);
        let item = Item::call(&id, "in_progress", call, "");
        self.event("response.output_item.added", &OfItem { output_index, item: &item }, out);
        let at = At { item_id: &id, output_index };
        let delta = OfCall { at, delta: Some(arguments), arguments: None };
        self.event("response.function_call_arguments.delta", &delta, out);
        let done = OfCall { at, delta: None, arguments: Some(arguments) };
        self.event("response.function_call_arguments.done", &done, out);
        self.done(&Item::call(&id, "completed", call, arguments), out);
        Ok(())
    }

    fn done(&mut self, item: &Item<'_>, out: &mut Vec<u8>) {
        let done = OfItem { output_index: self.output.len(), item };
        self.event("response.output_item.done", &done, out);
        let item = json::raw(item);
        // What was added to it is counted already; this is the rest and more.
        self.held = self.held.saturating_add(item.get().len());
        self.output.push(item);
    }

    fn event(&mut self, name: &'static str, data: &impl Serialize, out: &mut Vec<u8>) {
        events::event(name, Some(self.number), data, out);
        self.number += 1;
    }
}

#[derive(Serialize)]
struct Of<'a> {
    response: &'a RawValue,
}

/// Which item an event is about.
#[derive(Clone, Copy, Serialize)]
struct At<'a> {
    item_id: &'a str,
    output_index: usize,
}

#[derive(Serialize)]
struct OfItem<'a> {
    output_index: usize,
    item: &'a Item<'a>,
}

#[derive(Serialize)]
struct OfPart<'a> {
    #[serde(flatten)]
    at: At<'a>,
    content_index: u32,
    part: Part<'a>,
}

#[derive(Serialize)]
struct OfSummaryPart<'a> {
    #[serde(flatten)]
    at: At<'a>,
    summary_index: u32,
    part: Part<'a>,
}

#[derive(Serialize)]
struct OfText<'a> {
    #[serde(flatten)]
    at: At<'a>,
    content_index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a RawValue>,
    logprobs: [(); 0],
}

#[derive(Serialize)]
struct OfSummary<'a> {
    #[serde(flatten)]
    at: At<'a>,
    summary_index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct OfCall<'a> {
    #[serde(flatten)]
    at: At<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
}
