//! The bucket fails, is slow or says nothing while an adapter is loaded from it. What does not need it goes on.

#![cfg(has_postgres)]

use std::time::Duration;

use souk_testkit::redis::Redis;
use souk_testkit_s3::Fault;

use crate::field::{Field, LIMIT};
use crate::fleet::{Stores, until};
use crate::stack::BASE;
use crate::streams::question;

/// Tokens of an answer that runs while others wait.
const LONG: u32 = 120;

fn of(name: &str, max_tokens: u32) -> serde_json::Value {
    question(&format!("admin/{name}@1.0.0"), max_tokens)
}

async fn with_examples(stores: &Stores, settings: &[(&str, &str)], names: &[&str]) -> Field {
    let mut field = Field::start_with(&stores.settings(), Redis::that_forgets(), 0, 0).await;
    field.add(1, 1, settings).await;
    for name in names {
        field.fleet.push(name, &format!("admin/{name}@1.0.0"));
    }
    field
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_and_slowness_of_the_bucket_delay_an_adapter_and_nothing_else() {
    let stores = Stores::start().await;
    let names = ["sst2", "sarcasm", "address-json"];
    let settings = [("SOUK_ADAPTERS__FIRST_RETRY_PAUSE_MS", "100"), ("SOUK_ADAPTERS__LONGEST_RETRY_PAUSE_S", "1")];
    let field = with_examples(&stores, &settings, &names).await;
    let body = question(BASE, LONG);
    let text = field.undisturbed(&body).await;
    let faults = [
        vec![Fault::Refuse(503, "SlowDown"), Fault::Refuse(500, "InternalError")],
        vec![Fault::Reset, Fault::LoseAnswer, Fault::BreakOff(5000)],
        vec![Fault::Slow(64 * 1024, Duration::from_millis(50)), Fault::Slow(64 * 1024, Duration::from_millis(50))],
    ];
    for (name, faults) in names.iter().zip(faults) {
        let mut beside = field.answer(0, &body).await;
        beside.read(2).await;
        faults.into_iter().for_each(|fault| stores.bucket.fail("GET", "", 1, fault));
        let short = of(name, 6);
        let ((status, first, _), ()) = tokio::join!(field.ask(0, &short), field.ends_as(beside, &text));
        assert_eq!(status, 200, "{name}: {first}\n{}", field.logs());
        assert_eq!(stores.bucket.num_faults_left(), 0, "{name}: all of them were met with");
        let (status, again, _) = field.ask(0, &short).await;
        assert_eq!((status, &again["choices"]), (200, &first["choices"]), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bucket_an_adapter_that_no_node_has_is_refused_in_time_and_loads_when_it_is_back() {
    let stores = Stores::start().await;
    let settings = [
        ("SOUK_ADAPTERS__MAX_WAIT_MS", "5000"),
        ("SOUK_ADAPTERS__LOAD_TIMEOUT_MS", "8000"),
        ("SOUK_ADAPTERS__FIRST_RETRY_PAUSE_MS", "100"),
        ("SOUK_ADAPTERS__LONGEST_RETRY_PAUSE_S", "1"),
    ];
    let field = with_examples(&stores, &settings, &["sst2", "sarcasm"]).await;
    let (of_base, of_resident) = (question(BASE, LONG), of("sarcasm", LONG));
    let (text, resident_text) = (field.undisturbed(&of_base).await, field.undisturbed(&of_resident).await);
    let (mut first, mut second) = tokio::join!(field.answer(0, &of_base), field.answer(0, &of_resident));
    tokio::join!(first.read(2), second.read(2));
    stores.bucket.fail("GET", "", usize::MAX, Fault::Silence);
    let refused = async {
        let (status, told, says_when) = field.ask(0, &of("sst2", 6)).await;
        assert!(status == 503 && says_when, "{status} {told}\n{}", field.logs());
        assert_eq!(told["error"]["code"], "overloaded", "{told}");
        assert!(told["error"]["message"].as_str().is_some_and(|why| why.contains("was not loaded within 5")), "{told}");
    };
    tokio::join!(refused, field.ends_as(first, &text), field.ends_as(second, &resident_text));
    stores.bucket.heal();
    let loads = async || field.ask(0, &of("sst2", 6)).await.0 == 200;
    until("the adapter loads", LIMIT, loads).await;
}
