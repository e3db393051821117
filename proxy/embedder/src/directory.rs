//! The files of a model directory, each read whole into memory and only up to a bound.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::LoadError;

/// Most bytes of a settings file (`config.json` and the like). Real ones have a few thousand.
pub(crate) const SETTINGS_LIMIT: u64 = 1 << 20;
/// Most bytes of `tokenizer.json`. The largest multilingual vocabularies take about 17 million.
pub(crate) const TOKENIZER_LIMIT: u64 = 64 << 20;
/// Most bytes of `model.safetensors`. The largest BERT in use (1.3 GB, "large") fits.
pub(crate) const WEIGHTS_LIMIT: u64 = 2 << 30;

/// A model directory.
pub(crate) struct Directory<'a>(&'a Path);

impl<'a> Directory<'a> {
    /// Fails when there is no such directory, so that the message is not about a file in it.
    pub(crate) fn open(path: &'a Path) -> Result<Self, LoadError> {
        let metadata = fs::metadata(path).map_err(|cause| unreadable(path, cause, ""))?;
        if metadata.is_dir() { Ok(Self(path)) } else { Err(unfit(path, "it is not a directory")) }
    }

    /// The place of a file in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The content of a file that has to be there; `hint` continues "… is missing".
    pub(crate) fn required(
        &self,
        name: &str,
        limit: u64,
        hint: &'static str,
    ) -> Result<Vec<u8>, LoadError> {
        let path = self.path(name);
        read(&path, limit).map_err(|failure| failure.into_load_error(path, hint))
    }

    /// A settings file's content, or nothing when there is no such file.
    pub(crate) fn settings<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LoadError> {
        match self.required(name, SETTINGS_LIMIT, "") {
            Ok(content) => parse(&self.path(name), &content).map(Some),
            Err(LoadError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// JSON of the expected form.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, content: &[u8]) -> Result<T, LoadError> {
    serde_json::from_slice(content).map_err(|cause| unfit(path, cause))
}

/// The error for a file whose content is of no use, with the reason.
pub(crate) fn unfit(path: &Path, why: impl ToString) -> LoadError {
    LoadError::Unfit { path: path.to_owned(), why: why.to_string() }
}

enum ReadFailure {
    Io(io::Error),
    TooLarge { bytes: u64, limit: u64 },
    NotAFile,
}

impl ReadFailure {
    fn into_load_error(self, path: PathBuf, hint: &'static str) -> LoadError {
        match self {
            Self::Io(cause) => unreadable(&path, cause, hint),
            Self::TooLarge { bytes, limit } => LoadError::TooLarge { path, bytes, limit },
            Self::NotAFile => unfit(&path, "it is not a regular file"),
        }
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadFailure> {
    // Before it is opened: opening a named pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(ReadFailure::Io)?;
    if !metadata.is_file() {
        return Err(ReadFailure::NotAFile);
    }
    let bytes = metadata.len();
    if bytes > limit {
        return Err(ReadFailure::TooLarge { bytes, limit });
    }
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    // One more than the bound, to notice a file that grows while it is read.
    let read = File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut content))
        .map_err(ReadFailure::Io)?;
    match u64::try_from(read) {
        Ok(bytes) if bytes <= limit => Ok(content),
        _ => Err(ReadFailure::TooLarge { bytes: limit + 1, limit }),
    }
}

fn unreadable(path: &Path, cause: io::Error, hint: &'static str) -> LoadError {
    let path = path.to_owned();
    match cause.kind() {
        io::ErrorKind::NotFound => LoadError::Missing { path, hint },
        _ => LoadError::Unreadable { path, cause },
    }
}
