//! JSON by its text: values are passed over and sliced, and nothing is built of them. It takes what RFC
//! 8259 is, and nothing else, at a fraction of what a parser costs that makes numbers and strings.

use std::borrow::Cow;
use std::ops::Range;

/// What is no JSON, or not what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the JSON expected")]
pub struct Malformed;

/// A member of an object, as written.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The name, with its quotes.
    pub key: &'a str,
    /// The value.
    pub value: &'a str,
}

/// A place in a text.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The beginning of `text`, which need not be UTF-8: only what is read of it must be.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The byte that the next value begins with, which tells its kind.
    pub fn first(&mut self) -> Option<u8> {
        self.space();
        self.peek()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Passes over `byte` and the space after it.
    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Calls `each` with where the name, with its quotes, and the value of each member of an object stand.
    ///
    /// # Errors
    /// [`Malformed`] as `E` when there is no object, or what `each` gives.
    pub fn object<E: From<Malformed>>(
        &mut self,
        mut each: impl FnMut(Range<usize>, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.members(|reader, key| each(key, reader.value()?))
    }

    /// The same, where `each` reads the value itself.
    ///
    /// # Errors
    /// As [`Reader::object`].
    pub fn members<E: From<Malformed>>(
        &mut self,
        mut each: impl FnMut(&mut Self, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.list(b'{', b'}', |reader| {
            let key = reader.key()?;
            each(reader, key)
        })
    }

    /// Calls `each`, which reads one item, for each item of an array.
    ///
    /// # Errors
    /// As [`Reader::object`].
    pub fn items<E: From<Malformed>>(
        &mut self,
        each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.list(b'[', b']', each)
    }

    fn list<E: From<Malformed>>(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.space();
        self.expect(open)?;
        if self.peek() != Some(close) {
            item(self)?;
            self.space();
            while self.peek() == Some(b',') {
                self.expect(b',')?;
                item(self)?;
                self.space();
            }
        }
        Ok(self.expect(close)?)
    }

    /// Nothing but space may follow.
    ///
    /// # Errors
    /// When something does.
    pub fn end(&mut self) -> Result<(), Malformed> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(Malformed) }
    }

    /// A name and the colon after it.
    fn key(&mut self) -> Result<Range<usize>, Malformed> {
        let key = self.string()?;
        self.space();
        self.expect(b':')?;
        Ok(key)
    }

    /// Passes over a value, however deep; gives where it stands.
    ///
    /// # Errors
    /// When there is none.
    pub fn value(&mut self) -> Result<Range<usize>, Malformed> {
        self.space();
        let start = self.at;
        // What ends the lists and objects that have begun.
        let mut open = Vec::new();
        loop {
            match self.peek().ok_or(Malformed)? {
                begin @ (b'{' | b'[') => {
                    let close = if begin == b'{' { b'}' } else { b']' };
                    self.expect(begin)?;
                    if self.peek() != Some(close) {
                        open.push(close);
                        if close == b'}' {
                            self.key()?;
                        }
                        continue;
                    }
                    self.at += 1;
                }
                b'"' => {
                    self.string()?;
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // A value has ended, and with it what it was the last of.
            loop {
                let Some(close) = open.last().copied() else { return Ok(start..self.at) };
                self.space();
                if self.peek() == Some(b',') {
                    self.expect(b',')?;
                    if close == b'}' {
                        self.key()?;
                    }
                    break;
                }
                if self.peek() != Some(close) {
                    return Err(Malformed);
                }
                self.at += 1;
                open.pop();
            }
        }
    }

    /// Passes over a string; gives where it stands with its quotes.
    fn string(&mut self) -> Result<Range<usize>, Malformed> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(Malformed);
        }
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let length = plain(rest);
            self.at += length;
            match rest.get(length) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(start..self.at);
                }
                Some(b'\\') => self.escape(&rest[length + 1..])?,
                _ => return Err(Malformed),
            }
        }
    }

    /// Passes over a backslash and what it escapes, with which `escaped` begins.
    fn escape(&mut self, escaped: &[u8]) -> Result<(), Malformed> {
        match escaped {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|one| one.is_ascii_hexdigit()) => {
                self.at += 6;
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Malformed> {
        self.at += usize::from(self.peek() == Some(b'-'));
        let leading = self.peek();
        if self.digits()? > 1 && leading == Some(b'0') {
            return Err(Malformed);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// Passes over digits, of which there must be one; gives how many.
    fn digits(&mut self) -> Result<usize, Malformed> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(self.at - start) } else { Err(Malformed) }
    }
}

/// Bytes that a string begins with which mean themselves. Most strings are short: a few are looked at eight at
/// a time before many are in one step.
fn plain(text: &[u8]) -> usize {
    const FEW: usize = 32;
    let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
    let mut at = 0;
    while let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        let special = special(u64::from_le_bytes(*eight));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
        if at == FEW {
            break;
        }
    }
    let rest = &text[at..];
    let length = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    if rest[..length].iter().fold(false, |any, byte| any | (*byte < b' ')) {
        return at + rest.iter().take_while(|byte| is_plain(byte)).count();
    }
    at + length
}

/// The high bit of each byte that is a quote, a backslash or a control character; of those above the lowest,
/// also of others.
fn special(bytes: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let below = |bytes: u64, least: u8| bytes.wrapping_sub(ONES * u64::from(least)) & !bytes;
    let is = |byte: u8| below(bytes ^ (ONES * u64::from(byte)), 1);
    (below(bytes, b' ') | is(b'"') | is(b'\\')) & HIGH
}

/// The members of the object that `text` is, in their order.
///
/// # Errors
/// When it is none.
pub fn members(text: &str) -> Result<Vec<Member<'_>>, Malformed> {
    let mut reader = Reader::new(text.as_bytes());
    let members = object(&mut reader, text)?;
    reader.end()?;
    Ok(members)
}

/// The members of each object of the array that `text` is.
///
/// # Errors
/// When it is none, or something in it is no object.
pub fn objects(text: &str) -> Result<Vec<Vec<Member<'_>>>, Malformed> {
    let mut objects = Vec::new();
    let mut reader = Reader::new(text.as_bytes());
    reader.items(|reader| {
        objects.push(object(reader, text)?);
        Ok::<_, Malformed>(())
    })?;
    reader.end()?;
    Ok(objects)
}

fn object<'a>(reader: &mut Reader<'_>, text: &'a str) -> Result<Vec<Member<'a>>, Malformed> {
    let mut members = Vec::with_capacity(8);
    reader.object(|key, value| {
        members.push(Member { key: &text[key], value: &text[value] });
        Ok::<_, Malformed>(())
    })?;
    Ok(members)
}

/// The items of the array that `text` is.
///
/// # Errors
/// When it is none.
pub fn items(text: &str) -> Result<Vec<&str>, Malformed> {
    let mut items = Vec::new();
    let mut reader = Reader::new(text.as_bytes());
    reader.items(|reader| {
        items.push(&text[reader.value()?]);
        Ok::<_, Malformed>(())
    })?;
    reader.end()?;
    Ok(items)
}

/// What the JSON string `text` says, which is a value that was read; half a surrogate pair says nothing.
///
/// # Errors
/// When it is no string.
pub fn string(text: &str) -> Result<Cow<'_, str>, Malformed> {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        // All else that a string may not hold as it is was not read.
        Some(inner) if memchr::memchr(b'\\', inner.as_bytes()).is_none() => {
            debug_assert_eq!(plain(inner.as_bytes()), inner.len(), "it was not read");
            Ok(Cow::Borrowed(inner))
        }
        _ => serde_json::from_str::<String>(text).map(Cow::Owned).map_err(|_| Malformed),
    }
}

/// A name as readers take it that fold case as Go does, such as Ollama's: `ſ` is an `s`, the sign for kelvin
/// a `k`.
#[must_use]
pub fn folded(name: &str) -> String {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

#[cfg(test)]
pub(crate) mod tests;
