//! What a gateway hears of withdrawals: a stream of one registry at a time, and of the next when it ends or is silent.
//!
//! A stream that says nothing for [`SILENCE`] counts as lost. It goes on from the number that was heard last, at whatever
//! registry; where that is not possible it begins anew, and what was known of rights is forgotten.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use souk_http::revoked::RevokedKeys;
use souk_http::token::LEEWAY;
use souk_protocol::internal::{HEARTBEAT, Line, PREFIX};
use souk_protocol::{AdapterName, Deprived, Digest, KeyId, wall_clock};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::lines::{Lines, Read};
use crate::metrics;
use crate::registries::{Failure, Registries};

/// How long a stream may say nothing: three beats.
const SILENCE: Duration = HEARTBEAT.saturating_mul(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// Versions that were taken down and are remembered: as many as queues keep orders.
const TAKEN_DOWN_KEPT: usize = 10_000;

/// Something that nothing may run on any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// The key or session was revoked.
    Key(KeyId),
    /// The version with this digest was taken down.
    Version(Digest),
    /// Some tenants may call the adapter no more.
    Access {
        /// The adapter.
        adapter: AdapterName,
        /// Who may not.
        from: Deprived,
    },
}

/// What was heard.
pub(crate) struct Heard {
    revoked: RevokedKeys,
    /// Counts what makes answers about rights worth asking for again.
    change: AtomicU64,
    /// Locked for a look.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Up to which number all was heard.
    number: Option<i64>,
    /// When that was said last.
    at: Option<Instant>,
    /// By how much the registry's wall clock and this one's differed then.
    clocks_differ_by: Duration,
    taken_down: HashSet<Digest>,
    taken_down_in_order: VecDeque<Digest>,
    /// Who is to forget what is known of rights.
    num_anew: u64,
}

impl Heard {
    pub(crate) fn new() -> Self {
        Self { revoked: RevokedKeys::default(), change: AtomicU64::new(0), state: Mutex::default() }
    }

    /// Whether this gateway hears of withdrawals now, and tokens can be believed without asking: the clocks by which they
    /// end agree.
    pub(crate) fn is_live(&self) -> bool {
        self.is_believed(SILENCE)
    }

    /// Whether it did so no longer than `limit` ago.
    pub(crate) fn is_believed(&self, limit: Duration) -> bool {
        let state = self.lock();
        state.at.is_some_and(|at| at.elapsed() < limit) && state.clocks_differ_by <= LEEWAY
    }

    /// How long ago something was heard; `None`: nothing yet.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        self.lock().at.map(|at| at.elapsed())
    }

    pub(crate) fn is_revoked(&self, key: &KeyId) -> bool {
        self.revoked.has(key.as_str())
    }

    pub(crate) fn is_taken_down(&self, version: &Digest) -> bool {
        self.lock().taken_down.contains(version)
    }

    /// What was answered under one number is worth asking for again under another.
    pub(crate) fn change(&self) -> u64 {
        self.change.load(Ordering::Acquire)
    }

    /// Another number than before: what is known of rights is to be forgotten.
    pub(crate) fn num_anew(&self) -> u64 {
        self.lock().num_anew
    }

    /// Takes a line in; answers what running answers have to end for.
    pub(crate) fn take(&self, read: Read) -> Option<Withdrawn> {
        match read {
            Read::Line(Line::At { number, now_ms }) => {
                let own_ms = i64::try_from(wall_clock::since_epoch().as_millis()).unwrap_or(i64::MAX);
                let mut state = self.lock();
                state.number = Some(number);
                state.at = Some(Instant::now());
                state.clocks_differ_by = Duration::from_millis(own_ms.abs_diff(now_ms));
                None
            }
            Read::Line(Line::Key(id)) => {
                self.revoked.add(id.as_str(), Instant::now().into_std());
                self.changed();
                Some(Withdrawn::Key(id))
            }
            Read::Line(Line::Version(digest)) => {
                self.lock().take_down(digest);
                self.changed();
                Some(Withdrawn::Version(digest))
            }
            Read::Line(Line::Access { adapter, from }) => {
                // What was known of it allows too much, also while no registry can be asked.
                self.lock().num_anew += 1;
                self.changed();
                Some(Withdrawn::Access { adapter, from })
            }
            Read::Line(Line::Changed) => {
                self.changed();
                None
            }
            Read::Line(Line::Anew) | Read::Unknown => {
                self.lock().num_anew += 1;
                self.changed();
                None
            }
        }
    }

    fn changed(&self) {
        self.change.fetch_add(1, Ordering::AcqRel);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_down(&mut self, version: Digest) {
        if !self.taken_down.insert(version) {
            return;
        }
        self.taken_down_in_order.push_back(version);
        if self.taken_down_in_order.len() > TAKEN_DOWN_KEPT
            && let Some(oldest) = self.taken_down_in_order.pop_front()
        {
            self.taken_down.remove(&oldest);
        }
    }
}

/// Listens until it is dropped, and tells `withdrawn` what running answers have to end for.
pub(crate) async fn listen(registries: Registries, heard: Arc<Heard>, withdrawn: mpsc::Sender<Withdrawn>) {
    let mut told_failure = false;
    loop {
        for number in 0..registries.len() {
            let began = heard.lock().at;
            let Err(failure) = hear(&registries, number, &heard, &withdrawn).await;
            metrics::hears(false);
            if heard.lock().at != began {
                tracing::info!("The stream of withdrawals ended: the registry {failure}");
                told_failure = false;
            } else if !std::mem::replace(&mut told_failure, true) {
                tracing::warn!("Withdrawals cannot be heard: a registry {failure}");
            }
            sleep(PAUSE).await;
        }
    }
}

/// Hears one stream to its end.
async fn hear(
    registries: &Registries,
    number: usize,
    heard: &Heard,
    withdrawn: &mpsc::Sender<Withdrawn>,
) -> Result<std::convert::Infallible, Failure> {
    let silent = |_| Failure::Away(format!("says nothing for {SILENCE:?}"));
    let after = heard.lock().number;
    let path = format!("{PREFIX}/withdrawals{}", after.map_or_else(String::new, |after| format!("?after={after}")));
    let stream = timeout(2 * SILENCE, registries.send(number, &path, |http, url| http.get(url)));
    let mut stream = stream.await.map_err(silent)??.bytes_stream();
    metrics::hears(true);
    let mut lines = Lines::default();
    loop {
        let bytes = match timeout(SILENCE, stream.next()).await.map_err(silent)? {
            Some(bytes) => bytes.map_err(|error| Failure::of(&error))?,
            None => return Err(Failure::Away("has ended it".to_owned())),
        };
        for read in lines.push(&bytes).map_err(|error| Failure::Away(error.to_string()))? {
            if let Some(one) = heard.take(read)
                && withdrawn.send(one).await.is_err()
            {
                // Nobody serves any more.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use souk_protocol::TenantId;

    use super::*;

    fn at(number: i64, ahead_ms: i64) -> Read {
        let now_ms = i64::try_from(wall_clock::since_epoch().as_millis()).unwrap() + ahead_ms;
        Read::Line(Line::At { number, now_ms })
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_live_while_it_is_told_and_clocks_agree() {
        let heard = Heard::new();
        assert!(!heard.is_live() && heard.silent_for().is_none());
        heard.take(at(1, 0));
        assert!(heard.is_live());
        tokio::time::advance(SILENCE).await;
        assert!(!heard.is_live());
        for hours in [-2, 2] {
            heard.take(at(2, hours * 3_600_000));
            assert!(!heard.is_live(), "a registry's clock that is {hours} h off");
        }
        heard.take(at(3, 2000));
        assert!(heard.is_live());
    }

    #[tokio::test]
    async fn what_is_withdrawn_is_known_at_once_and_what_is_not_understood_makes_all_be_asked_for_again() {
        let heard = Heard::new();
        let (key, version) = (KeyId::from_stored("k"), Digest::of(b"v"));
        assert_eq!(heard.take(Read::Line(Line::Key(key.clone()))), Some(Withdrawn::Key(key.clone())));
        assert_eq!(heard.take(Read::Line(Line::Version(version))), Some(Withdrawn::Version(version)));
        assert!(heard.is_revoked(&key) && heard.is_taken_down(&version));
        let (adapter, from): (AdapterName, _) = ("acme/sst2".parse().unwrap(), Deprived::AllBut(TenantId::new()));
        let access = Line::Access { adapter: adapter.clone(), from: from.clone() };
        assert_eq!(heard.take(Read::Line(access)), Some(Withdrawn::Access { adapter, from }));
        assert_eq!(heard.num_anew(), 1, "what was known of rights allows too much");
        for (read, num_anew) in [(Read::Line(Line::Changed), 1), (Read::Line(Line::Anew), 2), (Read::Unknown, 3)] {
            let change = heard.change();
            assert_eq!(heard.take(read), None);
            assert!(heard.change() > change);
            assert_eq!(heard.num_anew(), num_anew);
        }
        assert!(heard.is_revoked(&key) && heard.is_taken_down(&version), "that is never forgotten too early");
    }

    #[test]
    fn so_many_take_downs_are_remembered_the_latest_of_them() {
        let mut state = State::default();
        let digest = |number: usize| Digest::of(&number.to_le_bytes());
        (0..=TAKEN_DOWN_KEPT).for_each(|number| state.take_down(digest(number)));
        state.take_down(digest(TAKEN_DOWN_KEPT));
        assert_eq!((state.taken_down.len(), state.taken_down_in_order.len()), (TAKEN_DOWN_KEPT, TAKEN_DOWN_KEPT));
        assert!(!state.taken_down.contains(&digest(0)) && state.taken_down.contains(&digest(TAKEN_DOWN_KEPT)));
    }
}
