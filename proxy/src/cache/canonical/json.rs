//! JSON as it is written: numbers keep their spelling, members their duplicates, text borrows from
//! the body. (A general parser rounds numbers and lets the last of two members win, and a cache key
//! must do neither.)

use std::borrow::Cow;

/// Deeper nesting than any request has.
const MAX_DEPTH: usize = 64;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number as it is spelt.
    Number(&'a str),
    /// Text, unescaped.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Node<'a>>),
    /// Members in their order.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// The body is no JSON, or servers could read it in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

/// Parses `body`.
///
/// # Errors
/// When it is not JSON (RFC 8259), not UTF-8, or nested deeper than 64 values.
pub fn parse(body: &[u8]) -> Result<Node<'_>, Unclear> {
    let text = std::str::from_utf8(body).map_err(|_| Unclear)?;
    let mut reader = Reader { text, at: 0 };
    let node = reader.value(0)?;
    reader.space();
    if reader.at == text.len() { Ok(node) } else { Err(Unclear) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unclear> {
        self.space();
        if self.peek() != Some(byte) {
            return Err(Unclear);
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, Unclear> {
        if depth > MAX_DEPTH {
            return Err(Unclear);
        }
        self.space();
        match self.peek().ok_or(Unclear)? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.string().map(Node::Text),
            b'n' => self.word("null", Node::Null),
            b't' => self.word("true", Node::Bool(true)),
            b'f' => self.word("false", Node::Bool(false)),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, node: Node<'a>) -> Result<Node<'a>, Unclear> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Unclear);
        }
        self.at += word.len();
        Ok(node)
    }

    fn number(&mut self) -> Result<Node<'a>, Unclear> {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let (number, _) = rest.split_at(end);
        serde_json::from_str::<&serde_json::value::RawValue>(number).map_err(|_| Unclear)?;
        self.at += end;
        Ok(Node::Number(number))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Unclear> {
        self.expect(b'"')?;
        let rest = &self.text[self.at..];
        let mut end = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or(Unclear)?;
        if rest.as_bytes()[end] == b'"' {
            self.at += end + 1;
            let plain = &rest[..end];
            // Without a branch for each byte, so that many are looked at in one step.
            let valid = !plain.bytes().fold(false, |any, byte| any | (byte < 0x20));
            return if valid { Ok(Cow::Borrowed(plain)) } else { Err(Unclear) };
        }
        while rest.as_bytes()[end] != b'"' {
            // Past the escape and what it escapes.
            let next = end + 2;
            let more = memchr::memchr2(b'"', b'\\', rest.as_bytes().get(next..).ok_or(Unclear)?);
            end = next + more.ok_or(Unclear)?;
        }
        let quoted = &self.text[self.at - 1..self.at + end + 1];
        self.at += end + 1;
        serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| Unclear)
    }

    fn list(&mut self, depth: usize) -> Result<Node<'a>, Unclear> {
        self.expect(b'[')?;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Node::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => break,
            }
        }
        self.expect(b']')?;
        Ok(Node::List(items))
    }

    fn object(&mut self, depth: usize) -> Result<Node<'a>, Unclear> {
        self.expect(b'{')?;
        let mut members = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Node::Object(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.expect(b':')?;
            members.push((name, self.value(depth + 1)?));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => break,
            }
        }
        self.expect(b'}')?;
        Ok(Node::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json_to_serde_is_json_here_and_nothing_else() {
        for text in [
            "null",
            " [1, -2.5e+3 ,\"a\\n\\u00e4\\\"\"] ",
            "{}",
            "[]",
            "{\"a\":{\"b\":[true,false]}}",
            "{\"a\":1,\"a\":2}",
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\"}",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "nul",
            "truex",
            "\"a",
            "\"\\x\"",
            "\"\u{1}\"",
            "\"\\ud800\"",
            "[1 2]",
            "{} {}",
            "[\"\\\\\"]",
            "\"\\",
            "\"\\\"",
            "{\"a\":\"\\ud83e\\udd80\"}",
        ] {
            let expected = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert_eq!(parse(text.as_bytes()).is_ok(), expected, "{text}");
        }
    }

    #[test]
    fn depth_and_encoding_are_bounded() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse(deep.as_bytes()), Err(Unclear));
        assert_eq!(parse(b"\"\xff\""), Err(Unclear));
    }

    #[test]
    fn numbers_keep_their_spelling_and_members_their_duplicates() {
        let node = parse(b"{\"a\":1.0,\"a\":1e400}").expect("JSON");
        let expected = vec![("a".into(), Node::Number("1.0")), ("a".into(), Node::Number("1e400"))];
        assert_eq!(node, Node::Object(expected));
    }
}
