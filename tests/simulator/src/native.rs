//! Ollama's own endpoints.

mod keep_alive;
mod lines;

use std::convert::Infallible;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::answer::{Answer, Parts, Reply, reply};
use crate::faults::Fault;
use crate::recorder::Running;
use crate::scheduler::{Place, details};
use crate::speech::{Speech, words};
use crate::{Model, World, embedding};
use lines::{Figures, Shape};

pub(crate) const JSON: &str = "application/json; charset=utf-8";
const NDJSON: &str = "application/x-ndjson";

fn error(status: u16, message: &str) -> Result<Reply, Infallible> {
    reply(status, JSON, Answer::whole(json!({ "error": message }).to_string()))
}

pub(crate) fn show(world: &World, body: &Bytes) -> Result<Reply, Infallible> {
    let request: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let name = request["model"].as_str().unwrap_or("");
    let Some(model) = world.settings.find(name) else {
        return error(404, &format!("model '{name}' not found"));
    };
    let shown = json!({
        "modelfile": "", "parameters": "", "template": "", "details": details(),
        "model_info": {
            "general.architecture": "llama", "llama.context_length": model.context,
            "llama.embedding_length": 8
        },
        "capabilities": model.capabilities(),
    });
    reply(200, JSON, Answer::whole(shown.to_string()))
}

/// What a path does with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Chat,
    Generate,
    Embed,
}

impl Task {
    fn of(path: &str) -> Self {
        match path {
            "/api/chat" => Task::Chat,
            "/api/generate" => Task::Generate,
            _ => Task::Embed,
        }
    }

    /// Why a request is wrong before anything is loaded for it.
    fn check(self, request: &Value, model: &Model) -> Result<(), String> {
        let verb = match self {
            Task::Embed => return embedding::inputs(request).map(drop).map_err(str::to_owned),
            Task::Chat => "chat",
            Task::Generate => "generate",
        };
        let thinks = request["think"] == json!(true) || request["think"].is_string();
        if thinks && !model.thinks {
            return Err(format!("{} does not support thinking", request["model"]));
        }
        if model.embedding {
            return Err(format!("{} does not support {verb}", request["model"]));
        }
        Ok(())
    }

    /// Whether there is nothing to say: the model is to be loaded or unloaded only.
    fn empty(self, request: &Value) -> bool {
        match self {
            Task::Chat => request["messages"].as_array().is_none_or(Vec::is_empty),
            Task::Generate => request["prompt"].as_str().is_none_or(str::is_empty),
            Task::Embed => false,
        }
    }
}

/// Whether a request has a model loaded or unloaded, and no more.
pub(crate) fn only_loads(path: &str, body: &Bytes) -> bool {
    let native = matches!(path, "/api/chat" | "/api/generate");
    native
        && serde_json::from_slice::<Value>(body).is_ok_and(|request| Task::of(path).empty(&request))
}

pub(crate) async fn serve(
    world: &World,
    path: &str,
    body: &Bytes,
    fault: Fault,
    mut running: Running,
) -> Result<Reply, Infallible> {
    let mut refuse = |status: u16, message: &str| {
        running.finish();
        error(status, message)
    };
    let request: Value = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(cause) => return error(400, &format!("invalid character: {cause}")),
    };
    let keep_alive = match keep_alive::seconds(&request["keep_alive"]) {
        Ok(keep_alive) => keep_alive,
        Err(cause) => return refuse(400, &cause),
    };
    let name = request["model"].as_str().unwrap_or("");
    let Some(model) = world.settings.find(name) else {
        return refuse(404, &format!("model '{name}' not found"));
    };
    let task = Task::of(path);
    let shape = Shape { model: name, chat: task == Task::Chat };
    let empty = task.empty(&request);
    if empty && keep_alive == Some(0.0) {
        running.finish();
        world.scheduler.unload(&model.name);
        return reply(200, JSON, Answer::whole(shape.empty("unload").to_string()));
    }
    if let Err(cause) = task.check(&request, model) {
        return refuse(400, &cause);
    }
    let context = request["options"]["num_ctx"].as_u64().filter(|tokens| *tokens > 0);
    let place = match world.scheduler.place(model, context, keep_alive).await {
        Ok(place) => place,
        Err(refusal) => return refuse(refusal.status(), refusal.message()),
    };
    let truncate = request["truncate"] != json!(false);
    if let Some(why) = model.refusal(words(&request), place.context, truncate) {
        return refuse(400, why);
    }
    tokio::time::sleep(fault.delay()).await;
    if empty {
        running.finish();
        return reply(200, JSON, Answer::whole(shape.empty("load").to_string()));
    }
    tokio::time::sleep(world.settings.first_token).await;
    if task == Task::Embed {
        running.finish();
        return embedding::native(&request, path);
    }
    speak(world, &request, shape, (fault, running, place)).await
}

async fn speak(
    world: &World,
    request: &Value,
    shape: Shape<'_>,
    (fault, mut running, place): (Fault, Running, Place),
) -> Result<Reply, Infallible> {
    let mut speech = Speech::native(&world.settings, request);
    let figures = Figures::of(world, &place, &speech);
    if request["stream"] == json!(false) {
        let tokens = u32::try_from(speech.tokens).unwrap_or(u32::MAX);
        tokio::time::sleep(world.pace.interval().saturating_mul(tokens)).await;
        running.finish();
        return reply(200, JSON, Answer::whole(shape.whole(&speech, &figures).to_string()));
    }
    speech.swell(&fault);
    let line = |value: &Value| Bytes::from(format!("{value}\n"));
    let mut last = shape.last(&speech, &figures);
    if let Fault::HugeContext(length) = fault {
        last["context"] = json!(vec![128_000; length]);
    }
    let parts = Parts {
        tokens: shape.stream(&speech).iter().map(line).collect(),
        last: vec![line(&last)],
        crash: line(&json!({ "error": "llama runner process has terminated" })),
        error: line(&json!({ "error": "out of memory" })),
    };
    reply(200, NDJSON, Answer::stream(parts, &world.pace, fault, running, place))
}
