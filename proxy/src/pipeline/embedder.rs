//! The cache's embedder: an upstream's model, or one that runs in this process.

#[cfg(feature = "local-embedder")]
mod local;
mod upstream;

use std::path::Path;
use std::sync::Arc;

use self::upstream::UpstreamEmbedder;
use super::backend::Backend;
use super::state::Snapshot;
use crate::cache::semantic::Embedder;
use crate::config::cache::EmbedderConfig;
#[cfg(not(feature = "local-embedder"))]
use crate::config::cache::NO_LOCAL_EMBEDDER;
use crate::config::{CacheConfig, Config};

/// Texts in one request, where many are embedded.
const BATCH: usize = 32;

/// An embedder that others use too.
pub type SharedEmbedder = Arc<dyn Embedder>;

/// The embedder that `config` wants. A model that `previous` read already is not read again.
///
/// # Errors
/// In words, when a model cannot be read.
pub fn of(
    config: &CacheConfig,
    backends: &[Arc<Backend>],
    previous: Option<&Snapshot>,
) -> Result<Option<SharedEmbedder>, String> {
    let Some(semantic) = &config.semantic else { return Ok(None) };
    match &semantic.embedder {
        EmbedderConfig::Upstream { upstream, model } => Ok(backends
            .get(*upstream)
            .map(|backend| Arc::new(UpstreamEmbedder::new(backend, model)) as SharedEmbedder)),
        EmbedderConfig::Local(path) => {
            let same = |known: &&Snapshot| {
                let known = known.config.cache.semantic.as_ref();
                known.is_some_and(|known| known.embedder == semantic.embedder)
            };
            match previous.filter(same).and_then(|known| known.embedder.clone()) {
                Some(known) => Ok(Some(known)),
                None => load(path).map(Some),
            }
        }
    }
}

#[cfg(feature = "local-embedder")]
fn load(directory: &Path) -> Result<SharedEmbedder, String> {
    Ok(Arc::new(local::LocalEmbedder::load(directory)?))
}

#[cfg(not(feature = "local-embedder"))]
fn load(_: &Path) -> Result<SharedEmbedder, String> {
    Err(NO_LOCAL_EMBEDDER.into())
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
    let embedder = of(&wanted, &snapshot.backends, None)?
        .ok_or_else(|| "its upstream does not exist".to_owned())?;
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        let embedded = embedder.embed(batch.to_vec()).await?;
        vectors.extend(embedded.into_iter().map(|one| one.vector));
    }
    if vectors.len() == texts.len() { Ok(vectors) } else { Err("vectors are missing".into()) }
}
