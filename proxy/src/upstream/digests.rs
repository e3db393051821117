//! Which weights stand behind a model's name at an Ollama (`GET /api/tags`): `ollama pull` changes
//! them, and with them every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::catalogue::get_json;
use super::origin::Origin;
use super::pool::Pool;
use crate::config::raw::UpstreamKind;
use crate::ollama::{ByModel, Tagged, Tags};

/// Digests older than this are read anew before one is relied on.
const MAX_AGE: Duration = Duration::from_secs(2);
/// How long a client's request waits for that; then what was known before counts.
pub const HURRIED: Duration = Duration::from_millis(250);

/// What is known of a model on disk.
#[derive(Clone, Debug)]
pub struct Tag {
    /// Digest of its weights and settings.
    pub digest: String,
    /// Bytes on disk.
    pub size: u64,
    /// Another server answers for it: nothing is loaded here.
    pub remote: bool,
}

impl Tag {
    fn of(tagged: Tagged) -> Self {
        let remote = tagged.remote_model.is_some_and(|model| !model.is_empty());
        Self { digest: tagged.digest, size: tagged.size, remote }
    }
}

/// The digests of one upstream.
#[derive(Debug, Default)]
pub struct Digests {
    known: Mutex<Known>,
    refreshing: tokio::sync::Mutex<()>,
    /// Whether anybody relied on them lately.
    wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    by_name: Option<Arc<ByModel<Tag>>>,
    asked: Option<Instant>,
}

impl Digests {
    /// What tells `model` at `origin` from others of its name: its digest at an Ollama, the server
    /// itself elsewhere. `None` while it is not known, for which `wait` is the longest wait.
    pub async fn of(
        &self,
        origin: &Origin,
        pool: &Arc<Pool>,
        model: &str,
        wait: Duration,
    ) -> Option<String> {
        if origin.config.kind != UpstreamKind::Ollama {
            return Some(format!("{}{}", origin.config.origin, origin.config.base_path));
        }
        self.wanted.store(true, Ordering::Relaxed);
        if !self.is_young() {
            // Late, it goes on with what is known.
            let _ = timeout(wait, self.refresh(origin, pool)).await;
        }
        let by_name = self.known.lock().by_name.clone()?;
        by_name.get(model).map(|tag| tag.digest.clone())
    }

    /// Every model on disk as last read, by its full name.
    #[must_use]
    pub fn all(&self) -> Option<Arc<ByModel<Tag>>> {
        self.known.lock().by_name.clone()
    }

    /// Reads them anew if that was done longer than `age` ago.
    pub async fn fresh(&self, origin: &Origin, pool: &Arc<Pool>, age: Duration) {
        if self.known.lock().asked.is_none_or(|at| at.elapsed() >= age) {
            self.refresh(origin, pool).await;
        }
    }

    fn is_young(&self) -> bool {
        self.known.lock().asked.is_some_and(|at| at.elapsed() < MAX_AGE)
    }

    /// Reads them anew if anybody relied on them since this was last called.
    pub async fn keep(&self, origin: &Origin, pool: &Arc<Pool>) {
        if self.wanted.swap(false, Ordering::Relaxed) {
            self.known.lock().asked = None;
            self.refresh(origin, pool).await;
        }
    }

    /// However many want to know, one asks.
    async fn refresh(&self, origin: &Origin, pool: &Arc<Pool>) {
        let _one_asks = self.refreshing.lock().await;
        if self.is_young() {
            return;
        }
        let tags = get_json::<Tags>(origin, pool, "/api/tags").await;
        let mut known = self.known.lock();
        known.asked = Some(Instant::now());
        // What it had is still the best guess at what it has.
        if let Ok(tags) = tags {
            let models = tags.models.unwrap_or_default();
            let by_name = models.into_iter().map(|one| (one.name.clone(), Tag::of(one))).collect();
            known.by_name = Some(Arc::new(by_name));
        }
    }
}
