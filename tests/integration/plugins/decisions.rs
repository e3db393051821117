use serde_json::{Value, json};
use sluicegate_simulator::Settings;
use sluicegate_test_support::{Gateway, eventually, get, post, request};

use super::{config, house, plugin, with_plugin};
use crate::{BIN, CHAT, MODEL, chat, simulator};

#[tokio::test]
async fn a_router_sends_a_request_where_it_wants_and_says_why() {
    let house = with_plugin("config: { do: last-first }").await;
    let answer = house.chat("").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-sluicegate-upstream"), Some("second"));
    assert_eq!(answer.header("x-sluicegate-reason"), Some("last first"));
    assert!(answer.header("server-timing").expect("times").contains("plugins;dur="));
}

#[tokio::test]
async fn a_router_decides_by_the_vram_that_is_left() {
    let house = with_plugin("config: { do: headroom }").await;
    // What is loaded is asked for when the gateway starts.
    eventually("80 GiB win against 8", async || {
        let answer = house.chat("").await;
        assert_eq!(answer.header("x-sluicegate-reason"), Some("headroom"));
        answer.header("x-sluicegate-upstream") == Some("second")
    })
    .await;
}

#[tokio::test]
async fn a_router_rejects_in_the_callers_protocol() {
    let house = with_plugin("config: { do: reject }").await;
    let answer = house.chat("").await;
    assert_eq!(answer.status, 451);
    assert_eq!(answer.json()["error"]["code"], "not_here");
    assert_eq!(answer.json()["error"]["message"], "not in this house");
    let native = post(house.gateway.data, "/api/chat", chat("")).await;
    assert_eq!((native.status, native.json()), (451, json!({"error": "not in this house"})));
}

#[tokio::test]
async fn what_no_plugin_changed_is_forwarded_byte_for_byte() {
    let house = with_plugin("config: { do: proceed }").await;
    let body = format!(
        "{{ \"model\" : \"{MODEL}\",\n \"messages\":[{{\"role\":\"user\",\"content\":\"h\\u00e4\"}}], \"x\": 12345678901234567890, \"y\":1.0e2}}"
    );
    assert_eq!(post(house.gateway.data, CHAT, &body).await.status, 200);
    let sent = house.first.recorder().last().expect("sent").body;
    assert_eq!(String::from_utf8_lossy(&sent), body);
}

#[tokio::test]
async fn edits_change_what_they_name_and_nothing_else() {
    let insert = "config: { in: rewriter, do: insert, text: 'Be \"kind\".' }";
    let house = with_plugin(insert).await;
    let body = format!(
        r#"{{"model":"{MODEL}","seed":12345678901234567890,"messages":[{{"role":"user","content":[{{"type":"text","text":"hi"}}],"x":1.50e2}}]}}"#
    );
    assert_eq!(post(house.gateway.data, CHAT, &body).await.status, 200);
    let sent = house.first.recorder().last().expect("sent").body;
    let text = String::from_utf8_lossy(&sent);
    let inserted = r#"[{"role":"system","content":"Be \"kind\"."},{"role":"user""#;
    assert!(text.contains(inserted), "{text}");
    assert!(text.contains("12345678901234567890") && text.contains("1.50e2"), "{text}");
}

#[tokio::test]
async fn history_is_trimmed_without_parting_a_result_from_its_call() {
    let house = with_plugin("config: { in: rewriter, do: keep-last }").await;
    let messages = json!([
        {"role": "system", "content": "s"},
        {"role": "user", "content": "old"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
    ]);
    let body = json!({"model": MODEL, "messages": messages}).to_string();
    assert_eq!(post(house.gateway.data, CHAT, &body).await.status, 200);
    let sent = house.last_body();
    let roles: Vec<&str> = sent["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .filter_map(|message| message["role"].as_str())
        .collect();
    assert_eq!(roles, ["system", "assistant", "tool"]);
}

#[tokio::test]
async fn a_parameter_is_set_once_even_where_the_client_spelt_it_otherwise() {
    let house = with_plugin("config: { in: rewriter, do: temperature }").await;
    assert_eq!(house.chat(r#""Temperature":1.5"#).await.status, 200);
    let sent = house.first.recorder().last().expect("sent").body;
    let text = String::from_utf8_lossy(&sent);
    assert!(text.contains(r#""Temperature":0.25"#) && !text.contains("1.5"), "{text}");
}

#[tokio::test]
async fn another_model_is_routed_anew_and_only_for_those_who_may_use_it() {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let key = "sk-sg-0123456789abcdef0123456789abcdef";
    let keys = format!(
        "  - {{ model: other, targets: [{{ upstream: second, model: \"{MODEL}\" }}] }}\nkeys:\n  - {{ name: narrow, hash: \"blake3:{}\", models: [\"{MODEL}\"] }}\n  - {{ name: wide, hash: \"blake3:{}\" }}\n",
        blake3_hex(key),
        blake3_hex("sk-sg-wide"),
    );
    let move_on = plugin("p", "config: { in: rewriter, do: model, text: other }");
    let gateway = Gateway::start(BIN, &config(&first, &second, &move_on, "p", &keys));
    let ask = async |key: &str| {
        let body = chat("");
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\r\nContent-Length: {}",
            body.len()
        );
        request(gateway.data, &head, body.as_bytes()).await
    };
    let refused = ask(key).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let moved = ask("sk-sg-wide").await;
    assert_eq!(moved.status, 200, "{}", moved.text());
    assert_eq!(moved.header("x-sluicegate-upstream"), Some("second"));
}

fn blake3_hex(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

#[tokio::test]
async fn a_plugin_answers_by_itself_whole_and_streamed() {
    let house = with_plugin("config: { in: rewriter, do: answer, text: 'by \"me\"' }").await;
    let whole = house.chat("").await;
    assert_eq!(whole.json()["choices"][0]["message"]["content"], "by \"me\"");
    let stream = house.chat(r#""stream":true"#).await.text();
    assert!(stream.contains(r#""content":"by \"me\"""#) && stream.ends_with("data: [DONE]\n\n"));
    let native = post(house.gateway.data, "/api/chat", chat("")).await.json();
    assert_eq!(
        (&native["message"]["content"], &native["done"]),
        (&json!("by \"me\""), &json!(true))
    );
    assert_eq!(house.first.recorder().started() + house.second.recorder().started(), 0);
}

#[tokio::test]
async fn a_plugin_sees_what_it_asked_for_and_no_secret() {
    let tell = |more: &str| format!("config: {{ do: tell{more} }}");
    let house = with_plugin(&tell("")).await;
    let answer = house.chat("").await;
    // Host, Content-Type and Content-Length.
    assert_eq!(answer.header("x-sluicegate-reason"), Some("m1 h3 c0"));
    let body = chat("");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer x\r\nCookie: a=b\r\nContent-Length: {}",
        body.len()
    );
    let with_secrets = request(house.gateway.data, &head, body.as_bytes()).await;
    assert_eq!(with_secrets.header("x-sluicegate-reason"), Some("m1 h2 c0"));
    let lying = with_plugin(&tell(", describe: lie")).await;
    assert_eq!(lying.chat("").await.header("x-sluicegate-reason"), Some("m0 h0 c0"));
    // A second plugin's needs do not open the first one's eyes.
    let both = plugin("p", &tell(", describe: lie")) + &plugin("q", "config: { do: none }");
    let both = house_of(&both).await;
    assert_eq!(both.chat("").await.header("x-sluicegate-reason"), Some("m0 h0 c0"));
}

async fn house_of(plugins: &str) -> super::House {
    house(plugins, "p, q", "").await
}

#[tokio::test]
async fn globals_last_for_one_call_or_for_many_as_configured() {
    let fresh = with_plugin("config: { do: tell }").await;
    let reused =
        with_plugin("isolation: reuse, max_calls_per_instance: 9, config: { do: tell }").await;
    let mut counts = [Vec::new(), Vec::new()];
    for _ in 0..4 {
        for (house, counts) in [&fresh, &reused].into_iter().zip(&mut counts) {
            let reason = house.chat("").await;
            let reason = reason.header("x-sluicegate-reason").expect("a reason").to_owned();
            counts.push(reason.rsplit('c').next().expect("a count").to_owned());
        }
    }
    assert_eq!(counts[0], ["0", "0", "0", "0"]);
    // Asking it who it is was the first instance's first call; each request is four.
    assert_eq!(counts[1], ["0", "1", "0", "1"]);
}

#[tokio::test]
async fn the_store_outlives_calls_and_reloads() {
    let house = with_plugin("config: { do: remember }").await;
    assert_eq!(house.chat("").await.header("x-sluicegate-reason"), Some("before:"));
    assert_eq!(house.chat("").await.header("x-sluicegate-reason"), Some("before:anonymous"));
}

#[tokio::test]
async fn a_shadow_changes_nothing_and_is_counted() {
    let shadow = plugin("p", "shadow: true, on_error: reject, config: { do: last-first }")
        + &plugin("q", "shadow: true, config: { in: rewriter, do: insert }");
    let house = house_of(&shadow).await;
    let answer = house.chat("").await;
    assert_eq!(answer.header("x-sluicegate-upstream"), Some("first"));
    assert_eq!(answer.header("x-sluicegate-reason"), Some("route"));
    assert_eq!(house.last_body()["messages"].as_array().map(Vec::len), Some(1));
    for plugin in ["p", "q"] {
        let series =
            format!("sluicegate_plugin_shadow_total{{plugin=\"{plugin}\",outcome=\"different\"}}");
        assert_eq!(house.gateway.metric(&series).await, 1.0, "{plugin}");
    }
}

#[tokio::test]
async fn decisions_can_be_looked_up_and_hold_no_text() {
    let plugins = plugin("p", "config: { do: last-first }")
        + &plugin("q", "config: { in: rewriter, do: insert, text: secret-system-prompt }");
    let house = house_of(&plugins).await;
    let answer = house.chat("").await;
    let id = answer.header("x-request-id").expect("an id").to_owned();
    let path = format!("/api/decisions/{id}");
    eventually("it is recorded", async || get(house.gateway.admin, &path).await.status == 200)
        .await;
    let listed = get(house.gateway.admin, "/api/decisions").await.json();
    assert_eq!(listed[0]["id"], json!(id));
    let page = get(house.gateway.admin, &path).await;
    assert!(!page.text().contains("secret-system-prompt"));
    let decision: Value = page.json();
    assert_eq!(decision["upstream"], "second");
    assert_eq!(decision["changed"], true);
    let steps = decision["steps"].as_array().expect("steps");
    let named = |index: usize| (&steps[index]["plugin"], &steps[index]["interface"]);
    assert_eq!(named(0), (&json!("p"), &json!("router")));
    assert!(steps[0]["decision"].as_str().expect("text").starts_with("rank last first: second/"));
    assert!(steps.iter().any(|step| step["plugin"] == "q" && step["decision"] == "1 edits"));
    assert_eq!(get(house.gateway.admin, "/api/decisions/none").await.status, 404);
}

#[tokio::test]
async fn what_a_plugin_cannot_read_is_refused_instead_of_passed_by() {
    let house = with_plugin("config: { do: tell }").await;
    let body = chat("").replace("\"hi\"", "\"hi \\ud800\"");
    let answer = post(house.gateway.data, CHAT, &body).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("messages[0]"), "{}", answer.text());
    let blind = with_plugin("config: { do: tell, describe: lie }").await;
    assert_ne!(post(blind.gateway.data, CHAT, &body).await.header("x-sluicegate-reason"), None);
}

#[tokio::test]
async fn a_request_that_moves_meets_the_plugins_of_its_new_route() {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let plugins = plugin("p", "config: { in: rewriter, do: model, text: guarded }")
        + &plugin("q", "config: { do: reject }");
    let guarded = "  - { model: guarded, targets: [{ upstream: second }], plugins: [q] }\n";
    let gateway = Gateway::start(BIN, &config(&first, &second, &plugins, "p", guarded));
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 451);
}

#[tokio::test]
async fn the_speed_of_a_model_is_measured() {
    let (first, second) = (
        simulator(crate::paced(8, std::time::Duration::from_millis(20))).await,
        simulator(Settings::default()).await,
    );
    let speed = plugin("p", "config: { do: speed }");
    let gateway = Gateway::start(BIN, &config(&first, &second, &speed, "p", ""));
    let ask = async || {
        let answer = post(gateway.data, CHAT, chat(r#""stream":true"#)).await;
        answer.header("x-sluicegate-reason").map(str::to_owned).expect("a reason")
    };
    assert_eq!(ask().await, "none");
    let known: f64 = ask().await.parse().expect("a number");
    assert!((5.0..100.0).contains(&known), "{known}");
}
