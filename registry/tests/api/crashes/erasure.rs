//! The erasure of a tenant, which the collector carries out in many transactions.

use reqwest::{Method, StatusCode};
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::people::{invite, member};
use super::{Field, listed};
use crate::retention::{STAYS, tables_of};
use crate::support::{AdapterFiles, body, database_of, wait_until};
use crate::whole::{check_whole, verify_chain};

/// On PostgreSQL a start takes longer, and the collector does the same.
const EVERY: usize = if crate::ON_POSTGRES { 9 } else { 1 };

/// Has the collector end at each point of an erasure, each time of another tenant: the next one goes on, nothing of the
/// tenant is left, and the chain tells it once.
pub(super) async fn check(field: &mut Field) {
    let bystander = member(field, "viewer").await.person().await;
    let mut points = Vec::new();
    for round in (1..).step_by(EVERY) {
        let tenant = format!("t{round}");
        furnish(field, &tenant, round).await;
        let link = format!("/members/{bystander}/sign-in-link?tenant=acme");
        body(field.admin().post(&link, json!({})).await, StatusCode::CREATED).await;
        let asked = field.admin().post(&format!("/tenants/{tenant}/erasure"), json!({})).await;
        assert_eq!(asked.status(), StatusCode::OK);
        std::fs::write(&field.left, round.to_string()).unwrap();
        execute(field, "UPDATE tenant_erasures SET due_at_ms = 1 WHERE done_at_ms IS NULL").await;
        if !has_ended(field).await {
            std::fs::remove_file(&field.left).unwrap();
            check_erased(field, &tenant).await;
            break;
        }
        points.push(field.start_again(&format!("the erasure in round {round}")).await);
        wait_until("the next collector goes on", async || is_done(field).await).await;
        check_erased(field, &tenant).await;
    }
    field.check_whole().await;
    if EVERY > 1 {
        return;
    }
    let count = |point: &str| points.iter().filter(|passed| *passed == point).count();
    assert_eq!(count("before_commit"), count("after_commit"));
    assert_eq!(count("object_removed"), 3, "weights, configuration, manifest");
    assert_eq!((&*points[0], &*points[points.len() - 1]), ("before_commit", "after_commit"));
}

/// Makes a tenant with something of most kinds.
async fn furnish(field: &mut Field, tenant: &str, round: usize) {
    field.made.secret = field.make_tenant(tenant).await;
    let maker = field.maker();
    let hook = json!({ "url": "https://hooks.invalid/" });
    assert_eq!(maker.post("/webhooks", hook).await.status(), StatusCode::CREATED);
    maker.make_adapter("gated", "gated").await;
    let files = AdapterFiles::tiny(u8::try_from(round).expect("weights of its own"));
    let path = format!("/adapters/{tenant}/gated");
    body(maker.upload(&format!("{tenant}/gated"), "1.0.0", &files).await, StatusCode::CREATED).await;
    let tag = maker.put(&format!("{path}/tags/prod"), json!({ "version": "1.0.0" })).await;
    assert_eq!(tag.status(), StatusCode::OK);
    let gate = maker.put(&format!("{path}/gate"), json!({ "questions": [] })).await;
    assert_eq!(gate.status(), StatusCode::OK);
    let key = json!({ "name": "k", "scopes": ["inference"] });
    let once = maker.request(Method::POST, "/keys").header("idempotency-key", "k").json(&key);
    assert_eq!(once.send().await.unwrap().status(), StatusCode::CREATED);
    invite(field, tenant, "late@example.com", "viewer").await;
}

/// Waits until an erasure is over or the process has ended, whatever comes first; answers whether it has ended.
async fn has_ended(field: &mut Field) -> bool {
    wait_until("it is done or cut off", async || field.has_ended() || is_done(field).await).await;
    // A collector that removes a link that is over has passed all points of the erasure before.
    execute(field, "UPDATE sign_in_links SET expires_at_ms = 1").await;
    let left = "SELECT count(*) AS n FROM sign_in_links";
    let goes_on = async || field.has_ended() || field.number(left).await == 0;
    wait_until("the collector goes on or has ended", goes_on).await;
    field.has_ended()
}

async fn is_done(field: &Field) -> bool {
    field.number("SELECT count(*) AS n FROM tenant_erasures WHERE done_at_ms IS NULL").await == 0
}

async fn execute(field: &Field, statement: &str) {
    let db = database_of(field.folder.path()).await;
    db.execute_unprepared(statement).await.unwrap();
    db.close().await.unwrap();
}

/// Nothing of the tenant is left but what stays, and all that was done to it was done once.
async fn check_erased(field: &Field, tenant: &str) {
    let export = field.admin().get(&format!("/export?tenant={tenant}")).await.text().await.unwrap();
    let left = tables_of(&export);
    assert!(left.is_subset(&STAYS.map(str::to_owned).into()), "{tenant}: {left:?}");
    assert_eq!(field.maker().get("/adapters").await.status(), StatusCode::UNAUTHORIZED);
    let entries = listed(&field.admin(), &format!("/audit?tenant={tenant}")).await;
    for action in ["key.revoked", "tenant.erased"] {
        assert_eq!(entries.iter().filter(|entry| entry["action"] == action).count(), 1, "{tenant}: {action}");
    }
    check_whole(field.folder.path()).await;
    verify_chain(&field.admin(), &format!("tenant={tenant}")).await;
}
