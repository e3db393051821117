//! Endpoints the gateway answers itself: from what its upstreams say they have, or by counting.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use super::ctx::Ctx;
use super::state::Snapshot;
use super::{Pipeline, Stop};
use crate::error::{Error, Kind};
use crate::native::count;
use crate::openai::{Model, ModelList};
use crate::request::Request;
use crate::request::auth::Caller;
use crate::request::endpoint::{Endpoint, model_id};
use crate::response::downstream::Head;
use crate::router::{Plan, Target};
use crate::session::Session;
use crate::upstream::catalogue::{self, Listing};

/// A model list younger than this is shown as it is: chat UIs ask often.
const LIST_AGE: Duration = Duration::from_secs(2);

/// Anthropic's answer to `count_tokens`.
#[derive(Debug, Serialize)]
struct TokenCount {
    input_tokens: u64,
}

impl Pipeline {
    /// The answer of a local endpoint.
    pub(super) async fn local(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        endpoint: Endpoint,
        caller: &Caller,
    ) -> Result<(Head, Bytes), Stop> {
        let path = session.head.path.clone();
        tokio::select! {
            biased;
            answer = self.local_answer(snapshot, endpoint, caller, &path) => Ok(answer?),
            () = session.client_left() => Err(Stop::Gone),
        }
    }

    async fn local_answer(
        &self,
        snapshot: &Snapshot,
        endpoint: Endpoint,
        caller: &Caller,
        path: &str,
    ) -> Result<(Head, Bytes), Error> {
        match endpoint {
            Endpoint::Models => {
                let data = self.models(snapshot, caller).await?;
                json(&ModelList { object: "list", data })
            }
            Endpoint::Model => {
                let wanted = model_id(path);
                caller.check_model(&wanted)?;
                json(&self.model(snapshot, caller, &wanted).await?)
            }
            Endpoint::ApiTags => self.on_disk(snapshot, caller).await,
            Endpoint::ApiPs => self.in_memory(snapshot, caller).await,
            Endpoint::ApiVersion => self.version(snapshot).await,
            _ => Ok(plain("Sluicegate is running\n")),
        }
    }

    /// Routes first, then what the upstreams have; each name once. What one that is down had last
    /// counts beside a route or an upstream that is not.
    async fn models(&self, snapshot: &Snapshot, caller: &Caller) -> Result<Vec<Model>, Error> {
        let listings = snapshot.refresh(&self.pool, LIST_AGE).await;
        let mut routes: Vec<&str> =
            snapshot.table.names().filter(|name| caller.may_use(name)).collect();
        if let (true, Some(why)) = (routes.is_empty(), all_failed(&listings)) {
            let message = format!("no upstream could be asked for its models: {why}");
            return Err(Error::new(Kind::BadGateway, message));
        }
        routes.sort_unstable();
        let routes = routes.into_iter().map(|name| Model {
            id: name.to_owned(),
            object: "model".into(),
            created: 0,
            owned_by: "sluicegate".into(),
        });
        let listed = listings.iter().filter_map(|one| one.models.as_deref()).flatten().cloned();
        let listed = listed.filter(|model| caller.may_use(&model.id));
        let mut seen = HashSet::new();
        Ok(routes.chain(listed).filter(|model| seen.insert(model.id.clone())).collect())
    }

    async fn model(
        &self,
        snapshot: &Snapshot,
        caller: &Caller,
        wanted: &str,
    ) -> Result<Model, Error> {
        let models = self.models(snapshot, caller).await?;
        let found = models.into_iter().find(|one| crate::ollama::same_model(&one.id, wanted));
        match found {
            // The id asked for is echoed, as Ollama does.
            Some(model) => Ok(Model { id: wanted.to_owned(), ..model }),
            None => {
                let listings = snapshot.refresh(&self.pool, LIST_AGE).await;
                Err(snapshot.unknown_model(wanted, &listings))
            }
        }
    }

    /// The tokens of `request`, where no upstream of `plan` can count them. Those that are no Ollama
    /// are taken to know better.
    pub(super) fn count_tokens(
        snapshot: &Snapshot,
        request: &Request,
        plan: &mut Plan,
        ctx: &mut Ctx,
    ) -> Result<Option<(Head, Bytes)>, Error> {
        let counts = |target: &Target| !snapshot.backends[target.upstream].is_ollama();
        plan.targets.retain(counts);
        plan.fallback.retain(counts);
        if !plan.targets.is_empty() || !plan.fallback.is_empty() {
            return Ok(None);
        }
        let input_tokens = count::message_tokens(&request.body).map_err(|wrong| {
            Error::new(Kind::InvalidRequest, format!("the tokens cannot be counted: {wrong}"))
        })?;
        ctx.reason = "estimated".into();
        json(&TokenCount { input_tokens }).map(Some)
    }

    /// The version of the first Ollama that answers: tools ask for it to see what they talk to.
    async fn version(&self, snapshot: &Snapshot) -> Result<(Head, Bytes), Error> {
        for backend in snapshot.backends.iter().filter(|one| one.is_ollama()) {
            if let Ok(body) = catalogue::get(&backend.origin, &self.pool, "/api/version").await {
                return Ok((json_head(), body));
            }
        }
        Err(Error::new(Kind::BadGateway, "no Ollama answered"))
    }
}

/// What the last of the upstreams said when asked, where none of them answered.
fn all_failed(listings: &[Listing]) -> Option<&str> {
    listings.iter().map(|one| one.problem.as_deref()).reduce(|all, one| all.and(one))?
}

fn json_head() -> Head {
    let mut head = Head::new(StatusCode::OK);
    head.set("content-type", "application/json");
    head
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<(Head, Bytes), Error> {
    let body = serde_json::to_vec(value)
        .map_err(|_| Error::new(Kind::Internal, "the answer could not be written"))?;
    Ok((json_head(), Bytes::from(body)))
}

fn plain(text: &'static str) -> (Head, Bytes) {
    let mut head = Head::new(StatusCode::OK);
    head.set("content-type", "text/plain; charset=utf-8");
    (head, Bytes::from_static(text.as_bytes()))
}
