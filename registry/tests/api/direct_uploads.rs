//! Uploads of which the weights go from the client straight into the bucket.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use souk_protocol::Digest;
use souk_registry::RegistryConfig;
use souk_testkit_s3::{Fault, S3Server};

use crate::support::{
    AdapterFiles, Stack, User, announcement, begin_upload, body, completion, in_haste, problem, s3_at, send_part,
    send_parts, wait_until,
};
use crate::whole::check_whole_on;

const ADAPTER: &str = "acme/sst2";
const UPLOADS: &str = "/adapters/acme/sst2/uploads";

/// A registry with its bucket, and a tenant with an adapter.
struct Field {
    stack: Stack,
    server: S3Server,
    acme: User,
}

impl Field {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut RegistryConfig)) -> Self {
        let server = S3Server::start().await;
        let stack = Stack::start_with(|config| {
            in_haste(config);
            config.objects = s3_at(server.endpoint());
            change(config);
        })
        .await;
        let acme = stack.tenant("acme").await;
        acme.make_adapter("sst2", "private").await;
        Self { stack, server, acme }
    }

    /// Begins an upload of small weights and sends them, in one part.
    async fn sent(&self, version: &str, files: &AdapterFiles) -> Value {
        let weights = files.weights_bytes();
        let upload = begin_upload(&self.acme, ADAPTER, version, &weights).await;
        send_parts(&self.acme, ADAPTER, &upload, &weights, &[1]).await;
        upload
    }

    async fn complete(&self, upload: &Value, files: &AdapterFiles) -> reqwest::Response {
        completion(&self.acme, ADAPTER, upload, files.config_bytes()).send().await.unwrap()
    }

    async fn status(&self, upload: &Value) -> reqwest::Response {
        self.acme.get(&path(upload)).await
    }

    async fn check_whole(&self) {
        check_whole_on(self.stack.folder.path(), &self.server).await;
    }
}

fn path(upload: &Value) -> String {
    format!("{UPLOADS}/{}", upload["id"].as_str().unwrap())
}

#[tokio::test]
async fn parts_are_sent_in_any_order_after_any_interruption_and_become_a_version() {
    let field = Field::new().await;
    let (files, acme) = (AdapterFiles::large(), &field.acme);
    let weights = files.weights_bytes();
    let upload = begin_upload(acme, ADAPTER, "1.0.0", &weights).await;
    assert_eq!(upload["num_parts"], 2);
    problem(acme.upload(ADAPTER, "1.0.0", &files).await, StatusCode::CONFLICT, "upload_in_progress").await;
    send_parts(acme, ADAPTER, &upload, &weights, &[2]).await;
    // Who was interrupted finds the upload by what it is of, and what has arrived.
    let listed = body(acme.get(UPLOADS).await, StatusCode::OK).await;
    assert_eq!(listed["data"], json!([upload]));
    let status = body(field.status(&upload).await, StatusCode::OK).await;
    let second = &weights[upload["part_bytes"].as_u64().unwrap() as usize..];
    let arrived = json!({ "number": 2, "size_bytes": second.len(), "digest": Digest::of(second).to_string() });
    assert_eq!((&status["parts"], &status["is_whole"]), (&json!([arrived]), &json!(false)));
    let missing = problem(field.complete(&upload, &files).await, StatusCode::CONFLICT, "parts_missing").await;
    assert_eq!(missing["detail"], "of the 2 parts of the upload 1 have not arrived: 1; send them, then complete it");
    send_parts(acme, ADAPTER, &upload, &weights, &[1]).await;
    let made = body(field.complete(&upload, &files).await, StatusCode::CREATED).await;
    assert_eq!(made["state"], "ready");
    let file = acme.get("/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors").await;
    assert!(file.bytes().await.unwrap() == weights);
    problem(field.status(&upload).await, StatusCode::NOT_FOUND, "not_found").await;
    field.check_whole().await;
    // As it would have been through the registry.
    acme.make_adapter("same", "private").await;
    let same = body(acme.upload("acme/same", "1.0.0", &files).await, StatusCode::CREATED).await;
    assert_eq!(same["digest"], made["digest"]);
}

#[tokio::test]
async fn the_store_is_asked_which_of_its_uploads_it_is_only_where_that_was_not_kept() {
    let field = Field::new().await;
    let (files, acme) = (AdapterFiles::large(), &field.acme);
    let weights = files.weights_bytes();
    let upload = begin_upload(acme, ADAPTER, "1.0.0", &weights).await;
    let id = upload["id"].as_str().unwrap();
    // A list of what runs, for this one.
    let asked = || field.server.num_requests("GET", &format!("staging%2F{id}.direct"));
    for number in [1, 2] {
        send_parts(acme, ADAPTER, &upload, &weights, &[number]).await;
    }
    assert_eq!(body(field.status(&upload).await, StatusCode::OK).await["parts"].as_array().unwrap().len(), 2);
    assert_eq!(asked(), 0);
    // As an older program begins it.
    let db = field.stack.database().await;
    sea_orm::ConnectionTrait::execute_unprepared(&db, "UPDATE direct_uploads SET store_id = NULL").await.unwrap();
    send_parts(acme, ADAPTER, &upload, &weights, &[1]).await;
    assert_eq!(body(field.status(&upload).await, StatusCode::OK).await["parts"].as_array().unwrap().len(), 2);
    assert_eq!(asked(), 2);
    assert_eq!(field.complete(&upload, &files).await.status(), StatusCode::CREATED);
    field.check_whole().await;
}

#[tokio::test]
async fn bytes_that_are_not_those_announced_end_the_upload_and_leave_nothing() {
    let field = Field::new().await;
    let (files, other) = (AdapterFiles::tiny(1), AdapterFiles::tiny(2).weights_bytes());
    // Every part is what its address was signed for, and the whole is something else.
    let upload = begin_upload(&field.acme, ADAPTER, "1.0.0", &files.weights_bytes()).await;
    assert_eq!(other.len(), files.weights_bytes().len());
    send_parts(&field.acme, ADAPTER, &upload, &other, &[1]).await;
    let answer = problem(field.complete(&upload, &files).await, StatusCode::UNPROCESSABLE_ENTITY, "wrong_bytes").await;
    assert!(answer["detail"].as_str().unwrap().contains(&Digest::of(&other).to_string()), "{answer}");
    problem(field.complete(&upload, &files).await, StatusCode::NOT_FOUND, "not_found").await;
    field.check_whole().await;
    field.acme.publish(ADAPTER, "1.0.0", 1).await;
}

#[tokio::test]
async fn an_address_takes_the_part_that_it_was_signed_for_and_no_other() {
    let field = Field::new().await;
    let weights = AdapterFiles::tiny(1).weights_bytes();
    let upload = begin_upload(&field.acme, ADAPTER, "1.0.0", &weights).await;
    let asked = json!({ "parts": [{ "number": 1, "digest": Digest::of(&weights).to_string() }] });
    let answer = field.acme.post(&format!("{}/parts", path(&upload)), asked).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let address = body(answer, StatusCode::OK).await["data"][0].clone();
    let longer = [&weights[..], b"x"].concat();
    for bytes in [&weights[..weights.len() - 1], &longer, &AdapterFiles::tiny(2).weights_bytes()] {
        assert!(send_part(&address, bytes).await.is_client_error(), "{} bytes", bytes.len());
    }
    assert_eq!(send_part(&address, &weights).await, StatusCode::OK);
    assert_eq!(send_part(&address, &weights).await, StatusCode::OK, "a part may be sent again");
    let wrong = json!({ "parts": [{ "number": 2, "digest": "x" }, { "number": 0, "digest": "sha256:00" }] });
    let answer = field.acme.post(&format!("{}/parts", path(&upload)), wrong).await;
    let answer = problem(answer, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let subjects: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| &error["subject"]).collect();
    assert_eq!(subjects, ["parts[0].number", "parts[0].digest", "parts[1].number", "parts[1].digest"]);
    let none = field.acme.post(&format!("{}/parts", path(&upload)), json!({ "parts": [] })).await;
    problem(none, StatusCode::BAD_REQUEST, "invalid_fields").await;
}

#[tokio::test]
async fn what_cannot_become_a_version_is_refused_before_anything_is_sent() {
    let field = Field::with(|config| {
        config.settings.max_adapter_bytes = 1000;
        config.settings.max_direct_uploads_per_tenant = 1;
    })
    .await;
    let begin = async |request: Value| field.acme.post(UPLOADS, request).await;
    let asked = |version: &str, size: u64| json!({ "version": version, "digest": Digest::of(b"x").to_string(), "size_bytes": size });
    let large = problem(begin(asked("1.0.0", 1001)).await, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
    assert_eq!(large["detail"], "adapter_model.safetensors is larger than the limit of 1000 bytes");
    let wrong = json!({ "version": "v1", "digest": "md5:1", "size_bytes": 0 });
    let wrong = problem(begin(wrong).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    assert_eq!(wrong["errors"].as_array().unwrap().len(), 3, "{wrong}");
    let first = body(begin(asked("1.0.0", 10)).await, StatusCode::CREATED).await;
    problem(begin(asked("1.0.0", 10)).await, StatusCode::CONFLICT, "upload_in_progress").await;
    let second = problem(begin(asked("2.0.0", 10)).await, StatusCode::CONFLICT, "too_many").await;
    assert!(second["detail"].as_str().unwrap().contains("registry.max_direct_uploads_per_tenant is 1"), "{second}");
    assert_eq!(field.acme.delete(&path(&first)).await.status(), StatusCode::NO_CONTENT);
    field.check_whole().await;
    body(begin(asked("2.0.0", 10)).await, StatusCode::CREATED).await;
}

#[tokio::test]
async fn what_is_announced_counts_in_the_tenants_share_until_it_is_ended() {
    let field = Field::with(|config| config.settings.max_stored_per_tenant = Some(1 << 20)).await;
    let asked =
        |version: &str| json!({ "version": version, "digest": Digest::of(b"x").to_string(), "size_bytes": 600_000 });
    let first = body(field.acme.post(UPLOADS, asked("1.0.0")).await, StatusCode::CREATED).await;
    let refused = field.acme.post(UPLOADS, asked("2.0.0")).await;
    problem(refused, StatusCode::INSUFFICIENT_STORAGE, "insufficient_storage").await;
    let form = AdapterFiles::tiny(1).form("3.0.0").text("README.md", "x".repeat(600_000));
    let refused =
        field.acme.request(Method::POST, "/adapters/acme/sst2/versions").multipart(form).send().await.unwrap();
    problem(refused, StatusCode::INSUFFICIENT_STORAGE, "insufficient_storage").await;
    assert_eq!(field.acme.delete(&path(&first)).await.status(), StatusCode::NO_CONTENT);
    let second = body(field.acme.post(UPLOADS, asked("2.0.0")).await, StatusCode::CREATED).await;
    assert_eq!(field.acme.delete(&path(&second)).await.status(), StatusCode::NO_CONTENT);
    field.check_whole().await;
}

#[tokio::test]
async fn another_tenants_upload_does_not_exist() {
    let field = Field::new().await;
    let files = AdapterFiles::tiny(1);
    let upload = field.sent("1.0.0", &files).await;
    let rival = field.stack.tenant("rival").await;
    rival.make_adapter("tone", "private").await;
    let id = upload["id"].as_str().unwrap();
    let parts = json!({ "parts": [{ "number": 1, "digest": Digest::of(b"x").to_string() }] });
    for adapter in ["acme/sst2", "rival/tone"] {
        let path = format!("/adapters/{adapter}/uploads/{id}");
        problem(rival.get(&path).await, StatusCode::NOT_FOUND, "not_found").await;
        problem(rival.delete(&path).await, StatusCode::NOT_FOUND, "not_found").await;
        problem(rival.post(&format!("{path}/parts"), parts.clone()).await, StatusCode::NOT_FOUND, "not_found").await;
        let complete = completion(&rival, adapter, &upload, files.config_bytes()).send().await.unwrap();
        problem(complete, StatusCode::NOT_FOUND, "not_found").await;
    }
    let listed = body(rival.get("/adapters/rival/tone/uploads").await, StatusCode::OK).await;
    assert_eq!(listed["data"], json!([]));
    assert_eq!(field.complete(&upload, &files).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn one_that_was_not_completed_in_time_is_gone_with_all_that_was_sent() {
    let field = Field::with(|config| config.settings.direct_upload_lives = Duration::from_secs(4)).await;
    let files = AdapterFiles::tiny(1);
    let upload = field.sent("1.0.0", &files).await;
    assert_eq!(field.server.num_running_uploads(), 1);
    wait_until("it has expired", async || field.status(&upload).await.status() == StatusCode::NOT_FOUND).await;
    problem(field.complete(&upload, &files).await, StatusCode::NOT_FOUND, "not_found").await;
    field.check_whole().await;
    field.acme.publish(ADAPTER, "1.0.0", 1).await;
}

#[tokio::test]
async fn a_wrong_configuration_can_be_corrected_without_sending_the_weights_again() {
    let field = Field::new().await;
    let files = AdapterFiles::tiny(1);
    let upload = field.sent("1.0.0", &files).await;
    let mut wrong = files.clone();
    wrong.config["r"] = json!(4);
    let answer =
        problem(field.complete(&upload, &wrong).await, StatusCode::UNPROCESSABLE_ENTITY, "adapter_rejected").await;
    assert_eq!(answer["errors"][0]["code"], "rank_mismatch", "{answer}");
    let status = body(field.status(&upload).await, StatusCode::OK).await;
    assert_eq!((&status["is_whole"], &status["parts"]), (&json!(true), &json!([])));
    let parts = json!({ "parts": [{ "number": 1, "digest": Digest::of(b"x").to_string() }] });
    let more = field.acme.post(&format!("{}/parts", path(&upload)), parts).await;
    problem(more, StatusCode::CONFLICT, "parts_taken").await;
    assert_eq!(field.complete(&upload, &files).await.status(), StatusCode::CREATED);
    field.check_whole().await;
}

#[tokio::test]
async fn of_two_that_complete_it_at_once_one_does_and_with_a_key_both_hear_the_same() {
    let field = Field::new().await;
    let files = AdapterFiles::tiny(1);
    let upload = field.sent("1.0.0", &files).await;
    let (first, second) = tokio::join!(field.complete(&upload, &files), field.complete(&upload, &files));
    let statuses = [first.status(), second.status()];
    let num_made = statuses.iter().filter(|status| **status == StatusCode::CREATED).count();
    assert_eq!(num_made, 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 409, 404].contains(&status.as_u16())), "{statuses:?}");
    problem(field.complete(&upload, &files).await, StatusCode::NOT_FOUND, "not_found").await;

    let upload = field.sent("2.0.0", &files).await;
    let with_key = || completion(&field.acme, ADAPTER, &upload, files.config_bytes()).header("idempotency-key", "k");
    let made = body(with_key().send().await.unwrap(), StatusCode::CREATED).await;
    let again = with_key().send().await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(body(again, StatusCode::CREATED).await, made);
    let other = completion(&field.acme, ADAPTER, &upload, AdapterFiles::large().config_bytes());
    let other = other.header("idempotency-key", "k").send().await.unwrap();
    problem(other, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch").await;
    field.check_whole().await;
}

#[tokio::test]
async fn a_store_that_fails_in_the_middle_leaves_the_upload_to_be_completed_later() {
    let field = Field::new().await;
    let files = AdapterFiles::tiny(1);
    let upload = field.sent("1.0.0", &files).await;
    // Each in turn: what was sent is made one object, read, copied to its digest.
    for (method, part) in [("POST", "uploadId"), ("GET", ".direct"), ("PUT", "sha256")] {
        field.server.fail(method, part, 3, Fault::Refuse(503, "SlowDown"));
        let answer = field.complete(&upload, &files).await;
        problem(answer, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable").await;
        assert_eq!(field.server.num_faults_left(), 0, "{method} {part}");
        assert_eq!(field.status(&upload).await.status(), StatusCode::OK);
    }
    assert_eq!(field.complete(&upload, &files).await.status(), StatusCode::CREATED);
    field.check_whole().await;
}

#[tokio::test]
async fn one_that_cannot_be_begun_in_the_store_reserves_nothing() {
    let field = Field::new().await;
    field.server.fail("POST", "uploads", 3, Fault::Refuse(503, "SlowDown"));
    let asked = announcement("1.0.0", b"weights");
    let answer = field.acme.post(UPLOADS, asked.clone()).await;
    problem(answer, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable").await;
    assert_eq!(field.acme.post(UPLOADS, asked).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_folder_says_what_to_use_instead() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let answer = acme.post(UPLOADS, announcement("1.0.0", b"weights")).await;
    let answer = problem(answer, StatusCode::CONFLICT, "direct_uploads_unavailable").await;
    assert!(answer["detail"].as_str().unwrap().contains("POST …/versions"), "{answer}");
    problem(acme.get(UPLOADS).await, StatusCode::CONFLICT, "direct_uploads_unavailable").await;
    let unknown = acme.get(&format!("{UPLOADS}/upl_1")).await;
    problem(unknown, StatusCode::CONFLICT, "direct_uploads_unavailable").await;
}

#[tokio::test]
async fn one_that_is_begun_ended_or_completed_leaves_an_entry_each() {
    let field = Field::new().await;
    let files = AdapterFiles::tiny(1);
    let ended = field.sent("1.0.0", &files).await;
    assert_eq!(field.acme.delete(&path(&ended)).await.status(), StatusCode::NO_CONTENT);
    let completed = field.sent("1.0.0", &files).await;
    body(field.complete(&completed, &files).await, StatusCode::CREATED).await;
    let entries = body(field.stack.admin.get("/audit?tenant=acme").await, StatusCode::OK).await;
    let done = |action: &str| {
        let of = |entry: &&Value| entry["action"] == action;
        entries["data"].as_array().unwrap().iter().filter(of).map(|entry| entry["subject"].clone()).collect::<Vec<_>>()
    };
    let mut begun = done("upload.begun");
    begun.sort_by_key(|subject| *subject != ended["id"]);
    assert_eq!(begun, [ended["id"].clone(), completed["id"].clone()]);
    assert_eq!(done("upload.aborted"), [ended["id"].clone()]);
    assert_eq!(done("version.ready"), ["acme/sst2@1.0.0"]);
    // Beside them the tenant, its key and its adapter were made; that parts were addressed is told nowhere.
    assert_eq!(entries["data"].as_array().unwrap().len(), 3 + 4, "{entries}");
}
