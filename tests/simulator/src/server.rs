//! Sockets and routing.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};

use crate::World;
use crate::answer::{Answer, Reply, reply};
use crate::faults::{Fault, Faults};
use crate::models::Settings;
use crate::pace::Pace;
use crate::recorder::{Received, Recorder};
use crate::scheduler::{Scheduler, details, rfc3339};
use crate::{native, openai};

/// A running simulator; it stops when dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    /// Bound, but not listening: nobody else gets the port while the simulator is killed.
    _seat: TcpSocket,
    world: Arc<World>,
    task: Option<JoinHandle<()>>,
    ticker: Option<JoinHandle<()>>,
}

/// How often the card's files are looked at, for what no request changes.
const TICK: Duration = Duration::from_millis(100);

impl Simulator {
    /// Starts on a port the kernel chooses.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        Self::start_at(settings, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts on `address`.
    pub async fn start_at(settings: Settings, address: SocketAddr) -> io::Result<Self> {
        let recorder = Arc::new(Recorder::default());
        recorder.keep(true);
        let faults = Arc::new(Faults::default());
        let scheduler = Scheduler::new(settings.clone(), Arc::clone(&faults))?;
        let pace = Arc::new(Pace::new(settings.token_interval));
        let world = Arc::new(World { settings, scheduler, faults, pace, recorder });
        let seat = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        seat.set_reuseaddr(true)?;
        seat.bind(address)?;
        let address = seat.local_addr()?;
        let listener = TcpListener::bind(address).await?;
        let task = Some(tokio::spawn(accept(listener, Arc::clone(&world))));
        let ticker = world.settings.card.is_some().then(|| tokio::spawn(tick(Arc::clone(&world))));
        Ok(Self { address, _seat: seat, world, task, ticker })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its script of faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }

    /// What it received.
    #[must_use]
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.world.recorder
    }

    /// Changes the weights behind every name, as `ollama pull` of a new version does.
    pub fn pull(&self) {
        for model in &self.world.settings.models {
            model.pulls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    /// Its loaded models.
    #[must_use]
    pub fn scheduler(&self) -> &Scheduler {
        &self.world.scheduler
    }

    /// Accepts and reads, but sends nothing at all, not even to a GET or within a stream, until told
    /// otherwise; then all that waited goes on.
    pub fn hang(&self, hang: bool) {
        self.world.pace.hang(hang);
    }

    /// From now on the time between tokens is `factor` times that of the settings.
    pub fn slow(&self, factor: f64) {
        self.world.pace.slow(factor);
    }

    /// Sets the temperature that the card shows, in degrees Celsius.
    pub fn set_temperature(&self, celsius: f64) {
        self.world.scheduler.set_temperature(celsius);
    }

    /// Stops accepting and breaks every connection, as a host that dies.
    pub async fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // It was just aborted.
            let _ = task.await;
        }
    }

    /// Listens again on the same address.
    pub async fn revive(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.task = Some(tokio::spawn(accept(listener, Arc::clone(&self.world))));
        Ok(())
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for task in [self.task.take(), self.ticker.take()].into_iter().flatten() {
            task.abort();
        }
    }
}

/// Models expire without any request, and the card is to show it.
async fn tick(world: Arc<World>) {
    loop {
        tokio::time::sleep(TICK).await;
        world.scheduler.refresh();
    }
}

async fn accept(listener: TcpListener, world: Arc<World>) {
    // Connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Fails only on a connection that is closed already.
                let _ = stream.set_nodelay(true);
                world.recorder.connected();
                let world = Arc::clone(&world);
                connections.spawn(async move {
                    let service = service_fn(move |request| serve(Arc::clone(&world), request));
                    // Broken connections are what faults are for.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection closed without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

async fn serve(world: Arc<World>, request: Request<Incoming>) -> Result<Reply, Closed> {
    let (parts, body) = request.into_parts();
    // Ollama answers a foreign Origin, and on loopback a foreign Host, with an empty 403.
    if parts.headers.contains_key(http::header::ORIGIN) || !is_own_host(&parts.headers) {
        return no_error(reply(403, "", Answer::whole("")));
    }
    let path = parts.uri.path().to_owned();
    if parts.method == Method::GET || parts.method == Method::HEAD {
        if path != "/_seen" {
            world.pace.awake().await;
        }
        return no_error(get(&world, &path));
    }
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    if path == "/_faults" {
        return no_error(script(&world, &body));
    }
    if path == "/_card" {
        return no_error(card(&world, &body));
    }
    let received = Received {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: body.clone(),
    };
    if !is_model_path(&path) {
        world.pace.awake().await;
        return no_error(reply(404, "text/plain", Answer::whole("404 page not found")));
    }
    if path == "/api/show" {
        world.pace.awake().await;
        return no_error(native::show(&world, &body));
    }
    let running = world.recorder.start(received);
    world.pace.awake().await;
    // Faults are scripted for requests that want an answer; loads have their own.
    let fault = if native::only_loads(&path, &body) { Fault::None } else { world.faults.next() };
    match fault {
        Fault::Close => Err(Closed),
        Fault::Status(status, text) => {
            no_error(reply(status, "application/json", Answer::whole(text)))
        }
        Fault::StatusRetry(status, after) => {
            let body = json!({ "error": { "message": "slow down", "type": "api_error" } });
            let mut answer =
                no_error(reply(status, "application/json", Answer::whole(body.to_string())))?;
            answer.headers_mut().insert(http::header::RETRY_AFTER, after.into());
            Ok(answer)
        }
        Fault::Canned(text) => {
            let kind =
                if text.starts_with("data:") { "text/event-stream" } else { "application/json" };
            no_error(reply(200, kind, Answer::whole(text)))
        }
        Fault::Garbage => no_error(reply(200, "application/json", Answer::whole("<html>\u{0}"))),
        fault if path.starts_with("/api/") => {
            no_error(native::serve(&world, &path, &body, fault, running).await)
        }
        fault => no_error(openai::serve(&world, &path, &body, fault, running).await),
    }
}

fn no_error(reply: Result<Reply, Infallible>) -> Result<Reply, Closed> {
    reply.map_err(|never| match never {})
}

fn is_own_host(headers: &http::HeaderMap) -> bool {
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    host.starts_with("127.0.0.1") || host.starts_with("localhost") || host.starts_with("[::1]")
}

fn is_model_path(path: &str) -> bool {
    matches!(
        path,
        "/v1/chat/completions"
            | "/v1/completions"
            | "/v1/embeddings"
            | "/v1/responses"
            | "/v1/messages"
            | "/api/chat"
            | "/api/generate"
            | "/api/embed"
            | "/api/embeddings"
            | "/api/show"
    )
}

fn get(world: &World, path: &str) -> Result<Reply, Infallible> {
    let ok = |value: Value| {
        reply(200, "application/json; charset=utf-8", Answer::whole(value.to_string()))
    };
    match path {
        "/" => reply(200, "text/plain; charset=utf-8", Answer::whole("Ollama is running")),
        "/_seen" => ok(json!({
            "started": world.recorder.started(),
            "finished": world.recorder.finished(),
            "aborted": world.recorder.aborted(),
            "last": world.recorder.last().map(|last| json!({ "path": last.path, "body": String::from_utf8_lossy(&last.body) })),
        })),
        "/api/version" => ok(json!({ "version": world.settings.version })),
        "/api/ps" => ok(world.scheduler.ps()),
        "/api/tags" => ok(json!({ "models": tags(world) })),
        "/v1/models" => {
            let data: Vec<Value> = world
                .settings
                .models
                .iter()
                .map(|one| json!({ "id": one.name, "object": "model", "created": 1_700_000_000, "owned_by": "library" }))
                .collect();
            // The real one answers null when it has none.
            let data = if data.is_empty() { Value::Null } else { Value::from(data) };
            ok(json!({ "object": "list", "data": data }))
        }
        _ => reply(404, "text/plain", Answer::whole("404 page not found")),
    }
}

fn tags(world: &World) -> Vec<Value> {
    let modified =
        rfc3339(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000));
    world
        .settings
        .models
        .iter()
        .map(|one| {
            json!({
                "name": one.name, "model": one.name, "modified_at": modified, "size": one.size,
                "digest": one.digest(), "details": details(), "capabilities": one.capabilities()
            })
        })
        .collect()
}

/// Lets a test in another language script faults: a JSON list of them.
fn script(world: &World, body: &Bytes) -> Result<Reply, Infallible> {
    match serde_json::from_slice::<Vec<Fault>>(body) {
        Ok(faults) => {
            world.faults.push(faults);
            reply(StatusCode::NO_CONTENT.as_u16(), "", Answer::whole(""))
        }
        Err(cause) => reply(400, "text/plain", Answer::whole(cause.to_string())),
    }
}

/// What becomes of the card and of the host, for a script that has no other hold on them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Conditions {
    /// Bytes of VRAM that other processes hold.
    foreign_bytes: Option<u64>,
    /// Degrees Celsius.
    temperature: Option<f64>,
    /// Whether nothing is answered.
    hang: Option<bool>,
    /// Factor of the time between tokens.
    slow: Option<f64>,
}

fn card(world: &World, body: &Bytes) -> Result<Reply, Infallible> {
    let conditions: Conditions = match serde_json::from_slice(body) {
        Ok(conditions) => conditions,
        Err(cause) => return reply(400, "text/plain", Answer::whole(cause.to_string())),
    };
    if let Some(bytes) = conditions.foreign_bytes {
        world.scheduler.set_foreign(bytes);
    }
    if let Some(celsius) = conditions.temperature {
        world.scheduler.set_temperature(celsius);
    }
    if let Some(hang) = conditions.hang {
        world.pace.hang(hang);
    }
    if let Some(factor) = conditions.slow {
        world.pace.slow(factor);
    }
    reply(StatusCode::NO_CONTENT.as_u16(), "", Answer::whole(""))
}
