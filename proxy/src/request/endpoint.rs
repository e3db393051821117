//! The endpoints served, and everything else refused.
//!
//! Paths are matched against a fixed list and sent upstream in our own spelling, so no spelling of
//! a client's can reach an endpoint that is not on it.

use http::Method;

use crate::error::{Dialect, Error, Kind};

/// An endpoint of the data listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `GET /v1/models`
    Models,
    /// `GET /v1/models/{id}`
    Model,
    /// `POST /api/chat`
    ApiChat,
    /// `POST /api/generate`
    ApiGenerate,
    /// `POST /api/embed`
    ApiEmbed,
    /// `POST /api/embeddings`
    ApiEmbeddings,
    /// `POST /api/show`
    ApiShow,
    /// `POST /v1/cache/feedback`, the gateway's own.
    CacheFeedback,
    /// `GET /api/tags`
    ApiTags,
    /// `GET /api/ps`
    ApiPs,
    /// `GET /api/version`
    ApiVersion,
    /// `GET /`
    Root,
}

/// Native endpoints that change or leak what is on the host; never forwarded.
const DANGEROUS: [&str; 9] =
    ["pull", "push", "create", "copy", "delete", "blobs", "me", "signout", "signin"];

/// Only so much of an unknown path is examined, in characters; it is refused either way.
const MAX_EXAMINED_PATH: usize = 1024;
/// No server decodes a path more often than this.
const MAX_DECODINGS: usize = 4;

impl Endpoint {
    /// Every endpoint whose path is fixed.
    const FIXED: [Endpoint; 17] = [
        Endpoint::ChatCompletions,
        Endpoint::Completions,
        Endpoint::Embeddings,
        Endpoint::Responses,
        Endpoint::Messages,
        Endpoint::CountTokens,
        Endpoint::Models,
        Endpoint::CacheFeedback,
        Endpoint::ApiChat,
        Endpoint::ApiGenerate,
        Endpoint::ApiEmbed,
        Endpoint::ApiEmbeddings,
        Endpoint::ApiShow,
        Endpoint::ApiTags,
        Endpoint::ApiPs,
        Endpoint::ApiVersion,
        Endpoint::Root,
    ];

    /// The path as this gateway spells it.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::ChatCompletions => "/v1/chat/completions",
            Endpoint::Completions => "/v1/completions",
            Endpoint::Embeddings => "/v1/embeddings",
            Endpoint::Responses => "/v1/responses",
            Endpoint::Messages => "/v1/messages",
            Endpoint::CountTokens => "/v1/messages/count_tokens",
            Endpoint::Models => "/v1/models",
            Endpoint::Model => "/v1/models/{id}",
            Endpoint::ApiChat => "/api/chat",
            Endpoint::ApiGenerate => "/api/generate",
            Endpoint::ApiEmbed => "/api/embed",
            Endpoint::ApiEmbeddings => "/api/embeddings",
            Endpoint::ApiShow => "/api/show",
            Endpoint::CacheFeedback => "/v1/cache/feedback",
            Endpoint::ApiTags => "/api/tags",
            Endpoint::ApiPs => "/api/ps",
            Endpoint::ApiVersion => "/api/version",
            Endpoint::Root => "/",
        }
    }

    /// Whether the gateway answers it itself, from what it knows of its upstreams.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(
            self,
            Endpoint::Models
                | Endpoint::Model
                | Endpoint::ApiTags
                | Endpoint::ApiPs
                | Endpoint::ApiVersion
                | Endpoint::Root
        )
    }

    /// Whether its requests run a model, for which it must be loaded.
    #[must_use]
    pub fn runs_model(self) -> bool {
        let runs_none =
            matches!(self, Endpoint::ApiShow | Endpoint::CacheFeedback | Endpoint::CountTokens);
        !self.is_local() && !runs_none
    }

    /// Whether it is Ollama's own, so that only an upstream of that kind has it.
    #[must_use]
    pub fn is_native(self) -> bool {
        self.path().starts_with("/api/")
    }

    /// The protocol its callers speak.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Endpoint::Messages | Endpoint::CountTokens => Dialect::Anthropic,
            native if native.is_native() => Dialect::Ollama,
            _ => Dialect::OpenAi,
        }
    }

    /// Finds the endpoint of a request.
    pub fn resolve(method: &Method, path: &str) -> Result<Self, Error> {
        let trimmed = match path.trim_end_matches('/') {
            "" => "/",
            trimmed => trimmed,
        };
        if let Some(found) = Self::FIXED.into_iter().find(|one| one.path() == trimmed) {
            return found.checked(method);
        }
        if path.strip_prefix("/v1/models/").is_some_and(|id| !id.is_empty()) {
            return Endpoint::Model.checked(method);
        }
        Err(refusal(path))
    }

    fn checked(self, method: &Method) -> Result<Self, Error> {
        let (allowed, allow): (&[Method], _) = match self {
            Endpoint::Root => (&[Method::GET, Method::HEAD], "GET, HEAD"),
            local if local.is_local() => (&[Method::GET, Method::HEAD], "GET, HEAD"),
            _ => (&[Method::POST], "POST"),
        };
        if allowed.contains(method) {
            return Ok(self);
        }
        let mut error =
            Error::new(Kind::MethodNotAllowed, format!("{} takes {allow} only", self.path()));
        error.allow = Some(allow);
        Err(error)
    }
}

/// The protocol a path belongs to, known or not.
#[must_use]
pub fn dialect_of(path: &str) -> Dialect {
    match path {
        "/v1/messages" | "/v1/messages/count_tokens" => Dialect::Anthropic,
        native if native.starts_with("/api/") => Dialect::Ollama,
        _ => Dialect::OpenAi,
    }
}

fn refusal(path: &str) -> Error {
    let plain = plain_path(path);
    if is_dangerous(&plain) {
        let message = "this endpoint changes the models on the host and is not served here";
        return Error::new(Kind::Forbidden, message);
    }
    if let Some(doubled) = plain.strip_prefix("/v1").filter(|rest| rest.starts_with("/v1/")) {
        let message = format!(
            "no such path; did you mean {doubled}? The base URL of Anthropic's SDKs does not end in /v1"
        );
        return Error::new(Kind::UnknownPath, message);
    }
    let with_v1 = format!("/v1{plain}");
    if let Some(meant) =
        Endpoint::FIXED.iter().find(|one| one.path() == with_v1 || one.path() == plain)
    {
        let message =
            format!("no such path; did you mean {}? An SDK's base URL ends in /v1", meant.path());
        return Error::new(Kind::UnknownPath, message);
    }
    Error::new(Kind::UnknownPath, "no such path; the API is under /v1, Ollama's own under /api")
}

fn is_dangerous(plain: &str) -> bool {
    let mut segments = plain.split('/').filter(|segment| !segment.is_empty());
    let first = segments.next().unwrap_or("");
    let second = segments.next().unwrap_or("");
    first == "debug" || (first == "api" && DANGEROUS.contains(&second))
}

/// The path as a lenient server might read it: percent-decoded until stable, lower case,
/// backslashes and dot segments resolved. Used only to choose between 403 and 404.
fn plain_path(path: &str) -> String {
    let mut decoded: String = path.chars().take(MAX_EXAMINED_PATH).collect();
    for _ in 0..MAX_DECODINGS {
        let Some(next) = decode_once(&decoded) else { break };
        decoded = next;
    }
    let mut segments: Vec<&str> = Vec::new();
    let lowered = decoded.to_lowercase().replace('\\', "/");
    for segment in lowered.split('/') {
        match segment.split(';').next().unwrap_or("").trim() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            plain => segments.push(plain),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Replaces each `%XX`; `None` when there is nothing to replace.
fn decode_once(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    let mut changed = false;
    while let [first, rest @ ..] = bytes {
        let hex = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.filter(|_| *first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                bytes = &rest[2..];
                changed = true;
            }
            None => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    changed.then(|| String::from_utf8_lossy(&out).into_owned())
}

/// The model id inside `/v1/models/{id}`, percent-decoded once; ids may hold `/` and `:`.
#[must_use]
pub fn model_id(path: &str) -> String {
    let raw = path.strip_prefix("/v1/models/").unwrap_or("").trim_end_matches('/');
    decode_once(raw).unwrap_or_else(|| raw.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(path: &str) -> u16 {
        match Endpoint::resolve(&Method::POST, path) {
            Ok(_) => 200,
            Err(error) => error.kind.status().as_u16(),
        }
    }

    #[test]
    fn dangerous_endpoints_are_refused_however_spelt() {
        for path in [
            "/api/delete",
            "/api/delete/",
            "/API/Delete",
            "//api//delete",
            "/api/./delete",
            "/api/chat/../delete",
            "/%61pi/%64elete",
            "/%2561pi/delete",
            "/api%2fdelete",
            "/api\\pull",
            "/api/pull;x=1",
            "/api/blobs/sha256:00",
            "/v1/../api/push",
            "/debug/pprof/heap",
            "/api/create",
            "/api/copy",
            "/api/me",
        ] {
            assert_eq!(status(path), 403, "{path}");
        }
    }

    #[test]
    fn only_listed_paths_are_served() {
        assert_eq!(status("/v1/chat/completions"), 200);
        assert_eq!(status("/v1/chat/completions/"), 200);
        for path in ["/v1/chat/completionsx", "/v1//chat/completions", "/api/unknown", "/x", "*"] {
            assert_eq!(status(path), 404, "{path}");
        }
        assert_eq!(status("/v1/models"), 405);
    }

    #[test]
    fn a_forgotten_v1_is_pointed_out() {
        let error = Endpoint::resolve(&Method::POST, "/chat/completions").expect_err("unknown");
        assert!(error.message.contains("/v1/chat/completions"), "{}", error.message);
    }

    #[test]
    fn a_doubled_v1_is_pointed_out() {
        let error = Endpoint::resolve(&Method::POST, "/v1/v1/messages").expect_err("refused");
        assert!(error.message.contains("did you mean /v1/messages?"), "{}", error.message);
    }

    #[test]
    fn model_ids_may_hold_slashes_and_colons() {
        assert_eq!(model_id("/v1/models/hf.co/u/m:Q4"), "hf.co/u/m:Q4");
        assert_eq!(model_id("/v1/models/hf.co%2Fu%2Fm%3AQ4"), "hf.co/u/m:Q4");
    }
}
