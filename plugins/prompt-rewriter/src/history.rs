//! Which messages stay when a conversation grows long.
//!
//! System messages and the last message always stay. A tool's result is never parted from the call
//! it answers: upstreams refuse one without the other.

use std::collections::BTreeMap;

use serde::Deserialize;
use sluicegate_plugin::rewriter::Edit;
use sluicegate_plugin::{Message, Request, Role};

/// How much history stays; without any limit all of it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct History {
    /// The last this many messages, and what those need.
    keep_last: Option<usize>,
    /// What fits in this many tokens, the system prompt included.
    token_budget: Option<u64>,
}

impl History {
    /// Says what is wrong with the values.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.keep_last == Some(0) {
            return Err("keep_last: expected 1 or more".into());
        }
        if self.token_budget == Some(0) {
            return Err("token_budget: expected 1 or more".into());
        }
        Ok(())
    }

    /// Whether all of it stays.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.keep_last.is_none() && self.token_budget.is_none()
    }
}

/// Leaves out what is too much. The system prompt grows by `added` bytes.
pub(crate) fn edit(history: &History, request: &Request, added: usize, edits: &mut Vec<Edit>) {
    let messages = &request.messages;
    let short = history.keep_last.is_none_or(|most| messages.len() <= most);
    if short && history.token_budget.is_none() {
        return;
    }
    let groups = groups(messages);
    let mut kept = vec![true; messages.len()];
    if let Some(most) = history.keep_last {
        let wanted = last(messages, &groups, most);
        keep(&mut kept, &groups, |group| wanted[group]);
    }
    if let Some(budget) = history.token_budget {
        let wanted = fitting(messages, &groups, &kept, budget, added);
        keep(&mut kept, &groups, |group| wanted[group]);
    }
    let dropped = (0_u32..).zip(&kept).filter(|(_, kept)| !**kept);
    // A rule for system prompts never drops the same message: those are all kept here.
    edits.extend(dropped.map(|(index, _)| Edit::DropMessage(index)));
}

fn keep(kept: &mut [bool], groups: &[usize], wanted: impl Fn(usize) -> bool) {
    for (kept, group) in kept.iter_mut().zip(groups) {
        *kept &= wanted(*group);
    }
}

/// For each message the index of the first one it must stay with: a call and its results are one
/// group, any other message is its own.
fn groups(messages: &[Message]) -> Vec<usize> {
    let mut groups: Vec<usize> = Vec::with_capacity(messages.len());
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, message) in messages.iter().enumerate() {
        // The latest call with an id counts: some clients number calls anew in each turn.
        for id in &message.tool_calls {
            calls.insert(id, index);
        }
        let is_result = message.role == Role::Tool || message.tool_call_id.is_some();
        let group = if is_result {
            let call = message.tool_call_id.as_deref().and_then(|id| calls.get(id));
            call.copied().or_else(|| neighbour(messages, &groups, index)).unwrap_or(index)
        } else {
            index
        };
        groups.push(group);
    }
    groups
}

/// The group of a result that names no known call: that of the call or result right before it.
fn neighbour(messages: &[Message], groups: &[usize], index: usize) -> Option<usize> {
    let before = index.checked_sub(1)?;
    let follows = matches!(messages[before].role, Role::Assistant | Role::Tool);
    follows.then(|| groups[before])
}

/// Whether each group is of system messages or has one of the last `most` others.
fn last(messages: &[Message], groups: &[usize], most: usize) -> Vec<bool> {
    let mut wanted = vec![false; messages.len()];
    let mut left = most;
    for (index, message) in messages.iter().enumerate().rev() {
        if message.role == Role::System {
            wanted[index] = true;
        } else if left > 0 {
            left -= 1;
            wanted[groups[index]] = true;
        }
    }
    wanted
}

/// Whether each group is of system messages or, from the last one back without a gap, fits.
fn fitting(
    messages: &[Message],
    groups: &[usize],
    kept: &[bool],
    budget: u64,
    added: usize,
) -> Vec<bool> {
    let mut sizes = vec![0_u64; messages.len()];
    let mut used = tokens(added);
    for (index, message) in messages.iter().enumerate().filter(|(index, _)| kept[*index]) {
        let size = tokens(message.text.len());
        if message.role == Role::System {
            used += size;
        } else {
            sizes[groups[index]] += size;
        }
    }
    let mut wanted = vec![false; messages.len()];
    let mut any = false;
    let mut full = false;
    for (index, message) in messages.iter().enumerate().rev() {
        let group = groups[index];
        if message.role == Role::System {
            wanted[index] = true;
        } else if kept[index] && !wanted[group] && !full {
            full = any && used + sizes[group] > budget;
            wanted[group] = !full;
            used += sizes[group];
            any = true;
        }
    }
    wanted
}

/// As the gateway estimates them.
fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

#[cfg(test)]
mod tests;
