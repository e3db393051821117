//! System prompts by route and caller.

use serde::Deserialize;
use sluicegate_plugin::rewriter::{Edit, Insertion};
use sluicegate_plugin::{Request, Role};

use crate::{glob, template};

/// A system prompt, and for whom it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SystemRule {
    /// Pattern of route names.
    route: Option<String>,
    /// Pattern of callers.
    caller: Option<String>,
    /// The prompt, with variables.
    text: String,
    /// What becomes of the client's own.
    #[serde(default)]
    mode: Mode,
}

/// What becomes of the client's system prompt.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// It follows ours.
    #[default]
    Prepend,
    /// It goes.
    Replace,
    /// It stays, and ours is not used.
    IfAbsent,
}

impl SystemRule {
    /// Says what is wrong with the values.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.text.trim().is_empty() {
            return Err("text: expected a text".into());
        }
        for (key, pattern) in [("route", &self.route), ("caller", &self.caller)] {
            if pattern.as_ref().is_some_and(String::is_empty) {
                return Err(format!("{key}: expected a name or a pattern such as `team-*`"));
            }
        }
        Ok(())
    }

    fn fits(&self, request: &Request) -> bool {
        let fits = |pattern: &Option<String>, name| {
            pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, name))
        };
        fits(&self.route, route(request)) && fits(&self.caller, &request.caller)
    }
}

/// The name of the request's route; the model's where it was found by its own name.
pub(crate) fn route(request: &Request) -> &str {
    request.route.as_deref().unwrap_or(&request.model)
}

/// Applies the first rule that fits; gives the bytes by which the system prompt grows.
pub(crate) fn edit(rules: &[SystemRule], request: &Request, edits: &mut Vec<Edit>) -> usize {
    let Some(rule) = rules.iter().find(|rule| rule.fits(request)) else { return 0 };
    let text = template::fill(&rule.text, request);
    let messages = (0_u32..).zip(&request.messages);
    let mut prompts = messages.filter(|(_, message)| message.role == Role::System);
    let Some((index, first)) = prompts.next() else { return insert(text, edits) };
    match rule.mode {
        Mode::IfAbsent => {
            let absent =
                first.text.trim().is_empty() && prompts.all(|(_, m)| m.text.trim().is_empty());
            if absent { replace(index, &first.text, text, edits) } else { 0 }
        }
        Mode::Replace => {
            edits.extend(prompts.map(|(index, _)| Edit::DropMessage(index)));
            replace(index, &first.text, text, edits)
        }
        // Many chat templates take one system message only, at the start.
        Mode::Prepend if index == 0 && !first.text.starts_with(&text) => {
            let joined = if first.text.is_empty() { text } else { text + "\n\n" + &first.text };
            replace(index, &first.text, joined, edits)
        }
        Mode::Prepend if index == 0 => 0,
        Mode::Prepend => insert(text, edits),
    }
}

fn insert(text: String, edits: &mut Vec<Edit>) -> usize {
    let grown = text.len();
    edits.push(Edit::InsertMessage(Insertion { before: 0, role: Role::System, text }));
    grown
}

fn replace(index: u32, old: &str, new: String, edits: &mut Vec<Edit>) -> usize {
    let grown = new.len().saturating_sub(old.len());
    if new != old {
        edits.push(Edit::ReplaceText((index, new)));
    }
    grown
}

#[cfg(test)]
mod tests {
    use sluicegate_plugin::testing::{message, request};

    use super::*;
    use crate::config::settings;

    fn edited(rule: &str, request: &Request) -> Vec<String> {
        let settings = settings(&format!(r#"{{"system": [{rule}]}}"#));
        let mut edits = Vec::new();
        edit(&settings.system, request, &mut edits);
        edits.iter().map(describe).collect()
    }

    fn describe(edit: &Edit) -> String {
        match edit {
            Edit::InsertMessage(new) => format!("insert {} {}", new.before, new.text),
            Edit::ReplaceText((index, text)) => format!("replace {index} {text}"),
            Edit::DropMessage(index) => format!("drop {index}"),
            other => panic!("{other:?}"),
        }
    }

    fn talk(texts: &[(Role, &str)]) -> Request {
        request(texts.iter().map(|(role, text)| message(*role, text)).collect())
    }

    #[test]
    fn a_prompt_is_put_in_where_there_is_none() {
        let talk = talk(&[(Role::User, "Hi")]);
        for mode in ["prepend", "replace", "if_absent"] {
            let rule = format!(r#"{{"text": "Be kind.", "mode": "{mode}"}}"#);
            assert_eq!(edited(&rule, &talk), ["insert 0 Be kind."], "{mode}");
        }
        assert_eq!(edited(r#"{"text": "a"}"#, &request(Vec::new())), ["insert 0 a"]);
    }

    #[test]
    fn prepending_joins_the_clients_prompt() {
        let own = talk(&[(Role::System, "Own."), (Role::User, "Hi")]);
        assert_eq!(edited(r#"{"text": "Be kind."}"#, &own), ["replace 0 Be kind.\n\nOwn."]);
        let done = talk(&[(Role::System, "Be kind.\n\nOwn.")]);
        assert!(edited(r#"{"text": "Be kind."}"#, &done).is_empty());
        let late = talk(&[(Role::User, "Hi"), (Role::System, "Own.")]);
        assert_eq!(edited(r#"{"text": "Be kind."}"#, &late), ["insert 0 Be kind."]);
        let empty = talk(&[(Role::System, ""), (Role::User, "Hi")]);
        assert_eq!(edited(r#"{"text": "Be kind."}"#, &empty), ["replace 0 Be kind."]);
    }

    #[test]
    fn replacing_leaves_one_prompt() {
        let rule = r#"{"text": "Ours.", "mode": "replace"}"#;
        let two = talk(&[(Role::System, "A"), (Role::User, "Hi"), (Role::System, "B")]);
        assert_eq!(edited(rule, &two), ["drop 2", "replace 0 Ours."]);
        assert!(edited(rule, &talk(&[(Role::System, "Ours.")])).is_empty());
    }

    #[test]
    fn a_clients_prompt_may_be_enough() {
        let rule = r#"{"text": "Ours.", "mode": "if_absent"}"#;
        assert!(edited(rule, &talk(&[(Role::System, "Own.")])).is_empty());
        let blank = talk(&[(Role::System, " \n")]);
        assert_eq!(edited(rule, &blank), ["replace 0 Ours."]);
        assert!(edited(rule, &talk(&[(Role::System, ""), (Role::System, "Own.")])).is_empty());
    }

    #[test]
    fn the_first_rule_that_fits_is_applied() {
        let rules = r#"{"text": "A", "route": "code*", "caller": "ci"},
            {"text": "B", "caller": "team-*"}, {"text": "C", "route": "assistant"}"#;
        let mut talk = talk(&[(Role::User, "Hi")]);
        let chosen = |talk: &Request| edited(rules, talk);
        assert_eq!(chosen(&talk), ["insert 0 C"]);
        talk.caller = "team-a".into();
        assert_eq!(chosen(&talk), ["insert 0 B"]);
        talk.caller = "ci".into();
        talk.route = Some("coder".into());
        assert_eq!(chosen(&talk), ["insert 0 A"]);
        talk.route = None;
        talk.model = "codellama".into();
        assert_eq!(chosen(&talk), ["insert 0 A"]);
        talk.model = "llama".into();
        assert!(chosen(&talk).is_empty());
    }
}
