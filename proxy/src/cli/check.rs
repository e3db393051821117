//! `sluicegate check`.

use std::path::Path;
use std::process::ExitCode;

use super::{BAD_CONFIG, fail, print};
use crate::config::Config;

pub(super) fn run(file: &Path) -> ExitCode {
    match Config::load(Some(file)) {
        Ok(config) => print(&format!(
            "{}: good; {} upstreams, {} routes, {} keys\n",
            file.display(),
            config.upstreams.len(),
            config.routes.len(),
            config.keys.len()
        )),
        Err(error) => fail(BAD_CONFIG, &error.to_string()),
    }
}
