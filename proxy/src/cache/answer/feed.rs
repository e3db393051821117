//! Takes the data out of joined server-sent events (WHATWG HTML, 9.2.6).

use std::borrow::Cow;

/// The events that have data, in order.
pub(super) struct Feed<'a> {
    rest: &'a [u8],
}

/// One event.
pub(super) struct Message<'a> {
    /// Its name said that it is an error.
    pub(super) is_error: bool,
    /// Its lines of data, joined.
    pub(super) data: Cow<'a, [u8]>,
}

impl<'a> Feed<'a> {
    pub(super) fn new(events: &'a [u8]) -> Self {
        Self { rest: events.strip_prefix("\u{feff}".as_bytes()).unwrap_or(events) }
    }

    /// The next line, without its end: LF, CRLF or CR.
    fn line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = memchr::memchr2(b'\n', b'\r', self.rest).unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)).unwrap_or_default();
        Some(line)
    }
}

impl<'a> Iterator for Feed<'a> {
    type Item = Message<'a>;

    /// The last event may lack its empty line: a `[DONE]` at the very end has been seen so.
    fn next(&mut self) -> Option<Message<'a>> {
        let (mut is_error, mut data): (_, Option<Cow<'a, [u8]>>) = (false, None);
        while let Some(line) = self.line() {
            if line.is_empty() {
                if data.is_some() {
                    break;
                }
                is_error = false;
            } else if let Some(value) = field(line, b"data") {
                data = Some(match data {
                    None => Cow::Borrowed(value),
                    Some(before) => {
                        let mut joined = before.into_owned();
                        joined.push(b'\n');
                        joined.extend_from_slice(value);
                        Cow::Owned(joined)
                    }
                });
            } else if let Some(name) = field(line, b"event") {
                is_error = name == b"error";
            }
        }
        data.map(|data| Message { is_error, data })
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}
