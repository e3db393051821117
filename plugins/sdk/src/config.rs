//! The plugin's `config:` in the gateway's configuration.

use std::cell::OnceCell;

use serde::de::DeserializeOwned;

/// The scalar at a path of keys and list indexes joined by dots, as text.
pub fn get(path: &str) -> Option<String> {
    crate::host::config_get(path)
}

/// The whole of it as a `T`. Names what is wrong when it is none; give that to the operator from
/// [`Guest::describe`](crate::Guest::describe).
pub fn parse<T: DeserializeOwned>() -> Result<T, String> {
    serde_json::from_str(&crate::host::config_json()).map_err(|cause| cause.to_string())
}

/// A configuration read once by each instance. It never changes under one: a reload makes new
/// instances.
///
/// ```
/// # use sluicegate_plugin::config::Cached;
/// # #[derive(serde::Deserialize, Default)] struct Config { #[serde(default)] limit: u32 }
/// thread_local! { static CONFIG: Cached<Config> = const { Cached::new() }; }
/// CONFIG.with(|config| assert_eq!(config.get().limit, 0));
/// ```
pub struct Cached<T>(OnceCell<T>);

impl<T: DeserializeOwned + Default> Cached<T> {
    /// Nothing read yet.
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    /// The configuration; its default where it is wrong, which `describe` has refused before.
    pub fn get(&self) -> &T {
        self.0.get_or_init(|| parse().unwrap_or_default())
    }
}

impl<T: DeserializeOwned + Default> Default for Cached<T> {
    fn default() -> Self {
        Self::new()
    }
}
