use std::task::Waker;

use proptest::prelude::*;

use super::*;

/// Gives its pieces one at a time, and then ends.
struct Pieces(Vec<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.0.is_empty() {
            buf.put_slice(&self.0.remove(0));
        }
        Poll::Ready(Ok(()))
    }
}

/// The body in `pieces`, and what stands behind it.
fn read(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), BodyError> {
    let mut stream = Pieces(pieces.iter().map(|piece| piece.to_vec()).collect());
    let (mut body, mut input) = (Body::new(framing), Input::default());
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    loop {
        match body.poll(&mut input, &mut stream, &mut cx) {
            Poll::Ready(Some(bytes)) => all.extend_from_slice(&bytes?),
            Poll::Ready(None) => return Ok((all, input.bytes().to_vec())),
            Poll::Pending => panic!("pieces are always ready"),
        }
    }
}

#[test]
fn a_body_ends_where_it_says() {
    for (framing, wire, body, behind) in [
        (Framing::Length(0), "xyz", "", ""),
        (Framing::Length(2), "xyz", "xy", "z"),
        (Framing::Close, "xyz", "xyz", ""),
        (Framing::Chunked, "2\r\nxy\r\n0\r\n\r\nz", "xy", "z"),
        (Framing::Chunked, "002;a=b\r\nxy\r\n1 \r\nz\r\n0\r\nTrailer: t\r\n\r\nGET", "xyz", "GET"),
        (Framing::Chunked, "A\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
    ] {
        let (got, rest) = read(framing, &[wire.as_bytes()]).expect(wire);
        assert_eq!((got, rest), (body.as_bytes().to_vec(), behind.as_bytes().to_vec()), "{wire}");
    }
}

#[test]
fn a_body_that_is_cut_off_is_no_body() {
    for (framing, wire) in [
        (Framing::Length(3), "xy"),
        (Framing::Chunked, ""),
        (Framing::Chunked, "2"),
        (Framing::Chunked, "2\r\nx"),
        (Framing::Chunked, "2\r\nxy\r\n"),
        (Framing::Chunked, "2\r\nxy\r\n0\r\n"),
        (Framing::Chunked, "2\r\nxy\r\n0\r\nA: b\r\n"),
    ] {
        assert!(matches!(read(framing, &[wire.as_bytes()]), Err(BodyError::CutOff)), "{wire:?}");
    }
}

#[test]
fn wrong_chunks_are_told() {
    let long = format!("2;{}\r\nxy\r\n0\r\n\r\n", "e".repeat(MAX_SIZE_LINE));
    let endless = format!("0\r\n{}", "A: b\r\n".repeat(MAX_TRAILERS / 6));
    for wire in [
        "zz\r\n",
        "\r\n",
        "-1\r\n",
        "2\nxy\r\n",
        "2;a\nb\r\nxy\r\n0\r\n\r\n",
        "2\r\nxyz\r\n0\r\n\r\n",
        "2\r\nxy\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "0\r\nA b\r\n\r\n",
        "0\r\n\n",
        "0\r\nA: b\n\r\n",
        "0\r\nA: b\n\nGET / HTTP/1.1\r\n\r\n",
        &long[..MAX_SIZE_LINE + 2],
        &endless,
    ] {
        let read = read(Framing::Chunked, &[wire.as_bytes()]);
        assert!(matches!(read, Err(BodyError::Malformed(_))), "{wire:?}: {read:?}");
    }
}

#[test]
fn what_came_before_a_wrong_chunk_is_given_first() {
    let mut stream = Pieces(vec![b"2\r\nxy\r\n1\r\nz\r\nzz\r\n".to_vec()]);
    let (mut body, mut input) = (Body::new(Framing::Chunked), Input::default());
    let mut cx = Context::from_waker(Waker::noop());
    let first = body.poll(&mut input, &mut stream, &mut cx);
    assert!(matches!(&first, Poll::Ready(Some(Ok(bytes))) if bytes == "xyz"), "{first:?}");
    let second = body.poll(&mut input, &mut stream, &mut cx);
    assert!(matches!(second, Poll::Ready(Some(Err(BodyError::Malformed(_))))), "{second:?}");
}

proptest! {
    #[test]
    fn pieces_may_come_however_they_like(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..3000), 0..8),
        cuts in prop::collection::vec(1usize..4000, 1..40),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\nbehind");
        let mut pieces = Vec::new();
        let mut rest = &wire[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at(*cut.min(&rest.len()));
            pieces.push(piece);
            rest = more;
        }
        let (body, behind) = read(Framing::Chunked, &pieces).expect("whole");
        prop_assert_eq!(body, chunks.concat());
        prop_assert!(b"behind".starts_with(&behind));
    }
}
