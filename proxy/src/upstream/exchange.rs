//! One request to one upstream, and its answer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::connect;
use super::connection::{Connection, NoReply};
use super::origin::Origin;
use super::pool::Pool;
use crate::http1::Fields;

/// A reused connection that breaks this soon after a request was the upstream's idle timeout, not
/// an upstream that worked on the request and failed.
const STALE_WINDOW: Duration = Duration::from_millis(250);
/// Room for a request's head, in bytes, beside what a client's fields take.
const HEAD_ROOM: usize = 384;

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
    /// Fields for the upstream, as they are written, each with its line end; `Host` and credentials are
    /// added here.
    pub fields: &'a [u8],
    /// The whole body.
    pub body: Bytes,
}

impl Call<'static> {
    /// A `GET` without a body.
    #[must_use]
    pub fn get(path: &'static str) -> Self {
        Self { method: Method::GET, path, query: "", fields: b"", body: Bytes::new() }
    }
}

/// An answer whose head has come. Dropping it before its end closes the connection.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The fields of its head.
    pub fields: Fields,
    connection: Option<Box<Connection>>,
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
    let sent = Instant::now();
    if let Some(connection) = pool.take(origin, sent) {
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
    let opened = connect::connect(&origin.host, origin.port, origin.tls.as_ref());
    match timeout_at(limit, opened).await {
        Ok(Ok(io)) => Ok(Box::new(Connection::new(io))),
        Ok(Err(cause)) => Err(Failure::Connect(cause.to_string())),
        Err(_) => Err(Failure::ConnectTimeout),
    }
}

async fn attempt(
    origin: &Origin,
    pool: &Arc<Pool>,
    mut connection: Box<Connection>,
    call: &Call<'_>,
    deadline: Instant,
) -> Result<Reply, Failure> {
    let reply = {
        let exchange = pin!(connection.exchange(head(origin, call), call.body.clone()));
        timeout_at(deadline, exchange).await.map_err(|_| Failure::FirstByteTimeout)?
    };
    let reply = reply.map_err(|cause| match cause {
        NoReply::Unreadable(_) => Failure::Garbled(cause.to_string()),
        NoReply::Ended | NoReply::Io(_) => Failure::Broken(cause.to_string()),
    })?;
    Ok(Reply {
        status: reply.status,
        fields: reply.fields,
        connection: Some(connection),
        pool: Arc::clone(pool),
        pool_key: origin.pool_key,
    })
}

/// The head of a request as it is written.
fn head(origin: &Origin, call: &Call<'_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_ROOM + call.query.len() + call.fields.len());
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| head.extend_from_slice(part));
    let (base, path) = origin.path(call.path);
    put(&[call.method.as_str().as_bytes(), b" ", base.as_bytes(), path.as_bytes()]);
    put(&[call.query.as_bytes(), b" HTTP/1.1\r\nhost: ", origin.host_header.as_bytes(), b"\r\n"]);
    put(&[call.fields]);
    if let Some(key) = &origin.authorization {
        put(&[b"authorization: ", key.as_bytes(), b"\r\n"]);
    }
    if call.method != Method::GET {
        let length = itoa::Buffer::new().format(call.body.len()).to_owned();
        put(&[b"content-length: ", length.as_bytes(), b"\r\n"]);
    }
    put(&[b"\r\n"]);
    head
}

impl Reply {
    /// The next bytes of the body, all that have come, without a limit of time; `None` at the end.
    /// Dropping the future loses nothing.
    pub async fn data(&mut self) -> Option<Result<Bytes, Failure>> {
        poll_fn(|cx| self.poll_data(cx)).await
    }

    /// [`Reply::data`] with a limit to the pause before it and to the whole.
    pub async fn data_in_time(
        &mut self,
        idle: Duration,
        total: Instant,
    ) -> Option<Result<Bytes, Failure>> {
        let now = Instant::now();
        if now >= total {
            return Some(Err(Failure::TotalTimeout));
        }
        let stalled = now + idle;
        match timeout_at(stalled.min(total), self.data()).await {
            Ok(part) => part,
            Err(_) if total <= stalled => Some(Err(Failure::TotalTimeout)),
            Err(_) => Some(Err(Failure::Stalled)),
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let Some(connection) = self.connection.as_mut() else { return Poll::Ready(None) };
        Poll::Ready(match ready!(connection.poll_data(cx)) {
            Some(Ok(bytes)) => Some(Ok(bytes)),
            Some(Err(cause)) => {
                self.connection = None;
                Some(Err(Failure::Broken(cause.to_string())))
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
            // What is there already costs no look at the clock.
            let part = match poll_fn(|cx| Poll::Ready(self.poll_data(cx))).await {
                Poll::Ready(part) => part,
                Poll::Pending => self.data_in_time(idle, total).await,
            };
            let Some(part) = part.transpose()? else {
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
