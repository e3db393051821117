//! The gate and the guard on labelled pairs, and what must hold for any text.

use super::eval::{self, Pair, Tally};
use super::{Found, Index, Question, Unfit, gate, guard};

const SCOPE: [u8; 32] = [0; 32];

fn pairs(file: &str) -> Vec<Pair> {
    let path = format!("{}/../tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    eval::read(&std::fs::read_to_string(path).expect("the file")).expect("pairs")
}

fn accepted(a: &str, b: &str) -> bool {
    match (Question::analyse(a), Question::analyse(b)) {
        (Ok(a), Ok(b)) => gate(&a, &b).is_ok(),
        _ => false,
    }
}

fn unvetoed(a: &str, b: &str) -> bool {
    match (Question::analyse(a), Question::analyse(b)) {
        (Ok(a), Ok(b)) => guard(&a, &b).is_ok(),
        _ => false,
    }
}

/// By way of the index: `b` is stored, `a` is asked.
fn found(a: &str, b: &str) -> bool {
    let (Ok(asked), Ok(stored)) = (Question::analyse(a), Question::analyse(b)) else {
        return false;
    };
    let mut index = Index::new(1);
    index.insert(SCOPE, stored, ());
    matches!(index.find(&SCOPE, &asked, |()| true), Found::Hit(()))
}

/// Uncased embedders make one vector of each of these pairs, or nearly.
#[test]
fn what_embedders_do_not_see_is_seen_here() {
    for (a, b) in [
        ("What does 🦊 mean in a message?", "What does 🦁 mean in a message?"),
        ("How do I greet a Polish friend?", "How do I greet a polish friend?"),
        ("Is it safe to eat raw eggs?", "Is it not safe to eat raw eggs?"),
        ("What is the sum of 2+2 here?", "What is the sum of 2+3 here?"),
    ] {
        assert!(!unvetoed(a, b) && !unvetoed(b, a), "{a} | {b}");
    }
}

#[test]
fn the_gate_holds_on_the_reference_pairs() {
    let tally = Tally::of(&pairs("similarity_pairs.jsonl"), accepted);
    assert_eq!(tally.false_hits.of, 0, "{tally}");
    assert!(tally.recall.value() >= 0.95, "{tally}");
}

#[test]
fn the_gate_holds_on_pairs_with_other_words() {
    for pair in pairs("lexical_pairs.jsonl") {
        assert_eq!(accepted(&pair.a, &pair.b), pair.label, "{pair:?}");
    }
}

#[test]
fn the_guard_stops_near_misses_and_lets_paraphrases_pass() {
    for (file, most) in [("similarity_pairs.jsonl", 0.0), ("lexical_pairs.jsonl", 0.02)] {
        let tally = Tally::of(&pairs(file), unvetoed);
        assert!(tally.false_hits.value() <= most, "{tally}");
        assert!(tally.recall.value() >= 0.95, "{tally}");
    }
    // Other words for the same, which only an embedding finds.
    for (a, b) in [
        ("How do I fix a leaking tap?", "What is the way to repair a leaking tap?"),
        ("What should I pack for a week of hiking?", "Which things do I need on a hiking trip?"),
        ("Who invented the steam engine?", "Who is the inventor of the steam engine?"),
        ("Why do my eyes burn when I cut onions?", "Why does chopping onions make my eyes sting?"),
    ] {
        let asked = Question::analyse(a).expect("fit");
        let stored = Question::analyse(b).expect("fit");
        assert_eq!(guard(&asked, &stored), Ok(()), "{a} | {b}");
    }
}

#[test]
fn all_verdicts_are_symmetric_and_the_index_misses_nothing_the_gate_accepts() {
    let all = pairs("similarity_pairs.jsonl").into_iter().chain(pairs("lexical_pairs.jsonl"));
    for Pair { a, b, .. } in all {
        check(&a, &b);
    }
}

fn check(a: &str, b: &str) {
    assert_eq!(accepted(a, b), accepted(b, a), "{a} | {b}");
    assert_eq!(unvetoed(a, b), unvetoed(b, a), "{a} | {b}");
    assert_eq!(accepted(a, b), found(a, b), "{a} | {b}");
    assert!(!accepted(a, b) || unvetoed(a, b), "{a} | {b}");
    assert!(Question::analyse(a).is_err() || accepted(a, a), "{a}");
}

#[test]
fn it_says_why_a_text_is_unfit() {
    let unfit = |text: &str| Question::analyse(text).err();
    assert_eq!(unfit(&"word ".repeat(500)), Some(Unfit::TooLong));
    assert_eq!(unfit("What does this do?\n```\nfn main() {}\n```"), Some(Unfit::Code));
    for text in [
        "What is the weather today?",
        "Who is the current king of Spain?",
        "What happened this week in Chile?",
        "What time is it in Tokyo?",
        "What's the latest version of Go?",
    ] {
        assert_eq!(unfit(text), Some(Unfit::TimeWord), "{text}");
    }
    for text in ["", "Hello!", "Why?", "Why not?", "Explain it", "Thanks", "yes", "?", "Can you?"] {
        assert_eq!(unfit(text), Some(Unfit::TooFewWords), "{text}");
    }
}

/// Draws from `all` without a seed from outside: the same texts every time.
struct Dice(u64);

impl Dice {
    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        all[usize::try_from(self.0 >> 33).expect("small") % all.len()]
    }
}

#[test]
fn no_text_breaks_it() {
    let pieces: Vec<&str> = concat!(
        "how| | | |do|I|what|is|are|the|a|of|'s|'|’|n't|-|–|−|--|++|#|C|5|1,000|km|!|?|.|,|",
        ":|\n|\"|“|”|«|»|é|ß|İ|ŉ|中|文|🙂|\u{301}|\u{200b}|one|hundred|and|million|II|IX|x|",
        "United|States|US|us|can|you|tell|me|please|thanks|be|sorted|by|France|capital|city|",
        "give|an|explanation|in|Ruby|can't|won't|I'd|tell me|to|for|not|s|want|that|year|",
        "2020|(|)|*|^|%|$|{|}|K|ﬁ|½|²",
    )
    .split('|')
    .collect();
    let mut dice = Dice(7);
    for _ in 0..10_000 {
        let mut text = |length: &[usize]| {
            let count = dice.pick(length);
            (0..count).map(|_| dice.pick(&pieces)).collect::<String>()
        };
        let (a, b) = (text(&[3, 8, 14, 25]), text(&[3, 8, 14, 25]));
        check(&a, &b);
    }
}
