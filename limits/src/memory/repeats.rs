//! Keys of requests under way and of ended ones, in bounded memory.

use std::collections::{HashMap, VecDeque};

use souk_protocol::{Digest, RequestId, TenantId};

use crate::port::LEASE;
use crate::repeats::{KEPT_FOR, KeptAnswer, MAX_ANSWER_BYTES, RepeatKey, RepeatState};

/// What an ended key takes beside its answer, in bytes, more or less.
const ENTRY_BYTES: usize = 512;

type Key = (TenantId, RepeatKey);

/// What is known of repeats.
#[derive(Debug)]
pub(super) struct KnownRepeats {
    by_key: HashMap<Key, Known>,
    /// When to look whether a lease is over, soonest first; of a renewed one there are several.
    leases: VecDeque<(u64, Key)>,
    /// Ended ones, the oldest first, which is the one to be forgotten first.
    ended: VecDeque<(Key, RequestId)>,
    ended_bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Known {
    fingerprint: Digest,
    request: RequestId,
    /// Until when it is remembered, in milliseconds since the store began.
    until_ms: u64,
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    answer: Option<KeptAnswer>,
    bytes: usize,
}

impl KnownRepeats {
    /// None, with room for ended ones of so many bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        let (by_key, leases, ended) = (HashMap::new(), VecDeque::new(), VecDeque::new());
        Self { by_key, leases, ended, ended_bytes: 0, max_bytes }
    }

    /// Forgets what nobody renews, and what ended long ago.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        while let Some((_, key)) = self.leases.pop_front_if(|(until_ms, _)| *until_ms <= now_ms) {
            if self.by_key.get(&key).is_some_and(|known| known.end.is_none() && known.until_ms <= now_ms) {
                self.by_key.remove(&key);
            }
        }
        let is_over = |known: &Known| known.until_ms <= now_ms;
        while self.ended.front().is_some_and(|(key, _)| self.by_key.get(key).is_none_or(is_over)) {
            self.forget_oldest();
        }
    }

    pub(super) fn begin(&mut self, key: Key, fingerprint: Digest, request: &RequestId, now_ms: u64) -> RepeatState {
        if let Some(known) = self.by_key.get(&key) {
            return match &known.end {
                _ if known.fingerprint != fingerprint => RepeatState::Mismatch,
                None if known.request == *request => RepeatState::First,
                None => RepeatState::Running(known.request.clone()),
                Some(end) => RepeatState::Ended { request: known.request.clone(), answer: end.answer.clone() },
            };
        }
        let until_ms = after(now_ms, LEASE);
        self.leases.push_back((until_ms, key.clone()));
        self.by_key.insert(key, Known { fingerprint, request: request.clone(), until_ms, end: None });
        RepeatState::First
    }

    pub(super) fn renew(&mut self, key: Key, request: &RequestId, now_ms: u64) {
        let until_ms = after(now_ms, LEASE);
        if let Some(known) = self.running(&key, request).filter(|known| known.until_ms < until_ms) {
            known.until_ms = until_ms;
            self.leases.push_back((until_ms, key));
        }
    }

    pub(super) fn end(&mut self, key: Key, request: &RequestId, answer: Option<KeptAnswer>, now_ms: u64) {
        let Some(known) = self.running(&key, request) else { return };
        let answer = answer.filter(|answer| answer.body.len() <= MAX_ANSWER_BYTES);
        let bytes = ENTRY_BYTES + answer.as_ref().map_or(0, KeptAnswer::num_bytes);
        (known.until_ms, known.end) = (after(now_ms, KEPT_FOR), Some(End { answer, bytes }));
        self.ended.push_back((key, request.clone()));
        self.ended_bytes += bytes;
        while self.ended_bytes > self.max_bytes {
            self.forget_oldest();
        }
    }

    pub(super) fn forget(&mut self, key: &Key, request: &RequestId) {
        if self.running(key, request).is_some() {
            self.by_key.remove(key);
        }
    }

    /// How many keys are known, and the bytes of those that have ended.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.by_key.len(), self.ended_bytes)
    }

    fn running(&mut self, key: &Key, request: &RequestId) -> Option<&mut Known> {
        self.by_key.get_mut(key).filter(|known| known.end.is_none() && known.request == *request)
    }

    fn forget_oldest(&mut self) {
        let Some((key, request)) = self.ended.pop_front() else { return };
        if self.by_key.get(&key).is_some_and(|known| known.end.is_some() && known.request == request)
            && let Some(Known { end: Some(end), .. }) = self.by_key.remove(&key)
        {
            self.ended_bytes -= end.bytes;
        }
    }
}

fn after(now_ms: u64, time: std::time::Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
