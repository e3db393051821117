//! Sentence embeddings on the CPU, from a model directory on disk.
//!
//! A directory is laid out as on Hugging Face (`config.json`, `tokenizer.json`,
//! `model.safetensors`, and what sentence-transformers adds) and holds a BERT encoder, such as
//! all-MiniLM-L6-v2 or bge-small-en. Nothing is downloaded. A text that is too long is refused, not
//! cut, so that two texts never get the same vector because of what was left out.
//!
//! # Threads
//!
//! [`Model::embed`] works on the calling thread and lets [rayon](https://docs.rs/rayon) share large
//! products among the threads of the pool that the caller is in; outside any, that is rayon's global
//! pool, with a thread for each core. To keep all work on a thread of one's own, build a pool of one
//! there and leave it in place: `ThreadPoolBuilder::new().num_threads(1).use_current_thread()`.
//!
//! # Layout
//!
//! - `directory`: files, read up to a bound
//! - `config`: the network's shape; `sentence`: length and pooling; `weights`: tensors
//! - `tokens`: text to token; `batch`: padding and pooling; `bert`: the network
//! - `error`: what can go wrong

#![forbid(unsafe_code)]

mod batch;
mod bert;
mod config;
mod directory;
mod error;
mod sentence;
mod tokens;
mod weights;

use std::fmt;
use std::path::Path;

pub use error::{EmbedError, LoadError};

use crate::batch::{Batch, normalise};
use crate::bert::Bert;
use crate::config::Config;
use crate::directory::{Directory, SETTINGS_LIMIT, TOKENIZER_LIMIT, WEIGHTS_LIMIT};
use crate::sentence::{Pooling, Sentence};
use crate::tokens::{TextTokenizer, Tokens};
use crate::weights::Weights;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";

const TOKENIZER_HINT: &str = "; download it too (vocab.txt alone is not enough)";
const WEIGHTS_HINT: &str = "; pytorch_model.bin is not read: download the repository's \
    model.safetensors, or convert with transformers: \
    AutoModel.from_pretrained(DIR).save_pretrained(DIR)";

/// What [`Model::id`] is an identifier of. The number changes whenever this crate starts to compute
/// other vectors from the same files.
const ID_CONTEXT: &str = "sluicegate-local-embedder 1 vectors of a model";

/// A sentence-embedding model held in memory.
///
/// It is never written to, so that threads may share it.
pub struct Model {
    id: [u8; 16],
    dimensions: usize,
    max_tokens: usize,
    pooling: Pooling,
    tokenizer: TextTokenizer,
    bert: Bert,
}

impl Model {
    /// Reads a model directory whole. Takes up to twice the size of the weights in memory for a
    /// moment, then once.
    ///
    /// # Errors
    ///
    /// When a file is missing, unreadable, too large (weights: over 2 GiB), damaged or at odds with
    /// another, or when the model is not a BERT encoder with mean or CLS pooling. The error names
    /// the file and says why.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let directory = Directory::open(directory)?;
        let config_content = directory.required(CONFIG, SETTINGS_LIMIT, "")?;
        let config = Config::read(&directory.path(CONFIG), &config_content)?;
        let sentence = Sentence::read(&directory, &config)?;
        let tokenizer_content = directory.required(TOKENIZER, TOKENIZER_LIMIT, TOKENIZER_HINT)?;
        let tokenizer = TextTokenizer::read(
            &directory.path(TOKENIZER),
            &tokenizer_content,
            &config,
            &sentence,
        )?;
        let weights_content = directory.required(WEIGHTS, WEIGHTS_LIMIT, WEIGHTS_HINT)?;
        let weights = Weights::read(directory.path(WEIGHTS), &weights_content)?;
        Ok(Self {
            id: identify(&[&config_content, &tokenizer_content, &weights_content], &sentence),
            dimensions: config.hidden_size,
            max_tokens: sentence.max_tokens,
            pooling: sentence.pooling,
            tokenizer,
            bert: Bert::new(&weights, &config)?,
        })
    }

    /// 16 bytes of BLAKE3 over the content that decides the vectors: weights, `config.json`,
    /// `tokenizer.json`, pooling and lower-casing. Vectors of models with different identifiers are
    /// not to be compared.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Length of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Longest text, in tokens, the special ones (`[CLS]`, `[SEP]`) included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// One vector of length 1 for each text, in the texts' order. A text's vector does not depend on
    /// those beside it, but for rounding.
    ///
    /// # Errors
    ///
    /// When a text is longer than [`max_tokens`](Self::max_tokens) or has no token (none is embedded
    /// then), or when the computation fails.
    pub fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let tokens = texts
            .iter()
            .enumerate()
            .map(|(index, text)| self.tokenizer.encode(index, text))
            .collect::<Result<Vec<Tokens>, _>>()?;
        // Texts of similar length go together, which keeps padding low.
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|index| tokens[*index].ids.len());
        let lengths: Vec<usize> = order.iter().map(|index| tokens[*index].ids.len()).collect();
        let mut vectors = vec![Vec::new(); tokens.len()];
        for range in batch::ranges(&lengths) {
            let members = &order[range];
            let batch = Batch::new(&members.iter().map(|i| &tokens[*i]).collect::<Vec<_>>())?;
            let pooled = batch.pool(&self.bert.forward(&batch)?, self.pooling)?;
            for (&index, vector) in members.iter().zip(pooled) {
                vectors[index] = normalise(vector).ok_or(EmbedError::NotFinite { index })?;
            }
        }
        Ok(vectors)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the weights.
        formatter
            .debug_struct("Model")
            .field("dimensions", &self.dimensions)
            .field("max_tokens", &self.max_tokens)
            .field("pooling", &self.pooling)
            .finish_non_exhaustive()
    }
}

/// See [`Model::id`]. Each content is preceded by its length, so that no two lists run together.
fn identify(contents: &[&[u8]], sentence: &Sentence) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
    for content in contents {
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(content);
    }
    hasher.update(&[u8::from(sentence.lowercase), u8::from(sentence.pooling == Pooling::Cls)]);
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}
