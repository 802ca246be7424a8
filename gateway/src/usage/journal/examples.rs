//! Entries for tests.

use souk_protocol::{Digest, KeyId, PoolId, RequestId, RequestRecord, TenantId};

use crate::usage::opened::Opened;

/// A request of two prompts with two choices each that is about to be queued.
pub(crate) fn opened(request: &str) -> Opened {
    let head = RequestRecord {
        request: RequestId::from_stored(request),
        tenant: TenantId::from_stored("ten_1"),
        key: KeyId::from_stored("key_1"),
        person: None,
        team: None,
        operation: "text_completion".to_owned(),
        model: "acme/tone\n".to_owned(),
        admitted_at_ms: 1_796_083_199_999,
        ended_at_ms: 1_796_083_199_999,
        repeat: None,
        shadowed: Vec::new(),
        hooks: Vec::new(),
        jobs: Vec::new(),
    };
    let (base, adapters) = (PoolId(Digest::of(b"base")), vec![Digest::of(b"tone")]);
    Opened { head, base, adapters, prompts: vec![3, 5], choices: 2 }
}

/// The same, settled.
pub(crate) fn settled(request: &str) -> RequestRecord {
    let mut record = opened(request).lost(1_796_083_200_500);
    for job in &mut record.jobs {
        (job.outcome, job.delivered_tokens, job.attempts) = (souk_protocol::Outcome::Stop, 7, 1);
        job.usage.completion_tokens = 7;
        job.counts_prompt = job.job.index % 2 == 0;
    }
    record
}
