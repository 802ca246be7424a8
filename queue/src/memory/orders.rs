//! Orders for the nodes of one pool, as they stand.

use std::collections::{BTreeMap, HashMap};

use souk_protocol::{Digest, NodeId};

use crate::words::{NodeOrder, NumberedOrder, ORDERS_KEPT, OrderNumber};

#[derive(Debug, Default)]
pub(super) struct Orders {
    last: OrderNumber,
    standing: BTreeMap<OrderNumber, NodeOrder>,
    /// Those of them that take a version down.
    taken_down: HashMap<Digest, OrderNumber>,
}

impl Orders {
    /// Adds an order; false if it stands already.
    pub(super) fn post(&mut self, order: NodeOrder) -> bool {
        let stands = match &order {
            NodeOrder::TakeDown(digest) => self.taken_down.contains_key(digest),
            NodeOrder::Pin(_) | NodeOrder::Drain(_) => self.standing.values().any(|standing| *standing == order),
        };
        if stands {
            return false;
        }
        self.last = OrderNumber(self.last.0 + 1);
        match &order {
            NodeOrder::TakeDown(digest) => drop(self.taken_down.insert(*digest, self.last)),
            // Only the newest says what is pinned.
            NodeOrder::Pin(_) => self.standing.retain(|_, standing| !matches!(standing, NodeOrder::Pin(_))),
            NodeOrder::Drain(_) => {}
        }
        self.standing.insert(self.last, order);
        if self.standing.len() > ORDERS_KEPT
            && let Some((_, NodeOrder::TakeDown(digest))) = self.standing.pop_first()
        {
            self.taken_down.remove(&digest);
        }
        true
    }

    pub(super) fn is_taken_down(&self, digest: &Digest) -> bool {
        self.taken_down.contains_key(digest)
    }

    /// What stands with a higher number, oldest first; `None` if nothing does.
    pub(super) fn after(&self, after: OrderNumber) -> Option<Vec<NumberedOrder>> {
        let newer = self.standing.range(OrderNumber(after.0.saturating_add(1))..);
        let newer: Vec<_> =
            newer.map(|(number, order)| NumberedOrder { number: *number, order: order.clone() }).collect();
        (!newer.is_empty()).then_some(newer)
    }

    /// The number of the newest order.
    pub(super) const fn last(&self) -> OrderNumber {
        self.last
    }

    /// A node is gone for good, and with it what only it was told.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.standing.retain(|_, order| !matches!(order, NodeOrder::Drain(drained) if drained == node));
    }
}
