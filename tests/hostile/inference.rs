//! Requests that are in order, and more of them than anybody should make.

use std::time::Duration;

use crate::field::{Acts, Field};
use crate::form::{is_full, scale};
use crate::harm::Harm;
use crate::stack::BASE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prompts_of_thousands_of_tokens_by_many_leave_a_small_one_its_turn() {
    let field = Field::start(&[]);
    let innocent = field.tenant("innocent").await;
    let hostile: [_; 3] = field.tenants("hostile").await;
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let words = scale(1500, 7500);
    let acts = Acts::begin(scale(12, 64), scale(12, 64), move |number| {
        let tenant = hostile[number % 3].clone();
        // No two begin alike, so that no prefix is found.
        let prompt = format!("{number} ") + &"word ".repeat(words);
        async move { tenant.generate(BASE, &prompt, 4).await }
    });
    field.rises_to("souk_engine_running_sequences", 1.0, Duration::from_secs(20)).await;
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "prompts of thousands of tokens", num_acts: acts.num(), alone: &alone, beside: &beside }
        .told(&field.stack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_answers_without_end_leave_a_small_one_its_turn() {
    let field = Field::start(&[]);
    let innocent = field.tenant("innocent").await;
    let hostile: [_; 3] = field.tenants("hostile").await;
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let acts = Acts::begin(scale(48, 192), usize::MAX, move |number| {
        let tenant = hostile[number % 3].clone();
        async move { tenant.generate(BASE, &format!("{number} is"), scale(600, 4000)).await }
    });
    field.rises_to("souk_engine_running_sequences", 16.0, Duration::from_secs(30)).await;
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "floods of long answers", num_acts: acts.num(), alone: &alone, beside: &beside }.told(&field.stack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_four_tenants_fill_has_room_for_a_fifth() {
    let (all, each) = if is_full() { ("1024", "256") } else { ("64", "16") };
    let field = Field::start(&[
        ("SOUK_QUEUE__MAX_QUEUED", all),
        ("SOUK_QUEUE__MAX_QUEUED_PER_TENANT", each),
        ("SOUK_GATEWAY__MAX_IN_FLIGHT", "4096"),
    ]);
    let innocent = field.tenant("innocent").await;
    let hostile: [_; 4] = field.tenants("hostile").await;
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let acts = Acts::begin(scale(240, 1600), scale(2000, 20_000), move |number| {
        let tenant = hostile[number % 4].clone();
        async move {
            tenant.generate(BASE, &format!("{number} is"), 300).await;
            // Refused ones come back, not at once but soon.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let most = scale(64, 1024) as f64;
    field.rises_to("souk_queue_queued_jobs", 0.7 * most, Duration::from_secs(30)).await;
    let beside = field.asks(&innocent, Field::num_asked()).await;
    let act = "four tenants fill the queue for a fifth";
    Harm { act, num_acts: acts.num(), alone: &alone, beside: &beside }.told(&field.stack);
}
