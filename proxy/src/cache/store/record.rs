//! The bytes of one record: a header of fixed length, then vector, text and answer.
//!
//! | at | bytes | what (little endian) |
//! |---:|---:|---|
//! | 0 | 4 | `SGR1`: magic and version |
//! | 4 | 1 | kind: 1 put, 2 delete |
//! | 5 | 1 | zero |
//! | 6 | 2 | dimensions of the vector |
//! | 8 | 4 | bytes of the text |
//! | 12 | 4 | bytes of the answer |
//! | 16 | 8 | stored, Unix seconds |
//! | 24 | 8 | expires, Unix seconds; of a delete: until when it is needed |
//! | 32 | 16 | embedder |
//! | 48 | 32 | key |
//! | 80 | 32 | scope |
//! | 112 | 16 | checksum: BLAKE3, cut to 16 bytes, of the 112 bytes before and the payload |
//!
//! The checksum finds accidents, not attackers: whoever can write the file can compute it.

use bytes::Bytes;

use super::{EmbedderId, Key, Scope};

/// Bytes of a header, and of a whole delete record.
pub(super) const HEADER: usize = 128;
/// Magic and version. Another version is a bad record: after an upgrade the cache starts cold.
const MAGIC: [u8; 4] = *b"SGR1";
/// Where the checksum starts in the header.
const SUMMED: usize = 112;
/// The largest record, in bytes: an answer is ≤ 1 MiB by policy, and a length that was garbled must
/// not make a reader allocate more than this.
pub(super) const MAX_RECORD: usize = 16 * 1024 * 1024;

/// One cached answer as it is put into the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The exact key of the request.
    pub key: Key,
    /// The hard partition it belongs to.
    pub scope: Scope,
    /// When it is no longer served, in Unix seconds.
    pub expires: u64,
    /// Which embedder made the vector.
    pub embedder: EmbedderId,
    /// The embedding, normalised by the caller; at most 65,535 numbers.
    pub vector: Vec<f32>,
    /// The text the guard compares.
    pub text: String,
    /// The answer, opaque here.
    pub answer: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Delete,
}

/// A header whose lengths are plausible; its checksum is not checked yet.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    dimensions: usize,
    text: usize,
    answer: usize,
    pub(super) stored: u64,
    pub(super) expires: u64,
    pub(super) embedder: EmbedderId,
    pub(super) key: Key,
    pub(super) scope: Scope,
}

impl Header {
    /// Reads a header; `None` when it is none of this version or its lengths are absurd.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.take::<4>()? != MAGIC {
            return None;
        }
        let kind = match fields.take::<2>()? {
            [1, 0] => Kind::Put,
            [2, 0] => Kind::Delete,
            _ => return None,
        };
        let header = Self {
            kind,
            dimensions: usize::from(u16::from_le_bytes(fields.take()?)),
            text: u32::from_le_bytes(fields.take()?) as usize,
            answer: u32::from_le_bytes(fields.take()?) as usize,
            stored: u64::from_le_bytes(fields.take()?),
            expires: u64::from_le_bytes(fields.take()?),
            embedder: fields.take()?,
            key: fields.take()?,
            scope: fields.take()?,
        };
        let plausible = match kind {
            Kind::Put => header.length() <= MAX_RECORD,
            Kind::Delete => header.length() == HEADER,
        };
        plausible.then_some(header)
    }

    /// Bytes of the whole record.
    pub(super) fn length(&self) -> usize {
        self.answer_at() + self.answer
    }

    fn text_at(&self) -> usize {
        HEADER + self.dimensions * size_of::<f32>()
    }

    fn answer_at(&self) -> usize {
        self.text_at() + self.text
    }

    /// The vector in the bytes of the whole record.
    pub(super) fn vector(&self, record: &[u8]) -> Option<Vec<f32>> {
        let (numbers, _) = record.get(HEADER..self.text_at())?.as_chunks::<4>();
        Some(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    }

    /// The text in the bytes of the whole record.
    pub(super) fn text(&self, record: &[u8]) -> Option<String> {
        let text = record.get(self.text_at()..self.answer_at())?;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }

    /// The answer in the bytes of the whole record.
    pub(super) fn answer(&self, record: &Bytes) -> Option<Bytes> {
        (record.len() == self.length()).then(|| record.slice(self.answer_at()..))
    }
}

/// Takes the fields of a header one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

/// The bytes of a put; `None` when it is larger than the format or [`MAX_RECORD`] allows.
pub(super) fn put(record: &Record, stored: u64, expires: u64) -> Option<Vec<u8>> {
    let payload = record.vector.len() * size_of::<f32>() + record.text.len() + record.answer.len();
    if HEADER + payload > MAX_RECORD {
        return None;
    }
    let mut bytes = Vec::with_capacity(HEADER + payload);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&u16::try_from(record.vector.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(record.text.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(record.answer.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&stored.to_le_bytes());
    bytes.extend_from_slice(&expires.to_le_bytes());
    bytes.extend_from_slice(&record.embedder);
    bytes.extend_from_slice(&record.key);
    bytes.extend_from_slice(&record.scope);
    bytes.extend_from_slice(&[0; HEADER - SUMMED]);
    for number in &record.vector {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(record.text.as_bytes());
    bytes.extend_from_slice(&record.answer);
    seal(&mut bytes);
    Some(bytes)
}

/// The bytes of a delete, needed until the last put of the key has expired.
pub(super) fn delete(key: &Key, until: u64) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4] = 2;
    bytes[24..32].copy_from_slice(&until.to_le_bytes());
    bytes[48..80].copy_from_slice(key);
    seal(&mut bytes);
    bytes
}

/// Whether the bytes are those of one whole record as it was written.
pub(super) fn intact(record: &[u8]) -> bool {
    record.get(SUMMED..HEADER).is_some_and(|sum| sum == checksum(record))
}

fn seal(record: &mut [u8]) {
    let sum = checksum(record);
    record[SUMMED..HEADER].copy_from_slice(&sum);
}

fn checksum(record: &[u8]) -> [u8; HEADER - SUMMED] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&record[..SUMMED]).update(&record[HEADER..]);
    let mut sum = [0; HEADER - SUMMED];
    hasher.finalize_xof().fill(&mut sum);
    sum
}
