//! Words that say nothing, and words of time: lower case, English and German.

use std::collections::BTreeSet;

/// Words that make an answer one of the day.
#[rustfmt::skip]
const TIME: &[&str] = &[
    "today", "tonight", "tomorrow", "yesterday", "now", "nowadays", "current", "currently",
    "latest", "newest", "recent", "recently", "upcoming", "heute", "morgen", "gestern", "jetzt",
    "aktuell", "aktuelle", "aktuellen", "aktueller", "aktuelles", "derzeit", "momentan", "neueste",
    "neuesten", "kürzlich",
];

/// Words that a question consists of whatever it is about, in order.
#[rustfmt::skip]
const STOP: &[&str] = &[
    "a", "about", "all", "also", "am", "an", "and", "any", "are", "as", "at", "auch", "auf", "aus",
    "be", "been", "bei", "bin", "bitte", "but", "by", "can", "could", "danke", "das", "dass",
    "dem", "den", "der", "des", "did", "die", "dir", "do", "does", "doing", "don", "du", "ein",
    "eine", "einem", "einen", "einer", "er", "es", "for", "from", "für", "get", "give", "go",
    "haben", "had", "has", "hast", "hat", "have", "he", "hello", "her", "hey", "hi", "him", "his",
    "how", "i", "ich", "if", "ihr", "im", "in", "into", "is", "ist", "it", "its", "ja", "kann",
    "kannst", "let", "ll", "make", "man", "may", "me", "mehr", "mein", "might", "mir", "mit",
    "more", "must", "my", "nein", "no", "not", "nun", "ob", "oder", "of", "ok", "okay", "on", "or",
    "our", "please", "re", "s", "she", "should", "sie", "sind", "so", "some", "such", "t", "tell",
    "than", "thank", "thanks", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "those", "to", "too", "um", "und", "uns", "us", "ve", "very", "vom", "von", "was",
    "we", "well", "were", "what", "when", "where", "which", "who", "why", "wie", "will", "wir",
    "with", "wo", "would", "yes", "you", "your", "zu", "zum", "zur",
];

/// The longest of them, in bytes.
const LONGEST_STOP: usize = 6;

/// Whether `word`, in any case, says nothing about what is asked.
pub(crate) fn is_stop(word: &str) -> bool {
    // A letter may take a byte more in upper case.
    word.len() <= 2 * LONGEST_STOP && STOP.binary_search(&word.to_lowercase().as_str()).is_ok()
}

/// Whether both are the same word, in any case.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    let ascii = one.is_ascii() && other.is_ascii();
    one.eq_ignore_ascii_case(other) || (!ascii && one.to_lowercase() == other.to_lowercase())
}

/// Words that make an answer one of the day.
#[derive(Debug)]
pub(crate) struct TimeWords {
    /// In lower case.
    words: BTreeSet<String>,
    /// Which lengths there are, by the first byte; both modulo 32, which leaves the case out. Few of a
    /// text's words have to be looked up.
    lengths: [u32; 32],
    /// The longest, in bytes.
    longest: usize,
}

impl TimeWords {
    /// These.
    pub(crate) fn of(words: impl IntoIterator<Item = String>) -> Self {
        let words: BTreeSet<String> = words.into_iter().map(|word| word.to_lowercase()).collect();
        let mut lengths = [0; 32];
        for word in &words {
            let (first, length) = place(word);
            lengths[first] |= length;
        }
        let longest = words.iter().map(String::len).max().unwrap_or(0);
        Self { words, lengths, longest }
    }

    /// Whether `word` is one, in any case.
    pub(crate) fn has(&self, word: &str) -> bool {
        // A letter may take a byte more in upper case.
        if word.len() > 2 * self.longest {
            return false;
        }
        let (first, length) = place(word);
        // In other scripts, the cases differ in their bytes.
        let may_be = self.lengths[first] & length != 0 || !word.is_ascii();
        may_be && self.words.contains(&word.to_lowercase())
    }
}

impl Default for TimeWords {
    fn default() -> Self {
        Self::of(TIME.iter().map(|word| (*word).to_owned()))
    }
}

fn place(word: &str) -> (usize, u32) {
    let first = word.as_bytes().first().copied().unwrap_or_default();
    (usize::from(first % 32), 1 << (word.len() % 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_in_order() {
        assert!(STOP.is_sorted_by(|a, b| a < b));
        assert!(is_stop("a") && is_stop("FÜR") && is_stop("zur") && !is_stop("") && !is_stop("zz"));
        assert!(STOP.iter().all(|word| word.len() <= LONGEST_STOP));
    }
}
