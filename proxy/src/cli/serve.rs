//! `sluicegate serve`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{BAD_CONFIG, fail};
use crate::config::Config;
use crate::server;

pub(super) fn run(file: Option<PathBuf>) -> ExitCode {
    let config = match Config::load(file.as_deref()) {
        Ok(config) => config,
        Err(error) => return fail(BAD_CONFIG, &error.to_string()),
    };
    match server::run(config, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}
