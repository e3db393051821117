//! Ollama's native wire types, as far as the gateway acts on them, and how it reads models' names.

mod by_model;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

pub use self::by_model::ByModel;

/// `GET /api/tags` and `GET /api/ps`: entries are kept as they are.
#[derive(Debug, Deserialize)]
pub struct Models {
    /// The models; null when there are none.
    pub models: Option<Vec<Box<RawValue>>>,
}

/// `GET /api/tags` and `GET /api/ps` as the gateway answers them.
#[derive(Debug, Serialize)]
pub struct MergedModels {
    /// The models; never null.
    pub models: Vec<Box<RawValue>>,
}

/// An entry of `GET /api/tags` called `name`: made of the `known` one, else one that says nothing but
/// has all that clients read.
///
/// # Errors
/// None in practice: such a value can be written.
pub fn tag(name: &str, known: Option<&RawValue>) -> serde_json::Result<Box<RawValue>> {
    let known = known.and_then(|raw| serde_json::from_str::<Map<String, Value>>(raw.get()).ok());
    let mut entry = known.unwrap_or_else(|| {
        Map::from_iter([
            ("modified_at".to_owned(), json!("1970-01-01T00:00:00Z")),
            ("size".to_owned(), json!(0)),
            // `ollama list` shows its first twelve digits, and falls over a shorter one.
            ("digest".to_owned(), json!("0".repeat(64))),
            (
                "details".to_owned(),
                json!({
                    "parent_model": "", "format": "", "family": "", "families": [],
                    "parameter_size": "", "quantization_level": "",
                }),
            ),
        ])
    });
    for key in ["name", "model"] {
        entry.insert(key.to_owned(), json!(name));
    }
    to_raw_value(&entry)
}

/// What the gateway reads of an entry.
#[derive(Debug, Deserialize)]
pub struct ModelName {
    /// Full name with its tag.
    #[serde(default)]
    pub name: String,
}

/// `GET /api/ps`, as far as the gateway acts on it.
#[derive(Debug, Deserialize)]
pub struct LoadedModels {
    /// The models; null when there are none.
    pub models: Option<Vec<Loaded>>,
}

/// A model in memory.
#[derive(Debug, Deserialize)]
pub struct Loaded {
    /// Full name with its tag.
    #[serde(default)]
    pub name: String,
    /// Bytes it takes in all.
    #[serde(default)]
    pub size: u64,
    /// Bytes of these that are on GPUs.
    #[serde(default)]
    pub size_vram: u64,
    /// Digest of its weights and settings.
    #[serde(default)]
    pub digest: String,
    /// Tokens of context it was loaded with.
    #[serde(default)]
    pub context_length: Option<u64>,
    /// When it will be unloaded, unless it is used before; RFC 3339. Centuries ahead for one that is
    /// kept.
    #[serde(default)]
    pub expires_at: String,
}

/// `GET /api/tags`, as far as the gateway acts on it.
#[derive(Debug, Deserialize)]
pub struct Tags {
    /// The models; null when there are none.
    pub models: Option<Vec<Tagged>>,
}

/// A model on disk.
#[derive(Debug, Deserialize)]
pub struct Tagged {
    /// Full name with its tag.
    #[serde(default)]
    pub name: String,
    /// Digest of its weights and settings.
    #[serde(default)]
    pub digest: String,
    /// Bytes on disk.
    #[serde(default)]
    pub size: u64,
    /// The model elsewhere that answers for it: nothing of it is loaded here.
    #[serde(default)]
    pub remote_model: Option<String>,
}

/// `GET /api/version`.
#[derive(Debug, Deserialize)]
pub struct Version {
    /// Such as `0.12.3`.
    pub version: String,
}

/// What the gateway reads of one line of a native stream, or of a whole native answer.
#[derive(Debug, Deserialize)]
pub struct Line {
    /// Set on the last line.
    #[serde(default)]
    pub done: bool,
    /// Prompt tokens, on the last line.
    #[serde(default)]
    pub prompt_eval_count: Option<u64>,
    /// Generated tokens, on the last line.
    #[serde(default)]
    pub eval_count: Option<u64>,
}

/// The name of a model in one spelling: without the tag that no tag means.
#[must_use]
pub fn plain(model: &str) -> &str {
    model.strip_suffix(":latest").unwrap_or(model)
}

/// A name without a tag means `:latest`.
#[must_use]
pub fn same_model(a: &str, b: &str) -> bool {
    a == b || a.strip_suffix(":latest") == Some(b) || b.strip_suffix(":latest") == Some(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tag_is_latest() {
        assert!(same_model("llama3.2", "llama3.2:latest"));
        assert!(same_model("llama3.2:latest", "llama3.2"));
        assert!(!same_model("llama3.2:3b", "llama3.2"));
    }
}
