//! Takes out of a question what does not belong to it (greetings, thanks, "can you tell me") and
//! writes numbers one way.

use std::borrow::Cow;

use super::token::{BREAK, Kind, PAUSE, Shape, Token, word};
use super::words::phrases::{CLOSINGS, GREETINGS, ORDERS, REQUESTS};
use super::words::{
    self, ARTICLE, ASKING, AUXILIARY, CARDINAL, NUMBERED, PREPOSITION, SCALE, TELLING, WORKING,
};

/// How many tokens at the start are the words of `phrase`.
pub(super) fn opens_with(tokens: &[Token<'_>], phrase: &str) -> Option<usize> {
    // Most phrases fail on the first letter.
    if tokens.first()?.text.as_bytes().first() != phrase.as_bytes().first() {
        return None;
    }
    let mut length = 0;
    for wanted in phrase.split(' ') {
        if tokens.get(length)?.text != wanted {
            return None;
        }
        length += 1;
    }
    Some(length)
}

/// The length of the longest of `phrases` that `tokens` begin with.
pub(super) fn longest(tokens: &[Token<'_>], phrases: &[&str]) -> Option<usize> {
    phrases.iter().filter_map(|phrase| opens_with(tokens, phrase)).max()
}

/// How a question was wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wrapping {
    /// "Tell me" stood before it: a question inside has the word order of a statement.
    pub embedded: bool,
}

/// Strips politeness from both ends.
pub(super) fn unwrap_politeness(tokens: &mut Vec<Token<'_>>) -> Wrapping {
    let mut wrapping = Wrapping::default();
    drop_please(tokens);
    strip_end(tokens);
    loop {
        if let Some(length) = longest(tokens, GREETINGS)
            && tokens.get(length).is_some_and(|next| next.after(BREAK | PAUSE) || opens(next))
        {
            tokens.drain(..length);
        } else if let Some(length) = longest(tokens, REQUESTS)
            && let Some(next) = tokens.get(length)
        {
            let thing = next.is(ARTICLE) && opens_with(&tokens[..length], "tell").is_none()
                || next.text == "the";
            if next.is(ASKING) && !next.after(BREAK | PAUSE) {
                wrapping.embedded = true;
            } else if !next.after(BREAK | PAUSE) && thing {
                // "Tell me the capital": to name a thing.
                tokens.drain(..length);
                tokens.insert(0, word("name"));
                return wrapping;
            } else if !next.after(BREAK | PAUSE) && !next.is(TELLING) {
                return wrapping;
            }
            tokens.drain(..length);
        } else if let Some(length) = command(tokens) {
            tokens.drain(..length);
        } else {
            return wrapping;
        }
    }
}

/// Whether a question may begin with this word.
fn opens(token: &Token<'_>) -> bool {
    token.is(ASKING | AUXILIARY | TELLING | WORKING)
        || matches!(token.text.as_ref(), "i" | "we" | "please")
}

/// "please" where it is a courtesy, not a verb.
fn drop_please(tokens: &mut Vec<Token<'_>>) {
    let polite = |at: usize, tokens: &[Token<'_>]| {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let after = tokens.get(at + 1);
        matches!(tokens[at].text.as_ref(), "please" | "kindly")
            && (before.is_none_or(|token| token.text == "you" || token.after(BREAK) && at == 1)
                || after.is_none()
                || after.is_some_and(|token| token.is(TELLING) || token.text == "help"))
    };
    let mut at = 0;
    while at < tokens.len() {
        if polite(at, tokens) {
            let marks = tokens[at].marks;
            tokens.remove(at);
            if let Some(next) = tokens.get_mut(at) {
                next.marks |= marks;
            }
        } else {
            at += 1;
        }
    }
}

fn strip_end(tokens: &mut Vec<Token<'_>>) {
    let closes = |rest: &[Token<'_>]| {
        CLOSINGS.iter().any(|phrase| opens_with(rest, phrase) == Some(rest.len()))
    };
    while let Some(at) = (1..tokens.len())
        .rfind(|at| tokens[*at].after(BREAK | PAUSE))
        .filter(|at| closes(&tokens[*at..]))
    {
        tokens.truncate(at);
    }
}

/// The length of "can you" and the like before a verb that asks for words or for work.
///
/// "Can you translate Welsh?" asks for an ability, "Can you translate this?" for a translation: a
/// verb of work must be followed by what it is to be done to.
fn command(tokens: &[Token<'_>]) -> Option<usize> {
    let length = longest(tokens, ORDERS)?;
    let verb = tokens.get(length)?;
    let object = tokens.get(length + 1);
    if tokens[0].text == "would" && matches!(verb.text.as_ref(), "recommend" | "suggest") {
        return None;
    }
    let given = object.is_some_and(|token| {
        token.is(ARTICLE)
            || token.kind != Kind::Word
            || matches!(token.text.as_ref(), "this" | "these" | "me" | "my" | "following")
    });
    (verb.is(TELLING) || verb.is(WORKING) && given).then_some(length)
}

/// Writes number words in digits, Roman numerals too, and the names of the two unions as one word.
pub(super) fn unify_numbers<'a>(tokens: Vec<Token<'a>>) -> Vec<Token<'a>> {
    let mut unified: Vec<Token<'a>> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        let next = tokens.get(at + 1).map(|token| token.text.as_ref());
        let (number, used) = match (token.text.as_ref(), next) {
            ("united", Some("states")) => {
                let tail = opens_with(&tokens[at + 2..], "of america").unwrap_or(0);
                unified.push(Token { marks: token.marks, shape: Shape::Upper, ..word("usa") });
                at += 2 + tail;
                continue;
            }
            ("united", Some("kingdom")) => {
                unified.push(Token { marks: token.marks, shape: Shape::Upper, ..word("uk") });
                at += 2;
                continue;
            }
            _ => cardinal(&tokens[at..]).unwrap_or((String::new(), 0)),
        };
        if used > 0 {
            unified.push(digits(number, token.marks));
            at += used;
            continue;
        }
        let mut token = token.clone();
        if let Some(number) = roman(&token, unified.last()) {
            token = digits(number.to_string(), token.marks);
        }
        unified.push(token);
        at += 1;
    }
    unified
}

fn digits<'a>(number: String, marks: u8) -> Token<'a> {
    let text = Cow::Owned(number);
    Token { text, kind: Kind::Number, shape: Shape::Lower, kinds: 0, marks }
}

/// A number in words, or digits with a scale ("5 million"), and how many tokens it takes.
fn cardinal(tokens: &[Token<'_>]) -> Option<(String, usize)> {
    let first = tokens.first()?;
    let (mut total, mut used) = (0_u64, 1);
    let mut group: u64;
    let mut before = u64::MAX;
    if first.kind == Kind::Number {
        group = first.text.parse().ok()?;
        if !tokens.get(1)?.is(SCALE) {
            return None;
        }
    } else if first.is(CARDINAL) {
        group = words::value(&first.text)?;
        before = group;
    } else {
        return None;
    }
    while let Some(next) = tokens.get(used) {
        let joined = usize::from(next.text == "and" && (100..u64::MAX).contains(&before));
        let Some(next) = tokens.get(used + joined) else { break };
        let Some(value) = words::value(&next.text).filter(|_| next.is(CARDINAL | SCALE)) else {
            break;
        };
        let tens =
            (20..100).contains(&before) && before.is_multiple_of(10) && (1..10).contains(&value);
        let after_scale = (100..u64::MAX).contains(&before) && value < 100;
        if next.is(SCALE) && joined == 0 {
            if value == 100 {
                group = group.checked_mul(100)?;
            } else {
                total = total.checked_add(group.checked_mul(value)?)?;
                group = 0;
            }
        } else if tens || after_scale {
            group = group.checked_add(value)?;
        } else {
            break;
        }
        before = value;
        used += 1 + joined;
    }
    Some((total.checked_add(group)?.to_string(), used))
}

/// The value of a Roman numeral: of several letters after a word that can carry a number, of one
/// letter only after a word that is known to ("World War I").
fn roman(token: &Token<'_>, before: Option<&Token<'_>>) -> Option<u32> {
    let before = before.filter(|before| before.kind == Kind::Word)?;
    let text = token.text.as_ref();
    let letters = text.bytes().all(|b| matches!(b, b'i' | b'v' | b'x'));
    let single = text.len() == 1 && before.is(NUMBERED) && token.shape == Shape::Upper;
    let several = text.len() > 1
        && !before.is(PREPOSITION | ARTICLE | AUXILIARY | ASKING)
        && (token.shape != Shape::Lower || text.bytes().all(|b| b == b'i'));
    if token.kind != Kind::Word || !letters || !(single || several) {
        return None;
    }
    let value = |b: u8| match b {
        b'i' => 1_i32,
        b'v' => 5,
        _ => 10,
    };
    let bytes = text.as_bytes();
    let mut sum = 0;
    for (at, letter) in bytes.iter().enumerate() {
        let smaller = bytes.get(at + 1).is_some_and(|next| value(*next) > value(*letter));
        sum += if smaller { -value(*letter) } else { value(*letter) };
    }
    let sum = u32::try_from(sum).ok()?;
    // Only the regular way to write it: "xi" is eleven, "ix" nine, "iix" nothing.
    (1..40).find(|number| *number == sum && numeral(*number) == text)
}

fn numeral(number: u32) -> String {
    const ONES: [&str; 10] = ["", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix"];
    let ones = ONES.get(number as usize % 10).copied().unwrap_or_default();
    "x".repeat(number as usize / 10) + ones
}
