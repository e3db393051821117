//! Where the vectors of questions lie: in this process, or in the Redis that replicas share, where the
//! configuration wants it and that Redis can. What is found there is judged here like any other.

use std::sync::Arc;

use super::entry::Entry;
use super::key::{Key, Scope};
use super::redis::vectors::Place;
use super::redis::{Redis, Unavailable};
use super::search::Asking;
use super::semantic::{Embedding, Near, Semantic};
use super::similar::Reason;
use super::{Cache, Store, failed_write};
use crate::config::cache::Vectors;

impl Cache {
    /// The Redis that has the vectors; `None` where this process has them.
    pub(super) async fn vectors(&self) -> Result<Option<&Redis>, Reason> {
        let wanted = self.config.semantic.as_ref().map(|semantic| semantic.vectors);
        match (&*self.store, wanted) {
            (Store::Redis(redis), Some(Vectors::Redis)) => match redis.has_vectors().await {
                Some(has) => Ok(has.then_some(redis)),
                // What could be found here lies there too.
                None => Err("redis"),
            },
            _ => Ok(None),
        }
    }

    /// Remembers the vector of `entry`; gives it back where other replicas are to be told it.
    pub(super) async fn remember_vector(
        &self,
        scope: Scope,
        entry: &Entry,
        embedding: Embedding,
    ) -> Option<Embedding> {
        let (semantic, config) = (self.semantic.as_ref()?, self.config.semantic.as_ref()?);
        match self.vectors().await {
            Ok(None) => {
                semantic.remember(scope, entry, &embedding);
                return Some(embedding);
            }
            Ok(Some(redis)) => {
                // One without a direction is like nothing.
                let place = Place::new(&scope, &embedding).ok()?;
                if redis.add_vector(&place, entry, config.entries).await.is_err() {
                    failed_write("redis");
                }
            }
            Err(reason) => failed_write(reason),
        }
        None
    }

    /// Questions that ask the same among those whose vectors lie in Redis, with their answers.
    pub(super) async fn in_redis(
        &self,
        redis: &Redis,
        semantic: &Semantic,
        question: &Asking<'_>,
        (embedding, least): (&Embedding, f64),
    ) -> Result<Vec<(Near, Option<Arc<Entry>>)>, Reason> {
        let place = Place::new(question.scope, embedding).map_err(|_| "embedder_failed")?;
        let whose = (question.owner, question.model);
        let wanted = |near| semantic.is_like(near, least);
        let around = redis.near(&place, whose, wanted).await.map_err(|Unavailable| "redis")?;
        self.drop_vectors(place, around.gone);
        let texts = around
            .wanted
            .iter()
            .filter_map(|(near, entry)| entry.facts.question.as_deref().map(|text| (*near, text)));
        // What is not like enough needs no text to be refused.
        let others = around.others.iter().map(|near| (*near, ""));
        let same = semantic.judge(question.text, least, texts.chain(others))?;
        let mut answers = around.wanted.into_iter();
        let with_answer = |near: Near| {
            let (_, entry) = answers.find(|(one, _)| one.key == near.key)?;
            Some((near, Some(Arc::new(entry))))
        };
        Ok(same.into_iter().filter_map(with_answer).collect())
    }

    /// Removes vectors whose answers are gone, without anybody waiting for it.
    fn drop_vectors(&self, place: Place, gone: Vec<Key>) {
        let permit = Arc::clone(&self.writes).try_acquire_owned();
        // They are met again.
        let (false, Ok(permit)) = (gone.is_empty(), permit) else { return };
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            if let Store::Redis(redis) = &*store
                && redis.drop_vectors(&place, &gone).await.is_err()
            {
                failed_write("redis");
            }
            drop(permit);
        });
    }
}
