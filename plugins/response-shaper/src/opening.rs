//! Opening phrases: found at the start of an answer, however a stream cuts it.

/// White space held back at most, in bytes, while a phrase may begin or end.
const MAX_SPACE: usize = 256;

/// A phrase, and what stands instead of it; nothing strips it.
#[derive(Debug)]
pub(crate) struct Phrase {
    /// The phrase. Case does not matter.
    pub(crate) text: String,
    /// One of these stands instead.
    pub(crate) instead: Vec<String>,
}

impl Phrase {
    /// Whether the phrase may end before `next`. "Sure" is not in "Surely". A phrase without a mark
    /// at its end is not stripped before one, which would be left over: "Sure" in "Sure, here".
    fn ends_before(&self, next: char) -> bool {
        let word = self.text.ends_with(char::is_alphanumeric);
        if self.instead.is_empty() {
            !word || next.is_whitespace()
        } else {
            !(word && next.is_alphanumeric())
        }
    }
}

/// All phrases, the longest first: of two that fit, it is the one meant.
#[derive(Debug, Default)]
pub(crate) struct Phrases(Vec<Phrase>);

enum Verdict<'a> {
    /// It takes more text to know.
    Wait,
    /// No phrase.
    None,
    /// A phrase, and what follows it.
    Found(&'a Phrase, &'a str),
}

impl Phrases {
    /// All of `phrases`.
    pub(crate) fn new(mut phrases: Vec<Phrase>) -> Self {
        phrases.sort_by_key(|phrase| std::cmp::Reverse(phrase.text.len()));
        Self(phrases)
    }

    fn judge<'a>(&'a self, text: &'a str, ended: bool) -> Verdict<'a> {
        if text.is_empty() {
            return if ended { Verdict::None } else { Verdict::Wait };
        }
        for phrase in &self.0 {
            let shared = phrase.text.len().min(text.len());
            if !text.as_bytes()[..shared].eq_ignore_ascii_case(&phrase.text.as_bytes()[..shared]) {
                continue;
            }
            if shared < phrase.text.len() {
                if ended {
                    continue;
                }
                return Verdict::Wait;
            }
            let rest = &text[shared..];
            let strips = phrase.instead.is_empty();
            match rest.chars().next() {
                Some(next) if !phrase.ends_before(next) => {}
                // An answer of nothing but the phrase is left alone: an empty one says less.
                _ if strips && rest.trim_start().is_empty() => {
                    return if ended { Verdict::None } else { Verdict::Wait };
                }
                None if !ended && phrase.text.ends_with(char::is_alphanumeric) => {
                    return Verdict::Wait;
                }
                _ => return Verdict::Found(phrase, rest),
            }
        }
        Verdict::None
    }

    /// The longest text that is held back.
    fn longest(&self) -> usize {
        self.0.first().map_or(0, |phrase| phrase.text.len()) + MAX_SPACE
    }
}

/// Where an answer stands with its opening.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// This much was held back.
    Held(String),
    /// It is over.
    Over,
}

impl Default for Opening {
    fn default() -> Self {
        Self::Held(String::new())
    }
}

impl Opening {
    /// Takes `text`; gives what may be sent now. `ended` says that no more will come.
    pub(crate) fn take(
        &mut self,
        phrases: &Phrases,
        text: String,
        ended: bool,
        chance: impl FnOnce() -> usize,
    ) -> String {
        let Self::Held(held) = self else { return text };
        let whole = if held.is_empty() { text } else { std::mem::take(held) + &text };
        if phrases.0.is_empty() {
            *self = Self::Over;
            return whole;
        }
        let body = whole.trim_start();
        match phrases.judge(body, ended) {
            Verdict::Wait if whole.len() <= phrases.longest() => {
                *self = Self::Held(whole);
                return String::new();
            }
            Verdict::Wait | Verdict::None => {}
            Verdict::Found(phrase, rest) => {
                *self = Self::Over;
                return match phrase.instead.get(chance() % phrase.instead.len().max(1)) {
                    Some(instead) => {
                        let space = &whole[..whole.len() - body.len()];
                        [space, instead, rest].concat()
                    }
                    None => capitalized(rest.trim_start()),
                };
            }
        }
        *self = Self::Over;
        whole
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}
