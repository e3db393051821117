//! The look for an answer to a question that asks the same: by its words first, then by its meaning.
//! What is found is a key; the answer under it is looked for as any other is, or came with it from Redis.

use std::sync::Arc;

use super::entry::Entry;
use super::kept::on_disk;
use super::key::{Key, Scope};
use super::lexical::Question;
use super::semantic::{Embedding, Semantic};
use super::similar::Reason;
use super::{Cache, Store};

/// A question to which another's answer will do.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Its scope.
    pub scope: &'a Scope,
    /// Its text.
    pub text: &'a str,
    /// Its own key.
    pub key: Key,
    /// Whose it is.
    pub owner: &'a str,
    /// Who is to answer.
    pub model: &'a str,
    /// Least similarity, where it was raised.
    pub threshold: Option<f64>,
}

/// An answer to a question that asks the same.
#[derive(Clone, Debug)]
pub struct Like {
    /// The answer.
    pub entry: Arc<Entry>,
    /// How like the questions are, 1 at most.
    pub similarity: f64,
    /// Whether they have the same words.
    pub by_words: bool,
}

/// What a look for such an answer found.
#[derive(Debug)]
pub struct Similarity {
    /// The answer, or why there is none.
    pub found: Result<Like, Reason>,
    /// The question's embedding, where it was made.
    pub embedding: Option<Embedding>,
}

impl Cache {
    /// The answer to a question that asks the same as `question`.
    pub async fn similar(&self, question: &Asking<'_>) -> Similarity {
        let by_words = match self.config.lexical {
            Some(_) => self.by_words(question).await,
            None => Err("absent"),
        };
        match (by_words, &self.semantic, &self.config.semantic) {
            (Ok(entry), _, _) => {
                let like = Like { entry, similarity: 1.0, by_words: true };
                Similarity { found: Ok(like), embedding: None }
            }
            (Err(_), Some(semantic), Some(config)) => {
                let deadline = Some(config.deadline);
                // A text that could not be found is not worth an embedding.
                if let Err(unfit) = Question::analyse(question.text) {
                    return Similarity { found: Err(unfit.as_str()), embedding: None };
                }
                match semantic.embed(question.text, deadline).await {
                    Ok(embedding) => {
                        let least = question
                            .threshold
                            .map_or(config.threshold, |least| least.max(config.threshold));
                        let found = self.by_meaning(semantic, question, &embedding, least).await;
                        Similarity { found, embedding: Some(embedding) }
                    }
                    Err(reason) => Similarity { found: Err(reason), embedding: None },
                }
            }
            (Err(reason), _, _) => Similarity { found: Err(reason), embedding: None },
        }
    }

    async fn by_words(&self, question: &Asking<'_>) -> Result<Arc<Entry>, Reason> {
        let key = self.similar.find(question.scope, question.text, question.key)?;
        let looked = self.get(&key, question.owner, question.model).await;
        match (looked.entry, looked.trouble) {
            (Some(entry), _) => {
                self.similar.given(question.key, key, 1.0);
                Ok(entry)
            }
            (None, Some(trouble)) => Err(trouble),
            (None, None) => {
                self.similar.forget(&key);
                Err("absent")
            }
        }
    }

    async fn by_meaning(
        &self,
        semantic: &Semantic,
        question: &Asking<'_>,
        embedding: &Embedding,
        least: f64,
    ) -> Result<Like, Reason> {
        let found = match self.vectors().await? {
            Some(redis) => self.in_redis(redis, semantic, question, (embedding, least)).await?,
            None => semantic
                .find(question.scope, question.text, embedding, least)?
                .into_iter()
                .map(|near| (near, None))
                .collect(),
        };
        for (near, entry) in found {
            if self.similar.is_blamed(question.key, near.key) {
                continue;
            }
            let entry = match entry {
                Some(entry) => Some(entry),
                None => self.of_own(semantic, question, &near.key).await,
            };
            if let Some(entry) = entry {
                self.similar.given(question.key, near.key, near.similarity);
                return Ok(Like { entry, similarity: near.similarity, by_words: false });
            }
        }
        Err("absent")
    }

    /// The answer to a question whose vector this process has.
    async fn of_own(
        &self,
        semantic: &Semantic,
        question: &Asking<'_>,
        key: &Key,
    ) -> Option<Arc<Entry>> {
        let looked = self.get(key, question.owner, question.model).await;
        let entry = match looked.entry {
            Some(entry) => Some(entry),
            None => self.taken_from_disk(semantic, key).await,
        };
        // One that was dropped is not looked at again; one that Redis keeps from us may be.
        if entry.is_none() && looked.trouble.is_none() {
            semantic.forget(key);
        }
        entry
    }

    /// An answer that lies on disk only, and from now on in memory too.
    async fn taken_from_disk(&self, semantic: &Semantic, key: &Key) -> Option<Arc<Entry>> {
        let Store::Memory(memory) = &*self.store else { return None };
        let entry = Arc::new(on_disk(semantic, memory, key).await?);
        memory.put(Arc::clone(&entry));
        Some(entry)
    }
}
