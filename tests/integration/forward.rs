use serde_json::json;
use sluicegate_simulator::Settings;
use sluicegate_test_support::{Canned, Connection, Gateway, post, request};

use super::{BIN, CHAT, MODEL, chat, pair, simulator, upstream};

#[tokio::test]
async fn an_untouched_request_arrives_byte_for_byte() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let body = "{ \"seed\":90071992547409931234, \"model\" : \"llama3.2:3b\",\n \"x\":null, \"x\":1e+02,\
                \"unknown\":{\"deep\":[1.0,-0]}, \"messages\":[{\"role\":\"user\",\"content\":\"\\u00fc ü 🦀\"}] }";
    assert_eq!(post(gateway.data, CHAT, body).await.status, 200);
    assert_eq!(simulator.recorder().last().expect("a request").body, body);
}

#[tokio::test]
async fn a_rename_changes_nothing_but_the_name() {
    let simulator = simulator(Settings::default()).await;
    let config = format!(
        "upstreams:\n{}routes:\n  - {{ model: assistant, targets: [{{ upstream: host, model: \"{MODEL}\" }}] }}\n",
        upstream("host", &simulator, "")
    );
    let gateway = Gateway::start(BIN, &config);
    let body =
        r#"{"seed":9007199254740993,"model":"assistant","messages":[],"logit_bias":{},"n":null}"#;
    let answer = post(gateway.data, CHAT, body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-sluicegate-model"), Some(MODEL));
    assert_eq!(answer.header("x-sluicegate-reason"), Some("route"));
    let expected = body.replace("\"assistant\"", &format!("\"{MODEL}\""));
    assert_eq!(simulator.recorder().last().expect("a request").body, expected);
}

#[tokio::test]
async fn max_completion_tokens_limits_an_ollama() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let answer = post(gateway.data, CHAT, chat(r#""max_completion_tokens":2"#)).await;
    assert_eq!(answer.json()["usage"]["completion_tokens"], json!(2));
    let sent = simulator.recorder().last().expect("a request").body;
    assert!(String::from_utf8_lossy(&sent).contains(r#""max_completion_tokens":2,"max_tokens":2"#));
}

#[tokio::test]
async fn an_openai_upstream_gets_its_own_base_path_and_key() {
    let simulator = simulator(Settings::default()).await;
    let config = format!(
        "upstreams:\n  cloud: {{ url: \"{}\", kind: openai, api_key: env:CLOUD_KEY }}\n",
        simulator.url()
    );
    let gateway = Gateway::start_with(BIN, &config, &[("CLOUD_KEY", "sk-operator")]);
    let head = "POST /v1/chat/completions?beta=true HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer sk-client\r\nOpenAI-Beta: x";
    let body = chat(r#""max_completion_tokens":2"#);
    let answer = request(
        gateway.data,
        &format!("{head}\r\nContent-Length: {}", body.len()),
        body.as_bytes(),
    )
    .await;
    assert_eq!(answer.status, 200);
    let got = simulator.recorder().last().expect("a request");
    assert_eq!(got.path, "/v1/chat/completions?beta=true");
    assert_eq!(got.headers["authorization"], "Bearer sk-operator");
    assert_eq!(got.headers["openai-beta"], "x");
    assert_eq!(got.body, body, "only an Ollama needs max_tokens");
    assert!(!gateway.stderr().contains("sk-operator") && !gateway.stdout().contains("sk-"));
}

#[tokio::test]
async fn private_and_hop_by_hop_headers_stay_here() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let body = chat("");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://localhost:3000\r\nAuthorization: Bearer secret\r\n\
         x-api-key: secret\r\nCookie: secret\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
         Accept-Encoding: gzip\r\nContent-Length: {}",
        body.len()
    );
    // The simulator, as Ollama, refuses a foreign Host and any Origin.
    assert_eq!(request(gateway.data, &head, body.as_bytes()).await.status, 200);
    let got = simulator.recorder().last().expect("a request");
    for name in ["origin", "authorization", "x-api-key", "cookie", "x-hop", "te", "accept-encoding"]
    {
        assert!(!got.headers.contains_key(name), "{name} went upstream");
    }
    assert_eq!(got.headers["host"], simulator.address().to_string());
}

/// A gateway before an `openai` upstream that answers with `headers` and a small completion.
async fn canned(headers: &str) -> (Gateway, Canned) {
    let body = r#"{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{headers}");
    let cloud = Canned::start(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    let config = format!(
        "upstreams: {{ cloud: {{ url: \"{}\", kind: openai }} }}\n\
         routes: [{{ model: \"*\", targets: [{{ upstream: cloud }}] }}]\n",
        cloud.url()
    );
    (Gateway::start(BIN, &config), cloud)
}

#[tokio::test]
async fn headers_that_an_upstream_declares_its_own_connections_stay_here() {
    let own = "Connection: close, X-Hop\r\nX-Hop: 1\r\nX-Hop: 2\r\nConnection: x-other\r\nX-Other: 1\r\nX-End: 1\r\n";
    let (gateway, _cloud) = canned(own).await;
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((answer.header("x-hop"), answer.header("x-other")), (None, None));
    assert_eq!(answer.header("x-end"), Some("1"));
}

#[tokio::test]
async fn what_asks_for_a_part_or_on_a_condition_stays_here() {
    let (gateway, cloud) = canned("Connection: close\r\n").await;
    let body = chat("");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: g\r\nIf-None-Match: *\r\nIf-Match: \"a\"\r\nIf-Range: \"a\"\r\n\
         If-Modified-Since: Sat, 29 Oct 1994 19:43:31 GMT\r\nRange: bytes=0-1\r\nX-If: 1\r\nContent-Length: {}",
        body.len()
    );
    assert_eq!(request(gateway.data, &head, body.as_bytes()).await.status, 200);
    let heads = cloud.heads();
    assert!(heads[0].contains("\r\nx-if: 1"), "{heads:?}");
    assert!(!heads[0].contains("\r\nif-") && !heads[0].contains("\r\nrange:"), "{heads:?}");
}

/// A chat request of exactly `size` bytes.
fn of_size(size: usize) -> String {
    let frame = chat(r#""pad":"""#);
    chat(&format!(r#""pad":"{}""#, "x".repeat(size - frame.len())))
}

#[tokio::test]
async fn bodies_of_all_sizes_arrive_sized_and_chunked() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    for size in [200, 65_535, 65_536, 65_537, 1 << 20, 32 << 20] {
        let body = of_size(size);
        assert_eq!(body.len(), size);
        assert_eq!(post(gateway.data, CHAT, &body).await.status, 200, "{size} sized");
        assert_eq!(simulator.recorder().last().expect("a request").body, body, "{size} sized");

        let mut connection = Connection::open(gateway.data).await;
        connection
            .send(format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"))
            .await;
        for chunk in body.as_bytes().chunks(100_003) {
            connection.send(format!("{:x}\r\n", chunk.len())).await;
            connection.send(chunk).await;
            connection.send("\r\n").await;
        }
        connection.send("0\r\n\r\n").await;
        assert_eq!(connection.response().await.status, 200, "{size} chunked");
        assert_eq!(simulator.recorder().last().expect("a request").body, body, "{size} chunked");
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests_also_pipelined() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let mut connection = Connection::open(gateway.data).await;
    for _ in 0..3 {
        connection.post(CHAT, chat("")).await;
        assert_eq!(connection.response().await.status, 200);
    }
    let one = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n{}",
        chat("").len(),
        chat("")
    );
    connection.send(one.repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(connection.response().await.status, 200);
    }
    assert_eq!(simulator.recorder().finished(), 6);
    assert!(simulator.recorder().connections() <= 4, "upstream connections are kept");
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_chunks() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let body = chat(r#""stream":true"#);
    let head = format!("POST {CHAT} HTTP/1.0\r\nContent-Length: {}", body.len());
    let answer = request(gateway.data, &head, body.as_bytes()).await;
    assert_eq!(answer.header("transfer-encoding"), None);
    assert!(answer.text().starts_with("data: {") && answer.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_stream_that_only_the_end_of_its_connection_ends_says_so() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let body = chat(r#""stream":true"#);
    let head =
        format!("POST {CHAT} HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: {}", body.len());
    let answer = request(gateway.data, &head, body.as_bytes()).await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    // One whose length is known keeps it.
    let body = chat("");
    let head =
        format!("POST {CHAT} HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: {}", body.len());
    let answer = request(gateway.data, &head, body.as_bytes()).await;
    assert_eq!(answer.header("connection"), Some("keep-alive"));
}

#[tokio::test]
async fn nothing_is_said_before_the_answer_to_http_1_0() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let body = chat("");
    for (version, first) in [("1.0", "HTTP/1.1 200"), ("1.1", "HTTP/1.1 100")] {
        let mut wire = tokio::net::TcpStream::connect(gateway.data).await.expect("connects");
        let head = format!(
            "POST {CHAT} HTTP/{version}\r\nHost: g\r\nExpect: 100-continue\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        wire.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        wire.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with(first), "{answer}");
    }
}

#[tokio::test]
async fn a_client_error_of_an_upstream_passes_and_is_not_retried() {
    use sluicegate_simulator::Fault;
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let own = r#"{"error":{"message":"bad effort","type":"invalid_request_error","param":null,"code":null}}"#;
    simulator.faults().push([
        Fault::Status(400, own.into()),
        Fault::Status(422, "plain text".into()),
        Fault::Status(401, "{}".into()),
    ]);
    let passed = post(gateway.data, CHAT, chat("")).await;
    assert_eq!((passed.status, passed.text()), (400, own.to_owned()));
    let wrapped = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(wrapped.status, 422);
    assert_eq!(wrapped.json()["error"]["message"], json!("plain text"));
    let credentials = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(credentials.status, 502, "the client's own key is not at fault");
    assert_eq!(simulator.recorder().started(), 3);
}
