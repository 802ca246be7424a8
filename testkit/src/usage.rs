//! Records of what requests used, as gateways write them.

use std::time::Duration;

use souk_protocol::{Digest, JobId, JobRecord, KeyId, Outcome, PoolId, RequestId, RequestRecord, TenantId, Usage};

/// A request of one job that ended by itself: `prompt` tokens, of which none was cached, and `delivered` ones.
#[must_use]
pub fn request(tenant: &TenantId, key: &str, admitted_at_ms: u64, (prompt, delivered): (u32, u32)) -> RequestRecord {
    let request = RequestId::new();
    RequestRecord {
        jobs: vec![job(tenant, &request, 0, Outcome::Stop, (prompt, delivered))],
        request,
        tenant: tenant.clone(),
        key: KeyId::from_stored(key),
        person: None,
        team: None,
        operation: "chat.completion".to_owned(),
        model: "tiny-base".to_owned(),
        admitted_at_ms,
        ended_at_ms: admitted_at_ms + 1000,
        repeat: None,
        shadowed: Vec::new(),
        hooks: Vec::new(),
    }
}

/// A job of a request. The first one counts the prompt.
#[must_use]
pub fn job(
    tenant: &TenantId,
    request: &RequestId,
    index: u32,
    outcome: Outcome,
    (prompt, delivered): (u32, u32),
) -> JobRecord {
    JobRecord {
        job: JobId { request: request.clone(), index },
        tenant: tenant.clone(),
        base: PoolId(Digest::of(b"tiny-base")),
        adapters: Vec::new(),
        outcome,
        usage: Usage {
            prompt_tokens: prompt,
            cached_tokens: 0,
            completion_tokens: delivered + 1,
            prefill_began: delivered > 0,
        },
        delivered_tokens: delivered,
        attempts: 1,
        first_token_after: (delivered > 0).then_some(Duration::from_millis(20)),
        took: Duration::from_millis(900),
        counts_prompt: index == 0,
    }
}
