//! `sluicegate check`.

use std::path::Path;
use std::process::ExitCode;

use super::{BAD_CONFIG, fail, print};
use crate::config::Config;
use crate::listener::tls::Certificate;
use crate::plugin::Loader;

pub(super) fn run(file: &Path) -> ExitCode {
    let config = match Config::load(Some(file)) {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIG, &error.to_string()),
    };
    if let Err(cause) = config.tls.as_ref().map(Certificate::load).transpose() {
        return fail(BAD_CONFIG, &format!("`tls`: {cause}"));
    }
    if let Err(cause) = Loader::default().load(&config, &[]) {
        return fail(BAD_CONFIG, &cause);
    }
    print(&format!(
        "{}: good; {} upstreams, {} routes, {} plugins, {} keys\n",
        file.display(),
        config.upstreams.len(),
        config.routes.len(),
        config.plugins.len(),
        config.keys.len()
    ))
}
