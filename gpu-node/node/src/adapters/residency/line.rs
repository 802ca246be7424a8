//! Those that wait for room in a tier, first come first served, and how often others may pass them.
//!
//! Whoever asks for an adapter that is in memory takes nothing that is free, and is served at once although others wait.
//! But it keeps in use what those wait for: with enough of such requests no adapter that is in memory would ever be idle,
//! and one that is not would never come in. So they are counted. The bound, which holds for any mix of requests:
//!
//! While a request is the first in a line, at most [`MOST_PASSES`] requests that came later pass it. Then the door is shut,
//! and it is served at the latest when those have ended that held a lease at that moment. With `n` adapters before its own
//! in the line it is passed by at most `(n + 1) * MOST_PASSES` requests there. There are two lines, for host memory and for
//! the device. Those at the door hold nothing, and enter in the order in which they came.

use std::collections::VecDeque;

use souk_protocol::Digest;

use super::{EntryId, Residency, State};

/// Most requests that pass the first in a line: about what a full batch begins while one of its answers runs.
pub(in crate::adapters) const MOST_PASSES: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: VecDeque<EntryId>,
    /// How many have passed the one that is first now.
    num_passes: usize,
}

impl Line {
    pub(super) fn first(&self) -> Option<EntryId> {
        self.waiting.front().copied()
    }

    pub(super) fn join(&mut self, id: EntryId) {
        self.waiting.push_back(id);
    }

    pub(super) fn first_leaves(&mut self) {
        self.waiting.pop_front();
        self.num_passes = 0;
    }

    /// Takes one out that is served before its turn.
    pub(super) fn leave(&mut self, id: EntryId) {
        if self.first() == Some(id) {
            self.first_leaves();
        } else {
            self.waiting.retain(|other| *other != id);
        }
    }

    fn lets_pass(&self) -> bool {
        self.waiting.is_empty() || self.num_passes < MOST_PASSES
    }

    fn pass(&mut self) {
        self.num_passes += usize::from(!self.waiting.is_empty());
    }
}

/// Which lines a request would pass.
#[derive(Clone, Copy, Debug)]
struct Passes {
    device: bool,
    host: bool,
}

impl Residency {
    /// Whether a request for these adapters would be served, or keep in use what others wait for, before its turn.
    pub(in crate::adapters) fn passes_others(&self, digests: &[Digest]) -> bool {
        let Passes { device, host } = self.passes(digests);
        device || host
    }

    /// Whether it may do so now.
    pub(in crate::adapters) fn lets_pass(&self, digests: &[Digest]) -> bool {
        let Passes { device, host } = self.passes(digests);
        (!device || self.device_line.lets_pass()) && (!host || self.host_line.lets_pass())
    }

    /// Counts a request that enters.
    pub(in crate::adapters) fn count_pass(&mut self, digests: &[Digest]) {
        let Passes { device, host } = self.passes(digests);
        if device {
            self.device_line.pass();
        }
        if host {
            self.host_line.pass();
        }
    }

    /// Says who gathers several adapters, or that nobody does. It comes before those in the lines: what it has of its
    /// adapters is in use until it has all of them, and the first in a line may be waiting for just that.
    pub(in crate::adapters) fn set_gathering(&mut self, all: Vec<EntryId>) {
        self.gathering = all;
    }

    /// Whether anybody is in a line.
    #[cfg(test)]
    pub(in crate::adapters) fn somebody_waits(&self) -> bool {
        self.device_line.first().or(self.host_line.first()).is_some()
    }

    /// What is in memory is in use from now on; and who gathers several comes before those in the lines.
    fn passes(&self, digests: &[Digest]) -> Passes {
        let gathers = digests.len() > 1;
        let mut passes = Passes { device: gathers, host: gathers };
        for entry in digests.iter().filter_map(|digest| self.entries.get(self.by_digest.get(digest)?)) {
            let on_device = matches!(entry.state, State::Device(_));
            passes.device |= on_device;
            passes.host |= on_device || matches!(entry.state, State::Host(_));
        }
        passes
    }
}
