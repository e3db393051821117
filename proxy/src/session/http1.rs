//! A client's connection of HTTP/1.1 (RFC 9112): requests one after the other, answers whole or in
//! chunks.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Version};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{ClientGone, expects_continue};
use crate::http1::output::poll_write_all;
use crate::http1::{Body, BodyError, Framing, Head, HeadError, Input, Io, RequestHead, date};

/// Of what a client sends while it waits for an answer, so much is kept, for its next request. Whoever
/// sends more gets no other answer on this connection.
const EARLY: usize = 16 * 1024;
/// The largest unread body that is worth reading to keep its connection, in bytes.
const SMALL_BODY: usize = 64 * 1024;
/// The longest wait for it.
const SMALL_WAIT: Duration = Duration::from_millis(500);
/// The most of an unread body that is drained so that the client can read an early answer.
const MAX_LINGER_BYTES: usize = 256 * 1024 * 1024;
/// The longest time for it, and for each part of it.
const MAX_LINGER: Duration = Duration::from_secs(60);
const MAX_LINGER_PAUSE: Duration = Duration::from_secs(5);
/// The longest farewell.
const MAX_SHUTDOWN: Duration = Duration::from_secs(5);

/// Why there is no next request.
#[derive(Debug)]
pub enum NoHead {
    /// The connection has ended.
    Ended,
    /// What came is none.
    Unreadable(HeadError),
}

/// A connection of HTTP/1.1.
#[derive(Debug)]
pub struct Http1 {
    io: Io,
    input: Input,
    /// The body of the request being served.
    body: Body,
    /// Whether another request may follow.
    keep_alive: bool,
    /// The body waits to be asked for (RFC 9110, 10.1.1).
    unasked: bool,
    /// How the answer being sent ends.
    answer: Framing,
    /// Whether its head was sent, and its end was not.
    begun: bool,
    /// Whether a write was begun, and not ended: what is written next would stand in the middle of it.
    writing: bool,
}

impl Http1 {
    /// HTTP/1.1 on a fresh stream.
    #[must_use]
    pub fn new(io: Io) -> Self {
        Self {
            io,
            input: Input::default(),
            body: Body::new(Framing::Length(0)),
            keep_alive: true,
            unasked: false,
            answer: Framing::Length(0),
            begun: false,
            writing: false,
        }
    }

    /// Whether a part of a request has come. Line ends may stand before one (RFC 9112, 2.2), and are none.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        self.input.bytes().iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Reads the head of the next request. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When there is none.
    pub async fn read_head(&mut self) -> Result<RequestHead, NoHead> {
        let head = poll_fn(|cx| self.poll_head(cx)).await;
        // What follows a head that cannot be read is anything.
        self.body = Body::new(Framing::Close);
        let head = head?;
        self.body = Body::new(head.framing().map_err(NoHead::Unreadable)?);
        self.keep_alive = head.keeps_alive();
        self.unasked = expects_continue(&head);
        Ok(head)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<RequestHead, NoHead>> {
        loop {
            if !self.input.bytes().is_empty() {
                match RequestHead::parse(self.input.bytes()) {
                    Ok(Some((head, length))) => {
                        self.input.skip(length);
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                    Err(cause) => return Poll::Ready(Err(NoHead::Unreadable(cause))),
                }
            }
            match ready!(self.input.poll_fill(&mut self.io, cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(NoHead::Ended)),
                Ok(_) => {}
            }
        }
    }

    pub(super) fn server_address(&self) -> Option<IpAddr> {
        self.io.tcp().local_addr().ok().map(|address| address.ip())
    }

    /// Has the connection end after this answer.
    pub fn end_connection(&mut self) {
        self.keep_alive = false;
    }

    pub(super) async fn read(&mut self) -> Option<Result<Bytes, BodyError>> {
        let read = poll_fn(|cx| self.body.poll(&mut self.input, &mut self.io, cx)).await;
        if let Some(Err(BodyError::Malformed(_))) = &read {
            // The same of a body.
            self.body = Body::new(Framing::Close);
        }
        read
    }

    pub(super) fn is_read(&self) -> bool {
        self.body.is_done()
    }

    pub(super) async fn ask_for_body(&mut self, limit: Duration) -> Result<(), ClientGone> {
        self.unasked = false;
        if self.is_read() {
            return Ok(());
        }
        self.write([b"HTTP/1.1 100 Continue\r\n\r\n"], limit).await
    }

    /// Sends a whole answer, whose head has its length.
    ///
    /// # Errors
    /// When the client does not take it within `limit`, or an answer was begun.
    pub async fn send(
        &mut self,
        head: Head,
        body: Bytes,
        version: Version,
        limit: Duration,
    ) -> Result<(), ClientGone> {
        let head = self.open(head, version).await?;
        self.begun = false;
        self.write([&head, &body], limit).await
    }

    pub(super) async fn begin(
        &mut self,
        mut head: Head,
        version: Version,
        limit: Duration,
    ) -> Result<(), ClientGone> {
        let bodiless = matches!(head.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = head.text("content-length").and_then(|length| length.parse().ok());
        self.answer = match length {
            _ if bodiless => {
                head.remove("content-length");
                Framing::Length(0)
            }
            Some(length) => Framing::Length(length),
            None if version >= Version::HTTP_11 => {
                head.set("transfer-encoding", "chunked");
                Framing::Chunked
            }
            // Only the end of its connection ends the body (RFC 9112, 9.3); the head is to say so.
            None => {
                self.keep_alive = false;
                Framing::Close
            }
        };
        let head = self.open(head, version).await?;
        self.write([&head], limit).await
    }

    /// Gets ready for an answer; gives the text of its head, which says what becomes of the connection.
    async fn open(&mut self, mut head: Head, version: Version) -> Result<Vec<u8>, ClientGone> {
        if self.begun {
            return Err(ClientGone);
        }
        // What is not read now must not be taken for the next request.
        if self.keep_alive && !self.is_read() {
            self.discard().await;
            self.keep_alive &= self.is_read();
        }
        match (self.keep_alive, version) {
            (false, _) => head.set("connection", "close"),
            (true, Version::HTTP_10) => head.set("connection", "keep-alive"),
            (true, _) => {}
        }
        date::with(|date| head.set("date", date));
        self.begun = true;
        Ok(head.into_text())
    }

    /// Reads and drops the rest of a small body. One that would only be sent when asked for is left alone.
    async fn discard(&mut self) {
        if self.unasked {
            return;
        }
        // A body that does not come costs its connection, as a large one does.
        let _ = timeout(SMALL_WAIT, self.drain(SMALL_BODY, SMALL_WAIT)).await;
    }

    /// Reads on for a while after an early answer: closing with unread bytes would reset the connection,
    /// and the client would lose the answer (RFC 9112, 9.6).
    async fn linger(&mut self) {
        // Out of time or of patience: the connection is closed either way.
        let _ = timeout(MAX_LINGER, self.drain(MAX_LINGER_BYTES, MAX_LINGER_PAUSE)).await;
    }

    /// Reads and drops the rest of the body, until more than `most` bytes of it came or none for `pause`.
    async fn drain(&mut self, most: usize, pause: Duration) {
        let mut drained = 0;
        while let Ok(Some(Ok(part))) = timeout(pause, self.read()).await {
            drained += part.len();
            if drained > most {
                return;
            }
        }
    }

    pub(super) async fn part(&mut self, bytes: Bytes, limit: Duration) -> Result<(), ClientGone> {
        if bytes.is_empty() {
            return Ok(());
        }
        match &mut self.answer {
            Framing::Chunked => {
                let size = ChunkSize::of(bytes.len());
                self.write([size.text(), &bytes, b"\r\n"], limit).await
            }
            Framing::Length(left) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(ClientGone)?;
                self.write([&bytes], limit).await
            }
            Framing::Close => self.write([&bytes], limit).await,
        }
    }

    pub(super) async fn end(&mut self, bytes: Bytes, limit: Duration) -> Result<(), ClientGone> {
        self.begun = false;
        match self.answer {
            Framing::Chunked if bytes.is_empty() => self.write([b"0\r\n\r\n"], limit).await,
            Framing::Chunked => {
                let size = ChunkSize::of(bytes.len());
                self.write([size.text(), &bytes, b"\r\n0\r\n\r\n"], limit).await
            }
            Framing::Length(_) | Framing::Close => {
                self.part(bytes, limit).await?;
                // Less than was announced: only the end of the connection can tell it.
                self.keep_alive &= self.answer == Framing::Length(0);
                Ok(())
            }
        }
    }

    /// Writes `parts` within `limit`; the time is looked at only where the client takes its time.
    async fn write<const N: usize>(
        &mut self,
        mut parts: [&[u8]; N],
        limit: Duration,
    ) -> Result<(), ClientGone> {
        if std::mem::replace(&mut self.writing, true) {
            return Err(ClientGone);
        }
        let io = &mut self.io;
        let mut write = |cx: &mut Context<'_>| poll_write_all(io, &mut parts, cx);
        let written: io::Result<()> = match poll_fn(|cx| Poll::Ready(write(cx))).await {
            Poll::Ready(written) => written,
            Poll::Pending => timeout(limit, poll_fn(write)).await.map_err(|_| ClientGone)?,
        };
        written.map_err(|_| ClientGone)?;
        self.writing = false;
        Ok(())
    }

    pub(super) async fn client_left(&mut self) {
        poll_fn(|cx| {
            loop {
                let early = self.input.bytes().len();
                if early >= EARLY {
                    self.keep_alive = false;
                    self.input.skip(early);
                    if !self.is_read() {
                        self.body = Body::new(Framing::Close);
                    }
                }
                match ready!(self.input.poll_fill(&mut self.io, cx)) {
                    Ok(0) | Err(_) => return Poll::Ready(()),
                    Ok(_) => {}
                }
            }
        })
        .await;
    }

    /// The connection, if it can carry another request; else it is closed.
    pub async fn finish(mut self) -> Option<Self> {
        if self.keep_alive && self.is_read() && !self.begun && !self.writing {
            return Some(self);
        }
        // A client that is gone already needs no farewell. One that is there closes upon it.
        let _ = timeout(MAX_SHUTDOWN, self.io.shutdown()).await;
        if !self.is_read() {
            self.linger().await;
        }
        None
    }
}

/// The line before a chunk (RFC 9112, 7.1).
struct ChunkSize {
    text: [u8; 18],
    start: usize,
}

impl ChunkSize {
    fn of(mut size: usize) -> Self {
        let mut text = [0; 18];
        text[16..].copy_from_slice(b"\r\n");
        let mut start = 16;
        while size > 0 || start == 16 {
            start -= 1;
            text[start] = b"0123456789abcdef"[size % 16];
            size /= 16;
        }
        Self { text, start }
    }

    fn text(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_chunks_are_hexadecimal() {
        for (size, text) in [(0, "0\r\n"), (10, "a\r\n"), (255, "ff\r\n"), (4096, "1000\r\n")] {
            assert_eq!(ChunkSize::of(size).text(), text.as_bytes());
        }
        assert_eq!(ChunkSize::of(usize::MAX).text(), b"ffffffffffffffff\r\n");
    }
}
