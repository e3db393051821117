//! `tokenizer.json`: from a text to the rows of the network's tables.

use std::panic;
use std::path::Path;

use tokenizers::Tokenizer;

use crate::config::Config;
use crate::directory::unfit;
use crate::sentence::Sentence;
use crate::{EmbedError, LoadError};

/// A text as the network takes it.
pub(crate) struct Tokens {
    /// Its tokens, special ones included: at least one, and at most `max_tokens`.
    pub(crate) ids: Vec<u32>,
    /// The segment of each; 0 throughout for BERT's own tokenizer.
    pub(crate) segments: Vec<u32>,
}

/// The library panics over some files that are valid JSON but no tokenizer: over some when they are
/// read, over others with the first text, whichever it is.
fn parse(content: &[u8]) -> Result<Tokenizer, String> {
    let parsed = panic::catch_unwind(|| {
        let tokenizer = Tokenizer::from_bytes(content)?;
        tokenizer.encode_fast("a", true)?;
        Ok::<_, tokenizers::Error>(tokenizer)
    });
    match parsed {
        Ok(tokenizer) => tokenizer.map_err(|cause| cause.to_string()),
        Err(_) => Err("its parts do not fit together".to_owned()),
    }
}

/// A tokenizer with the bounds that the network sets it.
pub(crate) struct TextTokenizer {
    tokenizer: Tokenizer,
    lowercase: bool,
    max_tokens: usize,
}

impl TextTokenizer {
    /// Reads the content of `tokenizer.json`; `path` is for the error.
    pub(crate) fn read(
        path: &Path,
        content: &[u8],
        config: &Config,
        sentence: &Sentence,
    ) -> Result<Self, LoadError> {
        let mut tokenizer =
            parse(content).map_err(|why| unfit(path, format!("not a tokenizer ({why})")))?;
        // The file may ask for both; a cut text would go unnoticed, and padding is done by batch.
        tokenizer.with_padding(None).with_truncation(None).map_err(|cause| unfit(path, cause))?;
        let highest = tokenizer.get_vocab(true).into_values().max().unwrap_or_default();
        if highest as usize >= config.vocabulary {
            let rows = config.vocabulary;
            let why = format!("it has a token {highest}, config.json's vocab_size is {rows}");
            return Err(unfit(path, why));
        }
        let (lowercase, max_tokens) = (sentence.lowercase, sentence.max_tokens);
        Ok(Self { tokenizer, lowercase, max_tokens })
    }

    /// The tokens of the text at `index` of the caller's list.
    pub(crate) fn encode(&self, index: usize, text: &str) -> Result<Tokens, EmbedError> {
        let lower = self.lowercase.then(|| text.to_lowercase());
        let encoding = self
            .tokenizer
            .encode_fast(lower.as_deref().unwrap_or(text), true)
            .map_err(|cause| EmbedError::Tokenize { index, why: cause.to_string() })?;
        if encoding.get_special_tokens_mask().iter().all(|special| *special == 1) {
            return Err(EmbedError::Empty { index });
        }
        let (tokens, limit) = (encoding.len(), self.max_tokens);
        if tokens > limit {
            return Err(EmbedError::TooLong { index, tokens, limit });
        }
        let (ids, segments) = (encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec());
        Ok(Tokens { ids, segments })
    }
}
