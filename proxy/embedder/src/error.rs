//! What can go wrong, in words that an operator can act on.

use std::io;
use std::path::PathBuf;

/// Why a directory could not become a [`Model`](crate::Model).
///
/// Every variant names the file, and its text says what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file (or the directory itself) that is needed is not there.
    #[error("{} is missing{hint}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What to do about it: empty, or a clause that continues the sentence.
        hint: &'static str,
    },
    /// The operating system would not give the file's content.
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        cause: io::Error,
    },
    /// The file is larger than a file of its kind can sensibly be.
    #[error("{} is {bytes} bytes long; at most {limit} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length, in bytes.
        bytes: u64,
        /// The most that is read of it, in bytes.
        limit: u64,
    },
    /// The file was read, but it is damaged, contradicts another or asks for something that this
    /// crate does not do.
    #[error("{} cannot be used: {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, in words.
        why: String,
    },
}

/// Why texts could not be turned into vectors. The model stays usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// A text has more tokens than the model was made for. It is not cut: two texts with a common
    /// beginning would get the same vector.
    #[error("text {index} has {tokens} tokens; the model takes at most {limit}")]
    TooLong {
        /// The text's place in the list, from 0.
        index: usize,
        /// Its length in tokens, special ones included.
        tokens: usize,
        /// [`Model::max_tokens`](crate::Model::max_tokens).
        limit: usize,
    },
    /// A text has no token of its own, as when it is empty or only spaces. All such texts would
    /// share one vector, which says nothing of any of them.
    #[error("text {index} is empty, or holds nothing that the tokenizer keeps")]
    Empty {
        /// The text's place in the list, from 0.
        index: usize,
    },
    /// The tokenizer refused a text.
    #[error("text {index} cannot be split into tokens: {why}")]
    Tokenize {
        /// The text's place in the list, from 0.
        index: usize,
        /// The tokenizer's words.
        why: String,
    },
    /// The result has no direction: it is all zeros, infinite or not a number. The weights are bad.
    #[error("text {index} has no usable vector: the model's weights give zero or no number")]
    NotFinite {
        /// The text's place in the list, from 0.
        index: usize,
    },
    /// The computation itself failed.
    #[error("the model's computation failed: {why}")]
    Compute {
        /// The numerical library's words.
        why: String,
    },
}

impl From<candle_core::Error> for EmbedError {
    fn from(cause: candle_core::Error) -> Self {
        Self::Compute { why: cause.to_string() }
    }
}
