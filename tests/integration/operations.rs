use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sluicegate_simulator::Settings;
use sluicegate_test_support::{Connection, Gateway, eventually, get, post, request, reserved};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{BIN, CHAT, MODEL, chat, paced, pair, simulator, upstream};

#[tokio::test]
async fn metrics_satisfy_promtool() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    assert_eq!(post(gateway.data, CHAT, chat(r#""stream":true"#)).await.status, 200);
    assert_eq!(post(gateway.data, "/nope", "{}").await.status, 404);
    let page = gateway.metrics().await;
    for name in [
        "sluicegate_requests_total{",
        "gen_ai_server_request_duration_seconds_bucket{",
        "gen_ai_server_time_to_first_token_seconds_bucket{",
        "gen_ai_server_time_per_output_token_seconds_bucket{",
        "gen_ai_client_token_usage_bucket{",
        "sluicegate_gateway_overhead_seconds_bucket{",
        "sluicegate_admission_queue_seconds_bucket{",
        "sluicegate_breaker_state{",
        "sluicegate_upstream_up{",
        "sluicegate_build_info{",
    ] {
        assert!(page.contains(name), "{name} is missing:\n{page}");
    }
    satisfies_promtool(&page);
}

/// Skips where promtool is not installed, but not in CI.
pub(super) fn satisfies_promtool(page: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        assert!(std::env::var_os("CI").is_none(), "promtool is not installed");
        return sluicegate_test_support::skipped("promtool is not installed");
    };
    use std::io::Write as _;
    promtool.stdin.take().expect("piped").write_all(page.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn the_admin_listener_shows_health_and_upstreams_and_asks_for_its_token() {
    let simulator = simulator(Settings::default()).await;
    let config =
        format!("admin_token: env:ADMIN_TOKEN\nupstreams:\n{}", upstream("host", &simulator, ""));
    let gateway = Gateway::start_with(BIN, &config, &[("ADMIN_TOKEN", "letmein")]);
    for (path, open) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 401),
        ("/api/upstreams", 401),
        ("/x", 401),
    ] {
        assert_eq!(get(gateway.admin, path).await.status, open, "{path}");
    }
    let head = "GET /api/upstreams HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer letmein";
    eventually("the upstream was asked", async || {
        let status = request(gateway.admin, head, b"").await.json();
        status[0]["reachable"] == true
            && status[0]["version"] == "0.12.3"
            && status[0]["models"][0].is_string()
    })
    .await;
    let wrong = "GET /metrics HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer letmeinn";
    assert_eq!(request(gateway.admin, wrong, b"").await.status, 401);
    assert_eq!(post(gateway.admin, "/healthz", "{}").await.status, 405);
}

#[tokio::test]
async fn no_web_page_reaches_an_admin_listener_without_a_token() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let asked = async |line: &str, headers: &str| {
        request(gateway.admin, &format!("{line} HTTP/1.1\r\n{headers}"), b"").await.status
    };
    let entries = "GET /api/cache/entries";
    for host in ["localhost:1", "127.0.0.1", "[::1]:9", "gpu-box", "gpu.local", "x.localhost"] {
        assert_eq!(asked(entries, &format!("Host: {host}")).await, 200, "{host}");
    }
    for host in ["evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example"] {
        assert_eq!(asked(entries, &format!("Host: {host}")).await, 403, "{host}");
    }
    let drop = "DELETE /api/cache/entries?all=true";
    assert_eq!(asked(drop, "Host: localhost\r\nOrigin: http://evil.example").await, 403);
    assert_eq!(asked(drop, "Host: localhost").await, 200);
    assert_eq!(asked("GET /metrics", "Host: gateway.example").await, 200, "for a proxy before it");
    let config = "admin_token: env:ADMIN_TOKEN\nupstreams: {}\n";
    let keyed = Gateway::start_with(BIN, config, &[("ADMIN_TOKEN", "letmein")]);
    let head = format!("{entries} HTTP/1.1\r\nHost: gpu.example\r\nAuthorization: bearer letmein");
    assert_eq!(request(keyed.admin, &head, b"").await.status, 200);
}

#[tokio::test]
async fn each_request_has_one_line_an_id_and_its_timing() {
    let (gateway, _simulator) = pair(Settings::default(), "access_log: { format: json }").await;
    let body = chat(r#""stream":true"#);
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: g\r\nx-request-id: my-id.1\r\nContent-Length: {}",
        body.len()
    );
    let answer = request(gateway.data, &head, body.as_bytes()).await;
    assert_eq!(answer.header("x-request-id"), Some("my-id.1"));
    let timing = answer.header("server-timing").expect("a timing");
    assert!(
        timing.starts_with("queue;dur=")
            && timing.contains("upstream;dur=")
            && timing.contains("gateway;dur="),
        "{timing}"
    );
    post(gateway.data, CHAT, "{").await;
    eventually("both lines are written", async || gateway.stdout().lines().count() == 2).await;
    let lines: Vec<serde_json::Value> =
        gateway.stdout().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["request_id"], "my-id.1");
    assert_eq!((&lines[0]["status"], &lines[0]["outcome"]), (&200.into(), &"answered".into()));
    assert_eq!((&lines[0]["input_tokens"], &lines[0]["output_tokens"]), (&11.into(), &8.into()));
    assert_eq!(lines[1]["status"], 400);
    assert!(!gateway.stdout().contains("\"content\""), "prompts are not logged");
}

#[tokio::test]
async fn a_line_tells_who_was_passed_over_and_what_the_cache_gave() {
    let simulator = simulator(Settings::default()).await;
    let config = format!(
        "upstreams:\n  dead: {{ url: \"http://{}\", kind: ollama }}\n{}routes:\n  - {{ model: first, \
         targets: [{{ upstream: dead }}], fallback: [{{ upstream: host, model: \"{MODEL}\" }}] }}\n  \
         - {{ model: \"*\", targets: [{{ upstream: host }}] }}\n",
        reserved(),
        upstream("host", &simulator, "")
    );
    for format in ["json", "text"] {
        let log = format!("access_log: {{ format: {format} }}\n{config}");
        let gateway = Gateway::start(BIN, &log);
        let elsewhere = chat("").replace(MODEL, "first");
        for body in [elsewhere, chat(r#""temperature":0"#), chat(r#""temperature":0"#)] {
            assert_eq!(post(gateway.data, CHAT, body).await.status, 200);
        }
        eventually("all are written", async || gateway.stdout().lines().count() == 3).await;
        let text = gateway.stdout();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("fallback: dead failed (connect)"), "{text}");
        assert!(lines[1].contains("miss") && lines[2].contains("hit-l1"), "{text}");
        assert!(!lines[2].contains("passed") && !lines[0].contains("cache"), "{text}");
    }
}

#[tokio::test]
async fn sigterm_lets_running_requests_end_and_then_exits() {
    let (mut gateway, _simulator) = pair(paced(8, Duration::from_millis(100)), "").await;
    let mut running = Connection::open(gateway.data).await;
    running.post(CHAT, chat(r#""stream":true"#)).await;
    running.head().await;
    gateway.signal(Signal::TERM);
    eventually("no new connections are taken", async || {
        tokio::net::TcpStream::connect(gateway.data).await.is_err()
            || gateway.stderr().contains("draining")
    })
    .await;
    assert_eq!(get(gateway.admin, "/readyz").await.status, 503);
    assert!(running.body().await.expect("whole").ends_with(b"data: [DONE]\n\n"));
    let since = Instant::now();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "an idle gateway does not sit out its grace period"
    );
    assert!(gateway.stdout().contains(" answered "), "the last lines are written");
}

#[tokio::test]
async fn the_grace_period_ends() {
    let (mut gateway, simulator) =
        pair(paced(1_000, Duration::from_millis(100)), "drain: 300ms").await;
    let mut running = Connection::open(gateway.data).await;
    running.post(CHAT, chat(r#""stream":true"#)).await;
    running.head().await;
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    simulator.recorder().until(|recorder| recorder.aborted() == 1).await;
}

#[tokio::test]
async fn sigquit_hands_over_without_refusing_a_connection() {
    let (mut gateway, _simulator) = pair(paced(10, Duration::from_millis(100)), "").await;
    let mut running = Connection::open(gateway.data).await;
    running.post(CHAT, chat(r#""stream":true"#)).await;
    running.head().await;
    gateway.signal(Signal::QUIT);
    let mut served = 0;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let answer = post(gateway.data, CHAT, chat(r#""max_tokens":1"#)).await;
        assert_eq!(answer.status, 200);
        served += 1;
    }
    assert!(running.body().await.expect("whole").ends_with(b"data: [DONE]\n\n"));
    assert_eq!(gateway.wait().code(), Some(0), "the old process has ended");
    assert!(served > 5);
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200, "the new one serves");
    // The successor is nobody's child here: it is found through its own port and stopped.
    let successor = gateway
        .stderr()
        .lines()
        .find_map(|line| line.split("pid=").nth(1)?.trim().parse::<i32>().ok());
    let pid = rustix::process::Pid::from_raw(successor.expect("its pid is logged")).expect("a pid");
    rustix::process::kill_process(pid, Signal::TERM).expect("signalled");
}

/// Certificates for `localhost`, and a client that trusts them.
struct Authority {
    roots: rustls::RootCertStore,
}

impl Authority {
    fn issue(gateway_dir: &std::path::Path) -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(gateway_dir.join("cert.pem"), made.cert.pem()).expect("written");
        std::fs::write(gateway_dir.join("key.pem"), made.signing_key.serialize_pem())
            .expect("written");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        Self { roots }
    }

    async fn connect(
        &self,
        gateway: &Gateway,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let tcp = tokio::net::TcpStream::connect(gateway.data).await?;
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }
}

#[tokio::test]
async fn tls_serves_http_1_and_2_and_takes_a_new_certificate_on_reload() {
    let simulator = simulator(Settings::default()).await;
    let dir = tempfile::TempDir::new().expect("a directory");
    let old = Authority::issue(dir.path());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let config = format!(
        "tls: {{ cert: {}, key: {} }}\nupstreams:\n{}",
        path("cert.pem"),
        path("key.pem"),
        upstream("host", &simulator, "")
    );
    let gateway = Gateway::start(BIN, &config);

    let mut http1 =
        Connection::over(old.connect(&gateway, &[b"http/1.1"]).await.expect("a handshake"));
    http1.post(CHAT, chat("")).await;
    assert_eq!(http1.response().await.status, 200);

    let stream = old.connect(&gateway, &[b"h2", b"http/1.1"]).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .expect("HTTP/2");
    tokio::spawn(connection);
    for body in [chat(""), chat(r#""stream":true"#)] {
        let request = http::Request::post("https://localhost/v1/chat/completions")
            .body(http_body_util::Full::new(bytes::Bytes::from(body)))
            .expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let body =
            http_body_util::BodyExt::collect(answer.into_body()).await.expect("whole").to_bytes();
        assert!(body.ends_with(b"}\n") || body.ends_with(b"data: [DONE]\n\n"));
    }

    let new = Authority::issue(dir.path());
    eventually("new connections see the new certificate", async || {
        new.connect(&gateway, &[]).await.is_ok()
    })
    .await;
    assert!(old.connect(&gateway, &[]).await.is_err());
    http1.post(CHAT, chat("")).await;
    assert_eq!(http1.response().await.status, 200, "old connections live on");
}

#[tokio::test]
async fn an_upstream_behind_tls_is_trusted_by_the_systems_roots_only() {
    let simulator = simulator(Settings::default()).await;
    let dir = tempfile::TempDir::new().expect("a directory");
    Authority::issue(dir.path());
    let files = sluicegate::config::raw::Tls {
        cert: dir.path().join("cert.pem").display().to_string(),
        key: dir.path().join("key.pem").display().to_string(),
    };
    let acceptor = sluicegate::listener::tls::Certificate::load(&files)
        .expect("loaded")
        .acceptor()
        .expect("made");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let target = simulator.address();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut plain = tokio::net::TcpStream::connect(target).await.expect("connects");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
            });
        }
    });
    let config =
        format!("upstreams:\n  host: {{ url: \"https://localhost:{port}\", kind: ollama }}\n");
    let trusting = Gateway::start_with(BIN, &config, &[("SSL_CERT_FILE", &files.cert)]);
    for body in [chat(""), chat(r#""stream":true"#)] {
        let answer = post(trusting.data, CHAT, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let strict = Gateway::start(BIN, &config);
    let answer = post(strict.data, CHAT, chat("")).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("certificate"), "{}", answer.text());
}

#[tokio::test]
async fn http_2_without_tls_is_off_unless_asked_for() {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let mut connection = Connection::open(gateway.data).await;
    connection.send(preface).await;
    assert_eq!(connection.try_head().await.map(|head| head.status), Some(400));

    let (gateway, _simulator) = pair(Settings::default(), "h2c: true").await;
    let stream = tokio::net::TcpStream::connect(gateway.data).await.expect("connects");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::get(format!("http://{}/v1/models", gateway.data))
        .body(http_body_util::Full::<bytes::Bytes>::default())
        .expect("a request");
    assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200, "HTTP/1 goes on beside it");
}
