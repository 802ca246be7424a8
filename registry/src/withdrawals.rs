//! Take-downs, for whoever serves versions in the same process: new requests are refused by
//! [`Registry::resolve`](crate::Registry::resolve) anyway, and what runs has to be ended.
//!
//! What is told here is told once and kept nowhere: a listener that begins later has missed it, as has a process that
//! died. Neither matters, since nothing runs there that was resolved before.

use souk_protocol::Digest;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How many take-downs a listener may be behind: far more than an operator makes while it ends the answers of one.
const KEPT: usize = 1024;

/// Tells of take-downs.
#[derive(Debug)]
pub(crate) struct TakeDowns {
    sender: broadcast::Sender<Digest>,
}

impl TakeDowns {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(KEPT) }
    }

    /// Tells all listeners. Call it after the take-down is committed, so that whoever resolves later is refused.
    pub(crate) fn tell(&self, digest: &str) {
        match digest.parse() {
            // Without listeners nothing runs in this process.
            Ok(digest) => drop(self.sender.send(digest)),
            Err(error) => tracing::error!(%error, digest, "the digest of a version that was taken down is not one"),
        }
    }

    pub(crate) fn listen(&self) -> TakeDownListener {
        TakeDownListener(self.sender.subscribe())
    }
}

/// Hears of each take-down from its making on. See [`Registry::take_downs`](crate::Registry::take_downs).
#[derive(Debug)]
pub struct TakeDownListener(broadcast::Receiver<Digest>);

impl TakeDownListener {
    /// The digest of the next version that is taken down; `None` once the registry is gone. Dropping the wait loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Digest> {
        loop {
            match self.0.recv().await {
                Ok(digest) => return Some(digest),
                Err(RecvError::Lagged(missed)) => {
                    tracing::error!(missed, "take-downs came faster than running answers could be ended");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_hears_each_take_down_from_its_making_on() {
        let (take_downs, digest) = (TakeDowns::new(), |name: &str| Digest::of(name.as_bytes()));
        take_downs.tell(&digest("before").to_string());
        let mut listener = take_downs.listen();
        take_downs.tell("not a digest");
        take_downs.tell(&digest("first").to_string());
        take_downs.tell(&digest("second").to_string());
        assert_eq!(listener.next().await, Some(digest("first")));
        assert_eq!(listener.next().await, Some(digest("second")));
        drop(take_downs);
        assert_eq!(listener.next().await, None);
    }
}
