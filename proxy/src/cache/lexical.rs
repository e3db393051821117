//! Whether two questions are the same, by their words alone.
//!
//! A [`Question`] is a text brought into canonical form, once. The [`gate`] accepts two of them
//! only if nothing that carries meaning differs; the [`guard`] is the set of vetoes by which a
//! candidate that an embedding found is re-checked; an [`Index`] finds the questions that the gate
//! may accept. All of it can turn a hit into a miss, never the reverse, and it knows English only:
//! texts in other languages match when they are equal.
//!
//! | module | what |
//! |---|---|
//! | `token` | cuts a text into words, numbers, symbols, quotes |
//! | `words` | the word lists |
//! | `normalise` | strips politeness, unifies numbers |
//! | `frame` | class of the question, canonical order |
//! | `stem` | plural, inflection, slips of the keys |
//! | `question` | puts these together |
//! | `align` | same words in the same order |
//! | `guard`, `gate` | the two verdicts |
//! | `signature`, `index` | finding candidates |
//! | `eval` | figures on labelled pairs |

mod align;
pub mod eval;
mod frame;
mod gate;
mod guard;
mod index;
mod normalise;
mod question;
mod signature;
mod stem;
mod token;
mod words;

pub use eval::wilson;
pub use gate::gate;
pub use guard::{Veto, guard};
pub use index::{Found, Index};
pub use question::{Question, Unfit};

#[cfg(test)]
mod tests;
