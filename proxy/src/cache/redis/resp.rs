//! What Redis sends, read from its bytes: version 3 of its protocol
//! (<https://redis.io/docs/latest/develop/reference/protocol-spec/>), as far as it is sent to one who reads
//! answers and is told of changes to them.

/// Lists within lists. Redis's greeting has two.
const MAX_DEPTH: usize = 4;
/// Bytes of a line that says how long something is, or is all of it.
const MAX_LINE: usize = 64 * 1024;

/// A value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A text.
    Text(&'a [u8]),
    /// What Redis did not do, and why.
    Refusal(&'a [u8]),
    /// A list, a set, or the names and values of a map.
    List(Vec<Value<'a>>),
    /// What was not asked for.
    Push(Vec<Value<'a>>),
    /// Nothing.
    Null,
    /// A number or a truth value.
    Other,
}

/// What Redis never sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The value that `bytes` begin with, and its length; none while it has not come whole.
///
/// # Errors
/// When they begin with something else.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Value<'_>, usize)>, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    match reader.value(0) {
        Ok(value) => Ok(Some((value, reader.at))),
        Err(Stop::Short) => Ok(None),
        Err(Stop::Malformed) => Err(Malformed),
    }
}

enum Stop {
    Short,
    Malformed,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Stop> {
        let line = self.line()?;
        let Some((kind, rest)) = line.split_first() else { return Err(Stop::Malformed) };
        match kind {
            b'+' => Ok(Value::Text(rest)),
            b'-' => Ok(Value::Refusal(rest)),
            b':' | b'#' | b',' | b'(' => Ok(Value::Other),
            b'_' => Ok(Value::Null),
            b'$' | b'=' => Ok(self.bulk(rest)?.map_or(Value::Null, Value::Text)),
            b'!' => Ok(self.bulk(rest)?.map_or(Value::Null, Value::Refusal)),
            b'*' | b'~' => Ok(self.list(rest, 1, depth)?.map_or(Value::Null, Value::List)),
            b'%' => Ok(self.list(rest, 2, depth)?.map_or(Value::Null, Value::List)),
            b'>' => Ok(self.list(rest, 1, depth)?.map_or(Value::Null, Value::Push)),
            _ => Err(Stop::Malformed),
        }
    }

    fn list(
        &mut self,
        count: &[u8],
        each: usize,
        depth: usize,
    ) -> Result<Option<Vec<Value<'a>>>, Stop> {
        let Some(count) = length(count)? else { return Ok(None) };
        if depth == MAX_DEPTH {
            return Err(Stop::Malformed);
        }
        let count = count.saturating_mul(each);
        // Each value takes three bytes at least: more room than has come is not made.
        let mut values = Vec::with_capacity(count.min((self.bytes.len() - self.at) / 3));
        for _ in 0..count {
            values.push(self.value(depth + 1)?);
        }
        Ok(Some(values))
    }

    fn bulk(&mut self, count: &[u8]) -> Result<Option<&'a [u8]>, Stop> {
        let Some(count) = length(count)? else { return Ok(None) };
        let rest = &self.bytes[self.at..];
        let end = count.checked_add(2).ok_or(Stop::Malformed)?;
        let (text, end_of_line) = rest.get(..end).ok_or(Stop::Short)?.split_at(count);
        if end_of_line != b"\r\n" {
            return Err(Stop::Malformed);
        }
        self.at += end;
        Ok(Some(text))
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let short = if rest.len() > MAX_LINE { Stop::Malformed } else { Stop::Short };
        let end = memchr::memchr(b'\n', rest).ok_or(short)?;
        let line = rest[..end].strip_suffix(b"\r").ok_or(Stop::Malformed)?;
        self.at += end + 1;
        Ok(line)
    }
}

/// A length; none where there is nothing, which is -1 in the protocol before.
fn length(text: &[u8]) -> Result<Option<usize>, Stop> {
    if text == b"-1" {
        return Ok(None);
    }
    let text = std::str::from_utf8(text).map_err(|_| Stop::Malformed)?;
    text.parse().map(Some).map_err(|_| Stop::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSH: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$3\r\nb\r\n\r\n";

    #[test]
    fn a_push_is_read_when_it_is_whole_and_not_before() {
        let keys = Value::List(vec![Value::Text(b"a"), Value::Text(b"b\r\n")]);
        let push = Value::Push(vec![Value::Text(b"invalidate"), keys]);
        let both = [PUSH, b"+PONG\r\n"].concat();
        assert_eq!(read(&both), Ok(Some((push, PUSH.len()))));
        assert_eq!(read(&both[PUSH.len()..]), Ok(Some((Value::Text(b"PONG"), 7))));
        for cut in 0..PUSH.len() {
            assert_eq!(read(&PUSH[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn every_kind_is_read() {
        let written = b"%2\r\n+a\r\n:1\r\n$1\r\nb\r\n*1\r\n#t\r\n";
        let list = Value::List(vec![Value::Other]);
        let map = Value::List(vec![Value::Text(b"a"), Value::Other, Value::Text(b"b"), list]);
        for (bytes, value) in [
            (&b"_\r\n"[..], Value::Null),
            (b"$-1\r\n", Value::Null),
            (b"*-1\r\n", Value::Null),
            (b"-NOPERM no\r\n", Value::Refusal(b"NOPERM no")),
            (b"!3\r\nERR\r\n", Value::Refusal(b"ERR")),
            (b",1.5\r\n", Value::Other),
            (written, map),
            (b"~0\r\n", Value::List(vec![])),
        ] {
            assert_eq!(read(bytes), Ok(Some((value, bytes.len()))));
        }
    }

    #[test]
    fn what_redis_never_sends_is_refused_and_takes_no_room() {
        let deep = b"*1\r\n".repeat(6);
        let long = [b"+".repeat(MAX_LINE + 1)].concat();
        for bytes in [
            &b"x\r\n"[..],
            b"\r\n",
            b"+a\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"$1\r\nab\r\n",
            b"*18446744073709551616\r\n",
            b"$18446744073709551615\r\n",
            &deep,
            &long,
        ] {
            assert_eq!(read(bytes), Err(Malformed), "{}", bytes.escape_ascii());
        }
        assert_eq!(read(b"*18446744073709551615\r\n"), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_within_its_bounds(bytes: Vec<u8>, kind in "[>*%~$+_-][0-9]{0,2}\r\n") {
            for bytes in [&bytes, &[kind.as_bytes(), &bytes].concat()] {
                if let Ok(Some((_, length))) = read(bytes) {
                    proptest::prop_assert!((1..=bytes.len()).contains(&length));
                    proptest::prop_assert!(read(&bytes[..length - 1]) == Ok(None));
                }
            }
        }
    }
}
