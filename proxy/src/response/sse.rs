//! Splits a byte stream into units: server-sent events (WHATWG HTML, 9.2) or lines of NDJSON.
//!
//! Whole units are what can be inspected, held back or dropped. A unit that is larger than
//! [`MAX_HELD`] is passed on in pieces instead, so that memory is bounded and no line is too long.
//! Invariant: the units and pieces joined are the bytes pushed.

use bytes::{Buf, Bytes, BytesMut};

/// The largest unit that is held until its end, in bytes.
pub const MAX_HELD: usize = 1024 * 1024;

/// How the stream is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Events end at an empty line.
    Sse,
    /// Every line is a unit.
    Lines,
}

/// A part of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A whole event or line, with its end.
    Whole(Bytes),
    /// A piece of a unit too large to be held; what follows up to its end are pieces too.
    Piece(Bytes),
}

/// The splitter.
#[derive(Debug)]
pub struct Splitter {
    framing: Framing,
    /// Bytes not given out yet.
    pending: BytesMut,
    /// The chunk being split, when nothing was pending before it.
    chunk: Bytes,
    /// How far the unread bytes were scanned.
    scanned: usize,
    /// Where the current line starts in the unread bytes.
    line_start: usize,
    /// The last byte scanned was a CR that ended a line: a LF after it belongs to it.
    after_cr: bool,
    /// The current unit is being passed on in pieces.
    oversized: bool,
    /// Inside a unit in pieces: the current line has bytes already.
    line_open: bool,
}

impl Splitter {
    /// A splitter at the start of a stream.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            pending: BytesMut::new(),
            chunk: Bytes::new(),
            scanned: 0,
            line_start: 0,
            after_cr: false,
            oversized: false,
            line_open: false,
        }
    }

    /// Adds bytes. [`Iterator::next`] must have returned `None` before.
    pub fn push(&mut self, chunk: Bytes) {
        if self.pending.is_empty() && self.chunk.is_empty() {
            self.chunk = chunk;
            return;
        }
        if self.pending.is_empty() {
            self.pending.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
        }
        self.pending.extend_from_slice(&chunk);
    }

    /// How the stream is framed.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether a unit is being passed on in pieces and has not ended.
    #[must_use]
    pub fn inside_pieces(&self) -> bool {
        self.oversized
    }

    /// Whether the stream stands between two units.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        !self.oversized && self.unread().is_empty()
    }

    /// What is left when the stream has ended in the middle of a unit.
    pub fn rest(&mut self) -> Bytes {
        let held = self.unread().len();
        self.take(held)
    }

    /// The beginning of a unit whose end has not come.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        if self.pending.is_empty() { &self.chunk } else { &self.pending }
    }

    fn take(&mut self, length: usize) -> Bytes {
        self.scanned = 0;
        self.line_start = 0;
        if !self.pending.is_empty() {
            return self.pending.split_to(length).freeze();
        }
        if length == self.chunk.len() {
            return std::mem::take(&mut self.chunk);
        }
        let taken = self.chunk.slice(..length);
        self.chunk.advance(length);
        taken
    }

    /// Scans on for the end of the current unit: the offset just after it.
    fn find_end(&mut self) -> Option<usize> {
        loop {
            let unread = if self.pending.is_empty() { &self.chunk[..] } else { &self.pending[..] };
            if std::mem::take(&mut self.after_cr) {
                match unread.get(self.scanned) {
                    Some(b'\n') => {
                        self.scanned += 1;
                        self.line_start = self.scanned;
                    }
                    Some(_) => {}
                    None => {
                        self.after_cr = true;
                        return None;
                    }
                }
            }
            let tail = unread.get(self.scanned..).unwrap_or_default();
            let found = match self.framing {
                Framing::Sse => memchr::memchr2(b'\n', b'\r', tail),
                Framing::Lines => memchr::memchr(b'\n', tail),
            };
            let Some(found) = found else {
                self.scanned = unread.len();
                return None;
            };
            let at = self.scanned + found;
            let line_is_empty = at == self.line_start && !self.line_open;
            let mut end = at + 1;
            if unread[at] == b'\r' {
                match unread.get(end) {
                    Some(b'\n') => end += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.scanned = end;
            self.line_start = end;
            self.line_open = false;
            if self.framing == Framing::Lines || line_is_empty {
                return Some(end);
            }
        }
    }
}

impl Iterator for Splitter {
    type Item = Unit;

    /// The next unit, or `None` when more bytes are needed.
    fn next(&mut self) -> Option<Unit> {
        if let Some(end) = self.find_end() {
            let bytes = self.take(end);
            let whole = !std::mem::take(&mut self.oversized);
            self.line_open = false;
            return Some(if whole { Unit::Whole(bytes) } else { Unit::Piece(bytes) });
        }
        let held = self.unread().len();
        if held > MAX_HELD || (self.oversized && held > 0) {
            self.oversized = true;
            self.line_open = self.line_start < held;
            let bytes = self.take(held);
            return Some(Unit::Piece(bytes));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(framing: Framing, chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::new(framing);
        let mut units = Vec::new();
        for chunk in chunks {
            splitter.push(Bytes::copy_from_slice(chunk));
            for unit in splitter.by_ref() {
                match unit {
                    Unit::Whole(bytes) => units.push(bytes.to_vec()),
                    Unit::Piece(_) => panic!("a piece"),
                }
            }
        }
        let rest = splitter.rest();
        if !rest.is_empty() {
            units.push(rest.to_vec());
        }
        units
    }

    #[test]
    fn events_end_at_an_empty_line_of_any_kind() {
        for (stream, expected) in [
            (&b"data: a\n\ndata: b\n\n"[..], 2),
            (b"data: a\r\n\r\ndata: b\r\n\r\n", 2),
            (b"data: a\r\rdata: b\r\r", 2),
            (b"event: x\ndata: a\ndata: b\n\n", 1),
            (b": comment\n\ndata: a\n\n", 2),
        ] {
            assert_eq!(split(Framing::Sse, &[stream]).len(), expected, "{stream:?}");
        }
    }

    #[test]
    fn units_do_not_depend_on_where_the_bytes_were_cut() {
        let stream =
            "event: x\r\ndata: grün 🦀\r\n\r\ndata: b\n\n: c\n\ndata: d\r\rdata: e\n\n".as_bytes();
        let whole = split(Framing::Sse, &[stream]);
        for first in 0..stream.len() {
            for second in first..stream.len() {
                let parts = [&stream[..first], &stream[first..second], &stream[second..]];
                let cut = split(Framing::Sse, &parts);
                assert_eq!(cut.concat(), stream);
                // A LF that follows a CR in the next chunk may open the next unit instead.
                assert!(cut.len() >= whole.len() && cut.len() <= whole.len() + 1);
            }
        }
    }

    #[test]
    fn lines_are_units_of_their_own() {
        assert_eq!(split(Framing::Lines, &[b"{\"a\":1}\n{\"b\"", b":2}\n"]).len(), 2);
    }

    #[test]
    fn an_endless_line_passes_in_pieces_and_its_end_is_seen() {
        let mut splitter = Splitter::new(Framing::Sse);
        let mut passed = 0;
        for _ in 0..8 {
            splitter.push(Bytes::from(vec![b'x'; MAX_HELD / 2]));
            for unit in splitter.by_ref() {
                let Unit::Piece(bytes) = unit else { panic!("whole") };
                passed += bytes.len();
            }
            assert!(splitter.unread().len() <= MAX_HELD);
        }
        assert!(!splitter.at_boundary());
        splitter.push(Bytes::from_static(b"\n"));
        assert!(matches!(splitter.next(), Some(Unit::Piece(_))));
        assert!(!splitter.at_boundary(), "one line end does not end the event");
        splitter.push(Bytes::from_static(b"\ndata: y\n\n"));
        let Some(Unit::Piece(end)) = splitter.next() else { panic!("no end") };
        passed += end.len() + 1;
        assert_eq!(passed, 4 * MAX_HELD + 2);
        assert_eq!(splitter.next(), Some(Unit::Whole(Bytes::from_static(b"data: y\n\n"))));
        assert!(splitter.at_boundary());
    }
}
