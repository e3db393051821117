//! Questions that were asked before in other words, and those that were found wrongly.
//!
//! What is found here is a key; the answer itself is looked for under it like any other, so that
//! nothing dropped or stale can be given.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::key::{Key, Scope};
use super::lexical::{Found, Index, Question};

/// Pairs of questions that are remembered as not meaning the same.
const MAX_BLAMED: usize = 10_000;
/// Hits that are remembered, in case one is blamed.
const MAX_GIVEN: usize = 10_000;

/// The questions of a cache.
#[derive(Debug)]
pub struct Similar {
    /// Whether any are found by their words.
    by_words: bool,
    index: Mutex<Index<Key>>,
    blamed: Mutex<Pairs>,
    given: Mutex<Pairs>,
}

/// Pairs of keys with their similarity, the oldest of which are forgotten.
#[derive(Debug)]
struct Pairs {
    most: usize,
    known: HashMap<(Key, Key), f64>,
    order: VecDeque<(Key, Key)>,
}

/// Why no question was found.
pub type Reason = &'static str;

impl Similar {
    /// Room for `entries` questions to be found by their words.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self {
            by_words: entries > 0,
            index: Mutex::new(Index::new(entries)),
            blamed: Mutex::new(Pairs::new(MAX_BLAMED)),
            given: Mutex::new(Pairs::new(MAX_GIVEN)),
        }
    }

    /// Remembers that `text` was asked in `scope`, and is answered under `key`.
    pub fn remember(&self, scope: Scope, text: &str, key: Key) {
        // What cannot be asked in other words is only found by its own.
        if self.by_words
            && let Ok(question) = Question::analyse(text)
        {
            self.index.lock().insert(scope, question, key);
        }
    }

    /// A question of `scope` with the same words as `text`, whose own key is `asked`.
    ///
    /// # Errors
    /// Why there is none: what the text is, or the first veto against the likeliest.
    pub fn find(&self, scope: &Scope, text: &str, asked: Key) -> Result<Key, Reason> {
        let question = Question::analyse(text).map_err(|unfit| unfit.as_str())?;
        let innocent = |key: &Key| !self.is_blamed(asked, *key);
        match self.index.lock().find(scope, &question, innocent) {
            Found::Hit(key) => Ok(key),
            Found::Miss(vetoes) => Err(vetoes.first().map_or("absent", |veto| veto.as_str())),
        }
    }

    /// Notes that the answer under `key` was given to the question of `asked`, this like it.
    pub fn given(&self, asked: Key, key: Key, similarity: f64) {
        self.given.lock().add((asked, key), similarity);
    }

    /// Whether the answer under `key` was wrong for the question of `asked`.
    #[must_use]
    pub fn is_blamed(&self, asked: Key, key: Key) -> bool {
        self.blamed.lock().known.contains_key(&(asked, key))
    }

    /// Forgets the question under `key`.
    pub fn forget(&self, key: &Key) {
        self.index.lock().remove(key);
    }

    /// The answer under `key` was wrong: it is not given again to the questions it was given to.
    /// Gives these, and the greatest similarity of one.
    pub fn blame(&self, key: Key) -> (Vec<Key>, f64) {
        let pairs = self.given.lock().with(key);
        let asked: Vec<Key> = pairs.iter().map(|((asked, _), _)| *asked).collect();
        let similarity = pairs.into_iter().map(|(_, similarity)| similarity).fold(0.0, f64::max);
        self.blame_for(key, &asked, similarity);
        (asked, similarity)
    }

    /// The answer under `key` was wrong for the questions of `asked`.
    pub fn blame_for(&self, key: Key, asked: &[Key], similarity: f64) {
        let mut blamed = self.blamed.lock();
        asked.iter().for_each(|one| blamed.add((*one, key), similarity));
    }

    /// Questions remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.lock().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Pairs {
    fn new(most: usize) -> Self {
        Self { most, known: HashMap::new(), order: VecDeque::new() }
    }

    fn add(&mut self, pair: (Key, Key), similarity: f64) {
        if self.known.insert(pair, similarity).is_some() {
            return;
        }
        self.order.push_back(pair);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Those whose second is `key`.
    fn with(&self, key: Key) -> Vec<((Key, Key), f64)> {
        let wanted = self.known.iter().filter(|((_, given), _)| *given == key);
        wanted.map(|(pair, similarity)| (*pair, *similarity)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope = [1; 32];

    fn key(text: &str) -> Key {
        Key::new(&SCOPE, Some(text))
    }

    #[test]
    fn a_question_is_found_in_other_words_within_its_scope() {
        let similar = Similar::new(10);
        let stored = "What is the capital of France?";
        similar.remember(SCOPE, stored, key(stored));
        let asked = "Could you please tell me what the capital of France is?";
        assert_eq!(similar.find(&SCOPE, asked, key(asked)), Ok(key(stored)));
        assert_eq!(similar.find(&[2; 32], asked, key(asked)), Err("absent"));
        let other = "What is the capital of Spain?";
        assert!(similar.find(&SCOPE, other, key(other)).is_err());
        similar.forget(&key(stored));
        assert_eq!(similar.find(&SCOPE, asked, key(asked)), Err("absent"));
    }

    #[test]
    fn a_blamed_hit_is_not_given_again_to_that_question_only() {
        let similar = Similar::new(10);
        let stored = "What is the capital of France?";
        similar.remember(SCOPE, stored, key(stored));
        let asked = "what's the capital of France";
        let other = "What is France's capital?";
        assert_eq!(similar.find(&SCOPE, asked, key(asked)), Ok(key(stored)));
        similar.given(key(asked), key(stored), 0.97);
        assert_eq!(similar.blame(key(stored)), (vec![key(asked)], 0.97));
        assert!(similar.find(&SCOPE, asked, key(asked)).is_err());
        assert_eq!(similar.find(&SCOPE, other, key(other)), Ok(key(stored)));
    }

    #[test]
    fn pairs_are_bounded() {
        let mut pairs = Pairs::new(2);
        let pair = |text: &str| (key(text), key("same"));
        ["a", "b", "b", "c"].into_iter().for_each(|text| pairs.add(pair(text), 1.0));
        let has = |text| pairs.known.contains_key(&pair(text));
        assert!(!has("a") && has("b") && has("c"));
        assert_eq!(pairs.with(key("same")).len(), 2);
    }
}
