//! Brackets and strings of an answer that is JSON, followed through a text that comes in pieces.
//!
//! An answer is JSON when it begins with a bracket and goes on like JSON; at the first character
//! that cannot be, and at the end of the outermost bracket, nothing more is followed or closed.

mod code;

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 200;
const WORDS: [&[u8]; 3] = [b"true", b"false", b"null"];

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

/// The rest of an escape in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Backslash,
    /// This many hexadecimal digits.
    Hex(u8),
}

/// What the text stops in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    None,
    String {
        key: bool,
        escape: Escape,
    },
    /// One of `WORDS`, and how much of it was read.
    Word(u8, u8),
    Number {
        needs_digit: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bracket {
    Object,
    Array,
}

/// The brackets a text is in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Json {
    /// Whether it is no JSON, or is over.
    over: bool,
    place: Place,
    token: Token,
    open: Vec<Bracket>,
}

impl Default for Json {
    fn default() -> Self {
        Self { over: false, place: Place::Value, token: Token::None, open: Vec::new() }
    }
}

impl Json {
    /// Reads on.
    pub(crate) fn read(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.over {
                return;
            }
            if self.step(byte).is_none() {
                *self = Self { over: true, ..Self::default() };
            }
        }
    }

    /// `None` when it is no JSON, or over.
    fn step(&mut self, byte: u8) -> Option<()> {
        match self.token {
            Token::None => self.between(byte),
            Token::String { key, escape } => {
                let escape = match (escape, byte) {
                    (Escape::None, b'"') => {
                        self.end(if key { Place::Colon } else { Place::CommaOrEnd });
                        return Some(());
                    }
                    (Escape::None, b'\\') => Escape::Backslash,
                    (Escape::Backslash, b'u') => Escape::Hex(4),
                    (Escape::Hex(left @ 2..), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                        Escape::Hex(left - 1)
                    }
                    _ => Escape::None,
                };
                self.token = Token::String { key, escape };
                Some(())
            }
            Token::Word(word, read) => {
                let letters = WORDS.get(usize::from(word))?;
                let expected = letters.get(usize::from(read))?;
                if byte != *expected {
                    return None;
                }
                if usize::from(read) + 1 == letters.len() {
                    self.end(Place::CommaOrEnd);
                } else {
                    self.token = Token::Word(word, read + 1);
                }
                Some(())
            }
            Token::Number { .. } => {
                let needs_digit = matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
                if needs_digit || byte.is_ascii_digit() {
                    self.token = Token::Number { needs_digit };
                    return Some(());
                }
                self.end(Place::CommaOrEnd);
                self.between(byte)
            }
        }
    }

    fn end(&mut self, next: Place) {
        self.token = Token::None;
        self.place = next;
    }

    fn between(&mut self, byte: u8) -> Option<()> {
        if byte.is_ascii_whitespace() {
            return Some(());
        }
        match (self.place, byte) {
            (Place::Value | Place::ValueOrEnd, _) if byte != b']' => return self.value(byte),
            (Place::Key | Place::KeyOrEnd, b'"') => {
                self.token = Token::String { key: true, escape: Escape::None };
            }
            (Place::Colon, b':') => self.place = Place::Value,
            (Place::CommaOrEnd, b',') => {
                self.place = match self.open.last()? {
                    Bracket::Object => Place::Key,
                    Bracket::Array => Place::Value,
                };
            }
            (Place::KeyOrEnd | Place::CommaOrEnd, b'}') => return self.close(Bracket::Object),
            (Place::ValueOrEnd | Place::CommaOrEnd, b']') => return self.close(Bracket::Array),
            _ => return None,
        }
        Some(())
    }

    fn value(&mut self, byte: u8) -> Option<()> {
        match byte {
            b'{' => return self.enter(Bracket::Object, Place::KeyOrEnd),
            b'[' => return self.enter(Bracket::Array, Place::ValueOrEnd),
            // Only brackets make an answer look like JSON.
            _ if self.open.is_empty() => return None,
            b'"' => self.token = Token::String { key: false, escape: Escape::None },
            b'-' | b'0'..=b'9' => self.token = Token::Number { needs_digit: byte == b'-' },
            b't' => self.token = Token::Word(0, 1),
            b'f' => self.token = Token::Word(1, 1),
            b'n' => self.token = Token::Word(2, 1),
            _ => return None,
        }
        Some(())
    }

    fn enter(&mut self, bracket: Bracket, next: Place) -> Option<()> {
        self.open.push(bracket);
        self.place = next;
        (self.open.len() <= MAX_DEPTH).then_some(())
    }

    fn close(&mut self, bracket: Bracket) -> Option<()> {
        if self.open.pop() != Some(bracket) {
            return None;
        }
        self.place = Place::CommaOrEnd;
        (!self.open.is_empty()).then_some(())
    }

    /// What makes it whole, should the text end here.
    pub(crate) fn closing(&self) -> String {
        let mut text = String::new();
        if self.over || self.open.is_empty() {
            return text;
        }
        match self.token {
            Token::None => text.push_str(match self.place {
                Place::Value => "null",
                Place::Key => "\"\":null",
                Place::Colon => ":null",
                Place::ValueOrEnd | Place::KeyOrEnd | Place::CommaOrEnd => "",
            }),
            Token::String { key, escape } => {
                match escape {
                    Escape::None => {}
                    Escape::Backslash => text.push('\\'),
                    Escape::Hex(left) => text.push_str(&"0".repeat(usize::from(left))),
                }
                text.push_str(if key { "\":null" } else { "\"" });
            }
            Token::Word(word, read) => {
                let letters = WORDS.get(usize::from(word)).copied().unwrap_or_default();
                text.extend(letters.iter().skip(usize::from(read)).map(|byte| char::from(*byte)));
            }
            Token::Number { needs_digit } => text.push_str(if needs_digit { "0" } else { "" }),
        }
        text.extend(self.open.iter().rev().map(|bracket| match bracket {
            Bracket::Object => '}',
            Bracket::Array => ']',
        }));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing(text: &str) -> String {
        let mut json = Json::default();
        json.read(text);
        json.closing()
    }

    #[test]
    fn open_brackets_and_strings_are_closed() {
        for (text, expected) in [
            ("{", "}"),
            ("\n [", "]"),
            (r#"{"a": [1, {"b": "c"#, r#""}]}"#),
            (r#"{"a": "b""#, "}"),
            (r#"{"a": "}]"#, r#""}"#),
            (r#"{"a": "\""#, r#""}"#),
            (r#"{"a": "\"#, r#"\"}"#),
            (r#"{"a": "\u00"#, r#"00"}"#),
            (r#"{"a": "ü"#, r#""}"#),
            ("[[], {}", "]"),
        ] {
            assert_eq!(closing(text), expected, "{text}");
        }
    }

    #[test]
    fn what_was_begun_is_completed() {
        for (text, expected) in [
            (r#"{"a"#, r#"":null}"#),
            (r#"{"a""#, ":null}"),
            (r#"{"a":"#, "null}"),
            (r#"{"a":1,"#, r#""":null}"#),
            ("[1,", "null]"),
            ("[tr", "ue]"),
            ("[false", "]"),
            ("[-", "0]"),
            ("[1.", "0]"),
            ("[1e+", "0]"),
            ("[12", "]"),
        ] {
            assert_eq!(closing(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_or_is_whole_is_left_alone() {
        for text in [
            "",
            "text {",
            "\"text",
            "12",
            "[link](http://x",
            "[see this",
            "{name} said",
            "{}",
            "[1] as shown in [",
            r#"{"a": 1} and {"#,
            "{\"a\": 1]",
            "{,",
            "]",
            "{: {",
        ] {
            assert_eq!(closing(text), "", "{text}");
        }
        assert_eq!(closing(&"[".repeat(MAX_DEPTH)), "]".repeat(MAX_DEPTH));
        assert_eq!(closing(&"[".repeat(100_000)), "");
    }

    #[test]
    fn a_text_may_be_cut_anywhere() {
        let text = r#" {"ä\u00e9\n": [true, null, -1.5e+3, "x\\", {}], "b": {"c": [[]]}}"#;
        let mut json = Json::default();
        let mut so_far = String::new();
        for c in text.chars() {
            so_far.push(c);
            json.read(&c.to_string());
            let mut bytes = Vec::new();
            json.encode(&mut bytes);
            assert_eq!(Json::decode(&mut bytes.into_iter()).as_ref(), Some(&json));
            assert_eq!(json.closing(), closing(&so_far), "{so_far:?}");
            let mut whole = Json::default();
            whole.read(&(so_far.clone() + &json.closing()));
            assert!(whole.over || so_far == " ", "{so_far} is made whole");
            assert!(whole.open.is_empty(), "{so_far} is made whole");
        }
    }
}
