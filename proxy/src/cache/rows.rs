//! The vectors of one process and the search for the nearest: brute force over the rows of one scope
//! and one embedder, which is all a request may be compared with.
//!
//! A row takes 2 bytes a number: 8 bits for the scan and 8 more for the score. Cosines are exact to
//! 16-bit rows, an error of some 10⁻⁵, and the best by that score are always found (see
//! `rows/matrix.rs`).
//!
//! Invariant: vectors of different scopes, embedders or dimensions are never compared.

mod matrix;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use self::matrix::{Matrix, Query};

/// The hard partition a request belongs to, a hash.
pub type Scope = [u8; 32];
/// Which embedder made a vector, a hash.
pub type EmbedderId = [u8; 16];

/// More dimensions than any embedder has.
pub const MAX_DIMENSIONS: usize = 16_384;
/// How many forgotten rows the order of eviction may remember beyond as many as there are rows.
const SLACK: usize = 64;

/// Why a vector was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// It has no direction: empty, all zero, or some number is not finite.
    #[error("the vector has no direction")]
    Direction,
    /// It is longer than [`MAX_DIMENSIONS`].
    #[error("the vector has more than {MAX_DIMENSIONS} dimensions")]
    TooLong,
    /// The rows of this embedder have another number of dimensions.
    #[error("the vector has {found} dimensions, those of its embedder have {expected}")]
    Dimensions {
        /// Of the rows.
        expected: usize,
        /// Of the vector.
        found: usize,
    },
}

/// The rows of all scopes.
#[derive(Debug)]
pub struct Rows<K> {
    entries: usize,
    groups: HashMap<Group, Members<K>>,
    places: HashMap<K, Place>,
    /// Keys as they were inserted, oldest first. A key removed or replaced since then stays until it
    /// comes to the front or there are too many: its place then has another number, or none.
    order: VecDeque<(u64, K)>,
    inserted: u64,
}

type Group = (Scope, EmbedderId);

/// The rows that may be compared with each other.
#[derive(Debug)]
struct Members<K> {
    matrix: Matrix,
    /// Whose row it is.
    keys: Vec<K>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    group: Group,
    row: usize,
    inserted: u64,
}

impl<K: Clone + Eq + Hash> Rows<K> {
    /// No rows, and never more than `entries`, which is at least 1.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        Self {
            entries: entries.max(1),
            groups: HashMap::new(),
            places: HashMap::new(),
            order: VecDeque::new(),
            inserted: 0,
        }
    }

    /// Rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Memory that is held, in bytes, about: without what the keys themselves point to.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let members = |members: &Members<K>| {
            members.matrix.bytes() + members.keys.capacity() * size_of::<K>()
        };
        self.groups.values().map(members).sum::<usize>()
            + self.groups.capacity() * size_of::<(Group, Members<K>)>()
            + self.places.capacity() * size_of::<(K, Place)>()
            + self.order.capacity() * size_of::<(u64, K)>()
    }

    /// Adds a row, or replaces that of the key; the row that had to go for it, the oldest.
    ///
    /// The vector need not be normalised.
    ///
    /// # Errors
    /// When the vector is refused; nothing has changed then.
    pub fn insert(
        &mut self,
        scope: Scope,
        embedder: EmbedderId,
        vector: &[f32],
        key: K,
    ) -> Result<Option<K>, VectorError> {
        let unit = unit(vector)?;
        let group = (scope, embedder);
        if let Some(members) = self.groups.get(&group) {
            members.matrix.fits(unit.len())?;
        }
        self.remove(&key);
        let evicted = if self.len() >= self.entries { self.evict() } else { None };
        let members = self
            .groups
            .entry(group)
            .or_insert_with(|| Members { matrix: Matrix::new(unit.len()), keys: Vec::new() });
        members.matrix.push(&unit);
        let row = members.keys.len();
        members.keys.push(key.clone());
        self.inserted += 1;
        self.order.push_back((self.inserted, key.clone()));
        self.places.insert(key, Place { group, row, inserted: self.inserted });
        self.tidy();
        Ok(evicted)
    }

    /// Removes the row of a key; whether there was one.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(place) = self.places.remove(key) else { return false };
        let Some(members) = self.groups.get_mut(&place.group) else { return false };
        members.matrix.swap_remove(place.row);
        members.keys.swap_remove(place.row);
        if let Some(moved) = members.keys.get(place.row).and_then(|key| self.places.get_mut(key)) {
            moved.row = place.row;
        }
        if members.keys.is_empty() {
            self.groups.remove(&place.group);
        } else if members.keys.len() * 4 < members.keys.capacity() {
            members.keys.shrink_to(members.keys.len() * 2);
            members.matrix.shrink();
        }
        true
    }

    /// The rows nearest to a vector, at most `count`, best first, each with its cosine.
    ///
    /// # Errors
    /// When the vector is refused. A scope or an embedder without rows is an empty answer.
    pub fn nearest(
        &self,
        scope: Scope,
        embedder: EmbedderId,
        vector: &[f32],
        count: usize,
    ) -> Result<Vec<(K, f32)>, VectorError> {
        let unit = unit(vector)?;
        let Some(members) = self.groups.get(&(scope, embedder)) else { return Ok(Vec::new()) };
        members.matrix.fits(unit.len())?;
        let found = members.matrix.nearest(&Query::new(&unit), count);
        let named = found
            .into_iter()
            .filter_map(|(row, cosine)| members.keys.get(row).map(|key| (key.clone(), cosine)));
        Ok(named.collect())
    }

    fn evict(&mut self) -> Option<K> {
        while let Some((inserted, key)) = self.order.pop_front() {
            if self.is_current(inserted, &key) {
                self.remove(&key);
                return Some(key);
            }
        }
        None
    }

    /// Forgets the order of rows that are gone, once they are the most of it.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.places.len() + SLACK {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|(inserted, key)| self.is_current(*inserted, key));
            self.order = order;
        }
    }

    fn is_current(&self, inserted: u64, key: &K) -> bool {
        self.places.get(key).is_some_and(|place| place.inserted == inserted)
    }
}

/// The vector at length 1.
///
/// # Errors
/// When it is too long, or has no direction.
pub fn unit(vector: &[f32]) -> Result<Vec<f32>, VectorError> {
    if vector.len() > MAX_DIMENSIONS {
        return Err(VectorError::TooLong);
    }
    // In 64 bits: the square of a large finite number is not finite in 32.
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err(VectorError::Direction);
    }
    Ok(vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}
