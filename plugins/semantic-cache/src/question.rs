//! Whether a text may be matched by meaning.

use std::collections::BTreeSet;

use crate::words;

/// Words of content a text must have: with fewer there is nothing to compare.
const CONTENT_WORDS: usize = 2;

/// Whether `text` is a question in words, not longer than `max_chars`: two content words at least,
/// no code, and none of `time_words`.
pub(crate) fn is_comparable(text: &str, max_chars: usize, time_words: &BTreeSet<String>) -> bool {
    // A character has four bytes at most: a huge text need not be counted.
    if text.len() / 4 > max_chars || text.chars().count() > max_chars {
        return false;
    }
    if text.contains("```") || text.contains("~~~") {
        return false;
    }
    let lower = text.to_lowercase();
    let mut content: [&str; CONTENT_WORDS] = [""; CONTENT_WORDS];
    let mut found = 0;
    for word in lower.split(|c: char| !c.is_alphanumeric()) {
        if time_words.contains(word) {
            return false;
        }
        let counts = found < CONTENT_WORDS && !word.is_empty() && !words::is_stop(word);
        if counts && !content[..found].contains(&word) {
            content[found] = word;
            found += 1;
        }
    }
    found == CONTENT_WORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparable(text: &str) -> bool {
        let time = words::TIME.iter().map(|word| (*word).to_owned()).collect();
        is_comparable(text, 2_000, &time)
    }

    #[test]
    fn a_question_of_two_content_words_is_comparable() {
        for text in
            ["What is the capital of France?", "tides, moon", "Wie hoch ist der Eiffelturm?"]
        {
            assert!(comparable(text), "{text}");
        }
    }

    #[test]
    fn too_little_content_is_not() {
        for text in ["", "?!", "Hi", "Tell me more about it, please", "Why?", "moon moon Moon"] {
            assert!(!comparable(text), "{text}");
        }
    }

    #[test]
    fn code_is_not() {
        assert!(!comparable("What does this print?\n```\nprint(1)\n```"));
        assert!(!comparable("What does this print?\n~~~\nprint(1)\n~~~"));
    }

    #[test]
    fn words_of_time_are_not_in_any_case_but_only_whole() {
        assert!(!comparable("What is the LATEST Linux kernel?"));
        assert!(!comparable("Wie ist das Wetter heute in Wien?"));
        assert!(comparable("Who wrote the novel Nowhere Man?"));
    }

    #[test]
    fn length_is_counted_in_characters() {
        let text = format!("moon {}", "ü".repeat(1_995));
        assert_eq!(text.chars().count(), 2_000);
        assert!(comparable(&text));
        assert!(!comparable(&(text + "ü")));
        assert!(!comparable(&"moon tides ".repeat(1_000_000)));
    }
}
