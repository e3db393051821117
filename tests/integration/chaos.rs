//! Everything at once, for a while: faults of every kind, hosts that die and hang, Redis that stops,
//! reloads, plugins that trap, and clients that leave or talk nonsense. Afterwards nothing may be
//! held, and everything must be served again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::Value;
use sluicegate_simulator::{Fault, Settings, Simulator};
use sluicegate_test_support::redis::Redis;
use sluicegate_test_support::{Connection, Gateway, eventually, guest, post};
use tokio::time::{Instant, sleep};

use super::{BIN, CHAT, MODEL, simulator, upstream};

const CLIENTS: u64 = 16;
const LASTS: Duration = Duration::from_secs(12);
/// Sums over both upstreams that are 0 where nothing is held.
const HELD: [&str; 3] = [
    "sluicegate_admission_in_flight",
    "sluicegate_admission_waiting",
    "sluicegate_request_body_bytes",
];

/// A configuration; several, so that a reload changes something.
fn config(first: &Simulator, second: &Simulator, redis: &str, variant: u64) -> String {
    let quick = format!(
        "max_concurrent: {}, timeouts: {{ connect: 500ms, first_byte: 600ms, idle: 600ms }}",
        3 + variant
    );
    let faulty = guest::faulty().display();
    format!(
        r#"
breaker: {{ errors: {errors}, window: 2s, open_for: 100ms }}
admission: {{ queue: {{ max_wait: 2s }} }}
cache: {{ policy: always, ttl: 2s, exact: {{ redis: "{redis}" }} }}
upstreams:
{}{}plugins:
  - {{ name: complexity-router, source: builtin }}
  - {{ name: prompt-rewriter, source: builtin, config: {{ system: [{{ text: "Variant {variant}." }}] }} }}
  - {{ name: semantic-cache, source: builtin }}
  - {{ name: response-shaper, source: builtin }}
  - {{ name: trap, source: "{faulty}", config: {{ do: trap }} }}
routes:
  - {{ model: "{MODEL}", targets: [{{ upstream: first }}], fallback: [{{ upstream: second }}] }}
  - {{ model: shaped, targets: [{{ upstream: first, model: "{MODEL}" }}, {{ upstream: second, model: "{MODEL}" }}], plugins: [complexity-router, prompt-rewriter, semantic-cache, response-shaper, trap] }}
  - {{ model: native, targets: [{{ upstream: second, model: "{MODEL}" }}], fallback: [{{ upstream: first, model: "{MODEL}" }}], options: {{ num_ctx: 8192 }} }}
"#,
        upstream("first", first, &quick),
        upstream("second", second, &quick),
        errors = 3 + variant,
    )
}

/// What clients saw, by kind.
#[derive(Default)]
struct Seen {
    answers: Mutex<BTreeMap<String, usize>>,
    wrong: Mutex<Vec<String>>,
}

impl Seen {
    fn answer(&self, what: impl Into<String>) {
        *self.answers.lock().entry(what.into()).or_default() += 1;
    }

    fn check(&self, right: bool, what: impl FnOnce() -> String) {
        let mut wrong = self.wrong.lock();
        if !right && wrong.len() < 20 {
            wrong.push(what());
        }
    }

    /// A whole answer: JSON, and an error says what is wrong.
    fn whole(&self, what: &str, status: u16, retry: Option<&str>, body: &[u8]) {
        self.answer(format!("{what} {status}"));
        let text = String::from_utf8_lossy(body);
        let json: Option<Value> = serde_json::from_slice(body).ok();
        self.check(json.is_some(), || format!("{what} {status} is no JSON: {text}"));
        self.check((200..600).contains(&status), || format!("{what}: {status}"));
        let told = json.as_ref().is_some_and(|json| !json["error"].is_null());
        self.check(told == (status >= 400), || format!("{what} {status}: {text}"));
        self.check(status != 503 || retry.is_some(), || format!("{what}: when to come back?"));
    }
}

fn ask(random: &mut fastrand::Rng, stream: bool) -> String {
    let model = [MODEL, MODEL, "shaped", "native", "all-minilm:latest"][random.usize(..5)];
    // Some are asked again and again.
    let number = if random.bool() { random.u32(..4) } else { random.u32(..) };
    let padding = "x".repeat(if random.u8(..20) == 0 { 200_000 } else { 10 });
    format!(
        r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"What is {number}? {padding}"}}]}}"#
    )
}

/// One request of some kind, well or badly behaved.
async fn one(gateway: &Gateway, random: &mut fastrand::Rng, seen: &Seen) {
    let mut client = Connection::open(gateway.data).await;
    match random.u8(..12) {
        0..4 => {
            client.post(CHAT, ask(random, false)).await;
            let Some(head) = client.try_head().await else {
                return seen.check(false, || "a connection closed without an answer".into());
            };
            let body = client.body().await;
            seen.check(body.is_ok(), || format!("a whole answer was cut: {}", head.status));
            if let Ok(body) = body {
                seen.whole("whole", head.status, head.header("retry-after"), &body);
            }
        }
        4..8 => {
            client.post(CHAT, ask(random, true)).await;
            let Some(head) = client.try_head().await else {
                return seen.check(false, || "a connection closed without an answer".into());
            };
            let body = client.body().await;
            match body {
                Ok(body) if head.status != 200 => {
                    seen.whole("stream", head.status, head.header("retry-after"), &body);
                }
                Ok(body) => {
                    let text = String::from_utf8_lossy(&body);
                    let (done, error) = (text.contains("[DONE]"), text.contains("\"error\""));
                    seen.answer(format!("stream 200 done {done} error {error}"));
                    seen.check(done || error, || format!("it ends as if it were whole: {text}"));
                }
                Err(_) => seen.answer("stream cut"),
            }
        }
        8 => {
            client.post(CHAT, ask(random, true)).await;
            sleep(Duration::from_millis(random.u64(..40))).await;
            seen.answer("left");
        }
        9 => {
            client.try_send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await;
            seen.answer("left in its request");
        }
        10 => {
            client.post(CHAT, "{ no JSON").await;
            let answer = client.response().await;
            seen.whole("nonsense", answer.status, None, &answer.body);
            seen.check(answer.status == 400, || format!("nonsense was {}", answer.status));
        }
        _ => {
            client.post("/api/chat", ask(random, false)).await;
            let answer = client.response().await;
            seen.whole("native", answer.status, answer.header("retry-after"), &answer.body);
        }
    }
}

fn fault(random: &mut fastrand::Rng) -> Fault {
    match random.u8(..12) {
        0 => Fault::Close,
        1 => Fault::CutAfter(random.usize(..4)),
        2 => Fault::CrashAfter(random.usize(..4)),
        3 => Fault::StallAfter(random.usize(..4)),
        4 => Fault::EndAfter(random.usize(..4)),
        5 => Fault::SlowFirst(random.u64(..900)),
        6 => Fault::PauseAfterFirst(random.u64(..900)),
        7 => Fault::Status(500, r#"{"error":{"message":"out of memory"}}"#.into()),
        8 => Fault::StatusRetry(429, 1),
        9 => Fault::StatusRetry(503, 1),
        10 => Fault::HugeToken(300_000),
        _ => Fault::ErrorAfter(random.usize(..4)),
    }
}

/// A hundred things go wrong, some of them one after the other.
async fn trouble(
    gateway: &Gateway,
    hosts: &mut [Simulator; 2],
    redis: &Redis,
    random: &mut fastrand::Rng,
) {
    let until = Instant::now() + LASTS;
    while Instant::now() < until {
        let which = random.usize(..2);
        match random.u8(..10) {
            0 => {
                hosts[which].kill().await;
                sleep(Duration::from_millis(random.u64(..300))).await;
                hosts[which].revive().await.expect("its port is free");
            }
            1 => {
                hosts[which].hang(true);
                sleep(Duration::from_millis(random.u64(..800))).await;
                hosts[which].hang(false);
            }
            2 => {
                redis.signal(Signal::STOP);
                sleep(Duration::from_millis(random.u64(..300))).await;
                redis.signal(Signal::CONT);
            }
            3 => {
                let [first, second] = &*hosts;
                gateway.write_config(&config(first, second, &redis.url(), random.u64(..3)));
            }
            4 => hosts[which].faults().loads(random.usize(..3), "its file is broken"),
            _ => {
                let faults: Vec<Fault> = (0..random.usize(..6)).map(|_| fault(random)).collect();
                hosts[which].faults().push(faults);
            }
        }
        sleep(Duration::from_millis(random.u64(..120))).await;
    }
}

async fn sum(gateway: &Gateway, series: &str) -> f64 {
    let page = gateway.metrics().await;
    let of = |line: &str| {
        let rest = line.strip_prefix(series)?;
        let value = rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next())??;
        value.parse::<f64>().ok()
    };
    let found: Vec<f64> = page.lines().filter_map(of).collect();
    assert!(!found.is_empty(), "{series} is not on the page");
    found.iter().sum()
}

#[tokio::test]
async fn after_any_trouble_nothing_is_held_and_everything_is_served() {
    let Some(redis) = Redis::start() else { return };
    let settings = Settings { token_interval: Duration::from_millis(2), ..Settings::default() };
    let mut hosts = [simulator(settings.clone()).await, simulator(settings).await];
    let seed = fastrand::u64(..);
    let [first, second] = &hosts;
    let gateway = Arc::new(Gateway::start(BIN, &config(first, second, &redis.url(), 0)));
    let (seen, over) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let client = |number| {
        let (gateway, seen, over) = (Arc::clone(&gateway), Arc::clone(&seen), Arc::clone(&over));
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                one(&gateway, &mut random, &seen).await;
            }
        })
    };
    let clients: Vec<_> = (1..=CLIENTS).map(client).collect();
    let mut random = fastrand::Rng::with_seed(seed);
    trouble(&gateway, &mut hosts, &redis, &mut random).await;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("it ends by itself");
    }

    for host in &hosts {
        host.faults().loads(0, "");
    }
    for model in [MODEL, "shaped", "native"] {
        let body =
            |n| format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{n}"}}]}}"#);
        // The faults that nobody met yet, and the breakers' times, come first.
        eventually("it is served again", async || {
            for n in 0..10 {
                let body = body(fastrand::u32(..) + n);
                if post(gateway.data, CHAT, body).await.status != 200 {
                    return false;
                }
            }
            true
        })
        .await;
    }
    for series in HELD {
        eventually(series, async || sum(&gateway, series).await == 0.0).await;
    }
    for host in &hosts {
        let recorder = host.recorder();
        eventually("no upstream works for nobody", async || {
            recorder.started() == recorder.finished() + recorder.aborted()
        })
        .await;
    }
    let log = gateway.stderr();
    let own = |line: &&str| line.contains("panicked") && !line.contains("faulty/src/");
    let panics: Vec<&str> = log.lines().filter(own).collect();
    assert!(panics.is_empty(), "{panics:#?}");
    let (answers, wrong) = (seen.answers.lock(), seen.wrong.lock());
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}\n{answers:#?}");
    assert!(answers.len() > 10, "too little happened: {answers:#?}");
}
