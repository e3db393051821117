//! Changes requests by rule: system prompts, history, limits and blocked patterns. A request no
//! rule changes goes on as it came.
//!
//! # Layout
//! - `block`: refuses texts that match a pattern
//! - `system`: system prompts by route and caller
//! - `template`: the variables of a system prompt
//! - `history`: which messages stay
//! - `limits`: longest answers and ranges of parameters
//! - `glob`: name patterns
//! - `config`: the plugin's configuration

mod block;
mod config;
mod glob;
mod history;
mod limits;
mod system;
mod template;

use sluicegate_plugin::config::Cached;
use sluicegate_plugin::rewriter::Decision;
use sluicegate_plugin::{Description, Endpoint, Guest, Needs, Request, Rewriter, describe};

use crate::config::Settings;

struct PromptRewriter;

thread_local! { static SETTINGS: Cached<Settings> = const { Cached::new() }; }

impl Guest for PromptRewriter {
    fn describe() -> Result<Description, String> {
        let settings = sluicegate_plugin::config::parse::<Settings>()?;
        let Settings { system, history, block, .. } = &settings;
        // Limits of parameters go without the messages.
        let reads = !system.is_empty() || !history.is_unlimited() || !block.is_empty();
        Ok(describe!(if reads { Needs::MESSAGES } else { Needs::SHAPE }))
    }
}

impl Rewriter for PromptRewriter {
    fn rewrite(request: Request) -> Decision {
        SETTINGS.with(|settings| decide(settings.get(), &request))
    }
}

fn decide(settings: &Settings, request: &Request) -> Decision {
    if let Some(rejection) = block::refusal(&settings.block, request) {
        return Decision::Reject(rejection);
    }
    let mut edits = Vec::new();
    if is_conversation(request.endpoint) {
        let added = system::edit(&settings.system, request, &mut edits);
        history::edit(&settings.history, request, added, &mut edits);
    }
    limits::edit(settings, request, &mut edits);
    if edits.is_empty() { Decision::Proceed } else { Decision::Edit(edits) }
}

/// Whether messages can be put in and left out. A bare prompt is one text.
fn is_conversation(endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::ChatCompletions
        | Endpoint::Responses
        | Endpoint::Messages
        | Endpoint::NativeChat => true,
        Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::NativeGenerate
        | Endpoint::Other => false,
    }
}

sluicegate_plugin::export!(PromptRewriter: rewriter);

#[cfg(test)]
mod tests {
    use sluicegate_plugin::Role;
    use sluicegate_plugin::rewriter::Edit;
    use sluicegate_plugin::testing::{message, request};

    use super::*;
    use crate::config::settings;

    const ALL: &str = r#"{"system": [{"text": "Be kind."}], "history": {"keep_last": 1},
        "max_tokens": {"max": 10}, "block": [{"pattern": "secret"}]}"#;

    fn talk() -> Request {
        let texts = [(Role::User, "One"), (Role::Assistant, "Two"), (Role::User, "Three")];
        request(texts.map(|(role, text)| message(role, text)).to_vec())
    }

    #[test]
    fn nothing_is_edited_without_need() {
        assert!(matches!(decide(&settings("{}"), &talk()), Decision::Proceed));
        let roomy = r#"{"history": {"keep_last": 9, "token_budget": 99}, "max_tokens": {"max": 9},
            "system": [{"text": "a", "caller": "bob"}], "clamp": {"top_p": {"max": 1}},
            "block": [{"pattern": "secret"}]}"#;
        let mut short = talk();
        short.parameters.max_tokens = Some(9);
        assert!(matches!(decide(&settings(roomy), &short), Decision::Proceed));
    }

    #[test]
    fn messages_are_asked_for_by_the_rules_that_read_them() {
        for (rules, needs) in [
            ("{}", Needs::SHAPE),
            (r#"{"max_tokens": {"max": 9}, "clamp": {"top_p": {"max": 1}}}"#, Needs::SHAPE),
            (r#"{"system": [{"text": "a"}]}"#, Needs::MESSAGES),
            (r#"{"history": {"keep_last": 9}}"#, Needs::MESSAGES),
            (r#"{"history": {"token_budget": 9}}"#, Needs::MESSAGES),
            (r#"{"block": [{"pattern": "secret"}]}"#, Needs::MESSAGES),
        ] {
            sluicegate_plugin::testing::set_config(rules);
            assert_eq!(PromptRewriter::describe().unwrap().needs, needs, "{rules}");
        }
    }

    #[test]
    fn edits_of_all_rules_go_together() {
        let Decision::Edit(edits) = decide(&settings(ALL), &talk()) else { panic!("no edits") };
        assert!(matches!(&edits[0], Edit::InsertMessage(new) if new.text == "Be kind."));
        assert!(matches!(edits[1..3], [Edit::DropMessage(0), Edit::DropMessage(1)]));
        assert!(matches!(&edits[3], Edit::SetParameter((name, _)) if name == "max_tokens"));
        assert!(
            matches!(&edits[4], Edit::RemoveParameter(name) if name == "max_completion_tokens")
        );
        assert_eq!(edits.len(), 5);
    }

    #[test]
    fn a_bare_prompt_keeps_its_text_and_is_blocked_all_the_same() {
        let mut prompt = request(vec![message(Role::User, "Once upon a time")]);
        prompt.endpoint = Endpoint::NativeGenerate;
        assert!(matches!(decide(&settings(ALL), &prompt), Decision::Proceed));
        prompt.messages[0].text = "the secret".into();
        assert!(matches!(decide(&settings(ALL), &prompt), Decision::Reject(_)));
        prompt.endpoint = Endpoint::Embeddings;
        assert!(matches!(decide(&settings(ALL), &prompt), Decision::Reject(_)));
    }
}
