//! The access log: one line for each request on standard output.
//!
//! Lines are gathered in memory and written by a thread of their own a few times a second, so a
//! request costs no system call and no wake-up, and a reader that stalls costs lines, not requests.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::counter;
use parking_lot::Mutex;
use serde::Serialize;

use super::names;
use super::record::Record;
use crate::config::raw::LogFormat;

/// How often lines are written.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Lines waiting beyond this many bytes are lost.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// The access log.
#[derive(Debug)]
pub struct AccessLog {
    lines: Mutex<Vec<u8>>,
    format: Mutex<LogFormat>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    request_id: &'a str,
    caller: &'a str,
    method: &'a str,
    endpoint: &'a str,
    status: u16,
    outcome: &'a str,
    duration_ms: f64,
    #[serde(skip_serializing_if = "str::is_empty")]
    asked: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_ms: Option<f64>,
    #[serde(skip_serializing_if = "is_zero")]
    queued_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

impl AccessLog {
    /// An access log and the thread that writes it.
    pub fn start(format: LogFormat) -> std::io::Result<Arc<Self>> {
        let log = Arc::new(Self { lines: Mutex::default(), format: Mutex::new(format) });
        let writer = Arc::clone(&log);
        std::thread::Builder::new().name("access-log".into()).spawn(move || {
            loop {
                std::thread::sleep(FLUSH_EVERY);
                writer.flush();
            }
        })?;
        Ok(log)
    }

    /// Changes the format of the lines that follow.
    pub fn set_format(&self, format: LogFormat) {
        *self.format.lock() = format;
    }

    /// Writes what is waiting.
    pub fn flush(&self) {
        let lines = std::mem::take(&mut *self.lines.lock());
        if !lines.is_empty() {
            let mut out = std::io::stdout().lock();
            // Nobody is left to be told when standard output is closed.
            let _ = out.write_all(&lines).and_then(|()| out.flush());
        }
    }

    /// Adds the line of one request.
    pub fn write(&self, record: &Record<'_>) {
        let format = *self.format.lock();
        if format == LogFormat::Off {
            return;
        }
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let line = Line {
            time: &time,
            request_id: record.id.as_str(),
            caller: &record.caller.0,
            method: record.method,
            endpoint: record.endpoint,
            status: record.status,
            outcome: record.outcome.as_str(),
            duration_ms: millis(record.total),
            asked: record.asked,
            upstream: record.upstream,
            model: record.model,
            first_ms: record.first.map(millis),
            queued_ms: millis(record.queued),
            input_tokens: record.usage.and_then(|usage| usage.prompt_tokens),
            output_tokens: record.usage.and_then(|usage| usage.completion_tokens),
            detail: record.detail,
        };
        let mut lines = self.lines.lock();
        if lines.len() > MAX_WAITING {
            drop(lines);
            return counter!(names::LOG_DROPPED).increment(1);
        }
        match format {
            // A line of strings and numbers always serialises.
            LogFormat::Json => drop(serde_json::to_writer(&mut *lines, &line)),
            LogFormat::Text | LogFormat::Off => lines.extend_from_slice(line.text().as_bytes()),
        }
        lines.push(b'\n');
    }
}

impl Line<'_> {
    /// `key=value` pairs; text from clients and upstreams is quoted so that it cannot forge others.
    fn text(&self) -> String {
        let mut out = String::with_capacity(256);
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{} {} {} {} {} caller={} id={} ms={}",
            self.time,
            self.status,
            self.method,
            self.endpoint,
            self.outcome,
            self.caller,
            self.request_id,
            self.duration_ms
        );
        if let Some(first) = self.first_ms {
            let _ = write!(out, " first_ms={first}");
        }
        if self.queued_ms > 0.0 {
            let _ = write!(out, " queued_ms={}", self.queued_ms);
        }
        if let Some(upstream) = self.upstream {
            let _ = write!(out, " upstream={upstream}");
        }
        for (name, value) in
            [("asked", Some(self.asked)), ("model", self.model), ("detail", self.detail)]
        {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let _ = write!(out, " {name}={value:?}");
            }
        }
        for (name, count) in [("in", self.input_tokens), ("out", self.output_tokens)] {
            if let Some(count) = count {
                let _ = write!(out, " {name}={count}");
            }
        }
        out
    }
}
