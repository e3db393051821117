//! The response cache in the configuration: as written, and validated.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::UpstreamConfig;
use super::load::{ConfigError, Source};
use super::redis;
use super::units::{ByteSize, Period, Secret};

/// The longest an answer is kept: longer is not what a cache is for.
const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);

/// What a program says that has no embedder of its own.
pub const NO_LOCAL_EMBEDDER: &str = "this program was built without the feature that runs an embedder \
    itself: build it with `--features local-embedder`, or name an `upstream`";

/// Answers given before, given again.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawCache {
    /// Which answers are kept: `deterministic` (default), those asked to be the same each time
    /// (`temperature` of 0.3 or less, or a `seed`; embeddings); `unless_hot`, also those without a
    /// `temperature`; `always`; `off`.
    pub policy: Keep,
    /// How long an answer is kept. Default `300s`.
    pub ttl: Period,
    /// Who shares answers: `key` (default), each API key its own; `tenant`, the keys of one
    /// `tenant`; `all`.
    pub share: Share,
    /// Largest answer kept. Default `1MiB`.
    pub max_answer: ByteSize,
    /// Look answers up and compare them with fresh ones, but give only fresh ones. Default false.
    pub shadow: bool,
    /// Answers to equal requests.
    pub exact: RawExact,
    /// Answers to requests that mean the same, told by their words. Off by default.
    pub lexical: Option<Lexical>,
    /// Answers to requests that mean the same, told by an embedding and the words. Off by default.
    pub semantic: Option<RawSemantic>,
    /// Answers that an operator wrote: given at once, whatever `policy` says, to the only question of a
    /// chat when it asks the same as one of theirs.
    pub pinned: Vec<RawPinned>,
}

/// Answers found by the meaning of the question.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSemantic {
    /// Who makes embeddings.
    pub embedder: RawEmbedder,
    /// Least cosine of two questions of which one may get the other's answer. It belongs to the
    /// embedder: `sluicegate cache eval` measures one. Default 0.95.
    pub threshold: Option<f64>,
    /// Where vectors lie: `memory` (default), each process its own; `redis`, in the vector sets of
    /// `cache.exact.redis`, for all replicas. A Redis without them, before 8, leaves them in memory.
    pub vectors: Option<Vectors>,
    /// Directory that keeps questions and answers over restarts, made with mode 0700 where it is
    /// missing; one process at a time; not with `vectors: redis`. Default: in memory only.
    pub path: Option<String>,
    /// Questions remembered; in Redis, those of one scope. Default 10000.
    pub entries: Option<usize>,
    /// Largest size of `path`. Default `1GiB`.
    pub size: Option<ByteSize>,
    /// Longest wait for an embedding; then it is a miss. Default `50ms`.
    pub deadline: Option<Period>,
}

/// Where vectors lie.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Vectors {
    /// In this process.
    #[default]
    Memory,
    /// In the Redis that holds the answers.
    Redis,
}

/// A model that makes embeddings: an upstream's, or one in a directory.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawEmbedder {
    /// Name of an upstream.
    #[schemars(with = "Option<String>")]
    pub upstream: Option<Spanned<String>>,
    /// The model's name there.
    pub model: Option<String>,
    /// Instead of both: directory of a BERT-like model (`config.json`, `tokenizer.json`,
    /// `model.safetensors`) that this process runs on the CPU, read at start. Needs a build with the
    /// cargo feature `local-embedder`.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
}

/// Questions with an answer of the operator's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPinned {
    /// The questions, each of two words or more.
    #[schemars(with = "Vec<String>")]
    pub questions: Vec<Spanned<String>>,
    /// The answer.
    pub answer: String,
    /// Model names asked for to which it applies; `*` inside stands for any text. Default: all.
    #[serde(default)]
    pub models: Vec<String>,
}

impl Default for RawCache {
    fn default() -> Self {
        Self {
            policy: Keep::default(),
            ttl: Period::secs(300),
            share: Share::default(),
            max_answer: ByteSize::mib(1),
            shadow: false,
            exact: RawExact::default(),
            lexical: None,
            semantic: None,
            pinned: Vec::new(),
        }
    }
}

/// Which answers are kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// None.
    Off,
    /// Those asked to be the same each time.
    #[default]
    Deterministic,
    /// All but those asked to differ.
    UnlessHot,
    /// All.
    Always,
}

/// Who shares answers.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Each API key has its own.
    #[default]
    Key,
    /// The keys of one tenant; a key without one has its own.
    Tenant,
    /// All callers.
    All,
}

/// Answers to equal requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawExact {
    /// Redis that holds them, shared by replicas: `redis://host:6379`, or `env:NAME` or `file:/path`
    /// for a URL with a password. Default: in memory.
    #[schemars(with = "String")]
    pub redis: Option<Spanned<String>>,
    /// Memory for them: with a Redis, for copies of those it gave lately, which it tells of changes to (Redis 6 or
    /// later), and `0B` for none. Default `64MiB`.
    pub memory: ByteSize,
}

impl Default for RawExact {
    fn default() -> Self {
        Self { redis: None, memory: ByteSize::mib(64) }
    }
}

/// Answers found by the words of the question.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Lexical {
    /// Questions remembered. Default 10000.
    pub entries: usize,
}

impl Default for Lexical {
    fn default() -> Self {
        Self { entries: 10_000 }
    }
}

/// The validated cache.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheConfig {
    /// Which answers are kept.
    pub policy: Keep,
    /// How long.
    pub ttl: Duration,
    /// Who shares them.
    pub share: Share,
    /// The largest, in bytes.
    pub max_answer: usize,
    /// Compare only.
    pub shadow: bool,
    /// URL of the Redis; none keeps answers in memory.
    pub redis: Option<Secret>,
    /// Memory for answers, or for copies of them, in bytes.
    pub memory: usize,
    /// Questions matched by their words.
    pub lexical: Option<Lexical>,
    /// Questions matched by their meaning.
    pub semantic: Option<SemanticConfig>,
    /// Answers that an operator wrote.
    pub pinned: Vec<PinnedConfig>,
}

/// Questions matched by their meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct SemanticConfig {
    /// Who makes embeddings.
    pub embedder: EmbedderConfig,
    /// Least cosine.
    pub threshold: f64,
    /// Where their vectors lie.
    pub vectors: Vectors,
    /// Where they are kept over restarts.
    pub path: Option<PathBuf>,
    /// Questions remembered.
    pub entries: usize,
    /// Bytes on disk.
    pub size: u64,
    /// Longest wait for an embedding.
    pub deadline: Duration,
}

/// A model that makes embeddings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmbedderConfig {
    /// An upstream's.
    Upstream {
        /// Index into [`super::Config::upstreams`].
        upstream: usize,
        /// The model's name there.
        model: String,
    },
    /// That in a directory.
    Local(PathBuf),
}

/// Questions with an answer of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedConfig {
    /// The questions.
    pub questions: Vec<String>,
    /// The answer.
    pub answer: String,
    /// Globs of models; none means all.
    pub models: Vec<String>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        let raw = RawCache::default();
        Self {
            policy: raw.policy,
            ttl: raw.ttl.0,
            share: raw.share,
            max_answer: raw.max_answer.len(),
            shadow: raw.shadow,
            redis: None,
            memory: raw.exact.memory.len(),
            lexical: raw.lexical,
            semantic: None,
            pinned: Vec::new(),
        }
    }
}

/// Reads the cache's part.
pub(super) fn validate(
    raw: &RawCache,
    upstreams: &[UpstreamConfig],
    source: &Source,
) -> Result<CacheConfig, ConfigError> {
    let wrong = |message: &str| Err(ConfigError::general(message.to_owned()));
    if raw.ttl.0.is_zero() || raw.ttl.0 > MAX_TTL {
        return wrong("`cache.ttl` must be more than zero and 30d at most");
    }
    if raw.max_answer.is_empty() || raw.max_answer > ByteSize::mib(1) {
        return wrong("`cache.max_answer` must be more than zero and 1MiB at most");
    }
    let without = raw.exact.memory.is_empty() && raw.exact.redis.is_some();
    if raw.exact.memory < ByteSize::mib(1) && !without {
        return wrong("`cache.exact.memory` must be 1MiB or more; with a Redis it may be 0B");
    }
    if raw.lexical.is_some_and(|lexical| lexical.entries == 0) {
        return wrong(
            "`cache.lexical.entries` must be more than zero; leave `lexical` out to be without",
        );
    }
    let shared = |semantic: &&RawSemantic| semantic.vectors == Some(Vectors::Redis);
    if let Some(semantic) = raw.semantic.as_ref().filter(shared) {
        if raw.exact.redis.is_none() {
            return wrong("`cache.semantic.vectors: redis` needs a Redis in `cache.exact.redis`");
        }
        if semantic.path.is_some() {
            return wrong(
                "`cache.semantic.path` is for vectors in memory; with `vectors: redis` leave it out",
            );
        }
    }
    Ok(CacheConfig {
        policy: raw.policy,
        ttl: raw.ttl.0,
        share: raw.share,
        max_answer: raw.max_answer.len(),
        shadow: raw.shadow,
        redis: raw
            .exact
            .redis
            .as_ref()
            .map(|url| redis::url(url, "cache.exact.redis", source))
            .transpose()?,
        memory: raw.exact.memory.len(),
        lexical: raw.lexical,
        semantic: raw.semantic.as_ref().map(|one| semantic(one, upstreams, source)).transpose()?,
        pinned: raw.pinned.iter().map(|one| pinned(one, source)).collect::<Result<_, _>>()?,
    })
}

fn pinned(raw: &RawPinned, source: &Source) -> Result<PinnedConfig, ConfigError> {
    for question in &raw.questions {
        if question.value.split_whitespace().count() < 2 {
            let message = "`questions`: a question of one word could mean anything";
            return Err(source.error_at(question.defined, message));
        }
    }
    if raw.questions.is_empty() || raw.answer.is_empty() {
        return Err(ConfigError::general("`cache.pinned` needs `questions` and an `answer`"));
    }
    Ok(PinnedConfig {
        questions: raw.questions.iter().map(|question| question.value.clone()).collect(),
        answer: raw.answer.clone(),
        models: raw.models.clone(),
    })
}

fn embedder(
    raw: &RawEmbedder,
    upstreams: &[UpstreamConfig],
    source: &Source,
) -> Result<EmbedderConfig, ConfigError> {
    match (&raw.upstream, &raw.model, &raw.path) {
        (Some(upstream), Some(model), None) => Ok(EmbedderConfig::Upstream {
            upstream: super::validate::upstream_named(upstream, upstreams, source)?,
            model: model.clone(),
        }),
        (None, None, Some(path)) if cfg!(feature = "local-embedder") => {
            Ok(EmbedderConfig::Local(PathBuf::from(&path.value)))
        }
        (None, None, Some(path)) => Err(source.error_at(path.defined, NO_LOCAL_EMBEDDER)),
        _ => Err(ConfigError::general(
            "`cache.semantic.embedder` needs an `upstream` and a `model`, or a `path` alone",
        )),
    }
}

fn semantic(
    raw: &RawSemantic,
    upstreams: &[UpstreamConfig],
    source: &Source,
) -> Result<SemanticConfig, ConfigError> {
    let config = SemanticConfig {
        embedder: embedder(&raw.embedder, upstreams, source)?,
        threshold: raw.threshold.unwrap_or(0.95),
        vectors: raw.vectors.unwrap_or_default(),
        path: raw.path.as_ref().map(PathBuf::from),
        entries: raw.entries.unwrap_or(10_000),
        size: raw.size.unwrap_or(ByteSize::mib(1024)).0,
        deadline: raw.deadline.unwrap_or(Period(Duration::from_millis(50))).0,
    };
    if !(0.5..=1.0).contains(&config.threshold) {
        return Err(ConfigError::general(
            "`cache.semantic.threshold` must be from 0.5 to 1: below, anything is like anything",
        ));
    }
    if config.entries == 0 || config.deadline.is_zero() || config.size < ByteSize::mib(64).0 {
        return Err(ConfigError::general(
            "`cache.semantic`: `entries` and `deadline` must be more than zero, `size` 64MiB or more",
        ));
    }
    Ok(config)
}
