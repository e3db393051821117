//! The admin listener: metrics, health, what the upstreams are doing, and what the cache holds. It
//! reads; all that it changes is what the cache holds and which models are loaded.

mod cache;
pub mod models;
pub mod state;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::uri::Authority;
use http::{Method, StatusCode};
use pingora_core::server::ShutdownWatch;
use serde::Serialize;
use subtle::ConstantTimeEq;
use tokio::time::timeout;

use self::models::Action;
use self::state::{ModelStatus, QueueStatus, Status, UpstreamStatus};
use crate::cache::Cache;
use crate::config::units::Secret;
use crate::error::{Dialect, Error, Kind};
use crate::gpu::{Point, Report};
use crate::http1::{Io, host};
use crate::listener::accept::Application;
use crate::openai::bearer;
use crate::plugin::record::Decision;
use crate::response::downstream::{self, Head};
use crate::session::Session;
use crate::session::http1::Http1;
use crate::session::stream::ClientStream;
use crate::telemetry::events::Event;

/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a part of an answer may wait to be taken.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Events on one screen.
const SHOWN_EVENTS: usize = 20;
/// The exposition format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether the gateway can serve.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// It can.
    pub ready: bool,
    /// In a word.
    pub reason: &'static str,
}

/// Where the admin listener reads from.
#[async_trait]
pub trait Source: Send + Sync {
    /// The metrics page.
    fn metrics(&self) -> String;
    /// Whether requests can be served.
    fn readiness(&self) -> Readiness;
    /// Every upstream.
    fn upstreams(&self) -> Vec<UpstreamStatus>;
    /// What plugins decided about the last requests, newest first.
    fn decisions(&self) -> Vec<Arc<Decision>>;
    /// Why the configuration file, as it was last read, is not in force.
    fn config_problem(&self) -> Option<Arc<String>>;
    /// What plugins decided about a request, if it was one of the last.
    fn decision(&self, id: &str) -> Option<Arc<Decision>>;
    /// The GPUs of this machine.
    fn gpus(&self) -> Report;
    /// The GPUs of this machine over the last minutes, oldest first.
    fn gpu_history(&self) -> Vec<Point>;
    /// Every model of every Ollama.
    fn models(&self) -> Vec<ModelStatus>;
    /// Who waits where.
    fn queues(&self) -> Vec<QueueStatus>;
    /// What admission did lately, newest first.
    fn events(&self) -> Vec<Arc<Event>>;
    /// Does something about a model, at `upstream` or at the only one that has it.
    async fn act(&self, action: Action, model: &str, upstream: Option<&str>) -> Result<(), Error>;
    /// The response cache.
    fn cache(&self) -> Arc<Cache>;
    /// The token asked for.
    fn token(&self) -> Option<Secret>;
}

/// The admin listener's application.
pub struct Admin {
    source: Arc<dyn Source>,
}

impl Admin {
    /// An admin listener over `source`.
    #[must_use]
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }

    /// Serves one request; `None` where the connection carries no other.
    async fn serve_next(&self, mut connection: Http1) -> Option<Http1> {
        let head = timeout(HEAD_TIMEOUT, connection.read_head()).await.ok()?.ok()?;
        let mut session = Session::http1(connection, head, WRITE_TIMEOUT);
        let answer = match host::check(&session.head) {
            Ok(()) => self.answer(&mut session).await,
            Err(cause) => Err(Error::new(Kind::InvalidRequest, cause.to_string()).close()),
        };
        let (head, body) = answer.unwrap_or_else(|error| {
            if error.close {
                session.end_connection();
            }
            downstream::error(&error, Dialect::OpenAi)
        });
        session.send(head, body).await.ok()?;
        session.finish().await
    }

    async fn answer(&self, session: &mut Session) -> Result<(Head, Bytes), Error> {
        let path = session.head.path.clone();
        let path = &*path;
        if !matches!(path, "/healthz" | "/readyz") {
            self.authorize(session)?;
        }
        if path.starts_with("/api/") && self.source.token().is_none() {
            refuse_pages(session)?;
        }
        if let Some(action) = path.strip_prefix(models::PATH).and_then(Action::named) {
            models::act(self.source.as_ref(), session, action).await?;
            return json(StatusCode::OK, &serde_json::json!({ "done": true }));
        }
        let header = &session.head;
        let of_cache = path
            .strip_prefix(cache::PATH)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let delete = header.method == Method::DELETE && of_cache;
        if !delete && !matches!(header.method, Method::GET | Method::HEAD) {
            let mut error = Error::new(
                Kind::MethodNotAllowed,
                "this can only be read; the cache's entries can be deleted",
            );
            error.allow = Some(if of_cache { "GET, HEAD, DELETE" } else { "GET, HEAD" });
            return Err(error);
        }
        if of_cache {
            let query = header.query.as_deref().unwrap_or_default();
            let text = cache::answer(&self.source.cache(), &header.method, path, query).await?;
            return Ok(page(StatusCode::OK, "application/json", text));
        }
        match path {
            "/healthz" => Ok(page(StatusCode::OK, "text/plain", "ok\n".into())),
            "/readyz" => {
                let readiness = self.source.readiness();
                let status =
                    if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                json(status, &readiness)
            }
            "/metrics" => Ok(page(StatusCode::OK, METRICS_TYPE, self.source.metrics())),
            "/api/upstreams" => json(StatusCode::OK, &self.source.upstreams()),
            "/api/gpu" => json(StatusCode::OK, &self.source.gpus()),
            "/api/gpu/history" => json(StatusCode::OK, &self.source.gpu_history()),
            "/api/models" => json(StatusCode::OK, &self.source.models()),
            "/api/queue" => json(StatusCode::OK, &self.source.queues()),
            "/api/events" => json(StatusCode::OK, &self.source.events()),
            "/api/status" => json(StatusCode::OK, &self.status()),
            "/api/decisions" => {
                let decisions = self.source.decisions();
                json(StatusCode::OK, &decisions.iter().map(|one| &**one).collect::<Vec<_>>())
            }
            _ => self.named(path),
        }
    }

    /// Everything that one screen shows.
    fn status(&self) -> Status {
        let source = &self.source;
        let events = source.events().iter().take(SHOWN_EVENTS).map(|one| (**one).clone()).collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_problem: source.config_problem().map(|why| (*why).clone()),
            upstreams: source.upstreams(),
            gpus: source.gpus(),
            models: source.models(),
            queues: source.queues(),
            events,
        }
    }

    fn named(&self, path: &str) -> Result<(Head, Bytes), Error> {
        let Some(id) = path.strip_prefix("/api/decisions/") else {
            let message = "the admin listener has /metrics, /healthz, /readyz, /api/status, /api/upstreams, \
                           /api/gpu[/history], /api/models[/load|unload|pin|unpin], /api/queue, /api/events, \
                           /api/decisions[/{request-id}] and /api/cache/entries[/{id}]";
            return Err(Error::new(Kind::UnknownPath, message));
        };
        match self.source.decision(id) {
            Some(decision) => json(StatusCode::OK, &*decision),
            None => {
                let message =
                    "no request of this id met a plugin lately; the id is in `x-request-id`";
                let error = Error::new(Kind::UnknownPath, message);
                Err(error.custom(StatusCode::NOT_FOUND.as_u16(), "unknown_request".into()))
            }
        }
    }

    fn authorize(&self, session: &Session) -> Result<(), Error> {
        let Some(token) = self.source.token() else { return Ok(()) };
        let given = bearer(&session.head.fields).unwrap_or_default();
        // Hashes have one length, so the comparison tells nothing of the token's.
        let same = blake3::hash(given)
            .as_bytes()
            .ct_eq(blake3::hash(token.reveal().as_bytes()).as_bytes());
        if bool::from(same) {
            return Ok(());
        }
        Err(Error::new(Kind::Unauthorized, "the admin token is needed: `Authorization: Bearer …`"))
    }
}

/// Without a token, whoever is on this machine may do all of it, but for web pages in their browsers: not
/// from another origin, and not under a name that somebody made point here (DNS rebinding).
fn refuse_pages(session: &Session) -> Result<(), Error> {
    let header = &session.head;
    let here = session.server_address();
    let loopback = here.is_some_and(|address| address.to_canonical().is_loopback());
    let named = header.authority.as_deref();
    let host = header.fields.text("host");
    let local = |host: &str| {
        let parsed = host.parse::<Authority>();
        let name = parsed.map_or_else(|_| "?.".to_owned(), |one| one.host().to_ascii_lowercase());
        let address = name.trim_start_matches('[').trim_end_matches(']');
        // No such name can be bought; the list is Ollama's.
        let private = [".localhost", ".local", ".internal"].iter().any(|end| name.ends_with(end));
        private || !name.contains('.') || address.parse::<IpAddr>().is_ok()
    };
    let foreign = loopback && !named.or(host).is_none_or(local);
    if foreign || header.fields.has("origin") {
        let message = "web pages may not use the admin listener; reach it as localhost or by its \
                       address, or give it an `admin_token`";
        return Err(Error::new(Kind::Forbidden, message));
    }
    Ok(())
}

fn page(status: StatusCode, kind: &'static str, text: String) -> (Head, Bytes) {
    let mut head = Head::new(status);
    head.set("content-type", kind);
    (head, Bytes::from(text))
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<(Head, Bytes), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|_| Error::new(Kind::Internal, "the answer could not be written"))?;
    Ok(page(status, "application/json", text + "\n"))
}

impl Application for Admin {
    async fn http1(self: Arc<Self>, io: Io, _: ShutdownWatch) {
        let mut next = Some(Http1::new(io));
        while let Some(connection) = next {
            next = self.serve_next(connection).await;
        }
    }

    /// Nobody gets here: there is no TLS in which it could be agreed upon.
    async fn http2(self: Arc<Self>, _: ClientStream, _: ShutdownWatch) {}
}
