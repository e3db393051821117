//! `sluicegate status`: one screen of what a running gateway does.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Local};
use clap::Args;

use super::client::{Client, Where};
use super::{fail, print};
use crate::admin::state::{LeftAlone, ModelStatus, Status, UpstreamStatus};
use crate::gpu::Gpu;

/// Longest time for an answer.
const WAIT: Duration = Duration::from_secs(5);
/// Between two screens.
const EVERY: Duration = Duration::from_secs(1);
/// Clears the screen and starts at its top (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Width of the bar that shows how full a GPU is.
const BAR: usize = 20;
/// Waiting requests on one screen.
const SHOWN_WAITING: usize = 10;
/// Events on one screen.
const SHOWN_EVENTS: usize = 10;

/// How it is shown.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Show it anew every second.
    #[arg(long)]
    watch: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Where,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let client = match options.gateway.client() {
        Ok(client) => client,
        Err(why) => return fail(1, &why),
    };
    loop {
        let shown = match show(&client, options.json) {
            Ok(shown) => shown,
            Err(why) if !options.watch => return fail(1, &why),
            // It may come back.
            Err(why) => format!("{why}\n"),
        };
        if !options.watch {
            return print(&shown);
        }
        if print(&format!("{CLEAR}{shown}")) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
        std::thread::sleep(EVERY);
    }
}

fn show(client: &Client, json: bool) -> Result<String, String> {
    let body = client.get("/api/status", WAIT)?;
    if json {
        return Ok(String::from_utf8_lossy(&body).into_owned());
    }
    let status: Status = serde_json::from_slice(&body)
        .map_err(|cause| format!("this is not the status of a gateway: {cause}"))?;
    Ok(screen(&status))
}

/// Writing to a string cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{ let _ = writeln!($out, $($text)*); }};
}

fn screen(status: &Status) -> String {
    let mut out = String::new();
    line!(out, "sluicegate {}\n", status.version);
    if let Some(why) = &status.config_problem {
        line!(out, "CONFIGURATION\n  {}\n", why.replace('\n', "\n  "));
    }
    line!(out, "GPUS");
    if status.gpus.sample.gpus.is_empty() {
        line!(out, "  none can be read on this machine");
    }
    status.gpus.sample.gpus.iter().for_each(|one| gpu(&mut out, one));
    line!(out, "\nUPSTREAMS");
    status.upstreams.iter().for_each(|one| upstream(&mut out, one));
    line!(out, "\nLOADED");
    let loaded: Vec<_> = status.models.iter().filter(|one| one.resident).collect();
    if loaded.is_empty() {
        line!(out, "  nothing");
    }
    loaded.into_iter().for_each(|one| model(&mut out, one));
    queue(&mut out, status);
    line!(out, "\nLATELY");
    if status.events.is_empty() {
        line!(out, "  nothing");
    }
    for event in status.events.iter().take(SHOWN_EVENTS) {
        let at = i64::try_from(event.at_unix_ms).ok().and_then(DateTime::from_timestamp_millis);
        let at = at.map(|at| at.with_timezone(&Local).format("%H:%M:%S").to_string());
        let subject = [Some(event.upstream.as_str()), event.model.as_deref()];
        let subject = subject.into_iter().flatten().collect::<Vec<_>>().join(" ");
        line!(out, "  {}  {subject}: {}", at.unwrap_or_default(), event.what);
    }
    out
}

fn gpu(out: &mut String, gpu: &Gpu) {
    let part = gpu.memory_used as f64 / gpu.memory_total.max(1) as f64;
    let full = ((part * BAR as f64).round() as usize).min(BAR);
    let bar = format!("{}{}", "#".repeat(full), ".".repeat(BAR - full));
    let mut more = String::new();
    if let Some(busy) = gpu.utilization {
        let _ = write!(more, "  {:.0} % busy", busy * 100.0);
    }
    if let Some(celsius) = gpu.temperature {
        let _ = write!(more, "  {celsius:.0} C");
    }
    if let Some(watts) = gpu.power {
        let _ = write!(more, "  {watts:.0} W");
    }
    let (used, total) = (gib(gpu.memory_used), gib(gpu.memory_total));
    let (id, name) = (&gpu.id, &gpu.name);
    line!(out, "  {id:<14} [{bar}] {used} / {total}  {} %{more}  {name}", percent(part));
}

fn upstream(out: &mut String, one: &UpstreamStatus) {
    let breaker = match &one.breaker_reason {
        Some(why) if one.breaker != "closed" => format!("{} ({why})", one.breaker),
        Some(_) | None => one.breaker.clone(),
    };
    let reachable = match &one.problem {
        Some(why) => format!("  not reachable ({why})"),
        None => String::new(),
    };
    let room = one.headroom.map_or_else(String::new, |bytes| room(bytes, one.idle.unwrap_or(0)));
    let container =
        one.container.as_ref().map_or_else(String::new, |state| format!("  container {state}"));
    let UpstreamStatus { name, in_flight, max_concurrent, waiting, .. } = one;
    line!(
        out,
        "  {name:<14} breaker {breaker}{reachable}  in flight {in_flight}/{max_concurrent}  waiting \
         {waiting}{room}{container}"
    );
    for LeftAlone { model, why } in &one.left_alone {
        line!(out, "  {:<14} left alone: {model} ({why})", "");
    }
}

/// What is free, and what idle models would leave: in use, they are no room.
fn room(bytes: u64, idle: u64) -> String {
    let free = gib(bytes.saturating_sub(idle));
    if idle == 0 { format!("  room {free}") } else { format!("  room {free} + {} idle", gib(idle)) }
}

fn model(out: &mut String, one: &ModelStatus) {
    let size = one.size.unwrap_or_default();
    let on_gpu = percent(one.size_vram.unwrap_or_default() as f64 / size.max(1) as f64);
    let context = one.context.map_or_else(String::new, |tokens| format!("  context {tokens}"));
    let speed =
        one.decode_per_second.map_or_else(String::new, |speed| format!("  {speed:.0} tokens/s"));
    let load = one.load_seconds.map_or_else(String::new, |time| format!("  loads in {time:.1} s"));
    let stays = match (one.pinned, one.expires_in) {
        (true, _) => "  pinned".to_owned(),
        (false, Some(left)) => format!("  goes in {left} s"),
        (false, None) => String::new(),
    };
    let (model, upstream, in_flight) = (&one.model, &one.upstream, one.in_flight);
    line!(
        out,
        "  {upstream:<14} {model}  {}  {on_gpu} % on the GPU{context}{speed}{load}  in flight \
         {in_flight}{stays}",
        gib(size)
    );
}

fn queue(out: &mut String, status: &Status) {
    for queue in &status.queues {
        let line = &queue.line;
        if let Some(loading) = &line.loading {
            let seconds = loading.since_ms / 1000;
            line!(out, "\nLOADING at {}: {} for {seconds} s", queue.upstream, loading.model);
        }
        if line.waiting.is_empty() {
            continue;
        }
        line!(out, "\nWAITING for {}: {}", queue.upstream, line.waiting_total);
        for one in line.waiting.iter().take(SHOWN_WAITING) {
            let (waited, left) = (one.waited_ms / 1000, one.estimate_ms / 1000);
            let (position, caller, model) = (one.position, &one.caller, &one.model);
            line!(out, "  {position:>3}  {caller}  {model}  for {waited} s, about {left} s to go");
        }
    }
}

/// Whole per cent, cut off as where thresholds are named: 94.9 % has not reached 95 %.
fn percent(part: f64) -> u64 {
    (part * 100.0) as u64
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
