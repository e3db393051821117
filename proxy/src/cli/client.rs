//! The command line as a client of a running gateway's admin listener.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::StatusCode;
use serde_json::Value;

use crate::config::UpstreamConfig;
use crate::config::units::{Secret, SecretSource};
use crate::upstream::{Origin, Pool, ask};

/// Where the admin listener is unless told otherwise.
const DEFAULT: &str = "http://127.0.0.1:9464";

/// Which gateway is meant.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// Its admin listener. Default: $SLUICEGATE_ADMIN, else http://127.0.0.1:9464.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Its admin token: env:NAME or file:/path. Default: $SLUICEGATE_ADMIN_TOKEN, if that is set.
    #[arg(long, value_name = "SOURCE")]
    token: Option<String>,
}

/// A way to ask it.
pub(super) struct Client {
    origin: Origin,
    pool: Arc<Pool>,
    runtime: tokio::runtime::Runtime,
}

impl Where {
    /// Gets ready to ask. The error is for whoever typed it.
    pub(super) fn client(&self) -> Result<Client, String> {
        let given = self.admin.clone().or_else(|| std::env::var("SLUICEGATE_ADMIN").ok());
        let url = given.unwrap_or_else(|| DEFAULT.to_owned());
        let upstream = UpstreamConfig::at(&url)
            .map_err(|why| format!("{why}; expected a URL such as {DEFAULT}"))?;
        let config = UpstreamConfig { name: url, api_key: self.token()?, ..upstream };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| cause.to_string())?;
        let tls = match config.origin.scheme_str() {
            Some("https") => Some(crate::upstream::connect::tls_config()?),
            _ => None,
        };
        Ok(Client { origin: Origin::new(config, tls.as_ref())?, pool: Arc::default(), runtime })
    }

    fn token(&self) -> Result<Option<Secret>, String> {
        const VARIABLE: &str = "SLUICEGATE_ADMIN_TOKEN";
        let source = match self.token.as_deref().and_then(|text| text.split_once(':')) {
            Some(("env", name)) => SecretSource::Env(name.to_owned()),
            Some(("file", path)) => SecretSource::File(path.to_owned()),
            Some(_) => return Err("`--token` is env:NAME or file:/path".into()),
            None if self.token.is_some() => {
                return Err("`--token` is env:NAME or file:/path".into());
            }
            None if std::env::var_os(VARIABLE).is_none() => return Ok(None),
            None => SecretSource::Env(VARIABLE.to_owned()),
        };
        source.read().map(Some)
    }
}

impl Client {
    /// `GET path`.
    pub(super) fn get(&self, path: &'static str, wait: Duration) -> Result<Bytes, String> {
        let asked = ask::get(&self.origin, &self.pool, path, wait);
        self.runtime.block_on(asked).map_err(|cause| self.explain(&cause))
    }

    /// `POST path`.
    pub(super) fn post(
        &self,
        path: &'static str,
        body: &Value,
        wait: Duration,
    ) -> Result<(), String> {
        let asked = ask::post(&self.origin, &self.pool, path, body, wait);
        self.runtime.block_on(asked).map(drop).map_err(|cause| self.explain(&cause))
    }

    fn explain(&self, cause: &ask::Unanswered) -> String {
        match cause {
            ask::Unanswered::Failed(failure) => {
                format!(
                    "no gateway answers at {}: {failure}; `--admin ADDRESS` or $SLUICEGATE_ADMIN says where \
                     its admin listener is",
                    self.origin.config.name
                )
            }
            ask::Unanswered::Status(StatusCode::UNAUTHORIZED, _) => {
                "the gateway's admin token is needed: `--token env:NAME` or `--token file:/path`, or \
                 $SLUICEGATE_ADMIN_TOKEN; the one given, if any, is wrong".to_owned()
            }
            ask::Unanswered::Status(_, text) if text.starts_with("no such path") => {
                format!("{} is not the admin listener of a gateway", self.origin.config.name)
            }
            ask::Unanswered::Status(_, text) | ask::Unanswered::Unusable(text) => text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_found_where_its_admin_listener_is_by_default() {
        for admin in [DEFAULT, "127.0.0.1:9464", "http://127.0.0.1:8080"] {
            let there = Where { admin: Some(admin.to_owned()), token: None };
            assert!(there.client().is_ok(), "{admin}");
        }
        let nowhere = Where { admin: Some("ftp://x".into()), token: None };
        let why = nowhere.client().err().expect("no URL");
        assert!(why.contains("ftp://x") && why.contains(DEFAULT), "{why}");
    }
}
