//! Rendered answers with blanks for what is new each time.

use std::borrow::Cow;

use bytes::Bytes;

use super::event::Prefix;

/// What goes into a blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The unique part of the id; its prefix is there.
    Id,
    /// The time, in seconds.
    Created,
}

/// A place to be filled: what stands there now is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blank {
    start: usize,
    end: usize,
    what: What,
}

/// A rendered answer with the places of `id` and `created`. Cheap to clone; filling it is one
/// allocation and a copy, so that it is worth keeping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Valid as it is, with an id that is only a prefix and a time of 0.
    bytes: Bytes,
    /// In the order they stand in.
    blanks: Vec<Blank>,
}

impl Template {
    /// The answer with its id and its time. Of `id`, which comes after the prefix (`chatcmpl-`),
    /// only letters, digits, `-`, `_` and `.` are taken.
    #[must_use]
    pub fn fill(&self, id: &str, created: u64) -> Bytes {
        let id = plain(id);
        let mut digits = itoa::Buffer::new();
        let created = digits.format(created);
        let value = |what| match what {
            What::Id => id.as_bytes(),
            What::Created => created.as_bytes(),
        };
        let added: usize = self.blanks.iter().map(|blank| value(blank.what).len()).sum();
        let mut filled = Vec::with_capacity(self.bytes.len() + added);
        let mut from = 0;
        for blank in &self.blanks {
            filled.extend_from_slice(&self.bytes[from..blank.start]);
            filled.extend_from_slice(value(blank.what));
            from = blank.end;
        }
        filled.extend_from_slice(&self.bytes[from..]);
        Bytes::from(filled)
    }

    /// The length in bytes, without what is to be filled in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What it keeps in memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + self.blanks.len() * size_of::<Blank>()
    }

    /// As it is before it is filled.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// An id must not end the string it stands in.
fn plain(id: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match id.chars().all(fits) {
        true => Cow::Borrowed(id),
        false => Cow::Owned(id.chars().filter(|c| fits(*c)).collect()),
    }
}

/// A template that is being written.
#[derive(Default)]
pub(super) struct Page {
    bytes: Vec<u8>,
    blanks: Vec<Blank>,
}

impl Page {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), blanks: Vec::new() }
    }

    pub(super) fn put(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Writes JSON. Writing what this module holds into memory cannot fail.
    pub(super) fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        let start = self.bytes.len();
        if serde_json::to_writer(&mut self.bytes, value).is_err() {
            self.bytes.truncate(start);
            self.put("null");
        }
    }

    /// A string with the id in it.
    pub(super) fn id(&mut self, prefix: Prefix) {
        self.put("\"");
        self.put(prefix.as_str());
        let at = self.bytes.len();
        self.blanks.push(Blank { start: at, end: at, what: What::Id });
        self.put("\"");
    }

    /// The number that is the time.
    pub(super) fn created(&mut self) {
        let start = self.bytes.len();
        self.put("0");
        self.blanks.push(Blank { start, end: start + 1, what: What::Created });
    }

    pub(super) fn finish(mut self) -> Template {
        self.bytes.shrink_to_fit();
        self.blanks.shrink_to_fit();
        Template { bytes: Bytes::from(self.bytes), blanks: self.blanks }
    }
}
