//! One request from top to bottom: the only code that knows the order of the stages.
//!
//! ```text
//! read head → cors → endpoint → caller → body → route → plugins → cache
//!           → (admission → upstream)* → relay → cache → record
//! ```
//!
//! Until the first content of an answer has come, any failure may move the request to the next
//! target; after it, never. A client that leaves drops whatever is running for it.

pub mod attempt;
pub mod backend;
pub mod cache;
pub mod container;
pub mod ctx;
pub mod embedder;
pub mod feedback;
pub mod follow;
pub mod local;
pub mod long_prompt;
pub mod obtain;
pub mod plugins;
pub mod prepare;
pub mod progress;
pub mod rejection;
pub mod relay;
mod replicas;
pub mod seats;
pub mod source;
pub mod state;
pub mod stream;
pub mod tags;
pub mod ticket;
pub mod waiting;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::time::timeout;

use self::backend::Standing;
use self::ctx::{Ctx, Guess, Phase};
use self::replicas::in_order;
use self::state::{Shared, Snapshot};
use crate::config::raw::Priority;
use crate::error::{Error, Kind};
use crate::http1::{HeadError, Io, RequestHead, host};
use crate::ids::CallerName;
use crate::listener::accept::Application;
use crate::native::opening;
use crate::request::Request;
use crate::request::auth::Caller;
use crate::request::body::{self, ReadError};
use crate::request::cors::{self, AllowedOrigin};
use crate::request::endpoint::{Endpoint, dialect_of};
use crate::response::downstream::{self, ClientGone, Head};
use crate::response::watch::Grammar;
use crate::router::{self, Plan};
use crate::session::Session;
use crate::session::http1::{Http1, NoHead};
use crate::session::http2::Http2;
use crate::session::stream::ClientStream;
use crate::telemetry::{Outcome, Registry};
use crate::upstream::Pool;

/// A request's own wish to go after others: `batch`, or `interactive`, which is none.
const X_PRIORITY: &str = "x-sluicegate-priority";
/// A model list younger than this is not asked for again before a model is called unknown.
const CATALOGUE_AGE: Duration = Duration::from_secs(2);

/// Why a request ends before its answer is whole.
#[derive(Debug)]
pub enum Stop {
    /// The client is told why.
    Refused(Error),
    /// The client left.
    Gone,
    /// The answer had begun and cannot be completed, which its end tells.
    Cut(String),
    /// The same, where only the end of the connection can tell it.
    Broken(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Refused(error)
    }
}

impl From<ClientGone> for Stop {
    fn from(_: ClientGone) -> Self {
        Stop::Gone
    }
}

impl From<ReadError> for Stop {
    fn from(cause: ReadError) -> Self {
        match cause {
            ReadError::Refused(error) => Stop::Refused(error),
            ReadError::ClientGone => Stop::Gone,
        }
    }
}

/// The request path of one worker.
#[derive(Debug)]
pub struct Pipeline {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    registry: Registry,
    options: HttpServerOptions,
    h2c: bool,
}

impl Pipeline {
    /// The request path over `shared`, with connections of its own.
    #[must_use]
    pub fn new(shared: Arc<Shared>, h2c: bool) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(shared.snapshot.load().config.limits.header_timeout.0);
        Self { shared, pool: Arc::default(), registry: Registry::default(), options, h2c }
    }

    /// The worker's idle upstream connections.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Reads one request's head; `None` when there is nothing to answer.
    async fn read_head(
        connection: &mut Http1,
        wait: Duration,
    ) -> Option<Result<RequestHead, Error>> {
        match timeout(wait, connection.read_head()).await {
            Ok(Ok(head)) => Some(Ok(head)),
            Ok(Err(NoHead::Ended)) => None,
            Ok(Err(NoHead::Unreadable(cause))) => {
                let message = format!("this is not a valid HTTP request: {cause}");
                Some(Err(Error::new(Kind::InvalidRequest, message)))
            }
            // A connection that merely idled is closed without a word.
            Err(_) if !connection.has_heard() => None,
            Err(_) => {
                let message = "the request's head did not arrive in time";
                Some(Err(Error::new(Kind::RequestTimeout, message)))
            }
        }
    }

    /// Serves one request; `None` where the connection carries no other.
    async fn serve_next(&self, mut connection: Http1, shutdown: &ShutdownWatch) -> Option<Http1> {
        let limits = |snapshot: &Snapshot| {
            let limits = &snapshot.config.limits;
            (limits.header_timeout.0, limits.write_timeout.0)
        };
        let (wait, limit) = limits(&self.shared.snapshot.load());
        let head = match Self::read_head(&mut connection, wait).await? {
            Ok(head) => head,
            Err(cause) => {
                downstream::unreadable(connection, &cause, limit).await;
                return None;
            }
        };
        // That in force now: the connection may have idled over a reload.
        let snapshot = self.shared.snapshot.load_full();
        let (_, limit) = limits(&snapshot);
        let mut session = Session::http1(connection, head, limit);
        if *shutdown.borrow() {
            session.end_connection();
        }
        if !self.serve(&mut session, &snapshot).await {
            return None;
        }
        session.finish().await
    }

    /// Whether the client got an answer with an end, after which its connection may be of use.
    async fn serve(&self, session: &mut Session, snapshot: &Snapshot) -> bool {
        let _active = self.shared.enter();
        let mut ctx = Ctx::new(&session.head);
        let ended = self.answer(session, snapshot, &mut ctx).await;
        let whole = match ended {
            Ok(()) => true,
            Err(Stop::Refused(error)) => {
                ctx.ticket = None;
                tracing::debug!(id = %ctx.id, error = %error, "refused");
                ctx.detail.get_or_insert_with(|| error.message.to_string());
                let (mut head, body) = downstream::error(&error, ctx.dialect);
                ctx.common_headers(&mut head);
                if error.close {
                    session.end_connection();
                }
                self.send_whole(session, &mut ctx, head, body).await.is_ok()
            }
            Err(Stop::Gone) => {
                ctx.outcome = Outcome::ClientGone;
                false
            }
            // What was sent has an end: the client's next request may be on its way here already.
            Err(Stop::Cut(why)) => {
                ctx.outcome = Outcome::Cut;
                ctx.detail = Some(why);
                true
            }
            Err(Stop::Broken(why)) => {
                ctx.outcome = Outcome::Cut;
                ctx.detail = Some(why);
                false
            }
        };
        // Whoever follows it is not to wait for the rest.
        ctx.ticket = None;
        if let Some(cached) = &ctx.cached {
            self.registry.cache_lookup(cached.outcome, cached.reason);
        }
        ctx.pay();
        ctx.record(|record| {
            self.registry.record(record);
            self.shared.log.write(record);
        });
        if let Some(decision) = ctx.into_decision() {
            self.shared.decisions.add(decision);
        }
        whole
    }

    async fn send_whole(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        head: Head,
        body: Bytes,
    ) -> Result<(), ClientGone> {
        ctx.status = head.status().as_u16();
        let sent = session.send(head, body).await;
        if sent.is_err() {
            ctx.outcome = Outcome::ClientGone;
        }
        sent
    }

    /// The order of a request.
    async fn answer(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        ctx: &mut Ctx,
    ) -> Result<(), Stop> {
        let header = &session.head;
        if session.is_http1() {
            host::check(header).map_err(malformed)?;
        }
        ctx.dialect = dialect_of(&header.path);
        ctx.origin = cors::check(&header.fields, &snapshot.config.cors_origins)?;
        if header.method == Method::OPTIONS
            && let Some(head) = preflight(session, ctx)
        {
            return Ok(self.send_whole(session, ctx, head, Bytes::new()).await?);
        }
        let endpoint = Endpoint::resolve(&header.method, &header.path)?;
        ctx.endpoint = endpoint.path();
        let caller = Arc::clone(snapshot.callers.authenticate(&header.fields)?);
        ctx.caller = caller.name.clone();
        ctx.tenant = caller.tenant().map(str::to_owned);
        ctx.standing = standing(&caller, header)?;
        ctx.payer = caller.is_keyed().then(|| Arc::clone(&caller));
        let _place = caller.enter(endpoint)?;
        if endpoint == Endpoint::CacheFeedback {
            let (head, body) = self.feedback(session, snapshot, ctx).await?;
            return self.finish_local(session, ctx, head, body).await;
        }
        if endpoint.is_local() {
            let (head, body) = self.local(session, snapshot, endpoint, &caller).await?;
            return self.finish_local(session, ctx, head, body).await;
        }
        let mut request = self.read_request(session, snapshot, endpoint).await?;
        ctx.asked.clone_from(&request.scan.model);
        ctx.unheeded = request.unheeded();
        caller.check_model(&request.scan.model)?;
        caller.check_others(request.scan.names_others)?;
        let mut plan = self.plan(session, snapshot, &request, ctx).await?;
        if endpoint == Endpoint::CountTokens
            && let Some((mut head, body)) = Self::count_tokens(snapshot, &request, &mut plan, ctx)?
        {
            ctx.answer_headers(&mut head);
            return Ok(self.send_whole(session, ctx, head, body).await?);
        }
        let asked = cache::asked(&request);
        if snapshot.chain(&plan).is_some() {
            let both = (&mut request, &mut plan);
            let passed = Box::pin(self.run_plugins(session, snapshot, both, &caller, ctx));
            if let Some(text) = passed.await? {
                return self.answer_directly(session, &request, &text, ctx).await;
            }
        }
        if let Some(route) = plan.route.and_then(|index| snapshot.config.routes.get(index)) {
            prepare::set_defaults(&mut request, &route.options)?;
        }
        let how = Self::cache_terms(session, snapshot, &request, &asked, ctx)?;
        if !matches!(how, cache::Use::Nothing) {
            let both = (&request, &plan);
            match Box::pin(self.answer_again(session, snapshot, both, how, ctx)).await? {
                Some(cache::Outcome::Answered) => return Ok(()),
                Some(cache::Outcome::Ask(ticket)) => ctx.ticket = Some(ticket),
                None => {}
            }
        }
        // Boxed: its state would otherwise be kept, unused, for as long as the answer streams.
        let search = Box::pin(self.await_answer(session, snapshot, &request, &plan, ctx));
        let answer = search.await?;
        if request.streaming && caller.pays_tokens() {
            let framing = Grammar::of(endpoint.path()).framing();
            ctx.guess = Some(Guess::new(prepare::prompt_tokens(&request), framing));
        }
        // The body is not needed any more, and streams are long.
        drop(request);
        self.relay(session, snapshot, answer, ctx).await
    }

    async fn finish_local(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        mut head: Head,
        body: Bytes,
    ) -> Result<(), Stop> {
        ctx.common_headers(&mut head);
        Ok(self.send_whole(session, ctx, head, body).await?)
    }

    async fn read_request(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        endpoint: Endpoint,
    ) -> Result<Request, Stop> {
        let body = body::read(session, &snapshot.config.limits, &self.shared.budget).await?;
        let query = session.head.query.as_deref().unwrap_or("");
        Ok(Request::parse(endpoint, query, body)?)
    }

    /// Where the request may go. Asking upstreams what they have may take a while, so the client
    /// is watched meanwhile.
    async fn plan(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        request: &Request,
        ctx: &mut Ctx,
    ) -> Result<Plan, Stop> {
        let plan = self.plan_for(session, snapshot, &request.scan.model, request, ctx).await?;
        ctx.reason = plan.reason.into();
        Ok(plan)
    }

    pub(super) async fn plan_for(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        model: &str,
        request: &Request,
        ctx: &mut Ctx,
    ) -> Result<Plan, Stop> {
        let native = request.endpoint.is_native();
        let mut plan = match snapshot.table.route(model) {
            Some(plan) => plan,
            None => {
                ctx.phase = Phase::Routing;
                tokio::select! {
                    biased;
                    plan = self.plan_by_own_name(snapshot, model) => plan?,
                    () = session.client_left() => return Err(Stop::Gone),
                }
            }
        };
        if native {
            let speaks = |target: &router::Target| snapshot.backends[target.upstream].is_ollama();
            plan.targets.retain(speaks);
            plan.fallback.retain(speaks);
            if plan.targets.is_empty() && plan.fallback.is_empty() {
                let message = format!(
                    "`{model}` is not served by an Ollama, so it has no native API here; use /v1"
                );
                return Err(Error::new(Kind::ModelNotFound, message).param("model").into());
            }
        }
        ctx.opening = None;
        if plan.targets.len() > 1 {
            ctx.opening = opening::opening(&request.body);
            let seat = ctx.opening.and_then(|opening| self.shared.seats.of(opening));
            in_order(snapshot, &mut plan.targets, seat.as_ref());
        }
        Ok(plan)
    }

    async fn plan_by_own_name(&self, snapshot: &Snapshot, model: &str) -> Result<Plan, Error> {
        let known: Vec<_> = snapshot.backends.iter().map(|one| one.catalogue.has(model)).collect();
        if known.contains(&Some(true))
            && let Some(plan) = router::by_own_name(model, &known)
        {
            return Ok(plan);
        }
        let fresh = snapshot.refresh(&self.pool, CATALOGUE_AGE).await;
        let has: Vec<_> = fresh.iter().map(|listing| listing.has(model)).collect();
        router::by_own_name(model, &has).ok_or_else(|| snapshot.unknown_model(model, &fresh))
    }
}

/// The caller as admission sees it. A request may lower its own priority, not raise it.
fn standing(caller: &Caller, head: &RequestHead) -> Result<Standing, Error> {
    let priority = match head.fields.get(X_PRIORITY) {
        Some(b"batch") => Priority::Batch,
        None | Some(b"interactive") => caller.priority(),
        Some(_) => {
            let message = "the header `x-sluicegate-priority` must be batch or interactive";
            let wrong = Error::new(Kind::InvalidRequest, message);
            return Err(wrong.param("x-sluicegate-priority"));
        }
    };
    let CallerName(name) = &caller.name;
    Ok(Standing { caller: Arc::clone(name), weight: caller.weight(), priority })
}

fn malformed(cause: HeadError) -> Error {
    Error::new(Kind::InvalidRequest, cause.to_string()).close()
}

fn preflight(session: &Session, ctx: &Ctx) -> Option<Head> {
    let client = &session.head.fields;
    ctx.origin.as_ref()?;
    client.get("access-control-request-method")?;
    let mut head = Head::new(StatusCode::NO_CONTENT);
    AllowedOrigin::preflight(client, &mut head);
    ctx.common_headers(&mut head);
    Some(head)
}

impl Application for Pipeline {
    async fn http1(self: Arc<Self>, io: Io, shutdown: ShutdownWatch) {
        let mut next = Some(Http1::new(io));
        while let Some(connection) = next {
            next = self.serve_next(connection, &shutdown).await;
        }
    }

    async fn http2(self: Arc<Self>, stream: ClientStream, shutdown: ShutdownWatch) {
        self.process_new(Box::new(stream), &shutdown).await;
    }

    fn speaks_h2c(&self) -> bool {
        self.h2c
    }
}

/// Streams of HTTP/2.
#[async_trait]
impl HttpServerApp for Pipeline {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let snapshot = self.shared.snapshot.load_full();
        // The head came with the stream.
        session.read_request().await.ok()?;
        let (stream, head) = Http2::new(session);
        let limit = snapshot.config.limits.write_timeout.0;
        self.serve(&mut Session::http2(stream, head, limit), &snapshot).await;
        None
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}
