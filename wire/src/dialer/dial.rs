//! What a node needs of the network: a stream of bytes either way.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use secrecy::SecretString;
use tokio::sync::mpsc;

/// Opens streams to gateways.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Opens a stream to the gateway at this address and sends `hello` first.
    ///
    /// # Errors
    /// [`DialError`].
    async fn dial(&self, address: &str, hello: Bytes) -> Result<Dialled, DialError>;
}

/// A stream that is open. Dropping both ends closes it.
pub struct Dialled {
    /// To the gateway. It has little room, so that what waits does so where it is counted.
    pub up: mpsc::Sender<Bytes>,
    /// From the gateway; an error says how the stream broke.
    pub down: BoxStream<'static, Result<Bytes, String>>,
}

/// Why there is no stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nobody answers there; a little later somebody may.
    #[error("{0}")]
    Away(String),
    /// Somebody answers and lets this node not in: it says why.
    #[error("{0}")]
    Refused(String),
}

/// Where a node has the token from that it shows to gateways.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token that is good now: another than `refused`, which a gateway has just not taken.
    ///
    /// # Errors
    /// Why there is none, in words.
    async fn token(&self, refused: Option<&SecretString>) -> Result<SecretString, String>;
}
