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

use super::record::Record;
use super::{millis, names};
use crate::config::raw::LogFormat;

/// How often lines are written.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Lines waiting beyond this many bytes are lost.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// The access log.
#[derive(Debug)]
pub struct AccessLog {
    waiting: Mutex<Waiting>,
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
    passed: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// What waits to be written.
#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// The second last written, and its text up to the fraction: most lines share it.
    second: u64,
    second_text: String,
}

impl AccessLog {
    /// An access log and the thread that writes it.
    pub fn start(format: LogFormat) -> std::io::Result<Arc<Self>> {
        let log = Arc::new(Self { waiting: Mutex::default(), format: Mutex::new(format) });
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
        let lines = std::mem::take(&mut self.waiting.lock().lines);
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
        let mut waiting = self.waiting.lock();
        if waiting.lines.len() > MAX_WAITING {
            drop(waiting);
            return counter!(names::LOG_DROPPED).increment(1);
        }
        let mut text = String::with_capacity(320);
        waiting.push_time(&mut text);
        match format {
            LogFormat::Json => push_json(&mut waiting.lines, record, &text),
            LogFormat::Text | LogFormat::Off => {
                push_text(&mut text, record);
                waiting.lines.extend_from_slice(text.as_bytes());
            }
        }
        waiting.lines.push(b'\n');
    }
}

impl Waiting {
    /// Appends the time as RFC 3339 with milliseconds.
    fn push_time(&mut self, out: &mut String) {
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.second_text.is_empty() {
            self.second = since.as_secs();
            self.second_text = humantime::format_rfc3339_seconds(now).to_string();
            // The fraction goes before the zone.
            self.second_text.pop();
        }
        out.push_str(&self.second_text);
        let millis = since.subsec_millis();
        out.push('.');
        for place in [100, 10, 1] {
            out.push(char::from(b'0' + u8::try_from(millis / place % 10).unwrap_or(0)));
        }
        out.push('Z');
    }
}

fn push_json(lines: &mut Vec<u8>, record: &Record<'_>, time: &str) {
    let line = Line {
        time,
        request_id: record.id.as_str(),
        caller: &record.caller.0,
        method: record.method,
        endpoint: record.endpoint,
        status: record.status,
        outcome: record.outcome.as_str(),
        duration_ms: rounded(record.total),
        asked: record.asked,
        upstream: record.upstream,
        model: record.model,
        first_ms: record.first.map(rounded),
        queued_ms: rounded(record.queued),
        input_tokens: record.usage.and_then(|usage| usage.prompt_tokens),
        output_tokens: record.usage.and_then(|usage| usage.completion_tokens),
        passed: record.passed.as_deref(),
        cache: record.cache,
        detail: record.detail,
    };
    // A line of strings and numbers always serialises into memory.
    let _ = serde_json::to_writer(lines, &line);
}

/// `key=value` pairs after the time; text from clients and upstreams is quoted so that it cannot
/// forge others.
fn push_text(out: &mut String, record: &Record<'_>) {
    out.push(' ');
    millis::push_number(out, u64::from(record.status));
    for word in [record.method, record.endpoint, record.outcome.as_str()] {
        out.push(' ');
        out.push_str(word);
    }
    out.push_str(" caller=");
    out.push_str(&record.caller.0);
    out.push_str(" id=");
    out.push_str(record.id.as_str());
    out.push_str(" ms=");
    millis::push(out, record.total);
    if let Some(first) = record.first {
        out.push_str(" first_ms=");
        millis::push(out, first);
    }
    if !record.queued.is_zero() {
        out.push_str(" queued_ms=");
        millis::push(out, record.queued);
    }
    if let Some(upstream) = record.upstream {
        out.push_str(" upstream=");
        out.push_str(upstream);
    }
    if let Some(cache) = record.cache {
        out.push_str(" cache=");
        out.push_str(cache);
    }
    push_quoted(out, " asked=", record.asked);
    push_quoted(out, " model=", record.model.unwrap_or(""));
    push_quoted(out, " passed=", record.passed.as_deref().unwrap_or(""));
    push_quoted(out, " detail=", record.detail.unwrap_or(""));
    let usage = record.usage.unwrap_or_default();
    for (name, count) in [(" in=", usage.prompt_tokens), (" out=", usage.completion_tokens)] {
        if let Some(count) = count {
            out.push_str(name);
            millis::push_number(out, count);
        }
    }
}

fn push_quoted(out: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    out.push_str(name);
    if value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
        out.push('"');
        out.push_str(value);
        out.push('"');
    } else {
        // Writing to a string cannot fail.
        let _ = write!(out, "{value:?}");
    }
}
