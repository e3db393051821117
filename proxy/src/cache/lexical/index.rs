//! An index of questions by what they ask: bounded, least recently used out first, and strictly
//! apart by scope.
//!
//! A question is filed under a hash that is the same for all questions the gate may take for it
//! ([`super::signature`]), so that a look-up is one probe and the gate on the few found there. A
//! second, coarser hash leads to near misses; they are only counted.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::gate::{accepts, gate};
use super::guard::Veto;
use super::question::Question;

/// Questions under one hash that are tried, newest first: a bound on the time of a look-up.
const MAX_TRIED: usize = 32;
/// Near misses that are looked at for their vetoes.
const MAX_NEAR: usize = 2;
/// Longer questions have no near misses looked for: to compare them takes too long.
const MAX_WORDS: usize = 40;

type Slot = usize;
/// A scope and a hash within it.
type Place = ([u8; 32], u64);

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<K> {
    /// The key of a question that asks the same, and that the caller accepted.
    Hit(K),
    /// None; with the vetoes met among close candidates, for metrics.
    Miss(Vec<Veto>),
}

impl<K> Found<K> {
    /// The key, if there was a hit.
    pub fn hit(self) -> Option<K> {
        match self {
            Found::Hit(key) => Some(key),
            Found::Miss(_) => None,
        }
    }
}

#[derive(Debug)]
struct Entry<K> {
    scope: [u8; 32],
    question: Question,
    key: K,
    /// When it was last used, in look-ups and insertions of this index.
    used: u64,
}

impl<K> Entry<K> {
    /// The places under which it is filed for look-up: one, or two if it has compounds.
    fn places(&self) -> impl Iterator<Item = Place> + use<K> {
        let signature = self.question.signature;
        let joined = (signature.joined != signature.words).then_some(signature.joined);
        let scope = self.scope;
        std::iter::once(signature.words).chain(joined).map(move |hash| (scope, hash))
    }
}

/// Questions by what they ask. The caller locks, counts time and holds the answers.
#[derive(Debug)]
pub struct Index<K> {
    capacity: usize,
    clock: u64,
    slots: Vec<Option<Entry<K>>>,
    free: Vec<Slot>,
    keys: HashMap<K, Slot>,
    /// Slots by last use.
    recent: BTreeMap<u64, Slot>,
    filed: HashMap<Place, Vec<Slot>>,
    near: HashMap<Place, Vec<Slot>>,
}

impl<K: Clone + Eq + Hash> Index<K> {
    /// An empty index for at most `capacity` questions.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            clock: 0,
            slots: Vec::new(),
            free: Vec::new(),
            keys: HashMap::new(),
            recent: BTreeMap::new(),
            filed: HashMap::new(),
            near: HashMap::new(),
        }
    }

    /// Files `question` under `key`, in place of what had that key. At capacity the least recently
    /// used question goes.
    pub fn insert(&mut self, scope: [u8; 32], question: Question, key: K) {
        if self.capacity == 0 {
            return;
        }
        self.remove(&key);
        if self.keys.len() >= self.capacity
            && let Some((_, oldest)) = self.recent.pop_first()
        {
            self.release(oldest);
        }
        self.clock += 1;
        let entry = Entry { scope, question, key: key.clone(), used: self.clock };
        let slot = self.free.pop().unwrap_or(self.slots.len());
        for place in entry.places() {
            self.filed.entry(place).or_default().push(slot);
        }
        self.near.entry((scope, entry.question.signature.loose)).or_default().push(slot);
        self.recent.insert(self.clock, slot);
        self.keys.insert(key, slot);
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(entry),
            None => self.slots.push(Some(entry)),
        }
    }

    /// Looks in `scope` for a question that asks the same as `asked` and whose key the caller
    /// accepts (it is not expired, and the answer is still there).
    pub fn find(
        &mut self,
        scope: &[u8; 32],
        asked: &Question,
        mut accept: impl FnMut(&K) -> bool,
    ) -> Found<K> {
        let signature = asked.signature;
        let mut near: Vec<Slot> = Vec::new();
        for hash in [signature.words, signature.joined] {
            let filed = self.filed.get(&(*scope, hash)).map_or(&[][..], Vec::as_slice);
            for slot in filed.iter().rev().take(MAX_TRIED).copied() {
                let Some(entry) = self.slots.get(slot).and_then(Option::as_ref) else { continue };
                if !accepts(asked, &entry.question) {
                    near.push(slot);
                } else if accept(&entry.key) {
                    let key = entry.key.clone();
                    self.touch(slot);
                    return Found::Hit(key);
                }
            }
            if signature.joined == signature.words {
                break;
            }
        }
        Found::Miss(self.vetoes(near, scope, asked))
    }

    /// Why the closest candidates were refused: a look at a few, since only metrics want it.
    fn vetoes(&self, mut near: Vec<Slot>, scope: &[u8; 32], asked: &Question) -> Vec<Veto> {
        if near.is_empty()
            && asked.words().len() <= MAX_WORDS
            && let Some(filed) = self.near.get(&(*scope, asked.signature.loose))
        {
            near.extend(filed.iter().rev().take(MAX_NEAR));
        }
        let mut vetoes = Vec::new();
        for slot in near.into_iter().take(MAX_NEAR) {
            if let Some(entry) = self.slots.get(slot).and_then(Option::as_ref)
                && let Err(veto) = gate(asked, &entry.question)
                && !vetoes.contains(&veto)
            {
                vetoes.push(veto);
            }
        }
        vetoes
    }

    /// Forgets a key. `false` if it was not there.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(slot) = self.keys.get(key).copied() else { return false };
        if let Some(entry) = self.slots.get(slot).and_then(Option::as_ref) {
            self.recent.remove(&entry.used);
        }
        self.release(slot);
        true
    }

    /// How many questions it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.capacity);
    }

    /// Makes a question the most recently used.
    fn touch(&mut self, slot: Slot) {
        let Some(entry) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        self.clock += 1;
        self.recent.remove(&entry.used);
        entry.used = self.clock;
        self.recent.insert(self.clock, slot);
    }

    /// Empties a slot that is no longer in `recent`, and takes it off every list.
    fn release(&mut self, slot: Slot) {
        let Some(entry) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        for place in entry.places() {
            unfile(&mut self.filed, place, slot);
        }
        unfile(&mut self.near, (entry.scope, entry.question.signature.loose), slot);
        self.keys.remove(&entry.key);
        self.free.push(slot);
    }
}

fn unfile(lists: &mut HashMap<Place, Vec<Slot>>, place: Place, slot: Slot) {
    let Some(list) = lists.get_mut(&place) else { return };
    if let Some(at) = list.iter().position(|filed| *filed == slot) {
        list.remove(at);
    }
    if list.is_empty() {
        lists.remove(&place);
    }
}

#[cfg(test)]
mod tests;
