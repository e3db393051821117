//! How much context a request needs.
//!
//! The gateway has no tokeniser: it reads the words and guesses. This guess is to choose a context that
//! is large enough; what cannot fit in any case is told by [`super::least`]. What a model thought
//! earlier counts for neither, because templates leave it out.

use serde_json::value::RawValue;

use super::json::{Keys, each, members, text};

/// The smallest context given, in tokens.
const SMALLEST: u64 = 2048;
/// What most vision models make of an image, at least.
const IMAGE: u64 = 256;
/// The marks a template puts around a message.
const MESSAGE: u64 = 4;
/// What ends the thoughts of models that write them into their text.
pub(super) const THOUGHT_END: &str = "</think>";

/// Tokens of the prompt of a chat completion `body`, rather too few than too many.
///
/// A word of ASCII letters is a token up to nine letters and one more for each further six; three
/// digits are a token; so is a run of other ASCII characters, unless it is one before a word. A space
/// is part of what it precedes; a line end that follows a word is a token, and so is an indentation.
/// Two of three Chinese, Japanese or Korean characters are one each; of other scripts four characters
/// are one; a character beyond the basic plane (emoji) is one. A message costs four more, an image
/// 256. Calls and tools count as the JSON they are.
///
/// Against cl100k and o200k, English prose comes out at 1.0 of its tokens, programs at 0.9, text with
/// much markup at 0.75 to 0.9, digits at two thirds, base64 at half.
#[must_use]
pub fn prompt_tokens_estimate(body: &[u8]) -> u64 {
    let mut tally = Tally::default();
    read(body, &mut |part| match part {
        Part::Text(text) | Part::Json(text) => tally.add(text),
        Part::Message => tally.message(),
        Part::Image => tally.image(),
    });
    tally.tokens()
}

/// The smallest of the contexts 2048, 4096, 8192 … that holds `needed` tokens, but at most `max`.
#[must_use]
pub fn bucket(needed: u64, max: Option<u64>) -> u64 {
    let fitting = needed.max(SMALLEST).checked_next_power_of_two().unwrap_or(u64::MAX);
    max.map_or(fitting, |max| fitting.min(max))
}

enum Part<'t> {
    /// A message begins.
    Message,
    /// What a message says.
    Text(&'t str),
    /// The arguments of a call, or all tools.
    Json(&'t str),
    /// An image or a sound.
    Image,
}

/// Goes through the parts of a prompt; those that are malformed are not there.
fn read(body: &[u8], found: &mut impl FnMut(Part<'_>)) {
    let body = String::from_utf8_lossy(body);
    let Ok([messages, tools]) = members(&body, Keys::AnyCase, ["messages", "tools"]) else {
        return;
    };
    if let Some(tools) = tools.filter(|tools| tools.get() != "[]") {
        found(Part::Json(tools.get()));
    }
    lenient(messages, |raw| message(raw, found));
}

fn message(raw: &str, found: &mut impl FnMut(Part<'_>)) {
    let fields = ["role", "content", "tool_calls"];
    let Ok([role, content, calls]) = members(raw, Keys::AnyCase, fields) else { return };
    found(Part::Message);
    let assistant = role.and_then(text).is_some_and(|role| role.eq_ignore_ascii_case("assistant"));
    let said = |words: &str| {
        let thought = words.rfind(THOUGHT_END).filter(|_| assistant);
        thought.map_or(0, |at| at + THOUGHT_END.len())
    };
    match content.and_then(text) {
        Some(words) => found(Part::Text(&words[said(&words)..])),
        None => lenient(content, |part| {
            let Ok([words]) = members(part, Keys::Exact, ["text"]) else { return };
            match words.and_then(text) {
                Some(words) => found(Part::Text(&words[said(&words)..])),
                None => found(Part::Image),
            }
        }),
    }
    lenient(calls, |call| found(Part::Json(call)));
}

/// What is no array has no elements: the translation refuses it.
pub(super) fn lenient(array: Option<&RawValue>, mut visit: impl FnMut(&str)) {
    let Some(array) = array else { return };
    each(
        array,
        || (),
        |element| {
            visit(element.get());
            Ok(())
        },
    )
    .unwrap_or_default();
}

/// What a run of characters is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letters,
    Digits,
    Space,
    Signs,
    Ideographs,
    Script,
    Astral,
}

impl Class {
    fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' => Class::Letters,
            '0'..='9' => Class::Digits,
            ' ' | '\t' | '\n' | '\r' => Class::Space,
            '\0'..='\x7f' => Class::Signs,
            '\u{2e80}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' => Class::Ideographs,
            '\u{10000}'.. => Class::Astral,
            _ => Class::Script,
        }
    }
}

/// A token, in the unit of [`Tally`].
const TOKEN: u64 = 12;

/// Tokens so far, in twelfths.
#[derive(Default)]
pub(super) struct Tally {
    twelfths: u64,
}

impl Tally {
    /// What a template puts around a message.
    pub(super) fn message(&mut self) {
        self.twelfths += TOKEN * MESSAGE;
    }

    pub(super) fn image(&mut self) {
        self.twelfths += TOKEN * IMAGE;
    }

    pub(super) fn tokens(&self) -> u64 {
        self.twelfths.div_ceil(TOKEN)
    }

    pub(super) fn add(&mut self, text: &str) {
        let mut before = Class::Signs;
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let class = Class::of(first);
            let end = rest.find(|c| Class::of(c) != class).unwrap_or(rest.len());
            let (run, follows) = rest.split_at(end);
            self.twelfths += cost(class, run, before, follows);
            (before, rest) = (class, follows);
        }
    }
}

/// What `run`, between the class `before` and the text that `follows`, costs.
fn cost(class: Class, run: &str, before: Class, follows: &str) -> u64 {
    let length = run.len() as u64;
    let characters = || run.chars().count() as u64;
    match class {
        Class::Letters => TOKEN * (1 + length.saturating_sub(9).div_ceil(6)),
        Class::Digits => TOKEN * length.div_ceil(3),
        Class::Space => {
            let ends = run.bytes().filter(|b| matches!(b, b'\n' | b'\r')).count() as u64;
            let line = u64::from(ends > 0 && before != Class::Signs);
            TOKEN * (line + u64::from(length - ends > 1) + length / 128)
        }
        Class::Signs => {
            let changes = run.as_bytes().windows(2).filter(|pair| pair[0] != pair[1]).count();
            let joins = length == 1 && follows.starts_with(|c| Class::of(c) == Class::Letters);
            if joins { 0 } else { TOKEN * (1 + changes as u64 / 4 + length / 64) }
        }
        Class::Ideographs => characters() * TOKEN * 2 / 3,
        Class::Script => characters() * TOKEN / 4,
        Class::Astral => characters() * TOKEN,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::least::tests::least;
    use super::*;

    fn guesses(content: &str) -> (u64, u64) {
        let body = json!({"messages": [{"role": "user", "content": content}]});
        (estimate(&body), least(&body))
    }

    fn estimate(body: &Value) -> u64 {
        prompt_tokens_estimate(body.to_string().as_bytes())
    }

    /// Token counts are the lower of cl100k's and o200k's.
    #[test]
    fn guesses_lie_about_and_below_what_tokenisers_count() {
        let prose = "It was a bright cold day in April, and the clocks were striking thirteen. He \
                     walked quickly through the doors, though not quickly enough to prevent a swirl \
                     of gritty dust from entering along with him. ";
        let german = "Die Donaudampfschifffahrtsgesellschaft beschäftigt Kapitäne. Jeder Mensch hat \
                      das Recht auf Freiheit und Sicherheit der Person, ohne Unterschied. ";
        let russian = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья \
                       несчастлива по-своему. Все смешалось в доме Облонских. ";
        let chinese = "人工智能是计算机科学的一个分支，它企图了解智能的实质，并生产出一种新的能以人类智能\
                       相似的方式做出反应的智能机器。该领域的研究包括机器人、语言识别、图像识别、自然\
                       语言处理和专家系统等。";
        let spaces = " ".repeat(20_000) + "x";
        for (text, times, tokens) in [
            (prose, 30, 1201),
            (german, 20, 601),
            (russian, 20, 681),
            (chinese, 20, 1280),
            ("a", 20_000, 2500),
            ("ha", 10_000, 5001),
            ("-", 20_000, 312),
            (&spaces, 1, 158),
        ] {
            let (estimate, least) = guesses(&text.repeat(times));
            assert!(least <= tokens, "{text}: {least} of {tokens}");
            let natural = text.len() > 2 && text.len() < 1000;
            assert!(!natural || estimate * 100 <= tokens * 103, "{text}: {estimate} of {tokens}");
            assert!(!natural || estimate * 100 >= tokens * 85, "{text}: {estimate} of {tokens}");
        }
    }

    #[test]
    fn tools_calls_and_images_count_only_for_the_estimate() {
        let bare = json!({"messages": [{"content": "a b"}]});
        let full = json!({
            "messages": [
                {"content": [{"type": "text", "text": "a b"}, {"type": "image_url"}]},
                {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
            ],
            "tools": [{"function": {"name": "f"}}],
        });
        assert_eq!(least(&full), least(&bare));
        assert!(estimate(&full) > estimate(&bare) + 256);
    }

    #[test]
    fn what_a_model_thought_does_not_count() {
        let said = |role: &str| {
            let content = "<think>one two three</think>four";
            estimate(&json!({"messages": [{"role": role, "content": content}]}))
        };
        assert!(said("assistant") < said("user"));
    }

    #[test]
    fn what_is_no_request_needs_nothing() {
        for body in ["", "{", "[]", "{}", r#"{"messages":7}"#, r#"{"messages":[7]}"#] {
            assert_eq!(prompt_tokens_estimate(body.as_bytes()), 0, "{body}");
        }
    }

    #[test]
    fn a_bucket_is_the_smallest_power_that_holds() {
        for (needed, max, bucket_of) in [
            (0, None, 2048),
            (2048, None, 2048),
            (2049, None, 4096),
            (33_000, Some(40_960), 40_960),
            (10, Some(1024), 1024),
            (u64::MAX, None, u64::MAX),
        ] {
            assert_eq!(bucket(needed, max), bucket_of);
        }
    }
}
