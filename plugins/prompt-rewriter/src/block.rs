//! Refuses texts that match a pattern. The client is told which rule it was, and its own text is
//! never repeated: not in the answer, not in a log, not in a metric.

use regex_lite::{Regex, RegexBuilder};
use sluicegate_plugin::{Rejection, Request, Role, host};

use crate::config::BlockRule;

const MESSAGE: &str = "The request holds a text that is blocked here.";
/// What a plugin may say at most, in bytes.
const MAX_MESSAGE: usize = 1_000;
/// Most memory of one compiled pattern, in bytes: an instance has 32 MiB for all.
const MAX_COMPILED: usize = 1 << 20;

/// A blocked pattern.
#[derive(Debug)]
pub(crate) struct Block {
    /// A text that every match begins with. Looking for it is far faster than the pattern is.
    prefix: String,
    pattern: Option<Regex>,
    message: String,
    roles: Vec<Role>,
}

impl Block {
    /// Compiles `rule`.
    pub(crate) fn new(rule: BlockRule) -> Result<Self, String> {
        if rule.pattern.is_empty() {
            return Err("pattern: expected a regular expression".into());
        }
        if rule.roles.is_empty() {
            return Err("roles: expected one at least".into());
        }
        let message = rule.message.unwrap_or_else(|| MESSAGE.to_owned());
        if message.trim().is_empty() || message.len() > MAX_MESSAGE {
            return Err(format!("message: expected 1 to {MAX_MESSAGE} bytes"));
        }
        let pattern = RegexBuilder::new(&rule.pattern)
            .size_limit(MAX_COMPILED)
            .build()
            .map_err(|cause| format!("pattern: {cause}"))?;
        let (prefix, whole) = literal_prefix(&rule.pattern);
        Ok(Self {
            prefix: prefix.to_owned(),
            pattern: (!whole).then_some(pattern),
            message,
            roles: rule.roles.into_iter().map(Role::from).collect(),
        })
    }

    fn is_in(&self, text: &str) -> bool {
        text.contains(&self.prefix)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }
}

/// The literal text that every match of `pattern` begins with, and whether that is all of it.
fn literal_prefix(pattern: &str) -> (&str, bool) {
    let special = |c: char| r"\.+*?()|[]{}^$#".contains(c);
    let Some(end) = pattern.find(special) else { return (pattern, true) };
    // An alternative need not begin like this.
    if pattern.contains('|') {
        return ("", false);
    }
    let literal = &pattern[..end];
    // `?`, `*` and `{` say that the character before them need not be there.
    let optional = pattern[end..].starts_with(['?', '*', '{']);
    let last = literal.char_indices().next_back().map_or(0, |(at, _)| at);
    (if optional { &literal[..last] } else { literal }, false)
}

/// The refusal of `request`, when a text in it is blocked.
pub(crate) fn refusal(blocks: &[Block], request: &Request) -> Option<Rejection> {
    for (index, block) in blocks.iter().enumerate() {
        let mut texts = request.messages.iter().filter(|m| block.roles.contains(&m.role));
        if texts.any(|message| block.is_in(&message.text)) {
            host::count("blocked", &format!("rule_{index}"), 1);
            return Some(Rejection {
                status: 400,
                code: "blocked_pattern".to_owned(),
                message: block.message.clone(),
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use sluicegate_plugin::testing::{message, request, take_records};

    use super::*;
    use crate::config::settings;

    fn refused(rule: &str, role: Role, text: &str) -> Option<Rejection> {
        let settings = settings(&format!(r#"{{"block": [{rule}]}}"#));
        refusal(&settings.block, &request(vec![message(role, text)]))
    }

    #[test]
    fn a_blocked_text_is_refused_and_not_repeated() {
        let rule = r#"{"pattern": "sk-[a-z0-9]{8,}"}"#;
        let rejection = refused(rule, Role::User, "my key is sk-abcdefgh12").unwrap();
        assert_eq!((rejection.status, rejection.code.as_str()), (400, "blocked_pattern"));
        assert!(!rejection.message.contains("sk-"));
        assert_eq!(take_records(), ["metric blocked{rule_0} 1"]);
        assert!(refused(rule, Role::User, "my key is sk-a").is_none());
        assert!(refused(rule, Role::User, "").is_none());
    }

    #[test]
    fn the_operator_chooses_the_message() {
        let rule = r#"{"pattern": "secret", "message": "No secrets, please."}"#;
        assert_eq!(refused(rule, Role::User, "a secret").unwrap().message, "No secrets, please.");
    }

    #[test]
    fn only_chosen_roles_are_looked_at() {
        let user = r#"{"pattern": "secret"}"#;
        assert!(refused(user, Role::Assistant, "secret").is_none());
        let tool = r#"{"pattern": "secret", "roles": ["tool", "system"]}"#;
        assert!(refused(tool, Role::Tool, "secret").is_some());
        assert!(refused(tool, Role::System, "secret").is_some());
        assert!(refused(tool, Role::User, "secret").is_none());
    }

    #[test]
    fn every_message_is_looked_at() {
        let settings = settings(r#"{"block": [{"pattern": "x"}, {"pattern": "secret"}]}"#);
        let talk = ["a secret", "Hi"].map(|text| message(Role::User, text));
        assert!(refusal(&settings.block, &request(talk.to_vec())).is_some());
        assert_eq!(take_records(), ["metric blocked{rule_1} 1"]);
    }

    #[test]
    fn a_prefix_is_what_every_match_begins_with() {
        for (pattern, prefix, whole) in [
            ("secret", "secret", true),
            ("sk-[a-z]", "sk-", false),
            ("colou?r", "colo", false),
            ("ab{2}", "a", false),
            ("ab+", "ab", false),
            ("straße?", "straß", false),
            ("ß?", "", false),
            ("ab|c", "", false),
            ("a(b|c)", "", false),
            ("(?i)secret", "", false),
            (r"\bsecret", "", false),
            ("a.b", "a", false),
        ] {
            assert_eq!(literal_prefix(pattern), (prefix, whole), "{pattern}");
        }
    }

    #[test]
    fn patterns_match_as_written_with_and_without_a_prefix() {
        for (pattern, text) in [
            ("(?i)SECRET", "a Secret"),
            ("colou?r", "color"),
            ("foo|bar", "a bar"),
            (r"\\d{3}-\\d{2}", "no 123-45"),
            ("(?x) a b # comment", "ab"),
            ("größe", "die größe"),
        ] {
            let rule = format!(r#"{{"pattern": "{pattern}"}}"#);
            assert!(refused(&rule, Role::User, text).is_some(), "{pattern}");
            assert!(refused(&rule, Role::User, "other").is_none(), "{pattern}");
        }
    }
}
