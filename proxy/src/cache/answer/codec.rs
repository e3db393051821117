//! The form for Redis and for the disk: version, checksum, then JSON.
//!
//! The checksum is there for damage, not for malice: who may write to the store may write answers.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::event::Events;
use super::{Form, Unfit};

/// To be raised when what is stored changes its meaning; what has another version is a miss.
const VERSION: &[u8] = b"answer1:";
/// 16 bytes in hex.
const CHECKSUM_LEN: usize = 32;
/// What cannot be an answer of at most [`super::MAX_BYTES`], even if each character is escaped.
const MAX_ENCODED: usize = 8 * super::MAX_BYTES;

/// What is stored of an answer: one of both.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record<'a, E = Events> {
    pub(super) form: Form,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) whole: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) events: Option<E>,
}

/// Writing what an answer holds cannot fail; were it to, nothing would be read back.
pub(super) fn encode<E: Serialize>(record: &Record<'_, E>) -> Vec<u8> {
    let mut bytes = VERSION.to_vec();
    bytes.resize(VERSION.len() + CHECKSUM_LEN, b'0');
    if serde_json::to_writer(&mut bytes, record).is_err() {
        return Vec::new();
    }
    let (head, json) = bytes.split_at_mut(VERSION.len() + CHECKSUM_LEN);
    head[VERSION.len()..].copy_from_slice(checksum(json).as_bytes());
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Result<Record<'_>, Unfit> {
    if bytes.len() > MAX_ENCODED {
        return Err(Unfit::TooLarge);
    }
    let rest = bytes.strip_prefix(VERSION).ok_or(Unfit::Unreadable)?;
    let (sum, json) = rest.split_at_checked(CHECKSUM_LEN).ok_or(Unfit::Unreadable)?;
    if sum != checksum(json).as_bytes() {
        return Err(Unfit::Unreadable);
    }
    serde_json::from_slice(json).map_err(|_| Unfit::Unreadable)
}

fn checksum(json: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(VERSION).update(json);
    let mut hex = hasher.finalize().to_hex().to_string();
    hex.truncate(CHECKSUM_LEN);
    hex
}
