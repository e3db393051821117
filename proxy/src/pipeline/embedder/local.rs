//! A model in a directory of this machine, run on the CPU by one thread.

use std::path::Path;

use async_trait::async_trait;
use rayon::{ThreadPool, ThreadPoolBuilder};
use sluicegate_local_embedder::Model;

use crate::cache::semantic::{Embedder, Embedding};

/// A model held in memory.
#[derive(Debug)]
pub(super) struct LocalEmbedder {
    model: Model,
    /// One thread: with those of all cores, requests would wait for embeddings.
    thread: ThreadPool,
}

impl LocalEmbedder {
    /// Reads the model in `directory`.
    ///
    /// # Errors
    /// In words, when there is none that can be run.
    pub(super) fn load(directory: &Path) -> Result<Self, String> {
        let model = Model::load(directory)
            .map_err(|cause| format!("`cache.semantic.embedder.path`: {cause}"))?;
        let name = |_| "embedder-cpu".to_owned();
        let thread = ThreadPoolBuilder::new().num_threads(1).thread_name(name).build();
        let thread = thread.map_err(|cause| cause.to_string())?;
        tracing::info!(
            directory = %directory.display(),
            dimensions = model.dimensions(),
            longest = model.max_tokens(),
            "embedder read"
        );
        Ok(Self { model, thread })
    }
}

#[async_trait]
impl Embedder for LocalEmbedder {
    /// Blocks the thread that asks, which is the embedder's own.
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Embedding>, String> {
        let vectors = self.thread.install(|| self.model.embed(&texts));
        let vectors = vectors.map_err(|cause| cause.to_string())?;
        let embedder = self.model.id();
        let embedding = |vector: Vec<f32>| Embedding { embedder, vector: vector.into() };
        Ok(vectors.into_iter().map(embedding).collect())
    }
}
