//! The tools of a response's request to those of Ollama's.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::Refusal;
use super::super::json::{self, Keys, each, is_string, members, text};
use super::super::tool::{Function, Tool};

/// The field that refusals here name.
const PARAM: &str = "tools";
/// Namespaces within one another.
const MAX_DEPTH: usize = 8;
/// The longest name of a namespace, in bytes: it stands before the name of each tool in it.
const MAX_NAMESPACE: usize = 128;

/// The tools that the model is told of.
pub fn translated(given: &RawValue) -> Result<Vec<Tool<'_>>, Refusal> {
    let mut tools = Vec::new();
    append(given, &mut Vec::new(), &mut tools)?;
    Ok(tools)
}

/// Appends those in `given`, which are in `namespaces`.
fn append<'a>(
    given: &'a RawValue,
    namespaces: &mut Vec<Cow<'a, str>>,
    tools: &mut Vec<Tool<'a>>,
) -> Result<(), Refusal> {
    let wrong = || Refusal::new(PARAM, "`tools` must be an array of tools");
    each(given, wrong, |tool| {
        let names = ["type", "name", "description", "parameters", "tools"];
        let found = members(tool.get(), Keys::AnyCase, names).map_err(|_| wrong())?;
        let [kind, name, description, parameters, within] = found;
        let kind = kind.and_then(text).unwrap_or_default();
        match (&*kind, name.filter(|name| is_string(name))) {
            ("namespace", name) => {
                let Some(within) = within else { return Ok(()) };
                if namespaces.len() == MAX_DEPTH {
                    return Err(Refusal::new(PARAM, "too many namespaces within one another"));
                }
                let name = name.and_then(text).unwrap_or_default();
                if name.len() > MAX_NAMESPACE {
                    return Err(Refusal::new(PARAM, "the name of a namespace is too long"));
                }
                namespaces.push(name);
                append(within, namespaces, tools)?;
                namespaces.pop();
            }
            (_, Some(name)) if !kind.starts_with("web_search") => {
                let name = Some(qualified(name, namespaces));
                let parameters = parameters.map(Cow::Borrowed);
                let function = Function { name, description, parameters };
                tools.push(Tool { r#type: kind, function });
            }
            // What a server would run itself has no name.
            _ => {}
        }
        Ok(())
    })
}

/// The name that a tool has outside of its namespaces.
fn qualified<'a>(name: &'a RawValue, namespaces: &[Cow<'a, str>]) -> Cow<'a, RawValue> {
    let mut named = text(name).unwrap_or_default();
    for namespace in namespaces.iter().rev().filter(|namespace| !namespace.is_empty()) {
        let prefix = format!("{namespace}.");
        if !named.starts_with(&prefix) {
            named = Cow::Owned(prefix + &named);
        }
    }
    if namespaces.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(json::raw(&named)) }
}
