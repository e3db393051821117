//! A [`Json`] as bytes and back.

use super::{Bracket, Escape, Json, MAX_DEPTH, Place, Token, WORDS};

const PLACES: [Place; 6] =
    [Place::Value, Place::ValueOrEnd, Place::Key, Place::KeyOrEnd, Place::Colon, Place::CommaOrEnd];

impl Json {
    /// For [`Json::decode`].
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        if self.over {
            bytes.push(1);
            return;
        }
        let token = match self.token {
            Token::None => [0, 0, 0],
            Token::String { key, escape: Escape::None } => [1, u8::from(key), 0],
            Token::String { key, escape: Escape::Hex(left) } => [1, u8::from(key), left],
            Token::String { key, escape: Escape::Backslash } => [1, u8::from(key), u8::MAX],
            Token::Word(word, read) => [2, word, read],
            Token::Number { needs_digit } => [3, u8::from(needs_digit), 0],
        };
        bytes.extend([0, self.place as u8]);
        bytes.extend(token);
        // Never more than `MAX_DEPTH`.
        bytes.push(self.open.len() as u8);
        bytes.extend(self.open.iter().map(|bracket| *bracket as u8));
    }

    /// What was encoded; `None` where it cannot have been.
    pub(crate) fn decode(bytes: &mut impl Iterator<Item = u8>) -> Option<Self> {
        match bytes.next()? {
            0 => {}
            1 => return Some(Self { over: true, ..Self::default() }),
            _ => return None,
        }
        let place = *PLACES.get(usize::from(bytes.next()?))?;
        let token = decode_token(bytes.next()?, bytes.next()?, bytes.next()?)?;
        let depth = usize::from(bytes.next()?);
        if depth > MAX_DEPTH {
            return None;
        }
        let mut open = Vec::with_capacity(depth);
        for _ in 0..depth {
            open.push(match bytes.next()? {
                0 => Bracket::Object,
                1 => Bracket::Array,
                _ => return None,
            });
        }
        Some(Self { over: false, place, token, open })
    }
}

fn decode_token(kind: u8, first: u8, second: u8) -> Option<Token> {
    let flag = |byte| match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    match kind {
        0 => Some(Token::None),
        1 => {
            let escape = match second {
                0 => Escape::None,
                1..=4 => Escape::Hex(second),
                u8::MAX => Escape::Backslash,
                _ => return None,
            };
            Some(Token::String { key: flag(first)?, escape })
        }
        2 => {
            let letters = WORDS.get(usize::from(first))?;
            (usize::from(second) < letters.len()).then_some(Token::Word(first, second))
        }
        3 => Some(Token::Number { needs_digit: flag(first)? }),
        _ => None,
    }
}
