//! The default cache policy: which answers may be given again, to an equal request or also to one
//! that means the same.
//!
//! # Layout
//! - `policy`: the decision
//! - `question`: whether a text may be matched by meaning
//! - `words`: words that say nothing, and words of time
//! - `config`: the plugin's configuration

mod config;
mod policy;
mod question;
mod words;

use sluicegate_plugin::cache_policy::Policy;
use sluicegate_plugin::config::Cached;
use sluicegate_plugin::{CachePolicy, Description, Guest, Needs, Request, describe};

use crate::config::Settings;

struct SemanticCache;

thread_local! { static SETTINGS: Cached<Settings> = const { Cached::new() }; }

impl Guest for SemanticCache {
    fn describe() -> Result<Description, String> {
        let settings = sluicegate_plugin::config::parse::<Settings>()?;
        // Only what is matched by meaning is read.
        Ok(describe!(if settings.similar { Needs::MESSAGES } else { Needs::SHAPE }))
    }
}

impl CachePolicy for SemanticCache {
    fn decide(request: Request) -> Option<Policy> {
        SETTINGS.with(|settings| Some(policy::decide(settings.get(), &request)))
    }
}

sluicegate_plugin::export!(SemanticCache: cache_policy);
