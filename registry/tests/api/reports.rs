//! What a publisher says and is told beside the weights: the base model's names, the effect, the chat template.

use reqwest::multipart::Form;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use souk_protocol::{AdapterRef, ResolveError};

use crate::support::{AdapterFiles, Stack, User, body, problem};

async fn start() -> (Stack, User) {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    (stack, acme)
}

async fn send(acme: &User, form: Form) -> Response {
    acme.request(Method::POST, "/adapters/acme/sst2/versions").multipart(form).send().await.unwrap()
}

fn named(base: &Value) -> AdapterFiles {
    let mut files = AdapterFiles::tiny(1);
    files.config["base_model_name_or_path"] = base.clone();
    files
}

/// The codes, subjects and messages of a rejection.
async fn rejected(answer: Response) -> Vec<(String, String, String)> {
    let body = problem(answer, StatusCode::UNPROCESSABLE_ENTITY, "adapter_rejected").await;
    let text = |error: &Value, field: &str| error[field].as_str().unwrap().to_owned();
    let errors = body["errors"].as_array().unwrap();
    errors.iter().map(|error| (text(error, "code"), text(error, "subject"), text(error, "message"))).collect()
}

#[tokio::test]
async fn a_re_upload_of_the_base_is_the_base_and_the_report_keeps_both_names() {
    let (_stack, acme) = start().await;
    for (number, name) in [
        ("1.0.0", "unsloth/Tiny-Base-unsloth-bnb-4bit"),
        ("1.0.1", "/root/.cache/huggingface/hub/models--me--Tiny-Base/snapshots/0123abcd/"),
        ("1.0.2", "mlx-community/Tiny-Base-4bit@main"),
    ] {
        let made = body(send(&acme, named(&json!(name)).form(number)).await, StatusCode::CREATED).await;
        let expected = json!({"id": "tiny-base", "given": name, "read_as": "tiny-base", "stated": null});
        assert_eq!(made["report"]["base"], expected);
    }
    let got = body(acme.get("/adapters/acme/sst2/versions/1.0.2").await, StatusCode::OK).await;
    assert_eq!(got["report"]["effect"]["num_pairs"], 4);
}

#[tokio::test]
async fn a_name_that_says_nothing_needs_the_publishers_word_and_another_models_name_is_not_overruled() {
    let (_stack, acme) = start().await;
    let silent = named(&json!("/opt/ml/input/model"));
    let unsaid = rejected(send(&acme, silent.form("1.0.0")).await).await;
    assert_eq!((unsaid.len(), unsaid[0].0.as_str()), (1, "base_not_named"));
    assert!(unsaid[0].2.contains("`/opt/ml/input/model`") && unsaid[0].2.contains("--base tiny-base"), "{unsaid:?}");
    let made = body(send(&acme, silent.form("1.0.0").text("base", "someone/Tiny-Base")).await, StatusCode::CREATED);
    let expected =
        json!({"id": "tiny-base", "given": "/opt/ml/input/model", "read_as": "model", "stated": "someone/Tiny-Base"});
    assert_eq!(made.await["report"]["base"], expected);

    let unknown = rejected(send(&acme, silent.form("1.0.1").text("base", "gpt2")).await).await;
    assert_eq!((unknown[0].0.as_str(), unknown[0].1.as_str()), ("wrong_base", "base"));
    let other = named(&json!("meta-llama/Llama-3.2-1B-bnb-4bit"));
    let overruled = rejected(send(&acme, other.form("1.0.1").text("base", "tiny-base")).await).await;
    assert_eq!((overruled.len(), overruled[0].0.as_str()), (1, "wrong_base"));
    assert!(
        overruled[0].2.contains("read as `llama-3.2-1b`") && overruled[0].2.contains("does not overrule"),
        "{overruled:?}"
    );
    // The shapes have to fit all the same: the other base here is far larger.
    let misfit = rejected(send(&acme, silent.form("1.0.1").text("base", "smollm2-135m-instruct")).await).await;
    assert!(misfit.iter().any(|(code, ..)| code == "wrong_shape"), "{misfit:?}");
    let nameless = send(&acme, named(&Value::Null).form("1.0.1")).await;
    assert_eq!(nameless.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn an_adapter_that_changes_nothing_is_refused_unless_that_is_meant_and_dead_pairs_are_a_warning() {
    let (_stack, acme) = start().await;
    let mut dead = AdapterFiles::tiny(1);
    let halves = dead.tensors.iter_mut().filter(|(name, ..)| name.contains("lora_B"));
    halves.for_each(|(_, _, values)| values.fill(0.0));
    let refused = rejected(send(&acme, dead.form("1.0.0")).await).await;
    assert_eq!((refused.len(), refused[0].0.as_str()), (1, "no_effect"));
    assert!(refused[0].2.contains("4 of 4 pairs") && refused[0].2.contains("--allow-no-effect"), "{refused:?}");
    let made = send(&acme, dead.form("1.0.0").text("allow_no_effect", "true")).await;
    let report = body(made, StatusCode::CREATED).await["report"].clone();
    assert_eq!((&report["effect"]["num_dead"], &report["warnings"][0]["code"]), (&json!(4), &json!("no_effect")));
    let no_alpha =
        AdapterFiles { config: json!({"peft_type": "LORA", "r": 2, "lora_alpha": 0}), ..AdapterFiles::tiny(1) };
    assert_eq!(rejected(send(&acme, no_alpha.form("1.0.1")).await).await[0].0, "no_effect");

    let mut partly = AdapterFiles::tiny(1);
    partly.tensors[1].2.fill(0.0);
    let report = body(send(&acme, partly.form("1.0.1")).await, StatusCode::CREATED).await["report"].clone();
    assert_eq!(report["warnings"][0]["code"], "dead_pairs");
    let message = report["warnings"][0]["message"].as_str().unwrap();
    assert!(message.contains("1 of 4 pairs") && message.contains("model.layers.0.self_attn.q_proj"), "{message}");
    let q = &report["effect"]["modules"][0];
    assert_eq!((&q["module"], &q["num_pairs"], &q["num_dead"]), (&json!("self_attn.q_proj"), &json!(2), &json!(1)));
    assert_eq!((&q["min_norm"], &q["min_rank"]), (&json!(0.0), &json!(2)));
}

#[tokio::test]
async fn a_version_carries_its_own_chat_template() {
    let (stack, acme) = start().await;
    let template = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
    let plain = body(send(&acme, AdapterFiles::tiny(1).form("1.0.0")).await, StatusCode::CREATED).await;
    let form = AdapterFiles::tiny(1).form("1.0.1").text("chat_template.jinja", template);
    let own = body(send(&acme, form).await, StatusCode::CREATED).await;
    assert_ne!(plain["digest"], own["digest"]);
    assert_eq!((&plain["report"]["chat_template"], &own["report"]["chat_template"]), (&json!("base"), &json!("own")));
    let config = json!({"chat_template": template}).to_string();
    let form = AdapterFiles::tiny(1).form("1.0.2").text("tokenizer_config.json", config);
    let of_config = body(send(&acme, form).await, StatusCode::CREATED).await;
    assert_eq!(of_config["digest"], own["digest"]);

    let shown = acme.get("/adapters/acme/sst2/versions/1.0.1/files/chat_template.jinja").await;
    assert_eq!(shown.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(shown.text().await.unwrap(), template);
    let principal = stack.principal(&acme).await;
    for (reference, expected) in [("acme/sst2@1.0.0", None), ("acme/sst2@1.0.1", Some(template))] {
        let resolved = stack.registry.resolve(&principal, &reference.parse::<AdapterRef>().unwrap()).await.unwrap();
        assert_eq!(stack.registry.chat_template(&resolved).await.unwrap().as_deref(), expected);
    }
    // Deleted since it was resolved: it is not told to have no template, which would be remembered for its content.
    let reference = "acme/sst2@1.0.0".parse::<AdapterRef>().unwrap();
    let resolved = stack.registry.resolve(&principal, &reference).await.unwrap();
    assert_eq!(acme.delete("/adapters/acme/sst2/versions/1.0.0").await.status(), StatusCode::NO_CONTENT);
    let gone = stack.registry.chat_template(&resolved).await;
    assert!(matches!(gone, Err(ResolveError::NotFound(_))), "{gone:?}");
    let broken = AdapterFiles::tiny(1).form("1.0.3").text("chat_template.jinja", "x\n{% for %}");
    let refused = rejected(send(&acme, broken).await).await;
    assert_eq!((refused[0].0.as_str(), refused[0].1.as_str()), ("template_invalid", "chat_template.jinja"));
    assert!(refused[0].2.contains("line 2"), "{refused:?}");
    let large = AdapterFiles::tiny(1).form("1.0.3").text("chat_template.jinja", "x".repeat((64 << 10) + 1));
    problem(send(&acme, large).await, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
    // A manifest, a configuration, a file of weights, a template: nothing of what was refused or deleted.
    assert_eq!(stack.num_objects(), 4);
}

#[tokio::test]
async fn what_was_not_used_is_in_the_report() {
    let (_stack, acme) = start().await;
    let form = AdapterFiles::tiny(1)
        .form("1.0.0")
        .text("left_out", json!(["optimizer.pt", "tokenizer.json"]).to_string())
        .text("added_tokens.json", json!({"<|new|>": 99}).to_string());
    let report = body(send(&acme, form).await, StatusCode::CREATED).await["report"].clone();
    assert_eq!(report["left_out"], json!(["optimizer.pt", "tokenizer.json"]));
    assert_eq!(report["warnings"][0]["code"], "added_tokens");
    for (part, wrong) in [("left_out", "optimizer.pt"), ("allow_no_effect", "yes"), ("left_out", "[1]")] {
        let answer = send(&acme, AdapterFiles::tiny(1).form("1.0.1").text(part, wrong)).await;
        let body = problem(answer, StatusCode::BAD_REQUEST, "invalid_fields").await;
        assert_eq!(body["errors"][0]["subject"], part);
    }
    let unknown = send(&acme, AdapterFiles::tiny(1).form("1.0.1").text("optimizer.pt", "x")).await;
    problem(unknown, StatusCode::BAD_REQUEST, "unexpected_part").await;
}
