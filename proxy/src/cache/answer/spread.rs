//! Members that chunks repeat: whether each chunk has them, only the first, or only the last.
//!
//! An SDK takes the last value it saw; which chunk it stood in matters to those who read chunks.

use super::Unfit;
use super::event::{Member, Place};
use super::json::Json;

/// The most names there may be, for the search is linear.
pub(super) const MAX_NAMES: usize = 64;

/// Gathers members chunk by chunk.
#[derive(Default)]
pub(super) struct Spread {
    begun: bool,
    /// The chunk being read is the first.
    first: bool,
    /// The chunk being read counts for [`Place::Every`].
    counts: bool,
    /// How many chunks count.
    chunks: usize,
    members: Vec<Spreading>,
}

struct Spreading {
    name: Box<str>,
    value: Json,
    /// The first value stood in the first chunk.
    in_first: bool,
    /// In how many of the chunks that count it stood.
    seen: usize,
    /// The latest value, where it is another one.
    changed: Option<Json>,
}

impl Spread {
    /// A chunk begins. Those without choices (Azure's prompt filter, the usage) need not have
    /// what all others have, so they do not count.
    pub(super) fn begin(&mut self, counts: bool) {
        self.first = !self.begun;
        self.begun = true;
        self.counts = counts;
        self.chunks += usize::from(counts);
    }

    pub(super) fn add(&mut self, name: &str, raw: &str) -> Result<(), Unfit> {
        let seen = usize::from(self.counts);
        let Some(member) = self.members.iter_mut().find(|member| &*member.name == name) else {
            if self.members.len() == MAX_NAMES {
                return Err(Unfit::TooLarge);
            }
            let (name, value, in_first) = (name.into(), Json::of(raw), self.first);
            self.members.push(Spreading { name, value, in_first, seen, changed: None });
            return Ok(());
        };
        member.seen += seen;
        let latest = member.changed.as_ref().unwrap_or(&member.value);
        if latest.get() != raw {
            let value = Json::of(raw);
            if *latest != value {
                member.changed = Some(value);
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Member> {
        let mut members = Vec::with_capacity(self.members.len());
        for Spreading { name, value, in_first, seen, changed } in self.members {
            let every = self.chunks > 0 && seen >= self.chunks && changed.is_none();
            let place = match (every, in_first) {
                (true, _) => Place::Every,
                (false, true) => Place::First,
                (false, false) => Place::Last,
            };
            let last =
                changed.map(|value| Member { name: name.clone(), value, place: Place::Last });
            if last.is_none() || place == Place::First {
                members.push(Member { name, value, place });
            }
            members.extend(last);
        }
        members
    }
}
