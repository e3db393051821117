//! `sluicegate plugin test`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use http::Method;
use serde::Deserialize;
use sluicegate_plugin_host::{
    Engine, Interface, Isolation, Plugin, Settings, responder, rewriter, router, types,
};
use tokio::time::Instant;

use crate::cli::{fail, print};
use crate::config::units::{ByteSize, Period};
use crate::pipeline::plugins::{form, shown};
use crate::plugin::loader::cache_directory;
use crate::plugin::summary::{Facts, summary};
use crate::plugin::{decision, document::Document, edit};
use crate::request::endpoint::Endpoint;
use crate::request::scan;

#[derive(Args, Debug)]
pub(in crate::cli) struct Arguments {
    /// The WASM component.
    file: PathBuf,
    /// Requests, one JSON object a line: a chat body, or
    /// `{"endpoint", "caller", "headers", "body"}`.
    #[arg(long)]
    requests: PathBuf,
    /// The gateway's state as JSON: `{"route", "config", "targets": […]}`. Without it, one target
    /// of which nothing is known.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Longest time for one call.
    #[arg(long, default_value = "10ms")]
    deadline: String,
    /// Most memory of one instance.
    #[arg(long, default_value = "32MiB")]
    memory: String,
    /// Use one instance for all calls, as `isolation: reuse` does.
    #[arg(long)]
    reuse: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct State {
    route: Option<String>,
    config: serde_json::Map<String, serde_json::Value>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    upstream: String,
    model: String,
    #[serde(default)]
    fallback: bool,
    #[serde(default = "one")]
    weight: u32,
    resident: Option<bool>,
    partial: Option<bool>,
    headroom: Option<u64>,
    #[serde(default)]
    in_flight: u32,
    #[serde(default)]
    waiting: u32,
    tokens_per_second: Option<f64>,
    load_ms: Option<u64>,
    #[serde(default)]
    breaker: Breaker,
    context_length: Option<u64>,
}

fn one() -> u32 {
    1
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Breaker {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

/// One line of the requests' file.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    endpoint: Option<String>,
    caller: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    #[serde(borrow)]
    body: Option<&'a serde_json::value::RawValue>,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let outcome = runtime
        .map_err(|cause| cause.to_string())
        .and_then(|runtime| runtime.block_on(test(arguments)));
    match outcome {
        Ok((text, 0)) => print(&text),
        Ok((text, failures)) => {
            print(&text);
            fail(1, &format!("{failures} calls failed"))
        }
        Err(cause) => fail(1, &cause),
    }
}

/// With the gateway's own cache of compiled code, where there is one.
fn engine() -> Result<Engine, String> {
    let cached = cache_directory().map(|dir| Engine::new(Some(&dir), 1));
    cached.and_then(Result::ok).map_or_else(|| Engine::new(None, 1), Ok)
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|cause| format!("{}: {cause}", file.display()))
}

fn unit<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|cause| cause.to_string())
}

async fn test(arguments: &Arguments) -> Result<(String, usize), String> {
    let state = match &arguments.state {
        None => State { targets: vec![Target::unknown()], ..State::default() },
        Some(file) => serde_json::from_slice::<State>(&read(file)?)
            .map_err(|cause| format!("{}: {cause}", file.display()))?,
    };
    let settings = Settings {
        config: serde_json::Value::Object(state.config.clone()),
        deadline: unit::<Period>(&arguments.deadline)?.0,
        memory: unit::<ByteSize>(&arguments.memory)?.len(),
        isolation: if arguments.reuse { Isolation::Reuse } else { Isolation::Request },
        ..Settings::new("test")
    };
    let wasm = read(&arguments.file)?;
    let began = Instant::now();
    let plugin = Plugin::load(&engine()?, &wasm, settings, Arc::default())
        .await
        .map_err(|cause| format!("{}: {cause}", arguments.file.display()))?;
    let mut report = Report { text: String::new(), failures: 0 };
    let about = plugin.description();
    let implements: Vec<&str> = plugin.interfaces().map(Interface::as_str).collect();
    report.line(format_args!(
        "{} {}: {}; loaded in {:.0?}",
        about.name,
        about.version,
        implements.join(", "),
        began.elapsed()
    ));
    let targets: Vec<router::Target> = state.targets.iter().map(Target::shown).collect();
    let text = String::from_utf8(read(&arguments.requests)?).map_err(|cause| cause.to_string())?;
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let case = Case::read(line, state.route.as_deref(), &plugin)
            .map_err(|why| format!("{}:{number}: {why}", arguments.requests.display()))?;
        case.ask(number, &plugin, &targets, &mut report).await;
    }
    if arguments.state.is_none() {
        report.line(format_args!(
            "without --state there is one target, host/model, of which nothing is known"
        ));
    }
    report
        .line(format_args!("most memory of an instance: {} KiB", plugin.figures().memory() >> 10));
    Ok((report.text, report.failures))
}

impl Target {
    /// What is chosen from without `--state`.
    fn unknown() -> Self {
        Self {
            upstream: "host".into(),
            model: "model".into(),
            fallback: false,
            weight: 1,
            resident: None,
            partial: None,
            headroom: None,
            in_flight: 0,
            waiting: 0,
            tokens_per_second: None,
            load_ms: None,
            breaker: Breaker::Closed,
            context_length: None,
        }
    }

    fn shown(&self) -> router::Target {
        router::Target {
            upstream: self.upstream.clone(),
            model: self.model.clone(),
            fallback: self.fallback,
            weight: self.weight,
            resident: self.resident,
            partial: self.partial,
            headroom: self.headroom,
            in_flight: self.in_flight,
            waiting: self.waiting,
            tokens_per_second: self.tokens_per_second,
            load_ms: self.load_ms,
            breaker: match self.breaker {
                Breaker::Closed => router::Breaker::Closed,
                Breaker::Open => router::Breaker::Open,
                Breaker::HalfOpen => router::Breaker::HalfOpen,
            },
            context_length: self.context_length,
        }
    }
}

struct Report {
    text: String,
    failures: usize,
}

impl Report {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn call(
        &mut self,
        number: usize,
        interface: Interface,
        began: Instant,
        said: Result<String, String>,
    ) {
        let took = began.elapsed();
        let name = interface.as_str();
        match said {
            Ok(said) => self.line(format_args!("{number} {name}: {said} ({took:.1?})")),
            Err(why) => {
                self.failures += 1;
                self.line(format_args!("{number} {name}: FAILED {why} ({took:.1?})"));
            }
        }
    }
}

/// One request to ask about.
struct Case {
    request: types::Request,
    endpoint: Endpoint,
    body: Vec<u8>,
}

impl Case {
    fn read(line: &str, route: Option<&str>, plugin: &Plugin) -> Result<Self, String> {
        let given: Line<'_> = serde_json::from_str(line).map_err(|cause| cause.to_string())?;
        let body = given.body.map_or(line, |body| body.get()).as_bytes().to_vec();
        let path = given.endpoint.as_deref().unwrap_or("/v1/chat/completions");
        let endpoint = Endpoint::resolve(&Method::POST, path).map_err(|error| error.to_string())?;
        let scan = scan::scan(&body).map_err(|cause| format!("not a request's body: {cause:?}"))?;
        let facts = Facts {
            id: "test",
            caller: given.caller.as_deref().unwrap_or("anonymous"),
            route,
            model: &scan.model,
            endpoint: shown(endpoint),
            form: form(endpoint),
            streaming: scan.stream.unwrap_or(false),
        };
        let names: Vec<(String, &str)> =
            given.headers.iter().map(|(name, v)| (name.to_ascii_lowercase(), v.as_str())).collect();
        let headers = names.iter().map(|(name, value)| (name.as_str(), *value));
        let request = summary(&facts, plugin.description().needs, headers, &body)?;
        Ok(Self { request, endpoint, body })
    }

    async fn ask(
        mut self,
        number: usize,
        plugin: &Plugin,
        targets: &[router::Target],
        report: &mut Report,
    ) {
        for interface in plugin.interfaces() {
            let began = Instant::now();
            let said = match interface {
                Interface::Router => {
                    let decided = plugin.route(&self.request, targets).await;
                    decided.map_err(|e| e.to_string()).and_then(|d| say_route(d, targets))
                }
                Interface::Rewriter => {
                    self.request.upstream = targets.first().map(|target| target.upstream.clone());
                    let decided = plugin.rewrite(&self.request).await;
                    decided.map_err(|e| e.to_string()).and_then(|d| self.say_rewrite(d))
                }
                Interface::CachePolicy => {
                    let decided = plugin.cache_policy(&self.request).await;
                    let checked = decided
                        .map_err(|e| e.to_string())
                        .and_then(|policy| policy.map(decision::policy).transpose());
                    checked.map(|policy| format!("{policy:?}"))
                }
                Interface::Responder => say_edit(plugin, &self.request).await,
            };
            report.call(number, interface, began, said);
        }
    }

    fn say_rewrite(&self, decided: rewriter::Decision) -> Result<String, String> {
        match decided {
            rewriter::Decision::Proceed => Ok("proceed".into()),
            rewriter::Decision::Answer(text) => Ok(format!("answer {text:?}")),
            rewriter::Decision::Reject(given) => decision::rejection(given).map(say_rejection),
            rewriter::Decision::Edit(edits) => {
                let document = Document::parse(form(self.endpoint), &self.body)?;
                let (body, model) = edit::apply(&document, &edits)?;
                let moved = model.map_or_else(String::new, |model| format!(" to model {model}"));
                Ok(format!("{} edits{moved}: {}", edits.len(), String::from_utf8_lossy(&body)))
            }
        }
    }
}

fn say_route(decided: router::Decision, targets: &[router::Target]) -> Result<String, String> {
    match decided {
        router::Decision::Proceed => Ok("proceed".into()),
        router::Decision::Reject(given) => decision::rejection(given).map(say_rejection),
        router::Decision::Rank(ranking) => {
            let order = decision::order(ranking, targets.len())?;
            let name =
                |index: &usize| format!("{}/{}", targets[*index].upstream, targets[*index].model);
            let names: Vec<String> = order.targets.iter().map(name).collect();
            let mut said = format!("{:?}: {}", order.reason, names.join(", "));
            for (name, value) in &order.defaults {
                // Writing to a string cannot fail.
                let _ = write!(said, "; default {name} = {value:?}");
            }
            for (name, value) in &order.labels {
                let _ = write!(said, "; {name}={value}");
            }
            Ok(said)
        }
    }
}

fn say_rejection(given: types::Rejection) -> String {
    format!("reject {} {}: {}", given.status, given.code, given.message)
}

/// What it makes of an answer of two pieces.
async fn say_edit(plugin: &Plugin, request: &types::Request) -> Result<String, String> {
    let about = responder::Answer {
        request_id: request.id.clone(),
        caller: request.caller.clone(),
        route: request.route.clone(),
        model: request.model.clone(),
        streaming: request.streaming,
    };
    let mut state = Vec::new();
    let mut texts = Vec::new();
    for (text, finish) in [("Certainly! Here is", None), (" an answer.", Some("stop".to_owned()))] {
        let piece = responder::Piece { choice: 0, text: text.into(), finish, state };
        let edited = plugin.edit(&about, &piece).await.map_err(|failure| failure.to_string())?;
        let edited = decision::edited(edited)?;
        texts.push(edited.text);
        state = edited.state;
    }
    Ok(format!("{texts:?}"))
}
