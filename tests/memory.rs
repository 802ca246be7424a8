//! What callers can make the server take of memory: no more than docs/operate.md says, term by term.

mod stack;

use reqwest::multipart::{Form, Part};
use serde_json::json;
use souk_testkit::base::SMOLLM2;
use souk_testkit::peft::RandomAdapter;
use stack::{BASE, Stack};

/// Of each of these there are so many at once.
const AT_ONCE: usize = 8;

/// The settings of this test: what docs/operate.md sums, each so small that a term which is broken by several times shows.
const MAX_READING_MIB: u64 = 32;
const MAX_CONCURRENT_TEXTS: u64 = 2;
const MAX_BODY_MIB: u64 = 4;
const MAX_CONCURRENT_COMPILES: u64 = 2;
const MAX_CACHED_MIB: u64 = 8;
const MAX_LIVE_MIB: u64 = 32;
const MAX_CONCURRENT_UPLOADS: u64 = 4;
/// What else grows as a server is used, in MiB: connections, K and V of those who are answered, two adapters, what the
/// allocator holds back.
const OTHERS_MIB: u64 = 40;

fn start() -> Stack {
    let numbers = [
        ("SOUK_GATEWAY__MAX_READING_BYTES", MAX_READING_MIB << 20),
        ("SOUK_GATEWAY__MAX_CONCURRENT_TEXTS", MAX_CONCURRENT_TEXTS),
        ("SOUK_GATEWAY__MAX_BODY_BYTES", MAX_BODY_MIB << 20),
        ("SOUK_CONSTRAINTS__MAX_CONCURRENT_COMPILES", MAX_CONCURRENT_COMPILES),
        ("SOUK_CONSTRAINTS__MAX_CACHED_MB", MAX_CACHED_MIB),
        ("SOUK_CONSTRAINTS__MAX_LIVE_MB", MAX_LIVE_MIB),
        ("SOUK_REGISTRY__MAX_CONCURRENT_UPLOADS", MAX_CONCURRENT_UPLOADS),
    ];
    let texts = numbers.map(|(name, number)| (name, number.to_string()));
    let settings: Vec<_> = texts.iter().map(|(name, number)| (*name, number.as_str())).collect();
    Stack::start_with(&settings)
}

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

fn constraints() -> Vec<(&'static str, String)> {
    let sources = [
        r"\w".repeat(30_000),
        r"\w".repeat(1_990),
        format!("(?i){}", r"\PL".repeat(190)),
        "((((a{1,100}){1,100}){1,100}){1,100}){1,100}".to_owned(),
        (0..6_000).map(|number| format!("{}|", number * 7919)).collect(),
    ];
    let required = |number| format!(r#"{{"anyOf":[{{"required":["a{number}"]}},{{"required":["b{number}"]}}]}}"#);
    let schemas = [
        format!(r#"{{"enum":[{}]}}"#, vec!["[]"; 20_000].join(",")),
        format!(r#"{{"allOf":[{}]}}"#, (0..9).map(required).collect::<Vec<_>>().join(",")),
    ];
    let body = |kind: &str, source: String| {
        let body = json!({ "prompt": "a", "max_tokens": 4, kind: source, "model": BASE });
        ("/v1/completions", body.to_string())
    };
    let regexes: Vec<_> = sources.into_iter().map(|source| body("guided_regex", source)).collect();
    regexes.into_iter().chain(schemas.map(|source| body("guided_json", source))).collect()
}

/// A conversation with an adapter whose own template makes most of it.
fn conversation(name: &str) -> (&'static str, String) {
    let message = json!({ "role": "user", "content": "ab ".repeat(2_000) });
    let body = json!({ "model": name, "messages": [message], "max_tokens": 1 });
    ("/v1/chat/completions", body.to_string())
}

async fn one_of_each(stack: &Stack, path: &str, body: String) {
    let request = stack.http().post(format!("{}{path}", stack.url)).header("content-type", "application/json");
    drop(request.body(body).send().await.expect("an answer").bytes().await);
}

async fn all_at_once(stack: &Stack, requests: &[(&str, String)]) {
    let http = stack.http();
    let sent = requests.iter().flat_map(|request| (0..AT_ONCE).map(move |_| request)).map(|(path, body)| {
        let request = http.post(format!("{}{path}", stack.url)).header("content-type", "application/json");
        request.body(body.clone()).send()
    });
    for answer in futures::future::join_all(sent).await {
        let status = answer.expect("an answer").status().as_u16();
        assert!([200, 400, 404, 422, 429, 503].contains(&status), "{status}");
    }
}

/// Adapters with a template of their own, of some 8 MiB each, all at once.
async fn uploads(stack: &Stack, template: &str) -> Vec<String> {
    let modules = [souk_protocol::peft::Module::Q, souk_protocol::peft::Module::V];
    let base = "HuggingFaceTB/SmolLM2-135M-Instruct";
    let files =
        RandomAdapter { shape: &SMOLLM2, base, modules: &modules, rank: 64, is_dora: false, size: 0.008 }.files(1);
    assert!(files.weights.len() > 7 << 20, "{} bytes", files.weights.len());
    let http = stack.http();
    let sent = (0..AT_ONCE).map(|number| {
        let (http, files) = (http.clone(), &files);
        async move {
            let name = format!("own-template-{number}");
            let (status, made) =
                stack.post("/registry/v1/adapters", &json!({ "name": name, "visibility": "private" })).await;
            assert_eq!(status, 201, "{made}");
            let form = Form::new()
                .text("version", "1.0.0")
                .part("adapter_config.json", Part::bytes(files.config.clone()))
                .part("chat_template.jinja", Part::text(template.to_owned()))
                .part("adapter_model.safetensors", Part::bytes(files.weights.clone()));
            let url = format!("{}/registry/v1/adapters/admin/{name}/versions", stack.url);
            let answer = http.post(url).multipart(form).send().await.expect("an answer");
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
            assert!([201, 429, 503].contains(&status), "{status} {text}");
            (status == 201).then(|| format!("admin/{name}"))
        }
    });
    futures::future::join_all(sent).await.into_iter().flatten().collect()
}

/// Measures what is added to what rests, and compares it with what the page allows.
struct Sum<'a> {
    stack: &'a Stack,
    begin_kib: u64,
    problems: Vec<String>,
}

impl Sum<'_> {
    fn compare(&mut self, what: &str, terms_mib: u64) -> String {
        let used = self.stack.peak_kib().saturating_sub(self.begin_kib) >> 10;
        let (limit, rests) = (terms_mib + OTHERS_MIB, self.stack.resident_kib().saturating_sub(self.begin_kib) >> 10);
        let line = format!("{what}: {used} MiB of at most {limit}, {rests} rest");
        if used > limit {
            self.problems.push(line.clone());
        }
        self.stack.forget_the_peak();
        line
    }
}

#[tokio::test]
async fn the_worst_that_callers_send_stays_within_the_documented_sum() {
    let stack = start();
    // What is taken once and for all is taken.
    for (path, body) in bodies().into_iter().chain(constraints()) {
        one_of_each(&stack, path, body).await;
    }
    stack.forget_the_peak();
    let mut sum = Sum { stack: &stack, begin_kib: stack.resident_kib(), problems: Vec::new() };
    let texts_mib = MAX_CONCURRENT_TEXTS * (8 * MAX_BODY_MIB + 12);
    all_at_once(&stack, &bodies()).await;
    println!("{}", sum.compare("bodies", MAX_READING_MIB + texts_mib));
    let constraints_mib = MAX_CONCURRENT_COMPILES * 40 + MAX_CACHED_MIB + MAX_LIVE_MIB;
    all_at_once(&stack, &constraints()).await;
    println!("{}", sum.compare("constraints", constraints_mib));
    // It makes as much as it may, at the upload and of each conversation.
    let template = "{% set s = 'a' * 30000 %}{% set ns = namespace(l=[]) %}{% for i in range(150) %}\
        {% set ns.l = ns.l + [s ~ i] %}{% endfor %}{{ messages[0].content }}";
    let uploads_mib = MAX_CONCURRENT_UPLOADS * (8 + 12);
    let mut names = uploads(&stack, template).await;
    assert!(!names.is_empty());
    // Adapters that are loaded are no term of this sum.
    names.truncate(2);
    println!("{}", sum.compare("uploads", MAX_CACHED_MIB + uploads_mib));
    let conversations: Vec<_> = names.iter().map(|name| conversation(name)).collect();
    all_at_once(&stack, &conversations).await;
    println!("{}", sum.compare("templates of strangers", MAX_CACHED_MIB + MAX_READING_MIB + texts_mib));
    all_at_once(&stack, &[bodies(), constraints(), conversations].concat()).await;
    println!("{}", sum.compare("all of it", MAX_READING_MIB + texts_mib + constraints_mib + uploads_mib));
    assert!(sum.problems.is_empty(), "{:#?}", sum.problems);
    assert!(sum.begin_kib > 0);
}
