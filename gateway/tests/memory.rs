//! What a body costs while it is read: at most eight times its bytes, whatever they are. A test of its own, since it
//! counts what the whole process allocates.

use souk_gateway::GatewayLimits;
use souk_gateway::request::{ChatRequest, CompletionRequest};
use souk_testkit::CountingAllocator;

/// What reading may take beside eight times the bytes: the lists whose lengths are limited.
const CONSTANT_BYTES: usize = 1 << 20;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn chat(fields: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{fields}}}"#)
}

/// Bodies of about so many bytes that a tree of values makes most of.
fn hostile(len: usize) -> Vec<(&'static str, String)> {
    let list = |item: &str| format!("[{}]", vec![item; len / (item.len() + 1)].join(","));
    let object = |item: fn(usize) -> String| {
        let (mut parts, mut number) = (String::new(), 0);
        while parts.len() < len {
            parts.extend([&*item(number), ","]);
            number += 1;
        }
        format!("{{{}}}", parts.trim_end_matches(','))
    };
    let text = |part: &str| format!("\"{}\"", part.repeat(len / part.len()));
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let part = r#"{"type":"text","text":"a"}"#;
    let message = r#"{"role":"user","content":""}"#;
    let content = |content: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#);
    let prompt = |prompt: &str| format!(r#"{{"model":"m","prompt":{prompt}}}"#);
    let strange =
        ["tools", "metadata", "guided_json", "guided_choice", "stop", "adapters", "response_format", "unknown"];
    let values = [
        list("[]"),
        list("{}"),
        list("0"),
        list(r#""""#),
        list(&deep),
        object(|number| format!("\"{number}\":0")),
        object(|_| r#""a":[]"#.to_owned()),
        text("a"),
        text("\\u0041"),
        text("\\n"),
        format!("[{}]", " ".repeat(len)),
        "9".repeat(len),
    ];
    let mut bodies: Vec<(&'static str, String)> = strange
        .iter()
        .flat_map(|name| values.iter().map(move |value| (*name, chat(&format!("\"{name}\":{value}")))))
        .collect();
    bodies.extend(values.iter().map(|value| ("logit_bias", chat(&format!("\"logit_bias\":{value}")))));
    bodies.extend(values.iter().flat_map(|value| [("content", content(value)), ("prompt", prompt(value))]));
    bodies.extend([
        ("messages", format!(r#"{{"model":"m","messages":{}}}"#, list(message))),
        ("parts", content(&list(part))),
        ("names of the body", object(|number| format!("\"{number}\":0"))),
        ("one name of the body", object(|_| r#""model":"m""#.to_owned())),
        ("token lists", prompt(&list("[1]"))),
        ("white space", format!("{}{}", " ".repeat(len), chat("\"n\":1"))),
        ("a schema as text", chat(&format!("\"guided_json\":\"{}\"", list("[]")))),
    ]);
    bodies
}

#[test]
fn a_body_costs_at_most_eight_times_its_bytes() {
    let limits = GatewayLimits::default();
    let mut most = (0.0, String::new());
    for (name, body) in hostile(1 << 19) {
        let chat = ALLOCATOR.peak(|| ChatRequest::read(body.as_bytes(), &limits));
        let text = ALLOCATOR.peak(|| CompletionRequest::read(body.as_bytes(), &limits));
        let (given, limit) = (body.len() + chat.max(text), 8 * body.len() + CONSTANT_BYTES);
        let begin: String = body.chars().take(120).collect();
        assert!(given <= limit, "{name}: {given} bytes of at most {limit} for {} of {begin}", body.len());
        let factor = given as f64 / body.len() as f64;
        if factor > most.0 {
            most = (factor, format!("{name}: {begin}"));
        }
    }
    println!("at most {:.1} times the bytes, the body's own among them: {}", most.0, most.1);
    assert!(most.0 > 1.5, "it counts");
}
