//! Which answers are listed or dropped together.

use super::entry::Facts;

/// Some answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selection {
    /// All.
    All,
    /// Those of one owner.
    Owner(String),
    /// Those one model gave.
    Model(String),
}

impl Selection {
    /// The selections that the answers of `owner` by `model` are in.
    #[must_use]
    pub fn of(owner: &str, model: &str) -> [Self; 3] {
        [Selection::All, Selection::Owner(owner.to_owned()), Selection::Model(model.to_owned())]
    }

    /// Whether an answer is in it.
    #[must_use]
    pub fn has(&self, facts: &Facts) -> bool {
        self.has_answers_of(&facts.owner, &facts.model)
    }

    /// Whether answers of `owner` by `model` are in it.
    #[must_use]
    pub fn has_answers_of(&self, owner: &str, model: &str) -> bool {
        match self {
            Selection::All => true,
            Selection::Owner(wanted) => wanted == owner,
            Selection::Model(wanted) => wanted == model,
        }
    }

    /// Its name where generations are kept.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Selection::All => "all".into(),
            Selection::Owner(owner) => format!("owner:{owner}"),
            Selection::Model(model) => format!("model:{model}"),
        }
    }
}
