//! A connection that is opened anew when Redis closed it while nobody asked.

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::{Cmd, Pipeline, RedisFuture, Value};

/// A connection. What finds it closed is asked once more, on the next: to do again what may have been done does no
/// harm to a cache.
#[derive(Clone)]
pub(super) struct Link(pub(super) ConnectionManager);

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            match self.0.req_packed_command(command).await {
                Err(cause) if cause.is_connection_dropped() => {
                    self.0.req_packed_command(command).await
                }
                answered => answered,
            }
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            match self.0.req_packed_commands(commands, offset, count).await {
                Err(cause) if cause.is_connection_dropped() => {
                    self.0.req_packed_commands(commands, offset, count).await
                }
                answered => answered,
            }
        })
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}
