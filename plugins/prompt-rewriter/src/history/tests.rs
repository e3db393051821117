use sluicegate_plugin::testing::{message, request};

use super::*;
use crate::config::settings;

/// The indexes of the messages that stay.
fn kept(config: &str, messages: &[Message], added: usize) -> Vec<u32> {
    let settings = settings(&format!(r#"{{"history": {config}}}"#));
    let mut edits = Vec::new();
    edit(&settings.history, &request(messages.to_vec()), added, &mut edits);
    let dropped: Vec<u32> = edits
        .iter()
        .map(|edit| match edit {
            Edit::DropMessage(index) => *index,
            other => panic!("{other:?}"),
        })
        .collect();
    (0..messages.len() as u32).filter(|index| !dropped.contains(index)).collect()
}

fn say(role: Role) -> Message {
    message(role, "four words of text..")
}

fn call(ids: &[&str]) -> Message {
    let tool_calls = ids.iter().map(|id| (*id).to_owned()).collect();
    Message { tool_calls, ..say(Role::Assistant) }
}

fn result(id: &str) -> Message {
    Message { tool_call_id: Some(id.into()), ..say(Role::Tool) }
}

/// A system prompt, two turns, and a question.
fn chat() -> Vec<Message> {
    let roles =
        [Role::System, Role::User, Role::Assistant, Role::User, Role::Assistant, Role::User];
    roles.map(say).to_vec()
}

#[test]
fn without_limits_all_stays() {
    assert_eq!(kept("{}", &chat(), 0), [0, 1, 2, 3, 4, 5]);
    assert_eq!(kept(r#"{"keep_last": 5}"#, &chat(), 0), [0, 1, 2, 3, 4, 5]);
    assert_eq!(kept(r#"{"token_budget": 30}"#, &chat(), 0), [0, 1, 2, 3, 4, 5]);
    assert!(kept(r#"{"keep_last": 1, "token_budget": 1}"#, &[], 0).is_empty());
}

#[test]
fn the_system_prompt_and_the_last_messages_stay() {
    assert_eq!(kept(r#"{"keep_last": 1}"#, &chat(), 0), [0, 5]);
    assert_eq!(kept(r#"{"keep_last": 3}"#, &chat(), 0), [0, 3, 4, 5]);
}

#[test]
fn system_messages_stay_wherever_they_are() {
    let talk = [Role::User, Role::System, Role::User, Role::System].map(say);
    assert_eq!(kept(r#"{"keep_last": 1}"#, &talk, 0), [1, 2, 3]);
    assert_eq!(kept(r#"{"token_budget": 1}"#, &talk, 0), [1, 2, 3]);
}

#[test]
fn what_fits_the_budget_stays() {
    assert_eq!(kept(r#"{"token_budget": 29}"#, &chat(), 0), [0, 2, 3, 4, 5]);
    assert_eq!(kept(r#"{"token_budget": 10}"#, &chat(), 0), [0, 5]);
    assert_eq!(kept(r#"{"token_budget": 1}"#, &chat(), 0), [0, 5], "the last always stays");
    assert_eq!(kept(r#"{"token_budget": 30}"#, &chat(), 4), [0, 2, 3, 4, 5], "a prompt was added");
}

#[test]
fn history_has_no_gaps() {
    let mut talk = chat();
    talk[3].text = "long ".repeat(100);
    assert_eq!(kept(r#"{"token_budget": 40}"#, &talk, 0), [0, 4, 5]);
}

#[test]
fn both_limits_hold() {
    assert_eq!(kept(r#"{"keep_last": 4, "token_budget": 20}"#, &chat(), 0), [0, 3, 4, 5]);
    assert_eq!(kept(r#"{"keep_last": 2, "token_budget": 99}"#, &chat(), 0), [0, 4, 5]);
}

#[test]
fn a_result_keeps_its_call_and_a_call_its_results() {
    let talk = [
        say(Role::User),
        call(&["a", "b"]),
        result("a"),
        result("b"),
        say(Role::Assistant),
        say(Role::User),
    ];
    assert_eq!(kept(r#"{"keep_last": 2}"#, &talk, 0), [4, 5]);
    for most in [3, 4, 5] {
        let config = format!(r#"{{"keep_last": {most}}}"#);
        assert_eq!(kept(&config, &talk, 0), [1, 2, 3, 4, 5], "{most}");
    }
    assert_eq!(kept(r#"{"token_budget": 24}"#, &talk, 0), [4, 5]);
    assert_eq!(kept(r#"{"token_budget": 25}"#, &talk, 0), [1, 2, 3, 4, 5]);
}

#[test]
fn the_last_group_stays_whole_however_large() {
    let talk = [say(Role::User), call(&["a", "b"]), result("a"), result("b")];
    assert_eq!(kept(r#"{"token_budget": 1}"#, &talk, 0), [1, 2, 3]);
    assert_eq!(kept(r#"{"keep_last": 1}"#, &talk, 0), [1, 2, 3]);
}

#[test]
fn ids_may_be_used_again() {
    let talk = [call(&["0"]), result("0"), say(Role::User), call(&["0"]), result("0")];
    assert_eq!(kept(r#"{"keep_last": 1}"#, &talk, 0), [3, 4]);
}

#[test]
fn a_result_without_an_id_stays_with_what_is_before_it() {
    let talk = [say(Role::User), say(Role::Assistant), say(Role::Tool), say(Role::Tool)];
    assert_eq!(kept(r#"{"keep_last": 1}"#, &talk, 0), [1, 2, 3]);
    let orphans = [result("x"), say(Role::User), result("y")];
    assert_eq!(kept(r#"{"keep_last": 1}"#, &orphans, 0), [2]);
}

#[test]
fn a_result_in_a_user_message_keeps_its_call() {
    let answered = Message { tool_call_id: Some("a".into()), ..say(Role::User) };
    let talk = [say(Role::User), call(&["a"]), answered];
    assert_eq!(kept(r#"{"keep_last": 1}"#, &talk, 0), [1, 2]);
}

#[test]
fn a_long_conversation_takes_no_quadratic_time() {
    let turn = |number: usize| {
        let id = number.to_string();
        [say(Role::User), call(&[&id]), result(&id)]
    };
    let talk: Vec<Message> = (0..20_000).flat_map(turn).collect();
    assert_eq!(kept(r#"{"keep_last": 59999}"#, &talk, 0).len(), 59_999);
}
