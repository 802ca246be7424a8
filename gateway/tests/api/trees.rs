//! What binds tenants, as the registry of the tests knows it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use souk_gateway::AuthError;
use souk_protocol::hooks::Attached;
use souk_protocol::{KeyId, LimitTree, Principal, TenantId};

/// The trees of tenants, which can be away.
#[derive(Default)]
pub(crate) struct Trees {
    /// Nothing binds a tenant that has none here.
    of_tenants: Mutex<HashMap<TenantId, LimitTree>>,
    /// What the publisher of the adapter attached to it.
    attached: Mutex<Option<Arc<Attached>>>,
    num_asked: AtomicUsize,
    is_away: AtomicBool,
}

impl Trees {
    /// Changes what binds a tenant.
    pub(crate) fn change(&self, tenant: &str, change: impl FnOnce(&mut LimitTree)) {
        let tenant = TenantId::from_stored(tenant);
        let tree = LimitTree::unlimited(&tenant, &KeyId::from_stored("key_1"));
        change(self.of_tenants.lock().unwrap().entry(tenant).or_insert(tree));
    }

    /// Attaches hooks to the adapter.
    pub(crate) fn attach(&self, attached: Option<Arc<Attached>>) {
        *self.attached.lock().unwrap() = attached;
    }

    /// What is attached to the adapter.
    pub(crate) fn attached(&self) -> Option<Arc<Attached>> {
        self.attached.lock().unwrap().clone()
    }

    /// Puts these in the place of all that there are, which are returned.
    pub(crate) fn replace(&self, of_tenants: HashMap<TenantId, LimitTree>) -> HashMap<TenantId, LimitTree> {
        std::mem::replace(&mut self.of_tenants.lock().unwrap(), of_tenants)
    }

    /// What binds a caller now.
    pub(crate) fn of(&self, caller: &Principal) -> Result<LimitTree, AuthError> {
        self.num_asked.fetch_add(1, Ordering::AcqRel);
        if self.is_away.load(Ordering::Acquire) {
            return Err(AuthError::Unavailable("the registry is away".into()));
        }
        let tree = self.of_tenants.lock().unwrap().get(&caller.tenant).cloned();
        Ok(tree.unwrap_or_else(|| LimitTree::unlimited(&caller.tenant, &caller.key)))
    }

    /// How often somebody asked.
    pub(crate) fn num_asked(&self) -> usize {
        self.num_asked.load(Ordering::Acquire)
    }

    pub(crate) fn go_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Release);
    }
}
