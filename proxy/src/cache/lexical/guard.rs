//! The guard: what forbids to answer one question with the answer to another, however near the two
//! are to each other by embedding. "A to B" against "B to A" scores .99 there, a negation .96.
//!
//! It looks for reasons against, never for reasons in favour: two texts without a veto need not be
//! the same question.

mod difference;
mod rules;

use super::align::aligned;
use super::question::Question;
use difference::Difference;

/// Why a stored answer may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Veto {
    /// Numbers, ordinals or units differ.
    Number,
    /// One is negated, or narrowed by "only", and the other is not.
    Negation,
    /// A word faces its opposite.
    Antonym,
    /// A name, an acronym or the thing asked about differs.
    Entity,
    /// The same words in another order, or from and to swapped.
    Order,
    /// Operators and other signs differ.
    Symbol,
    /// Quoted strings differ.
    Quote,
    /// Mine against yours, his against hers.
    Person,
    /// Another kind of question, tense or modal verb.
    Class,
    /// One is less than 0.4 times as long as the other.
    Length,
    /// The words differ. From the guard only for texts that are not English.
    Words,
}

impl Veto {
    /// Every veto, for registering metrics.
    pub const ALL: [Veto; 11] = [
        Veto::Number,
        Veto::Negation,
        Veto::Antonym,
        Veto::Entity,
        Veto::Order,
        Veto::Symbol,
        Veto::Quote,
        Veto::Person,
        Veto::Class,
        Veto::Length,
        Veto::Words,
    ];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Veto::Number => "number",
            Veto::Negation => "negation",
            Veto::Antonym => "antonym",
            Veto::Entity => "entity",
            Veto::Order => "order",
            Veto::Symbol => "symbol",
            Veto::Quote => "quote",
            Veto::Person => "person",
            Veto::Class => "class",
            Veto::Length => "length",
            Veto::Words => "words",
        }
    }
}

/// Looks for a reason against answering `asked` with what was answered to `stored`.
///
/// # Errors
/// The reason.
pub fn guard(asked: &Question, stored: &Question) -> Result<(), Veto> {
    if !asked.english || !stored.english {
        return whole(asked, stored);
    }
    match aligned(asked, stored) {
        Ok(()) => Ok(()),
        // Other words or another class are for the rules to judge.
        Err(Veto::Words | Veto::Class) => against(asked, stored),
        Err(veto) => Err(veto),
    }
}

/// The vetoes alone, for two English questions that are known to differ in their words.
pub(super) fn against(asked: &Question, stored: &Question) -> Result<(), Veto> {
    let difference = Difference::between(asked, stored);
    rules::length(asked, stored)?;
    rules::exact_kinds(&difference)?;
    rules::numbers(asked, stored)?;
    rules::units(&difference)?;
    rules::negation(asked, stored)?;
    rules::person(asked, stored)?;
    rules::class(asked, stored)?;
    rules::antonyms(&difference)?;
    rules::entities(&difference)?;
    rules::order(&difference)?;
    rules::function_words(&difference)?;
    rules::substitution(&difference)
}

/// Without word lists only the whole text counts.
pub(super) fn whole(asked: &Question, stored: &Question) -> Result<(), Veto> {
    let equal = asked.english == stored.english && asked.text() == stored.text();
    if equal { Ok(()) } else { Err(Veto::Words) }
}
