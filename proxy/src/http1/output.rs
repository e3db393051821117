//! What is written: the head of an answer as it goes out, and parts that are one write together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::AsyncWrite;

/// Room for a head from the start, in bytes; most need no more.
const ROOM: usize = 768;

/// The head of an answer: its status line and fields as they are written.
#[derive(Debug)]
pub struct Head {
    status: StatusCode,
    text: Vec<u8>,
    /// Where each field begins, and the length of its name.
    lines: Vec<(usize, usize)>,
    /// The [`mark`] of each name: most names that are set are not there yet.
    marks: u64,
}

/// One of 64, by a name's length and last byte.
fn mark(name: &str) -> u64 {
    let last = name.as_bytes().last().copied().unwrap_or_default();
    1 << ((name.len() * 5 + usize::from(last)) % 64)
}

impl Head {
    /// A head with `status` and no fields.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        let mut text = Vec::with_capacity(ROOM);
        if status == StatusCode::OK {
            text.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        } else {
            let reason = status.canonical_reason().unwrap_or_default();
            for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
                text.extend_from_slice(part.as_bytes());
            }
        }
        Self { status, text, lines: Vec::with_capacity(16), marks: 0 }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Has `name`, in lower case, once, with `value`. A value that no field can hold is left out: nothing
    /// that somebody else wrote becomes another field.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.add(name, value);
    }

    /// Takes every `name`, in lower case, out.
    pub fn remove(&mut self, name: &str) {
        while let Some(known) = self.find(name) {
            self.remove_line(known);
        }
    }

    /// Adds `name`, in lower case, beside others of its name.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        if !value.iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t') {
            return;
        }
        self.marks |= mark(name);
        self.lines.push((self.text.len(), name.len()));
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.text.extend_from_slice(part);
        }
    }

    /// Whether it has `name`, in lower case.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The value of `name`, in lower case, as text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let index = self.find(name)?;
        std::str::from_utf8(self.iter().nth(index)?.1).ok()
    }

    fn find(&self, name: &str) -> Option<usize> {
        let there = self.marks & mark(name) != 0;
        there.then(|| self.lines.iter().position(|line| self.is(*line, name)))?
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let ends = self.lines.iter().skip(1).map(|(start, _)| *start).chain([self.text.len()]);
        self.lines.iter().zip(ends).map(|((start, name), end)| {
            let value = start + name + 2;
            (&self.text[*start..start + name], &self.text[value..end - 2])
        })
    }

    /// The whole head as it is written.
    #[must_use]
    pub fn into_text(mut self) -> Vec<u8> {
        self.text.extend_from_slice(b"\r\n");
        self.text
    }

    fn is(&self, (start, length): (usize, usize), name: &str) -> bool {
        length == name.len() && self.text[start..start + length] == *name.as_bytes()
    }

    fn remove_line(&mut self, index: usize) {
        let (start, _) = self.lines.remove(index);
        let end = self.lines.get(index).map_or(self.text.len(), |(next, _)| *next);
        self.text.drain(start..end);
        self.lines[index..].iter_mut().for_each(|(later, _)| *later -= end - start);
    }
}

/// Writes what is left of `parts`, which are a single write where the stream takes it.
///
/// # Errors
/// What the stream says.
pub fn poll_write_all<S: AsyncWrite + Unpin, const N: usize>(
    stream: &mut S,
    parts: &mut [&[u8]; N],
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while let Some(first) = parts.iter().position(|part| !part.is_empty()) {
        let slices = parts.map(IoSlice::new);
        let mut written = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[first..]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        for part in parts.iter_mut() {
            let of_part = written.min(part.len());
            *part = &part[of_part..];
            written -= of_part;
        }
    }
    Pin::new(stream).poll_flush(cx)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn text(head: Head) -> String {
        String::from_utf8(head.into_text()).expect("ASCII")
    }

    #[test]
    fn a_head_is_written_in_the_order_of_its_fields() {
        let mut head = Head::new(StatusCode::OK);
        head.add("content-type", "a");
        head.add("x", "1");
        head.add("x", "2");
        let fields: Vec<_> = head.iter().collect();
        assert_eq!(fields, [(&b"content-type"[..], &b"a"[..]), (b"x", b"1"), (b"x", b"2")]);
        assert_eq!(text(head), "HTTP/1.1 200 OK\r\ncontent-type: a\r\nx: 1\r\nx: 2\r\n\r\n");
        let missing = text(Head::new(StatusCode::NOT_FOUND));
        assert_eq!(missing, "HTTP/1.1 404 Not Found\r\n\r\n");
    }

    #[test]
    fn what_is_set_stands_there_once() {
        let mut head = Head::new(StatusCode::OK);
        for (name, value) in [("a", "1"), ("b", "22"), ("a", "3"), ("c", "4")] {
            head.add(name, value);
        }
        head.set("a", "5");
        head.set("c", "6");
        assert!(head.has("a") && !head.has("d"));
        assert_eq!(text(head), "HTTP/1.1 200 OK\r\nb: 22\r\na: 5\r\nc: 6\r\n\r\n");
    }

    #[test]
    fn no_value_becomes_another_field() {
        let mut head = Head::new(StatusCode::OK);
        for value in ["a\r\nInjected: 1", "a\nb", "\0", "\u{7f}"] {
            head.set("x", value);
        }
        head.set("y", "ü\t");
        assert_eq!(text(head), "HTTP/1.1 200 OK\r\ny: ü\t\r\n\r\n");
    }

    /// Takes two bytes at a time.
    struct Narrow(Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(2);
            self.0.extend_from_slice(&buf[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn parts_are_written_whole_however_little_is_taken() {
        let mut stream = Narrow(Vec::new());
        let mut parts: [&[u8]; 4] = [b"abc", b"", b"d", b"efg"];
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(poll_write_all(&mut stream, &mut parts, &mut cx), Poll::Ready(Ok(()))));
        assert_eq!(stream.0, b"abcdefg");
    }
}
