//! One HTTP/1.1 connection to an upstream, polled by its user.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::http1::output::poll_write_all;
use crate::http1::{Body, BodyError, Framing, HeadError, Input, Io, ReplyHead};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoReply {
    /// The connection ended.
    #[error("the connection was closed before the answer")]
    Ended,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is none.
    #[error("{0}")]
    Unreadable(#[from] HeadError),
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    input: Input,
    /// The request that is being sent.
    output: Option<Output>,
    /// The body of the answer being read.
    body: Body,
    /// Whether another exchange may follow.
    keep_alive: bool,
    /// It has carried an exchange before, so the upstream may have closed it since.
    pub reused: bool,
    /// When it was last given back.
    pub idle_since: Instant,
}

/// A request on its way.
#[derive(Debug)]
struct Output {
    head: Vec<u8>,
    body: Bytes,
    /// Bytes of both that were written.
    sent: usize,
}

impl Connection {
    /// HTTP/1.1 on a fresh stream.
    #[must_use]
    pub fn new(io: Io) -> Self {
        Self {
            io,
            input: Input::default(),
            output: None,
            body: Body::new(Framing::Length(0)),
            keep_alive: true,
            reused: false,
            idle_since: Instant::now(),
        }
    }

    /// Sends a request and waits for the head of its answer, which may come before all of it was sent. The
    /// rest is sent while the answer is read, unless that is an error.
    ///
    /// # Errors
    /// When there is none.
    pub async fn exchange(&mut self, head: Vec<u8>, body: Bytes) -> Result<ReplyHead, NoReply> {
        self.output = Some(Output { head, body, sent: 0 });
        let mut refused = None;
        let reply = poll_fn(|cx| {
            if let Poll::Ready(Err(cause)) = self.poll_send(cx) {
                // It may have said why before.
                refused = Some(cause);
            }
            self.poll_head(cx)
        })
        .await
        .map_err(|cause| match (cause, refused.take()) {
            (NoReply::Ended | NoReply::Io(_), Some(cause)) => NoReply::Io(cause),
            (cause, _) => cause,
        })?;
        let failed = reply.status.is_client_error() || reply.status.is_server_error();
        if failed && self.output.take().is_some() {
            refused = Some(io::ErrorKind::BrokenPipe.into());
        }
        self.body = Body::new(reply.framing);
        self.keep_alive = reply.keep_alive && refused.is_none();
        Ok(reply)
    }

    /// Sends what is left of the request.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(Output { head, body, sent }) = &mut self.output else {
            return Poll::Ready(Ok(()));
        };
        let of_body = sent.saturating_sub(head.len());
        let mut parts = [head.get(*sent..).unwrap_or_default(), &body[of_body..]];
        let written = poll_write_all(&mut self.io, &mut parts, cx);
        *sent = head.len() + body.len() - parts.iter().map(|part| part.len()).sum::<usize>();
        if written.is_ready() {
            self.output = None;
        }
        written
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ReplyHead, NoReply>> {
        loop {
            if !self.input.bytes().is_empty()
                && let Some((head, length)) = ReplyHead::parse(self.input.bytes())?
            {
                self.input.skip(length);
                // Interim answers are for those who asked for them (RFC 9110, 15.2).
                let interim = head.status.is_informational();
                if interim && head.status != StatusCode::SWITCHING_PROTOCOLS {
                    continue;
                }
                return Poll::Ready(Ok(head));
            }
            if ready!(self.input.poll_fill(&mut self.io, cx))? == 0 {
                return Poll::Ready(Err(NoReply::Ended));
            }
        }
    }

    /// The next part of an answer's body; `None` at its end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Poll::Ready(Err(_)) = self.poll_send(cx) {
            // Its answer may be whole all the same.
            self.keep_alive = false;
        }
        self.body.poll(&mut self.input, &mut self.io, cx)
    }

    /// Whether another exchange can start now, as far as can be known without sending.
    pub fn is_usable(&mut self) -> bool {
        let idle = self.output.is_none() && self.body.is_done() && self.input.bytes().is_empty();
        self.keep_alive && idle && {
            let mut nobody = Context::from_waker(Waker::noop());
            // Its end, or an answer that nobody asked for.
            self.input.poll_fill(&mut self.io, &mut nobody).is_pending()
        }
    }
}
