//! The byte stream under a client's connection of HTTP/2, as pingora's sessions want it.
//!
//! Writes are gathered until the session flushes, so that a head and its body, or data and
//! its frame, are one system call and one packet.

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
use tokio::time::{Sleep, sleep};

use crate::http1::Io;

/// Bytes gathered before a flush; more is written at once.
const GATHER: usize = 16 * 1024;
/// Room for the heads of frames, or for a small head of an answer, in bytes.
const FRAMING: usize = 512;
/// Longest a new connection may say nothing.
const MAX_SILENCE: Duration = Duration::from_secs(300);
/// A buffer that grew beyond this is not kept over an idle stream.
const KEEP: usize = 4 * 1024;

/// A client's connection.
#[derive(Debug)]
pub struct ClientStream {
    io: Io,
    gathered: BytesMut,
    /// Bytes read so far.
    heard: usize,
    /// Runs until the first bytes come; pingora waits for an HTTP/2 preface without a limit.
    silence: Option<Pin<Box<Sleep>>>,
    socket: Arc<SocketDigest>,
}

impl ClientStream {
    /// A connection to `peer` that speaks HTTP/2.
    #[must_use]
    pub fn new(io: Io, peer: SocketAddr) -> Self {
        let digest = SocketDigest::from_raw_fd(io.tcp().as_raw_fd());
        // The cell of a new digest is empty.
        let _ = digest.peer_addr.set(Some(peer.into()));
        let silence = Some(Box::pin(sleep(MAX_SILENCE)));
        Self { io, gathered: BytesMut::new(), heard: 0, silence, socket: Arc::new(digest) }
    }

    /// Writes everything gathered.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.gathered))?;
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

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        match (read, &mut this.silence) {
            (Poll::Pending, Some(silence)) => {
                ready!(silence.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Ready(read), _) => {
                let count = buf.filled().len() - before;
                this.heard = this.heard.saturating_add(count);
                if this.heard >= H2_PREFACE.len() || count == 0 {
                    this.silence = None;
                }
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
        if this.gathered.len() + buf.len() <= GATHER {
            if this.gathered.capacity() - this.gathered.len() < buf.len() {
                // Framing comes in small writes around a large one: room for all of them at once.
                this.gathered.reserve(buf.len() + FRAMING);
            }
            this.gathered.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        if this.gathered.is_empty() {
            return Pin::new(&mut this.io).poll_write(cx, buf);
        }
        let both = [IoSlice::new(&this.gathered), IoSlice::new(buf)];
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, &both))?;
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
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
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
        self.io.tcp().as_raw_fd()
    }
}

impl Ssl for ClientStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        None
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(ALPN::H2)
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

/// Never asked: whoever comes here has decided for HTTP/2.
#[async_trait]
impl Peek for ClientStream {}

/// RFC 9113, 3.4.
pub const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
