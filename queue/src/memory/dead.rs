//! Jobs that were given up.

use souk_protocol::JobId;
use tokio::time::Instant;

use super::pool::Pool;
use crate::error::QueueError;
use crate::words::DeadLetter;

/// Most dead letters that are kept.
const DEAD_LETTERS_KEPT: usize = 1000;

impl Pool {
    pub(super) fn bury(&mut self, mut letter: DeadLetter) {
        // It is settled as it is buried, and not again.
        letter.submission.account = None;
        if self.dead.len() == DEAD_LETTERS_KEPT {
            self.dead.pop_front();
        }
        self.dead.push_back(letter);
    }

    pub(super) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead.iter().cloned().collect()
    }

    pub(super) fn replay(&mut self, id: &JobId, now: Instant) -> Result<(), QueueError> {
        let place = self.dead.iter().position(|letter| letter.submission.job.id == *id);
        let mut letter =
            place.and_then(|place| self.dead.remove(place)).ok_or_else(|| QueueError::NotDead(id.clone()))?;
        letter.submission.job.time_left = None;
        match self.jobs.get_mut(id) {
            // The record outlives the letter's making, so that attempts of the first life stay fenced off.
            Some(record) => {
                (record.submission, record.deadline, record.deliveries) = (letter.submission, None, 0);
                record.is_settled = true;
                self.enqueue(id, None, now);
            }
            // Its gateway was told when it became a dead letter.
            None => self.insert(letter.submission, true, None, now),
        }
        Ok(())
    }
}
