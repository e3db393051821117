//! A test guest that does what its configuration's `do` says, all of it wrong: the gateway's tests
//! see that it costs its own call and nothing else.

use std::cell::Cell;
use std::time::Duration;

use sluicegate_plugin::host::{Level, load, log, save};
use sluicegate_plugin::responder::{Answer, Edited, Piece};
use sluicegate_plugin::rewriter::{Decision as Rewrite, Edit, Insertion};
use sluicegate_plugin::router::{Decision as Route, Ranked, Ranking, Target};
use sluicegate_plugin::{
    CachePolicy, Description, Guest, Needs, Rejection, Request, Responder, Rewriter, Role, Router,
    Value, cache_policy, config, describe,
};

struct Faulty;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn task() -> String {
    config::get("do").unwrap_or_default()
}

/// The interface the fault is for; `router` when not said.
fn is_for(interface: &str) -> bool {
    config::get("in").as_deref().unwrap_or("router") == interface
}

/// What goes wrong in any interface.
fn misbehave() {
    match task().as_str() {
        "spin" => loop {
            std::hint::black_box(());
        },
        "trap" => panic!("told to"),
        "overflow" => {
            fn deeper(n: u64) -> u64 {
                if n == u64::MAX { 0 } else { deeper(std::hint::black_box(n + 1)) + n }
            }
            std::hint::black_box(deeper(0));
        }
        "grow" => {
            let mut all: Vec<Vec<u8>> = Vec::new();
            loop {
                all.push(vec![1; 1 << 20]);
                std::hint::black_box(&all);
            }
        }
        "sleep" => std::thread::sleep(Duration::from_secs(60)),
        "flood" => (0..10_000).for_each(|n| log(Level::Error, &format!("flood {n}\nERROR forged"))),
        "exit" => std::process::exit(0),
        "secrets" => look_around(),
        _ => {}
    }
}

/// Traps, and so tells, when anything can be reached that was not granted.
fn look_around() {
    assert!(std::env::vars().next().is_none(), "environment");
    assert!(std::fs::read_dir("/").is_err(), "files");
    assert!(
        std::net::TcpStream::connect("127.0.0.1:1")
            .is_err_and(|e| { e.kind() != std::io::ErrorKind::ConnectionRefused }),
        "network"
    );
}

impl Guest for Faulty {
    fn describe() -> Result<Description, String> {
        match config::get("describe").as_deref() {
            Some("refuse") => Err("`describe` says refuse".into()),
            Some("trap") => panic!("told to"),
            Some("lie") => Ok(describe!(Needs::empty())),
            _ => Ok(describe!(Needs::SHAPE | Needs::MESSAGES | Needs::HEADERS | Needs::RESPONSE)),
        }
    }
}

fn rank(targets: &[(u32, f64)], reason: &str) -> Route {
    Route::Rank(Ranking {
        targets: targets.iter().map(|&(target, weight)| Ranked { target, weight }).collect(),
        reason: reason.into(),
        defaults: Vec::new(),
        labels: Vec::new(),
    })
}

impl Router for Faulty {
    fn route(request: Request, targets: Vec<Target>) -> Route {
        if !is_for("router") {
            return Route::Proceed;
        }
        misbehave();
        match task().as_str() {
            "unknown-target" => rank(&[(99, 1.0)], "x"),
            "nan" => rank(&[(0, f64::NAN)], "x"),
            "no-target" => rank(&[], "x"),
            "forge-header" => rank(&[(0, 1.0)], "x\r\nx-forged: 1"),
            "last-first" => rank(&[(targets.len() as u32 - 1, 1.0)], "last first"),
            "headroom" => {
                sluicegate_plugin::router::heaviest_first(&targets, "headroom", |target| {
                    target.headroom.map_or(-1.0, |bytes| bytes as f64)
                })
            }
            "speed" => {
                let speed = targets[0].tokens_per_second;
                rank(&[(0, 1.0)], &speed.map_or("none".into(), |speed| format!("{speed:.1}")))
            }
            // Says what it was shown.
            "tell" => {
                let seen = format!(
                    "m{} h{} c{}",
                    request.messages.len(),
                    request.headers.len(),
                    CALLS.replace(CALLS.get() + 1)
                );
                rank(&[(0, 1.0)], &seen)
            }
            "remember" => {
                let before = load("last").ok().flatten().unwrap_or_default();
                let _ = save("last", request.caller.as_bytes(), 0);
                rank(&[(0, 1.0)], &format!("before:{}", String::from_utf8_lossy(&before)))
            }
            "reject" => Route::Reject(Rejection {
                status: 451,
                code: "not_here".into(),
                message: "not in this house".into(),
            }),
            "bad-status" => {
                Route::Reject(Rejection { status: 200, code: "ok".into(), message: "fine".into() })
            }
            _ => Route::Proceed,
        }
    }
}

impl Rewriter for Faulty {
    fn rewrite(request: Request) -> Rewrite {
        if !is_for("rewriter") {
            return Rewrite::Proceed;
        }
        misbehave();
        let text = || config::get("text").unwrap_or_else(|| "inserted".into());
        match task().as_str() {
            "missing-message" => Rewrite::Edit(vec![Edit::DropMessage(999)]),
            "nan" => Rewrite::Edit(vec![Edit::SetParameter(("x".into(), Value::Number(f64::NAN)))]),
            "set-stream" => {
                Rewrite::Edit(vec![Edit::SetParameter(("stream".into(), Value::Boolean(true)))])
            }
            "insert" => Rewrite::Edit(vec![Edit::InsertMessage(Insertion {
                before: 0,
                role: Role::System,
                text: text(),
            })]),
            "keep-last" => Rewrite::Edit(vec![Edit::KeepLast(1)]),
            "temperature" => {
                Rewrite::Edit(vec![Edit::SetParameter(("temperature".into(), Value::Number(0.25)))])
            }
            "model" => Rewrite::Edit(vec![Edit::SetModel(text())]),
            "answer" => Rewrite::Answer(text()),
            "echo" => Rewrite::Answer(
                request
                    .messages
                    .iter()
                    .map(|message| message.text.as_str())
                    .collect::<Vec<_>>()
                    .join("|"),
            ),
            _ => Rewrite::Proceed,
        }
    }
}

impl CachePolicy for Faulty {
    fn decide(_: Request) -> Option<cache_policy::Policy> {
        if !is_for("cache-policy") {
            return None;
        }
        misbehave();
        Some(cache_policy::Policy {
            mode: Some(cache_policy::Mode::Off),
            ttl_seconds: None,
            scope: None,
            min_similarity: Some(if task() == "nan" { f64::NAN } else { 0.9 }),
        })
    }
}

impl Responder for Faulty {
    fn edit(_: Answer, piece: Piece) -> Edited {
        if !is_for("responder") {
            return Edited { text: piece.text, state: piece.state };
        }
        misbehave();
        match task().as_str() {
            "upper" => Edited { text: piece.text.to_uppercase(), state: Vec::new() },
            // Gives everything at the end.
            "hold" => {
                let mut held = piece.state;
                held.extend_from_slice(piece.text.as_bytes());
                if piece.finish.is_some() {
                    Edited { text: String::from_utf8_lossy(&held).into_owned(), state: Vec::new() }
                } else {
                    Edited { text: String::new(), state: held }
                }
            }
            "hold-then-trap" => {
                assert!(piece.state.len() < 2, "told to");
                Edited { text: String::new(), state: vec![0; piece.state.len() + 1] }
            }
            "huge-state" => Edited { text: piece.text, state: vec![0; 1 << 20] },
            _ => Edited { text: piece.text, state: Vec::new() },
        }
    }

    fn waiting(_: Answer, waited_ms: u64) -> Option<String> {
        (task() == "waiting").then(|| format!("[{} s] ", waited_ms / 1000))
    }
}

sluicegate_plugin::export!(Faulty: router, rewriter, cache_policy, responder);
