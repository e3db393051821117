//! Words that say nothing, and words of time: lower case, English and German.

/// Words that make an answer one of the day.
#[rustfmt::skip]
pub(crate) const TIME: &[&str] = &[
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

/// Whether a lower-case `word` says nothing about what is asked.
pub(crate) fn is_stop(word: &str) -> bool {
    STOP.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_in_order() {
        assert!(STOP.is_sorted_by(|a, b| a < b));
        assert!(is_stop("a") && is_stop("für") && is_stop("zur") && !is_stop("") && !is_stop("zz"));
    }
}
