//! One HTTP/1.1 connection to an upstream, polled by its user.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::io::Io;

/// The most a connection reads at once, and the largest head of an answer, in bytes. hyper lets a
/// buffer grow to 400 KiB under a burst and keeps it, which a thousand open streams would feel.
const MAX_BUFFER: usize = 16 * 1024;

/// A connection and, while an exchange is running, its owner's only handle to it.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<Io>, Full<Bytes>>,
    finished: bool,
    /// It has carried an exchange before, so the upstream may have closed it since.
    pub reused: bool,
    /// When it was last given back.
    pub idle_since: Instant,
}

impl Connection {
    /// Starts HTTP/1.1 on a fresh stream.
    pub async fn start(io: Io) -> hyper::Result<Box<Self>> {
        let mut settings = http1::Builder::new();
        settings.max_buf_size(MAX_BUFFER);
        let (sender, driver) = settings.handshake(TokioIo::new(io)).await?;
        let idle_since = Instant::now();
        Ok(Box::new(Self { sender, driver, finished: false, reused: false, idle_since }))
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        let mut answer = pin!(self.sender.send_request(request));
        poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// The next part of an answer's body; `None` at its end.
    pub fn poll_data(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Bytes>>> {
        // Asking first tells the driver that somebody wants data; a second asking takes it.
        if let Poll::Ready(part) = poll_part(body, cx) {
            return Poll::Ready(part);
        }
        self.drive(cx);
        poll_part(body, cx)
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.finished && Pin::new(&mut self.driver).poll(cx).is_ready() {
            // Errors reach the exchange through its own future or body.
            self.finished = true;
        }
    }

    /// Whether another exchange can start now, as far as can be known without sending.
    pub fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.finished && self.sender.is_ready()
    }
}

fn poll_part(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
    loop {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                // Trailers carry nothing the client is promised.
                if let Ok(data) = frame.into_data() {
                    return Poll::Ready(Some(Ok(data)));
                }
            }
            Poll::Ready(Some(Err(cause))) => return Poll::Ready(Some(Err(cause))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        }
    }
}
