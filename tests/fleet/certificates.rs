//! Nodes and gateways that speak TLS with each other, and know each other by certificates beside tokens.

use reqwest::{Certificate, Client};
use souk_testkit::certificates::{Authority, Issued};

use crate::field::{Field, LIMIT};
use crate::fleet::{free_address, until};
use crate::stack::BASE;
use crate::streams::question;

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// Has the fleet's first gateway ask nodes for certificates of this authority, at a port of its own.
async fn field_that_asks(authority: &Authority) -> Field {
    let mut field = Field::start(0, 0).await;
    let own = authority.issue("localhost", "DNS:localhost,IP:127.0.0.1");
    let (root, cert, key, admin) = (text(&authority.root()), text(&own.cert), text(&own.key), free_address());
    let advertise = format!("https://localhost:{}", admin.rsplit_once(':').unwrap().1);
    let gateway = field.gateway(
        0,
        &[
            ("SOUK_SERVER__ADMIN_LISTEN", admin.as_str()),
            ("SOUK_SERVER__TLS__CERT", &cert),
            ("SOUK_SERVER__TLS__KEY", &key),
            ("SOUK_SERVER__TLS__OPERATORS", "true"),
            ("SOUK_SERVER__TLS__CLIENT_CA", &root),
            ("SOUK_GATEWAY__ADVERTISE", &advertise),
        ],
    );
    field.fleet.gateways.push(gateway);
    let trusted = Certificate::from_pem(&std::fs::read(&root).unwrap()).unwrap();
    field.fleet.http = Client::builder().tls_certs_merge([trusted]).build().unwrap();
    field
}

/// Starts a node that trusts the authority and shows this.
async fn start_node(field: &mut Field, number: usize, authority: &Authority, shown: Option<&Issued>) {
    let (root, shown) = (text(&authority.root()), shown.map_or_else(String::new, |issued| text(&issued.both)));
    let node = field.node(number, &[("SOUK_WIRE__ROOT_CERT", &root), ("SOUK_WIRE__CLIENT_CERT", &shown)]);
    field.nodes.push(node);
    field.until_ready(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_shows_a_certificate_answers_and_one_without_is_told_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "souk");
    let mut field = field_that_asks(&authority).await;
    start_node(&mut field, 0, &authority, None).await;
    let (gateway, body) = (&field.fleet.gateways[0], question(BASE, 3));
    let told = async {
        let both = async || {
            let (at_node, at_gateway) = (field.nodes[0].log(), gateway.log());
            let node_knows = at_node.contains("client_certificate_missing") && at_node.contains("wire.client_cert");
            node_knows && at_gateway.contains("A service without a certificate is refused")
        };
        until("both say why", LIMIT, both).await;
    };
    // However it is answered, both have to say why.
    let asking = async {
        let (status, answer, _) = field.fleet.complete(gateway, &field.key, &body).await;
        assert_ne!(status, 200, "{answer}");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = told => {}
        () = asking => {}
    }
    let (in_good_order, _) = field.nodes.remove(0).end();
    assert!(in_good_order);
    let shown = authority.issue("node", "DNS:node");
    start_node(&mut field, 1, &authority, Some(&shown)).await;
    let (status, answer, _) = field.fleet.complete(&field.fleet.gateways[0], &field.key, &body).await;
    assert_eq!((status, &answer["usage"]["completion_tokens"]), (200, &3.into()), "{answer}");
}
