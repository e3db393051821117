//! A container against a played engine, on a paused clock.

mod fake;
mod idle;
mod start;
mod taken;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;

use self::fake::{Fake, IMAGE, NAME, One};
use super::{Container, Gpus, Settings, Start, StartError};

pub(super) fn settings(socket: Option<PathBuf>) -> Settings {
    Settings {
        image: IMAGE.to_owned(),
        name: NAME.to_owned(),
        gpus: Gpus::None,
        start: Start::OnDemand,
        stop_after_idle: Some(Duration::from_secs(600)),
        start_timeout: Duration::from_secs(60),
        publish: None,
        network: Some("host".to_owned()),
        volumes: vec!["ollama:/root/.ollama".to_owned()],
        env: Vec::new(),
        command: None,
        socket,
    }
}

/// A played engine and a container on it, which answers while it runs and `well` holds.
struct Scene {
    engine: Fake,
    well: Arc<AtomicBool>,
    container: Arc<Container>,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let engine = Fake::start();
        let mut settings = settings(Some(engine.socket()));
        change(&mut settings);
        let container = Arc::new(Container::new(settings));
        Self { engine, well: Arc::new(AtomicBool::new(true)), container }
    }

    /// Another gateway's container, or the same after a restart, on the same engine.
    fn again(&self, change: impl FnOnce(&mut Settings)) -> Arc<Container> {
        let mut settings = settings(Some(self.engine.socket()));
        change(&mut settings);
        Arc::new(Container::new(settings))
    }

    async fn ensure(&self) -> Result<(), StartError> {
        self.ensure_of(&self.container, Ok(Gpus::All)).await
    }

    async fn ensure_of(
        &self,
        container: &Arc<Container>,
        grant: Result<Gpus, StartError>,
    ) -> Result<(), StartError> {
        let (world, well) = (self.engine.shared(), Arc::clone(&self.well));
        let healthy = move || {
            let running = world.lock().container.as_ref().is_some_and(|one| one.running);
            std::future::ready(running && well.load(Ordering::SeqCst)).boxed()
        };
        container.ensure(healthy, move || std::future::ready(grant.clone()).boxed()).await
    }

    fn set_well(&self, well: bool) {
        self.well.store(well, Ordering::SeqCst);
    }

    /// It ends by itself.
    fn die(&self) {
        self.change(|one| one.running = false);
    }

    fn change(&self, change: impl FnOnce(&mut One)) {
        change(self.engine.world().container.as_mut().expect("a container"));
    }

    fn running(&self) -> bool {
        self.engine.world().container.as_ref().is_some_and(|one| one.running)
    }
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}
