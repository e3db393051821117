//! Edits of a request's body. Members and messages that no edit names keep their bytes: unknown
//! fields, big integers and number spelling survive; white space between members may not.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::Value as Json;
use sluicegate_plugin_host::rewriter::{Edit, Insertion};
use sluicegate_plugin_host::types::{Role, Value};

use super::document::{Document, Form, Place, is_text, kind_of, members};
use crate::json;

/// Members that decide where a request goes and in which form its answer comes.
const FIXED: [&str; 6] = ["model", "stream", "stream_options", "messages", "input", "prompt"];
/// Bytes of a parameter's name.
const MAX_NAME: usize = 64;
/// Edits of one decision, beside one for each message.
pub const MAX_EDITS: usize = 256;
/// Bytes that all inserted and replaced texts may have together.
pub const MAX_TEXT: usize = 16 << 20;

/// The body that `edits` make of `document`, and another model where they ask for one.
///
/// # Errors
/// In words, when an edit cannot be made; then none is.
pub fn apply(document: &Document<'_>, edits: &[Edit]) -> Result<(Bytes, Option<String>), String> {
    let most = MAX_EDITS + document.messages.len();
    if edits.len() > most {
        return Err(format!("{} edits; {most} at most", edits.len()));
    }
    let mut plan = Plan::default();
    for edit in edits {
        plan.take(document, edit)?;
    }
    if plan.text > MAX_TEXT {
        return Err(format!("texts of {} bytes; {MAX_TEXT} at most", plan.text));
    }
    let mut members =
        document.members.iter().map(|m| (m.key.to_owned(), m.value.to_owned())).collect();
    plan.write_messages(document, &mut members)?;
    plan.write_parameters(document, &mut members);
    let inside: Vec<String> =
        members.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok((Bytes::from(format!("{{{}}}", inside.join(","))), plan.model))
}

/// Sets `name` to `value` where the body has none (or null), for each of `defaults`.
///
/// # Errors
/// In words, when a name or value is not allowed; then none is set.
pub fn set_defaults(
    document: &Document<'_>,
    defaults: &[(String, Value)],
) -> Result<Option<Bytes>, String> {
    let missing = |name: &str| document.member(name).is_none_or(|m| m.value == "null");
    let edits: Vec<Edit> = defaults
        .iter()
        .filter(|(name, _)| missing(name))
        .map(|(name, value)| Edit::SetParameter((name.clone(), value.clone())))
        .collect();
    // Native endpoints have their parameters elsewhere, and ignore these.
    if edits.is_empty() {
        return Ok(None);
    }
    Ok(Some(apply(document, &edits)?.0))
}

type Written = Vec<(String, String)>;

#[derive(Default)]
struct Plan<'e> {
    model: Option<String>,
    /// The last edit of a parameter counts; `None` removes it.
    parameters: Vec<(&'e str, Option<String>)>,
    insertions: Vec<&'e Insertion>,
    replaced: HashMap<usize, &'e str>,
    dropped: HashSet<usize>,
    text: usize,
}

impl<'e> Plan<'e> {
    fn take(&mut self, document: &Document<'_>, edit: &'e Edit) -> Result<(), String> {
        let count = document.messages.len();
        let index = |given: u32| {
            let index = given as usize;
            let message = || format!("message {given} does not exist; there are {count}");
            if index < count { Ok(index) } else { Err(message()) }
        };
        match edit {
            Edit::SetModel(model) if model.is_empty() || model.len() > 256 => {
                return Err("a model's name must have 1 to 256 bytes".into());
            }
            Edit::SetModel(model) => self.model = Some(model.clone()),
            Edit::SetParameter((name, value)) => {
                self.parameters.push((parameter(name)?, Some(json(value)?)));
            }
            Edit::RemoveParameter(name) => self.parameters.push((parameter(name)?, None)),
            Edit::InsertMessage(insertion) => {
                if insertion.before as usize > count {
                    return Err(format!("no place {} among {count} messages", insertion.before));
                }
                self.text += insertion.text.len();
                self.insertions.push(insertion);
            }
            Edit::ReplaceText((given, text)) => {
                self.text += text.len();
                self.replaced.insert(index(*given)?, text);
            }
            Edit::DropMessage(given) => {
                self.dropped.insert(index(*given)?);
            }
            Edit::KeepLast(last) => self.dropped.extend(older_than(document, *last as usize)),
        }
        Ok(())
    }

    fn write_parameters(&self, document: &Document<'_>, members: &mut Written) {
        for (name, value) in &self.parameters {
            let named: HashSet<&str> = document
                .members
                .iter()
                .filter(|member| member.is(name))
                .map(|member| member.key)
                .collect();
            let quoted = quote(name);
            match value {
                None => members.retain(|(key, _)| !named.contains(key.as_str()) && *key != quoted),
                Some(value) => {
                    let mut found = false;
                    for (key, old) in members.iter_mut() {
                        if named.contains(key.as_str()) || *key == quoted {
                            old.clone_from(value);
                            found = true;
                        }
                    }
                    if !found {
                        members.push((quoted, value.clone()));
                    }
                }
            }
        }
    }

    fn write_messages(&self, document: &Document<'_>, members: &mut Written) -> Result<(), String> {
        if self.insertions.is_empty() && self.replaced.is_empty() && self.dropped.is_empty() {
            return Ok(());
        }
        let form = document.form;
        let system = self.system(document)?;
        if let (Some(name), Some(change)) = (form.system_member(), system) {
            set_member(document, members, name, change);
        }
        let Some(list) = form.list_member() else {
            return Err("the request has no messages".into());
        };
        let whole = document.places.contains(&Place::Member(list));
        let single = matches!(form, Form::Prompt | Form::Input | Form::Generate);
        let has_system = form.system_member().is_some();
        if (single || whole)
            && self.insertions.iter().any(|one| one.role != Role::System || !has_system)
        {
            return Err("a request of prompts takes no further messages".into());
        }
        let value = if whole {
            match self.prompt(document, list)? {
                Some(text) => quote(&text),
                None => return Ok(()),
            }
        } else {
            format!("[{}]", self.items(document)?.join(","))
        };
        set_member(document, members, list, Some(value));
        Ok(())
    }

    /// What becomes of the system prompt outside the list: `None` when nothing does.
    fn system(&self, document: &Document<'_>) -> Result<Option<Option<String>>, String> {
        if document.form.system_member().is_none() {
            return Ok(None);
        }
        let at = document.places.iter().position(|place| {
            matches!(place, Place::Member(name) if document.form.system_member() == Some(name))
        });
        let mut texts: Vec<&str> = Vec::new();
        let mut changed = false;
        let mut added = self.insertions.iter().filter(|one| one.role == Role::System).peekable();
        // An inserted system prompt goes before the one there is, unless it is to follow it.
        while let Some(one) = added.next_if(|one| one.before == 0) {
            texts.push(&one.text);
            changed = true;
        }
        if let Some(index) = at {
            let replaced = self.replaced.get(&index).copied();
            changed |= replaced.is_some() || self.dropped.contains(&index);
            if !self.dropped.contains(&index) {
                texts.push(replaced.unwrap_or(&document.messages[index].text));
            }
        }
        for one in added {
            texts.push(&one.text);
            changed = true;
        }
        if !changed {
            return Ok(None);
        }
        Ok(Some((!texts.is_empty()).then(|| quote(&texts.join("\n\n")))))
    }

    /// The single prompt, changed.
    fn prompt(
        &self,
        document: &Document<'_>,
        list: &'static str,
    ) -> Result<Option<String>, String> {
        let at = document.places.iter().position(|place| *place == Place::Member(list));
        let Some(index) = at else { return Ok(None) };
        if self.dropped.contains(&index) {
            return Err("the prompt cannot be dropped".into());
        }
        Ok(self.replaced.get(&index).map(|text| (*text).to_owned()))
    }

    fn items(&self, document: &Document<'_>) -> Result<Vec<String>, String> {
        let separate_system = document.form.system_member().is_some();
        let mut written = Vec::with_capacity(document.items.len() + self.insertions.len());
        let insert_before = |index: usize, written: &mut Vec<String>| {
            for one in &self.insertions {
                let elsewhere = separate_system && one.role == Role::System;
                if one.before as usize == index && !elsewhere {
                    written.push(message(one.role, &one.text));
                }
            }
        };
        let by_item: HashMap<usize, usize> = (0..)
            .zip(&document.places)
            .filter_map(|(index, place)| match place {
                Place::Item(item) => Some((*item, index)),
                Place::Member(_) => None,
            })
            .collect();
        let first =
            usize::from(document.places.first().is_some_and(|p| matches!(p, Place::Member(_))));
        (0..first).for_each(|index| insert_before(index, &mut written));
        for (item, raw) in document.items.iter().enumerate() {
            let Some(&index) = by_item.get(&item) else {
                written.push((*raw).to_owned());
                continue;
            };
            insert_before(index, &mut written);
            if self.dropped.contains(&index) {
                continue;
            }
            written.push(match self.replaced.get(&index) {
                Some(text) => with_text(raw, text)?,
                None => (*raw).to_owned(),
            });
        }
        insert_before(document.messages.len(), &mut written);
        Ok(written)
    }
}

fn set_member(document: &Document<'_>, members: &mut Written, name: &str, value: Option<String>) {
    let known = document.members.iter().rposition(|member| member.is(name));
    match (known.map(|index| document.members[index].key), value) {
        (Some(key), Some(value)) => {
            if let Some(last) = members.iter_mut().rev().find(|(k, _)| k == key) {
                last.1 = value;
            }
        }
        (Some(key), None) => members.retain(|(k, _)| k != key),
        (None, Some(value)) => members.push((quote(name), value)),
        (None, None) => {}
    }
}

fn quote(text: &str) -> String {
    Json::from(text).to_string()
}

fn message(role: Role, text: &str) -> String {
    let role = match role {
        Role::System => "system",
        Role::User | Role::Other => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    format!(r#"{{"role":"{role}","content":{}}}"#, quote(text))
}

/// Checks a parameter that is to be set.
///
/// # Errors
/// In words, when it is none or has no such value.
pub fn check(name: &str, value: &Value) -> Result<(), String> {
    parameter(name)?;
    json(value).map(drop)
}

fn parameter(name: &str) -> Result<&str, String> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!("a parameter's name must have 1 to {MAX_NAME} bytes"));
    }
    if FIXED.iter().any(|fixed| name.eq_ignore_ascii_case(fixed)) {
        return Err(format!("`{name}` is no parameter"));
    }
    Ok(name)
}

fn json(value: &Value) -> Result<String, String> {
    Ok(match value {
        Value::Boolean(yes) => yes.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) if !number.is_finite() => {
            return Err(format!("{number} is no JSON number"));
        }
        Value::Number(number) => Json::from(*number).to_string(),
        Value::Text(text) => quote(text),
    })
}

/// Messages to leave out so that system messages and the last `keep` others stay, with the calls
/// that the kept results answer.
fn older_than(document: &Document<'_>, keep: usize) -> Vec<usize> {
    let messages = &document.messages;
    let others: Vec<usize> =
        (0..messages.len()).filter(|index| messages[*index].role != Role::System).collect();
    let mut cut = others.len().saturating_sub(keep);
    if cut == others.len() {
        return others;
    }
    let called: HashMap<&str, usize> = (0..)
        .zip(&others)
        .flat_map(|(at, index)| messages[*index].tool_calls.iter().map(move |id| (id.as_str(), at)))
        .collect();
    // Moving the cut back takes in more results, whose calls may lie further back still.
    let mut at = others.len();
    while at > cut {
        at -= 1;
        let message = &messages[others[at]];
        let by_id = message.tool_call_id.as_deref().and_then(|id| called.get(id)).copied();
        if let Some(call) = by_id.filter(|call| *call < at) {
            cut = cut.min(call);
        } else if message.role == Role::Tool {
            // Without an id, the call is what stands before its results.
            cut = cut.min(at.saturating_sub(1));
        }
    }
    others[..cut].to_vec()
}

/// The item `raw` with another text, where its text was read; its parts that are not text stay.
fn with_text(raw: &str, text: &str) -> Result<String, String> {
    if raw.starts_with('"') {
        return Ok(quote(text));
    }
    let members = members(raw).map_err(|cause| cause.to_string())?;
    let holder = match kind_of(raw)?.as_deref() {
        Some("function_call_output") => "output",
        _ => "content",
    };
    let content = members.iter().rposition(|member| member.is(holder));
    let mut written: Vec<String> = Vec::with_capacity(members.len() + 1);
    for (index, member) in members.iter().enumerate() {
        let value = if Some(index) == content {
            content_with(member.value, text)?
        } else {
            member.value.to_owned()
        };
        written.push(format!("{}:{value}", member.key));
    }
    if content.is_none() {
        written.push(format!("\"{holder}\":{}", quote(text)));
    }
    Ok(format!("{{{}}}", written.join(",")))
}

/// A content with `text` in place of its first part of text (or tool's result), and without others.
fn content_with(value: &str, text: &str) -> Result<String, String> {
    let Ok(parts) = json::items(value) else { return Ok(quote(text)) };
    let mut kept = Vec::with_capacity(parts.len() + 1);
    let mut placed = false;
    for raw in parts {
        let kind = kind_of(raw)?;
        let result = kind.as_deref() == Some("tool_result");
        if !is_text(kind.as_deref()) && !result {
            kept.push(raw.to_owned());
        } else if result {
            let text = if placed { "" } else { text };
            kept.push(with_text(raw, text)?);
            placed = true;
        } else if !std::mem::replace(&mut placed, true) {
            let kind = kind.unwrap_or_default();
            kept.push(format!(r#"{{"type":{},"text":{}}}"#, quote(&kind), quote(text)));
        }
    }
    if !placed {
        kept.insert(0, format!(r#"{{"type":"text","text":{}}}"#, quote(text)));
    }
    Ok(format!("[{}]", kept.join(",")))
}

#[cfg(test)]
mod tests;
