//! Uploads that must be refused: each with every problem named, and nothing left behind.

use reqwest::multipart::{Form, Part};
use reqwest::{Method, Response, StatusCode};
use sea_orm::{EntityTrait as _, PaginatorTrait as _};
use serde_json::{Value, json};

use crate::support::{AdapterFiles, Stack, User, body, form, problem, with_header};

struct Refused {
    stack: Stack,
    acme: User,
}

impl Refused {
    async fn start() -> Self {
        Self::on(Stack::start().await).await
    }

    async fn on(stack: Stack) -> Self {
        let acme = stack.tenant("acme").await;
        acme.make_adapter("sst2", "private").await;
        Self { stack, acme }
    }

    async fn send(&self, form: Form) -> Response {
        self.acme.request(Method::POST, "/adapters/acme/sst2/versions").multipart(form).send().await.unwrap()
    }

    /// Sends a form that must be rejected, checks that nothing is left, and answers the problems' codes.
    async fn codes(&self, form: Form) -> Vec<String> {
        let answer = problem(self.send(form).await, StatusCode::UNPROCESSABLE_ENTITY, "adapter_rejected").await;
        self.check_nothing_left().await;
        answer["errors"].as_array().unwrap().iter().map(|error| error["code"].as_str().unwrap().to_owned()).collect()
    }

    async fn check_nothing_left(&self) {
        assert_eq!(self.stack.num_objects(), 0, "blobs or staged files are left");
        let listed = body(self.acme.get("/adapters/acme/sst2/versions").await, StatusCode::OK).await;
        assert_eq!(listed["data"], json!([]));
        assert_eq!(num_uploads(&self.stack).await, 0, "an upload is left in flight");
    }
}

mod uploads_table {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "uploads")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) id: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(crate) async fn num_uploads(stack: &Stack) -> u64 {
    uploads_table::Entity::find().count(&stack.database().await).await.unwrap()
}

fn with_config(change: impl FnOnce(&mut Value)) -> Form {
    let mut files = AdapterFiles::tiny(1);
    change(&mut files.config);
    files.form("1.0.0")
}

fn with_tensors(change: impl FnOnce(&mut AdapterFiles)) -> Form {
    let mut files = AdapterFiles::tiny(1);
    change(&mut files);
    files.form("1.0.0")
}

fn with_weights(change: impl FnOnce(&AdapterFiles) -> Vec<u8>) -> Form {
    let files = AdapterFiles::tiny(1);
    form("1.0.0", files.config_bytes(), change(&files))
}

#[tokio::test]
async fn an_adapter_for_another_base_is_rejected() {
    let refused = Refused::start().await;
    let codes = refused.codes(with_config(|config| config["base_model_name_or_path"] = json!("meta/llama-7b"))).await;
    assert!(codes.contains(&"wrong_base".to_owned()), "{codes:?}");
}

#[tokio::test]
async fn shapes_and_ranks_that_do_not_fit_are_rejected() {
    let refused = Refused::start().await;
    // The adapter names the other base, whose matrices are larger.
    let codes =
        refused.codes(with_config(|config| config["base_model_name_or_path"] = json!("smollm2-135m-instruct"))).await;
    assert!(codes.contains(&"wrong_shape".to_owned()), "{codes:?}");
    let codes = refused.codes(with_config(|config| config["r"] = json!(4))).await;
    assert!(codes.contains(&"rank_mismatch".to_owned()), "{codes:?}");
}

#[tokio::test]
async fn a_missing_half_of_a_pair_is_rejected() {
    let refused = Refused::start().await;
    let codes = refused.codes(with_tensors(|files| _ = files.tensors.remove(1))).await;
    assert!(codes.contains(&"missing_tensor".to_owned()), "{codes:?}");
}

#[tokio::test]
async fn numbers_that_are_not_finite_are_rejected() {
    let refused = Refused::start().await;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let codes = refused.codes(with_tensors(|files| files.tensors[2].2[3] = bad)).await;
        assert_eq!(codes, ["not_finite"]);
    }
}

#[tokio::test]
async fn numbers_that_no_node_can_hold_are_rejected_with_their_tensor() {
    let refused = Refused::start().await;
    let too_large = with_tensors(|files| files.tensors[2].2[3] = f32::MAX);
    assert_eq!(refused.codes(too_large).await, ["out_of_range"]);
    // Within range by itself, and not with its scale of 2.
    let scaled = refused.send(with_tensors(|files| files.tensors[1].2[3] = 2e38)).await;
    let scaled = problem(scaled, StatusCode::UNPROCESSABLE_ENTITY, "adapter_rejected").await;
    assert_eq!(scaled["errors"][0]["code"], "out_of_range", "{scaled}");
    assert_eq!(scaled["errors"][0]["subject"], "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight");
    refused.check_nothing_left().await;
}

#[tokio::test]
async fn kinds_and_options_that_are_not_supported_are_rejected_by_name() {
    let refused = Refused::start().await;
    let codes = refused.codes(with_config(|config| config["peft_type"] = json!("IA3"))).await;
    assert!(codes.contains(&"unsupported_peft_type".to_owned()), "{codes:?}");
    let codes = refused.codes(with_config(|config| config["lora_bias"] = json!(true))).await;
    assert!(codes.contains(&"unsupported_option".to_owned()), "{codes:?}");
    let not_json = form("1.0.0", b"r = 8".to_vec(), AdapterFiles::tiny(1).weights_bytes());
    let codes = refused.codes(not_json).await;
    assert!(codes.contains(&"config_invalid".to_owned()), "{codes:?}");
}

/// Makes a bad weights file out of a good adapter.
type Corrupt = fn(&AdapterFiles) -> Vec<u8>;

#[tokio::test]
async fn a_safetensors_file_that_is_not_one_is_rejected() {
    let refused = Refused::start().await;
    let cases: [(&str, Corrupt); 7] = [
        ("duplicate_key", |files| {
            let header = files.header();
            let first = &header[1..header.find("},").unwrap() + 1];
            with_header(&format!("{{{first},{}", &header[1..]), &files.data())
        }),
        ("too_large", |files| {
            let padding = " ".repeat(2 << 20);
            with_header(&format!("{}{padding}", files.header()), &files.data())
        }),
        ("truncated", |files| files.weights_bytes()[..files.weights_bytes().len() - 5].to_vec()),
        ("truncated", |_| b"abc".to_vec()),
        ("trailing_bytes", |files| [files.weights_bytes(), vec![0; 8]].concat()),
        ("not_safetensors", |_| [b"\x80\x04\x95".as_slice(), &[b'x'; 500]].concat()),
        ("not_safetensors", |_| [b"PK\x03\x04".as_slice(), &[0; 500]].concat()),
    ];
    for (code, weights) in cases {
        let codes = refused.codes(with_weights(weights)).await;
        assert!(codes.contains(&code.to_owned()), "expected {code}, given {codes:?}");
    }
}

#[tokio::test]
async fn every_problem_of_both_files_is_in_one_answer() {
    let refused = Refused::start().await;
    let mut files = AdapterFiles::tiny(1);
    files.config["base_model_name_or_path"] = json!("other");
    files.config["lora_bias"] = json!(true);
    files.tensors[0].2[0] = f32::NAN;
    files.tensors.remove(3);
    let answer = refused.send(files.form("1.0.0")).await;
    let answer = problem(answer, StatusCode::UNPROCESSABLE_ENTITY, "adapter_rejected").await;
    let codes: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|error| error["code"].as_str().unwrap()).collect();
    for code in ["unsupported_option", "wrong_base", "missing_tensor", "not_finite"] {
        assert!(codes.contains(&code), "{code} is not in {answer}");
    }
    // A header that is wrong does not hide what is wrong with the configuration.
    let codes = refused.codes(form("1.0.0", files.config_bytes(), b"PK\x03\x04rest of a zip".to_vec())).await;
    assert!(codes.contains(&"not_safetensors".to_owned()) && codes.contains(&"wrong_base".to_owned()), "{codes:?}");
    refused.check_nothing_left().await;
}

#[tokio::test]
async fn a_rejected_number_can_be_used_again() {
    let refused = Refused::start().await;
    refused.codes(with_config(|config| config["r"] = json!(4))).await;
    refused.acme.publish("acme/sst2", "1.0.0", 1).await;
    let again = refused.acme.upload("acme/sst2", "1.0.0", &AdapterFiles::tiny(2)).await;
    problem(again, StatusCode::CONFLICT, "already_exists").await;
}

#[tokio::test]
async fn a_file_above_its_limit_is_413_and_leaves_nothing() {
    let stack = Stack::start_with(|config| {
        config.settings.max_adapter_bytes = 2048;
        config.settings.max_card_bytes = 1024;
    });
    let refused = Refused::on(stack.await).await;
    let large = with_weights(|files| [files.weights_bytes(), vec![0; 4096]].concat());
    let answer = problem(refused.send(large).await, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
    assert_eq!(answer["detail"], "adapter_model.safetensors is larger than the limit of 2048 bytes");
    let large = AdapterFiles::tiny(1).form("1.0.0").text("README.md", "x".repeat(1025));
    problem(refused.send(large).await, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
    let large = form("1.0.0", vec![b' '; 65 * 1024], AdapterFiles::tiny(1).weights_bytes());
    problem(refused.send(large).await, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
    refused.check_nothing_left().await;
}

#[tokio::test]
async fn a_form_that_is_not_an_upload_is_400_and_leaves_nothing() {
    let refused = Refused::start().await;
    let files = AdapterFiles::tiny(1);
    let config = || Part::bytes(files.config_bytes());
    let late = Form::new().part("adapter_config.json", config()).text("version", "1.0.0");
    problem(refused.send(late).await, StatusCode::BAD_REQUEST, "version_first").await;
    problem(refused.send(files.form("v1")).await, StatusCode::BAD_REQUEST, "invalid_version").await;
    let missing =
        problem(refused.send(Form::new().text("version", "1.0.0")).await, StatusCode::BAD_REQUEST, "missing_part")
            .await;
    assert_eq!(missing["errors"].as_array().unwrap().len(), 2, "{missing}");
    let twice = files.form("1.0.0").part("adapter_config.json", config());
    problem(refused.send(twice).await, StatusCode::BAD_REQUEST, "unexpected_part").await;
    let code = files.form("1.0.0").text("modeling.py", "import os");
    problem(refused.send(code).await, StatusCode::BAD_REQUEST, "unexpected_part").await;
    let json = refused.acme.post("/adapters/acme/sst2/versions", json!({ "version": "1.0.0" })).await;
    problem(json, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type").await;
    refused.check_nothing_left().await;
}

#[tokio::test]
async fn a_part_whose_head_never_ends_is_cut_off() {
    let refused = Refused::start().await;
    let head = format!("--b\r\nContent-Disposition: form-data; name=\"version\"; x=\"{}", "x".repeat(9 << 20));
    let request = refused.acme.request(Method::POST, "/adapters/acme/sst2/versions");
    let request = request.header("content-type", "multipart/form-data; boundary=b").body(head);
    problem(request.send().await.unwrap(), StatusCode::BAD_REQUEST, "malformed_multipart").await;
    refused.check_nothing_left().await;
}
