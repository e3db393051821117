//! One request to one upstream, and its answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use super::io;
use super::origin::Origin;
use super::pool::Pool;

/// A reused connection that breaks this soon after a request was the upstream's idle timeout, not
/// an upstream that worked on the request and failed.
const STALE_WINDOW: Duration = Duration::from_millis(250);

/// Room for what follows the first parts of a burst, in bytes.
const JOIN_ROOM: usize = 2048;

/// Why an exchange has no answer, or only a part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection could be opened.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Opening a connection took too long.
    #[error("connecting timed out")]
    ConnectTimeout,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// What came is no answer of HTTP.
    #[error("the answer cannot be read: {0}")]
    Garbled(String),
    /// Nothing came for too long before the answer began.
    #[error("no answer began in time")]
    FirstByteTimeout,
    /// Nothing came for too long inside the answer.
    #[error("the answer stalled")]
    Stalled,
    /// The whole exchange took too long.
    #[error("the answer took too long")]
    TotalTimeout,
}

impl Failure {
    /// The name in metrics and decision records.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Failure::Connect(_) => "connect",
            Failure::ConnectTimeout => "connect_timeout",
            Failure::Broken(_) => "broken",
            Failure::Garbled(_) => "garbled",
            Failure::FirstByteTimeout => "first_byte_timeout",
            Failure::Stalled => "stalled",
            Failure::TotalTimeout => "total_timeout",
        }
    }
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// One of our own paths, such as `/v1/chat/completions`.
    pub path: &'static str,
    /// The query with its `?`, or nothing.
    pub query: &'a str,
    /// Headers for the upstream; `Host` and credentials are added here.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// The whole body.
    pub body: Bytes,
}

impl Call<'static> {
    /// A `GET` without a body.
    #[must_use]
    pub fn get(path: &'static str) -> Self {
        Self { method: Method::GET, path, query: "", headers: &[], body: Bytes::new() }
    }
}

/// An answer whose head has come. Dropping it before its end closes the connection.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    connection: Option<Box<Connection>>,
    /// A failure met while joining what came before it.
    broken: Option<Failure>,
    pool: Arc<Pool>,
    pool_key: u64,
}

/// Sends `call` and waits for the head of the answer until `deadline` at most.
pub async fn send(
    origin: &Origin,
    pool: &Arc<Pool>,
    call: &Call<'_>,
    deadline: Instant,
) -> Result<Reply, Failure> {
    if let Some(connection) = pool.take(origin) {
        let sent = Instant::now();
        match attempt(origin, pool, connection, call, deadline).await {
            Err(Failure::Broken(_)) if sent.elapsed() < STALE_WINDOW => {}
            settled => return settled,
        }
    }
    let connection = open(origin, deadline).await?;
    attempt(origin, pool, connection, call, deadline).await
}

async fn open(origin: &Origin, deadline: Instant) -> Result<Box<Connection>, Failure> {
    let limit = deadline.min(Instant::now() + origin.config.timeouts.connect.0);
    let opened = timeout_at(limit, async {
        let stream = io::connect(&origin.host, origin.port, origin.tls.as_ref())
            .await
            .map_err(|cause| Failure::Connect(cause.to_string()))?;
        Connection::start(stream).await.map_err(|cause| Failure::Connect(cause.to_string()))
    });
    opened.await.unwrap_or(Err(Failure::ConnectTimeout))
}

async fn attempt(
    origin: &Origin,
    pool: &Arc<Pool>,
    mut connection: Box<Connection>,
    call: &Call<'_>,
    deadline: Instant,
) -> Result<Reply, Failure> {
    let request = request(origin, call)?;
    let head = timeout_at(deadline, connection.send(request))
        .await
        .map_err(|_| Failure::FirstByteTimeout)?
        .map_err(|cause| match cause.is_parse() {
            true => Failure::Garbled(describe(&cause)),
            false => Failure::Broken(describe(&cause)),
        })?;
    let (parts, body) = head.into_parts();
    Ok(Reply {
        status: parts.status,
        headers: parts.headers,
        body,
        connection: Some(connection),
        broken: None,
        pool: Arc::clone(pool),
        pool_key: origin.pool_key,
    })
}

fn request(origin: &Origin, call: &Call<'_>) -> Result<Request<Full<Bytes>>, Failure> {
    let broken = |cause: http::Error| Failure::Broken(cause.to_string());
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = origin.uri(call.path, call.query).map_err(broken)?;
    let mut headers = HeaderMap::with_capacity(call.headers.len() + 3);
    headers.insert(HOST, origin.host_header.clone());
    for (name, value) in call.headers {
        headers.append(name.clone(), value.clone());
    }
    if let Some(key) = &origin.authorization {
        headers.insert(AUTHORIZATION, key.clone());
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// hyper's own text and its cause, which is where "reset by peer" stands.
fn describe(cause: &hyper::Error) -> String {
    use std::error::Error as _;
    cause.source().map_or_else(|| cause.to_string(), |source| format!("{cause}: {source}"))
}

impl Reply {
    /// The next bytes of the body as they come, without a limit of time; `None` at the end. All
    /// that has arrived is joined up to about `most` bytes, so that a burst costs one write.
    /// Dropping the future loses nothing.
    pub async fn data(&mut self, most: usize) -> Option<Result<Bytes, Failure>> {
        if let Some(failure) = self.broken.take() {
            return Some(Err(failure));
        }
        poll_fn(|cx| {
            let first = match ready!(self.poll_part(cx)) {
                Some(Ok(bytes)) => bytes,
                other => return Poll::Ready(other),
            };
            let mut joined = BytesMut::new();
            while first.len().max(joined.len()) < most {
                match self.poll_part(cx) {
                    Poll::Ready(Some(Ok(more))) => {
                        if joined.is_empty() {
                            joined.reserve((first.len() + more.len() + JOIN_ROOM).max(most));
                            joined.extend_from_slice(&first);
                        }
                        joined.extend_from_slice(&more);
                    }
                    Poll::Ready(Some(Err(failure))) => {
                        self.broken = Some(failure);
                        break;
                    }
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            Poll::Ready(Some(Ok(if joined.is_empty() { first } else { joined.freeze() })))
        })
        .await
    }

    /// [`Reply::data`] with a limit to the pause before it and to the whole.
    pub async fn data_in_time(
        &mut self,
        most: usize,
        idle: Duration,
        total: Instant,
    ) -> Option<Result<Bytes, Failure>> {
        let now = Instant::now();
        if now >= total {
            return Some(Err(Failure::TotalTimeout));
        }
        let stalled = now + idle;
        match timeout_at(stalled.min(total), self.data(most)).await {
            Ok(part) => part,
            Err(_) if total <= stalled => Some(Err(Failure::TotalTimeout)),
            Err(_) => Some(Err(Failure::Stalled)),
        }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let Some(connection) = self.connection.as_mut() else { return Poll::Ready(None) };
        Poll::Ready(match ready!(connection.poll_data(&mut self.body, cx)) {
            Some(Ok(bytes)) => Some(Ok(bytes)),
            Some(Err(cause)) => {
                self.connection = None;
                Some(Err(Failure::Broken(describe(&cause))))
            }
            None => {
                self.finish();
                None
            }
        })
    }

    /// The whole body, if it is at most `most` bytes and comes in time; else what was read and
    /// whether more follows.
    pub async fn collect(
        &mut self,
        most: usize,
        idle: Duration,
        total: Instant,
    ) -> Result<(Bytes, bool), Failure> {
        let mut collected = Vec::new();
        let mut single: Option<Bytes> = None;
        loop {
            let Some(part) = self.data_in_time(most, idle, total).await.transpose()? else {
                return Ok((single.unwrap_or_else(|| collected.into()), false));
            };
            match single.take() {
                None if collected.is_empty() => single = Some(part),
                before => {
                    collected.extend_from_slice(before.as_deref().unwrap_or_default());
                    collected.extend_from_slice(&part);
                }
            }
            let length = collected.len() + single.as_ref().map_or(0, Bytes::len);
            if length > most {
                return Ok((single.unwrap_or_else(|| collected.into()), true));
            }
        }
    }

    fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.give_back(self.pool_key, connection);
        }
    }
}
