//! What is tried again after it failed, and what is not.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use reqwest::{Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::explain;

/// How often something is tried.
const TRIES: u32 = 6;
/// Before the first repetition; doubled for each further one.
const PAUSE: Duration = Duration::from_millis(500);

/// A try that failed.
pub(super) struct Failed {
    error: anyhow::Error,
    /// Whether another try would fail as well.
    is_final: bool,
}

impl Failed {
    pub(super) fn finally(error: anyhow::Error) -> Self {
        Self { error, is_final: true }
    }

    pub(super) fn for_now(error: anyhow::Error) -> Self {
        Self { error, is_final: false }
    }

    /// The same; final if it is of this kind.
    pub(super) fn finally_if<E: fmt::Display + fmt::Debug + Send + Sync + 'static>(self) -> Self {
        Self { is_final: self.is_final || self.error.is::<E>(), ..self }
    }

    /// The same, to be tried again in another way.
    pub(super) fn but_once(self) -> Self {
        Self { is_final: false, ..self }
    }
}

/// Tries until it succeeds, fails for good, or was tried often enough.
pub(super) async fn retry<T>(mut work: impl AsyncFnMut() -> Result<T, Failed>) -> anyhow::Result<T> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match work().await {
            Err(failed) if !failed.is_final => {}
            answer => return answer.map_err(|failed| failed.error),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    work().await.map_err(|failed| failed.error)
}

/// What the server answers, if that is a success.
pub(super) async fn understood<T: DeserializeOwned>(answer: Response) -> Result<T, Failed> {
    if answer.status().is_success() {
        return answer.json().await.context("the server's answer is not understood").map_err(Failed::finally);
    }
    let refusal = Refusal::read(answer).await;
    let is_final = !refusal.may_be_tried_again();
    Err(Failed { error: anyhow!("{}", explain(refusal.status, &refusal.text)), is_final })
}

/// Whether an object store took what was sent to it.
pub(super) async fn kept(answer: Response) -> Result<(), Failed> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = answer.text().await.unwrap_or_default();
    let is_final = !store_may_be_asked_again(status, &text);
    Err(Failed { error: anyhow!("the object store answered {status}: {}", shown(&text)), is_final })
}

/// Whether an object store may take later what it refuses now.
fn store_may_be_asked_again(status: StatusCode, text: &str) -> bool {
    let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS];
    // S3 answers 400 to a body that came too slowly.
    !status.is_client_error() || passes.contains(&status) || text.contains("<Code>RequestTimeout</Code>")
}

fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}

/// An answer that is no success.
pub(super) struct Refusal {
    status: StatusCode,
    code: String,
    text: String,
}

impl Refusal {
    pub(super) async fn read(answer: Response) -> Self {
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        let body = serde_json::from_str::<Value>(&text).unwrap_or_default();
        Self { status, code: body["code"].as_str().unwrap_or_default().to_owned(), text }
    }

    /// `None` where the server takes no such uploads, and what it says otherwise.
    pub(super) fn unless_unavailable<T>(self) -> anyhow::Result<Option<T>> {
        if self.code == "direct_uploads_unavailable" || self.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        bail!("{}", explain(self.status, &self.text))
    }

    /// Others wait, or the server cannot do it now; or an earlier try of ours still runs.
    fn may_be_tried_again(&self) -> bool {
        self.status.is_server_error()
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || ["upload_in_progress", "idempotency_in_flight"].contains(&self.code.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_what_is_final_is_not() {
        let tries = |is_final: bool, succeeds_at: u32| async move {
            let num_tries = Cell::new(0);
            let answer = retry(async || {
                num_tries.set(num_tries.get() + 1);
                if num_tries.get() == succeeds_at { Ok(()) } else { Err(Failed { error: anyhow!("no"), is_final }) }
            });
            (answer.await.is_ok(), num_tries.get())
        };
        assert_eq!(tries(true, 0).await, (false, 1));
        assert_eq!(tries(false, 0).await, (false, TRIES));
        assert_eq!(tries(false, 3).await, (true, 3));
        assert_eq!(tries(false, TRIES).await, (true, TRIES));
    }

    #[test]
    fn what_the_store_forbids_is_final_and_a_slow_body_or_a_busy_store_is_not() {
        let denied = "<Error><Code>AccessDenied</Code></Error>";
        let slow = "<Error><Code>RequestTimeout</Code></Error>";
        for (status, text, again) in [
            (403, denied, false),
            (400, "<Error><Code>BadDigest</Code></Error>", false),
            (404, "", false),
            (400, slow, true),
            (409, "", true),
            (429, "", true),
            (500, "", true),
            (503, "", true),
        ] {
            assert_eq!(store_may_be_asked_again(StatusCode::from_u16(status).unwrap(), text), again, "{status} {text}");
        }
    }
}
