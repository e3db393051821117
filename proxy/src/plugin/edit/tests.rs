//! Every edit on every layout, and what each must leave alone.

use serde_json::{Value as Json, json};
use sluicegate_plugin_host::rewriter::{Edit, Insertion};
use sluicegate_plugin_host::types::{Role, Value};

use super::*;

fn edit(form: Form, body: &str, edits: &[Edit]) -> Result<String, String> {
    let document = Document::parse(form, body.as_bytes()).expect("an object");
    apply(&document, edits).map(|(bytes, _)| String::from_utf8(bytes.to_vec()).expect("UTF-8"))
}

fn json_of(form: Form, body: &Json, edits: &[Edit]) -> Json {
    let text = edit(form, &body.to_string(), edits).expect("edited");
    serde_json::from_str(&text).expect("JSON")
}

fn insert(before: u32, role: Role, text: &str) -> Edit {
    Edit::InsertMessage(Insertion { before, role, text: text.into() })
}

fn set(name: &str, value: Value) -> Edit {
    Edit::SetParameter((name.into(), value))
}

fn user(text: &str) -> Json {
    json!({"role": "user", "content": text})
}

#[test]
fn what_no_edit_names_keeps_its_bytes() {
    let body = r#"{ "m\u0061x": 1e400, "big":12345678901234567890 ,"messages":[ {"role":"user","content":"a","x":[ 1 ]} ],"y":null}"#;
    let edited = edit(Form::Chat, body, &[set("seed", Value::Integer(7))]).expect("edited");
    assert_eq!(
        edited,
        r#"{"m\u0061x":1e400,"big":12345678901234567890,"messages":[ {"role":"user","content":"a","x":[ 1 ]} ],"y":null,"seed":7}"#
    );
    let edited = edit(Form::Chat, body, &[insert(1, Role::User, "b")]).expect("edited");
    assert!(
        edited
            .contains(r#"[{"role":"user","content":"a","x":[ 1 ]},{"role":"user","content":"b"}]"#)
    );
}

#[test]
fn a_parameter_is_set_replaced_and_removed_however_it_is_spelt() {
    let body = r#"{"Top_P":1,"top_p":2,"t\u006fp_k":3}"#;
    let of = |edits: &[Edit]| edit(Form::Chat, body, edits).expect("edited");
    assert_eq!(
        of(&[set("top_p", Value::Number(0.5))]),
        r#"{"Top_P":0.5,"top_p":0.5,"t\u006fp_k":3}"#
    );
    assert_eq!(of(&[Edit::RemoveParameter("TOP_P".into())]), r#"{"t\u006fp_k":3}"#);
    assert_eq!(of(&[Edit::RemoveParameter("top_k".into())]), r#"{"Top_P":1,"top_p":2}"#);
    let both = [set("n", Value::Boolean(true)), set("n", Value::Text("a\"b".into()))];
    assert!(of(&both).ends_with(r#""n":"a\"b"}"#));
}

#[test]
fn what_decides_the_way_of_a_request_is_no_parameter() {
    for name in ["model", "stream", "Stream", "stream_options", "messages", "input", "prompt", ""] {
        assert!(edit(Form::Chat, "{}", &[set(name, Value::Boolean(true))]).is_err(), "{name}");
        assert!(edit(Form::Chat, "{}", &[Edit::RemoveParameter(name.into())]).is_err(), "{name}");
    }
    assert!(edit(Form::Chat, "{}", &[set("x", Value::Number(f64::NAN))]).is_err());
}

#[test]
fn indexes_are_those_of_the_messages_as_given() {
    let body = json!({"messages": [user("0"), user("1"), user("2")]});
    let edits = [
        Edit::DropMessage(0),
        insert(1, Role::System, "before 1"),
        Edit::ReplaceText((2, "two".into())),
        insert(3, Role::Assistant, "last"),
    ];
    let edited = json_of(Form::Chat, &body, &edits);
    let texts: Vec<&str> = edited["messages"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|m| m["content"].as_str())
        .collect();
    assert_eq!(texts, ["before 1", "1", "two", "last"]);
    for wrong in
        [Edit::DropMessage(3), Edit::ReplaceText((3, String::new())), insert(4, Role::User, "")]
    {
        assert!(edit(Form::Chat, &body.to_string(), &[wrong]).is_err());
    }
}

#[test]
fn parts_that_are_not_text_stay_when_a_text_is_replaced() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:x"}});
    let body = json!({"messages": [{"role": "user", "name": "n", "content": [
        {"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]}]});
    let edited = json_of(Form::Chat, &body, &[Edit::ReplaceText((0, "c".into()))]);
    let expected = json!([{"type": "text", "text": "c"}, image]);
    assert_eq!(edited["messages"][0]["content"], expected);
    assert_eq!(edited["messages"][0]["name"], "n");
}

#[test]
fn the_last_messages_are_kept_with_the_system_prompt_and_the_calls_of_results() {
    let call =
        json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c"}, {"id": "d"}]});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "r"});
    let body = json!({"messages": [
        {"role": "system", "content": "s"}, user("old"), call, result("c"), result("d"), user("new")]});
    let kept = |last: u32| {
        let edited = json_of(Form::Chat, &body, &[Edit::KeepLast(last)]);
        edited["messages"].as_array().expect("a list").len()
    };
    assert_eq!((kept(0), kept(1), kept(2), kept(3), kept(4)), (1, 2, 5, 5, 5));
    assert_eq!((kept(5), kept(99)), (6, 6));
}

#[test]
fn each_layout_has_its_own_place_for_the_system_prompt() {
    let s = |text: &str| insert(0, Role::System, text);
    let anthropic = json!({"system": "b", "messages": [user("u")]});
    assert_eq!(json_of(Form::Messages, &anthropic, &[s("a")])["system"], "a\n\nb");
    assert_eq!(json_of(Form::Messages, &json!({"messages": []}), &[s("a")])["system"], "a");
    let replaced = json_of(Form::Messages, &anthropic, &[Edit::ReplaceText((0, "x".into()))]);
    assert_eq!((&replaced["system"], &replaced["messages"]), (&json!("x"), &json!([user("u")])));
    assert!(json_of(Form::Messages, &anthropic, &[Edit::DropMessage(0)]).get("system").is_none());
    let responses = json!({"input": "hi"});
    let edited =
        json_of(Form::Responses, &responses, &[s("a"), Edit::ReplaceText((0, "ho".into()))]);
    assert_eq!((&edited["instructions"], &edited["input"]), (&json!("a"), &json!("ho")));
    let generate = json_of(Form::Generate, &json!({"prompt": "p"}), &[s("a")]);
    assert_eq!((&generate["system"], &generate["prompt"]), (&json!("a"), &json!("p")));
    let items = json!({"input": [{"type": "reasoning", "id": "r"}, user("u")]});
    let edited = json_of(Form::Responses, &items, &[insert(1, Role::User, "v")]);
    assert_eq!(edited["input"][0]["id"], "r");
}

#[test]
fn a_single_prompt_can_be_replaced_and_nothing_be_put_beside_it() {
    let body = json!({"prompt": "p"});
    let edited = json_of(Form::Prompt, &body, &[Edit::ReplaceText((0, "q".into()))]);
    assert_eq!(edited["prompt"], "q");
    assert!(edit(Form::Prompt, &body.to_string(), &[insert(0, Role::User, "x")]).is_err());
    assert!(edit(Form::Prompt, &body.to_string(), &[Edit::DropMessage(0)]).is_err());
    assert!(edit(Form::Other, "{}", &[insert(0, Role::User, "x")]).is_err());
}

#[test]
fn defaults_are_set_only_where_there_is_none() {
    let body = r#"{"Temperature":null,"seed":1}"#;
    let document = Document::parse(Form::Chat, body.as_bytes()).expect("an object");
    let defaults =
        [("temperature".to_owned(), Value::Number(0.2)), ("seed".to_owned(), Value::Integer(2))];
    let changed = set_defaults(&document, &defaults).expect("allowed").expect("changed");
    assert_eq!(changed, r#"{"Temperature":0.2,"seed":1}"#);
    assert_eq!(set_defaults(&document, &defaults[1..]), Ok(None));
}

#[test]
fn all_of_a_request_is_seen() {
    let body = json!({"model": "m", "max_completion_tokens": 5, "temperature": 0.5, "n": 2,
    "tools": [{}, {}], "response_format": {"type": "json_object"}, "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "ä"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": [{"type": "image_url"}], "images": ["x"]},
        {"role": "assistant", "tool_calls": [{"id": "c"}]},
        {"role": "tool", "tool_call_id": "c", "content": "r"}]})
    .to_string();
    let document = Document::parse(Form::Chat, body.as_bytes()).expect("an object");
    let shape = document.shape();
    assert_eq!((shape.messages, shape.text_chars, shape.prompt_tokens), (4, 4, 2));
    assert_eq!((shape.attachments, shape.tools, shape.structured), (2, 2, true));
    let parameters = document.parameters();
    assert_eq!(
        (parameters.max_tokens, parameters.temperature, parameters.n),
        (Some(5), Some(0.5), Some(2))
    );
    let roles: Vec<Role> = document.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
    assert_eq!(document.messages[3].tool_call_id.as_deref(), Some("c"));
    let native = r#"{"options":{"temperature":0.1,"num_predict":9},"prompt":"p"}"#;
    let document = Document::parse(Form::Generate, native.as_bytes()).expect("an object");
    assert_eq!(document.parameters().max_tokens, Some(9));
}

#[test]
fn what_servers_could_read_differently_is_not_shown_to_plugins_at_all() {
    for unclear in [
        r#"{"messages":[{"role":"user","content":"secret \ud800"}]}"#,
        r#"{"messages":[{"role":"user","content":"x","content":"secret"}]}"#,
        r#"{"messages":[{"role":"user","content":"x","Content":"secret"}]}"#,
        r#"{"messages":[{"role":"user","content":"secret"}],"Messages":[]}"#,
        "{\"messages\":[],\"me\u{17f}\u{17f}ages\":[{\"role\":\"user\",\"content\":\"secret\"}]}",
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":1}]}]}"#,
        r#"{"messages":[{"role":"user","content":{"text":"secret"}}]}"#,
        r#"{"messages":{"role":"user","content":"secret"}}"#,
    ] {
        assert!(Document::parse(Form::Chat, unclear.as_bytes()).is_err(), "{unclear}");
    }
    assert!(Document::parse(Form::Chat, b"{\"user\":\"\xff\",\"messages\":[]}").is_err());
}

#[test]
fn a_text_is_seen_whatever_stands_around_it() {
    let seen = |form: Form, body: &str| {
        let document = Document::parse(form, body.as_bytes()).expect("clear");
        document.messages.iter().map(|m| (m.role, m.text.clone())).collect::<Vec<_>>()
    };
    let user = |text: &str| vec![(Role::User, text.to_owned())];
    for body in [
        r#"{"messages":[{"Role":"user","Content":"secret"}]}"#,
        r#"{"messages":[{"role":"user","tool_call_id":"x","content":"secret"}]}"#,
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"secret"},{"type":"x","id":1}]}]}"#,
    ] {
        assert_eq!(seen(Form::Chat, body), user("secret"), "{body}");
    }
    assert_eq!(seen(Form::Prompt, r#"{"prompt":["secret"]}"#), user("secret"));
    assert_eq!(seen(Form::Input, r#"{"input":"secret"}"#), user("secret"));
    let both = r#"{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"r"},{"type":"text","text":"secret"}]}]}"#;
    assert_eq!(seen(Form::Messages, both), user("r\nsecret"), "the user speaks, too");
}

#[test]
fn a_tools_result_is_replaced_where_it_was_read() {
    let body =
        json!({"input": [{"type": "function_call_output", "call_id": "c", "output": "secret"}]});
    let edited = json_of(Form::Responses, &body, &[Edit::ReplaceText((0, "-".into()))]);
    assert_eq!(
        edited["input"][0],
        json!({"type": "function_call_output", "call_id": "c", "output": "-"})
    );
    let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "secret"}]});
    let body = json!({"messages": [{"role": "user", "content": [result]}]});
    let edited = json_of(Form::Messages, &body, &[Edit::ReplaceText((0, "-".into()))]);
    assert!(!edited.to_string().contains("secret"), "{edited}");
    assert_eq!(edited["messages"][0]["content"][0]["tool_use_id"], "t");
}

#[test]
fn a_result_within_a_result_is_refused() {
    let body = |depth: usize| {
        let (open, close) =
            (r#"[{"type":"tool_result","content":"#.repeat(depth), "}]".repeat(depth));
        format!(r#"{{"messages":[{{"role":"user","content":{open}"deep"{close}}}]}}"#)
    };
    let read = |depth| {
        Document::parse(Form::Messages, body(depth).as_bytes()).map(|document| {
            document.messages.iter().map(|message| message.text.clone()).collect::<Vec<_>>()
        })
    };
    assert_eq!(read(1), Ok(vec!["deep".to_owned()]));
    // Two hundred thousand deep, a reader without a bound would overflow its stack.
    for depth in [2, 200_000] {
        assert!(read(depth).is_err_and(|why| why.contains("must hold no other")), "{depth}");
    }
}

#[test]
fn parallel_calls_stay_with_their_results() {
    let body = json!({"input": [user("old"),
        {"type": "function_call", "call_id": "a"}, {"type": "function_call", "call_id": "b"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": "2"}]});
    for keep in 1..=4 {
        let edited = json_of(Form::Responses, &body, &[Edit::KeepLast(keep)]);
        assert_eq!(edited["input"].as_array().map(Vec::len), Some(4), "keep {keep}");
    }
}

#[test]
fn a_long_history_can_be_dropped_message_by_message() {
    let messages: Vec<Json> = (0..1_000).map(|n| user(&n.to_string())).collect();
    let drops: Vec<Edit> = (0..990).map(Edit::DropMessage).collect();
    let edited = json_of(Form::Chat, &json!({"messages": messages}), &drops);
    assert_eq!(edited["messages"].as_array().map(Vec::len), Some(10));
}

#[test]
fn the_largest_limit_counts() {
    let limit = |body: &str| {
        Document::parse(Form::Chat, body.as_bytes()).expect("clear").parameters().max_tokens
    };
    assert_eq!(limit(r#"{"max_completion_tokens":5,"max_tokens":100000}"#), Some(100_000));
    assert_eq!(limit(r#"{"max_completion_tokens":1e5,"max_tokens":200}"#), Some(100_000));
    assert_eq!(limit(r#"{"max_tokens":-1}"#), Some(0));
}
