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
    /// The body of the answer being read.
    body: Body,
    /// Whether another exchange may follow.
    keep_alive: bool,
    /// It has carried an exchange before, so the upstream may have closed it since.
    pub reused: bool,
    /// When it was last given back.
    pub idle_since: Instant,
}

impl Connection {
    /// HTTP/1.1 on a fresh stream.
    #[must_use]
    pub fn new(io: Io) -> Self {
        Self {
            io,
            input: Input::default(),
            body: Body::new(Framing::Length(0)),
            keep_alive: true,
            reused: false,
            idle_since: Instant::now(),
        }
    }

    /// Sends a request and waits for the head of its answer, which may come before all of it was sent.
    ///
    /// # Errors
    /// When there is none.
    pub async fn exchange(&mut self, head: &[u8], body: &[u8]) -> Result<ReplyHead, NoReply> {
        let mut parts = [head, body];
        let mut sent = None;
        let reply = poll_fn(|cx| {
            if sent.is_none()
                && let Poll::Ready(written) = poll_write_all(&mut self.io, &mut parts, cx)
            {
                sent = Some(written);
            }
            match (self.poll_head(cx), &mut sent) {
                // Whoever takes no more may have said why before.
                (
                    Poll::Ready(Err(NoReply::Ended | NoReply::Io(_))) | Poll::Pending,
                    Some(written),
                ) if written.is_err() => {
                    let written = std::mem::replace(written, Ok(()));
                    Poll::Ready(Err(written.err().map_or(NoReply::Ended, NoReply::Io)))
                }
                (polled, _) => polled,
            }
        })
        .await?;
        self.body = Body::new(reply.framing);
        self.keep_alive = reply.keep_alive && matches!(sent, Some(Ok(())));
        Ok(reply)
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
        self.body.poll(&mut self.input, &mut self.io, cx)
    }

    /// Whether another exchange can start now, as far as can be known without sending.
    pub fn is_usable(&mut self) -> bool {
        self.keep_alive && self.body.is_done() && self.input.bytes().is_empty() && {
            let mut nobody = Context::from_waker(Waker::noop());
            // Its end, or an answer that nobody asked for.
            self.input.poll_fill(&mut self.io, &mut nobody).is_pending()
        }
    }
}
