//! Puts a stream together to events.

use std::str;

use super::choice::Open;
use super::event::{Events, Prefix};
use super::feed::Feed;
use super::json::{self, Json, Members};
use super::spread::Spread;
use super::{Form, Unfit};

/// The most choices of an answer: what OpenAI accepts for `n`.
const MAX_CHOICES: usize = 128;

/// Reads a whole stream, then the event with the usage that was taken out of it.
pub(super) fn assemble(form: Form, events: &[u8], usage: Option<&[u8]>) -> Result<Events, Unfit> {
    let mut assembly = Assembly::new(form);
    let mut is_done = false;
    for message in Feed::new(events) {
        if message.is_error {
            return Err(Unfit::Error);
        }
        let data = message.data.trim_ascii();
        if data.starts_with(b"[DONE]") {
            is_done = true;
            break;
        }
        assembly.chunk(data)?;
    }
    if !is_done {
        return Err(Unfit::Incomplete);
    }
    for message in Feed::new(usage.unwrap_or_default()) {
        assembly.chunk(message.data.trim_ascii())?;
    }
    assembly.finish()
}

struct Assembly {
    form: Form,
    prefix: Option<Prefix>,
    model: Option<Box<str>>,
    head: Spread,
    choices: Vec<Open>,
    usage: Option<Json>,
}

impl Assembly {
    fn new(form: Form) -> Self {
        Self {
            form,
            prefix: None,
            model: None,
            head: Spread::default(),
            choices: Vec::new(),
            usage: None,
        }
    }

    fn chunk(&mut self, data: &[u8]) -> Result<(), Unfit> {
        if data.is_empty() {
            return Ok(());
        }
        let text = str::from_utf8(data).map_err(|_| Unfit::Unreadable)?;
        let members = Members::read(text)?;
        if json::is_error(&members) {
            return Err(Unfit::Error);
        }
        let choices = match members.get("choices") {
            Some(raw) => json::objects(raw)?,
            None => Vec::new(),
        };
        self.head.begin(!choices.is_empty());
        members.iter().try_for_each(|(name, raw)| self.member(name, raw))?;
        choices.iter().enumerate().try_for_each(|(at, choice)| self.choice(at, choice))
    }

    /// A top-level member. Azure's first chunk has an id and a model that are empty.
    fn member(&mut self, name: &str, raw: &str) -> Result<(), Unfit> {
        match name {
            "id" if self.prefix.is_some() => {}
            "id" => {
                let id = json::optional_string(Some(raw))?.filter(|id| !id.is_empty());
                self.prefix = id.map(|id| Prefix::of(self.form, &id));
            }
            "model" if self.model.is_some() => {}
            "model" => {
                let model = json::optional_string(Some(raw))?.filter(|model| !model.is_empty());
                self.model = model.map(|model| Box::from(&*model));
            }
            "usage" if json::is_null(raw) => {}
            "usage" => self.usage = Some(Json::of(raw)),
            // `obfuscation` is padding against those who measure chunks: of no meaning, and
            // wrong on a chunk of another size.
            "object" | "created" | "choices" | "error" | "obfuscation" => {}
            _ => self.head.add(name, raw)?,
        }
        Ok(())
    }

    fn choice(&mut self, at: usize, members: &Members<'_>) -> Result<(), Unfit> {
        let index = index(at, members)?;
        let known = self.choices.iter().position(|open| open.index() == index);
        let at = match known {
            Some(at) => at,
            None if self.choices.len() == MAX_CHOICES => return Err(Unfit::TooLarge),
            None => {
                self.choices.push(Open::new(index));
                self.choices.len() - 1
            }
        };
        let form = self.form;
        self.choices.get_mut(at).map_or(Ok(()), |open| open.chunk(form, members))
    }

    fn finish(self) -> Result<Events, Unfit> {
        let choices: Result<Vec<_>, _> = self.choices.into_iter().map(Open::finish).collect();
        let mut choices = choices?;
        // The SDKs find choices by their place.
        choices.sort_by_key(|choice| choice.index);
        Ok(Events {
            prefix: self.prefix.unwrap_or_else(|| Prefix::of(self.form, "")),
            model: self.model.unwrap_or_default(),
            head: self.head.finish(),
            choices,
            usage: self.usage,
        })
    }
}

/// The number of a choice; where none is given, its place.
pub(super) fn index(at: usize, choice: &Members<'_>) -> Result<u64, Unfit> {
    match choice.get("index") {
        Some(raw) => json::read(raw),
        None => Ok(at as u64),
    }
}
