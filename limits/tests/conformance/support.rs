//! Short words for the cases, and a driver for each implementation with a clock of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use souk_limits::port::LEASE;
use souk_limits::{Amounts, Ask, Limits, MemoryLimits, RedisLimits, Repeats, ReserveError, Reserved, Violation};
use souk_protocol::{
    KeyId, LevelLimits, Limit, LimitTree, Mode, PeriodKey, PersonId, Policy, RequestId, Subject, TeamId, TenantId,
    Total, TotalKey,
};
use souk_redis::RedisSettings;
use souk_testkit::redis::Redis;

/// 2026-11-29T12:00:00Z.
pub(crate) const AT_MS: u64 = 1_795_953_600_000;
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// How long a case may really take on a store whose clock goes on.
pub(crate) const SLACK: Duration = Duration::from_secs(10);
/// Room for repeats: of one shard 64 KiB in Redis.
pub(crate) const MAX_REPEAT_BYTES: usize = 64 * 64 * 1024;

/// A store that has been there for longer than a lease.
pub(crate) struct Store {
    pub(crate) limits: Arc<dyn Limits>,
    pub(crate) repeats: Arc<dyn Repeats>,
    server: Option<Redis>,
}

/// Adds to what the clocks of all shards have counted, and to when they did so. Returns what they had counted.
const MOVE_CLOCKS: &str = r"
local counted, keys = {}, redis.call('KEYS', 'souk:*:clock')
table.sort(keys)
for place, key in ipairs(keys) do
    local now, last, due, kept = struct.unpack('<dddd', redis.call('GET', key))
    counted[place] = now
    redis.call('SET', key, struct.pack('<dddd', now + ARGV[1], last + ARGV[2], due, kept), 'KEEPTTL')
end
return counted";

/// The same, in milliseconds.
pub(crate) fn move_clocks(server: &Redis, counted_ms: i64, last_ms: i64) -> Vec<i64> {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("EVAL").arg(MOVE_CLOCKS).arg(0).arg(counted_ms).arg(last_ms).query(&mut connection).unwrap()
}

impl Store {
    pub(crate) async fn in_memory() -> Self {
        Self::of_memory()
    }

    pub(crate) fn of_memory() -> Self {
        let store = Arc::new(MemoryLimits::new(MAX_REPEAT_BYTES / 64));
        Self { limits: store.clone(), repeats: store, server: None }
    }

    pub(crate) async fn in_redis() -> Self {
        let store = Self::of_redis(Redis::that_forgets()).await;
        store.pass(LEASE).await;
        store
    }

    /// One that has just begun.
    pub(crate) async fn of_redis(server: Redis) -> Self {
        let store = Arc::new(redis_limits(&server));
        store.connect().await.unwrap();
        Self { limits: store.clone(), repeats: store, server: Some(server) }
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        let Some(server) = &self.server else { return tokio::time::sleep(time).await };
        move_clocks(server, i64::try_from(time.as_millis()).unwrap(), 0);
    }

    /// Whether it loses its data: then it has, as if somebody had emptied it.
    pub(crate) fn lose(&self) -> bool {
        let Some(server) = &self.server else { return false };
        server.cli(&["FLUSHALL"]);
        server.cli(&["FUNCTION", "FLUSH"]);
        true
    }

    pub(crate) async fn try_reserve(&self, ask: &Ask) -> Result<Reserved, ReserveError> {
        self.limits.reserve(ask).await
    }

    /// Reserves what there is room for.
    pub(crate) async fn reserve(&self, ask: &Ask) -> Reserved {
        self.try_reserve(ask).await.unwrap()
    }

    /// Reserves what there is no room for.
    pub(crate) async fn refused(&self, ask: &Ask) -> Vec<Violation> {
        match self.try_reserve(ask).await {
            Err(ReserveError::Refused(violations)) => violations,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn settle(&self, ask: &Ask, input_tokens: u64, output_tokens: u64) {
        self.limits.settle(&ask.tenant, &ask.request, amounts(input_tokens, output_tokens)).await.unwrap();
    }

    pub(crate) async fn count(&self, tenant: &TenantId, totals: &[Total], written: &[&Ask]) {
        let written: Vec<_> = written.iter().map(|ask| ask.request.clone()).collect();
        self.limits.count(tenant, totals, &written).await.unwrap();
    }

    pub(crate) async fn renew(&self, ask: &Ask) -> Vec<RequestId> {
        self.limits.renew(&ask.tenant, std::slice::from_ref(&ask.request)).await.unwrap()
    }

    /// Tells what all budgets of an ask's levels have used: so many tokens.
    pub(crate) async fn knows(&self, ask: &Ask, amount: u64, version: u64) {
        self.count(&ask.tenant, &totals(ask, amount, version), &[]).await;
    }

    /// What is left of each limit, broadest first, without taking any.
    pub(crate) async fn left(&self, like: &Ask) -> Vec<u64> {
        // What shadows is no standing; as one that enforces it says the same.
        let mut tree = LimitTree::clone(&like.tree);
        let limits = tree.levels.iter_mut().flat_map(|level| level.limits.values_mut());
        limits.for_each(|limit| limit.mode = Mode::Enforce);
        let (request, tree) = (RequestId::new(), Arc::new(tree));
        let ask = Ask { request, tree, amounts: Amounts::default(), ..like.clone() };
        let reserved = self.reserve(&ask).await;
        self.limits.settle(&ask.tenant, &ask.request, Amounts::default()).await.unwrap();
        reserved.standings.iter().map(|standing| standing.remaining).collect()
    }
}

pub(crate) fn redis_limits(server: &Redis) -> RedisLimits {
    let settings = RedisSettings {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        ..RedisSettings::at(server.url())
    };
    RedisLimits::new(&settings, MAX_REPEAT_BYTES).unwrap()
}

pub(crate) fn tenant() -> TenantId {
    TenantId::from_stored("ten_a")
}

pub(crate) fn of_tenant() -> Subject {
    Subject::Tenant(tenant())
}

pub(crate) fn of_team() -> Subject {
    Subject::Team(TeamId::from_stored("team_a"))
}

pub(crate) fn of_member(name: &str) -> Subject {
    Subject::Member(tenant(), PersonId::from_stored(name))
}

pub(crate) fn of_key(name: &str) -> Subject {
    Subject::Key(KeyId::from_stored(name))
}

pub(crate) fn limit(value: u64) -> Limit {
    Limit { value, soft: None, mode: Mode::Enforce }
}

pub(crate) fn shadow(value: u64) -> Limit {
    Limit { mode: Mode::Shadow, ..limit(value) }
}

pub(crate) fn tree<const N: usize>(levels: [(Subject, &[(Policy, Limit)]); N]) -> Arc<LimitTree> {
    let levels = levels
        .into_iter()
        .map(|(subject, limits)| LevelLimits { subject, limits: limits.iter().copied().collect::<BTreeMap<_, _>>() });
    let levels = levels.collect();
    Arc::new(LimitTree { levels, gate_weight: 1, output_ceiling: None, keeps_answers: true, hooks: None })
}

/// The tenant's limits alone.
pub(crate) fn limited(limits: &[(Policy, Limit)]) -> Arc<LimitTree> {
    tree([(of_tenant(), limits)])
}

pub(crate) fn amounts(input_tokens: u64, output_tokens: u64) -> Amounts {
    Amounts { requests: 1, input_tokens, output_tokens, training_tokens: 0 }
}

/// A new request of the tenant.
pub(crate) fn ask(tree: &Arc<LimitTree>, input_tokens: u64, output_tokens: u64) -> Ask {
    Ask {
        request: RequestId::new(),
        tenant: tenant(),
        tree: Arc::clone(tree),
        amounts: amounts(input_tokens, output_tokens),
        at_ms: AT_MS,
    }
}

/// The same budget of each level of an ask, in its day and its month.
pub(crate) fn totals(ask: &Ask, amount: u64, version: u64) -> Vec<Total> {
    let policies = [Policy::TokensPerDay, Policy::TokensPerMonth];
    let subjects = ask.tree.levels.iter().map(|level| &level.subject);
    let keys = subjects.flat_map(|subject| policies.map(|policy| total_key(subject, policy, ask.at_ms)));
    keys.map(|key| Total { key, amount, version }).collect()
}

pub(crate) fn total_key(subject: &Subject, policy: Policy, at_ms: u64) -> TotalKey {
    TotalKey { subject: subject.clone(), period: PeriodKey::of(policy, at_ms).unwrap(), unit: policy.unit() }
}

/// Which limits were violated.
pub(crate) fn names(violations: &[Violation]) -> Vec<(&'static str, Policy)> {
    violations.iter().map(|violation| (violation.subject.level(), violation.policy)).collect()
}

/// Whether a wait is what it should be, on a clock that went on a little.
pub(crate) fn assert_about(wait: Option<Duration>, expected: Duration) {
    let wait = wait.unwrap();
    assert!(wait <= expected && wait + SLACK > expected, "{wait:?} is not {expected:?}");
}
