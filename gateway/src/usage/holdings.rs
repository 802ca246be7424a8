//! What this gateway holds at the port of limits: what requests under way have reserved, and what settled ones used that no total
//! counts yet.
//!
//! What happens when: a store of limits that is away is told again what it did not hear, every third of a lease; one that lost its
//! data says with the renewal what it does not know, and is told that, too. Whom no limit can refuse is let in while the store is
//! away; what it uses is held as soon as the store is back, so that a limit that is set meanwhile finds it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use souk_limits::{Amounts, Ask, Held, Limits, LimitsError, ReserveError, Reserved};
use souk_protocol::{Limit, Mode, Policy, RequestId, TenantId, Total, TotalKey};

use super::store::{UsageStore, UsageStoreError};

/// How often a request asks again for what its budgets have used. Each time the store of limits was told what it asked for; it may
/// ask once more where a period ended meanwhile.
const MOST_ASKS: usize = 3;

/// What is held here. One for a gateway.
pub(crate) struct Holdings {
    limits: Arc<dyn Limits>,
    store: Arc<dyn UsageStore>,
    held: Mutex<HashMap<RequestId, Holding>>,
    /// Budgets in shadow mode whose totals are being looked up.
    looked_up: Mutex<HashSet<TotalKey>>,
    /// Whether the store knows what the process before has used.
    is_restored: AtomicBool,
    /// While it is held, nothing else is restored or let go of: what a total counts is never held again.
    telling: tokio::sync::Mutex<()>,
}

struct Holding {
    ask: Ask,
    /// Whether the store has let it in; until then nothing is renewed, since what is restored is refused no more.
    is_let_in: bool,
    /// `None` while the request is under way, then what it used.
    used: Option<Amounts>,
    /// Whether the store knows that.
    is_told: bool,
}

/// Why nothing was reserved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    #[error(transparent)]
    Limits(#[from] ReserveError),
    #[error(transparent)]
    Store(#[from] UsageStoreError),
}

impl Holdings {
    pub(crate) fn new(limits: Arc<dyn Limits>, store: Arc<dyn UsageStore>) -> Arc<Self> {
        let (held, looked_up, telling) = (Mutex::default(), Mutex::default(), tokio::sync::Mutex::default());
        Arc::new(Self { limits, store, held, looked_up, is_restored: AtomicBool::new(true), telling })
    }

    /// How many requests hold something.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Reserves for a request. Whoever drops the wait settles it as one that used nothing.
    pub(crate) async fn reserve(self: &Arc<Self>, ask: &Ask) -> Result<Reserved, HoldError> {
        let asking = Holding { ask: ask.clone(), is_let_in: false, used: None, is_told: false };
        self.lock().insert(ask.request.clone(), asking);
        let reserved = self.ask(ask).await;
        let mut held = self.lock();
        match &reserved {
            Ok(_) => _ = held.entry(ask.request.clone()).and_modify(|holding| holding.is_let_in = true),
            Err(_) => _ = held.remove(&ask.request),
        }
        reserved
    }

    async fn ask(self: &Arc<Self>, ask: &Ask) -> Result<Reserved, HoldError> {
        let mut asked = 0;
        loop {
            asked += 1;
            match self.reserve_once(ask).await {
                Err(ReserveError::TotalsUnknown(keys)) if asked < MOST_ASKS => {
                    let totals = self.store.totals(&keys).await?;
                    self.limits.count(&ask.tenant, &totals, &[]).await.map_err(ReserveError::from)?;
                }
                Err(ReserveError::Unavailable(error)) if !is_bound(ask) => {
                    tracing::warn!(%error, "Limits cannot be reached; whom none can refuse is let in");
                    return Ok(Reserved::default());
                }
                reserved => {
                    let reserved = reserved?;
                    self.look_up(ask, reserved.unknown.clone());
                    return Ok(reserved);
                }
            }
        }
    }

    /// Looks up what budgets in shadow mode have used, for the requests that follow: nobody waits for what refuses nothing.
    fn look_up(self: &Arc<Self>, ask: &Ask, mut unknown: Vec<TotalKey>) {
        {
            let mut looked_up = self.looked_up.lock().unwrap_or_else(PoisonError::into_inner);
            unknown.retain(|key| looked_up.insert(key.clone()));
        }
        if unknown.is_empty() {
            return;
        }
        let (holdings, tenant) = (Arc::clone(self), ask.tenant.clone());
        tokio::spawn(async move {
            match holdings.store.totals(&unknown).await {
                Ok(totals) => {
                    if let Err(error) = holdings.limits.count(&tenant, &totals, &[]).await {
                        tracing::warn!(%error, %tenant, "what shadowed budgets have used cannot be told");
                    }
                }
                Err(error) => tracing::warn!(%error, %tenant, "what shadowed budgets have used cannot be looked up"),
            }
            let mut looked_up = holdings.looked_up.lock().unwrap_or_else(PoisonError::into_inner);
            unknown.iter().for_each(|key| _ = looked_up.remove(key));
        });
    }

    async fn reserve_once(&self, ask: &Ask) -> Result<Reserved, ReserveError> {
        if !self.is_restored.load(Ordering::Acquire) {
            self.restore().await?;
        }
        self.limits.reserve(ask).await
    }

    /// Says what a request used. What cannot be told now is told with the next renewal.
    pub(crate) async fn settle(&self, request: &RequestId, used: Amounts) {
        let tenant = {
            let mut held = self.lock();
            let Some(holding) = held.get_mut(request) else { return };
            holding.used = Some(used);
            let (tenant, is_let_in) = (holding.ask.tenant.clone(), holding.is_let_in);
            if !is_let_in {
                // Nobody waits for the answer any more. Should the store have let it in and not hear this, its lease lapses.
                held.remove(request);
            }
            tenant
        };
        self.tell_settled(&tenant, request, used).await;
    }

    async fn tell_settled(&self, tenant: &TenantId, request: &RequestId, used: Amounts) {
        match self.limits.settle(tenant, request, used).await {
            Ok(()) => {
                let mut held = self.lock();
                if used.costs() {
                    held.entry(request.clone()).and_modify(|holding| holding.is_told = true);
                } else {
                    // Nothing of it is to be counted, so nothing is held any more.
                    held.remove(request);
                }
            }
            Err(error) => tracing::warn!(%error, %request, "what a request used cannot be told yet"),
        }
    }

    /// The rows of these requests of a tenant are written, and this is what they sum up to.
    pub(crate) async fn count(
        &self,
        tenant: &TenantId,
        totals: &[Total],
        written: &[RequestId],
    ) -> Result<(), LimitsError> {
        let _telling = self.telling.lock().await;
        self.limits.count(tenant, totals, written).await?;
        let mut held = self.lock();
        written.iter().for_each(|request| _ = held.remove(request));
        Ok(())
    }

    /// Holds what the processes before have settled and not written. Should the store be away, nobody whom a limit binds is let in
    /// before it is back and has heard of it.
    pub(crate) async fn restore_settled(&self, asks: Vec<Ask>) {
        if asks.is_empty() {
            return;
        }
        {
            let mut held = self.lock();
            for ask in asks {
                let (request, used) = (ask.request.clone(), Some(ask.amounts));
                held.insert(request, Holding { ask, is_let_in: true, used, is_told: false });
            }
        }
        self.is_restored.store(false, Ordering::Release);
        if let Err(error) = self.restore().await {
            tracing::warn!(%error, "What processes before have used cannot be told to the store of limits yet");
        }
    }

    /// Holds what a request of another gateway's has used that no total counts yet. What cannot be told now is told with the
    /// next renewal.
    pub(crate) async fn adopt(&self, ask: Ask) {
        let (request, tenant, used) = (ask.request.clone(), ask.tenant.clone(), ask.amounts);
        let holding = Holding { ask, is_let_in: true, used: Some(used), is_told: false };
        let held = holding.as_held();
        self.lock().insert(request.clone(), holding);
        // Its own gateway's reservation may stand yet, and has no effect where it does not.
        self.tell_settled(&tenant, &request, used).await;
        let _telling = self.telling.lock().await;
        if let Err(error) = self.limits.restore(&[held]).await {
            tracing::warn!(%error, %request, "what a request of another gateway used cannot be told yet");
        }
    }

    async fn restore(&self) -> Result<(), LimitsError> {
        let _telling = self.telling.lock().await;
        let held: Vec<Held> =
            self.lock().values().filter(|holding| holding.used.is_some()).map(Holding::as_held).collect();
        self.limits.restore(&held).await?;
        self.is_restored.store(true, Ordering::Release);
        Ok(())
    }

    /// Tells the store all that is held here: renews it, restores what is not known, and settles what could not be settled.
    pub(crate) async fn renew(&self) {
        let mut tenants: HashMap<TenantId, Vec<RequestId>> = HashMap::new();
        for (request, holding) in self.lock().iter().filter(|(_, holding)| holding.is_let_in) {
            tenants.entry(holding.ask.tenant.clone()).or_default().push(request.clone());
        }
        for (tenant, requests) in tenants {
            if let Err(error) = self.renew_for(&tenant, &requests).await {
                tracing::warn!(%error, %tenant, "what requests hold cannot be renewed");
            }
        }
    }

    async fn renew_for(&self, tenant: &TenantId, requests: &[RequestId]) -> Result<(), LimitsError> {
        let telling = self.telling.lock().await;
        let unknown = self.limits.renew(tenant, requests).await?;
        // What was counted or let go of since is held no more.
        let restored: Vec<Held> = {
            let held = self.lock();
            let held = unknown.iter().filter_map(|request| held.get(request));
            held.filter(|holding| holding.holds()).map(Holding::as_held).collect()
        };
        if !restored.is_empty() {
            tracing::info!(%tenant, requests = restored.len(), "Limits are told again what requests hold");
            self.limits.restore(&restored).await?;
        }
        drop(telling);
        self.settle_again(tenant, requests, &restored).await;
        Ok(())
    }

    /// Settles what was settled while it was restored as under way, and what the store has not heard of yet.
    async fn settle_again(&self, tenant: &TenantId, requests: &[RequestId], restored: &[Held]) {
        let untold: Vec<(RequestId, Amounts)> = {
            let held = self.lock();
            let as_under_way = restored.iter().filter(|held| !held.is_settled).map(|held| &held.ask.request);
            let overtaken = as_under_way.filter_map(|request| match held.get(request) {
                Some(holding) => Some((request.clone(), holding.used?)),
                None => Some((request.clone(), Amounts::default())),
            });
            let unheard = requests.iter().filter_map(|request| {
                let holding = held.get(request).filter(|holding| !holding.is_told)?;
                Some((request.clone(), holding.used?))
            });
            overtaken.chain(unheard).collect()
        };
        for (request, used) in untold {
            self.tell_settled(tenant, &request, used).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Holding>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is a limit that could refuse it.
fn is_bound(ask: &Ask) -> bool {
    let refuses = |policy: Policy, limit: Limit| limit.mode == Mode::Enforce && ask.amounts.of(policy.unit()) > 0;
    ask.tree.limits().any(|(_, policy, limit)| refuses(policy, limit))
}

impl Holding {
    /// Whether there is anything to be held: what was settled and free is not.
    const fn holds(&self) -> bool {
        match self.used {
            Some(used) => used.costs(),
            None => true,
        }
    }

    /// What the store has to hold now.
    fn as_held(&self) -> Held {
        match self.used {
            Some(used) => Held { ask: Ask { amounts: used, ..self.ask.clone() }, is_settled: true },
            None => Held { ask: self.ask.clone(), is_settled: false },
        }
    }
}
