//! The way of what replicas tell each other, through a stream.
//!
//! The stream is open to whoever has the Redis: what is no replica's is passed over, and a key that is
//! no stream is tried again each time, until it is one. Neither says anything about the Redis, whose
//! breaker must not open for it: the cache itself works.

use std::collections::HashMap;

use metrics::counter;
use redis::streams::StreamId;
use redis::{FromRedisValue, Pipeline, RedisResult, Value};

use super::{Redis, UNHURRIED, Unavailable, is_refusal};
use crate::cache::replicas::{self, Garbage, News};
use crate::telemetry::names;

/// The place before all others.
const START: &str = "0";

/// Entries with their fields, which may be anything.
type Entries = Vec<HashMap<String, Value>>;
/// What was told, by stream, and the last entry there is.
type Reply = (Option<Vec<HashMap<String, Entries>>>, Entries);

/// How far one has heard.
#[derive(Debug)]
pub(super) struct Hearing {
    place: String,
    /// Whether the log says that the stream is not readable.
    refused: bool,
    /// Whether it says that there is garbage.
    garbage: bool,
}

impl Default for Hearing {
    fn default() -> Self {
        Self { place: START.into(), refused: false, garbage: false }
    }
}

impl Redis {
    /// Tells replicas what happened.
    ///
    /// # Errors
    /// When Redis did not take it in time.
    pub async fn announce(&self, news: &News) -> Result<(), Unavailable> {
        let command = replicas::written(news, &self.instance);
        self.ask(UNHURRIED, async |link| command.query_async(link).await).await
    }

    /// What other replicas told after what was [`Redis::heard`], each with its place.
    ///
    /// # Errors
    /// When Redis gave no answer in time, or what it has is no stream.
    pub async fn news(&self) -> Result<Vec<(String, Option<News>)>, Unavailable> {
        let place = self.hearing.lock().place.clone();
        let mut both = Pipeline::with_capacity(2);
        both.add_command(replicas::next(&place)).add_command(replicas::last());
        let reply = self.ask(UNHURRIED, async |link| {
            let reply: RedisResult<Reply> = both.query_async(link).await;
            match reply {
                Err(cause) if is_refusal(&cause) => Ok(Err(cause)),
                reply => reply.map(Ok),
            }
        });
        let reply = reply.await?;
        let told = std::mem::replace(&mut self.hearing.lock().refused, reply.is_err());
        let (read, last) = reply.map_err(|cause| {
            counter!(names::CACHE_NEWS_FAILURES, "reason" => "refused").increment(1);
            if !told {
                let stream = replicas::STREAM;
                tracing::warn!(%cause, stream, "other replicas are not heard; it is tried again");
            }
            Unavailable
        })?;
        if told {
            tracing::info!("other replicas are heard again");
        }
        let entries = read.into_iter().flatten().flatten().flat_map(|(_, entries)| entries);
        let entries: Vec<_> = entries.flatten().map(|entry| self.read(entry)).collect();
        let last = last.into_iter().flatten().next().map(|(id, _)| id);
        if entries.is_empty() && number(last.as_deref().unwrap_or(START)) < number(&place) {
            // Another stream than the one that was heard so far. To hear things twice does no harm.
            self.heard(START);
        }
        Ok(entries)
    }

    fn read(&self, (id, fields): (String, Value)) -> (String, Option<News>) {
        let map = HashMap::from_redis_value(fields).map_err(|_| Garbage);
        let entry = map.map(|map| StreamId { id: id.clone(), map, ..StreamId::default() });
        match entry.and_then(|entry| replicas::read(&entry, &self.instance)) {
            Ok(news) => (id, news),
            Err(Garbage) => {
                counter!(names::CACHE_NEWS_FAILURES, "reason" => "garbage").increment(1);
                if !std::mem::replace(&mut self.hearing.lock().garbage, true) {
                    let stream = replicas::STREAM;
                    tracing::warn!(
                        id,
                        stream,
                        "an entry that is not a replica's; such are skipped"
                    );
                }
                (id, None)
            }
        }
    }

    /// Notes that what was told up to `id` was taken in.
    pub fn heard(&self, id: &str) {
        id.clone_into(&mut self.hearing.lock().place);
    }
}

/// A place as a number: milliseconds, and a count within one.
fn number(id: &str) -> (u64, u64) {
    let (time, count) = id.split_once('-').unwrap_or((id, "0"));
    (time.parse().unwrap_or(0), count.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_compared_as_numbers() {
        assert!(number(START) < number("0-1"));
        assert!(number("9-1") < number("10-0"));
        assert!(number("10-9") < number("10-10"));
    }
}
