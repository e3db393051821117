//! Whatever comes over a connection is read in the same way however it is cut into pieces, and nothing of a
//! head gets lost or becomes something else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use sluicegate::http1::{Body, Framing, Input, ReplyHead, RequestHead};
use tokio::io::{AsyncRead, ReadBuf};

pub(crate) const SEEDS: &[&[u8]] = &[
    b"POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n",
    b"POST http://g/x HTTP/1.0\r\nHost: g\r\nConnection: keep-alive, X\r\nX: \r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nT: u\r\n\r\nrest",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\ndata: {}\n\n\r\n10\r\ndata: 012345678\n\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n folded\r\n\r\n",
];

pub(crate) fn check(input: &[u8], rng: &mut fastrand::Rng) {
    if let Ok(Some((head, length))) = RequestHead::parse(input) {
        assert!(RequestHead::parse(&input[..length - 1]).is_ok_and(|head| head.is_none()));
        assert!(!input[..length].contains(&0), "no NUL in a head");
        for (name, value) in head.fields.iter() {
            assert_eq!(name, name.to_ascii_lowercase());
            assert!(!value.contains(&b'\n') && !value.contains(&b'\r'));
            assert!(head.fields.get_all(name).any(|one| one == value));
        }
        if let Ok(framing) = head.framing() {
            body(framing, &input[length..], rng);
        }
    }
    if let Ok(Some((head, length))) = ReplyHead::parse(input) {
        body(head.framing, &input[length..], rng);
    }
    body(Framing::Chunked, input, rng);
}

/// The same body, and the same behind it, in one piece and in many.
fn body(framing: Framing, wire: &[u8], rng: &mut fastrand::Rng) {
    let whole = read(framing, vec![wire.to_vec()]);
    let mut pieces = Vec::new();
    let mut rest = wire;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rng.usize(1..=rest.len().min(9)));
        pieces.push(piece.to_vec());
        rest = more;
    }
    assert_eq!(whole, read(framing, pieces));
}

/// What was read of a body, and how many bytes stand behind it; or that it is no body.
fn read(framing: Framing, pieces: Vec<Vec<u8>>) -> (Vec<u8>, Result<usize, String>) {
    let mut stream = Pieces(pieces.into_iter().collect());
    let (mut body, mut input) = (Body::new(framing), Input::default());
    let mut all = Vec::new();
    loop {
        match body.poll(&mut input, &mut stream, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(bytes))) => all.extend_from_slice(&bytes),
            // Where a line is cut off, it is only known to be wrong once it is there.
            Poll::Ready(Some(Err(cause))) => return (all, Err(cause.to_string())),
            Poll::Ready(None) => {
                let unread: usize = stream.0.iter().map(Vec::len).sum();
                return (all, Ok(input.bytes().len() + unread));
            }
            Poll::Pending => panic!("pieces are always there"),
        }
    }
}

struct Pieces(std::collections::VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.pop_front() {
            buf.put_slice(&piece);
        }
        Poll::Ready(Ok(()))
    }
}
