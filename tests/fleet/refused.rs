//! Who does not belong to the fleet is refused, and both sides say why.

use crate::field::{Field, LIMIT};
use crate::fleet::until;
use crate::streams::question;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_gateways_key_brings_no_events_and_both_sides_say_why() {
    let field = Field::start(1, 0).await;
    let gateways_key = field.fleet.services_keys[1].clone();
    let node = field.node(0, &[("SOUK_NODE__REGISTRY_KEY", &gateways_key)]);
    let gateway = &field.fleet.gateways[0];
    until("the queue knows the node", LIMIT, async || field.fleet.ready(gateway).await.0 == 200).await;
    let body = question(crate::stack::BASE, 3);
    let asking = field.fleet.complete(gateway, &field.key, &body);
    let told = async {
        let why = "a gateway's, and a node's is needed";
        until("both say why", LIMIT, async || node.log().contains(why) && gateway.log().contains(why)).await;
    };
    tokio::select! {
        () = told => {}
        (status, answer, _) = asking => assert_ne!(status, 200, "{answer}"),
    }
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
