//! Builds one choice out of its deltas.
//!
//! Deltas of one kind that follow each other become one event; the order of the kinds stays.
//! Values that are neither text nor calls are kept one by one, since nobody knows how they join.

use super::event::{Choice, Event, Part};
use super::json::{self, Json, Members};
use super::logprobs::Columns;
use super::spread::{MAX_NAMES, Spread};
use super::tree::Tree;
use super::{Form, Unfit};

/// The most events of a choice. `reasoning_details` come one with each token.
const MAX_EVENTS: usize = 16 * 1024;
/// The most calls side by side, for each fragment is searched for among them.
const MAX_CALLS: usize = 256;

/// What a member of a delta has been so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Null.
    Null,
    /// Empty text, or the role.
    Blank,
    Text,
    Call,
    Value,
}

/// A choice that is being put together.
pub(super) struct Open {
    choice: Choice,
    names: Vec<(Box<str>, Kind)>,
    /// The event that takes more text.
    text: Option<usize>,
    /// The calls since the last text.
    calls: Vec<usize>,
    /// What log probabilities were given with the events, up to the last that has some.
    columns: Vec<(usize, Columns)>,
    members: Spread,
}

impl Open {
    pub(super) fn new(index: u64) -> Self {
        let choice = Choice {
            index,
            opening: Vec::new(),
            events: Vec::new(),
            members: Vec::new(),
            finish: Box::default(),
            nulls: false,
        };
        Self {
            choice,
            names: Vec::new(),
            text: None,
            calls: Vec::new(),
            columns: Vec::new(),
            members: Spread::default(),
        }
    }

    pub(super) fn index(&self) -> u64 {
        self.choice.index
    }

    /// Takes in the choice of a chunk.
    pub(super) fn chunk(&mut self, form: Form, members: &Members<'_>) -> Result<(), Unfit> {
        self.members.begin(true);
        for (name, raw) in members.iter() {
            match name {
                "index" | "logprobs" => {}
                "delta" if form == Form::Chat => {
                    if !json::is_null(raw) {
                        let delta = Members::read(raw)?;
                        delta.iter().try_for_each(|(name, raw)| self.member(name, raw))?;
                    }
                }
                "text" if form == Form::Completions => self.member(name, raw)?,
                "finish_reason" => self.finish_reason(raw)?,
                // vLLM's fragments of a list that no SDK joins.
                "token_ids" if !json::is_null(raw) => return Err(Unfit::Unreadable),
                _ => self.members.add(name, raw)?,
            }
        }
        members.get("logprobs").map_or(Ok(()), |raw| self.logprobs(raw))
    }

    pub(super) fn finish_reason(&mut self, raw: &str) -> Result<(), Unfit> {
        match json::optional_string(Some(raw))? {
            Some(reason) if !reason.is_empty() => self.choice.finish = Box::from(&*reason),
            _ => {}
        }
        Ok(())
    }

    /// A member of the choice that stands in its last chunk.
    pub(super) fn last(&mut self, name: &str, raw: &str) -> Result<(), Unfit> {
        self.members.add(name, raw)
    }

    /// A member of a delta.
    pub(super) fn member(&mut self, name: &str, raw: &str) -> Result<(), Unfit> {
        match (name, raw.as_bytes()) {
            (_, b"null") => self.opening(name, raw, Kind::Null),
            ("role", _) | (_, b"\"\"") => self.opening(name, raw, Kind::Blank),
            ("tool_calls", _) => {
                let calls = json::items(raw)?;
                calls.into_iter().try_for_each(|raw| self.call(Tree::read(raw)?))
            }
            ("function_call", _) => self.function(Tree::read(raw)?),
            (_, [b'"', ..]) => self.text(name, raw),
            _ => {
                self.now(name, Kind::Value)?;
                self.push(Part::Value(name.into(), Json::of(raw))).map(drop)
            }
        }
    }

    /// Notes a kind of member; one that changes it is not what any client can put together.
    fn now(&mut self, name: &str, kind: Kind) -> Result<Option<Kind>, Unfit> {
        let Some((_, known)) = self.names.iter_mut().find(|(known, _)| &**known == name) else {
            if self.names.len() == MAX_NAMES {
                return Err(Unfit::TooLarge);
            }
            self.names.push((name.into(), kind));
            return Ok(None);
        };
        let before = *known;
        match (before, kind) {
            (_, Kind::Null) | (Kind::Text, Kind::Blank) => {}
            (Kind::Null | Kind::Blank, _) => *known = kind,
            (before, kind) if before == kind => {}
            _ => return Err(Unfit::Unreadable),
        }
        Ok(Some(before))
    }

    fn opening(&mut self, name: &str, raw: &str, kind: Kind) -> Result<(), Unfit> {
        match (self.now(name, kind)?, kind) {
            (None, _) => self.choice.opening.push((name.into(), Json::of(raw))),
            (Some(Kind::Null), Kind::Blank) => {
                let known = self.choice.opening.iter_mut().find(|(known, _)| &**known == name);
                if let Some((_, value)) = known {
                    *value = Json::of(raw);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, name: &str, raw: &str) -> Result<(), Unfit> {
        let new = json::string(raw)?;
        let open = self.text.and_then(|at| self.choice.events.get_mut(at));
        if let Some(Event { part: Part::Text(known, text), .. }) = open
            && &**known == name
        {
            text.push_str(&new);
            return Ok(());
        }
        self.now(name, Kind::Text)?;
        self.calls.clear();
        self.text = Some(self.push(Part::Text(name.into(), new.into_owned()))?);
        Ok(())
    }

    /// Whether anything was generated so far.
    pub(super) fn has_events(&self) -> bool {
        !self.choice.events.is_empty()
    }

    /// A whole call, whatever its number and id.
    pub(super) fn whole_call(&mut self, call: Tree) -> Result<(), Unfit> {
        self.now("tool_calls", Kind::Call)?;
        self.push_call(Part::Call(call))
    }

    /// An entry of `tool_calls`: a call, or a fragment of one.
    fn call(&mut self, new: Tree) -> Result<(), Unfit> {
        if !matches!(new, Tree::Map(_)) {
            return Err(Unfit::Unreadable);
        }
        self.now("tool_calls", Kind::Call)?;
        for at in self.calls.iter().rev() {
            if let Some(Event { part: Part::Call(call), .. }) = self.choice.events.get_mut(*at)
                && is_fragment_of(call, &new)
            {
                call.merge("", new);
                return Ok(());
            }
        }
        self.push_call(Part::Call(new))
    }

    fn function(&mut self, new: Tree) -> Result<(), Unfit> {
        self.now("function_call", Kind::Call)?;
        for at in self.calls.iter().rev() {
            if let Some(Event { part: Part::Function(call), .. }) = self.choice.events.get_mut(*at)
            {
                call.merge("", new);
                return Ok(());
            }
        }
        self.push_call(Part::Function(new))
    }

    fn push_call(&mut self, part: Part) -> Result<(), Unfit> {
        if self.calls.len() == MAX_CALLS {
            return Err(Unfit::TooLarge);
        }
        self.text = None;
        let at = self.push(part)?;
        self.calls.push(at);
        Ok(())
    }

    fn push(&mut self, part: Part) -> Result<usize, Unfit> {
        let at = self.choice.events.len();
        if at == MAX_EVENTS {
            return Err(Unfit::TooLarge);
        }
        self.choice.events.push(Event { part, logprobs: None });
        Ok(at)
    }

    /// The log probabilities of the latest text or call.
    pub(super) fn logprobs(&mut self, raw: &str) -> Result<(), Unfit> {
        if json::is_null(raw) {
            self.choice.nulls = true;
            return Ok(());
        }
        let members = Members::read(raw)?;
        let is_one = |event: &Event| !matches!(event.part, Part::Value(..));
        let at = match self.choice.events.iter().rposition(is_one) {
            Some(at) => at,
            None => self.push(Part::Bare)?,
        };
        if self.columns.last().is_none_or(|(event, _)| *event != at) {
            self.columns.push((at, Columns::default()));
        }
        match self.columns.last_mut() {
            Some((_, columns)) => members.iter().try_for_each(|(name, raw)| columns.add(name, raw)),
            None => Ok(()),
        }
    }

    pub(super) fn finish(mut self) -> Result<Choice, Unfit> {
        for (at, columns) in self.columns {
            if let Some(event) = self.choice.events.get_mut(at) {
                event.logprobs = Some(columns.finish());
            }
        }
        for event in &mut self.choice.events {
            if let Part::Text(_, text) = &mut event.part {
                text.shrink_to_fit();
            }
        }
        self.choice.events.shrink_to_fit();
        self.choice.members = self.members.finish();
        Ok(self.choice)
    }
}

/// Whether `new` goes on with `call`. Some servers number all calls 0, or none; there a new id is
/// a new call.
fn is_fragment_of(call: &Tree, new: &Tree) -> bool {
    let same_index = new.index().is_none_or(|index| call.index() == Some(index));
    let same_id = match (call.text("id"), new.text("id")) {
        (Some(known), Some(id)) => known == id,
        (None, Some(_)) => call.index().is_some(),
        (_, None) => true,
    };
    same_index && same_id
}
