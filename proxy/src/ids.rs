//! Names that travel through the whole request path as types of their own.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// The longest request id taken over from a caller, in bytes.
const MAX_TAKEN_ID: usize = 128;

/// Identifies one client request in logs, headers and decision records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestId(String);

impl RequestId {
    /// Takes over the caller's id when it is short and made of `[A-Za-z0-9._-]`, else makes one.
    #[must_use]
    pub fn from_caller(given: Option<&[u8]>) -> Self {
        given.and_then(Self::taken).unwrap_or_else(Self::fresh)
    }

    fn taken(given: &[u8]) -> Option<Self> {
        let sane = !given.is_empty()
            && given.len() <= MAX_TAKEN_ID
            && given.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        sane.then(|| Self(String::from_utf8_lossy(given).into_owned()))
    }

    /// A process-wide random prefix and a counter: unique without asking the system for
    /// randomness on every request.
    fn fresh() -> Self {
        static PREFIX: OnceLock<u64> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let prefix = PREFIX.get_or_init(|| fastrand::u64(..));
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut id = String::with_capacity(33);
        id.push_str("req_");
        push_hex(&mut id, *prefix, 16);
        push_hex(&mut id, serial, 8);
        Self(id)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends `value` in lower-case hexadecimal, zero-padded to at least `width` digits.
fn push_hex(out: &mut String, value: u64, width: u32) {
    let digits = (64 - value.leading_zeros()).div_ceil(4).max(width);
    for place in (0..digits).rev() {
        let nibble = (value >> (place * 4)) & 0xf;
        out.push(char::from_digit(nibble as u32, 16).unwrap_or('0'));
    }
}

/// The owner of an API key; `anonymous` where no keys are configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallerName(pub Arc<str>);

impl CallerName {
    /// The caller of a gateway that has no keys.
    #[must_use]
    pub fn anonymous() -> Self {
        static NAME: OnceLock<Arc<str>> = OnceLock::new();
        Self(Arc::clone(NAME.get_or_init(|| Arc::from("anonymous"))))
    }
}

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_caller_id_is_taken_over() {
        assert_eq!(RequestId::from_caller(Some(b"abc-1.2_Z")).as_str(), "abc-1.2_Z");
    }

    #[test]
    fn an_unsafe_or_endless_caller_id_is_replaced() {
        for bad in [&b""[..], b"a b", b"a\r\nx: y", "ü".as_bytes(), &[b'a'; 129]] {
            assert!(RequestId::from_caller(Some(bad)).as_str().starts_with("req_"));
        }
    }

    #[test]
    fn made_ids_differ_and_have_a_fixed_shape() {
        let (a, b) = (RequestId::from_caller(None), RequestId::from_caller(None));
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), "req_".len() + 24);
    }
}
