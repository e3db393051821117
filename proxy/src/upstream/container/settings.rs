//! What a container is to be, and the engine's description of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, DeviceRequest, HostConfig, PortBinding};

/// Marks the containers that a gateway made: only those are stopped, replaced or removed.
pub const MANAGED_LABEL: &str = "dev.sluicegate.managed";
/// Which settings it was made from, as a hash.
pub const SETTINGS_LABEL: &str = "dev.sluicegate.settings";
/// Which GPUs it was granted; they may be others than it is configured to have.
pub const GPUS_LABEL: &str = "dev.sluicegate.gpus";
/// Where the engine listens unless something else is said.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The configuration of one container, validated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image to run; it must be on this machine.
    pub image: String,
    /// The container's name.
    pub name: String,
    /// GPUs it gets.
    pub gpus: Gpus,
    /// Who starts it.
    pub start: Start,
    /// Stopped after this long without a request; `None` = never. Only with [`Start::OnDemand`].
    pub stop_after_idle: Option<Duration>,
    /// Longest time from its start until it answers.
    pub start_timeout: Duration,
    /// Port on `127.0.0.1` of this machine, and the port in the container that it leads to.
    pub publish: Option<(u16, u16)>,
    /// Network it joins, such as `host`; default: the engine's bridge.
    pub network: Option<String>,
    /// Volumes as `docker run --volume` takes them: `ollama:/root/.ollama`. What lies in no volume
    /// is lost when the settings, or the GPUs it is granted, change.
    pub volumes: Vec<String>,
    /// Environment variables as `NAME=value`.
    pub env: Vec<String>,
    /// Arguments instead of the image's own.
    pub command: Option<Vec<String>>,
    /// The engine's socket; default: `$DOCKER_HOST` where that is a `unix://` one, else
    /// `/var/run/docker.sock`.
    pub socket: Option<PathBuf>,
}

/// GPUs that a container gets. NVIDIA's only: the engine's own GPU support covers no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// None: it computes on the CPU.
    None,
    /// All of the machine.
    All,
    /// These, by index or UUID.
    Devices(Vec<String>),
}

impl Gpus {
    pub(super) fn label(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::All => "all".to_owned(),
            Self::Devices(ids) => ids.join(","),
        }
    }
}

/// Who starts a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The gateway, when a request needs it.
    OnDemand,
    /// The gateway, as it starts; it is not stopped after idling.
    Always,
    /// The user; the gateway only uses it.
    Never,
}

impl Settings {
    /// Where the engine listens. `docker_host` is the environment's `DOCKER_HOST`.
    #[must_use]
    pub fn socket(&self, docker_host: Option<&str>) -> PathBuf {
        let from_environment = || docker_host?.strip_prefix("unix://").map(PathBuf::from);
        self.socket.clone().or_else(from_environment).unwrap_or_else(|| DEFAULT_SOCKET.into())
    }

    /// A hash of all that a container is made from.
    pub(super) fn hash(&self) -> String {
        let Self { image, gpus, publish, network, volumes, env, command, .. } = self;
        let all = format!("{:?}", (image, gpus, publish, network, volumes, env, command));
        blake3::hash(all.as_bytes()).to_hex().to_string()
    }

    /// The engine's description of the container, with these GPUs.
    pub(super) fn description(&self, gpus: &Gpus) -> ContainerCreateBody {
        let labels = [
            (MANAGED_LABEL.to_owned(), "true".to_owned()),
            (SETTINGS_LABEL.to_owned(), self.hash()),
            (GPUS_LABEL.to_owned(), gpus.label()),
        ];
        let port = |inside: u16| format!("{inside}/tcp");
        let binding = |outside: u16| PortBinding {
            host_ip: Some("127.0.0.1".to_owned()),
            host_port: Some(outside.to_string()),
        };
        ContainerCreateBody {
            image: Some(self.image.clone()),
            env: Some(self.env.clone()),
            cmd: self.command.clone(),
            labels: Some(HashMap::from(labels)),
            exposed_ports: self.publish.map(|(_, inside)| vec![port(inside)]),
            host_config: Some(HostConfig {
                binds: Some(self.volumes.clone()),
                network_mode: self.network.clone(),
                port_bindings: self.publish.map(|(outside, inside)| {
                    HashMap::from([(port(inside), Some(vec![binding(outside)]))])
                }),
                device_requests: device_request(gpus).map(|request| vec![request]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}

fn device_request(gpus: &Gpus) -> Option<DeviceRequest> {
    let (count, device_ids) = match gpus {
        Gpus::None => return None,
        // The engine's way to say all.
        Gpus::All => (Some(-1), None),
        Gpus::Devices(ids) => (None, Some(ids.clone())),
    };
    let capabilities = Some(vec![vec!["gpu".to_owned()]]);
    Some(DeviceRequest { count, device_ids, capabilities, ..DeviceRequest::default() })
}

/// Whether two names mean the same image: `ollama/ollama` is `docker.io/ollama/ollama:latest`.
pub(super) fn same_image(one: &str, other: &str) -> bool {
    fn full(name: &str) -> (&str, &str) {
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        let name = name.strip_prefix("library/").unwrap_or(name);
        match name.rsplit_once(':') {
            // A colon before a slash is that of the registry's port.
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            Some(_) | None => (name, "latest"),
        }
    }
    full(one) == full(other)
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    #[test]
    fn images_are_compared_as_the_engine_resolves_them() {
        assert!(same_image("ollama/ollama", "docker.io/ollama/ollama:latest"));
        assert!(same_image("redis:7", "docker.io/library/redis:7"));
        assert!(same_image("localhost:5000/ollama", "localhost:5000/ollama:latest"));
        assert!(!same_image("ollama/ollama:0.12", "ollama/ollama"));
        assert!(!same_image("redis", "library/redis/redis"));
    }

    #[test]
    fn the_socket_is_the_configured_one_then_the_environments_then_the_default() {
        let mut settings = settings(None);
        assert_eq!(settings.socket(None), PathBuf::from("/var/run/docker.sock"));
        assert_eq!(settings.socket(Some("tcp://1.2.3.4:1")), PathBuf::from("/var/run/docker.sock"));
        assert_eq!(settings.socket(Some("unix:///run/me.sock")), PathBuf::from("/run/me.sock"));
        settings.socket = Some("/mine".into());
        assert_eq!(settings.socket(Some("unix:///run/me.sock")), PathBuf::from("/mine"));
    }

    #[test]
    fn the_hash_tells_what_it_was_made_from_and_not_how_it_is_used() {
        let one = settings(None);
        let mut other = one.clone();
        other.stop_after_idle = None;
        other.start_timeout *= 2;
        assert_eq!(one.hash(), other.hash());
        other.gpus = Gpus::All;
        assert_ne!(one.hash(), other.hash());
        other = Settings { env: vec!["A=1".to_owned(), "B=2".to_owned()], ..one.clone() };
        let joined = Settings { env: vec!["A=1\", \"B=2".to_owned()], ..one.clone() };
        assert_ne!(one.hash(), other.hash());
        assert_ne!(joined.hash(), other.hash());
    }

    #[test]
    fn the_description_publishes_on_loopback_and_asks_for_the_gpus_granted() {
        let mut settings = settings(None);
        settings.publish = Some((11435, 11434));
        let body = settings.description(&Gpus::Devices(vec!["GPU-1".into()]));
        let body = serde_json::to_value(&body).expect("JSON");
        let host = &body["HostConfig"];
        assert_eq!(body["ExposedPorts"], serde_json::json!({ "11434/tcp": {} }));
        let binding = serde_json::json!([{ "HostIp": "127.0.0.1", "HostPort": "11435" }]);
        assert_eq!(host["PortBindings"]["11434/tcp"], binding);
        let request = &host["DeviceRequests"][0];
        assert_eq!(request["DeviceIDs"], serde_json::json!(["GPU-1"]));
        assert_eq!(request["Capabilities"], serde_json::json!([["gpu"]]));
        assert_eq!(body["Labels"][MANAGED_LABEL], "true");
        assert_eq!(body["Labels"][GPUS_LABEL], "GPU-1");
        let on_cpu = settings.description(&Gpus::None);
        assert_eq!(on_cpu.host_config.and_then(|host| host.device_requests), None);
    }
}
