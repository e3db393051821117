//! What sentence-transformers adds to a network: how long a text may be, whether it is put in lower
//! case first, and how the vectors of its tokens become one (`modules.json`,
//! `sentence_bert_config.json`, `1_Pooling/config.json`; each may be absent).

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::LoadError;
use crate::config::Config;
use crate::directory::{Directory, unfit};

const MODULES: &str = "modules.json";
const SENTENCE: &str = "sentence_bert_config.json";
const POOLING: &str = "1_Pooling/config.json";

/// Longest text, in tokens, of a model that does not say: what BERT was trained with.
const DEFAULT_MAX_TOKENS: usize = 512;

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Their mean, special tokens included.
    Mean,
    /// The vector of the first token, `[CLS]`.
    Cls,
}

/// The settings of a sentence embedder.
pub(crate) struct Sentence {
    /// Longest text, in tokens, special ones included.
    pub(crate) max_tokens: usize,
    /// Whether a text is put in lower case before the tokenizer sees it.
    pub(crate) lowercase: bool,
    /// How tokens become one vector.
    pub(crate) pooling: Pooling,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    class: String,
    #[serde(default)]
    path: String,
}

#[derive(Default, Deserialize)]
struct Transformer {
    #[serde(default)]
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: Option<bool>,
}

impl Sentence {
    /// Reads the settings; `config` bounds the length of a text.
    pub(crate) fn read(directory: &Directory<'_>, config: &Config) -> Result<Self, LoadError> {
        let pooled = check_modules(directory)?;
        let transformer: Transformer = directory.settings(SENTENCE)?.unwrap_or_default();
        Ok(Self {
            max_tokens: max_tokens(directory, &transformer, config)?,
            lowercase: transformer.do_lower_case.unwrap_or(false),
            pooling: read_pooling(directory, config, pooled)?,
        })
    }
}

/// Refuses steps that would be left out, such as a dense layer after pooling. Returns whether the
/// model says that it has a pooling step.
fn check_modules(directory: &Directory<'_>) -> Result<bool, LoadError> {
    let Some(modules) = directory.settings::<Vec<Module>>(MODULES)? else { return Ok(false) };
    let refuse = |why: String| Err(unfit(&directory.path(MODULES), why));
    let mut pooled = false;
    for module in modules {
        // The package that a class is in has changed over time; its own name has not.
        match module.class.rsplit('.').next() {
            Some("Transformer") if module.path.is_empty() => {}
            Some("Pooling") if module.path == "1_Pooling" => pooled = true,
            Some("Normalize") => {}
            Some("Transformer" | "Pooling") => {
                let Module { class, path } = module;
                return refuse(format!("{class} is in {path:?}, which is not the usual place"));
            }
            _ => return refuse(format!("the step {} is not supported", module.class)),
        }
    }
    Ok(pooled)
}

fn max_tokens(
    directory: &Directory<'_>,
    transformer: &Transformer,
    config: &Config,
) -> Result<usize, LoadError> {
    let positions = config.positions;
    match transformer.max_seq_length {
        None => Ok(positions.min(DEFAULT_MAX_TOKENS)),
        Some(length) if (1..=positions).contains(&length) => Ok(length),
        Some(length) => {
            let why = format!("max_seq_length is {length}, config.json allows 1 to {positions}");
            Err(unfit(&directory.path(SENTENCE), why))
        }
    }
}

fn read_pooling(
    directory: &Directory<'_>,
    config: &Config,
    expected: bool,
) -> Result<Pooling, LoadError> {
    let path = directory.path(POOLING);
    let Some(keys) = directory.settings::<Map<String, Value>>(POOLING)? else {
        // Guessing the mean for a model that says it has a file of its own would give wrong
        // vectors without a sign of it.
        let hint = ", though modules.json names it; download it too";
        return if expected { Err(LoadError::Missing { path, hint }) } else { Ok(Pooling::Mean) };
    };
    let width = keys.get("word_embedding_dimension").or_else(|| keys.get("embedding_dimension"));
    if let Some(width) = width.filter(|width| width.as_u64() != Some(config.hidden_size as u64)) {
        let why =
            format!("it is for vectors of {width}, config.json's have {}", config.hidden_size);
        return Err(unfit(&path, why));
    }
    match modes(&keys).as_slice() {
        ["mean"] | ["mean_tokens"] => Ok(Pooling::Mean),
        ["cls"] | ["cls_token"] => Ok(Pooling::Cls),
        [] => Err(unfit(&path, "it names no pooling mode; mean and cls are supported")),
        modes => {
            let why = format!("pooling {} is not supported; mean or cls is", modes.join(" + "));
            Err(unfit(&path, why))
        }
    }
}

/// The pooling modes that are on: a name under `pooling_mode`, or a flag for each, as of old.
fn modes(keys: &Map<String, Value>) -> Vec<&str> {
    if let Some(mode) = keys.get("pooling_mode") {
        return vec![mode.as_str().unwrap_or("of several modes")];
    }
    keys.iter()
        .filter(|(_, value)| **value == Value::Bool(true))
        .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
        .collect()
}
