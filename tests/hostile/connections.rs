//! Connections that are opened and not used, or used as slowly as it goes.

use std::process::Command;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::field::{CONNECTIONS, Field, IN_FLIGHT, Tenant, Waits};
use crate::form::scale;
use crate::harm::Harm;
use crate::raw::{connect, drip, head};

/// The innocent's own connections, one of which asks for the figures.
const OWN: f64 = 4.0;

async fn open(field: &Field, num: usize, begin: &[u8]) -> Vec<TcpStream> {
    let mut opened = Vec::new();
    for number in 0..num {
        let mut stream = connect(field, number).await;
        stream.write_all(begin).await.expect("the server is there");
        opened.push(stream);
    }
    opened
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_by_the_thousand_harm_nobody_and_are_gone_in_time() {
    let field = Field::start(&[]);
    let innocent = field.tenant("innocent").await;
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let num_acts = scale(200, 10_000);
    // A request each, so that it is the idle time and not the head's that ends them.
    let begun = open(&field, num_acts, b"GET /health HTTP/1.1\r\nhost: souk\r\n\r\n").await;
    field.rises_to(CONNECTIONS, num_acts as f64, Duration::from_secs(10)).await;
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "idle connections", num_acts, alone: &alone, beside: &beside }.told(&field.stack);
    field.falls_to(CONNECTIONS, OWN, Duration::from_secs(Waits::of_this_form().idle_s)).await;
    drop(begun);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_drip_and_prefaces_and_proxy_headers_that_stay_half_are_gone_in_time() {
    let field = Field::start(&[("SOUK_SERVER__TRUSTED_PROXIES", "127.66.0.0/16")]);
    let innocent = field.tenant("innocent").await;
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let num_acts = scale(50, 1000);
    let mut halves = Vec::new();
    for begin in ["", "PRI * HTT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PROXY TCP4 203.0", "GET / HTTP/1.1\r\nhost: s"]
    {
        halves.extend(open(&field, num_acts / 5, begin.as_bytes()).await);
    }
    let mut dripping = tokio::task::JoinSet::new();
    for mut stream in open(&field, num_acts, b"GET / HTTP/1.1\r\nx: ").await {
        dripping.spawn(async move { drip(&mut stream, Duration::from_millis(300)).await });
    }
    field.rises_to(CONNECTIONS, 1.5 * num_acts as f64, Duration::from_secs(10)).await;
    let beside = field.asks(&innocent, Field::num_asked()).await;
    let act = "heads that drip, half prefaces, half PROXY headers";
    Harm { act, num_acts: 2 * num_acts, alone: &alone, beside: &beside }.told(&field.stack);
    field.falls_to(CONNECTIONS, OWN, Duration::from_secs(Waits::of_this_form().headers_s)).await;
    drop((halves, dripping));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_tls_handshake_is_gone_in_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut field = Field::start(&[
        ("SOUK_SERVER__TLS__CERT", cert.to_str().expect("a path of text")),
        ("SOUK_SERVER__TLS__KEY", key.to_str().expect("a path of text")),
        ("SOUK_SERVER__ADMIN_LISTEN", "localhost:0"),
    ]);
    let inside = field.stack.operators_url();
    let outside = std::mem::replace(&mut field.stack.url, inside);
    // Its certificate is its own; that it is believed is not what is tested here.
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().expect("a client");
    let innocent = Tenant { http, url: outside.clone(), ..field.tenant("innocent").await };
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let (num_acts, inside) = (scale(60, 1000), std::mem::replace(&mut field.stack.url, outside));
    let mut halves = open(&field, num_acts / 2, b"").await;
    // The begin of a record of a handshake whose rest does not come.
    halves.extend(open(&field, num_acts / 2, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await);
    field.stack.url = inside;
    field.rises_to(CONNECTIONS, num_acts as f64, Duration::from_secs(10)).await;
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "half TLS handshakes", num_acts, alone: &alone, beside: &beside }.told(&field.stack);
    field.falls_to(CONNECTIONS, OWN, Duration::from_secs(Waits::of_this_form().headers_s.min(10))).await;
    drop(halves);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_drip_are_refused_in_time_and_harm_nobody() {
    let field = Field::start(&[]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let num_acts = scale(40, 1000);
    let mut dripping = tokio::task::JoinSet::new();
    for mut stream in open(&field, num_acts, head(&hostile, "/v1/completions", 5000).as_bytes()).await {
        dripping.spawn(async move { drip(&mut stream, Duration::from_millis(500)).await });
    }
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "bodies that drip", num_acts, alone: &alone, beside: &beside }.told(&field.stack);
    let waits = Waits::of_this_form();
    field.falls_to("souk_gateway_reading_body_bytes", 0.0, Duration::from_secs(waits.body_s)).await;
    assert_eq!(field.stack.metric("souk_http_slow_bodies_total").await as usize, num_acts);
    assert_eq!(field.stack.metric(IN_FLIGHT).await, 0.0, "a place is taken when a body is there");
    field.falls_to(CONNECTIONS, OWN, Duration::from_secs(waits.idle_s)).await;
    drop(dripping);
}
