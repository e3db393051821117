//! Bytes that came from a socket and were not taken yet.
//!
//! A socket is read into memory that all connections of a thread share, and only what came is kept:
//! a connection that waits, as most do most of the time, holds no buffer.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

/// The most read at once, in bytes.
const MOST: usize = 64 * 1024;
/// A piece smaller than this is copied out of what came: a slice would keep all of it.
const SMALL: usize = 2 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; MOST].into_boxed_slice());
}

/// What came and was not taken yet.
#[derive(Debug, Default)]
pub struct Input {
    bytes: BytesMut,
}

impl Input {
    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the first `count` bytes, of which there are as many.
    pub fn take(&mut self, count: usize) -> Bytes {
        if count == self.bytes.len() {
            return std::mem::take(&mut self.bytes).freeze();
        }
        if count >= SMALL {
            return self.bytes.split_to(count).freeze();
        }
        let taken = Bytes::copy_from_slice(&self.bytes[..count]);
        self.skip(count);
        taken
    }

    /// Lets go of the first `count` bytes, of which there are as many.
    pub fn skip(&mut self, count: usize) {
        if count == self.bytes.len() {
            self.bytes = BytesMut::new();
        } else {
            self.bytes.advance(count);
        }
    }

    /// Reads once from `stream`; 0 is its end.
    ///
    /// # Errors
    /// What the stream says.
    pub fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(stream).poll_read(cx, &mut read))?;
            self.bytes.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    }
}
