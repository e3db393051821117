//! A [`Question`]: a text brought into the form in which it is compared, once per text.

use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::frame::{self, Class};
use super::normalise::{unify_numbers, unwrap_politeness};
use super::signature::{self, Signature};
use super::stem;
use super::token::{self, AFTER_THE, BREAK, Kind, Shape, Token};
use super::words::{self, ARTICLE, AUXILIARY, Kinds, NAME, NEGATIVE, PREPOSITION, PRONOUN};

/// The longest text that is compared, in characters.
const MAX_CHARS: usize = 2_000;
/// Fewer words than this say nothing without what was said before.
const MIN_CONTENT: usize = 2;

/// Why a text may never be answered with the answer to a similar one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// More than 2,000 characters.
    TooLong,
    /// Fewer than two words with content. The question word or the verb of a command is one.
    TooFewWords,
    /// It holds a code fence.
    Code,
    /// A word such as "today" or "latest" makes the answer one of the day.
    TimeWord,
}

impl Unfit {
    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Unfit::TooLong => "too_long",
            Unfit::TooFewWords => "too_few_words",
            Unfit::Code => "code",
            Unfit::TimeWord => "time_word",
        }
    }
}

/// A word of a [`Question`]: where its text is, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    start: u16,
    end: u16,
    /// Hash of the singular: equal for "hole" and "holes".
    pub stem: u32,
    pub kinds: Kinds,
    pub kind: Kind,
    pub shape: Shape,
    pub marks: u8,
}

impl Word {
    /// Whether it is of one of these kinds.
    pub(super) fn is(&self, kinds: Kinds) -> bool {
        self.kinds & kinds != 0
    }

    /// Whether any of these marks is set.
    pub(super) fn after(&self, marks: u8) -> bool {
        self.marks & marks != 0
    }

    /// Whether its capital, if it has one, may be that of a sentence.
    pub(super) fn is_initial(&self) -> bool {
        self.after(BREAK)
    }
}

/// What the capitals of a text say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// Capitals mark names.
    Telling,
    /// None but at the start, or at nearly every word.
    Silent,
    /// Nothing but capitals.
    Shouted,
}

/// A user's text, ready to be compared. Made by [`Question::analyse`].
#[derive(Clone, Debug)]
pub struct Question {
    /// The canonical words, one after the other; the whole text for other languages.
    text: Box<str>,
    words: Box<[Word]>,
    /// Indexes of `words`, by stem.
    by_stem: Box<[u16]>,
    pub(super) class: Class,
    pub(super) case: Case,
    pub(super) english: bool,
    /// Characters, without politeness.
    pub(super) length: u16,
    pub(super) signature: Signature,
}

impl Question {
    /// Reads `text`. A text that may never be matched fuzzily is [`Unfit`].
    ///
    /// # Errors
    /// Why it may not.
    pub fn analyse(text: &str) -> Result<Self, Unfit> {
        if text.len() > MAX_CHARS && text.chars().count() > MAX_CHARS {
            return Err(Unfit::TooLong);
        }
        if text.contains("```") || text.contains("~~~") {
            return Err(Unfit::Code);
        }
        let composed: Cow<'_, str> = match is_nfc_quick(text.chars()) {
            IsNormalized::Yes => Cow::Borrowed(text),
            IsNormalized::No | IsNormalized::Maybe => Cow::Owned(text.nfc().collect()),
        };
        let mut tokens = token::cut(&composed);
        if is_timely(&tokens) {
            return Err(Unfit::TimeWord);
        }
        if !is_english(&composed, &tokens) {
            return Self::foreign(&composed, &tokens);
        }
        let case = case(&composed, &tokens);
        let wrapping = unwrap_politeness(&mut tokens);
        let mut tokens = unify_numbers(tokens);
        let asks = composed.trim_end().ends_with('?');
        let class = frame::arrange(&mut tokens, wrapping, asks);
        if content(&tokens, class) < MIN_CONTENT {
            return Err(Unfit::TooFewWords);
        }
        Ok(Self::build(&tokens, class, case))
    }

    /// A text in a language without word lists: equal or not, and nothing between.
    fn foreign(text: &str, tokens: &[Token<'_>]) -> Result<Self, Unfit> {
        /// Characters that make two words in a script without spaces.
        const UNSPACED: usize = 4;
        let ends = |c: char| c.is_whitespace() || matches!(c, '.' | '?' | '!' | '？' | '。' | '！');
        let plain = text.trim_matches(ends).split_whitespace().collect::<Vec<_>>().join(" ");
        let wide = plain.chars().filter(|c| !c.is_ascii() && c.is_alphabetic()).count();
        if tokens.len() < MIN_CONTENT && wide < UNSPACED {
            return Err(Unfit::TooFewWords);
        }
        let mut question = Self::build(&[], Class::Statement, Case::Silent);
        question.signature = signature::of_text(&plain);
        question.length = u16::try_from(plain.chars().count()).unwrap_or(u16::MAX);
        question.text = plain.into();
        question.english = false;
        Ok(question)
    }

    fn build(tokens: &[Token<'_>], class: Class, case: Case) -> Self {
        let mut text = String::with_capacity(tokens.iter().map(|token| token.text.len()).sum());
        let mut words = Vec::with_capacity(tokens.len());
        for token in tokens {
            let start = to_u16(text.len());
            text.push_str(&token.text);
            words.push(Word {
                start,
                end: to_u16(text.len()),
                stem: stem_of(token),
                kinds: token.kinds,
                kind: token.kind,
                shape: token.shape,
                marks: token.marks,
            });
        }
        let mut by_stem: Vec<u16> = (0..words.len()).map(to_u16).collect();
        by_stem.sort_unstable_by_key(|at| words[usize::from(*at)].stem);
        let length = text.chars().count() + words.len();
        Self {
            signature: signature::of_words(tokens),
            text: text.into(),
            words: words.into(),
            by_stem: by_stem.into(),
            class,
            case,
            english: true,
            length: to_u16(length),
        }
    }

    /// The words in canonical order.
    pub(super) fn words(&self) -> &[Word] {
        &self.words
    }

    /// The text of one of its words.
    pub(super) fn text_of(&self, word: &Word) -> &str {
        self.text.get(usize::from(word.start)..usize::from(word.end)).unwrap_or_default()
    }

    /// The whole canonical text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The words by stem, for merging with another question's.
    pub(super) fn by_stem(&self) -> impl Iterator<Item = &Word> {
        self.by_stem.iter().filter_map(|at| self.words.get(usize::from(*at)))
    }

    /// Whether a word is written as a name: with a capital that is not that of a sentence.
    pub(super) fn is_named(&self, word: &Word) -> bool {
        let capital = word.shape != Shape::Lower && !word.is_initial();
        let mixture =
            word.kind == Kind::Word && self.text_of(word).bytes().any(|b| b.is_ascii_digit());
        let capital = capital && self.case == Case::Telling && !self.is_pronoun(word);
        word.kind == Kind::Word && (word.is(NAME) || mixture || capital)
    }

    fn is_pronoun(&self, word: &Word) -> bool {
        self.text_of(word) == "i"
    }

    /// Whether "the" stands before the first noun of "what is …".
    pub(super) fn is_definite(&self) -> bool {
        self.words.iter().take(3).any(|word| word.after(AFTER_THE))
    }
}

/// Offsets fit: the text is short. Were one too long, its word would be empty and match nothing.
fn to_u16(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn stem_of(token: &Token<'_>) -> u32 {
    let mut hasher = DefaultHasher::new();
    if token.kind == Kind::Word && token.text.ends_with('s') {
        stem::singular(&token.text).hash(&mut hasher);
    } else {
        token.text.hash(&mut hasher);
    }
    (token.kind == Kind::Quote).hash(&mut hasher);
    u32::try_from(hasher.finish() >> 32).unwrap_or_default()
}

/// Words with content; that a question is asked at all is one of them.
fn content(tokens: &[Token<'_>], class: Class) -> usize {
    let empty = PRONOUN | PREPOSITION | AUXILIARY | ARTICLE | NEGATIVE;
    let words = tokens.iter().filter(|token| !token.is(empty)).count();
    let asked = !matches!(class, Class::Command | Class::Statement | Class::Doubt);
    words + usize::from(asked && words > 0)
}

/// Whether the answer depends on the day it is asked.
fn is_timely(tokens: &[Token<'_>]) -> bool {
    const PHRASES: &[&str] = &[
        "at the moment",
        "these days",
        "right away",
        "so far",
        "up to date",
        "as of",
        "what time is it",
        "what day is it",
        "what date is it",
        "what is the date",
        "what is the time",
        "to date",
        "what year is it",
        "the other day",
        "up to the minute",
        "what month is it",
    ];
    tokens.iter().enumerate().any(|(at, token)| {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let pointed = before.is_some_and(|before| {
            matches!(
                before.text.as_ref(),
                "this" | "next" | "last" | "past" | "coming" | "previous"
            )
        });
        token.is(words::TIMELY)
            || token.is(words::SPAN) && pointed
            || PHRASES
                .iter()
                .any(|phrase| super::normalise::opens_with(&tokens[at..], phrase).is_some())
    })
}

/// Whether the word lists apply. In doubt they do not.
fn is_english(text: &str, tokens: &[Token<'_>]) -> bool {
    let count = |kinds: Kinds| tokens.iter().filter(|token| token.is(kinds)).count();
    let english = count(words::ENGLISH);
    let quoted: usize = tokens.iter().filter(|token| token.kind == Kind::Quote).map(wide).sum();
    let total = text.chars().filter(|c| c.is_alphabetic() && !c.is_ascii()).count();
    // An accent here and there is a name: at most one letter in ten.
    let accents = total.saturating_sub(quoted) * 10 <= text.len();
    english > 0 && english > count(words::FOREIGN) && accents
}

fn wide(token: &Token<'_>) -> usize {
    token.text.chars().filter(|c| c.is_alphabetic() && !c.is_ascii()).count()
}

fn case(text: &str, tokens: &[Token<'_>]) -> Case {
    if token::is_shouted(text) {
        return Case::Shouted;
    }
    let words = tokens.iter().filter(|token| token.kind == Kind::Word && !token.after(BREAK));
    let (mut capitals, mut all) = (0, 0);
    for word in words {
        all += 1;
        capitals += usize::from(word.shape != Shape::Lower && word.text != "i");
    }
    if capitals == 0 || (all >= 4 && capitals * 10 > all * 7) {
        Case::Silent
    } else {
        Case::Telling
    }
}
