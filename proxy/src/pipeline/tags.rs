//! Ollama's own lists: what the Ollamas have on disk (`/api/tags`) and in memory (`/api/ps`), each name
//! once.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::Pipeline;
use super::local::json;
use super::state::Snapshot;
use crate::config::RouteConfig;
use crate::error::{Error, Kind};
use crate::ollama::{self, MergedModels, ModelName, Models, same_model};
use crate::request::auth::Caller;
use crate::response::downstream::Head;
use crate::upstream::ask::Unanswered;
use crate::upstream::catalogue;

/// An entry and the name in it.
type Entry = (String, Box<RawValue>);

/// What one Ollama has.
struct Has {
    /// Index into the configured upstreams.
    upstream: usize,
    entries: Vec<Entry>,
}

impl Pipeline {
    /// The answer to `/api/ps`: entries as they are.
    pub(super) async fn in_memory(
        &self,
        snapshot: &Snapshot,
        caller: &Caller,
    ) -> Result<(Head, Bytes), Error> {
        let all = self.ask_ollamas(snapshot, "/api/ps").await;
        merged(Vec::new(), all, caller)
    }

    /// The answer to `/api/tags`: routes first, so that clients that choose from it can choose them,
    /// then entries as they are.
    pub(super) async fn on_disk(
        &self,
        snapshot: &Snapshot,
        caller: &Caller,
    ) -> Result<(Head, Bytes), Error> {
        let all = self.ask_ollamas(snapshot, "/api/tags").await;
        // Where no Ollama serves a route, it has no native API.
        let is_native = |route: &RouteConfig| {
            let mut targets = route.targets.iter().chain(&route.fallback);
            targets.any(|target| snapshot.backends[target.upstream].is_ollama())
        };
        let routes = snapshot.config.routes.iter();
        let mut routes: Vec<_> =
            routes.filter(|one| !one.model.contains('*') && is_native(one)).collect();
        routes.sort_unstable_by(|a, b| a.model.cmp(&b.model));
        let has: Vec<&Has> = all.iter().flatten().collect();
        let routes = routes.into_iter().map(|route| entry_of(route, &has));
        merged(routes.collect::<Result<_, _>>()?, all, caller)
    }

    async fn ask_ollamas(
        &self,
        snapshot: &Snapshot,
        path: &'static str,
    ) -> Vec<Result<Has, Unanswered>> {
        let mut asked = Vec::new();
        let ollamas = (0..).zip(&snapshot.backends).filter(|(_, one)| one.is_ollama());
        for (upstream, backend) in ollamas {
            let (backend, pool) = (Arc::clone(backend), Arc::clone(&self.pool));
            let answer =
                tokio::spawn(async move { catalogue::get(&backend.origin, &pool, path).await });
            asked.push((upstream, answer));
        }
        let mut all = Vec::with_capacity(asked.len());
        for (upstream, answer) in asked {
            let answer =
                answer.await.unwrap_or_else(|why| Err(Unanswered::Unusable(why.to_string())));
            all.push(answer.map(|bytes| Has { upstream, entries: entries(&bytes) }));
        }
        all
    }
}

fn entries(bytes: &[u8]) -> Vec<Entry> {
    let models = serde_json::from_slice::<Models>(bytes).ok().and_then(|list| list.models);
    let named = |raw: Box<RawValue>| {
        let ModelName { name } = serde_json::from_str(raw.get()).ok()?;
        Some((name, raw))
    };
    models.unwrap_or_default().into_iter().filter_map(named).collect()
}

/// The entry of a route: that of the first of its targets of which it is known, under its own name.
fn entry_of(route: &RouteConfig, has: &[&Has]) -> Result<Entry, Error> {
    let known = route.targets.iter().chain(&route.fallback).find_map(|target| {
        let there = has.iter().find(|one| one.upstream == target.upstream)?;
        let model = target.model.as_deref().unwrap_or(&route.model);
        there.entries.iter().find(|(name, _)| same_model(name, model))
    });
    let raw = ollama::tag(&route.model, known.map(|(_, raw)| &**raw));
    let raw = raw.map_err(|_| Error::new(Kind::Internal, "the answer could not be written"))?;
    Ok((route.model.clone(), raw))
}

/// Of entries with the same name the first counts, and only what the caller may use.
fn merged(
    first: Vec<Entry>,
    all: Vec<Result<Has, Unanswered>>,
    caller: &Caller,
) -> Result<(Head, Bytes), Error> {
    let mut entries: Vec<Entry> =
        first.into_iter().filter(|(name, _)| caller.may_use(name)).collect();
    let (mut answered, mut problem) = (!entries.is_empty(), None);
    for one in all {
        match one {
            Ok(has) => {
                answered = true;
                entries.extend(has.entries);
            }
            Err(why) => problem = Some(why),
        }
    }
    if let (false, Some(why)) = (answered, problem) {
        return Err(Error::new(Kind::BadGateway, format!("no Ollama answered: {why}")));
    }
    let mut seen = HashSet::new();
    entries.retain(|(name, _)| caller.may_use(name) && seen.insert(name.clone()));
    json(&MergedModels { models: entries.into_iter().map(|(_, raw)| raw).collect() })
}
