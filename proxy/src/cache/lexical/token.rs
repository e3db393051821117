//! Cuts a text into [`Token`]s: words, numbers, symbols and quoted strings, each with the case it
//! was written in and what stood before it.
//!
//! Nothing that can carry meaning is lost here: "C++" stays a word, "-5" a number, and a quoted
//! string is one token that is compared as it is.

use std::borrow::Cow;

use super::words::{self, Kinds, Lex};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word.
    Word,
    /// A number in digits.
    Number,
    /// Operators and signs.
    Symbol,
    /// A quoted string, without its quotes.
    Quote,
    /// The `'s` of "France's".
    Genitive,
}

/// The case a word was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// No capital.
    Lower,
    /// One capital, at the start.
    Title,
    /// All capitals.
    Upper,
    /// Capitals within: "iPhone".
    Mixed,
}

/// A sentence ended before the token.
pub(super) const BREAK: u8 = 1;
/// A comma, colon, dash or bracket stood before the token.
pub(super) const PAUSE: u8 = 1 << 1;
/// A hyphen joins the token to the one before.
pub(super) const JOINED: u8 = 1 << 2;
/// `a` or `an` stood before the token.
pub(super) const AFTER_A: u8 = 1 << 3;
/// `the` stood before the token.
pub(super) const AFTER_THE: u8 = 1 << 4;
/// Compared with the base form of the other side: "implemented" is "implement" here.
pub(super) const INFLECTED: u8 = 1 << 5;

/// A piece of a text.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    /// Lower case, in its canonical spelling.
    pub text: Cow<'a, str>,
    pub kind: Kind,
    pub shape: Shape,
    pub kinds: Kinds,
    /// What stood before it.
    pub marks: u8,
}

impl Token<'_> {
    /// Whether it is a word of one of these kinds.
    pub(super) fn is(&self, kinds: Kinds) -> bool {
        self.kinds & kinds != 0
    }

    /// Whether any of these marks is set.
    pub(super) fn after(&self, marks: u8) -> bool {
        self.marks & marks != 0
    }
}

/// A word in lower case that the text itself did not contain.
pub(super) fn word(text: &'static str) -> Token<'static> {
    let kinds = words::look_up(text).kinds;
    Token { text: Cow::Borrowed(text), kind: Kind::Word, shape: Shape::Lower, kinds, marks: 0 }
}

/// The tokens of `text`.
pub(super) fn cut(text: &str) -> Vec<Token<'_>> {
    let mut cutter = Cutter { text, at: 0, before: ' ', marks: BREAK, tokens: Vec::new() };
    cutter.tokens.reserve(text.len() / 5 + 2);
    while let Some(next) = cutter.text[cutter.at..].chars().next() {
        cutter.step(next);
    }
    cutter.tokens
}

struct Cutter<'a> {
    text: &'a str,
    at: usize,
    /// The character before `at`.
    before: char,
    marks: u8,
    tokens: Vec<Token<'a>>,
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’' | '‘' | 'ʼ')
}

fn closing(open: char) -> Option<&'static [char]> {
    Some(match open {
        '"' | '“' | '”' | '„' => &['"', '”', '“'],
        '«' => &['»'],
        '`' => &['`'],
        '\'' | '‘' => &['\'', '’'],
        _ => return None,
    })
}

impl<'a> Cutter<'a> {
    fn step(&mut self, next: char) {
        let rest = &self.text[self.at..];
        let after = rest[next.len_utf8()..].chars().next().unwrap_or(' ');
        if next.is_whitespace() {
            if next == '\n' {
                self.marks |= BREAK;
            }
            self.skip(next.len_utf8());
        } else if self.starts_word(next, after) {
            self.word();
        } else if closing(next).is_some() && !self.before.is_alphanumeric() && self.quote(next) {
        } else if is_apostrophe(next) && self.before == 's' && !after.is_alphanumeric() {
            self.push("'s".into(), Kind::Genitive, Shape::Lower, Lex::default());
            self.skip(next.len_utf8());
        } else {
            self.sign(next, after);
        }
    }

    fn starts_word(&self, next: char, after: char) -> bool {
        let apart = self.before.is_whitespace() || self.before == '(';
        let operand = self.tokens.last().is_some_and(|last| last.kind == Kind::Number);
        next.is_alphanumeric()
            || next == '_'
            || (next == '.' && apart && after.is_alphanumeric())
            || (matches!(next, '-' | '−') && apart && after.is_ascii_digit() && !operand)
    }

    /// Moves on by `bytes`.
    fn skip(&mut self, bytes: usize) {
        let end = self.at + bytes;
        self.before = self.text[self.at..end].chars().next_back().unwrap_or(' ');
        self.at = end;
    }

    fn push(&mut self, text: Cow<'a, str>, kind: Kind, shape: Shape, lex: Lex) {
        let text = if lex.to.is_empty() { text } else { Cow::Borrowed(lex.to) };
        let marks = std::mem::take(&mut self.marks);
        self.tokens.push(Token { text, kind, shape, kinds: lex.kinds, marks });
    }

    /// A quoted string, if the quote is closed.
    fn quote(&mut self, open: char) -> bool {
        let inside = &self.text[self.at + open.len_utf8()..];
        let ends = closing(open).unwrap_or_default();
        let single = is_apostrophe(open);
        let mut matches = inside.match_indices(ends).filter(|(at, end)| {
            let next = inside[at + end.len()..].chars().next();
            !single || !next.is_some_and(char::is_alphanumeric)
        });
        let Some((at, end)) = matches.next() else { return false };
        let words: Vec<&str> = inside[..at].split_whitespace().collect();
        if !words.is_empty() {
            let text = words.join(" ").to_lowercase();
            self.push(text.into(), Kind::Quote, Shape::Lower, Lex::default());
        }
        self.skip(open.len_utf8() + at + end.len());
        true
    }

    /// Where the word that starts here ends, counted from here.
    fn word_length(&self) -> usize {
        let rest = &self.text[self.at..];
        let mut before = '\0';
        let mut end = 0;
        for (at, c) in rest.char_indices() {
            let mut ahead = rest[at + c.len_utf8()..].chars();
            let next = ahead.next().unwrap_or(' ');
            let inner = match c {
                '.' if at == 0 => true,
                '-' | '−' => at == 0,
                '.' => before.is_alphanumeric() && next.is_alphanumeric(),
                ',' => {
                    let group = rest[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
                    group == 3 && rest[..at].bytes().all(|b| b.is_ascii_digit() || b == b',')
                }
                ':' => {
                    next.is_ascii_digit()
                        && rest[..at].bytes().all(|b| b.is_ascii_digit() || b == b':')
                }
                c if is_apostrophe(c) => before.is_alphanumeric() && next.is_alphabetic(),
                c => c.is_alphanumeric() || c == '_',
            };
            if !inner {
                break;
            }
            end = at + c.len_utf8();
            before = c;
        }
        end + signed(&rest[..end], &rest[end..])
    }

    fn word(&mut self) {
        let length = self.word_length();
        let raw = &self.text[self.at..self.at + length];
        self.skip(length);
        if let Some(at) = raw.rfind(is_apostrophe) {
            return self.contraction(raw, at);
        }
        let digits = raw.trim_start_matches(['-', '−']);
        if digits.starts_with(|c: char| c.is_ascii_digit()) {
            return self.number(raw, digits);
        }
        self.plain(raw);
    }

    /// A word without an apostrophe, or the part of one before it.
    fn plain(&mut self, raw: &'a str) {
        let shape = shape(raw);
        let mut text = lower(raw);
        // U.S. is US; the last dot was left as the end of a sentence, which it may be.
        if text.contains('.') && text.split('.').all(|part| part.len() == 1) {
            text = text.replace('.', "").into();
        }
        let mut lex = words::look_up(&text);
        if lex.kinds & words::UNIT != 0 && shape == Shape::Upper && !is_shouted(self.text) {
            // The SEC is no second.
            lex.to = "";
        }
        if lex.kinds & words::CONTRACTED != 0
            && let Some((first, second)) = words::run_together(&text)
        {
            self.push(first.into(), Kind::Word, shape, words::look_up(first));
            return self.push(second.into(), Kind::Word, Shape::Lower, words::look_up(second));
        }
        if text == "us" && shape == Shape::Upper && !is_shouted(self.text) {
            lex = Lex { to: "usa", ..words::look_up("usa") };
        }
        self.push(text, Kind::Word, shape, lex);
    }

    fn contraction(&mut self, raw: &'a str, at: usize) {
        let mut suffix = raw[at..].chars();
        suffix.next();
        let suffix = lower(suffix.as_str());
        let base = lower(&raw[..at]);
        let expanded = match suffix.as_ref() {
            "t" if base.ends_with('n') => "not",
            "re" => "are",
            "ve" => "have",
            "ll" => "will",
            "d" => "would",
            "m" => "am",
            "s" => "is",
            _ => {
                let text = raw.to_lowercase().replace(is_apostrophe, "'");
                return self.push(text.into(), Kind::Word, shape(raw), Lex::default());
            }
        };
        if expanded == "not" {
            let verb: &'static str = match base.as_ref() {
                "can" => "can",
                "won" => "will",
                "shan" => "shall",
                "ain" => "is",
                _ => "",
            };
            if verb.is_empty() {
                let verb = raw.get(..at.saturating_sub(1)).unwrap_or_default();
                self.plain(verb);
            } else {
                self.push(verb.into(), Kind::Word, shape(raw), words::look_up(verb));
            }
        } else {
            self.plain(&raw[..at]);
        }
        let clause = words::ASKING | words::PRONOUN;
        let possessor =
            suffix == "s" && words::look_up(&base).kinds & clause == 0 && base != "that";
        if possessor || (suffix == "s" && matches!(base.as_ref(), "one" | "everyone" | "someone")) {
            self.push("'s".into(), Kind::Genitive, Shape::Lower, Lex::default());
        } else {
            let expanded = if base == "let" && suffix == "s" { "us" } else { expanded };
            self.push(expanded.into(), Kind::Word, Shape::Lower, words::look_up(expanded));
        }
    }

    /// A number, with the unit written onto it: "5km". Other mixtures, "3d", stay words.
    fn number(&mut self, raw: &'a str, digits: &'a str) {
        let is_numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | ':');
        let letters = digits.trim_start_matches(is_numeric);
        let lex = words::look_up(&lower(letters));
        let ordinal = words::look_up(&lower(digits));
        if !ordinal.to.is_empty() {
            return self.push(lower(digits), Kind::Word, Shape::Lower, ordinal);
        }
        if !letters.is_empty() && lex.kinds & words::UNIT == 0 {
            return self.push(lower(raw), Kind::Word, Shape::Lower, Lex::default());
        }
        let number = raw[..raw.len() - letters.len()].replace(',', "").replace('−', "-");
        self.push(number.into(), Kind::Number, Shape::Lower, Lex::default());
        if !letters.is_empty() {
            self.push(lower(letters), Kind::Word, shape(letters), lex);
        }
    }

    /// Punctuation, or a symbol that counts.
    fn sign(&mut self, c: char, after: char) {
        let tight = self.before.is_alphanumeric();
        let digit = self.before.is_ascii_digit();
        let mark = match c {
            // 5! and 6' and 10–20 are not 5 and 6 and 10 20.
            '!' | '\'' | '’' if digit => 0xff,
            '–' if digit && after.is_ascii_digit() => 0xff,
            '.' | '?' | '…' | ';' => BREAK,
            '!' if after != '=' && (tight || !after.is_alphanumeric()) => BREAK,
            '(' | '[' if !tight => PAUSE,
            ',' | ':' | ')' | ']' | '–' | '—' => PAUSE,
            '-' => self.hyphen(after),
            '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{fe0f}' | '\'' | '’' | '‘' | '”' => 0,
            '"' | '“' | '„' | '»' if !self.before.is_ascii_digit() => 0,
            _ => 0xff,
        };
        if mark == 0xff {
            return self.symbol(c);
        }
        self.marks |= mark;
        self.skip(c.len_utf8());
    }

    fn hyphen(&self, after: char) -> u8 {
        let operand = self
            .tokens
            .last()
            .is_some_and(|last| last.kind == Kind::Number || last.text.chars().count() == 1);
        if self.before.is_alphanumeric() && after.is_alphanumeric() {
            // A range or a difference is more than a joint.
            let rest = self.text[self.at + 1..].chars().take_while(|c| c.is_alphanumeric()).count();
            if operand && rest == 1 {
                return 0xff;
            }
            let minus = self.before.is_ascii_digit() && after.is_ascii_digit();
            return if minus { 0xff } else { JOINED };
        }
        if operand { 0xff } else { PAUSE }
    }

    /// One operator: a run of the same kind of signs.
    fn symbol(&mut self, c: char) {
        let is_operator =
            |c: char| matches!(c, '+' | '*' | '=' | '<' | '>' | '|' | '&' | '!' | '^');
        let rest = &self.text[self.at..];
        let length = if is_operator(c) {
            rest.find(|next| !is_operator(next)).unwrap_or(rest.len())
        } else {
            c.len_utf8()
        };
        let text = &rest[..length];
        match text {
            "&" => self.push("and".into(), Kind::Word, Shape::Lower, words::look_up("and")),
            "%" => self.push("percent".into(), Kind::Word, Shape::Lower, words::look_up("percent")),
            _ => self.push(text.into(), Kind::Symbol, Shape::Lower, Lex::default()),
        }
        self.skip(length);
    }
}

/// How many of the signs right after a word belong to it: "C++", "C#".
fn signed(word: &str, rest: &str) -> usize {
    let letters = !word.is_empty() && word.chars().all(char::is_alphabetic);
    let ends = |rest: &str| !rest.starts_with(char::is_alphanumeric);
    if letters && rest.starts_with("++") {
        2
    } else if letters && word.len() <= 2 && rest.starts_with('#') && ends(&rest[1..]) {
        1
    } else {
        0
    }
}

/// Whether a text has letters but no small ones, or nearly none: its case says nothing.
pub(super) fn is_shouted(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

fn lower(raw: &str) -> Cow<'_, str> {
    let is_lower = |b: u8| b.is_ascii() && !b.is_ascii_uppercase();
    if raw.bytes().all(is_lower) { Cow::Borrowed(raw) } else { Cow::Owned(raw.to_lowercase()) }
}

fn shape(raw: &str) -> Shape {
    let mut letters = raw.chars().filter(|c| c.is_alphabetic());
    let first = letters.next().is_some_and(char::is_uppercase);
    let (mut upper, mut other) = (0, 0);
    for letter in letters {
        *(if letter.is_uppercase() { &mut upper } else { &mut other }) += 1;
    }
    match (first, upper, other) {
        (false, 0, _) => Shape::Lower,
        (true, 0, 0) => Shape::Upper,
        (true, 0, _) => Shape::Title,
        (true, _, 0) => Shape::Upper,
        _ => Shape::Mixed,
    }
}
