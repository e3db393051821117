//! A stored answer with what is known about it, and its form outside this process.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::{Answer, Template};
use super::key::{Key, Scope, hex};

/// Stands before every entry: what follows is of this layout.
const MAGIC: &[u8] = b"SGC1";
/// Bytes of the checksum that follows.
const CHECKSUM: usize = 16;

/// Numbers that are raised to drop answers: of all, of an owner's, of a model's.
pub type Generation = [u64; 3];

/// What is known about an answer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Facts {
    /// Its key.
    pub id: Key,
    /// The scope within which its question may be asked in other words.
    #[serde(with = "hex")]
    pub scope: Scope,
    /// Whose it is: a caller or a tenant; `*` where all share.
    pub owner: Arc<str>,
    /// The endpoint's path.
    pub endpoint: Cow<'static, str>,
    /// The upstream that gave it.
    pub upstream: Arc<str>,
    /// The model's name there.
    pub model: Arc<str>,
    /// What was asked, where the question is a plain text.
    pub question: Option<String>,
    /// When it was given, in seconds of Unix time.
    pub stored: u64,
    /// For how many seconds it is kept.
    pub ttl: u64,
    /// How long it took to generate, in milliseconds.
    pub took_ms: u64,
    /// The generation it belongs to.
    pub generation: Generation,
}

/// A stored answer.
#[derive(Debug)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// What is known about it.
    pub facts: Facts,
    /// The answer.
    pub answer: Answer,
    whole: OnceLock<Template>,
    streams: [OnceLock<Template>; 2],
}

/// Why bytes found under a key are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

impl Entry {
    /// An answer under `key`.
    #[must_use]
    pub fn new(key: Key, facts: Facts, answer: Answer) -> Self {
        Self { key, facts, answer, whole: OnceLock::new(), streams: Default::default() }
    }

    /// How old it is at `now`, in seconds of Unix time.
    #[must_use]
    pub fn age(&self, now: u64) -> Duration {
        Duration::from_secs(now.saturating_sub(self.facts.stored))
    }

    /// Whether it may still be given at `now`.
    #[must_use]
    pub fn is_fresh(&self, now: u64) -> bool {
        self.age(now).as_secs() < self.facts.ttl
    }

    /// Memory it takes, in bytes; a guess that counts what it becomes when it is given.
    #[must_use]
    pub fn size(&self) -> usize {
        let Facts { owner, endpoint, upstream, model, question, .. } = &self.facts;
        let names = owner.len() + endpoint.len() + upstream.len() + model.len();
        let question = question.as_ref().map_or(0, String::len);
        size_of::<Self>() + names + question + 3 * self.answer.size()
    }

    /// The answer as a client gets it: whole, as a stream, as a stream with usage.
    #[must_use]
    pub fn template(&self, shape: Shape) -> &Template {
        match shape {
            Shape::Whole => self.whole.get_or_init(|| self.answer.whole()),
            Shape::Stream { usage } => {
                self.streams[usize::from(usage)].get_or_init(|| self.answer.stream(usage))
            }
        }
    }

    /// The entry as bytes, for another process.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Strings and numbers always have a JSON form.
        let facts = serde_json::to_vec(&self.facts).unwrap_or_default();
        let answer = self.answer.encode();
        let mut out = Vec::with_capacity(MAGIC.len() + CHECKSUM + facts.len() + 1 + answer.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; CHECKSUM]);
        out.extend_from_slice(&facts);
        out.push(b'\n');
        out.extend_from_slice(&answer);
        let checksum = checksum(&out[MAGIC.len() + CHECKSUM..]);
        out[MAGIC.len()..MAGIC.len() + CHECKSUM].copy_from_slice(&checksum);
        out
    }

    /// Reads what [`Entry::encode`] wrote under `key`.
    ///
    /// # Errors
    /// When it is anything else, or another key's.
    pub fn decode(key: Key, bytes: &[u8]) -> Result<Self, Garbage> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(Garbage)?;
        let (given, rest) = rest.split_at_checked(CHECKSUM).ok_or(Garbage)?;
        if given != checksum(rest) {
            return Err(Garbage);
        }
        let end = memchr::memchr(b'\n', rest).ok_or(Garbage)?;
        let facts: Facts = serde_json::from_slice(&rest[..end]).map_err(|_| Garbage)?;
        if facts.id != key {
            return Err(Garbage);
        }
        let answer = Answer::decode(&rest[end + 1..]).map_err(|_| Garbage)?;
        Ok(Self::new(key, facts, answer))
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut short = [0; CHECKSUM];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..CHECKSUM]);
    short
}

/// The form a client wants its answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One JSON document.
    Whole,
    /// A stream.
    Stream {
        /// With usage at its end.
        usage: bool,
    },
}

#[cfg(test)]
pub(in crate::cache) mod tests {
    use super::super::answer::Form;
    use super::*;

    pub(in crate::cache) fn entry(name: &str, text: &str) -> Entry {
        let key = Key::new(&[3; 32], Some(name));
        let facts = Facts {
            id: key,
            scope: [3; 32],
            owner: "alice".into(),
            endpoint: "/v1/chat/completions".into(),
            upstream: "host".into(),
            model: "m".into(),
            question: Some(name.to_owned()),
            stored: 1_000,
            ttl: 300,
            took_ms: 40,
            generation: [0; 3],
        };
        Entry::new(key, facts, Answer::of_text(Form::Chat, "m", text))
    }

    #[test]
    fn an_entry_is_read_back_and_nothing_else_is() {
        let entry = entry("why?", "because");
        let bytes = entry.encode();
        let read = Entry::decode(entry.key, &bytes).expect("an entry");
        assert_eq!(read.facts, entry.facts);
        assert_eq!(read.answer.text(), "because");
        assert_eq!(Entry::decode(Key::new(&[3; 32], None), &bytes).err(), Some(Garbage));
        for cut in 0..bytes.len() {
            assert!(Entry::decode(entry.key, &bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Entry::decode(entry.key, &flipped).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn an_entry_is_fresh_for_its_time() {
        let entry = entry("why?", "because");
        assert!(entry.is_fresh(1_000) && entry.is_fresh(1_299) && !entry.is_fresh(1_300));
        // A clock that went back makes nothing older than it is.
        assert!(entry.is_fresh(900));
        assert_eq!(entry.age(1_010), Duration::from_secs(10));
    }
}
