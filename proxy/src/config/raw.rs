//! The configuration file as it is written: every key, its unit and its default.
//!
//! The doc comments here are the key reference: the JSON schema is generated from them.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::admission::Admission;
pub use super::cache::RawCache;
use super::container::Container;
pub use super::gpus::{Gpus, UpstreamGpus};
use super::models::{Keep, RouteOptions};
pub use super::plugins::RawPlugin;
use super::units::{ByteSize, Period, SecretSource};

/// A sluicegate configuration file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Sluicegate configuration")]
pub struct Raw {
    /// Address and port of the data listener. An address that is not loopback needs `keys` or
    /// `anonymous: true`. Default `127.0.0.1:8080`.
    #[schemars(with = "String")]
    pub listen: Option<Spanned<String>>,
    /// Address and port of the admin listener (metrics, health, status). An address that is not
    /// loopback needs `admin_token`. Default `127.0.0.1:9464`.
    #[schemars(with = "String")]
    pub admin: Option<Spanned<String>>,
    /// Bearer token the admin listener asks for, except on `/healthz` and `/readyz`.
    pub admin_token: Option<SecretSource>,
    /// Serve callers without a key on an address that is not loopback. Default false.
    pub anonymous: bool,
    /// Threads that serve requests. Default 1; one serves tens of thousands of requests a second.
    pub workers: Option<u16>,
    /// TLS for the data listener, with HTTP/2 by ALPN. Off by default.
    pub tls: Option<Tls>,
    /// HTTP/2 without TLS (prior knowledge) on the data listener. Default false.
    pub h2c: bool,
    /// How long running requests may take to end after SIGTERM. Default `30s`.
    pub drain: Period,
    /// After this long without an event, a committed stream is sent an SSE comment, so that
    /// middleboxes do not cut it. Default `15s`.
    pub heartbeat: Period,
    /// What one client, and all of them together, may take.
    pub limits: Limits,
    /// Which web pages may call the gateway from a browser.
    pub cors: Cors,
    /// The access log, one line for each request on standard output.
    pub access_log: AccessLog,
    /// Servers that speak Ollama's or OpenAI's HTTP, by name, in order of preference. Default: one
    /// named `host` at `$OLLAMA_HOST`, else `http://127.0.0.1:11434`.
    pub upstreams: IndexMap<String, RawUpstream>,
    /// The GPUs of this machine.
    pub gpus: Gpus,
    /// Names clients ask for, and where they go. A model that no route names is served under its
    /// own name by the first upstream that has it.
    pub routes: Vec<RawRoute>,
    /// When a request may run, must wait, or goes elsewhere.
    pub admission: Admission,
    /// When an upstream that keeps failing is left alone.
    pub breaker: BreakerConfig,
    /// The response cache.
    pub cache: RawCache,
    /// WASM plugins; a route names those it runs, in its order.
    pub plugins: Vec<RawPlugin>,
    /// Redis that holds what plugins `store`, shared by replicas: `redis://host:6379`, or `env:NAME`
    /// or `file:/path` for a URL with a password. Default: in memory.
    #[schemars(with = "String")]
    pub plugin_store: Option<Spanned<String>>,
    /// Directory for compiled plugins, made with mode 0700 where it is missing; what lies there is
    /// run as it is. Default `$XDG_CACHE_HOME/sluicegate`, else `~/.cache/sluicegate`, else none.
    pub plugin_cache: Option<String>,
    /// Directory for what was learned about models, and which are pinned, over restarts. Default
    /// `$XDG_STATE_HOME/sluicegate`, else `~/.local/state/sluicegate`, else none.
    pub state_dir: Option<String>,
    /// API keys. With any key configured, every data endpoint needs one.
    pub keys: Vec<RawKey>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            listen: None,
            admin: None,
            admin_token: None,
            anonymous: false,
            workers: None,
            tls: None,
            h2c: false,
            drain: Period::secs(30),
            heartbeat: Period::secs(15),
            limits: Limits::default(),
            cors: Cors::default(),
            access_log: AccessLog::default(),
            upstreams: IndexMap::new(),
            gpus: Gpus::default(),
            routes: Vec::new(),
            admission: Admission::default(),
            breaker: BreakerConfig::default(),
            cache: RawCache::default(),
            plugins: Vec::new(),
            plugin_store: None,
            plugin_cache: None,
            state_dir: None,
            keys: Vec::new(),
        }
    }
}

/// Certificate and key of the data listener; both are read again on reload.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Path of the certificate chain, PEM.
    pub cert: String,
    /// Path of the private key, PEM.
    pub key: String,
}

/// Bounds on what clients may take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request body, also after decompression. Default `128MiB`.
    pub body: ByteSize,
    /// Request bodies held at one time by the whole process; beyond it, 503. Default `1GiB`.
    pub bodies_in_flight: ByteSize,
    /// Client connections open at one time; beyond it, new ones are closed. Default 10000.
    pub connections: usize,
    /// How long a connection may take to send a request's header, and may idle between requests.
    /// Default `60s`.
    pub header_timeout: Period,
    /// Longest pause while a request's body is read; on average it must come at 8 KiB/s. Default
    /// `30s`.
    pub body_timeout: Period,
    /// Longest time for a client to take one part of an answer, 256 KiB at most. Default `60s`.
    pub write_timeout: Period,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: ByteSize::mib(128),
            bodies_in_flight: ByteSize::mib(1024),
            connections: 10_000,
            header_timeout: Period::secs(60),
            body_timeout: Period::secs(30),
            write_timeout: Period::secs(60),
        }
    }
}

/// Cross-origin access by browsers.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Origins allowed beside Ollama's own defaults (localhost on any port, `app://`, `file://`,
    /// `tauri://`, `vscode-webview://`). A `*` inside stands for any text; `*` alone allows every
    /// page.
    pub origins: Vec<String>,
}

/// The access log.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// `text` (default), `json` or `off`.
    pub format: LogFormat,
}

/// How an access-log line is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `key=value` pairs.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// No access log.
    Off,
}

/// The protocol an upstream speaks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamKind {
    /// Ollama: `/v1` and the native `/api`.
    Ollama,
    /// Any other server with OpenAI's `/v1`: llama.cpp, vLLM, LM Studio, OpenRouter.
    Openai,
}

/// One server that answers requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUpstream {
    /// Where it is. For `openai`, a URL with a path is used as it stands, as SDKs do; a bare
    /// origin gets `/v1`.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
    /// `ollama` or `openai`.
    pub kind: UpstreamKind,
    /// Key sent as `Authorization: Bearer`.
    pub api_key: Option<SecretSource>,
    /// Requests sent to it at one time; others wait in the gateway. For Ollama, set it to
    /// `OLLAMA_NUM_PARALLEL`. Default 1024.
    pub max_concurrent: Option<usize>,
    /// VRAM that models may take there, where it cannot be measured. Unknown by default.
    pub vram: Option<ByteSize>,
    /// The GPUs behind it: `auto` (default: those of this machine, if it runs here), `none`, a list
    /// of ids such as `nvml:0`, or `{ remote: URL }` of a Sluicegate on its machine.
    #[serde(default)]
    pub gpus: UpstreamGpus,
    /// Models of an Ollama that are kept in memory, by name.
    #[serde(default)]
    pub models: IndexMap<String, Keep>,
    /// A container it runs in, started when needed.
    pub container: Option<Container>,
    /// How long each part of an exchange may take.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// Deadlines of one exchange with an upstream.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Opening a connection, TLS included. Default `1s`.
    pub connect: Period,
    /// From sending the request to the first content of a stream: queueing and model load happen in
    /// it. An answer that is no stream comes when it is ready and has `total` only. Default `300s`.
    pub first_byte: Period,
    /// Longest pause inside an answer. Default `60s`.
    pub idle: Period,
    /// The whole exchange. Default `30m`.
    pub total: Period,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Period::secs(1),
            first_byte: Period::secs(300),
            idle: Period::secs(60),
            total: Period::secs(1_800),
        }
    }
}

/// A name clients ask for, and the targets that serve it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRoute {
    /// The model name asked for; `*` inside stands for any text. An exact name wins over a glob,
    /// an earlier glob over a later one. A route that no request could reach is an error.
    #[schemars(with = "String")]
    pub model: Spanned<String>,
    /// Targets to choose from by weight; one that fails or is tripped is followed by the others.
    pub targets: Vec<RawTarget>,
    /// Targets tried in order when none of `targets` can serve.
    #[serde(default)]
    pub fallback: Vec<RawTarget>,
    /// Commit a waiting stream to status 200 after this long and feed it SSE comments while it
    /// queues or its model loads. Later failures then arrive as an SSE error. Off by default.
    pub wait_comments: Option<Period>,
    /// Names of the plugins that its requests and answers pass, in this order. None by default.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub plugins: Vec<Spanned<String>>,
    /// Let plugins send text to a stream that still waits; needs `wait_comments`. The text becomes
    /// part of the answer. Default false.
    #[serde(default)]
    pub waiting_text: bool,
    /// Options for its requests.
    #[serde(default)]
    pub options: RouteOptions,
}

/// One upstream and the model's name there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTarget {
    /// Name of an upstream.
    #[schemars(with = "String")]
    pub upstream: Spanned<String>,
    /// The model's name there; default: the name asked for.
    pub model: Option<String>,
    /// Share of the route's requests relative to the other targets. Default 1; 0 means only when
    /// the others fail.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// The circuit breaker of each upstream, and of each model that fails where others are served well.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Failures within `window` that open it, unless three times as many requests succeed between
    /// them: 5xx, timeouts, broken connections, truncated streams. Default 5.
    pub errors: u32,
    /// The window in which failures are counted. Default `30s`.
    pub window: Period,
    /// How long it stays open before the upstream is probed. Default `10s`.
    pub open_for: Period,
    /// Requests let through at one time while half-open. Default 1.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { errors: 5, window: Period::secs(30), open_for: Period::secs(10), probes: 1 }
    }
}

/// One API key and what its owner may do. `sluicegate key new` makes one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawKey {
    /// The owner's name in logs, metrics and limits.
    pub name: String,
    /// `blake3:` and the key's hash in hexadecimal.
    #[schemars(with = "String")]
    pub hash: Spanned<String>,
    /// Model names the key may ask for; `*` inside stands for any text. Default: all.
    pub models: Option<Vec<String>>,
    /// The tenant it belongs to, for `cache.share: tenant`.
    pub tenant: Option<String>,
    /// Requests in a minute; beyond it, 429. Those for `/`, `/v1/models`, `/api/tags`, `/api/ps` and
    /// `/api/version` do not count: chat windows poll them.
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers in a minute, as upstreams report them; those of answers from the
    /// cache are free. What a request takes is known only at its end, so more may be taken than there
    /// is; until that is paid back, 429.
    pub tokens_per_minute: Option<u32>,
    /// Requests at one time; beyond it, 429.
    pub max_concurrent: Option<u32>,
    /// Share of an upstream's time relative to other callers, when they wait for it. Default 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Who goes first: `interactive` (default) or `batch`. A request may lower it with the header
    /// `x-sluicegate-priority: batch`; a value that is neither is a 400.
    #[serde(default)]
    pub priority: Priority,
}

/// Which of waiting requests go first.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// Nobody does; it goes after all others, but not for ever.
    Batch,
}
