//! Whatever a client sends, the answer is its fault and a problem, never ours.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use reqwest::{Method, StatusCode};

use crate::support::{AdapterFiles, Stack, problem};

/// Bodies per route; each costs a round trip.
const NUM_BODIES: usize = 150;

/// `valid` with some bytes replaced, a part cut out and a part repeated: near enough to get past the first checks.
fn mutated(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = valid.len();
    let edits = prop::collection::vec((0..len, any::<u8>()), 0..4);
    (Just(valid), edits, 0..len, 0..64_usize, any::<bool>()).prop_map(|(mut bytes, edits, at, length, repeat)| {
        for (position, value) in edits {
            bytes[position] = value;
        }
        let end = (at + length).min(bytes.len());
        let piece = bytes[at..end].to_vec();
        bytes.splice(at..end, if repeat { [piece.clone(), piece].concat() } else { Vec::new() });
        bytes
    })
}

fn multipart_body() -> Vec<u8> {
    let files = AdapterFiles::tiny(1);
    let part = |name: &str, bytes: &[u8]| {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        [head.as_bytes(), bytes, b"\r\n"].concat()
    };
    let config = part("adapter_config.json", &files.config_bytes());
    let weights = part("adapter_model.safetensors", &files.weights_bytes());
    [part("version", b"1.0.0"), config, weights, b"--b--\r\n".to_vec()].concat()
}

#[tokio::test]
async fn no_body_makes_a_route_fail_on_our_side() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let mut runner = TestRunner::deterministic();
    let routes: [(&str, &str, Vec<u8>); 3] = [
        ("/adapters", "application/json", br#"{"name":"fuzz","visibility":"public","description":"d"}"#.to_vec()),
        (
            "/keys",
            "application/json",
            br#"{"name":"k","scopes":["inference"],"expires_at":"2099-01-01T00:00:00Z"}"#.to_vec(),
        ),
        ("/adapters/acme/sst2/versions", "multipart/form-data; boundary=b", multipart_body()),
    ];
    for (path, content_type, valid) in routes {
        let bodies = prop_oneof![mutated(valid), prop::collection::vec(any::<u8>(), 0..300)];
        let mut num_refused = 0;
        for _ in 0..NUM_BODIES {
            let body = bodies.new_tree(&mut runner).unwrap().current();
            let shown = String::from_utf8_lossy(&body).into_owned();
            let request = acme.request(Method::POST, path).header("content-type", content_type).body(body);
            let answer = request.send().await.unwrap();
            match answer.status() {
                // What the mutation left valid, and its repetition.
                StatusCode::CREATED | StatusCode::CONFLICT => {}
                status => {
                    assert!(status.is_client_error(), "{status} for {path} with {shown}");
                    let code = answer.headers()["content-type"].clone();
                    assert_eq!(code, "application/problem+json", "{path} with {shown}");
                    num_refused += 1;
                }
            }
        }
        assert!(num_refused > NUM_BODIES / 2, "{path}: only {num_refused} bodies were refused");
    }
    problem(acme.get("/nothing").await, StatusCode::NOT_FOUND, "not_found").await;
}
