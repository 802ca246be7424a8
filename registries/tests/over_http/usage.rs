//! Rows of usage that a gateway apart writes: once, by whichever registry answers, also where an answer is lost.

use std::time::Duration;

use souk_gateway::usage::{UsageStore as _, UsageStoreError};
use souk_protocol::limits::{PeriodKey, Subject, Unit};
use souk_protocol::{Digest, TenantId, TotalKey};
use souk_registries::HttpUsage;
use souk_testkit::proxy::Mode;
use souk_testkit::usage::request;

use crate::field::{Field, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_over_http_is_what_a_registry_in_the_same_process_says() {
    let field = Field::with(1).await;
    let apart = field.gateway();
    let usage = HttpUsage::new(apart.catalog.registries().clone());
    let tenant = TenantId::from_stored("ten_1");
    let mut records: Vec<_> = (0..1100).map(|_| request(&tenant, "key_1", 0, (2, 1))).collect();
    records[0].repeat = Some(Digest::of(b"k"));
    let totals = usage.write(&records).await.unwrap();
    assert_eq!(totals.len(), 4, "of a tenant and a key, a day and a month");
    assert!(totals.iter().all(|total| total.amount == 3300), "those of the last piece: {totals:?}");
    let keys: Vec<_> = totals.iter().map(|total| total.key.clone()).collect();
    assert_eq!(usage.totals(&keys).await.unwrap(), totals);
    assert_eq!(field.registries[0].registry.usage_totals(&keys).await.unwrap(), totals);
    let many = vec![keys[0].clone(); 450];
    assert_eq!(usage.totals(&many).await.unwrap(), vec![totals[0].clone(); 450]);
    assert_eq!(usage.repeated(&tenant, Digest::of(b"k")).await.unwrap(), None, "that is long ago");
    assert!(usage.write(&[]).await.unwrap().is_empty());
    records[0].jobs.clear();
    match usage.write(&records[..1]).await {
        Err(UsageStoreError::Refused(told)) => assert!(told.contains("it has no jobs"), "{told}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_registry_gone_the_other_writes_and_without_any_nothing_is_lost_that_is_sent_again() {
    let field = Field::with(2).await;
    let apart = field.gateway();
    let usage = HttpUsage::new(apart.catalog.registries().clone());
    let tenant = TenantId::from_stored("ten_1");
    let month = TotalKey { subject: Subject::Tenant(tenant.clone()), period: PeriodKey::month(0), unit: Unit::Tokens };
    let amount = async || {
        let totals = field.registries[0].registry.usage_totals(std::slice::from_ref(&month)).await.unwrap();
        totals[0].amount
    };
    let mut expected = 0;
    for number in [0, 1] {
        field.registries[number].proxy.set(Mode::Closed);
        let record = request(&tenant, "key_1", 0, (2, 1));
        for _ in 0..3 {
            usage.write(std::slice::from_ref(&record)).await.unwrap();
        }
        expected += 3;
        assert_eq!(amount().await, expected);
        field.registries[number].proxy.set(Mode::Pass);
        // Whoever could not be reached is tried again after a while.
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    field.registries.iter().for_each(|one| one.proxy.set(Mode::Closed));
    let record = request(&tenant, "key_1", 0, (2, 1));
    assert!(usage.write(std::slice::from_ref(&record)).await.is_err());
    assert_eq!(amount().await, expected);
    field.registries.iter().for_each(|one| one.proxy.set(Mode::Pass));
    let written = async || usage.write(std::slice::from_ref(&record)).await.is_ok();
    until("it is written", Duration::from_secs(20), written).await;
    assert_eq!(amount().await, expected + 3);
}
