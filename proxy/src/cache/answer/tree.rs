//! JSON values whose fragments are put together, by the rules of the SDKs: strings are joined,
//! objects are merged, entries of lists are found by their `index`.

use serde::de::Deserializer;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Unfit;
use super::json::{self, Json, Members};

/// How deep values are taken apart: `reasoning_details` → entry → `text`, and a tool call →
/// `function` → `arguments`, with one level to spare. What lies deeper is replaced as a whole.
const DEPTH: u8 = 4;

/// A value of which fragments may follow.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// Replaced, never merged.
    Leaf(Json),
    /// Joined.
    Text(String),
    /// Extended, or merged by `index`.
    List(Vec<Tree>),
    /// Merged member by member.
    Map(Vec<(Box<str>, Tree)>),
}

impl Tree {
    pub(super) fn read(raw: &str) -> Result<Self, Unfit> {
        Self::read_to(raw, DEPTH)
    }

    fn read_to(raw: &str, depth: u8) -> Result<Self, Unfit> {
        let Some(below) = depth.checked_sub(1) else { return Ok(Tree::Leaf(Json::of(raw))) };
        match raw.as_bytes().first() {
            Some(b'"') => json::string(raw).map(|text| Tree::Text(text.into_owned())),
            Some(b'[') => {
                let entries = json::items(raw)?;
                entries.into_iter().map(|raw| Self::read_to(raw, below)).collect::<Result<_, _>>()
            }
            .map(Tree::List),
            Some(b'{') => {
                let members = Members::read(raw)?;
                let read = |(name, raw)| Ok((Box::from(name), Self::read_to(raw, below)?));
                members.iter().map(read).collect::<Result<_, _>>().map(Tree::Map)
            }
            _ => Ok(Tree::Leaf(Json::of(raw))),
        }
    }

    /// A member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Tree> {
        let Tree::Map(members) = self else { return None };
        members.iter().find(|(known, _)| &**known == name).map(|(_, value)| value)
    }

    /// The text of a member; missing, null and empty are all one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Tree::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The number an entry of a list is known by, as it is spelled.
    pub(super) fn index(&self) -> Option<&str> {
        match self.get("index") {
            Some(Tree::Leaf(index)) if !index.is_null() => Some(index.get()),
            _ => None,
        }
    }

    /// Numbers an entry that has no number.
    pub(super) fn number(&mut self, index: usize) -> Result<(), Unfit> {
        let Tree::Map(members) = self else { return Err(Unfit::Unreadable) };
        if !members.iter().any(|(name, _)| &**name == "index") {
            members.insert(0, ("index".into(), Tree::Leaf(Json::of(&index.to_string()))));
        }
        Ok(())
    }

    /// The same entry without its number.
    pub(super) fn unnumbered(&self) -> Self {
        match self {
            Tree::Map(members) => {
                let others = members.iter().filter(|(name, _)| &**name != "index");
                Tree::Map(others.cloned().collect())
            }
            Tree::Leaf(_) | Tree::Text(_) | Tree::List(_) => self.clone(),
        }
    }

    /// Takes in a later fragment of the member `name`.
    pub(super) fn merge(&mut self, name: &str, new: Tree) {
        match (self, new) {
            (_, Tree::Leaf(new)) if new.is_null() => {}
            (Tree::Text(old), Tree::Text(new)) => join(name, old, new),
            (Tree::Map(old), Tree::Map(new)) => {
                for (name, value) in new {
                    match old.iter_mut().find(|(known, _)| *known == name) {
                        Some((name, old)) => old.merge(name, value),
                        None => old.push((name, value)),
                    }
                }
            }
            (Tree::List(old), Tree::List(new)) => extend(old, new),
            (old, new) => *old = new,
        }
    }

    pub(super) fn size(&self) -> usize {
        let inner: usize = match self {
            Tree::Leaf(json) => json.size(),
            Tree::Text(text) => text.capacity(),
            Tree::List(entries) => entries.iter().map(Tree::size).sum(),
            Tree::Map(members) => {
                members.iter().map(|(name, tree)| 16 + name.len() + tree.size()).sum()
            }
        };
        size_of::<Tree>() + inner
    }
}

/// Some servers repeat the names of a call in each of its fragments, or send them empty.
fn join(name: &str, old: &mut String, new: String) {
    match name {
        "id" | "type" | "role" | "format" if new.is_empty() => {}
        "id" | "type" | "role" | "format" => *old = new,
        "name" if *old == new => {}
        _ => old.push_str(&new),
    }
}

fn extend(old: &mut Vec<Tree>, new: Vec<Tree>) {
    // A list that is sent anew each time, grown or not, is not a fragment.
    let is_known = |(new, old): (&Tree, &Tree)| new.index().is_none() && new == old;
    if new.len() >= old.len() && new.iter().zip(&*old).all(is_known) {
        *old = new;
        return;
    }
    for entry in new {
        let same = |old: &&mut Tree| old.index() == entry.index();
        match entry.index().and_then(|_| old.iter_mut().rfind(same)) {
            Some(old) => old.merge("", entry),
            None => old.push(entry),
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Leaf(json) => json.serialize(serializer),
            Tree::Text(text) => serializer.serialize_str(text),
            Tree::List(entries) => {
                let mut list = serializer.serialize_seq(Some(entries.len()))?;
                entries.iter().try_for_each(|entry| list.serialize_element(entry))?;
                list.end()
            }
            Tree::Map(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(name, value)| map.serialize_entry(&**name, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Tree::read(raw.get()).map_err(|unfit| serde::de::Error::custom(unfit.as_str()))
    }
}
