//! Repeats in the same shards.

use async_trait::async_trait;
use redis::{FromRedisValue as _, Value};
use serde::{Deserialize, Serialize};
use souk_protocol::{Digest, RequestId, TenantId};
use souk_redis::Fault;

use super::connection::{NUM_SHARDS, Shard};
use super::{CHUNK, RedisLimits};
use crate::error::LimitsError;
use crate::repeats::{KeptAnswer, MAX_ANSWER_BYTES, RepeatKey, RepeatState, Repeats};

/// What is kept of an answer beside its body.
#[derive(Serialize, Deserialize)]
struct Meta {
    content_type: String,
    headers: Vec<(String, String)>,
}

#[async_trait]
impl Repeats for RedisLimits {
    async fn begin(
        &self,
        tenant: &TenantId,
        key: RepeatKey,
        fingerprint: Digest,
        request: &RequestId,
    ) -> Result<RepeatState, LimitsError> {
        let (id, fingerprint) = (id(tenant, key), fingerprint.to_string());
        let args = [id.as_bytes(), fingerprint.as_bytes(), request.as_str().as_bytes()];
        let said = self.connection.call("begin", Shard::of(tenant), &args).await?;
        state(&said)
    }

    async fn renew(&self, tenant: &TenantId, keys: &[(RepeatKey, RequestId)]) -> Result<(), LimitsError> {
        for keys in keys.chunks(CHUNK) {
            let texts: Vec<_> =
                keys.iter().flat_map(|(key, request)| [id(tenant, *key), request.as_str().to_owned()]).collect();
            let args: Vec<_> = texts.iter().map(String::as_bytes).collect();
            self.connection.call("renew_repeats", Shard::of(tenant), &args).await?;
        }
        Ok(())
    }

    async fn end(
        &self,
        tenant: &TenantId,
        key: RepeatKey,
        request: &RequestId,
        answer: Option<KeptAnswer>,
    ) -> Result<(), LimitsError> {
        let id = id(tenant, key);
        let max_bytes = (self.max_repeat_bytes / usize::from(NUM_SHARDS)).to_string();
        let mut args = vec![id.as_bytes(), request.as_str().as_bytes(), max_bytes.as_bytes()];
        let kept = answer.filter(|answer| answer.body.len() <= MAX_ANSWER_BYTES);
        let kept = kept.map(|KeptAnswer { content_type, body, headers }| {
            serde_json::to_string(&Meta { content_type, headers }).map(|meta| (meta, body))
        });
        let kept = kept.transpose()?;
        if let Some((meta, body)) = &kept {
            args.extend([meta.as_bytes(), body.as_slice()]);
        }
        self.connection.call("end", Shard::of(tenant), &args).await?;
        Ok(())
    }

    async fn forget(&self, tenant: &TenantId, key: RepeatKey, request: &RequestId) -> Result<(), LimitsError> {
        let id = id(tenant, key);
        self.connection.call("forget", Shard::of(tenant), &[id.as_bytes(), request.as_str().as_bytes()]).await?;
        Ok(())
    }
}

fn id(tenant: &TenantId, RepeatKey(digest): RepeatKey) -> String {
    format!("{tenant}/{}", digest.hex())
}

fn state(said: &Value) -> Result<RepeatState, LimitsError> {
    let parts: Vec<Vec<u8>> = Vec::from_redis_value_ref(said).map_err(Fault::Answer)?;
    let request = |bytes: &[u8]| RequestId::from_stored(String::from_utf8_lossy(bytes));
    match parts.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] {
        [b"first"] => Ok(RepeatState::First),
        [b"mismatch"] => Ok(RepeatState::Mismatch),
        [b"running", id] => Ok(RepeatState::Running(request(id))),
        [b"ended", id] => Ok(RepeatState::Ended { request: request(id), answer: None }),
        [b"ended", id, meta, body] => {
            let Meta { content_type, headers } = serde_json::from_slice(meta)?;
            let answer = Some(KeptAnswer { content_type, body: body.to_vec(), headers });
            Ok(RepeatState::Ended { request: request(id), answer })
        }
        _ => Err(Fault::Unexpected(format!("{said:?}").chars().take(300).collect()).into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::redis::wire::tests::any_value;

    proptest! {
        #[test]
        fn no_answer_of_a_server_breaks_the_reader(value in any_value()) {
            drop(state(&value));
        }
    }
}
