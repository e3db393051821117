//! Clients: as many requests as answers allow, or at a fixed rate, on a fixed number of connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use memchr::memmem;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// What to send.
#[derive(Clone, Debug, Args)]
pub(crate) struct Plan {
    /// Where to.
    #[arg(long)]
    to: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// For how long new requests are sent.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Bytes of each request's body, about.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Ask for a stream of this many events.
    #[arg(long)]
    events: Option<u64>,
    /// Milliseconds between events.
    #[arg(long)]
    pace: Option<u64>,
    /// Requests a second over all connections; default: as many as answers allow.
    #[arg(long)]
    rate: Option<f64>,
    /// Requests in all; default: no limit.
    #[arg(long)]
    requests: Option<u64>,
    /// The model asked for.
    #[arg(long, default_value = "m")]
    model: String,
    /// The temperature asked for.
    #[arg(long, default_value_t = 0.7)]
    temperature: f64,
    /// Another prompt in each request.
    #[arg(long)]
    distinct: bool,
    /// Hang up each stream after its first event.
    #[arg(long)]
    abort: bool,
}

#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    events: u64,
    errors: u64,
    /// Whole exchanges, or times to the first event of a stream, in microseconds.
    times: Vec<u64>,
    /// Gaps between events, in microseconds.
    gaps: Vec<u64>,
}

#[derive(Serialize)]
struct Report {
    requests: u64,
    events: u64,
    errors: u64,
    seconds: f64,
    p50_us: u64,
    p99_us: u64,
    gap_p50_us: u64,
    gap_p99_us: u64,
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(0)
}

pub(crate) async fn run(plan: Plan) -> io::Result<()> {
    let request = Arc::new(request(&plan));
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(plan.seconds);
    let mut tasks = Vec::new();
    for number in 0..plan.connections {
        let (plan, request) = (plan.clone(), Arc::clone(&request));
        tasks.push(tokio::spawn(connection(plan, request, number, start, until)));
    }
    let mut all = Seen::default();
    for task in tasks {
        let seen = task.await.map_err(io::Error::other)?;
        all.requests += seen.requests;
        all.events += seen.events;
        all.errors += seen.errors;
        all.times.extend(seen.times);
        all.gaps.extend(seen.gaps);
    }
    all.times.sort_unstable();
    all.gaps.sort_unstable();
    let report = Report {
        requests: all.requests,
        events: all.events,
        errors: all.errors,
        seconds: start.elapsed().as_secs_f64(),
        p50_us: percentile(&all.times, 50),
        p99_us: percentile(&all.times, 99),
        gap_p50_us: percentile(&all.gaps, 50),
        gap_p99_us: percentile(&all.gaps, 99),
    };
    let text = serde_json::to_string(&report).map_err(io::Error::other)?;
    io::Write::write_all(&mut io::stdout(), (text + "\n").as_bytes())
}

fn request(plan: &Plan) -> Vec<u8> {
    let mut more = String::new();
    if let Some(events) = plan.events {
        more += &format!("\"stream\":true,\"events\":{events},");
    }
    if let Some(pace) = plan.pace {
        more += &format!("\"pace\":{pace},");
    }
    let frame = r#"{"messages":[{"role":"user","content":""}],"temperature":0.7,"model":"m"}"#;
    let (model, temperature) = (&plan.model, plan.temperature);
    let text = "x".repeat(plan.size.saturating_sub(frame.len() + more.len()));
    let body = format!(
        r#"{{{more}"messages":[{{"role":"user","content":"{text}"}}],"temperature":{temperature},"model":"{model}"}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nUser-Agent: OpenAI/Python 2.54.0\r\nAuthorization: Bearer unused\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn connection(
    plan: Plan,
    mut request: Arc<Vec<u8>>,
    number: usize,
    start: Instant,
    until: Instant,
) -> Seen {
    let mut seen = Seen::default();
    let mut stream = None;
    let step = plan.rate.map(|rate| Duration::from_secs_f64(plan.connections as f64 / rate));
    let share = plan.requests.map(|all| all / plan.connections as u64);
    let offset = |round: u64| {
        let first = plan.rate.map_or(0.0, |rate| number as f64 / rate);
        step.map(|step| start + Duration::from_secs_f64(first + step.as_secs_f64() * round as f64))
    };
    let prompt = memmem::find(&request, b"xxxxxxxxxxxxxxxxxxxxxxxx").filter(|_| plan.distinct);
    let mut round: u64 = 0;
    while Instant::now() < until && share.is_none_or(|share| round < share) {
        // An exchange that is late counts from when it was due, not from when it was sent.
        let due = offset(round);
        if let Some(due) = due {
            sleep_until(due).await;
        }
        if let Some(at) = prompt {
            // The next run asks other things.
            let text = format!("{:08x}{number:06x}{round:010x}", std::process::id());
            Arc::make_mut(&mut request)[at..at + 24].copy_from_slice(text.as_bytes());
        }
        round += 1;
        let since = due.unwrap_or_else(Instant::now);
        if exchange(&plan, &request, &mut stream, since, &mut seen).await.is_err() {
            seen.errors += 1;
            stream = None;
        }
    }
    seen
}

async fn exchange(
    plan: &Plan,
    request: &[u8],
    kept: &mut Option<TcpStream>,
    since: Instant,
    seen: &mut Seen,
) -> io::Result<()> {
    let stream = match kept {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(plan.to).await?;
            stream.set_nodelay(true)?;
            kept.insert(stream)
        }
    };
    stream.write_all(request).await?;
    let mut answer = Vec::with_capacity(16 * 1024);
    let head = loop {
        if let Some(at) = memmem::find(&answer, b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(io::Error::other(String::from_utf8_lossy(&answer[..head]).into_owned()));
    }
    if plan.events.is_some() {
        events(plan, stream, answer.split_off(head), since, seen).await?;
        if plan.abort {
            *kept = None;
        }
    } else {
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let length: usize = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        while answer.len() < head + length {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        seen.times.push(micros(since.elapsed()));
    }
    seen.requests += 1;
    Ok(())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Counts events up to the end of the chunked body.
async fn events(
    plan: &Plan,
    stream: &mut TcpStream,
    mut part: Vec<u8>,
    since: Instant,
    seen: &mut Seen,
) -> io::Result<()> {
    let mut last: Option<Instant> = None;
    let mut tail: Vec<u8> = Vec::new();
    loop {
        let count = memmem::find_iter(&part, b"data: ").count() as u64;
        if count > 0 {
            let now = Instant::now();
            match last {
                None => seen.times.push(micros(now - since)),
                Some(before) => seen.gaps.push(micros(now - before)),
            }
            last = Some(now);
            seen.events += count;
            if plan.abort {
                return Ok(());
            }
        }
        tail.extend_from_slice(&part);
        if tail.ends_with(b"0\r\n\r\n") && memmem::find(&tail, b"[DONE]").is_some() {
            return Ok(());
        }
        let keep = tail.len().saturating_sub(64);
        tail.drain(..keep);
        part.clear();
        if stream.read_buf(&mut part).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
