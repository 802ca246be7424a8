//! The numbers that routing goes by.

use std::time::Duration;

/// The numbers that routing goes by. They are no settings of an installation: `souk bench fleet` is where another value shows
/// what it does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoutingSettings {
    /// A lane takes at most this many times its even share of the pool's load before the next one is asked.
    pub load_bound: f64,
    /// But however empty the pool is, a lane takes what fills this part of its places: that others have nothing to do is no
    /// reason to load an adapter a second time.
    pub always_room: f64,
    /// A replica is for a load that fills this part of an average node's places.
    pub replica_fill: f64,
    /// An adapter's set shrinks when its load would fit a set that is one smaller, and then this part of it: less than 1, so that
    /// a load at the edge does not make it grow and shrink in turn.
    pub shrink_below: f64,
    /// How long it has to be so before the set shrinks by one.
    pub shrink_after: Duration,
    /// Largest set. A load beyond it goes to the next lanes in the adapter's order, as they have room.
    pub max_replicas: usize,
    /// After this time a job counts half in an adapter's traffic, and the pool's load half in its average.
    pub half_life: Duration,
    /// Adapters whose traffic is remembered. Beyond it those with the least are forgotten: they start with a set of one.
    pub max_tracked: usize,
}

impl Default for RoutingSettings {
    fn default() -> Self {
        Self {
            load_bound: 1.25,
            always_room: 0.5,
            replica_fill: 0.5,
            shrink_below: 0.7,
            shrink_after: Duration::from_secs(30),
            max_replicas: 64,
            half_life: Duration::from_secs(20),
            max_tracked: 1 << 16,
        }
    }
}
