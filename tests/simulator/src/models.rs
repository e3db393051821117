//! What the simulator has and how fast it is.

use std::time::Duration;

/// One model on disk.
#[derive(Clone, Debug)]
pub struct Model {
    /// Full name with tag.
    pub name: String,
    /// Bytes it takes when loaded.
    pub size: u64,
    /// Context length.
    pub context: u64,
}

impl Model {
    /// A model of `gib` GiB.
    #[must_use]
    pub fn new(name: &str, gib: u64) -> Self {
        Self { name: name.into(), size: gib << 30, context: 8192 }
    }

    /// A digest that depends on the name alone.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut state = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.name.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        format!("{state:016x}").repeat(4)
    }
}

/// How the simulator behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Models on disk.
    pub models: Vec<Model>,
    /// Bytes of VRAM.
    pub vram: u64,
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
    /// What `/api/version` says.
    pub version: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            models: vec![Model::new("llama3.2:3b", 3), Model::new("all-minilm:latest", 1)],
            vram: 24 << 30,
            num_parallel: 4,
            max_queue: 512,
            max_loaded: 3,
            keep_alive: Duration::from_secs(300),
            load_time: Duration::ZERO,
            first_token: Duration::ZERO,
            token_interval: Duration::ZERO,
            tokens: 8,
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
