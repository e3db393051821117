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
    /// Whether it was begun, and not ended.
    begun: bool,
    /// Its head, which goes out with the first part of it.
    unsent: Vec<u8>,
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
            unsent: Vec::new(),
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
        self.unsent = self.open(head, version).await?;
        Ok(())
    }

    pub(super) async fn flush(&mut self, limit: Duration) -> Result<(), ClientGone> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let head = std::mem::take(&mut self.unsent);
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
        if let Framing::Length(left) = &mut self.answer {
            *left = left.checked_sub(bytes.len() as u64).ok_or(ClientGone)?;
        }
        let head = std::mem::take(&mut self.unsent);
        match self.answer {
            Framing::Chunked => {
                let size = ChunkSize::of(bytes.len());
                self.write([&head, size.text(), &bytes, b"\r\n"], limit).await
            }
            Framing::Length(_) | Framing::Close => self.write([&head, &bytes], limit).await,
        }
    }

    pub(super) async fn end(&mut self, bytes: Bytes, limit: Duration) -> Result<(), ClientGone> {
        self.begun = false;
        match self.answer {
            Framing::Chunked => {
                let head = std::mem::take(&mut self.unsent);
                if bytes.is_empty() {
                    return self.write([&head, b"0\r\n\r\n"], limit).await;
                }
                let size = ChunkSize::of(bytes.len());
                self.write([&head, size.text(), &bytes, b"\r\n0\r\n\r\n"], limit).await
            }
            Framing::Length(_) | Framing::Close => {
                self.part(bytes, limit).await?;
                self.flush(limit).await?;
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
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A connection whose client has asked for something, and that client.
    async fn asked() -> (Http1, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).await.expect("connects");
        let (stream, _) = listener.accept().await.expect("a connection");
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("asks");
        let mut connection = Http1::new(Io::Plain(stream));
        connection.read_head().await.expect("a head");
        (connection, client)
    }

    async fn received(client: &mut TcpStream, end: &str) -> String {
        let mut got = Vec::new();
        while !got.ends_with(end.as_bytes()) {
            assert_ne!(client.read_buf(&mut got).await.expect("reads"), 0);
        }
        String::from_utf8(got).expect("ASCII")
    }

    #[tokio::test]
    async fn a_head_goes_out_with_what_follows_or_when_it_is_flushed() {
        let limit = Duration::from_secs(5);
        let (mut connection, mut client) = asked().await;
        let head = || Head::new(StatusCode::OK);
        connection.begin(head(), Version::HTTP_11).await.expect("begun");
        let nothing = timeout(Duration::from_millis(20), client.readable()).await;
        assert!(nothing.is_err(), "the head waits for what follows");
        connection.flush(limit).await.expect("taken");
        let text = received(&mut client, "\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"), "{text}");
        connection.part(Bytes::from_static(b"a"), limit).await.expect("taken");
        connection.end(Bytes::from_static(b"b"), limit).await.expect("taken");
        assert_eq!(received(&mut client, "0\r\n\r\n").await, "1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
        for (body, sent) in [("", "0\r\n\r\n"), ("c", "1\r\nc\r\n0\r\n\r\n")] {
            connection.begin(head(), Version::HTTP_11).await.expect("begun");
            connection.end(Bytes::from_static(body.as_bytes()), limit).await.expect("taken");
            let text = received(&mut client, "\r\n0\r\n\r\n").await;
            let (_, rest) = text.split_once("\r\n\r\n").expect("a head");
            assert_eq!(rest, sent);
        }
        let mut empty = head();
        empty.set("content-length", "0");
        connection.begin(empty, Version::HTTP_11).await.expect("begun");
        connection.end(Bytes::new(), limit).await.expect("taken");
        assert!(received(&mut client, "\r\n\r\n").await.contains("content-length: 0"));
    }

    #[test]
    fn sizes_of_chunks_are_hexadecimal() {
        for (size, text) in [(0, "0\r\n"), (10, "a\r\n"), (255, "ff\r\n"), (4096, "1000\r\n")] {
            assert_eq!(ChunkSize::of(size).text(), text.as_bytes());
        }
        assert_eq!(ChunkSize::of(usize::MAX).text(), b"ffffffffffffffff\r\n");
    }
}
