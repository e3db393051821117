//! Texts that wait at one time are embedded in one request: an embedder takes hardly longer for ten
//! than for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::{Embedder, Embedding};
use crate::breaker::{Breaker, Pass};
use crate::cache::similar::Reason;
use crate::config::raw::BreakerConfig;
use crate::config::units::Period;

/// Texts that wait; more are not embedded.
const MAX_WAITING: usize = 1_024;
/// Texts in one request.
const MAX_BATCH: usize = 32;
/// How long the first of a batch waits for others.
const WINDOW: Duration = Duration::from_millis(2);
/// The longest time for one request: a model may have to be loaded first.
const REQUEST: Duration = Duration::from_secs(30);
/// When the embedder is left alone, and for how long.
const BREAKER: BreakerConfig =
    BreakerConfig { errors: 3, window: Period::secs(60), open_for: Period::secs(5), probes: 1 };

struct Job {
    text: String,
    reply: oneshot::Sender<Result<Embedding, Reason>>,
}

/// Where texts wait.
#[derive(Debug)]
pub(super) struct Batches {
    jobs: mpsc::Sender<Job>,
}

impl Batches {
    /// Has `embedder` asked on a thread of its own, which ends with this.
    pub(super) fn new(embedder: Arc<dyn Embedder>) -> Result<Self, String> {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| cause.to_string())?;
        std::thread::Builder::new()
            .name("embedder".into())
            .spawn(move || runtime.block_on(run(waiting, embedder)))
            .map_err(|cause| cause.to_string())?;
        Ok(Self { jobs })
    }

    pub(super) async fn embed(&self, text: String) -> Result<Embedding, Reason> {
        let (reply, embedding) = oneshot::channel();
        self.jobs.try_send(Job { text, reply }).map_err(|_| "embedder_busy")?;
        embedding.await.unwrap_or(Err("embedder_failed"))
    }
}

async fn run(mut waiting: mpsc::Receiver<Job>, embedder: Arc<dyn Embedder>) {
    let breaker = Arc::new(Breaker::new(BREAKER));
    // Its model is loaded before anybody waits for it.
    warm(&*embedder).await;
    while let Some(first) = waiting.recv().await {
        sleep(WINDOW).await;
        let mut jobs = vec![first];
        while jobs.len() < MAX_BATCH
            && let Ok(next) = waiting.try_recv()
        {
            jobs.push(next);
        }
        // Who gave up waiting needs no embedding.
        jobs.retain(|job| !job.reply.is_closed());
        if jobs.is_empty() {
            continue;
        }
        embed(&*embedder, jobs, &breaker).await;
    }
}

async fn warm(embedder: &dyn Embedder) {
    let warmed = timeout(REQUEST, embedder.embed(vec!["warm".to_owned()])).await;
    if let Err(why) = warmed.unwrap_or_else(|_| Err("no answer in time".into())) {
        tracing::warn!(%why, "the cache's embedder does not answer");
    }
}

/// There is no probe but the next text: one that was left alone long enough is tried again.
fn pass(breaker: &Arc<Breaker>) -> Option<Pass> {
    if breaker.probe_due().is_some_and(|due| due <= Instant::now()) {
        breaker.probed(true);
    }
    breaker.try_pass().ok()
}

async fn embed(embedder: &dyn Embedder, jobs: Vec<Job>, breaker: &Arc<Breaker>) {
    let Some(pass) = pass(breaker) else { return answer_all(jobs, "embedder_failed") };
    let texts: Vec<String> = jobs.iter().map(|job| job.text.clone()).collect();
    let answer = timeout(REQUEST, embedder.embed(texts)).await;
    match answer.unwrap_or_else(|_| Err("no answer in time".into())) {
        Ok(embeddings) if embeddings.len() == jobs.len() => {
            pass.success();
            for (job, embedding) in jobs.into_iter().zip(embeddings) {
                // It may have given up by now.
                let _ = job.reply.send(Ok(embedding));
            }
        }
        Ok(_) => {
            pass.failure();
            answer_all(jobs, "embedder_failed");
        }
        // One text that it refuses, as for its length, is not the others' fault.
        Err(_) if jobs.len() > 1 => {
            drop(pass);
            for job in jobs {
                Box::pin(embed(embedder, vec![job], breaker)).await;
            }
        }
        Err(why) => {
            tracing::debug!(%why, "the cache's embedder failed");
            pass.failure();
            answer_all(jobs, "embedder_failed");
        }
    }
}

fn answer_all(jobs: Vec<Job>, reason: Reason) {
    for job in jobs {
        // It may have given up by now.
        let _ = job.reply.send(Err(reason));
    }
}
