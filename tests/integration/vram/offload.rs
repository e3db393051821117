use sluicegate_simulator::Settings;
use sluicegate_test_support::{Gateway, eventually};

use super::{A, GIB, Host, Terms, by, card, chat, model, reason, served, several_polls, spare};

/// A model larger than the card.
const G: &str = "giant:1";

fn giant() -> Settings {
    card(24, &[(A, 10), (G, 30)])
}

fn terms(policy: &str) -> String {
    format!("offload: {policy}")
}

async fn alone(policy: &str) -> (Gateway, Host) {
    let host = Host::start(giant()).await;
    let terms = terms(policy);
    let gateway = Terms { admission: &terms, ..Terms::default() }.alone(&host).await;
    (gateway, host)
}

async fn ratio(gateway: &Gateway) -> f64 {
    gateway.metric("sluicegate_residency_gpu_ratio{upstream=\"host\",model=\"giant:1\"}").await
}

#[tokio::test]
async fn a_model_larger_than_the_card_is_used_and_that_is_said() {
    let (gateway, host) = alone("warn").await;
    for _ in 0..2 {
        let answer = chat(&gateway, G).await;
        assert_eq!((answer.status, by(&answer)), (200, "host"));
        assert_eq!(answer.header("x-sluicegate-offload"), Some("partial"));
    }
    let ratio = ratio(&gateway).await;
    assert!((0.7..0.9).contains(&ratio), "{ratio}");
    assert_eq!(model(&gateway, G).await["partial"], true);
    assert_eq!(host.loads(G), 1);
    let whole = chat(&gateway, A).await;
    assert_eq!((whole.status, whole.header("x-sluicegate-offload")), (200, None));
}

#[tokio::test]
async fn a_model_larger_than_the_card_is_used_without_a_word_where_that_is_allowed() {
    let (gateway, _host) = alone("allow").await;
    let answer = chat(&gateway, G).await;
    assert_eq!(
        (answer.status, answer.header("x-sluicegate-offload")),
        (200, None),
        "{}",
        answer.text()
    );
    let ratio = ratio(&gateway).await;
    assert!((0.7..0.9).contains(&ratio), "{ratio}");
}

#[tokio::test]
async fn a_model_larger_than_the_card_goes_elsewhere_where_that_is_wanted() {
    let settings = giant();
    let (host, spare) = (Host::start(settings.clone()).await, spare(&settings).await);
    let policy = terms("fallback");
    let gateway = Terms { admission: &policy, ..Terms::default() }.with_spare(&host, &spare).await;
    for _ in 0..2 {
        let answer = chat(&gateway, G).await;
        assert_eq!((answer.status, by(&answer)), (200, "spare"));
        assert!(reason(&answer).contains("host: it runs partly on the CPU"), "{}", reason(&answer));
        assert_eq!(answer.header("x-sluicegate-offload"), None);
    }
    assert_eq!(host.loads(G), 0);
    assert_eq!(served(&gateway, A).await, "host");
}

#[tokio::test]
async fn where_there_is_nowhere_else_it_is_used_all_the_same() {
    let (gateway, host) = alone("fallback").await;
    for _ in 0..2 {
        let answer = chat(&gateway, G).await;
        assert_eq!((answer.status, by(&answer)), (200, "host"));
        assert_eq!(answer.header("x-sluicegate-offload"), Some("partial"));
    }
    assert_eq!(host.loads(G), 1);
}

#[tokio::test]
async fn a_model_larger_than_the_card_is_refused_where_that_is_wanted() {
    let (gateway, host) = alone("reject").await;
    let answer = chat(&gateway, G).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("overloaded")));
    let wait: u64 = answer.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!(wait >= 1);
    assert!(answer.text().contains("partly on the CPU"), "{}", answer.text());
    assert_eq!(host.loads(G), 0);
    let refused = "sluicegate_admission_refused_total{upstream=\"host\",reason=\"offload\"}";
    assert_eq!(gateway.metric(refused).await, 1.0);
    assert_eq!(served(&gateway, A).await, "host");
}

#[tokio::test]
async fn a_resident_that_is_partly_on_the_cpu_is_left_out_where_that_is_wanted() {
    // Somebody loaded it before the gateway came, when others held most of the card.
    let settings = giant();
    let (host, spare) = (Host::start(settings.clone()).await, spare(&settings).await);
    host.simulator.scheduler().set_foreign(20 << 30);
    host.direct(A).await;
    host.simulator.scheduler().set_foreign(0);
    let policy = terms("fallback");
    let gateway = Terms { admission: &policy, ..Terms::default() }.with_spare(&host, &spare).await;
    eventually("it is seen", async || model(&gateway, A).await["partial"] == true).await;
    assert_eq!(served(&gateway, A).await, "spare");
}

#[tokio::test]
async fn a_model_partly_on_the_cpu_is_freed_from_it_once_it_would_fit() {
    let host = Host::start(card(24, &[(A, 14)])).await;
    host.simulator.scheduler().set_foreign(15 * GIB);
    host.direct(A).await;
    let gateway = Terms { admission: "offload: warn", ..Terms::default() }.alone(&host).await;
    eventually("it is seen", async || model(&gateway, A).await["partial"] == true).await;
    several_polls().await;
    assert_eq!(model(&gateway, A).await["partial"], true, "there is no room for it");
    host.simulator.scheduler().set_foreign(0);
    eventually("it is unloaded", async || model(&gateway, A).await["resident"] == false).await;
    // What others held had opened the breaker.
    eventually("it serves again", async || {
        let answer = chat(&gateway, A).await;
        answer.status == 200 && answer.header("x-sluicegate-offload").is_none()
    })
    .await;
    eventually("all of it is on the GPU", async || {
        let shown = model(&gateway, A).await;
        (&shown["resident"], &shown["partial"]) == (&true.into(), &false.into())
    })
    .await;
    let events = super::admin(&gateway, "/api/events").await.to_string();
    assert!(events.contains("it ran partly on the CPU"), "{events}");
}
