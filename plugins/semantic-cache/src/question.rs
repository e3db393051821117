//! Whether a text may be matched by meaning.

use sluicegate_plugin::text::end_of_word;

use crate::words::{self, TimeWords};

/// Words of content a text must have: with fewer there is nothing to compare.
const CONTENT_WORDS: usize = 2;

/// Whether `text` is a question in words, not longer than `max_chars`: two content words at least,
/// no code, and none of `time_words`.
pub(crate) fn is_comparable(text: &str, max_chars: usize, time_words: &TimeWords) -> bool {
    // A character has four bytes at most: a huge text need not be counted.
    if text.len() / 4 > max_chars {
        return false;
    }
    let mut content = Content::default();
    let take = |word| {
        content.take(word);
        !time_words.has(word)
    };
    let comparable = if text.is_ascii() {
        text.len() <= max_chars && take_ascii(text, take)
    } else {
        let fenced = || text.contains("```") || text.contains("~~~");
        text.chars().count() <= max_chars
            && !fenced()
            && text.split(|c: char| !c.is_alphanumeric()).all(take)
    };
    comparable && content.found == CONTENT_WORDS
}

/// Gives `take` each word, as long as it wants another; false when it does not, or where code stands.
fn take_ascii<'t>(text: &'t str, mut take: impl FnMut(&'t str) -> bool) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(first) = bytes.get(at) {
        let begin = at;
        at = end_of_word(bytes, at);
        if at > begin {
            if !take(&text[begin..at]) {
                return false;
            }
        } else if matches!(first, b'`' | b'~') && bytes[at..].starts_with(&[*first; 3]) {
            return false;
        } else {
            at += 1;
        }
    }
    true
}

/// The first words of content, each once.
#[derive(Default)]
struct Content<'t> {
    words: [&'t str; CONTENT_WORDS],
    found: usize,
}

impl<'t> Content<'t> {
    fn take(&mut self, word: &'t str) {
        if self.found == CONTENT_WORDS || word.is_empty() || words::is_stop(word) {
            return;
        }
        let mut known = self.words[..self.found].iter();
        if !known.any(|known| words::is_same(known, word)) {
            self.words[self.found] = word;
            self.found += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparable(text: &str) -> bool {
        is_comparable(text, 2_000, &TimeWords::default())
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
        for text in
            ["", "?!", "Hi", "Tell me more about it, please", "Why?", "moon moon Moon", "Über über"]
        {
            assert!(!comparable(text), "{text}");
        }
    }

    #[test]
    fn code_is_not() {
        assert!(!comparable("What does this print?\n```\nprint(1)\n```"));
        assert!(!comparable("What does this print?\n~~~\nprint(1)\n~~~"));
        assert!(!comparable("Größe und Farbe?\n```\nprint(1)\n```"));
        assert!(comparable("Print ``one`` and ~two~"));
    }

    #[test]
    fn words_of_time_are_not_in_any_case_but_only_whole() {
        assert!(!comparable("What is the LATEST Linux kernel?"));
        assert!(!comparable("Wie ist das Wetter heute in Wien?"));
        assert!(comparable("Who wrote the novel Nowhere Man?"));
        let own = TimeWords::of(["this".to_owned(), "öfter".to_owned()]);
        let comparable = |text| is_comparable(text, 2_000, &own);
        assert!(!comparable("Which moons does THIS planet have?"));
        assert!(!comparable("Welche Monde sieht man ÖFTER als andere?"));
        assert!(comparable("Which moons have tides today?"));
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
