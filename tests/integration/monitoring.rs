//! What is shipped for Prometheus and Grafana names metrics that there are, in words they understand.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Command;

use serde_json::{Value, json};
use sluicegate_test_support::skipped;

const ALERTS: &str = include_str!("../../config/monitoring/alerts.yaml");
const DASHBOARD: &str = include_str!("../../config/monitoring/grafana-dashboard.json");
/// Where metrics get their names.
const NAMES: [&str; 2] = [
    include_str!("../../proxy/src/telemetry/names.rs"),
    include_str!("../../plugins/host/src/figures.rs"),
];

/// Names of the gateway's metrics in `text`, without what a histogram adds to its own.
fn metrics(text: &str) -> BTreeSet<&str> {
    let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let ours = |name: &&str| name.starts_with("sluicegate_") || name.starts_with("gen_ai_");
    let bare = |name| {
        let parts = ["_bucket", "_sum", "_count"];
        parts.iter().find_map(|part| str::strip_suffix(name, part)).unwrap_or(name)
    };
    text.split(word).filter(ours).map(bare).collect()
}

/// The expressions of the dashboard, with its variables as they are at first.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let annotations = dashboard["annotations"]["list"].as_array().expect("annotations").iter();
    targets
        .chain(annotations)
        .map(|one| one["expr"].as_str().expect("an expression"))
        .map(|text| text.replace("$__rate_interval", "5m").replace("$job", ".*"))
        .map(|text| text.replace("$instance", ".*"))
        .collect()
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    let labels = ["gen_ai_request_model", "gen_ai_token_type"];
    for (what, text) in [("alerts", ALERTS), ("dashboard", DASHBOARD)] {
        let named = metrics(text);
        assert!(named.len() > 8, "{what}: {named:?}");
        for name in named.iter().filter(|name| !labels.contains(name)) {
            let declared = format!("\"{name}\"");
            assert!(NAMES.iter().any(|source| source.contains(&declared)), "{what}: {name}");
        }
    }
}

#[test]
fn prometheus_understands_alerts_and_dashboard() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 40, "{}", expressions.len());
    let rules = expressions
        .iter()
        .enumerate()
        .map(|(number, expr)| json!({ "record": format!("panel:{number}"), "expr": expr }));
    let rules = json!({ "groups": [{ "name": "dashboard", "rules": rules.collect::<Vec<_>>() }] });
    for text in [ALERTS.to_owned(), rules.to_string()] {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let checked = Command::new("promtool").args(["check", "rules"]).arg(file.path()).output();
        let Ok(checked) = checked else {
            assert!(std::env::var_os("CI").is_none(), "promtool is not installed");
            return skipped("promtool is not installed");
        };
        assert!(checked.status.success(), "{checked:?}");
    }
}
