//! An upstream's model as the cache's embedder.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::backend::Backend;
use super::state::Snapshot;
use crate::cache::semantic::{Embedder, EmbedderId, Embedding};
use crate::config::{CacheConfig, Config};
use crate::upstream::{Pool, ask};

/// The longest one request may take; a model may have to be loaded for it.
const DEADLINE: Duration = Duration::from_secs(30);
/// Texts in one request, where many are embedded.
const BATCH: usize = 32;

/// A model that makes embeddings.
pub struct UpstreamEmbedder {
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
    /// The embedder that `config` wants.
    pub fn of(config: &CacheConfig, backends: &[Arc<Backend>]) -> Option<Arc<dyn Embedder>> {
        let wanted = config.semantic.as_ref()?;
        let backend = Arc::clone(backends.get(wanted.upstream)?);
        Some(Arc::new(Self { backend, model: wanted.model.clone(), pool: Arc::default() }))
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

/// A text's place among others.
pub type Vector = Arc<[f32]>;

/// The vectors of `texts` by the embedder that `config` names, to try it with.
///
/// # Errors
/// In words, when there is none, or it fails.
pub async fn embed_all(mut config: Config, texts: Vec<String>) -> Result<Vec<Vector>, String> {
    let Some(semantic) = config.cache.semantic.take() else {
        return Err("the configuration has no `cache.semantic`".into());
    };
    // Nothing but the upstreams is needed, and another process may be using the rest.
    config.routes.clear();
    config.cache = CacheConfig::default();
    let tls = crate::server::upstream_tls(&config)?;
    let snapshot = Snapshot::new(config, tls.as_ref(), Vec::new(), None)?;
    let wanted = CacheConfig { semantic: Some(semantic), ..CacheConfig::default() };
    let embedder = UpstreamEmbedder::of(&wanted, &snapshot.backends)
        .ok_or_else(|| "its upstream does not exist".to_owned())?;
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        let embedded = embedder.embed(batch.to_vec()).await?;
        vectors.extend(embedded.into_iter().map(|one| one.vector));
    }
    if vectors.len() == texts.len() { Ok(vectors) } else { Err("vectors are missing".into()) }
}
