//! The bodies of messages, taken out of their framing (RFC 9112, 6 and 7).

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use httparse::Status;
use tokio::io::AsyncRead;

use super::head::has_bare_line_feed;
use super::input::Input;

/// The longest line with a chunk's size and extensions, which nobody uses, in bytes.
const MAX_SIZE_LINE: usize = 1024;
/// The most that may follow the last chunk, in bytes and fields.
const MAX_TRAILERS: usize = 16 * 1024;
const MAX_TRAILER_FIELDS: usize = 32;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After a chunk of nothing.
    Chunked,
    /// With its connection.
    Close,
}

/// Why a body has no end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Its chunks are framed wrongly.
    #[error("{0}")]
    Malformed(&'static str),
    /// The connection ended before it.
    #[error("the connection was closed before the end of the body")]
    CutOff,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A body as it comes.
#[derive(Debug)]
pub struct Body {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are to come.
    Length(u64),
    /// The line with a chunk's size.
    Size,
    /// So many bytes of a chunk are to come.
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    /// What follows the last chunk.
    Trailers,
    /// All that comes.
    Close,
    Done,
}

impl Body {
    /// A body of which nothing came yet.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::Close => State::Close,
        };
        Self { state }
    }

    /// Whether all of it was taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The next bytes of it, as many as have come, out of `input` and then `stream`; `None` at its end.
    pub fn poll<S: AsyncRead + Unpin>(
        &mut self,
        input: &mut Input,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match self.decode(input) {
                Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Some(Ok(bytes))),
                Ok(_) if self.is_done() => return Poll::Ready(None),
                Ok(_) => {}
                Err(cause) => return Poll::Ready(Some(Err(cause))),
            }
            match ready!(input.poll_fill(stream, cx)) {
                Ok(0) if self.state == State::Close => self.state = State::Done,
                Ok(0) => return Poll::Ready(Some(Err(BodyError::CutOff))),
                Ok(_) => {}
                Err(cause) => return Poll::Ready(Some(Err(cause.into()))),
            }
        }
    }

    /// Takes what there is of it in `input`.
    fn decode(&mut self, input: &mut Input) -> Result<Bytes, BodyError> {
        match self.state {
            State::Done => Ok(Bytes::new()),
            State::Close => Ok(input.take(input.bytes().len())),
            State::Length(left) => {
                let count = at_hand(left, input);
                let left = left - count as u64;
                self.state = if left == 0 { State::Done } else { State::Length(left) };
                Ok(input.take(count))
            }
            State::Size | State::Data(_) | State::DataEnd | State::Trailers => self.chunks(input),
        }
    }

    /// Joins what there is of chunks: events of a stream are one each, and come many at a time.
    fn chunks(&mut self, input: &mut Input) -> Result<Bytes, BodyError> {
        let mut single = Bytes::new();
        let mut joined = BytesMut::new();
        loop {
            if let State::Data(left) = self.state {
                let (count, there) = (at_hand(left, input), input.bytes().len());
                if count == 0 {
                    break;
                }
                // Nothing but a line end can follow it: it goes on as it is.
                if joined.is_empty() && count + 2 >= there {
                    single = input.take(count);
                } else {
                    joined.reserve(there);
                    joined.extend_from_slice(&input.bytes()[..count]);
                    input.skip(count);
                }
                let left = left - count as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                continue;
            }
            match self.between_chunks(input) {
                Ok(Some(next)) => self.state = next,
                Ok(None) => break,
                Err(cause) if single.is_empty() && joined.is_empty() => return Err(cause),
                // What came before is given first; the next look meets the same again.
                Err(_) => break,
            }
        }
        Ok(if joined.is_empty() { single } else { joined.freeze() })
    }

    /// What comes next where no data does; `None` while it is not all there.
    fn between_chunks(&self, input: &mut Input) -> Result<Option<State>, BodyError> {
        match self.state {
            State::Size => size(input),
            State::DataEnd => match input.bytes() {
                [b'\r', b'\n', ..] => {
                    input.skip(2);
                    Ok(Some(State::Size))
                }
                [] | [b'\r'] => Ok(None),
                _ => Err(BodyError::Malformed("a chunk is longer than it says")),
            },
            State::Trailers => trailers(input),
            State::Data(_) | State::Length(_) | State::Close | State::Done => Ok(None),
        }
    }
}

/// How many of the `left` bytes that are to come have come.
fn at_hand(left: u64, input: &Input) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(input.bytes().len())
}

/// What follows a chunk's size; `None` while its line is not all there.
fn size(input: &mut Input) -> Result<Option<State>, BodyError> {
    let malformed = BodyError::Malformed("invalid chunk size");
    let bytes = input.bytes();
    match httparse::parse_chunk_size(bytes) {
        Ok(Status::Complete((length, size))) => {
            // A line without a size is none, and an extension with a line feed in it would be two to others.
            let sized = bytes[0].is_ascii_hexdigit() && length <= MAX_SIZE_LINE;
            if !sized || memchr::memchr(b'\n', bytes) != Some(length - 1) {
                return Err(malformed);
            }
            input.skip(length);
            Ok(Some(if size == 0 { State::Trailers } else { State::Data(size) }))
        }
        Ok(Status::Partial) if bytes.len() <= MAX_SIZE_LINE => Ok(None),
        Ok(Status::Partial) | Err(_) => Err(malformed),
    }
}

/// Passes over trailers, which carry nothing that anybody is promised.
fn trailers(input: &mut Input) -> Result<Option<State>, BodyError> {
    let bytes = input.bytes();
    if bytes.starts_with(b"\r\n") {
        input.skip(2);
        return Ok(Some(State::Done));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(Status::Complete((length, _)))
            if length <= MAX_TRAILERS && !has_bare_line_feed(&bytes[..length]) =>
        {
            input.skip(length);
            Ok(Some(State::Done))
        }
        Ok(Status::Partial) if bytes.len() <= MAX_TRAILERS => Ok(None),
        Ok(_) | Err(_) => Err(BodyError::Malformed("invalid trailers")),
    }
}

#[cfg(test)]
mod tests;
