//! Where a tenant's keys are, and calling the functions on them.

use std::borrow::Cow;

use redis::{Cmd, Value, cmd};
use souk_protocol::{Digest, TenantId};
use souk_redis::{Fault, Library, Live, RedisSettings, Servers};

use crate::error::LimitsError;

/// The functions, in a library whose name has their version.
const LIBRARY: &str = include_str!("limits.lua");
/// What the functions' names begin with.
const PREFIX: &str = "souk_limits_1_";

/// How many shards there are. Another number would look for what is held elsewhere.
pub(super) const NUM_SHARDS: u8 = 64;

/// The part of the keys that a tenant's are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shard(u8);

impl Shard {
    /// The same for all gateways and for ever.
    pub(super) fn of(tenant: &TenantId) -> Self {
        Self(Digest::of(tenant.as_str().as_bytes()).as_bytes()[0] % NUM_SHARDS)
    }

    fn all() -> impl Iterator<Item = Self> {
        (0..NUM_SHARDS).map(Self)
    }

    /// What its keys have in braces.
    fn tag(self) -> String {
        format!("l{}", self.0)
    }
}

impl From<Fault> for LimitsError {
    fn from(fault: Fault) -> Self {
        Self(Box::new(fault))
    }
}

impl From<serde_json::Error> for LimitsError {
    fn from(error: serde_json::Error) -> Self {
        Self(Box::new(error))
    }
}

/// The way to the functions.
#[derive(Debug)]
pub(super) struct Connection {
    servers: Servers,
}

impl Connection {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, Fault> {
        Ok(Self { servers: Servers::new(settings, Library { code: Cow::Borrowed(LIBRARY) })? })
    }

    /// Connects, if it is not, and begins all shards that are not there.
    pub(super) async fn connect(&self) -> Result<(), LimitsError> {
        for shard in Shard::all() {
            self.call("touch", shard, &[]).await?;
        }
        Ok(())
    }

    /// Runs one function on one shard.
    pub(super) async fn call(&self, function: &str, shard: Shard, args: &[&[u8]]) -> Result<Value, LimitsError> {
        let tag = shard.tag();
        self.begin_shards(&tag).await?;
        let said = self.servers.call(&tag, |live| command(live, function, shard, args)).await?;
        // Somebody may have emptied the server, and the call was made on a new connection.
        self.begin_shards(&tag).await?;
        Ok(said)
    }

    /// Begins the shards of a server that is newly connected. Those that another server of a cluster has are refused, and begin
    /// there.
    async fn begin_shards(&self, tag: &str) -> Result<(), Fault> {
        let live = self.servers.live(tag).await?;
        if live.is_new() {
            let mut touches = redis::pipe();
            for shard in Shard::all() {
                touches.add_command(command(&live, "touch", shard, &[]));
            }
            live.pipe(&mut touches).await?;
        }
        Ok(())
    }
}

fn command(live: &Live, function: &str, shard: Shard, args: &[&[u8]]) -> Cmd {
    let mut command = cmd("FCALL");
    command.arg(format!("{PREFIX}{function}")).arg(1).arg(format!("souk:{{{}}}:{}:clock", shard.tag(), live.run()));
    command.arg(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{IDLE, LEASE};
    use crate::repeats::KEPT_FOR;

    #[test]
    fn the_functions_count_with_the_same_times_and_have_one_version() {
        for (name, time) in [("LEASE_MS", LEASE), ("IDLE_MS", IDLE), ("KEPT_FOR_MS", KEPT_FOR)] {
            assert!(LIBRARY.contains(&format!("local {name} = {}\n", time.as_millis())), "{name}");
        }
        let name = PREFIX.trim_end_matches('_');
        assert!(LIBRARY.starts_with(&format!("#!lua name={name}\n")));
        assert!(LIBRARY.contains(&format!("function_name = '{PREFIX}' .. name")));
    }

    #[test]
    fn a_tenants_shard_never_changes() {
        assert_eq!(Shard::of(&TenantId::from_stored("ten_1")), Shard(Digest::of(b"ten_1").as_bytes()[0] % 64));
        assert_eq!(Shard::all().count(), 64);
    }
}
