//! Sluicegate: an OpenAI-compatible gateway for the GPUs you own.
//!
//! # Layout, in the order of a request
//!
//! - [`listener`]: sockets, TLS, the limit on connections
//! - [`session`]: a client's request and its answer, over HTTP/1.1 or 2
//! - [`request`]: bytes → endpoint, caller, body, the fields that matter
//! - [`plugin`]: WASM plugins on the way: route, rewrite, cache policy, answers
//! - [`router`]: model name → targets
//! - [`cache`]: answers given before, given again
//! - [`admission`]: a place at an upstream, or a bounded wait for one
//! - [`breaker`]: whether an upstream is worth asking
//! - [`gpu`]: what the GPUs of this machine are doing
//! - [`upstream`]: connections, one exchange, what an upstream has
//! - [`native`]: chats in Ollama's own dialect, and back
//! - [`response`]: streams split and watched, answers written
//! - [`pipeline`]: the only code that knows this order
//! - [`telemetry`]: metrics, access log, program log
//! - [`admin`]: the second listener
//! - [`server`]: builds all of it, runs, reloads, drains
//! - [`cli`]: the command line
//!
//! Below all of them: [`config`], [`error`], [`ids`], HTTP/1.1 and JSON by their bytes ([`http1`],
//! [`json`]), and the wire types of [`openai`] and [`ollama`].

pub mod admin;
pub mod admission;
pub mod breaker;
pub mod cache;
pub mod cli;
pub mod config;
pub mod error;
pub mod gpu;
pub mod http1;
pub mod ids;
pub mod json;
pub mod listener;
pub mod native;
pub mod ollama;
pub mod openai;
pub mod pipeline;
pub mod plugin;
pub mod request;
pub mod response;
pub mod router;
pub mod server;
pub mod session;
pub mod telemetry;
pub mod upstream;
