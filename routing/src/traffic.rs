//! How much of a pool's work is an adapter's, and on how many nodes it is to be kept for that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use souk_protocol::Digest;

use crate::rendezvous::Rendezvous;
use crate::settings::RoutingSettings;

/// Jobs that are taken to have come beside those that have: the first job after a start is not all of a pool's traffic.
const DOUBT: f64 = 16.0;
/// What is left of an adapter's jobs when it is forgotten.
const FORGOTTEN_BELOW: f64 = 0.05;
/// Lanes of an adapter that are remembered, to know a move.
const LANES_REMEMBERED: usize = 8;

/// The traffic of one pool, as one gateway sees it. Only shares are used of it, which are the same for all gateways among which
/// requests are spread; the pool's load, which they are taken of, is what all nodes say.
#[derive(Debug)]
pub(crate) struct Traffic {
    total: Fading,
    adapters: HashMap<Digest, AdapterTraffic>,
    load: Average,
    forgotten_at: Option<Instant>,
}

#[derive(Debug)]
struct AdapterTraffic {
    jobs: Fading,
    replicas: usize,
    /// Since when the set could be smaller.
    low_since: Option<Instant>,
    /// Where its jobs went lately, the last one last.
    lanes: Vec<Rendezvous>,
}

/// How large a pool is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSize {
    pub(crate) lanes: usize,
    pub(crate) places: u64,
}

impl Traffic {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            total: Fading { count: 0.0, counted_at: now },
            adapters: HashMap::new(),
            load: Average { value: 0.0, at: None },
            forgotten_at: None,
        }
    }

    /// Takes note of the pool's load in jobs.
    pub(crate) fn observe_load(&mut self, jobs: u64, now: Instant, settings: &RoutingSettings) {
        self.load.observe(jobs as f64, now, settings.half_life);
        self.forget_some(now, settings);
    }

    /// Counts jobs without an adapter.
    pub(crate) fn count_base(&mut self, jobs: u32, now: Instant, settings: &RoutingSettings) {
        self.total.add(f64::from(jobs), now, settings.half_life);
    }

    /// Counts jobs of an adapter, and says on how many nodes it is kept now.
    pub(crate) fn count(
        &mut self,
        adapter: &Digest,
        jobs: u32,
        now: Instant,
        pool: PoolSize,
        settings: &RoutingSettings,
    ) -> usize {
        self.total.add(f64::from(jobs), now, settings.half_life);
        let total = self.total.at(now, settings.half_life) + DOUBT;
        let load = self.load.value;
        let one = self.adapters.entry(*adapter).or_insert_with(|| AdapterTraffic {
            jobs: Fading { count: 0.0, counted_at: now },
            replicas: 1,
            low_since: None,
            lanes: Vec::new(),
        });
        one.jobs.add(f64::from(jobs), now, settings.half_life);
        let wanted = one.jobs.count / total * load;
        one.resize(wanted, now, pool, settings);
        one.replicas
    }

    /// Notes where an adapter's jobs go. Returns whether they went elsewhere before.
    pub(crate) fn sent(&mut self, adapter: &Digest, lane: Rendezvous) -> bool {
        let Some(one) = self.adapters.get_mut(adapter) else { return false };
        let was_elsewhere = !one.lanes.is_empty() && !one.lanes.contains(&lane);
        one.lanes.retain(|other| *other != lane);
        if one.lanes.len() == LANES_REMEMBERED {
            one.lanes.remove(0);
        }
        one.lanes.push(lane);
        was_elsewhere
    }

    /// Drops adapters of which next to nothing is left, now and then, and the least asked for where there are too many.
    fn forget_some(&mut self, now: Instant, settings: &RoutingSettings) {
        let is_due = self.forgotten_at.is_none_or(|at| now.saturating_duration_since(at) >= settings.half_life);
        if !is_due && self.adapters.len() <= settings.max_tracked {
            return;
        }
        self.forgotten_at = Some(now);
        let half_life = settings.half_life;
        self.adapters.retain(|_, one| one.jobs.at(now, half_life) >= FORGOTTEN_BELOW);
        if self.adapters.len() <= settings.max_tracked {
            return;
        }
        // Seven eighths stay, so that this is not done again at once.
        let mut left: Vec<f64> = self.adapters.values().map(|one| one.jobs.at(now, half_life)).collect();
        let num_gone = left.len() - settings.max_tracked * 7 / 8;
        let (_, least, _) = left.select_nth_unstable_by(num_gone - 1, f64::total_cmp);
        let least = *least;
        self.adapters.retain(|_, one| one.jobs.at(now, half_life) > least);
    }

    /// The adapters that are asked for most, at most `most`, the first of them first, with their count of jobs.
    pub(crate) fn most_asked(&self, most: usize, now: Instant, settings: &RoutingSettings) -> Vec<(Digest, f64)> {
        let counted = self.adapters.iter().map(|(digest, one)| (*digest, one.jobs.at(now, settings.half_life)));
        let mut counted: Vec<_> = counted.filter(|(_, jobs)| *jobs >= FORGOTTEN_BELOW).collect();
        let more_jobs = |a: &(Digest, f64), b: &(Digest, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if most < counted.len() {
            counted.select_nth_unstable_by(most, more_jobs);
            counted.truncate(most);
        }
        counted.sort_unstable_by(more_jobs);
        counted
    }

    /// On how many nodes an adapter is kept.
    pub(crate) fn replicas(&self, adapter: &Digest) -> usize {
        self.adapters.get(adapter).map_or(1, |one| one.replicas)
    }
}

impl AdapterTraffic {
    /// Grows the set as soon as the load asks for it, and shrinks it by one after that load was lower for long.
    fn resize(&mut self, wanted_places: f64, now: Instant, pool: PoolSize, settings: &RoutingSettings) {
        let of_one = settings.replica_fill * pool.places as f64 / pool.lanes.max(1) as f64;
        let most = settings.max_replicas.min(pool.lanes).max(1);
        // A load that few jobs speak for is a guess.
        let most = most.min(1 + (self.jobs.count / 2.0) as usize);
        let wanted = (wanted_places / of_one.max(f64::MIN_POSITIVE)).ceil().max(1.0);
        let wanted = if wanted >= most as f64 { most } else { wanted as usize };
        let most_ever = settings.max_replicas.min(pool.lanes).max(1);
        let may_shrink = |replicas: usize| {
            let room = (replicas - 1) as f64 * of_one * settings.shrink_below;
            replicas > 1 && (wanted_places < room || replicas > most_ever)
        };
        if wanted > self.replicas {
            self.replicas = wanted;
            self.low_since = None;
        } else if may_shrink(self.replicas) {
            let low_for = now.saturating_duration_since(*self.low_since.get_or_insert(now));
            // One for each such time: jobs of an adapter that is asked for seldom come after longer.
            let steps = low_for.as_secs_f64() / settings.shrink_after.as_secs_f64().max(f64::MIN_POSITIVE);
            if steps >= 1.0 {
                self.low_since = Some(now);
            }
            for _ in 0..steps as usize {
                if may_shrink(self.replicas) {
                    self.replicas -= 1;
                }
            }
        } else {
            self.low_since = None;
        }
    }
}

/// A count that fades: half of it is gone after each half-life.
#[derive(Clone, Copy, Debug)]
struct Fading {
    count: f64,
    counted_at: Instant,
}

impl Fading {
    fn at(&self, now: Instant, half_life: Duration) -> f64 {
        self.count * left_after(now.saturating_duration_since(self.counted_at), half_life)
    }

    fn add(&mut self, jobs: f64, now: Instant, half_life: Duration) {
        *self = Self { count: self.at(now, half_life) + jobs, counted_at: now };
    }
}

/// An average over time in which what was a half-life ago counts half.
#[derive(Clone, Copy, Debug)]
struct Average {
    value: f64,
    at: Option<Instant>,
}

impl Average {
    fn observe(&mut self, value: f64, now: Instant, half_life: Duration) {
        let left = match self.at {
            Some(at) => left_after(now.saturating_duration_since(at), half_life),
            // The first is all that is known.
            None => 0.0,
        };
        *self = Self { value: left * self.value + (1.0 - left) * value, at: Some(now) };
    }
}

/// What is left of 1 after `time`.
fn left_after(time: Duration, half_life: Duration) -> f64 {
    (-time.as_secs_f64() / half_life.as_secs_f64().max(f64::MIN_POSITIVE)).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: PoolSize = PoolSize { lanes: 10, places: 80 };

    fn adapter(name: usize) -> Digest {
        Digest::of(&name.to_le_bytes())
    }

    #[test]
    fn what_is_asked_for_least_is_forgotten_where_there_is_too_much_and_all_of_it_in_time() {
        let settings = RoutingSettings { max_tracked: 80, ..RoutingSettings::default() };
        let begin = Instant::now();
        let mut traffic = Traffic::new(begin);
        for name in 0..100 {
            for _ in 0..=name {
                traffic.count(&adapter(name), 1, begin, POOL, &settings);
            }
        }
        traffic.observe_load(0, begin, &settings);
        assert_eq!(traffic.adapters.len(), 70);
        assert!((30..100).all(|name| traffic.adapters.contains_key(&adapter(name))));
        traffic.observe_load(0, begin + settings.half_life * 20, &settings);
        assert_eq!(traffic.adapters.len(), 0);
    }

    #[test]
    fn what_is_asked_for_most_comes_first_and_what_nobody_asks_for_fades() {
        let settings = RoutingSettings::default();
        let begin = Instant::now();
        let mut traffic = Traffic::new(begin);
        for name in 0..50 {
            traffic.count(&adapter(name), name as u32 + 1, begin, POOL, &settings);
        }
        let most = traffic.most_asked(3, begin, &settings);
        assert_eq!(most, [(adapter(49), 50.0), (adapter(48), 49.0), (adapter(47), 48.0)]);
        let later = begin + settings.half_life * 7;
        traffic.count(&adapter(0), 1, later, POOL, &settings);
        assert_eq!(traffic.most_asked(1, later, &settings)[0].0, adapter(0));
        assert_eq!(traffic.most_asked(99, begin + settings.half_life * 20, &settings), []);
    }

    #[test]
    fn few_jobs_speak_for_few_replicas_however_full_the_pool_is() {
        let settings = RoutingSettings::default();
        let now = Instant::now();
        let mut traffic = Traffic::new(now);
        traffic.observe_load(1_000_000, now, &settings);
        let sizes: Vec<_> = (0..6).map(|_| traffic.count(&adapter(1), 1, now, POOL, &settings)).collect();
        assert_eq!(sizes, [1, 2, 2, 3, 3, 4]);
        assert_eq!(traffic.count(&adapter(1), 100, now, POOL, &settings), POOL.lanes, "there are no more nodes");
    }

    #[test]
    fn a_lane_that_jobs_went_to_lately_is_no_move() {
        let now = Instant::now();
        let mut traffic = Traffic::new(now);
        let lane = |name: &str| Rendezvous::of(&souk_protocol::NodeId::from_stored(name));
        traffic.count(&adapter(1), 1, now, POOL, &RoutingSettings::default());
        let moved: Vec<_> = ["a", "a", "b", "a"].iter().map(|name| traffic.sent(&adapter(1), lane(name))).collect();
        assert_eq!(moved, [false, false, true, false]);
    }
}
