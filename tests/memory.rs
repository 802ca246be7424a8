//! What callers can make the server take of memory: no more than docs/operate.md says.

mod stack;

use stack::{BASE, Stack};

/// Of each of these there are so many at once.
const AT_ONCE: usize = 8;
/// The sum that docs/operate.md has for what callers decide over, with the defaults, beside what is there at the start,
/// in MiB.
const CALLERS_MIB: u64 = 64 + 128 + 128 + 32 + 128;

/// Bodies of nearly 4 MiB that a tree of values makes most of.
fn bodies() -> Vec<(&'static str, String)> {
    let list = |item: &str| format!("[{}]", vec![item; (4_000_000) / (item.len() + 1)].join(","));
    let chat = |field: &str, value: &str| {
        format!(r#"{{"model":"admin/none","messages":[{{"role":"user","content":"x"}}],"{field}":{value}}}"#)
    };
    vec![
        ("/v1/chat/completions", chat("tools", &list("[]"))),
        ("/v1/chat/completions", chat("metadata", &list("{}"))),
        ("/v1/chat/completions", chat("user", &format!("\"{}\"", "\\u0041".repeat(600_000)))),
        ("/v1/completions", format!(r#"{{"model":"admin/none","prompt":{}}}"#, list("7"))),
        ("/tokenize", format!(r#"{{"prompt":"{}","return_token_strs":true}}"#, "a ".repeat(100_000))),
        ("/detokenize", format!(r#"{{"tokens":[{}]}}"#, vec!["7"; 60_000].join(","))),
    ]
}

fn constraints() -> Vec<String> {
    vec![
        r"\w".repeat(30_000),
        r"\w".repeat(1_990),
        format!("(?i){}", r"\PL".repeat(190)),
        "((((a{1,100}){1,100}){1,100}){1,100}){1,100}".to_owned(),
        (0..6_000).map(|number| format!("{}|", number * 7919)).collect(),
    ]
}

async fn all_at_once(stack: &Stack, requests: &[(&str, String)]) {
    let http = stack.http();
    let sent = requests.iter().flat_map(|request| (0..AT_ONCE).map(move |_| request)).map(|(path, body)| {
        let request = http.post(format!("{}{path}", stack.url)).header("content-type", "application/json");
        request.body(body.clone()).send()
    });
    for answer in futures::future::join_all(sent).await {
        let status = answer.expect("an answer").status().as_u16();
        assert!([200, 400, 404, 429, 503].contains(&status), "{status}");
    }
}

#[tokio::test]
async fn the_worst_that_callers_send_stays_within_the_documented_sum() {
    let stack = Stack::start();
    let begin = stack.peak_kib();
    all_at_once(&stack, &bodies()).await;
    let after_bodies = stack.peak_kib();
    let constrained = constraints().into_iter().map(|source| {
        let body = serde_json::json!({ "prompt": "a", "max_tokens": 4, "guided_regex": source, "model": BASE });
        ("/v1/completions", body.to_string())
    });
    all_at_once(&stack, &constrained.collect::<Vec<_>>()).await;
    let (peak, rests) = (stack.peak_kib(), stack.resident_kib());
    let mib = |kib: u64| kib >> 10;
    println!(
        "{} MiB at the start, {} after the bodies, {} after the constraints; {} stay",
        mib(begin),
        mib(after_bodies),
        mib(peak),
        mib(rests)
    );
    // K, V and answers of those that were served are within 150 MiB.
    assert!(mib(peak - begin) <= CALLERS_MIB + 150, "{} MiB at the start, {} at most", mib(begin), mib(peak));
    assert!(mib(rests.saturating_sub(begin)) <= 200, "{} MiB at the start, {} stay", mib(begin), mib(rests));
}
