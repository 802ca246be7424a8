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

#[test]
fn any_bytes_of_a_request_to_the_registry_are_answered_and_never_by_a_failure_of_ours() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_stack, acme) = runtime.block_on(async {
        let stack = Stack::start().await;
        let acme = stack.tenant("acme").await;
        acme.make_adapter("sst2", "public").await;
        acme.publish("acme/sst2", "1.0.0", 1).await;
        (stack, acme)
    });
    // A line of method and path, lines of headers, an empty one, and the body.
    souk_testkit::fuzz("registry_request", |bytes| {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n");
        let (head, body) = end.map_or((bytes, &b""[..]), |end| (&bytes[..end], &bytes[end + 2..]));
        let mut lines = head.split(|byte| *byte == b'\n');
        let first = String::from_utf8_lossy(lines.next().unwrap_or_default());
        let (method, path) = first.split_once(' ').unwrap_or((&first, "/"));
        let (Ok(method), true) = (method.parse::<Method>(), path.starts_with('/')) else { return "no line".to_owned() };
        let mut request = acme.request(method, path).body(body.to_vec());
        for line in lines {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            // These say how the body is sent, which the client does.
            let is_framing =
                [&b"content-length"[..], b"transfer-encoding", b"connection", b"expect", b"te", b"upgrade"]
                    .contains(&line[..colon].to_ascii_lowercase().as_slice());
            if !is_framing {
                request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
            }
        }
        let Ok(request) = request.build() else { return "no request".to_owned() };
        // Dots lead out of the prefix, where other services answer.
        if !request.url().path().starts_with("/registry/v1/") {
            return "outside".to_owned();
        }
        let answer = match runtime.block_on(acme.client.execute(request)) {
            Ok(answer) => answer,
            Err(error) => return format!("no answer: {}", error.is_request()),
        };
        let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
        let text = runtime.block_on(answer.text()).unwrap_or_default();
        assert!(!status.is_server_error(), "{status} {text}");
        if !status.is_client_error() {
            return status.to_string();
        }
        assert_eq!(
            kind.as_ref().map(|kind| kind.as_bytes()),
            Some(&b"application/problem+json"[..]),
            "{status} {text}"
        );
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        format!("{status} {} {}", problem["code"], problem["errors"][0]["code"])
    });
}
