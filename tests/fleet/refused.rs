//! Who does not belong to the fleet is refused, and both sides say why.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use souk_protocol::{Digest, NodeId, PoolId};
use souk_wire::frame::{FromNode, NodeHello, VERSION};
use souk_wire::{Dial as _, DialError, HttpDial, TokenSource, WireSettings};

use crate::field::{Field, LIMIT};
use crate::fleet::{described_base, done, until};
use crate::streams::question;

/// Shows one token, whatever becomes of it.
struct Always(String);

#[async_trait]
impl TokenSource for Always {
    async fn token(&self, _refused: Option<&SecretString>) -> Result<SecretString, String> {
        Ok(self.0.clone().into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_gateways_key_brings_no_events_and_both_sides_say_why() {
    let field = Field::start(1, 0).await;
    let gateways_key = field.fleet.services_keys[1].clone();
    let node = field.node(0, &[("SOUK_NODE__REGISTRY_KEY", &gateways_key)]);
    let gateway = &field.fleet.gateways[0];
    until("the queue knows the node", LIMIT, async || field.fleet.ready(gateway).await.0 == 200).await;
    let body = question(crate::stack::BASE, 3);
    let told = async {
        let why = "a gateway's, and a node's is needed";
        until("both say why", LIMIT, async || node.log().contains(why) && gateway.log().contains(why)).await;
    };
    let ((status, answer, _), ()) = tokio::join!(field.fleet.complete(gateway, &field.key, &body), told);
    assert_ne!(status, 200, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_base_another_version_or_without_a_good_token_is_told_why_and_so_is_the_operator() {
    let field = Field::start(1, 0).await;
    let gateway = &field.fleet.gateways[0];
    until("the gateway knows registries", LIMIT, async || {
        field.fleet.ready(gateway).await.1["status"] == "waiting_for_nodes"
    })
    .await;
    let key = field.fleet.souk(&["services", "create", "node-x", "--kind", "node"]);
    let url = format!("{}/registry/v1/internal/token", field.fleet.registries[0].url);
    let token = done(field.fleet.http.post(url).bearer_auth(key.trim())).await;
    let token = token["access_token"].as_str().unwrap();
    let of_caller = field.fleet.token(&field.key).await;
    let described: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(described_base()).unwrap()).unwrap();
    let served: Digest = described["digest"].as_str().unwrap().parse().unwrap();
    let another = Digest::of(b"another base");
    let another_told = format!("the node runs the base model {another}, and this gateway serves {served}");
    let newer = format!("the node speaks version {} of the frames", VERSION + 1);
    let cases = [
        (token, VERSION, another, another_told.as_str()),
        (token, VERSION + 1, served, newer.as_str()),
        ("not a token", VERSION, served, "the token is not accepted"),
        (of_caller.as_str(), VERSION, served, "the token is not accepted"),
    ];
    for (token, version, base, why) in cases {
        let dial = HttpDial::new(&WireSettings::default(), Arc::new(Always(token.to_owned()))).unwrap();
        let node = NodeId::from_stored("node-x");
        let hello = FromNode::Hello(NodeHello { version, node, pool: PoolId(base), stream: 1 });
        let refused = dial.dial(&gateway.url, hello.encode().into()).await;
        let Err(DialError::Refused(told)) = refused else { panic!("{why}: {:?}", refused.err()) };
        assert!(told.contains(why), "{why}: {told}");
        until("the gateway's log says so", LIMIT, async || gateway.log().contains(why)).await;
    }
    // What is right is let in.
    let dial = HttpDial::new(&WireSettings::default(), Arc::new(Always(token.to_owned()))).unwrap();
    let node = NodeId::from_stored("node-x");
    let hello = FromNode::Hello(NodeHello { version: VERSION, node, pool: PoolId(served), stream: 1 });
    assert!(dial.dial(&gateway.url, hello.encode().into()).await.is_ok(), "{}", gateway.log());
}

#[test]
fn a_node_without_a_redis_a_registry_or_a_key_says_what_is_missing() {
    let all = [
        ("SOUK_REDIS__URL", "redis://127.0.0.1:1"),
        ("SOUK_NODE__REGISTRIES", "http://127.0.0.1:1"),
        ("SOUK_NODE__REGISTRY_KEY", "souk_x"),
    ];
    for (without, told) in [
        (0, "redis.url must name the Redis"),
        (1, "node.registries must list at least one registry"),
        (2, "node.registry_key or node.registry_key_file must be set"),
    ] {
        let variables: Vec<_> =
            all.iter().enumerate().filter(|(number, _)| *number != without).map(|(_, variable)| *variable).collect();
        let output = crate::fleet::souk(&["node", "--listen", "127.0.0.1:0"], &variables);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(told), "{stderr}");
    }
}
