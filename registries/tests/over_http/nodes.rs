//! How a gateway tells nodes from anybody else, and how a node comes by what it shows.

use std::time::Duration;

use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use souk_registries::{KeySource, NotANode, Registries, Settings};
use souk_testkit::proxy::Mode;

use crate::field::{Field, done, until};

/// The registries as a service with this key reaches them.
fn reached_with(field: &Field, key: &str) -> Registries {
    let settings = Settings {
        section: "node",
        addresses: field.registries.iter().map(|one| one.proxy.url.clone()).collect(),
        root_cert: None,
        client_cert: None,
        key: KeySource::Text(key.to_owned().into()),
        stale: Duration::ZERO,
        id_of_key: |_| None,
    };
    Registries::new(&settings).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_token_counts_at_gateways_until_its_key_is_revoked_and_no_other_does() {
    let field = Field::with(1).await;
    let made = field.operator(Method::POST, "services", json!({ "name": "node-1", "kind": "node" })).await;
    let (id, key) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let token = reached_with(&field, key).service_token(None).await.unwrap();
    let token = token.expose_secret();
    let apart = field.gateway();
    apart.ready().await;
    assert_eq!(apart.catalog.authenticate_node(token).await.as_deref(), Ok("node-1"));
    let (_, tenants_key) = field.tenant("acme").await;
    let tenants = field.token(&tenants_key).await;
    for bad in [key, &tenants_key, &tenants, "eyJ.x.y", "", &token[..token.len() - 1]] {
        assert_eq!(apart.catalog.authenticate_node(bad).await, Err(NotANode::Invalid), "{bad}");
    }
    let gateways = reached_with(&field, field.services_key()).service_token(None).await.unwrap();
    let refused = apart.catalog.authenticate_node(gateways.expose_secret()).await.unwrap_err();
    assert!(refused.to_string().contains("a gateway's, and a node's is needed"), "{refused}");
    // While no registry answers it counts on.
    field.registries[0].proxy.set(Mode::Closed);
    assert_eq!(apart.catalog.authenticate_node(token).await.as_deref(), Ok("node-1"));
    field.registries[0].proxy.set(Mode::Pass);
    let revoked = field.request(0, Method::DELETE, &format!("services/{id}"), &field.admin_key).send().await;
    assert_eq!(revoked.unwrap().status(), 204);
    let limit = Duration::from_secs(20);
    let heard = async || apart.catalog.authenticate_node(token).await == Err(NotANode::Revoked);
    let after = until("it is heard", limit, heard).await;
    println!("a node's key that was revoked counted for {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_key_that_a_registry_has_just_made_counts_at_gateways_that_ask_another() {
    let field = Field::with(2).await;
    let made = field.operator(Method::POST, "services", json!({ "name": "node-1", "kind": "node" })).await;
    let apart = field.gateway();
    apart.ready().await;
    for _ in 0..4 {
        // The other has read its keys a moment ago.
        done(field.request(1, Method::GET, "auth/jwks", "")).await;
        field.operator(Method::POST, "auth/signing-keys", json!({})).await;
        let exchange = field.request(0, Method::POST, "internal/token", made["secret"].as_str().unwrap());
        let token = done(exchange).await;
        field.registries[0].proxy.set(Mode::Closed);
        let told = apart.catalog.authenticate_node(token["access_token"].as_str().unwrap()).await;
        assert_eq!(told.as_deref(), Ok("node-1"));
        field.registries[0].proxy.set(Mode::Pass);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_somebody_does_not_take_is_exchanged_anew_and_one_that_is_good_is_kept() {
    let field = Field::with(1).await;
    let node = reached_with(&field, field.services_key());
    let first = node.service_token(None).await.unwrap();
    let again = node.service_token(Some("eyJ.of.another")).await.unwrap();
    assert_eq!(first.expose_secret(), again.expose_secret(), "what was refused is not this one");
    let anew = node.service_token(Some(first.expose_secret())).await.unwrap();
    assert_ne!(first.expose_secret(), anew.expose_secret());
    field.registries[0].proxy.set(Mode::Closed);
    assert_eq!(node.service_token(None).await.unwrap().expose_secret(), anew.expose_secret());
    assert!(node.service_token(Some(anew.expose_secret())).await.is_err());
}
