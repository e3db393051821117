//! The words that only one of two questions has.

use super::super::align::likeness;
use super::super::question::{Question, Word};
use super::super::token::Kind;
use super::super::words::{AUXILIARY, PREPOSITION, PRONOUN};

/// Two questions and what they do not share.
#[derive(Debug)]
pub(super) struct Difference<'q> {
    pub asked: &'q Question,
    pub stored: &'q Question,
    /// Words of `asked` that `stored` does not have, and the other way round.
    pub only: [Vec<&'q Word>; 2],
}

impl<'q> Difference<'q> {
    /// Merges both by stem, then pairs inflections and slips among what is left.
    pub(super) fn between(asked: &'q Question, stored: &'q Question) -> Self {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut ours = asked.by_stem().peekable();
        let mut theirs = stored.by_stem().peekable();
        loop {
            match (ours.peek(), theirs.peek()) {
                (Some(x), Some(y)) if x.stem == y.stem => {
                    ours.next();
                    theirs.next();
                }
                (Some(x), Some(y)) if x.stem < y.stem => left.extend(ours.next()),
                (Some(_), None) => left.extend(ours.next()),
                (_, Some(_)) => right.extend(theirs.next()),
                (None, None) => break,
            }
        }
        pair(asked, &mut left, stored, &mut right);
        Self { asked, stored, only: [left, right] }
    }

    /// A side's question and the words it has alone.
    pub(super) fn sides(&self) -> [(&'q Question, &[&'q Word]); 2] {
        [(self.asked, &self.only[0]), (self.stored, &self.only[1])]
    }

    /// The words with content that one side has alone.
    pub(super) fn content(&self, side: usize) -> Vec<&'q Word> {
        self.only[side].iter().copied().filter(|word| is_content(word)).collect()
    }
}

/// Whether a word says something by itself.
pub(super) fn is_content(word: &Word) -> bool {
    word.kind != Kind::Genitive && !word.is(PREPOSITION | AUXILIARY | PRONOUN)
}

/// Takes out words that are the same but for an inflection or a slip.
fn pair<'q>(a: &Question, left: &mut Vec<&'q Word>, b: &Question, right: &mut Vec<&'q Word>) {
    /// Texts that differ in more words than this are not near misses.
    const MAX_WORDS: usize = 24;
    if left.len() > MAX_WORDS || right.len() > MAX_WORDS {
        return;
    }
    left.retain(|x| {
        let same = right.iter().position(|y| likeness(a, x, b, y).is_some());
        if let Some(at) = same {
            right.swap_remove(at);
        }
        same.is_none()
    });
}
