//! The three policies.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sluicegate::admission::line::{Grant, Line, Ticket};
use sluicegate::admission::{Ask, Memory, Offload, Priority, Terms};
use tokio::time::Instant;

use crate::simulation::Request;

const GB: u64 = 1 << 30;
const MODELS: [&str; 2] = ["first", "second"];
const CALLERS: [&str; 3] = ["greedy", "modest", "modest too"];

/// What a policy does next.
#[derive(Debug, Default)]
pub struct Orders {
    /// Requests that are started now.
    pub start: Vec<usize>,
    /// The model whose load begins now, in the place of the other.
    pub load: Option<usize>,
    /// When it wants to look again.
    pub wake: Option<Duration>,
}

/// Who runs and what is loaded.
pub trait Policy {
    /// A request comes.
    fn arrive(&mut self, id: usize, request: &Request, now: Duration, orders: &mut Orders);
    /// A request has been served.
    fn done(&mut self, id: usize, now: Duration, orders: &mut Orders);
    /// The load has ended.
    fn loaded(&mut self, now: Duration, orders: &mut Orders);
    /// The time it asked for has come.
    fn wake(&mut self, _now: Duration, _orders: &mut Orders) {}
    /// What the last one to come would be told of its wait, if it is told anything.
    fn estimate(&self, _now: Duration) -> Option<Duration> {
        None
    }
}

/// The gateway's own line.
pub struct Ours {
    line: Line,
    start: Instant,
    waiting: HashMap<u64, usize>,
    running: HashMap<usize, Grant>,
    loading: Option<Arc<str>>,
    last: Option<Ticket>,
}

impl Ours {
    /// On a GPU of 16 GB with nothing loaded.
    pub fn new(places: usize, min_residency: Duration, max_starvation: Duration) -> Self {
        let (max_waiting, offload) = (usize::MAX, Offload::Allow);
        let mut line =
            Line::new(Terms { places, max_waiting, min_residency, max_starvation, offload });
        line.know(Some(Memory { free: 16 * GB, residents: Vec::new() }));
        let (waiting, running) = (HashMap::new(), HashMap::new());
        Self { line, start: Instant::now(), waiting, running, loading: None, last: None }
    }

    fn settle(&mut self, now: Duration, orders: &mut Orders) {
        let at = self.start + now;
        while let Some((ticket, grant)) = self.line.next(at) {
            if let Some(id) = self.waiting.remove(&ticket.number()) {
                self.running.insert(id, grant);
                orders.start.push(id);
            }
        }
        if let Some(load) = self.line.next_load(at) {
            orders.load = MODELS.iter().position(|&name| name == &*load.model);
            self.loading = Some(load.model);
        }
        orders.wake = self.line.wake_at().map(|wake| wake - self.start);
    }
}

impl Policy for Ours {
    fn arrive(&mut self, id: usize, request: &Request, now: Duration, orders: &mut Orders) {
        let ask = Ask {
            model: MODELS[request.model].into(),
            caller: CALLERS[request.caller].into(),
            weight: 1,
            priority: Priority::Interactive,
            need: Some(10 * GB),
        };
        if let Ok(ticket) = self.line.join(&ask, self.start + now) {
            self.waiting.insert(ticket.number(), id);
            self.last = Some(ticket);
        }
        self.settle(now, orders);
    }

    fn done(&mut self, id: usize, now: Duration, orders: &mut Orders) {
        if let Some(grant) = self.running.remove(&id) {
            self.line.release(&grant, self.start + now);
        }
        self.settle(now, orders);
    }

    fn loaded(&mut self, now: Duration, orders: &mut Orders) {
        if let Some(model) = self.loading.take() {
            self.line.loaded(&model, true, self.start + now);
        }
        self.settle(now, orders);
    }

    fn wake(&mut self, now: Duration, orders: &mut Orders) {
        self.settle(now, orders);
    }

    fn estimate(&self, now: Duration) -> Option<Duration> {
        self.line.estimate(self.last.as_ref()?, self.start + now)
    }
}

/// What the two simple policies know of the GPU.
struct Gpu {
    places: usize,
    in_flight: usize,
    resident: Option<usize>,
    loading: Option<usize>,
}

impl Gpu {
    fn new(places: usize) -> Self {
        Self { places, in_flight: 0, resident: None, loading: None }
    }

    fn start(&mut self, id: usize, orders: &mut Orders) {
        self.in_flight += 1;
        orders.start.push(id);
    }

    fn load(&mut self, model: usize, orders: &mut Orders) {
        self.resident = None;
        self.loading = Some(model);
        orders.load = Some(model);
    }
}

/// Strictly in the order of arrival: swaps whenever the head of the queue needs the other model.
pub struct Fifo {
    gpu: Gpu,
    queue: VecDeque<(usize, usize)>,
}

impl Fifo {
    /// On a GPU with nothing loaded.
    pub fn new(places: usize) -> Self {
        Self { gpu: Gpu::new(places), queue: VecDeque::new() }
    }

    fn settle(&mut self, orders: &mut Orders) {
        while let Some(&(id, model)) = self.queue.front() {
            if self.gpu.resident == Some(model) && self.gpu.in_flight < self.gpu.places {
                self.queue.pop_front();
                self.gpu.start(id, orders);
            } else {
                let free = self.gpu.in_flight == 0 && self.gpu.loading.is_none();
                if free && self.gpu.resident != Some(model) {
                    self.gpu.load(model, orders);
                }
                return;
            }
        }
    }
}

impl Policy for Fifo {
    fn arrive(&mut self, id: usize, request: &Request, _now: Duration, orders: &mut Orders) {
        self.queue.push_back((id, request.model));
        self.settle(orders);
    }

    fn done(&mut self, _id: usize, _now: Duration, orders: &mut Orders) {
        self.gpu.in_flight -= 1;
        self.settle(orders);
    }

    fn loaded(&mut self, _now: Duration, orders: &mut Orders) {
        self.gpu.resident = self.gpu.loading.take();
        self.settle(orders);
    }
}

/// Ollama by itself: requests of the loaded model go straight to its semaphore, without bound; one
/// pending request at a time waits until the loaded model has no users at all, then swaps.
pub struct Ollama {
    gpu: Gpu,
    semaphore: VecDeque<usize>,
    pending: VecDeque<(usize, usize)>,
}

impl Ollama {
    /// On a GPU with nothing loaded.
    pub fn new(places: usize) -> Self {
        Self { gpu: Gpu::new(places), semaphore: VecDeque::new(), pending: VecDeque::new() }
    }

    fn settle(&mut self, orders: &mut Orders) {
        // Those at the head whose model is there by now; a head that must load blocks the others.
        while let Some(&(id, model)) = self.pending.front() {
            if self.gpu.resident != Some(model) {
                break;
            }
            self.pending.pop_front();
            self.semaphore.push_back(id);
        }
        while self.gpu.in_flight < self.gpu.places {
            let Some(id) = self.semaphore.pop_front() else { break };
            self.gpu.start(id, orders);
        }
        if let Some(&(_, model)) = self.pending.front()
            && self.gpu.in_flight == 0
            && self.gpu.loading.is_none()
        {
            self.gpu.load(model, orders);
        }
    }
}

impl Policy for Ollama {
    fn arrive(&mut self, id: usize, request: &Request, _now: Duration, orders: &mut Orders) {
        if self.gpu.resident == Some(request.model) {
            self.semaphore.push_back(id);
        } else {
            self.pending.push_back((id, request.model));
        }
        self.settle(orders);
    }

    fn done(&mut self, _id: usize, _now: Duration, orders: &mut Orders) {
        self.gpu.in_flight -= 1;
        self.settle(orders);
    }

    fn loaded(&mut self, _now: Duration, orders: &mut Orders) {
        self.gpu.resident = self.gpu.loading.take();
        self.settle(orders);
    }
}
