//! Brings a question into one form: its [`Class`], and its words in the order in which that class
//! is usually asked. "In Go, how can I sort a list?" and "How to sort a list in Go" become the
//! same.
//!
//! Each rule keeps the meaning and loses no word that carries any; where a rule is not sure, it
//! leaves the text alone, which costs a hit and nothing else.

use super::normalise::{Wrapping, longest, opens_with};
use super::stem;
use super::token::{AFTER_A, AFTER_THE, BREAK, INFLECTED, Kind, PAUSE, Shape, Token, word};
use super::words::{ARTICLE, ASKING, AUXILIARY, FILLER, NUMBERED, PREPOSITION, TELLING, WORKING};

/// What kind of question a text asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// How does one do something.
    HowTo,
    /// How something is or works.
    How,
    /// How much of something.
    Degree,
    Why,
    When,
    Where,
    Who,
    Whose,
    /// What or which.
    What,
    /// To name a thing: what or who it is.
    Name,
    YesNo,
    /// To do something.
    Command,
    /// None of these.
    Statement,
    /// As [`Class::Statement`], with a question mark.
    Doubt,
}

/// The canonical order of `tokens`, and their class. `asks` says that the text ends with "?".
pub(super) fn arrange(tokens: &mut Vec<Token<'_>>, wrapping: Wrapping, asks: bool) -> Class {
    fronted(tokens);
    wished(tokens);
    shorten(tokens);
    nominal(tokens);
    let class = classify(tokens, wrapping, asks);
    genitive(tokens);
    drop_articles(tokens);
    class
}

/// "In Ruby, how …": what was put first goes last.
fn fronted(tokens: &mut Vec<Token<'_>>) {
    let first = tokens.first().is_some_and(|token| {
        ["in", "on", "for", "with", "using", "at", "within", "inside"]
            .contains(&token.text.as_ref())
    });
    let turn = tokens
        .iter()
        .position(|token| token.after(PAUSE) && token.is(ASKING | AUXILIARY | TELLING | WORKING));
    let Some(turn) = turn.filter(|turn| first && (2..=6).contains(turn)) else { return };
    if tokens[1..turn].iter().any(|token| token.after(BREAK | PAUSE)) {
        return;
    }
    tokens.rotate_left(turn);
}

/// "I want to sort a list. How do I do that?"
fn wished(tokens: &mut Vec<Token<'_>>) {
    const WISHES: &[&str] = &[
        "i want to",
        "i need to",
        "i would like to",
        "i am trying to",
        "i wish to",
        "i have to",
        "we want to",
        "we need to",
        "we would like to",
        "i want to be able to",
        "i d like to",
    ];
    const HOWS: &[&str] = &[
        "how do i do that",
        "how do i do this",
        "how do i do it",
        "how can i do that",
        "how can i do this",
        "how can i do it",
        "how do i do so",
        "how",
        "how do i",
        "how can i",
        "how do we do that",
        "how can we do that",
        "how to do that",
        "how to do it",
        "how to do this",
        "how do i go about it",
        "how do i go about that",
        "how do i go about this",
    ];
    let Some(wish) = longest(tokens, WISHES) else { return };
    let ends = tokens.iter().enumerate().skip(wish + 1).filter(|(_, token)| token.after(BREAK));
    let starts: Vec<usize> = ends.map(|(at, _)| at).collect();
    let [start] = starts[..] else { return };
    if longest(&tokens[start..], HOWS) == Some(tokens.len() - start) {
        tokens.truncate(start);
        tokens.drain(..wish);
        tokens.insert(0, word("to"));
        tokens.insert(0, word("how"));
    }
}

/// Set phrases that say the same in fewer words.
fn shorten(tokens: &mut Vec<Token<'_>>) {
    tokens.retain(|token| !token.is(FILLER));
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        let year = at > 0
            && tokens[at].text == "year"
            && rest.get(1).is_some_and(|next| next.kind == Kind::Number && next.text.len() == 4);
        if opens_with(rest, "in order to").is_some() {
            tokens.drain(at..at + 2);
        } else if opens_with(rest, "capital city").is_some() {
            tokens.remove(at + 1);
        } else if year && matches!(tokens[at - 1].text.as_ref(), "the" | "in") {
            tokens.remove(at);
        } else {
            at += 1;
        }
    }
    for asked in ["what city is the capital", "which city is the capital"] {
        if opens_with(tokens, asked).is_some() {
            tokens.remove(1);
        }
    }
}

/// "Give me an explanation of" is "explain".
fn nominal(tokens: &mut Vec<Token<'_>>) {
    const ASKED: &[&str] = &[
        "give me",
        "give us",
        "provide",
        "provide me with",
        "provide me",
        "i need",
        "i want",
        "i would like",
        "show me",
        "can i have",
        "can i get",
        "could i have",
        "could i get",
        "give",
        "i would like to have",
        "i would love",
        "i am looking for",
        "write",
        "write me",
    ];
    const NOUNS: &[(&str, &str)] = &[
        ("explanation", "explain"),
        ("description", "describe"),
        ("definition", "define"),
        ("summary", "summarize"),
        ("list", "list"),
        ("outline", "outline"),
        ("comparison", "compare"),
    ];
    let Some(mut length) = longest(tokens, ASKED) else { return };
    if tokens.get(length).is_some_and(|token| token.is(ARTICLE)) {
        length += 1;
    }
    let Some(noun) = tokens.get(length) else { return };
    let verb = NOUNS.iter().find(|(name, _)| *name == noun.text).map(|(_, verb)| *verb);
    if let Some(verb) = verb
        && tokens.get(length + 1).is_some_and(|token| token.text == "of")
    {
        tokens.drain(..length + 2);
        tokens.insert(0, word(verb));
    }
}

/// Finds the class, and takes out the words that say nothing more than it.
fn classify(tokens: &mut Vec<Token<'_>>, wrapping: Wrapping, asks: bool) -> Class {
    for shown in ["show me how", "teach me how", "show us how"] {
        if opens_with(tokens, shown).is_some() {
            tokens.drain(..2);
        }
    }
    if way(tokens) {
        return Class::HowTo;
    }
    let Some(first) = tokens.first() else { return Class::Statement };
    let class = match first.text.as_ref() {
        "how" => return how(tokens, wrapping),
        "what" | "which" => Class::What,
        "who" | "whom" => Class::Who,
        "whose" => Class::Whose,
        "when" => Class::When,
        "where" => Class::Where,
        "why" => Class::Why,
        _ if first.is(AUXILIARY) => Class::YesNo,
        _ => return command(tokens, asks),
    };
    if class != Class::YesNo {
        tokens.remove(0);
        invert(tokens, wrapping);
    }
    drop_do(tokens, class == Class::YesNo);
    class
}

/// "What is the way to" is "how to".
fn way(tokens: &mut Vec<Token<'_>>) -> bool {
    let steps =
        ["what is the way", "what is the process", "what is the procedure", "what are the steps"];
    let more = ["what is the method", "what steps do i take", "what do i need to do"];
    let ways: Vec<&str> = steps.into_iter().chain(more).collect();
    let Some(length) = longest(tokens, &ways) else { return false };
    let gerund = tokens.get(length + 1).is_some_and(|verb| verb.text.ends_with("ing"));
    match tokens.get(length).map(|token| token.text.as_ref()) {
        Some("to") => {}
        Some("for" | "of") if gerund => tokens[length + 1].marks |= INFLECTED,
        _ => return false,
    }
    tokens.drain(..=length);
    true
}

fn how(tokens: &mut Vec<Token<'_>>, wrapping: Wrapping) -> Class {
    tokens.remove(0);
    // "How do we see?" asks for the mechanism, "how do I see …?" for advice.
    const SELVES: &[&str] = &["to", "do i", "does one", "can i", "could i", "i can", "i could"];
    if let Some(length) = longest(tokens, SELVES) {
        // "How can I be" and "how could I have" ask about something else.
        let state = ["be", "have", "not"];
        if tokens.get(length).is_none_or(|verb| !state.contains(&verb.text.as_ref())) {
            tokens.drain(..length);
            if opens_with(tokens, "go about").is_some() && tokens.len() > 2 {
                tokens.drain(..2);
                tokens[0].marks |= INFLECTED;
            }
            return Class::HowTo;
        }
    } else if passive(tokens) {
        return Class::HowTo;
    }
    let plain = tokens.first().is_none_or(|token| {
        token.is(AUXILIARY | ARTICLE) || token.kind != Kind::Word || token.is(super::words::PRONOUN)
    });
    let degree = !plain && !wrapping.embedded
        || tokens.first().is_some_and(|token| {
            ["many", "much", "long", "far", "often", "old", "big", "tall", "large", "fast", "high"]
                .contains(&token.text.as_ref())
        });
    if !degree {
        invert(tokens, wrapping);
    }
    drop_do(tokens, false);
    if degree { Class::Degree } else { Class::How }
}

/// "How can a list be sorted in Go": by nobody in particular, so it is how to sort it.
fn passive(tokens: &mut Vec<Token<'_>>) -> bool {
    let modal = tokens.first().is_some_and(|token| token.text == "can" || token.text == "could");
    let be = tokens.iter().position(|token| token.text == "be");
    let Some(be) = be.filter(|be| modal && *be > 1) else { return false };
    let agent =
        tokens.iter().any(|token| token.is(ASKING) || token.text == "by" || token.text == "not");
    let Some(verb) = tokens.get(be + 1) else { return false };
    let irregular = stem::infinitive(&verb.text);
    if agent || !(verb.text.ends_with("ed") || irregular.is_some()) {
        return false;
    }
    let mut verb = tokens.remove(be + 1);
    match irregular {
        Some(infinitive) => verb = word(infinitive),
        None => verb.marks |= INFLECTED,
    }
    tokens.remove(be);
    tokens[0] = verb;
    true
}

/// "(Tell me) who the king is": the order of the question it is.
fn invert(tokens: &mut Vec<Token<'_>>, wrapping: Wrapping) {
    let turned = ["is", "are", "was", "were", "will", "can", "should", "did"];
    if !wrapping.embedded || tokens.first().is_none_or(|token| token.is(AUXILIARY)) {
        return;
    }
    let verbs: Vec<usize> =
        (1..tokens.len()).filter(|at| turned.contains(&tokens[*at].text.as_ref())).collect();
    if let [at] = verbs[..] {
        let verb = tokens.remove(at);
        tokens.insert(0, verb);
    }
}

/// "do" and "does" that only make a question.
fn drop_do(tokens: &mut Vec<Token<'_>>, leading: bool) {
    let is_do = |token: &Token<'_>| matches!(token.text.as_ref(), "do" | "does");
    let Some(at) = tokens.iter().position(is_do) else { return };
    let next = tokens.get(at + 1);
    let main_verb = next.is_none_or(|next| next.text == "not" || next.is(PREPOSITION));
    if !main_verb && (at == 0 || !leading) && at < 6 {
        tokens.remove(at);
    }
}

fn command(tokens: &mut Vec<Token<'_>>, asks: bool) -> Class {
    for named in ["name the", "give me the", "state the", "identify the"] {
        if let Some(length) = opens_with(tokens, named) {
            tokens.splice(..length, [word("is"), word("the")]);
            return Class::Name;
        }
    }
    if !tokens.first().is_some_and(|token| token.is(TELLING | WORKING)) {
        return if asks { Class::Doubt } else { Class::Statement };
    }
    if tokens.get(1).is_some_and(|token| token.text == "me") {
        tokens.remove(1);
    }
    let told = tokens.get(1..).and_then(|rest| opens_with(rest, "to me"));
    if told.is_some() && tokens.len() > 3 && tokens.first().is_some_and(|verb| verb.is(TELLING)) {
        tokens.drain(1..3);
    }
    let clause = tokens.iter().any(|token| token.is(ASKING));
    let end = tokens.len().saturating_sub(2);
    let tail = |phrase: &str| opens_with(&tokens[end..], phrase).is_some();
    if end > 1 && !clause && (tail("to me") || tail("for me")) {
        tokens.truncate(end);
    }
    Class::Command
}

/// "France's head of state" is "head of state of France", when there is no doubt what belongs to
/// what.
fn genitive(tokens: &mut Vec<Token<'_>>) {
    let mark = |token: &Token<'_>| token.kind == Kind::Genitive;
    let Some(at) = tokens.iter().position(mark) else { return };
    if tokens.iter().skip(at + 1).any(mark) || tokens[..at].iter().any(|token| token.text == "of") {
        return;
    }
    let stops = |token: &Token<'_>| {
        token.is(ARTICLE | PREPOSITION | AUXILIARY | ASKING) || token.kind != Kind::Word
    };
    let start = tokens[..at].iter().rposition(stops).map_or(0, |stop| stop + 1);
    let mut end = at + 1;
    while end < tokens.len() && (!stops(&tokens[end]) || tokens[end].text == "of") {
        end += 1;
    }
    if start == at || end == at + 1 {
        return;
    }
    let owner = at - start;
    tokens[at] = word("of");
    // owner, of, thing → thing, of, owner
    tokens[start..end].rotate_left(owner + 1);
    let of = end - owner - 1;
    tokens[of..end].rotate_left(owner);
    // The article of the owner stays with it, so the thing itself has none.
    if start > 0 && tokens[start - 1].is(ARTICLE) {
        let article = tokens.remove(start - 1);
        tokens.insert(of, article);
    }
}

/// Drops articles; the word after them remembers.
fn drop_articles(tokens: &mut Vec<Token<'_>>) {
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        // "vitamin A", "blood type A+", "plan A": a letter, not an article.
        let letter = token.text == "a"
            && (token.shape == Shape::Upper && at > 0 && !token.after(BREAK)
                || at.checked_sub(1).is_some_and(|before| tokens[before].is(NUMBERED)));
        let followed = tokens
            .get(at + 1)
            .is_some_and(|next| next.kind != Kind::Symbol && !next.is(AUXILIARY | ARTICLE));
        // "a few" are some, "few" are hardly any.
        let amount = tokens.get(at + 1).is_some_and(|next| {
            token.text == "a" && matches!(next.text.as_ref(), "few" | "little")
        });
        if !token.is(ARTICLE) || letter || !followed || amount {
            at += 1;
            continue;
        }
        let mark = if token.text == "the" { AFTER_THE } else { AFTER_A };
        let mark = mark | token.marks & (BREAK | PAUSE);
        tokens.remove(at);
        tokens[at].marks |= mark;
    }
}
