//! Keys of answers: what must be equal for two requests to share one.
//!
//! The scope is a hard partition at every level: nothing in one scope is ever compared with anything
//! in another. Within a scope only the last user text differs.

use std::fmt;
use std::ops::Deref;

use blake3::Hasher;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::canonical::Canonical;

/// Changes with the meaning of keys, so that those of another version are never found.
const VERSION: &[u8] = b"sluicegate key 2";

/// A scope's digest.
pub type Scope = [u8; 32];

/// The digest that names an answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The key of the last user text `text` in `scope`.
    #[must_use]
    pub fn new(scope: &Scope, text: Option<&str>) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(scope);
        hasher.update(&length(text.map(str::as_bytes)).to_le_bytes());
        hasher.update(text.unwrap_or_default().as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// The key written as [`fmt::Display`] writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }

    /// It in hexadecimal.
    #[must_use]
    pub fn to_hex(&self) -> impl Deref<Target = str> {
        blake3::Hash::from_bytes(self.0).to_hex()
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        hex::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::deserialize(deserializer).map(Self)
    }
}

/// Digests as text, for `#[serde(with)]`.
pub mod hex {
    use std::borrow::Cow;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes one.
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(*digest).to_hex())
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is not 64 hexadecimal digits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        blake3::Hash::from_hex(&*text).map(Into::into).map_err(D::Error::custom)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What, beside the request itself, makes a scope.
#[derive(Clone, Copy, Debug)]
pub struct Within<'a> {
    /// Whose answers they are: a caller, a tenant, or nobody's where all share.
    pub owner: Option<&'a str>,
    /// The endpoint's path.
    pub endpoint: &'a str,
    /// The model's name at its upstream.
    pub model: &'a str,
    /// What tells this model from another of its name: the digest an Ollama gives, else the server.
    pub weights: &'a str,
    /// The plugins the request and the answer pass.
    pub chain: &'a [u8; 32],
    /// The client's headers that its upstream may go by.
    pub headers: &'a [u8; 32],
    /// What a plugin keeps apart.
    pub extra: Option<&'a str>,
}

impl Within<'_> {
    /// The scope of `request`.
    #[must_use]
    pub fn scope(&self, request: &Canonical) -> Scope {
        let parts = [
            Some(VERSION),
            self.owner.map(str::as_bytes),
            Some(self.endpoint.as_bytes()),
            Some(self.model.as_bytes()),
            Some(self.weights.as_bytes()),
            Some(self.chain),
            Some(self.headers),
            self.extra.map(str::as_bytes),
            Some(&request.frame),
        ];
        // Hashed in one go: that takes half the time of many small ones.
        let mut all = Vec::with_capacity(384);
        for bytes in parts {
            all.extend_from_slice(&length(bytes).to_le_bytes());
            all.extend_from_slice(bytes.unwrap_or_default());
        }
        *blake3::hash(&all).as_bytes()
    }
}

/// The length of a part, which stands before it: nothing and an empty text are told apart, and so are any two
/// divisions into parts. Bodies are far shorter than what it can say.
fn length(bytes: Option<&[u8]>) -> u32 {
    bytes.map_or(u32::MAX, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1))
}

#[cfg(test)]
mod tests {
    use super::super::canonical::canonical;
    use super::*;

    const WITHIN: Within<'static> = Within {
        owner: Some("alice"),
        endpoint: "/v1/chat/completions",
        model: "m",
        weights: "sha256:1",
        chain: &[0; 32],
        headers: &[0; 32],
        extra: None,
    };

    #[test]
    fn nothing_is_shared_across_any_part_of_a_scope() {
        let request = canonical(br#"{"messages":[]}"#).expect("clear");
        let others = [
            Within { owner: Some("bob"), ..WITHIN },
            Within { owner: None, ..WITHIN },
            Within { owner: Some(""), ..WITHIN },
            Within { endpoint: "/v1/completions", ..WITHIN },
            Within { model: "n", ..WITHIN },
            Within { weights: "sha256:2", ..WITHIN },
            Within { model: "msha", weights: "256:1", ..WITHIN },
            Within { chain: &[1; 32], ..WITHIN },
            Within { headers: &[1; 32], ..WITHIN },
            Within { extra: Some(""), ..WITHIN },
        ];
        let mut scopes: Vec<Scope> = others.iter().map(|one| one.scope(&request)).collect();
        scopes.push(WITHIN.scope(&request));
        scopes.push(WITHIN.scope(&canonical(br#"{"messages":[1]}"#).expect("clear")));
        scopes.sort_unstable();
        scopes.dedup();
        assert_eq!(scopes.len(), others.len() + 2);
        assert_eq!(WITHIN.scope(&request), WITHIN.scope(&request));
    }

    #[test]
    fn a_key_is_read_back_from_its_text() {
        let key = Key::new(&[7; 32], Some("text"));
        assert_eq!(Key::parse(&key.to_string()), Some(key));
        assert_ne!(Key::new(&[7; 32], None), Key::new(&[7; 32], Some("")));
        for garbage in ["", "zz", &"g".repeat(64), &"a".repeat(65)] {
            assert_eq!(Key::parse(garbage), None);
        }
    }
}
