//! The byte stream under a client session, plain or TLS, as pingora's sessions want it.
//!
//! Writes are gathered until the session flushes, so that a head and its body, or a chunk and its
//! framing, are one system call and one packet.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout_at};
use tokio_rustls::server::TlsStream;

/// Bytes gathered before a flush; more is written at once.
const GATHER: usize = 16 * 1024;
/// Room for a chunk's size and end, or for a small head, in bytes.
const FRAMING: usize = 512;
/// Longest a new connection may say nothing.
const MAX_SILENCE: Duration = Duration::from_secs(300);
/// A buffer that grew beyond this is not kept over an idle stream.
const KEEP: usize = 4 * 1024;

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A client's connection.
#[derive(Debug)]
pub struct ClientStream {
    transport: Transport,
    gathered: BytesMut,
    /// Bytes were read since the last were written.
    unanswered: bool,
    /// Bytes read so far.
    heard: usize,
    /// Runs until the first bytes come; pingora waits for an HTTP/2 preface without a limit.
    silence: Option<Pin<Box<Sleep>>>,
    socket: Arc<SocketDigest>,
    alpn: Option<ALPN>,
}

impl ClientStream {
    /// A connection without TLS.
    #[must_use]
    pub fn plain(stream: TcpStream, peer: SocketAddr) -> Self {
        let socket = digest(&stream, peer);
        Self::new(Transport::Plain(stream), socket, None)
    }

    /// A connection after its TLS handshake.
    #[must_use]
    pub fn tls(stream: TlsStream<TcpStream>, peer: SocketAddr) -> Self {
        let (tcp, session) = stream.get_ref();
        let socket = digest(tcp, peer);
        let alpn = (session.alpn_protocol() == Some(b"h2")).then_some(ALPN::H2);
        let transport = Transport::Tls(Box::new(stream));
        Self::new(transport, socket, alpn)
    }

    fn new(transport: Transport, socket: Arc<SocketDigest>, alpn: Option<ALPN>) -> Self {
        let silence = Some(Box::pin(sleep(MAX_SILENCE)));
        Self {
            transport,
            gathered: BytesMut::new(),
            unanswered: false,
            heard: 0,
            silence,
            socket,
            alpn,
        }
    }

    /// Whether the client has sent something and got nothing since.
    #[must_use]
    pub fn has_unanswered_bytes(&self) -> bool {
        self.unanswered
    }

    fn tcp(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Writes everything gathered.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(poll_write(&mut self.transport, cx, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        if self.gathered.capacity() > KEEP {
            self.gathered = BytesMut::new();
        } else {
            self.gathered.clear();
        }
        Poll::Ready(Ok(()))
    }
}

fn digest(stream: &TcpStream, peer: SocketAddr) -> Arc<SocketDigest> {
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // The cell of a new digest is empty.
    let _ = digest.peer_addr.set(Some(peer.into()));
    Arc::new(digest)
}

fn poll_write(
    transport: &mut Transport,
    cx: &mut Context<'_>,
    buf: &[u8],
) -> Poll<io::Result<usize>> {
    match transport {
        Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
        Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
    }
}

fn poll_write_vectored(
    transport: &mut Transport,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match transport {
        Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        match (read, &mut this.silence) {
            (Poll::Pending, Some(silence)) => {
                ready!(silence.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Ready(read), _) => {
                let count = buf.filled().len() - before;
                this.heard = this.heard.saturating_add(count);
                let enough = if this.alpn.is_some() { H2_PREFACE.len() } else { 1 };
                if this.heard >= enough || count == 0 {
                    this.silence = None;
                }
                this.unanswered |= count > 0;
                Poll::Ready(read)
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unanswered = false;
        if this.gathered.len() + buf.len() <= GATHER {
            if this.gathered.capacity() - this.gathered.len() < buf.len() {
                // Framing comes in small writes around a large one: room for all of them at once.
                this.gathered.reserve(buf.len() + FRAMING);
            }
            this.gathered.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        if this.gathered.is_empty() {
            return poll_write(&mut this.transport, cx, buf);
        }
        let both = [IoSlice::new(&this.gathered), IoSlice::new(buf)];
        let written = ready!(poll_write_vectored(&mut this.transport, cx, &both))?;
        let of_gathered = written.min(this.gathered.len());
        this.gathered.advance(of_gathered);
        match written - of_gathered {
            // Nothing of `buf` went out yet: take what there is room for and report that.
            0 => {
                let room = buf.len().min(GATHER);
                this.gathered.extend_from_slice(&buf[..room]);
                Poll::Ready(Ok(room))
            }
            of_buf => Poll::Ready(Ok(of_buf)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        match &mut this.transport {
            // A socket holds nothing back.
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // A client that is gone already needs no farewell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.tcp().as_raw_fd()
    }
}

impl Ssl for ClientStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        None
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.alpn.clone()
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

#[async_trait]
impl Peek for ClientStream {
    /// Only asked for where HTTP/2 without TLS is allowed.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        // With TLS, ALPN has decided; an empty buffer is not the preface.
        let Transport::Plain(stream) = &self.transport else { return Ok(true) };
        let wanted = buf.len();
        let deadline = Instant::now() + MAX_PEEK;
        while Instant::now() < deadline {
            let Ok(seen) = timeout_at(deadline, stream.peek(buf)).await else { break };
            let seen = seen?;
            // A shorter request line can already be told from the preface.
            if seen == wanted || seen == 0 || !H2_PREFACE.starts_with(&buf[..seen]) {
                return Ok(true);
            }
            tokio::time::sleep(PEEK_AGAIN).await;
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// RFC 9113, 3.4.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest wait for the first bytes where HTTP/2 without TLS is allowed.
const MAX_PEEK: Duration = Duration::from_secs(30);
/// Pause while a preface has come only in part.
const PEEK_AGAIN: Duration = Duration::from_millis(5);
