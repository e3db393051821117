//! A stream of HTTP/2 (RFC 9113), by pingora.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora_core::ErrorType;
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::ClientGone;
use crate::http1::{BodyError, Fields, Head, RequestHead};

/// A stream whose head was read.
pub struct Http2 {
    session: ServerSession,
}

impl std::fmt::Debug for Http2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2").finish_non_exhaustive()
    }
}

impl From<Box<pingora_core::Error>> for ClientGone {
    fn from(_: Box<pingora_core::Error>) -> Self {
        ClientGone
    }
}

impl Http2 {
    /// Over pingora's session, whose head was read, with that head.
    #[must_use]
    pub fn new(session: ServerSession) -> (Self, RequestHead) {
        let header = session.req_header();
        let fields = header.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let fields: Fields = fields.collect();
        let head = RequestHead {
            method: header.method.clone(),
            version: header.version,
            path: header.uri.path().into(),
            query: header.uri.query().map(Into::into),
            authority: header.uri.authority().map(|authority| authority.as_str().into()),
            fields,
        };
        (Self { session }, head)
    }

    pub(super) fn server_address(&self) -> Option<IpAddr> {
        let address = self.session.server_addr()?.as_inet()?;
        Some(address.ip())
    }

    pub(super) fn end_connection(&mut self) {
        self.session.set_keepalive(None);
    }

    pub(super) async fn read(&mut self) -> Option<Result<Bytes, BodyError>> {
        // What goes wrong with a stream is its client's going.
        self.session.read_request_body().await.map_err(|_| BodyError::CutOff).transpose()
    }

    pub(super) fn is_read(&self) -> bool {
        // Bodies are bounded; the rest of a stream is no other request.
        true
    }

    pub(super) async fn ask_for_body(&mut self) -> Result<(), ClientGone> {
        Ok(self.session.write_continue_response().await?)
    }

    pub(super) async fn send(
        &mut self,
        head: Head,
        body: Bytes,
        limit: Duration,
    ) -> Result<(), ClientGone> {
        let header = header(&head)?;
        taken(
            timeout(limit, async {
                self.session.write_response_header(header).await?;
                self.session.write_response_body(body, true).await
            })
            .await,
        )
    }

    pub(super) async fn begin(&mut self, head: Head, limit: Duration) -> Result<(), ClientGone> {
        taken(timeout(limit, self.session.write_response_header(header(&head)?)).await)
    }

    pub(super) async fn part(&mut self, bytes: Bytes, limit: Duration) -> Result<(), ClientGone> {
        if bytes.is_empty() {
            return Ok(());
        }
        taken(timeout(limit, self.session.write_response_body(bytes, false)).await)
    }

    pub(super) async fn end(&mut self, bytes: Bytes, limit: Duration) -> Result<(), ClientGone> {
        taken(timeout(limit, self.session.write_response_body(bytes, true)).await)
    }

    pub(super) async fn client_left(&mut self) {
        loop {
            match self.session.read_body_or_idle(true).await {
                Err(cause) if *cause.etype() == ErrorType::ConnectError => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

fn taken(written: Result<pingora_core::Result<()>, Elapsed>) -> Result<(), ClientGone> {
    Ok(written.map_err(|_| ClientGone)??)
}

fn header(head: &Head) -> Result<Box<ResponseHeader>, ClientGone> {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = head.status();
    for (name, value) in head.iter() {
        let name = HeaderName::from_bytes(name).map_err(|_| ClientGone)?;
        let value = HeaderValue::from_bytes(value).map_err(|_| ClientGone)?;
        parts.headers.append(name, value);
    }
    Ok(Box::new(ResponseHeader::from(parts)))
}
