//! The network between the processes of a fleet, which tests cut.

use souk_testkit::proxy::Proxy;
use souk_testkit::redis::Redis;

use crate::field::Field;
use crate::fleet::free_address;

/// What processes go by to reach others.
pub(crate) struct Cables {
    /// Gateways and nodes to Redis.
    pub(crate) redis: Proxy,
    /// Gateways and nodes to each registry.
    pub(crate) registries: Vec<Proxy>,
    /// Nodes to each gateway.
    pub(crate) gateways: Vec<ToGateway>,
}

/// Nodes to a gateway.
pub(crate) struct ToGateway {
    pub(crate) cable: Proxy,
    /// Where the gateway listens.
    pub(crate) listen: String,
}

impl Field {
    /// A fleet whose network can be cut, with these settings for gateways and nodes.
    pub(crate) async fn on_cables(num_gateways: usize, num_nodes: usize, settings: &[(&str, &str)]) -> Self {
        let mut field = Self::start_with(&[], Redis::that_forgets(), 0, 0).await;
        let to_gateway = || {
            let listen = free_address();
            ToGateway { cable: Proxy::before(&format!("http://{listen}")), listen }
        };
        field.cables = Some(Cables {
            redis: Proxy::before(&field.redis.url()),
            registries: field.fleet.registries.iter().map(|registry| Proxy::before(&registry.url)).collect(),
            gateways: (0..num_gateways).map(|_| to_gateway()).collect(),
        });
        field.add(num_gateways, num_nodes, settings).await;
        field
    }

    pub(crate) fn cables(&self) -> &Cables {
        self.cables.as_ref().unwrap()
    }
}
