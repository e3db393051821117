//! An upstream's model as the cache's embedder.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::semantic::{Embedder, EmbedderId, Embedding};
use crate::pipeline::backend::Backend;
use crate::upstream::{Pool, ask};

/// The longest one request may take; a model may have to be loaded for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A model that makes embeddings.
#[derive(Debug)]
pub(super) struct UpstreamEmbedder {
    backend: Arc<Backend>,
    model: String,
    pool: Arc<Pool>,
}

/// `POST /api/embed`.
#[derive(Deserialize)]
struct OllamaAnswer {
    embeddings: Vec<Vec<f32>>,
}

/// `POST /v1/embeddings`.
#[derive(Deserialize)]
struct OpenAiAnswer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

impl UpstreamEmbedder {
    /// The model of this name at `backend`.
    pub(super) fn new(backend: &Arc<Backend>, model: &str) -> Self {
        Self { backend: Arc::clone(backend), model: model.to_owned(), pool: Arc::default() }
    }

    /// Changes with the model's weights, so that vectors of old ones are not compared with new.
    async fn id(&self) -> Result<EmbedderId, String> {
        let digests = &self.backend.digests;
        let weights = digests.of(&self.backend.origin, &self.pool, &self.model, DEADLINE).await;
        let weights = weights.ok_or_else(|| format!("there is no model `{}`", self.model))?;
        let mut id = EmbedderId::default();
        let hash = blake3::hash(format!("{}\n{weights}", self.model).as_bytes());
        id.copy_from_slice(&hash.as_bytes()[..16]);
        Ok(id)
    }

    async fn ask(&self, path: &'static str, body: &Value) -> Result<Bytes, String> {
        ask::post(&self.backend.origin, &self.pool, path, body, DEADLINE)
            .await
            .map_err(|cause| cause.to_string())
    }
}

#[async_trait]
impl Embedder for UpstreamEmbedder {
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Embedding>, String> {
        let unreadable = |cause: serde_json::Error| format!("not the JSON expected: {cause}");
        let embedder = self.id().await?;
        let vectors = if self.backend.is_ollama() {
            // Without `truncate: false`, the end of a long text would say nothing.
            let body = json!({
                "model": self.model, "input": texts, "truncate": false, "keep_alive": -1
            });
            let answer = self.ask("/api/embed", &body).await?;
            serde_json::from_slice::<OllamaAnswer>(&answer).map_err(unreadable)?.embeddings
        } else {
            let body = json!({"model": self.model, "input": texts, "encoding_format": "float"});
            let answer = self.ask("/v1/embeddings", &body).await?;
            let mut data =
                serde_json::from_slice::<OpenAiAnswer>(&answer).map_err(unreadable)?.data;
            data.sort_by_key(|item| item.index);
            data.into_iter().map(|item| item.embedding).collect()
        };
        let embedding = |vector: Vec<f32>| Embedding { embedder, vector: vector.into() };
        Ok(vectors.into_iter().map(embedding).collect())
    }
}
