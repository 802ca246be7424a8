//! Random lives of gateways and requests against the truth: what rows say, and what will be rows at most.
//!
//! After each request that is let in, and after each step, no budget at any level is above the limit that it was let in under, or
//! the highest that it had since. In the end all is settled, written and counted: what is used is the sum of the rows, and
//! nothing is held.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use souk_limits::port::LEASE;
use souk_limits::{Amounts, Ask, Held, ReserveError};
use souk_protocol::Policy::{TokensPerDay, TokensPerMonth};
use souk_protocol::{LimitTree, RequestId, Subject, TenantId, Total, TotalKey, Unit};

use crate::books::{Books, keys};
use crate::support::*;

const NUM_GATEWAYS: u8 = 2;
const NUM_KEYS: u8 = 2;
/// Of the tenant in a month, and of a key in a day.
const FIRST_LIMITS: [u64; 2] = [200, 120];
const DAY_MS: u64 = 86_400_000;
/// Keys and moments that have all the budgets between them.
const CORNERS: [(u8, u64); 4] = [(0, AT_MS), (1, AT_MS), (0, AT_MS + DAY_MS), (1, AT_MS + DAY_MS)];

#[derive(Clone, Debug)]
enum Op {
    /// Several requests at the same moment.
    Reserve {
        gateway: u8,
        asks: Vec<(u8, u8, u8)>,
        is_tomorrow: bool,
    },
    /// The gateway asks again with the same id, as after an answer that was lost.
    ReserveAgain {
        pick: u8,
    },
    Settle {
        pick: u8,
        share: u8,
        twice: bool,
    },
    /// Rows of some settled requests are written. What the gateway says then is on its way.
    Write {
        most: u8,
    },
    /// What is on its way arrives, in any order, or a second time.
    Arrive {
        pick: u8,
        comes_again: bool,
    },
    /// Dies with what runs, and starts again with its journal.
    Crash {
        gateway: u8,
    },
    Pass {
        thirds_of_a_lease: u8,
    },
    Limit {
        level: u8,
        value: u8,
    },
    Lose,
}

fn op() -> impl Strategy<Value = Op> {
    let asks = prop::collection::vec((0..NUM_KEYS, 0..40u8, 1..40u8), 1..4);
    prop_oneof![
        8 => (0..NUM_GATEWAYS, asks, prop::bool::weighted(0.2))
            .prop_map(|(gateway, asks, is_tomorrow)| Op::Reserve { gateway, asks, is_tomorrow }),
        1 => any::<u8>().prop_map(|pick| Op::ReserveAgain { pick }),
        7 => (any::<u8>(), prop_oneof![1 => Just(0), 4 => 0..=100u8], any::<bool>())
            .prop_map(|(pick, share, twice)| Op::Settle { pick, share, twice }),
        4 => (1..5u8).prop_map(|most| Op::Write { most }),
        4 => (any::<u8>(), prop::bool::weighted(0.3)).prop_map(|(pick, comes_again)| Op::Arrive { pick, comes_again }),
        1 => (0..NUM_GATEWAYS).prop_map(|gateway| Op::Crash { gateway }),
        2 => (1..6u8).prop_map(|thirds_of_a_lease| Op::Pass { thirds_of_a_lease }),
        1 => (0..2u8, 0..=255u8).prop_map(|(level, value)| Op::Limit { level, value }),
        1 => Just(Op::Lose),
    ]
}

/// A request that a gateway has in its memory and its journal.
#[derive(Clone, Debug)]
struct Known {
    ask: Ask,
    gateway: u8,
    /// What it used, once it is settled.
    used: Option<Amounts>,
    is_written: bool,
    is_counted: bool,
}

struct World {
    store: Store,
    tenant: TenantId,
    books: Books,
    limits: [u64; 2],
    /// The highest limits that there were.
    highest: [u64; 2],
    requests: BTreeMap<RequestId, Known>,
    on_their_way: Vec<(Vec<Total>, Vec<RequestId>)>,
    /// Whether the store has begun anew less than a lease ago.
    is_gathering: bool,
}

impl World {
    fn new(store: Store, number: u64) -> Self {
        Self {
            store,
            tenant: TenantId::from_stored(format!("ten_{number}")),
            books: Books::default(),
            limits: FIRST_LIMITS,
            highest: FIRST_LIMITS,
            requests: BTreeMap::new(),
            on_their_way: Vec::new(),
            is_gathering: false,
        }
    }

    fn tree(&self, key: u8) -> Arc<LimitTree> {
        let [of_tenant, of_key] = self.limits;
        let name = format!("{}_{key}", self.tenant);
        tree([
            (Subject::Tenant(self.tenant.clone()), &[(TokensPerMonth, limit(of_tenant))]),
            (crate::support::of_key(&name), &[(TokensPerDay, limit(of_key))]),
        ])
    }

    /// Rows, and what may become rows.
    fn truth(&self, key: &TotalKey) -> u64 {
        let unwritten =
            self.requests.values().filter(|known| !known.is_written && keys(&known.ask).any(|of| of == *key));
        let amounts = unwritten.map(|known| known.used.unwrap_or(known.ask.amounts).of(Unit::Tokens));
        self.books.total(key.clone()).amount + amounts.sum::<u64>()
    }

    fn check(&self) {
        for (key, at_ms) in CORNERS {
            let any = Ask { at_ms, ..ask(&self.tree(key), 0, 0) };
            for (place, key) in limited_keys(&any) {
                let truth = self.truth(&key);
                assert!(truth <= self.highest[place], "{key:?} is at {truth}");
            }
        }
    }

    fn pick(&self, pick: u8, matches: impl Fn(&Known) -> bool) -> Option<Known> {
        let matching: Vec<_> = self.requests.values().filter(|known| matches(known)).collect();
        (!matching.is_empty()).then(|| matching[usize::from(pick) % matching.len()].clone())
    }

    async fn reserve(&mut self, gateway: u8, asks: &[(u8, u8, u8)], is_tomorrow: bool) {
        let at_ms = AT_MS + if is_tomorrow { DAY_MS } else { 0 };
        let asks: Vec<_> = asks
            .iter()
            .map(|&(key, input, output)| Ask {
                tenant: self.tenant.clone(),
                at_ms,
                ..ask(&self.tree(key), input.into(), output.into())
            })
            .collect();
        let answers = futures::future::join_all(asks.iter().map(|ask| self.try_reserve(ask))).await;
        let let_in: Vec<_> =
            asks.into_iter().zip(answers).filter_map(|(ask, is_let_in)| is_let_in.then_some(ask)).collect();
        for ask in &let_in {
            let known = Known { ask: ask.clone(), gateway, used: None, is_written: false, is_counted: false };
            self.requests.insert(ask.request.clone(), known);
        }
        for (place, key) in let_in.iter().flat_map(limited_keys) {
            assert!(self.truth(&key) <= self.limits[place], "{key:?} is at {}", self.truth(&key));
        }
    }

    /// Reserves as a gateway does, which reads totals that the store does not know.
    async fn try_reserve(&self, ask: &Ask) -> bool {
        for _ in 0..4 {
            match self.store.try_reserve(ask).await {
                Ok(_) => return true,
                Err(ReserveError::TotalsUnknown(keys)) => {
                    let totals: Vec<_> = keys.into_iter().map(|key| self.books.total(key)).collect();
                    self.store.count(&self.tenant, &totals, &[]).await;
                }
                Err(ReserveError::Refused(_)) => return false,
                Err(ReserveError::Gathering { .. }) => {
                    assert!(self.is_gathering, "a store that lost nothing gathers nothing");
                    return false;
                }
                Err(other) => panic!("{other}"),
            }
        }
        panic!("the store asks for totals without end")
    }

    async fn settle(&mut self, pick: u8, share: u8, twice: bool) {
        let Some(known) = self.pick(pick, |known| known.used.is_none()) else { return };
        let Amounts { input_tokens, output_tokens, .. } = known.ask.amounts;
        let used = amounts(if share == 0 { 0 } else { input_tokens }, output_tokens * u64::from(share) / 100);
        for _ in 0..=u8::from(twice) {
            self.store.settle(&known.ask, used.input_tokens, used.output_tokens).await;
        }
        self.requests.get_mut(&known.ask.request).unwrap().used = Some(used);
    }

    fn write(&mut self, most: u8) {
        let settled = self.requests.values_mut().filter(|known| known.used.is_some() && !known.is_written);
        let mut rows = Vec::new();
        for known in settled.take(most.into()) {
            known.is_written = true;
            rows.push((known.ask.clone(), known.used.unwrap()));
        }
        if !rows.is_empty() {
            let totals = self.books.write(&rows);
            self.on_their_way.push((totals, rows.into_iter().map(|(ask, _)| ask.request).collect()));
        }
    }

    async fn arrive(&mut self, pick: u8, comes_again: bool) {
        if self.on_their_way.is_empty() {
            return;
        }
        let place = usize::from(pick) % self.on_their_way.len();
        let (totals, written) = self.on_their_way[place].clone();
        self.store.limits.count(&self.tenant, &totals, &written).await.unwrap();
        for request in &written {
            self.requests.get_mut(request).unwrap().is_counted = true;
        }
        if !comes_again {
            self.on_their_way.swap_remove(place);
        }
    }

    /// What a gateway has to have held.
    fn held(&self, gateway: u8) -> Vec<Held> {
        let known = self.requests.values().filter(|known| known.gateway == gateway && !known.is_counted);
        let held = known.map(|known| Held {
            ask: Ask { amounts: known.used.unwrap_or(known.ask.amounts), ..known.ask.clone() },
            is_settled: known.used.is_some(),
        });
        held.filter(|held| held.ask.amounts.costs() || !held.is_settled).collect()
    }

    /// Each gateway renews what it holds, and has held again what is not known.
    async fn renew(&self) {
        for gateway in 0..NUM_GATEWAYS {
            let held = self.held(gateway);
            let requests: Vec<_> = held.iter().map(|held| held.ask.request.clone()).collect();
            let unknown = self.store.limits.renew(&self.tenant, &requests).await.unwrap();
            let restored: Vec<_> = held.into_iter().filter(|held| unknown.contains(&held.ask.request)).collect();
            self.store.limits.restore(&restored).await.unwrap();
        }
    }

    async fn pass(&mut self, thirds_of_a_lease: u8) {
        for _ in 0..thirds_of_a_lease {
            self.store.pass(LEASE / 3).await;
            self.renew().await;
        }
        self.is_gathering &= thirds_of_a_lease < 3;
    }

    async fn crash(&mut self, gateway: u8) {
        // What was opened and never settled is our error, and free.
        self.requests.retain(|_, known| known.gateway != gateway || known.used.is_some());
        self.store.limits.restore(&self.held(gateway)).await.unwrap();
    }

    async fn lose(&mut self) {
        if self.store.lose() {
            // Begun by whoever connects or asks first; until a lease has passed all budgets are shut.
            self.store.limits.count(&self.tenant, &[], &[]).await.unwrap();
            self.is_gathering = true;
        } else {
            // In one process it is lost with the gateway.
            self.store = Store::of_memory();
            for gateway in 0..NUM_GATEWAYS {
                self.crash(gateway).await;
            }
        }
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Reserve { gateway, asks, is_tomorrow } => self.reserve(gateway, &asks, is_tomorrow).await,
            Op::ReserveAgain { pick } => {
                if let Some(known) = self.pick(pick, |known| known.used.is_none()).filter(|_| !self.is_gathering) {
                    assert!(self.try_reserve(&known.ask).await, "what is held is let in again");
                }
            }
            Op::Settle { pick, share, twice } => self.settle(pick, share, twice).await,
            Op::Write { most } => self.write(most),
            Op::Arrive { pick, comes_again } => self.arrive(pick, comes_again).await,
            Op::Crash { gateway } => self.crash(gateway).await,
            Op::Pass { thirds_of_a_lease } => self.pass(thirds_of_a_lease).await,
            Op::Limit { level, value } => {
                let level = usize::from(level);
                self.limits[level] = value.into();
                self.highest[level] = self.highest[level].max(value.into());
            }
            Op::Lose => self.lose().await,
        }
        self.check();
    }

    /// All ends well.
    async fn end(&mut self) {
        self.pass(3).await;
        while self.pick(0, |known| known.used.is_none()).is_some() {
            self.settle(0, 50, false).await;
        }
        while self.pick(0, |known| !known.is_written).is_some() {
            self.write(u8::MAX);
        }
        while !self.on_their_way.is_empty() {
            self.arrive(0, false).await;
        }
        // What crashed was held for a lease more.
        self.store.pass(LEASE).await;
        self.limits = [1_000_000; 2];
        for (key, at_ms) in CORNERS {
            let ask = Ask { tenant: self.tenant.clone(), at_ms, ..ask(&self.tree(key), 1, 0) };
            assert!(self.try_reserve(&ask).await);
            let left = self.store.left(&ask).await;
            let used: Vec<_> = limited_keys(&ask).map(|(_, key)| self.books.total(key).amount).collect();
            assert_eq!(left, [999_999 - used[0], 999_999 - used[1]], "what is used is the sum of the rows");
            self.store.settle(&ask, 0, 0).await;
        }
    }
}

/// The budgets of a request that have a limit: the tenant's month and the key's day.
fn limited_keys(ask: &Ask) -> impl Iterator<Item = (usize, TotalKey)> {
    let policies = [TokensPerMonth, TokensPerDay];
    let levels = ask.tree.levels.iter().zip(policies).enumerate();
    levels.map(|(place, (level, policy))| (place, total_key(&level.subject, policy, ask.at_ms)))
}

async fn live(mut world: World, ops: Vec<Op>) -> Store {
    for op in ops {
        world.step(op).await;
    }
    world.end().await;
    world.store
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, source_file: Some(file!()), ..Config::default() })
}

#[test]
fn no_budget_is_overshot_and_none_drifts_in_memory() {
    let ops = prop::collection::vec(op(), 1..120);
    let lives = runner(128).run(&ops, |ops| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async { live(World::new(Store::of_memory(), 0), ops).await });
        Ok(())
    });
    lives.unwrap();
}

#[test]
#[cfg_attr(not(has_redis), ignore = "needs Redis: apt-get install redis-server")]
fn no_budget_is_overshot_and_none_drifts_in_redis() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = std::cell::RefCell::new(Some(runtime.block_on(Store::in_redis())));
    let number = std::cell::Cell::new(0);
    let ops = prop::collection::vec(op(), 1..80);
    let lives = runner(48).run(&ops, |ops| {
        number.set(number.get() + 1);
        // One that a failed life had is gone with it.
        let server = store.borrow_mut().take().unwrap_or_else(|| runtime.block_on(Store::in_redis()));
        let server = runtime.block_on(live(World::new(server, number.get()), ops));
        *store.borrow_mut() = Some(server);
        Ok(())
    });
    lives.unwrap();
}
