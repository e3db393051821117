//! The stored answer: what an upstream said, once, and its replay as JSON or as a stream.
//!
//! An answer that came whole is kept as its body, with blanks for `id` and `created`; one that
//! came as a stream is kept as the list of its events, with deltas of one kind joined. Either
//! gives both forms. Invariant: nothing is kept whose replay an SDK would put together to
//! something else than the original; where that is in doubt the answer is [`Unfit`], and the
//! price is a miss. Members that nobody here knows are passed on in their own spelling.
//!
//! What is not kept: `obfuscation`, the bounds of the deltas, and the order in which several
//! choices took turns.
//!
//! # Layout
//! * `json`: values in their own spelling, members of objects
//! * `tree`: values that come in fragments
//! * `event`: the event list
//! * `feed`: data of server-sent events
//! * `spread`: which chunks have a member
//! * `logprobs`: lists that come in pieces
//! * `choice`: deltas → events of a choice
//! * `assemble`: streams → events
//! * `whole`: bodies → events
//! * `render`: events → body; `render/stream`: events → stream
//! * `template`: rendered answers with blanks
//! * `codec`: the form for Redis and disk

mod assemble;
mod choice;
mod codec;
mod event;
mod feed;
mod json;
mod logprobs;
mod render;
mod spread;
mod template;
mod tree;
mod whole;

use std::borrow::Cow;
use std::str;

use serde::{Deserialize, Serialize};

pub use self::template::Template;

use self::codec::Record;
use self::event::Events;
use self::json::Members;

/// The most an answer may take, in bytes. Longer ones are rare, and seldom asked for twice.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Chat completions.
    Chat,
    /// Legacy completions.
    Completions,
    /// A body that is given back as it is, as of embeddings: a list in `data`, no stream.
    Raw,
}

/// Why an answer is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// The stream did not end with `[DONE]`, or a choice was not finished.
    Incomplete,
    /// It was cut by a limit or a filter: only `stop`, `tool_calls` and `function_call` are kept.
    Finish,
    /// There is no choice, or one that has neither content, nor a call, nor a refusal.
    Empty,
    /// Over [`MAX_BYTES`], or more choices, events or names than are searched through.
    TooLarge,
    /// Not the JSON that was expected, or such as clients read differently.
    Unreadable,
    /// It is an error, or became one on the way.
    Error,
}

impl Unfit {
    /// The reason in one word, for a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Unfit::Incomplete => "incomplete",
            Unfit::Finish => "finish",
            Unfit::Empty => "empty",
            Unfit::TooLarge => "too_large",
            Unfit::Unreadable => "unreadable",
            Unfit::Error => "error",
        }
    }
}

/// An answer that can be given again.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    form: Form,
    kept: Kept,
    model: Box<str>,
    counts: (Option<u64>, Option<u64>),
}

#[derive(Clone, Debug, PartialEq)]
enum Kept {
    /// It came whole.
    Body(Template),
    /// It came as a stream.
    Events(Box<Events>),
}

impl Answer {
    /// Reads a body that came whole.
    ///
    /// # Errors
    /// Says why it is not to be stored.
    pub fn of_whole(form: Form, body: &[u8]) -> Result<Self, Unfit> {
        let text = str::from_utf8(body.trim_ascii()).map_err(|_| Unfit::Unreadable)?;
        let members = Members::read(text)?;
        let answer = Self::of_body(form, text, &members)?;
        match form {
            Form::Raw => whole::check_raw(&members)?,
            Form::Chat | Form::Completions => whole::events(form, &members)?.check()?,
        }
        answer.within_bounds()
    }

    /// Reads a stream as it was sent to the client. `usage` is the event that was held back
    /// because the client had not asked for it.
    ///
    /// # Errors
    /// Says why it is not to be stored; a [`Form::Raw`] has no streams.
    pub fn of_stream(form: Form, events: &[u8], usage: Option<&[u8]>) -> Result<Self, Unfit> {
        if form == Form::Raw {
            return Err(Unfit::Unreadable);
        }
        let events = assemble::assemble(form, events, usage)?;
        events.check()?;
        Self::of_events(form, events).within_bounds()
    }

    /// An answer that an operator wrote. A [`Form::Raw`] has no place for a text: it becomes chat.
    #[must_use]
    pub fn of_text(form: Form, model: &str, text: &str) -> Self {
        let form = if form == Form::Completions { form } else { Form::Chat };
        let page = render::text_whole(form, model, text);
        Self { form, kept: Kept::Body(page), model: model.into(), counts: (Some(0), Some(0)) }
    }

    /// The form for Redis and for the disk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (whole, events) = match &self.kept {
            Kept::Body(page) => (serde_json::from_slice(page.bytes()).ok(), None),
            Kept::Events(events) => (None, Some(&**events)),
        };
        codec::encode(&Record { form: self.form, whole, events })
    }

    /// Reads what [`Answer::encode`] wrote.
    ///
    /// # Errors
    /// Damaged, of another version, or not an answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unfit> {
        let record = codec::decode(bytes)?;
        match (record.whole, record.events) {
            (Some(body), None) => {
                let members = Members::read(body.get())?;
                let answer = Self::of_body(record.form, body.get(), &members)?;
                if record.form != Form::Raw {
                    whole::events(record.form, &members)?;
                }
                Ok(answer)
            }
            (None, Some(events)) if record.form != Form::Raw => {
                events.check()?;
                Ok(Self::of_events(record.form, events))
            }
            _ => Err(Unfit::Unreadable),
        }
    }

    /// The answer as one body.
    #[must_use]
    pub fn whole(&self) -> Template {
        match &self.kept {
            Kept::Body(page) => page.clone(),
            Kept::Events(events) => render::whole(self.form, events),
        }
    }

    /// The answer as a stream, with the usage only where it was asked for. A [`Form::Raw`] has
    /// none and comes as it is.
    #[must_use]
    pub fn stream(&self, include_usage: bool) -> Template {
        match self.events() {
            Ok(Some(events)) => render::stream(self.form, &events, include_usage),
            Ok(None) | Err(_) => self.whole(),
        }
    }

    /// All that was generated, without reasoning, to compare two answers by.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.events(), &self.kept) {
            (Ok(Some(events)), _) => events.text(),
            (_, Kept::Body(page)) => String::from_utf8_lossy(page.bytes()).into_owned(),
            (_, Kept::Events(events)) => events.text(),
        }
    }

    /// Tokens of the prompt and of the answer, where the upstream counted them.
    #[must_use]
    pub fn usage_counts(&self) -> (Option<u64>, Option<u64>) {
        self.counts
    }

    /// The model that answered; empty where none was named.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The kind of answer.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// What it takes in memory, in bytes, without what an allocator adds.
    #[must_use]
    pub fn size(&self) -> usize {
        let kept = match &self.kept {
            Kept::Body(page) => page.size(),
            Kept::Events(events) => events.size(),
        };
        size_of::<Self>() + self.model.len() + kept
    }

    fn of_body(form: Form, text: &str, members: &Members<'_>) -> Result<Self, Unfit> {
        let (page, head) = whole::page(form, text, members)?;
        Ok(Self { form, kept: Kept::Body(page), model: head.model, counts: head.counts })
    }

    fn of_events(form: Form, events: Events) -> Self {
        let counts = events.usage.as_ref().map_or((None, None), |usage| json::counts(usage.get()));
        let model = events.model.clone();
        Self { form, kept: Kept::Events(Box::new(events)), model, counts }
    }

    /// The events; none of a body that is given back as it is.
    fn events(&self) -> Result<Option<Cow<'_, Events>>, Unfit> {
        match &self.kept {
            Kept::Events(events) => Ok(Some(Cow::Borrowed(events))),
            Kept::Body(_) if self.form == Form::Raw => Ok(None),
            Kept::Body(page) => {
                let text = str::from_utf8(page.bytes()).map_err(|_| Unfit::Unreadable)?;
                let events = whole::events(self.form, &Members::read(text)?)?;
                Ok(Some(Cow::Owned(events)))
            }
        }
    }

    fn within_bounds(self) -> Result<Self, Unfit> {
        match self.size() > MAX_BYTES {
            true => Err(Unfit::TooLarge),
            false => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests;
