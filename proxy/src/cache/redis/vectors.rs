//! Vectors of questions in a Redis that has vector sets (8 and later): a set for each scope and
//! embedder, so that no others are ever compared.
//!
//! An element is the key of an answer, without attributes. The question's text, whose it is and
//! whether it may still be given stand in the answer, which is fetched with it: what was dropped leaves
//! no text behind, and no replica gives it. An element without an answer is removed when it is met, or
//! when an insert comes across it; a set expires with the last of its answers.
//!
//! Numbers keep their 32 bits. The 8 that Redis would make of them put cosines of 384 to 1,024 numbers
//! off by up to 0.004, those kept by less than 10⁻⁶; of 384, they take 2.4 KB instead of 1.2 KB.

use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use super::{PREFIX, RESPONSE, Redis, UNHURRIED, Unavailable, generations, name};
use crate::cache::entry::Entry;
use crate::cache::key::{Key, Scope};
use crate::cache::now;
use crate::cache::rows::{VectorError, unit};
use crate::cache::semantic::{CANDIDATES, Embedding, Near};

/// Stands before the name of every set, with the version of what lies there. Names of answers begin
/// otherwise: those are scanned for.
const SETS: &str = "sluicegate:cache:vectors:1:";
/// Elements that each insert comes across, by chance.
const SAMPLE: usize = 5;
/// The time that Redis gives a key that is not there.
const ABSENT: i64 = -2;

/// Whether a Redis has vector sets.
#[derive(Debug, Default)]
pub(super) struct Support {
    /// What it said; nothing before it was asked, and after it failed.
    pub(super) known: Option<bool>,
    /// What the log says.
    told: Option<bool>,
}

/// A vector and the set it belongs to.
#[derive(Debug)]
pub struct Place {
    set: String,
    /// At length 1, its numbers little-endian.
    vector: Vec<u8>,
}

impl Place {
    /// Where a question of `scope` belongs.
    ///
    /// # Errors
    /// When its vector has no direction, or too many dimensions.
    pub fn new(scope: &Scope, embedding: &Embedding) -> Result<Self, VectorError> {
        let vector = unit(&embedding.vector)?.into_iter().flat_map(f32::to_le_bytes).collect();
        let scope = blake3::Hash::from_bytes(*scope).to_hex();
        let embedder = u128::from_be_bytes(embedding.embedder);
        Ok(Self { set: format!("{SETS}{scope}:{embedder:032x}"), vector })
    }
}

/// What lies around a place.
#[derive(Debug, Default)]
pub struct Around {
    /// Questions that were wanted, the nearest first, with their answers.
    pub wanted: Vec<(Near, Entry)>,
    /// Questions that were not.
    pub others: Vec<Near>,
    /// Keys of answers that were wanted and are there no more.
    pub gone: Vec<Key>,
}

impl Redis {
    /// Whether it has vector sets. It is asked once, and again after it failed; `None` while it does not
    /// say.
    pub async fn has_vectors(&self) -> Option<bool> {
        if let Some(known) = self.support.lock().known {
            return Some(known);
        }
        // Nothing is near in a set that is not there.
        let mut search = redis::cmd("VSIM");
        search.arg(format!("{SETS}none")).arg("VALUES").arg(1).arg(1);
        let has = self.ask(RESPONSE, async |link| {
            let found: RedisResult<Value> = search.query_async(link).await;
            match found {
                Ok(_) => Ok(true),
                Err(cause) if is_unable(&cause) => Ok(false),
                Err(cause) => Err(cause),
            }
        });
        let has = has.await.ok()?;
        let told = {
            let mut support = self.support.lock();
            support.known = Some(has);
            support.told.replace(has)
        };
        match (told, has) {
            (Some(true), true) | (Some(false), false) => {}
            (_, true) => tracing::info!("vectors are kept in the cache's Redis"),
            (_, false) => tracing::warn!(
                "this Redis has no vector sets (needs Redis 8); vectors are kept in memory"
            ),
        }
        Some(has)
    }

    /// It may be another Redis than the one that was asked, behind the same address.
    pub(super) fn doubt_vectors(&self, refusal: &RedisError) {
        if is_unable(refusal) {
            self.support.lock().known = None;
        }
    }

    /// What lies around `place`, with the answers of `owner` by `model` to what is `wanted` of it. One
    /// wait for two round trips at most.
    ///
    /// # Errors
    /// When Redis gave no answer in time, or has vectors of another length there.
    pub async fn near(
        &self,
        place: &Place,
        (owner, model): (&str, &str),
        wanted: impl Fn(Near) -> bool,
    ) -> Result<Around, Unavailable> {
        let mut search = redis::cmd("VSIM");
        search.arg(&place.set).arg("FP32").arg(&place.vector);
        search.arg("WITHSCORES").arg("COUNT").arg(CANDIDATES);
        self.ask(RESPONSE, async |link| {
            let found: Vec<(Vec<u8>, f64)> = search.query_async(link).await?;
            let found = found.iter().filter_map(neighbour);
            let (likely, others): (Vec<Near>, Vec<Near>) = found.partition(|near| wanted(*near));
            let mut around = Around { others, ..Around::default() };
            if likely.is_empty() {
                return Ok(around);
            }
            let names: Vec<String> = likely.iter().map(|near| name(&near.key)).collect();
            let mut both = Pipeline::with_capacity(2);
            both.add_command(Cmd::mget(names)).add_command(generations(owner, model));
            let (answers, numbers): (Vec<Option<Vec<u8>>>, [Option<u64>; 3]) =
                both.query_async(link).await?;
            let generation = numbers.map(Option::unwrap_or_default);
            for (near, bytes) in likely.into_iter().zip(answers) {
                let entry = bytes.and_then(|bytes| Entry::decode(near.key, &bytes).ok());
                match entry.filter(|entry| entry.facts.generation == generation) {
                    Some(entry) if entry.is_fresh(now()) => around.wanted.push((near, entry)),
                    // Redis itself says when it is gone, for all clocks.
                    Some(_) => {}
                    None => around.gone.push(near.key),
                }
            }
            Ok(around)
        })
        .await
    }

    /// Adds the vector of `entry`, or replaces it. A few others are looked at: those without an answer
    /// go, and where there are more than `entries`, the first to expire.
    ///
    /// # Errors
    /// When Redis did not take it in time: it may be gone or full, or has vectors of another length
    /// there.
    pub async fn add_vector(
        &self,
        place: &Place,
        entry: &Entry,
        entries: usize,
    ) -> Result<(), Unavailable> {
        let (set, key, ttl) = (&place.set, entry.key.to_string(), entry.facts.ttl.max(1));
        let mut add = Pipeline::with_capacity(5);
        // `CAS` has its neighbours looked for on another of Redis's threads.
        add.cmd("VADD").arg(set).arg("FP32").arg(&place.vector).arg(&key);
        add.arg("CAS").arg("NOQUANT").ignore();
        // Only ever later: when the longest-lived of its answers expires.
        for when in ["NX", "GT"] {
            add.cmd("EXPIRE").arg(set).arg(ttl).arg(when).ignore();
        }
        add.cmd("VCARD").arg(set);
        add.cmd("VRANDMEMBER").arg(set).arg(SAMPLE);
        let (count, mut sample): (usize, Vec<Vec<u8>>) =
            self.ask(UNHURRIED, async |link| add.query_async(link).await).await?;
        sample.retain(|element| element != key.as_bytes());
        self.thin(set, sample, count.saturating_sub(entries)).await
    }

    /// Removes those of `sample` that have no answer, and `over` in all where they are as many.
    async fn thin(&self, set: &str, sample: Vec<Vec<u8>>, over: usize) -> Result<(), Unavailable> {
        if sample.is_empty() {
            return Ok(());
        }
        let mut times = Pipeline::with_capacity(sample.len());
        for element in &sample {
            times.cmd("TTL").arg([PREFIX.as_bytes(), element].concat());
        }
        let left: Vec<i64> =
            self.ask(UNHURRIED, async |link| times.query_async(link).await).await?;
        let mut sample: Vec<(i64, Vec<u8>)> = left.into_iter().zip(sample).collect();
        sample.sort_unstable();
        let gone = sample.iter().take_while(|(left, _)| *left == ABSENT).count();
        sample.truncate(gone.max(over));
        self.remove(set, sample.into_iter().map(|(_, element)| element)).await
    }

    /// Removes vectors whose answers are gone from the set of `place`.
    ///
    /// # Errors
    /// When Redis did not do it in time.
    pub async fn drop_vectors(&self, place: &Place, keys: &[Key]) -> Result<(), Unavailable> {
        self.remove(&place.set, keys.iter().map(|key| key.to_string().into_bytes())).await
    }

    async fn remove(
        &self,
        set: &str,
        elements: impl Iterator<Item = Vec<u8>>,
    ) -> Result<(), Unavailable> {
        let mut all = Pipeline::new();
        for element in elements {
            all.cmd("VREM").arg(set).arg(element).ignore();
        }
        if all.is_empty() {
            return Ok(());
        }
        self.ask(UNHURRIED, async |link| all.query_async(link).await).await
    }
}

/// What a Redis says that has no vector sets, or does not let us use them. One that is busy, as with
/// loading, says something else.
fn is_unable(cause: &RedisError) -> bool {
    match cause.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm) => true,
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            cause.to_string().contains("unknown command")
        }
        _ => false,
    }
}

/// One that a search found. Its score is half of the sum of 1 and the cosine.
fn neighbour((element, score): &(Vec<u8>, f64)) -> Option<Near> {
    let key = Key::parse(std::str::from_utf8(element).ok()?)?;
    Some(Near { key, similarity: 2.0 * score - 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(scope: u8, embedder: u8, vector: &[f32]) -> Result<Place, VectorError> {
        Place::new(&[scope; 32], &Embedding { embedder: [embedder; 16], vector: vector.into() })
    }

    #[test]
    fn each_scope_and_embedder_has_a_set_and_no_set_looks_like_an_answer() {
        let set = |scope, embedder| place(scope, embedder, &[3.0, 4.0]).expect("a place").set;
        let all = [set(1, 1), set(1, 2), set(2, 1)];
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
        assert!(all.iter().all(|set| set.starts_with(SETS) && !set.starts_with(PREFIX)));
        assert_eq!(set(1, 1), set(1, 1));
    }

    #[test]
    fn vectors_are_sent_at_length_1_and_those_without_a_direction_are_not() {
        let bytes: Vec<u8> = [0.6_f32, 0.8].into_iter().flat_map(f32::to_le_bytes).collect();
        assert_eq!(place(1, 1, &[3.0, 4.0]).expect("a place").vector, bytes);
        for wrong in [&[][..], &[0.0, 0.0], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0]] {
            assert!(place(1, 1, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_score_is_read_as_a_cosine_and_garbage_is_nobody() {
        let key = Key([7; 32]);
        let read = |element: &str, score| neighbour(&(element.as_bytes().to_vec(), score));
        for (score, cosine) in [(1.0, 1.0), (0.975, 0.95), (0.5, 0.0), (0.0, -1.0)] {
            let near = read(&key.to_string(), score).expect("one");
            assert_eq!(near.key, key);
            assert!((near.similarity - cosine).abs() < 1e-12);
        }
        assert!(read("x", 1.0).is_none() && neighbour(&(vec![0xff; 64], 1.0)).is_none());
    }
}
