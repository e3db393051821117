//! One request of a client and its answer, over HTTP/1.1 or HTTP/2.
//!
//! HTTP/1.1 is the gateway's own ([`http1`](crate::http1)); HTTP/2 is pingora's.

pub mod http1;
pub mod http2;
pub mod stream;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Version};

use self::http1::Http1;
use self::http2::Http2;
use crate::http1::{BodyError, Head, RequestHead};

/// The client is gone or does not take the answer.
#[derive(Debug)]
pub struct ClientGone;

/// A request whose head was read, and the way of its answer.
#[derive(Debug)]
pub struct Session {
    /// The head.
    pub head: RequestHead,
    /// The longest that a client may take no byte of its answer.
    write_limit: Duration,
    protocol: Protocol,
}

#[derive(Debug)]
enum Protocol {
    Http1(Http1),
    Http2(Box<Http2>),
}

impl Session {
    /// A request on a connection of HTTP/1.1.
    #[must_use]
    pub fn http1(connection: Http1, head: RequestHead, write_limit: Duration) -> Self {
        Self { head, write_limit, protocol: Protocol::Http1(connection) }
    }

    /// A request on a connection of HTTP/2.
    #[must_use]
    pub fn http2(stream: Http2, head: RequestHead, write_limit: Duration) -> Self {
        Self { head, write_limit, protocol: Protocol::Http2(Box::new(stream)) }
    }

    /// Whether it came over HTTP/1.0 or 1.1.
    #[must_use]
    pub fn is_http1(&self) -> bool {
        matches!(self.protocol, Protocol::Http1(_))
    }

    /// The address that the client connected to.
    #[must_use]
    pub fn server_address(&self) -> Option<IpAddr> {
        match &self.protocol {
            Protocol::Http1(connection) => connection.server_address(),
            Protocol::Http2(stream) => stream.server_address(),
        }
    }

    /// Has the connection end after this answer.
    pub fn end_connection(&mut self) {
        match &mut self.protocol {
            Protocol::Http1(connection) => connection.end_connection(),
            Protocol::Http2(stream) => stream.end_connection(),
        }
    }

    /// The next bytes of the request's body; `None` at its end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the body is framed wrongly, or its client is gone.
    pub async fn read(&mut self) -> Option<Result<Bytes, BodyError>> {
        match &mut self.protocol {
            Protocol::Http1(connection) => connection.read().await,
            Protocol::Http2(stream) => stream.read().await,
        }
    }

    /// Whether all of the request's body was read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match &self.protocol {
            Protocol::Http1(connection) => connection.is_read(),
            Protocol::Http2(stream) => stream.is_read(),
        }
    }

    /// Asks for the body of a client that waits to be asked (RFC 9110, 10.1.1).
    pub async fn ask_for_body(&mut self) -> Result<(), ClientGone> {
        match &mut self.protocol {
            Protocol::Http1(connection) => connection.ask_for_body(self.write_limit).await,
            Protocol::Http2(stream) => stream.ask_for_body().await,
        }
    }

    /// Sends a whole answer.
    pub async fn send(&mut self, mut head: Head, body: Bytes) -> Result<(), ClientGone> {
        // RFC 9110, 8.6: no length where there can be no body.
        if head.status() != StatusCode::NO_CONTENT {
            head.set("content-length", itoa::Buffer::new().format(body.len()));
        }
        let body = if self.head.method == Method::HEAD { Bytes::new() } else { body };
        match &mut self.protocol {
            Protocol::Http1(connection) => {
                connection.send(head, body, self.head.version, self.write_limit).await
            }
            Protocol::Http2(stream) => stream.send(head, body, self.write_limit).await,
        }
    }

    /// Begins an answer whose body follows in parts. Its head goes out with the first of them, or when it is
    /// [flushed](Self::flush).
    pub async fn begin(&mut self, head: Head) -> Result<(), ClientGone> {
        match &mut self.protocol {
            Protocol::Http1(connection) => connection.begin(head, self.head.version).await,
            Protocol::Http2(stream) => stream.begin(head, self.write_limit).await,
        }
    }

    /// Sends what was begun and not sent yet.
    pub async fn flush(&mut self) -> Result<(), ClientGone> {
        match &mut self.protocol {
            Protocol::Http1(connection) => connection.flush(self.write_limit).await,
            // Its head went out at once.
            Protocol::Http2(_) => Ok(()),
        }
    }

    /// Sends a part of a body.
    pub async fn part(&mut self, bytes: Bytes) -> Result<(), ClientGone> {
        match &mut self.protocol {
            Protocol::Http1(connection) => connection.part(bytes, self.write_limit).await,
            Protocol::Http2(stream) => stream.part(bytes, self.write_limit).await,
        }
    }

    /// Ends a body that was sent in parts, with the last of them, which may be empty.
    pub async fn end(&mut self, bytes: Bytes) -> Result<(), ClientGone> {
        match &mut self.protocol {
            Protocol::Http1(connection) => connection.end(bytes, self.write_limit).await,
            Protocol::Http2(stream) => stream.end(bytes, self.write_limit).await,
        }
    }

    /// Waits for the client to leave. Dropping the future loses nothing.
    pub async fn client_left(&mut self) {
        match &mut self.protocol {
            Protocol::Http1(connection) => connection.client_left().await,
            Protocol::Http2(stream) => stream.client_left().await,
        }
    }

    /// The connection, where it can carry another request of HTTP/1.
    pub async fn finish(self) -> Option<Http1> {
        match self.protocol {
            Protocol::Http1(connection) => connection.finish().await,
            Protocol::Http2(_) => None,
        }
    }
}

/// Whether `head` asks to be told that its body is wanted. HTTP/1.0 knows no interim answers; the wish is
/// ignored there (RFC 9110, 10.1.1).
#[must_use]
pub fn expects_continue(head: &RequestHead) -> bool {
    head.version >= Version::HTTP_11
        && head.fields.get("expect").is_some_and(|one| one.eq_ignore_ascii_case(b"100-continue"))
}
