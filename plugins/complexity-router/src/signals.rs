//! What is seen in a request: reads the last user message, or its two ends.

use sluicegate_plugin::text::end_of_word;
use sluicegate_plugin::{Message, Request, Role};

use crate::score::Class;
use crate::words::{self, Hint};

/// Bytes read at each end of a text; what a task is stands at its beginning or its end.
const END: usize = 8 * 1024;
/// Earlier user messages read when the last one does not say what the task is.
const EARLIER: usize = 2;
/// Votes that a class needs; a strong word brings them, a weak one brings one.
const ENOUGH: u32 = 2;
/// Marks of code, such as braces, that make a text look like code.
const CODE_MARKS: u32 = 6;

/// What is seen in a request.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// What the task is; `None` when no class has enough votes.
    pub(crate) class: Option<Class>,
    /// Tokens of the last user message.
    pub(crate) tokens: u64,
    /// Different words that ask for thought.
    pub(crate) reasoning: u32,
    /// Question marks.
    pub(crate) questions: u32,
    /// Whether there is code.
    pub(crate) code: bool,
}

impl Signals {
    /// Reads `request`.
    pub(crate) fn read(request: &Request) -> Self {
        let mut asked = request.messages.iter().rev().filter(|message| message.role == Role::User);
        let last = asked.next().map_or("", |message| message.text.as_str());
        let seen = Seen::read(last);
        let class = seen.class().or_else(|| earlier_class(asked));
        Self {
            class,
            tokens: (last.len() as u64).div_ceil(4),
            reasoning: seen.reasoning,
            questions: seen.questions,
            code: seen.is_code(),
        }
    }
}

/// "And now with tests" goes on with what was asked before.
fn earlier_class<'a>(messages: impl Iterator<Item = &'a Message>) -> Option<Class> {
    messages.take(EARLIER).find_map(|message| Seen::read(&message.text).class())
}

/// What is seen in one text.
struct Seen {
    /// Words met, so that each counts once.
    met: [bool; words::COUNT],
    votes: [u32; Class::COUNT],
    reasoning: u32,
    questions: u32,
    fenced: bool,
    marks: u32,
}

impl Seen {
    fn read(text: &str) -> Self {
        let mut seen = Self {
            met: [false; words::COUNT],
            votes: [0; Class::COUNT],
            reasoning: 0,
            questions: 0,
            fenced: false,
            marks: 0,
        };
        let (head, tail) = ends(text);
        seen.take(head);
        seen.take(tail);
        seen
    }

    fn take(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let begin = at;
            at = end_of_word(bytes, at);
            // Most texts are mostly ASCII, whose words are looked up where they stand.
            if bytes.get(at).is_some_and(|byte| !byte.is_ascii()) {
                at = begin + self.other_word(&text[begin..]);
            } else if at > begin {
                self.word(&bytes[begin..at]);
            } else {
                self.mark(bytes, at);
                at += 1;
            }
        }
    }

    /// Takes the word that `text` begins with, and the character after it where that is not ASCII;
    /// gives their length.
    fn other_word(&mut self, text: &str) -> usize {
        let len = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
        if len <= 2 * words::LONGEST {
            self.word(text[..len].to_lowercase().as_bytes());
        }
        let after = text[len..].chars().next().filter(|c| !c.is_ascii());
        len + after.map_or(0, char::len_utf8)
    }

    fn word(&mut self, word: &[u8]) {
        let Some((number, hint)) = words::find(word) else { return };
        if std::mem::replace(&mut self.met[number], true) {
            return;
        }
        match hint {
            Hint::Strong(class) => self.votes[class as usize] += strength(class),
            Hint::Weak(class) => self.votes[class as usize] += 1,
            Hint::Reasoning => self.reasoning += 1,
        }
    }

    /// Takes the ASCII character at `at`, which is in no word.
    fn mark(&mut self, bytes: &[u8], at: usize) {
        match (bytes.get(at.wrapping_sub(1)).copied().unwrap_or(b' '), bytes[at]) {
            (_, b'?') => self.questions += 1,
            (b'`', b'`') => self.fenced |= bytes[..at].ends_with(b"``"),
            (_, b'{' | b'}')
            | (b';', b'\n')
            | (b'(', b')')
            | (b'=' | b'-', b'>')
            | (b':', b':')
            | (b'=', b'=')
            | (b'<', b'/') => self.marks += 1,
            _ => {}
        }
    }

    fn is_code(&self) -> bool {
        self.fenced || self.marks >= CODE_MARKS
    }

    fn class(&self) -> Option<Class> {
        let mut votes = self.votes;
        if self.is_code() {
            votes[Class::Code as usize] += ENOUGH;
        }
        let mut best = None;
        for class in Class::BY_PRECEDENCE {
            let votes = votes[class as usize];
            if votes >= ENOUGH && best.is_none_or(|(_, most)| votes > most) {
                best = Some((class, votes));
            }
        }
        best.map(|(class, _)| class)
    }
}

/// Votes of a class's strong words. What is to be done tells more than what it is done to: a review
/// of much code is a review, a poem about Python is a poem.
fn strength(class: Class) -> u32 {
    match class {
        Class::Review | Class::Consensus => 3 * ENOUGH,
        Class::Creative => ENOUGH + 1,
        Class::Simple | Class::General | Class::Code | Class::Architecture | Class::Trading => {
            ENOUGH
        }
    }
}

/// The first and the last part of `text`; together all of it when it is short.
fn ends(text: &str) -> (&str, &str) {
    if text.len() <= 2 * END {
        return (text, "");
    }
    let head = text.floor_char_boundary(END);
    let tail = text.ceil_char_boundary(text.len() - END);
    (&text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use sluicegate_plugin::testing::{message, request};

    use super::*;

    fn class(text: &str) -> Option<Class> {
        Signals::read(&request(vec![message(Role::User, text)])).class
    }

    #[test]
    fn a_task_is_told_by_its_words() {
        for (text, expected) in [
            ("Write a Python script that renames files", Some(Class::Code)),
            ("Please review this pull request", Some(Class::Review)),
            ("Review this:\n```rust\nfn main() {}\n```", Some(Class::Review)),
            ("Write a poem about Python", Some(Class::Creative)),
            ("Write a Python script that prints a haiku", Some(Class::Code)),
            ("Fix it:\n```\nx = 1\n```", Some(Class::Code)),
            ("Schreibe ein GEDICHT über den Herbst", Some(Class::Creative)),
            ("Design a scalable system for chat", Some(Class::Architecture)),
            ("Backtest this idea on daily candles", Some(Class::Trading)),
            ("Find a consensus between these drafts", Some(Class::Consensus)),
            ("What is the capital of France?", None),
            ("Hello", None),
            ("", None),
        ] {
            assert_eq!(class(text), expected, "{text}");
        }
    }

    #[test]
    fn one_weak_word_is_not_enough_nor_the_same_one_twice() {
        assert_eq!(class("What is the price? The price!"), None);
        assert_eq!(class("Is the price of this stock fair?"), Some(Class::Trading));
    }

    #[test]
    fn only_whole_words_count() {
        assert_eq!(class("The pythons and reviewers trusted rustic poemlike codes"), None);
        for text in ["pythonü", "üpython", "poem\u{301}", "a".repeat(50).as_str(), "haikuİ"] {
            let marked = text.contains('\u{301}');
            assert_eq!(class(text), marked.then_some(Class::Creative), "{text}");
        }
    }

    #[test]
    fn a_word_ends_at_any_sign_in_any_script() {
        for text in ["–python–", "“python”", "写python。", "über,PYTHON", "a\u{a0}Python\u{a0}b"]
        {
            let joined = text.starts_with('写');
            assert_eq!(class(text), (!joined).then_some(Class::Code), "{text}");
        }
        assert_eq!(class("ÜBERPRÜFE das"), Some(Class::Review));
        assert_eq!(class("überprüfe: das"), Some(Class::Review));
    }

    #[test]
    fn a_fence_is_three_in_a_row() {
        assert_eq!(class("a `b` and ``c`` and `` ` d"), None);
        assert_eq!(class("a ```b"), Some(Class::Code));
        assert_eq!(class("ä```"), Some(Class::Code));
    }

    #[test]
    fn braces_and_arrows_look_like_code() {
        assert_eq!(class("if (a == b) { f(); } else { g(); }"), Some(Class::Code));
    }

    #[test]
    fn a_short_follow_up_is_of_the_class_before() {
        let talk = request(vec![
            message(Role::User, "Write a Python script"),
            message(Role::Assistant, "Here is a poem"),
            message(Role::User, "Shorter please"),
        ]);
        assert_eq!(Signals::read(&talk).class, Some(Class::Code));
    }

    #[test]
    fn only_what_users_say_is_read() {
        let talk = request(vec![
            message(Role::System, "You review Python code"),
            message(Role::Assistant, "Explain why?"),
        ]);
        let seen = Signals::read(&talk);
        assert_eq!((seen.class, seen.tokens, seen.reasoning, seen.questions), (None, 0, 0, 0));
    }

    #[test]
    fn a_huge_text_is_read_at_both_ends() {
        let filler = "ä".repeat(500_000);
        assert_eq!(class(&format!("A haiku {filler}")), Some(Class::Creative));
        assert_eq!(class(&format!("{filler} a haiku")), Some(Class::Creative));
        assert_eq!(class(&format!("{filler} a haiku {filler}")), None);
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        for text in
            ["\u{0}", "İ", "🦀🦀", "ẞ", "e\u{301}", &"x".repeat(100_000), &"?".repeat(50_000)]
        {
            class(text);
        }
    }

    #[test]
    fn words_that_ask_for_thought_count_once() {
        let seen = Signals::read(&request(vec![message(
            Role::User,
            "Explain step by step, step by step, why? Erkläre, WARUM?",
        )]));
        assert_eq!((seen.reasoning, seen.questions), (5, 2));
    }
}
