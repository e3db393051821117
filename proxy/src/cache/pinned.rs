//! Questions whose answers an operator wrote.

use std::sync::Arc;

use parking_lot::Mutex;

use super::answer::{Answer, Form};
use super::entry::{Entry, Facts};
use super::key::{Key, Scope};
use super::lexical::{Index, Question};
use crate::config::cache::PinnedConfig;
use crate::config::glob;

/// They stand apart from everything that was generated.
const SCOPE: Scope = *b"answers that an operator wrote: ";

/// The questions.
#[derive(Debug)]
pub struct Pinned {
    answers: Vec<PinnedConfig>,
    index: Mutex<Index<(usize, usize)>>,
}

impl Pinned {
    /// The questions of `answers`; `None` when there are none.
    #[must_use]
    pub fn new(answers: &[PinnedConfig]) -> Option<Self> {
        let questions = answers.iter().enumerate().flat_map(|(number, pinned)| {
            let fit = |text: &String| Question::analyse(text).ok();
            let all = pinned.questions.iter().map(fit).enumerate();
            all.filter_map(move |(place, question)| Some(((number, place), question?)))
        });
        let questions: Vec<_> = questions.collect();
        if questions.is_empty() {
            return None;
        }
        let mut index = Index::new(questions.len());
        for (key, question) in questions {
            index.insert(SCOPE, question, key);
        }
        Some(Self { answers: answers.to_vec(), index: Mutex::new(index) })
    }

    /// The answer to `text`, asked of `model`, as an entry stored at `now`.
    #[must_use]
    pub fn find(&self, text: &str, model: &str, now: u64) -> Option<Entry> {
        let question = Question::analyse(text).ok()?;
        let fits = |(number, _): &(usize, usize)| {
            let models = &self.answers[*number].models;
            models.is_empty() || models.iter().any(|pattern| glob::matches(pattern, model))
        };
        let (number, place) = self.index.lock().find(&SCOPE, &question, fits).hit()?;
        let pinned = &self.answers[number];
        let asked = pinned.questions[place].clone();
        let key = Key::new(&SCOPE, Some(&asked));
        let facts = Facts {
            id: key,
            scope: SCOPE,
            owner: Arc::default(),
            endpoint: "".into(),
            upstream: Arc::default(),
            model: model.into(),
            question: Some(asked),
            stored: now,
            ttl: 0,
            took_ms: 0,
            generation: [0; 3],
        };
        Some(Entry::new(key, facts, Answer::of_text(Form::Chat, model, &pinned.answer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_answer_is_found_in_other_words_for_its_models() {
        let pinned = Pinned::new(&[PinnedConfig {
            questions: vec!["How do I reset my password?".into()],
            answer: "Ask Ann.".into(),
            models: vec!["help*".into()],
        }])
        .expect("questions");
        let found = pinned.find("how can i reset my password", "helper", 7).expect("found");
        assert_eq!(found.answer.text(), "Ask Ann.");
        assert!(pinned.find("how can i reset my password", "other", 7).is_none());
        assert!(pinned.find("How do I reset your password?", "helper", 7).is_none());
        assert!(Pinned::new(&[]).is_none());
    }
}
