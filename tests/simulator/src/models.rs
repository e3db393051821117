//! What the simulator has and how fast it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a prompt that is too long, and may not be cut, is answered with: what the runner says, as a text.
pub(crate) const OVERFLOW: &str = concat!(
    r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size (8192 tokens), "#,
    r#"try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":8192}}"#
);
/// The same where the model cannot have it cut.
pub(crate) const NO_SHIFT: &str = "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the context length in settings, or use a model with a longer context length";

/// One model on disk.
#[derive(Clone, Debug)]
pub struct Model {
    /// Full name with tag.
    pub name: String,
    /// Bytes it takes when loaded, without its context where `kv_per_token` tells that.
    pub size: u64,
    /// Context length in tokens, where a request asks for no other.
    pub context: u64,
    /// Bytes that one token of context adds to `size`, for each parallel request.
    pub kv_per_token: u64,
    /// Whether it has embeddings only: the native endpoints then refuse to generate and to chat.
    pub embedding: bool,
    /// Whether it can be asked to think.
    pub thinks: bool,
    /// Whether a prompt that is too long is cut, as for most models, rather than refused.
    pub shifts: bool,
    /// Time to load it, where it differs from [`Settings::load_time`].
    pub load_time: Option<Duration>,
    /// Times that new weights came under its name.
    pub pulls: Arc<AtomicU64>,
}

impl Model {
    /// A model of `gib` GiB.
    #[must_use]
    pub fn new(name: &str, gib: u64) -> Self {
        Self {
            name: name.into(),
            size: gib << 30,
            context: 8192,
            kv_per_token: 0,
            embedding: name.contains("minilm") || name.contains("embed"),
            thinks: true,
            shifts: true,
            load_time: None,
            pulls: Arc::default(),
        }
    }

    /// Bytes it takes when loaded with that context and that many requests at a time.
    #[must_use]
    pub fn footprint(&self, context: u64, parallel: usize) -> u64 {
        let tokens = context.saturating_mul(parallel as u64);
        self.size.saturating_add(self.kv_per_token.saturating_mul(tokens))
    }

    /// Why a prompt of `words` is refused in this `context`. With `truncate`, what does not fit is left out
    /// without a word, where the model can do that.
    pub(crate) fn refusal(&self, words: u64, context: u64, truncate: bool) -> Option<&'static str> {
        match (words > context, truncate) {
            (true, false) => Some(OVERFLOW),
            (true, true) if !self.shifts && !self.embedding => Some(NO_SHIFT),
            _ => None,
        }
    }

    /// A digest that depends on the name, and on how often new weights came.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut state = 0xcbf2_9ce4_8422_2325_u64 ^ self.pulls.load(Ordering::SeqCst);
        for byte in self.name.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        format!("{state:016x}").repeat(4)
    }

    pub(crate) fn capabilities(&self) -> &'static [&'static str] {
        if self.embedding { &["embedding"] } else { &["completion", "tools"] }
    }
}

/// How the simulator behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Models on disk.
    pub models: Vec<Model>,
    /// Bytes of VRAM.
    pub vram: u64,
    /// Bytes of VRAM that each loaded model takes beyond what `/api/ps` tells.
    pub overhead: u64,
    /// Where to keep a sysfs tree that shows the VRAM as an AMD GPU's; none without.
    pub card: Option<PathBuf>,
    /// `OLLAMA_NUM_PARALLEL`: requests one loaded model works on at a time.
    pub num_parallel: usize,
    /// `OLLAMA_MAX_QUEUE`: requests that may wait for a model to load.
    pub max_queue: usize,
    /// `OLLAMA_MAX_LOADED_MODELS`.
    pub max_loaded: usize,
    /// `OLLAMA_KEEP_ALIVE`.
    pub keep_alive: Duration,
    /// Time to load a model.
    pub load_time: Duration,
    /// Time to the first token once loaded.
    pub first_token: Duration,
    /// Time between tokens.
    pub token_interval: Duration,
    /// Tokens in an answer unless the request limits them.
    pub tokens: usize,
    /// Whether a `/v1` chat that its limit cut ends in `length`, as Ollama's does. Without it the end
    /// is `stop`: tests of the cache want short answers that are worth keeping. A native one always
    /// ends in `length`.
    pub v1_length: bool,
    /// What `/api/version` says.
    pub version: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            models: vec![Model::new("llama3.2:3b", 3), Model::new("all-minilm:latest", 1)],
            vram: 24 << 30,
            overhead: 0,
            card: None,
            num_parallel: 4,
            max_queue: 512,
            max_loaded: 3,
            keep_alive: Duration::from_secs(300),
            load_time: Duration::ZERO,
            first_token: Duration::ZERO,
            token_interval: Duration::ZERO,
            tokens: 8,
            v1_length: false,
            version: "0.12.3".into(),
        }
    }
}

impl Settings {
    /// The model of that name; a missing tag is `:latest`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Model> {
        self.models
            .iter()
            .find(|one| one.name == name || one.name.strip_suffix(":latest") == Some(name))
    }
}
