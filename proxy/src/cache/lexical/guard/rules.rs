//! The vetoes one by one.

use std::collections::BTreeSet;

use super::super::align::same_unit;
use super::super::frame::Class;
use super::super::question::{Question, Word};
use super::super::stem;
use super::super::token::{AFTER_THE, Kind};
use super::super::words::{
    AUXILIARY, NARROWING, NEGATIVE, ORDINAL, OWN_PLURAL, PRONOUN, UNIT, opposites, synonyms,
};
use super::Veto;
use super::difference::{Difference, is_content};

fn veto_if(found: bool, veto: Veto) -> Result<(), Veto> {
    if found { Err(veto) } else { Ok(()) }
}

/// A text much longer than the other asks for more.
pub(super) fn length(asked: &Question, stored: &Question) -> Result<(), Veto> {
    let (short, long) = (asked.length.min(stored.length), asked.length.max(stored.length));
    veto_if(u32::from(short) * 10 < u32::from(long) * 4, Veto::Length)
}

/// Symbols and quoted strings are compared as they are.
pub(super) fn exact_kinds(difference: &Difference<'_>) -> Result<(), Veto> {
    let mut only = difference.only.iter().flatten();
    let quoted = difference.only.iter().flatten().any(|word| word.kind == Kind::Quote);
    veto_if(quoted, Veto::Quote)?;
    veto_if(only.any(|word| word.kind == Kind::Symbol), Veto::Symbol)
}

/// All numbers of a question with their units, in a fixed order. "One" is a pronoun too often.
fn numbers_of(question: &Question) -> Vec<(&str, Option<&Word>)> {
    let words = question.words();
    let unit = |at: usize| words.get(at + 1).filter(|word| word.is(UNIT));
    let mut numbers: Vec<(&str, Option<&Word>)> = words
        .iter()
        .enumerate()
        .filter(|(_, word)| word.kind == Kind::Number || is_ordinal(word))
        .map(|(at, word)| (question.text_of(word), unit(at)))
        .filter(|(text, _)| *text != "1")
        .collect();
    numbers.sort_by_key(|(text, _)| *text);
    numbers
}

/// "The second" counts, "a second" is a unit.
fn is_ordinal(word: &Word) -> bool {
    word.is(ORDINAL) && (!word.is(UNIT) || word.after(AFTER_THE))
}

/// The same numbers, and the same units where both say one.
pub(super) fn numbers(asked: &Question, stored: &Question) -> Result<(), Veto> {
    let (ours, theirs) = (numbers_of(asked), numbers_of(stored));
    veto_if(ours.len() != theirs.len(), Veto::Number)?;
    for ((x, unit), (y, other)) in ours.iter().zip(&theirs) {
        veto_if(x != y, Veto::Number)?;
        if let (Some(unit), Some(other)) = (unit, other) {
            veto_if(unit.stem != other.stem, Veto::Number)?;
            same_unit(unit, other)?;
        }
    }
    Ok(())
}

/// "How many grams" against "how many ounces", and percent on one side only.
pub(super) fn units(difference: &Difference<'_>) -> Result<(), Veto> {
    let side = |side: usize, percent: bool| {
        let (question, only) = difference.sides()[side];
        only.iter().any(|word| word.is(UNIT) && (!percent || question.text_of(word) == "percent"))
    };
    let percent = side(0, true) || side(1, true);
    veto_if(percent || side(0, false) && side(1, false), Veto::Number)
}

fn narrowings(question: &Question) -> BTreeSet<&str> {
    let words = question.words().iter().filter(|word| word.is(NARROWING));
    let canonical = |text| match text {
        "solely" | "exclusively" | "merely" => "only",
        other => other,
    };
    words.map(|word| canonical(question.text_of(word))).collect()
}

/// An odd number of negations more, or "only" on one side.
pub(super) fn negation(asked: &Question, stored: &Question) -> Result<(), Veto> {
    let count =
        |question: &Question, kinds| question.words().iter().filter(|word| word.is(kinds)).count();
    let odd = (count(asked, NEGATIVE) + count(stored, NEGATIVE)) % 2 == 1;
    let narrowed = narrowings(asked) != narrowings(stored);
    veto_if(odd || narrowed, Veto::Negation)
}

const MINE: u8 = 1;
const YOURS: u8 = 1 << 1;
const HIS: u8 = 1 << 2;
const HERS: u8 = 1 << 3;
const ME: u8 = 1 << 4;
const YOU: u8 = 1 << 5;

fn persons(question: &Question) -> u8 {
    question.words().iter().fold(0, |persons, word| {
        persons
            | match question.text_of(word) {
                "my" | "mine" | "our" | "ours" => MINE,
                "your" | "yours" => YOURS,
                "his" | "he" | "him" | "himself" => HIS,
                "her" | "hers" | "she" | "herself" => HERS,
                "i" | "me" | "we" | "us" => ME,
                "you" => YOU,
                _ => 0,
            }
    })
}

/// Whose it is, and who acts.
pub(super) fn person(asked: &Question, stored: &Question) -> Result<(), Veto> {
    let (ours, theirs) = (persons(asked), persons(stored));
    let owners = MINE | YOURS | HIS | HERS;
    let other_owner = ours & owners != 0 && theirs & owners != 0 && (ours ^ theirs) & owners != 0;
    let swapped = |a: u8, b: u8| a & (ME | YOU) == ME && b & (ME | YOU) == YOU;
    let yours = (ours ^ theirs) & YOURS != 0;
    veto_if(other_owner || yours || swapped(ours, theirs) || swapped(theirs, ours), Veto::Person)
}

/// Whether paraphrases cross from one class to the other.
fn kin(a: Class, b: Class) -> bool {
    let open = |class| {
        matches!(
            class,
            Class::What | Class::Name | Class::Command | Class::Statement | Class::Doubt
        )
    };
    let doing = |class| matches!(class, Class::HowTo | Class::Statement);
    a == b
        || (open(a) && open(b))
        || (doing(a) && doing(b))
        || matches!((a, b), (Class::Who, Class::Name) | (Class::Name, Class::Who))
        || matches!((a, b), (Class::How, Class::Command) | (Class::Command, Class::How))
}

#[derive(PartialEq, Eq)]
enum Mood {
    Present,
    Past,
    Future,
    Can,
    Should,
    Must,
    Plain,
}

fn mood(question: &Question) -> Mood {
    let verb = question.words().iter().find(|word| word.is(AUXILIARY));
    match verb.map(|word| question.text_of(word)) {
        Some("is" | "are" | "am" | "has" | "have") => Mood::Present,
        Some("was" | "were" | "did" | "had") => Mood::Past,
        Some("will" | "shall" | "would") => Mood::Future,
        Some("can" | "could" | "may" | "might") => Mood::Can,
        Some("should" | "ought") => Mood::Should,
        Some("must") => Mood::Must,
        // These are not asked without a verb of tense: it was "do", which is gone.
        _ if matches!(question.class, Class::How | Class::Why | Class::When | Class::Where) => {
            Mood::Present
        }
        _ => Mood::Plain,
    }
}

/// The class, the tense, and the modal verb of a yes-no question.
pub(super) fn class(asked: &Question, stored: &Question) -> Result<(), Veto> {
    veto_if(!kin(asked.class, stored.class), Veto::Class)?;
    let measure = |question: &Question| question.words().first().map(|word| word.stem);
    let other = asked.class == Class::Degree && measure(asked) != measure(stored);
    veto_if(other, Veto::Class)?;
    let (ours, theirs) = (mood(asked), mood(stored));
    let timed = |mood: &Mood| matches!(mood, Mood::Present | Mood::Past | Mood::Future);
    let tense = timed(&ours) && timed(&theirs);
    let modal = asked.class == Class::YesNo && ours != Mood::Plain && theirs != Mood::Plain;
    veto_if((tense || modal) && ours != theirs, Veto::Class)
}

/// A word that only one side has against one that only the other has.
pub(super) fn antonyms(difference: &Difference<'_>) -> Result<(), Veto> {
    /// More words than this were changed: not a turn of meaning but another text.
    const MAX_WORDS: usize = 24;
    let words = |side: usize| {
        let (question, only) = difference.sides()[side];
        let texts = only.iter().filter(|word| word.kind == Kind::Word);
        texts.map(|word| question.text_of(word)).take(MAX_WORDS).collect::<Vec<_>>()
    };
    let (ours, theirs) = (words(0), words(1));
    if ours.is_empty() || theirs.is_empty() {
        return Ok(());
    }
    let bases: Vec<Vec<String>> = theirs.iter().map(|word| stem::bases(word)).collect();
    for word in ours {
        let forms = stem::bases(word);
        let facing: Vec<&str> =
            forms.iter().flat_map(|form| opposites::of(form)).copied().collect();
        let faced = theirs.iter().zip(&bases).any(|(other, others)| {
            opposites::by_prefix(word, other)
                || facing.iter().any(|facing| others.iter().any(|form| form == facing))
        });
        veto_if(faced, Veto::Antonym)?;
    }
    Ok(())
}

/// A name that only one side has.
pub(super) fn entities(difference: &Difference<'_>) -> Result<(), Veto> {
    let [(asked, ours), (stored, theirs)] = difference.sides();
    let found = ours.iter().any(|word| asked.is_named(word))
        || theirs.iter().any(|word| stored.is_named(word));
    veto_if(found, Veto::Entity)
}

fn by(question: &Question) -> usize {
    question.words().iter().filter(|word| question.text_of(word) == "by").count()
}

/// The same content in another order, shared names in another order, or from and to swapped.
pub(super) fn order(difference: &Difference<'_>) -> Result<(), Veto> {
    let (asked, stored) = (difference.asked, difference.stored);
    let same = difference.content(0).is_empty() && difference.content(1).is_empty();
    let content = |question: &Question| -> Vec<u32> {
        question.words().iter().filter(|word| is_content(word)).map(|word| word.stem).collect()
    };
    let (ours, theirs) = (content(asked), content(stored));
    veto_if(same && ours != theirs, Veto::Order)?;
    // "Who is called by" against "who called": the roles are turned.
    veto_if(same && by(asked) != by(stored), Veto::Order)?;
    let named = |question: &Question, other: &[u32]| -> Vec<u32> {
        let words = question.words().iter();
        let shared = words.filter(|word| question.is_named(word) && other.contains(&word.stem));
        shared.map(|word| word.stem).collect()
    };
    // One side may write a name small; both must show it to compare the order.
    let (mut x, mut y) = (named(asked, &theirs), named(stored, &ours));
    x.retain(|stem| y.contains(stem));
    y.retain(|stem| x.contains(stem));
    veto_if(x != y, Veto::Order)?;
    veto_if(turned(asked, stored) || turned(stored, asked), Veto::Order)
}

/// Whether one says "from X" and the other "to X".
fn turned(a: &Question, b: &Question) -> bool {
    let after = |question: &Question, preposition: &str| -> Vec<u32> {
        let pairs = question.words().windows(2);
        pairs
            .filter(|pair| question.text_of(&pair[0]) == preposition)
            .map(|pair| pair[1].stem)
            .collect()
    };
    let to = after(b, "to");
    after(a, "from").iter().any(|stem| to.contains(stem))
}

/// All content the same: then no other pronoun, modal verb or preposition, unless it says little.
pub(super) fn function_words(difference: &Difference<'_>) -> Result<(), Veto> {
    /// Little words that come and go with the phrasing.
    const LITTLE: &[&str] = &[
        "of", "in", "on", "at", "for", "to", "about", "do", "does", "it", "that", "this", "i",
        "and",
    ];
    if !difference.content(0).is_empty() || !difference.content(1).is_empty() {
        return Ok(());
    }
    // After "who", a letter more or less is another family: "watt", "watts".
    let texts = |question: &'_ Question| -> Vec<String> {
        let words = question.words().iter().filter(|word| is_content(word));
        words.map(|word| question.text_of(word).to_owned()).collect()
    };
    let who = difference
        .sides()
        .iter()
        .any(|(question, _)| matches!(question.class, Class::Who | Class::Whose));
    veto_if(who && texts(difference.asked) != texts(difference.stored), Veto::Entity)?;
    let is_copula = |text: &str| text == "is" || text == "are";
    let copulas = difference.sides().map(|(question, only)| {
        only.iter().filter(|word| is_copula(question.text_of(word))).count()
    });
    veto_if(copulas[0] != copulas[1], Veto::Class)?;
    for (question, only) in difference.sides() {
        for word in only {
            let text = question.text_of(word);
            if LITTLE.contains(&text) || is_copula(text) || word.kind == Kind::Genitive {
                continue;
            }
            veto_if(word.is(AUXILIARY), Veto::Class)?;
            veto_if(word.is(PRONOUN), Veto::Person)?;
            veto_if(true, Veto::Order)?;
        }
    }
    Ok(())
}

/// Words that can come and go.
const PADDING: &[&str] = &["way", "really", "simply", "briefly", "kind", "sort", "quite", "maybe"];

/// One word exchanged for another, or one more word, and all the rest the same: what was exchanged
/// is what is asked about ("the history of", "in french"), unless the two are synonyms.
pub(super) fn substitution(difference: &Difference<'_>) -> Result<(), Veto> {
    let topics = |side| {
        let mut words = difference.content(side);
        // "one sentence" against "detail": numbers were compared already.
        words.retain(|word| word.kind == Kind::Word);
        words
    };
    let text = |side: usize, word: &Word| difference.sides()[side].0.text_of(word);
    let found = match (&topics(0)[..], &topics(1)[..]) {
        ([x], [y]) => {
            let (one, other) = (stem::bases(text(0, x)), stem::bases(text(1, y)));
            let kin = one.iter().any(|form| other.contains(form));
            // "blocked by" against "block": the roles are turned.
            veto_if(kin && by(difference.asked) != by(difference.stored), Veto::Order)?;
            let own = x.is(OWN_PLURAL) || y.is(OWN_PLURAL);
            if kin { own } else { !synonyms::share(&one, &other) }
        }
        ([x], []) => !PADDING.contains(&text(0, x)),
        ([], [y]) => !PADDING.contains(&text(1, y)),
        _ => false,
    };
    veto_if(found, Veto::Entity)
}
