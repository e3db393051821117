//! The hash by which the index finds candidates: equal for any two questions that the gate may
//! take for the same, whatever their order, inflection or slips of the keys.
//!
//! A word is reduced to the set of its letters without those of English endings, which is blind to
//! swapped and doubled letters; the words of a question are added up, which is blind to order.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::token::{JOINED, Kind, Token};
use super::words::{self, CARDINAL, NAME, NEGATIVE, OPPOSED, ORDINAL};

/// Where a question is filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Signature {
    /// Word by word.
    pub words: u64,
    /// With words joined by hyphens as one: the slip in "breadthf-irst" crosses the joint.
    pub joined: u64,
    /// Without names, numbers, opposites and negation: finds the near misses.
    pub loose: u64,
}

/// Letters of endings (-s, -es, -ies, -ed, -ing, -y), which do not count.
const ENDINGS: &str = "esdingy";

/// The signature of canonical words.
pub(super) fn of_words(tokens: &[Token<'_>]) -> Signature {
    let mut signature = Signature { words: 0, joined: 0, loose: 1 };
    let mut compound = 0_u64;
    for (at, token) in tokens.iter().enumerate() {
        let skipped =
            token.kind == Kind::Genitive || matches!(token.text.as_ref(), "is" | "are" | "of");
        if skipped {
            continue;
        }
        if token.kind != Kind::Word {
            let hash = hashed(&token.text);
            signature.words = signature.words.wrapping_add(hash);
            signature.joined = signature.joined.wrapping_add(hash);
            continue;
        }
        let letters = letters(&token.text);
        let hash = mixed(letters);
        signature.words = signature.words.wrapping_add(hash);
        compound |= letters;
        let goes_on =
            tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Word && next.after(JOINED));
        if !goes_on {
            signature.joined = signature.joined.wrapping_add(mixed(compound));
            compound = 0;
        }
        let particular = NAME | NEGATIVE | OPPOSED | ORDINAL | CARDINAL | words::NARROWING;
        let named = token.shape != super::token::Shape::Lower;
        if !token.is(particular) && !named {
            signature.loose = signature.loose.wrapping_add(hash);
        }
    }
    signature
}

/// The signature of a text that is compared as a whole.
pub(super) fn of_text(text: &str) -> Signature {
    let hash = hashed(text);
    Signature { words: hash, joined: hash, loose: hash }
}

/// The set of letters of a word, without those of endings; other characters by themselves.
fn letters(word: &str) -> u64 {
    let mut set = 0_u64;
    for c in word.chars() {
        if c.is_ascii_lowercase() {
            if !ENDINGS.contains(c) {
                set |= 1 << (u32::from(c) - u32::from('a'));
            }
        } else {
            set |= 1 << (26 + u32::from(c) % 38);
        }
    }
    set
}

fn hashed(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Spreads the bits of `set` (the finalizer of SplitMix64).
fn mixed(set: u64) -> u64 {
    let mut bits = set.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
