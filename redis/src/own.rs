//! A connection for one reader that blocks.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};

use crate::fault::Fault;

/// A connection of one's own, whose answers may take as long as they like: a blocking read holds up everything behind it, and
/// a read that is dropped is not taken back. So whoever drops a read drops this with it.
pub struct Own {
    pub(crate) connection: MultiplexedConnection,
}

impl Own {
    /// Sends a command and waits for its answer, however long.
    ///
    /// # Errors
    /// [`Fault::Redis`]; the connection is then of no more use.
    pub async fn ask(&mut self, command: &Cmd) -> Result<Value, Fault> {
        Ok(command.query_async(&mut self.connection).await?)
    }
}
