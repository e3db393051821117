//! Whether two questions are the same word by word: what the gate accepts, and what the guard need
//! not doubt.

use super::frame::Class;
use super::guard::Veto;
use super::question::{Case, Question, Word};
use super::stem;
use super::token::{AFTER_A, AFTER_THE, INFLECTED, JOINED, Kind, Shape};
use super::words::{CASED, NAME, NUMBERED, UNIT};

/// Slips of the keys that are forgiven in one text.
const MAX_SLIPS: usize = 2;

/// How two words are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    /// Letter by letter.
    Equal,
    /// Singular and plural.
    Plural,
    /// Base form and an inflected form, where grammar wants that.
    Inflected,
    /// A slip of the keys.
    Slip,
}

/// How two words are the same word, if they are.
pub(super) fn likeness(a: &Question, x: &Word, b: &Question, y: &Word) -> Option<Likeness> {
    let (left, right) = (a.text_of(x), b.text_of(y));
    if x.kind != y.kind {
        return None;
    }
    if left == right {
        return Some(Likeness::Equal);
    }
    if x.kind != Kind::Word {
        return None;
    }
    let asks_who = [a, b].iter().any(|q| matches!(q.class, Class::Who | Class::Whose));
    // After "who", a letter more or less is another family.
    let named = a.is_named(x) || b.is_named(y) || asks_who;
    if x.stem == y.stem && !named && stem::singular(left) == stem::singular(right) {
        return Some(Likeness::Plural);
    }
    let inflected = x.after(INFLECTED) != y.after(INFLECTED)
        && if x.after(INFLECTED) {
            stem::inflects(right, left)
        } else {
            stem::inflects(left, right)
        };
    if inflected {
        return Some(Likeness::Inflected);
    }
    // A name with a slip is taken for the name only if that is known and the slip is no word.
    let known = x.is(NAME) != y.is(NAME) && left.len() > 5 && !asks_who;
    ((!named || known) && stem::is_slip(left, right)).then_some(Likeness::Slip)
}

/// Whether the two ask the same thing in the same words, or what tells them apart.
pub(super) fn aligned(a: &Question, b: &Question) -> Result<(), Veto> {
    if !same_class(a.class, b.class) {
        return Err(Veto::Class);
    }
    let (left, right) = (a.words(), b.words());
    if left.len() != right.len() {
        return Err(Veto::Words);
    }
    let mut seen = Seen::default();
    let mut at = 0;
    while let (Some(x), Some(y)) = (left.get(at), right.get(at)) {
        if let Some(likeness) = likeness(a, x, b, y) {
            same_spelling(a, x, b, y, likeness)?;
            if at > 0 && left.get(at - 1).is_some_and(|before| before.kind == Kind::Number) {
                same_unit(x, y)?;
            }
            seen.note(x, y, likeness);
        } else if is_copula(a.text_of(x)) && is_copula(b.text_of(y)) {
            seen.copula = true;
        } else if crosses_hyphen(a, b, at) {
            seen.slips += 1;
            at += 1;
        } else {
            return Err(Veto::Words);
        }
        at += 1;
    }
    seen.verdict(a, b)
}

/// What was met on the way through two questions.
#[derive(Debug, Default)]
struct Seen {
    slips: usize,
    plurals: usize,
    /// "is" on one side, "are" on the other.
    copula: bool,
    /// An article on one side only that makes one thing of a kind.
    article: bool,
    /// "a" on one side, "the" on the other.
    other_article: bool,
}

impl Seen {
    fn note(&mut self, x: &Word, y: &Word, likeness: Likeness) {
        self.plurals += usize::from(likeness == Likeness::Plural);
        self.slips += usize::from(likeness == Likeness::Slip);
        // "What is a python?" is not "What is Python?"; "a hole" and "holes" are the same.
        let singled = x.after(AFTER_A) != y.after(AFTER_A);
        self.other_article |= singled && x.after(AFTER_THE) != y.after(AFTER_THE);
        self.article |= singled && likeness != Likeness::Plural;
    }

    fn verdict(self, a: &Question, b: &Question) -> Result<(), Veto> {
        let defines = matches!(a.class, Class::What | Class::Who | Class::Name)
            && a.words().first().is_some_and(|word| is_copula(a.text_of(word)));
        // "What are the fastest cars" wants several, "what are black holes" a definition.
        let many = self.copula && (self.plurals == 0 || a.is_definite() || b.is_definite());
        if many && self.plurals > 0 {
            return Err(Veto::Number);
        }
        if self.slips > MAX_SLIPS || many {
            return Err(Veto::Words);
        }
        let one_of_many = a.class == Class::YesNo && self.other_article;
        if defines && self.article || one_of_many {
            return Err(Veto::Entity);
        }
        Ok(())
    }
}

fn is_copula(text: &str) -> bool {
    text == "is" || text == "are"
}

/// To name a thing is to say what or who it is; "is" then stands first on both sides.
fn same_class(a: Class, b: Class) -> bool {
    let naming =
        |one: Class, other: Class| one == Class::Name && matches!(other, Class::What | Class::Who);
    a == b || naming(a, b) || naming(b, a)
}

/// Two words of the same letters can still be a name and a common word: "Polish", "polish".
fn same_spelling(
    a: &Question,
    x: &Word,
    b: &Question,
    y: &Word,
    likeness: Likeness,
) -> Result<(), Veto> {
    if x.shape == y.shape || likeness != Likeness::Equal || x.is(NUMBERED) {
        return Ok(());
    }
    let (small, capital, small_in, capital_in) = match (x.shape, y.shape) {
        (Shape::Lower, _) => (x, y, a, b),
        (_, Shape::Lower) => (y, x, b, a),
        // Both have a capital: "IT" against "It".
        _ if x.is(CASED) && !x.is_initial() && !y.is_initial() => return Err(Veto::Entity),
        _ => return Ok(()),
    };
    if small.is_initial() || capital.is_initial() || capital_in.case != Case::Telling {
        return Ok(());
    }
    let article = small.after(AFTER_A) && !capital.after(AFTER_A | AFTER_THE);
    if capital.is(CASED) || article || small_in.case == Case::Telling {
        return Err(Veto::Entity);
    }
    Ok(())
}

/// Among units the case can be a factor of a million: mW, MW.
pub(super) fn same_unit(x: &Word, y: &Word) -> Result<(), Veto> {
    let written = x.shape != Shape::Lower && y.shape != Shape::Lower && x.shape != y.shape;
    if written && x.is(UNIT) && y.is(UNIT) { Err(Veto::Number) } else { Ok(()) }
}

/// "breadthf-irst": a slip over the hyphen of a compound.
fn crosses_hyphen(a: &Question, b: &Question, at: usize) -> bool {
    /// Shorter parts make real words too easily.
    const SHORTEST: usize = 4;
    let compound = |question: &Question| {
        let (Some(first), Some(second)) = (question.words().get(at), question.words().get(at + 1))
        else {
            return None;
        };
        let (one, other) = (question.text_of(first), question.text_of(second));
        let joined = second.after(JOINED) && one.len().min(other.len()) >= SHORTEST;
        joined.then(|| format!("{one}-{other}"))
    };
    match (compound(a), compound(b)) {
        (Some(left), Some(right)) => {
            left.is_ascii() && right.is_ascii() && stem::is_swap(&left, &right)
        }
        _ => false,
    }
}
