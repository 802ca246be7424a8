//! Every crash point of publishing and of each change, once: the process exits there, another starts on the same data,
//! nothing is half done, and the repeated request makes one thing.
#![cfg(debug_assertions)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use souk_registry::{CRASHED, CrashPoint};
use souk_testkit_s3::S3Server;
use tempfile::TempDir;

use crate::process::{Process, Start};
use crate::support::{
    AdapterFiles, User, announcement, begin_upload, body, completion, config_in, send_parts, wait_until,
};
use crate::whole::{check_whole, check_whole_on};

/// Short, since what each crash leaves is waited for.
const LEASE: Duration = Duration::from_millis(300);

/// What somebody changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    CreateTenant,
    CreateKey,
    RevokeKey,
    RotateSigningKey,
    CreateAdapter,
    UpdateAdapter,
    DeleteAdapter,
    Publish,
    Yank,
    Unyank,
    TakeDown,
    DeleteVersion,
    PutTag,
    DeleteTag,
    BeginUpload,
    CompleteUpload,
}

/// A registry whose process ends where it is told to.
struct Field {
    folder: TempDir,
    /// Where the objects are, if not in the folder.
    server: Option<S3Server>,
    /// How many points are left until it ends.
    left: PathBuf,
    process: Process,
    admin: String,
    acme: String,
    /// The key that is to be revoked next.
    key_id: String,
    /// The upload that is to be completed next.
    upload: Value,
}

impl Field {
    async fn new() -> Self {
        Self::on(None).await
    }

    async fn on(server: Option<S3Server>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        drop(config_in(folder.path()));
        let left = folder.path().join("crash.left");
        let process = Process::start(folder.path(), start(&left, server.as_ref())).await;
        let admin = process.user(&process.key);
        assert_eq!(admin.post("/tenants", json!({ "name": "acme" })).await.status(), StatusCode::CREATED);
        let scopes = ["inference", "adapters:read", "adapters:write", "keys:manage"];
        let request = json!({ "name": "test", "scopes": scopes, "tenant": "acme" });
        let made = body(admin.post("/keys", request).await, StatusCode::CREATED).await;
        let (admin, acme) = (admin.key, made["secret"].as_str().unwrap().to_owned());
        Self { folder, server, left, process, admin, acme, key_id: String::new(), upload: Value::Null }
    }

    fn admin(&self) -> User {
        self.process.user(&self.admin)
    }

    fn acme(&self) -> User {
        self.process.user(&self.acme)
    }

    /// Makes the change again and again, each time with the process ending at the next point, until it ends at none.
    /// Answers the points.
    async fn through(&mut self, change: Change) -> Vec<String> {
        let mut points = Vec::new();
        for round in 1.. {
            change.prepare(self, round).await;
            let request = change.request(self, round);
            std::fs::write(&self.left, round.to_string()).unwrap();
            let sent = request.send().await;
            if let Ok(answer) = sent {
                std::fs::remove_file(&self.left).unwrap();
                assert!(answer.status().is_success(), "{change:?}: {}", answer.text().await.unwrap());
                change.check(self, round).await;
                self.check_whole().await;
                break;
            }
            let next = Process::start(self.folder.path(), start(&self.left, self.server.as_ref())).await;
            let ended = std::mem::replace(&mut self.process, next).ended().await;
            assert_eq!(ended, Some(CRASHED), "{change:?} ended otherwise than at its point {round}");
            points.push(std::fs::read_to_string(self.left.with_extension("at")).unwrap());
            // What is left to a client is there until that completes or ends it.
            if !matches!(change, Change::BeginUpload | Change::CompleteUpload) {
                self.check_whole().await;
            }
            self.repeat(change, round).await;
            change.check(self, round).await;
            self.check_whole().await;
        }
        points
    }

    async fn check_whole(&self) {
        match &self.server {
            Some(server) => check_whole_on(self.folder.path(), server).await,
            None => check_whole(self.folder.path()).await,
        }
    }

    /// Sends the same request again, until the one that was cut off is ended.
    async fn repeat(&self, change: Change, round: u8) {
        wait_until("the repeated request is carried out", async || {
            let answer = change.request(self, round).send().await.unwrap();
            let status = answer.status();
            if status != StatusCode::CONFLICT {
                assert!(change.is_done_by(status), "{change:?}, point {round}: {}", answer.text().await.unwrap());
                return true;
            }
            let code = body(answer, StatusCode::CONFLICT).await["code"].clone();
            assert!(["idempotency_in_flight", "upload_in_progress"].contains(&code.as_str().unwrap()), "{code}");
            false
        })
        .await;
    }
}

fn start<'a>(left: &'a Path, server: Option<&'a S3Server>) -> Start<'a> {
    Start { lease: Some(LEASE), crash_file: Some(left), s3_endpoint: server.map(S3Server::endpoint) }
}

impl Change {
    /// An adapter that this change and no other has to do with, in this round.
    fn adapter(self, round: u8) -> String {
        format!("{self:?}-{round}").to_lowercase()
    }

    /// Weights that no other has.
    fn files(self, round: u8) -> AdapterFiles {
        AdapterFiles::tiny(self as u8 * 15 + round)
    }

    /// Makes what the change is of.
    async fn prepare(self, field: &mut Field, round: u8) {
        let (acme, name) = (field.acme(), self.adapter(round));
        match self {
            Self::CreateTenant | Self::CreateKey | Self::RotateSigningKey | Self::CreateAdapter => return,
            Self::RevokeKey => {
                let request = json!({ "name": name, "scopes": ["adapters:read"] });
                let made = body(acme.post("/keys", request).await, StatusCode::CREATED).await;
                field.key_id = made["id"].as_str().unwrap().to_owned();
                return;
            }
            _ => drop(acme.make_adapter(&name, "private").await),
        }
        let adapter = format!("acme/{name}");
        let weights = self.files(round).weights_bytes();
        match self {
            Self::Publish | Self::UpdateAdapter | Self::BeginUpload => return,
            Self::CompleteUpload => {
                field.upload = begin_upload(&acme, &adapter, "1.0.0", &weights).await;
                send_parts(&acme, &adapter, &field.upload, &weights, &[1]).await;
                return;
            }
            _ => {}
        }
        let published = acme.upload(&adapter, "1.0.0", &self.files(round)).await;
        assert_eq!(published.status(), StatusCode::CREATED);
        let path = format!("/adapters/acme/{name}");
        let done = match self {
            Self::Unyank => acme.post(&format!("{path}/versions/1.0.0/yank"), json!({})).await,
            Self::DeleteTag => acme.put(&format!("{path}/tags/prod"), json!({ "version": "1.0.0" })).await,
            _ => return,
        };
        assert_eq!(done.status(), StatusCode::OK);
    }

    fn request(self, field: &Field, round: u8) -> RequestBuilder {
        let (acme, name) = (field.acme(), self.adapter(round));
        let path = format!("/adapters/acme/{name}");
        let version = format!("{path}/versions/1.0.0");
        let request = match self {
            Self::CreateTenant => field.admin().request(Method::POST, "/tenants").json(&json!({ "name": name })),
            Self::CreateKey => {
                acme.request(Method::POST, "/keys").json(&json!({ "name": name, "scopes": ["adapters:read"] }))
            }
            Self::RevokeKey => acme.request(Method::DELETE, &format!("/keys/{}", field.key_id)),
            Self::RotateSigningKey => field.admin().request(Method::POST, "/auth/signing-keys"),
            Self::CreateAdapter => acme.request(Method::POST, "/adapters").json(&json!({ "name": name })),
            Self::UpdateAdapter => acme.request(Method::PATCH, &path).json(&json!({ "description": "changed" })),
            Self::DeleteAdapter => acme.request(Method::DELETE, &path),
            Self::Publish => {
                acme.request(Method::POST, &format!("{path}/versions")).multipart(self.files(round).form("1.0.0"))
            }
            Self::Yank => acme.request(Method::POST, &format!("{version}/yank")),
            Self::Unyank => acme.request(Method::POST, &format!("{version}/unyank")),
            Self::TakeDown => {
                let request = field.admin().request(Method::POST, &format!("{version}/take-down"));
                request.json(&json!({ "reason": "a test" }))
            }
            Self::DeleteVersion => acme.request(Method::DELETE, &version),
            Self::PutTag => {
                acme.request(Method::PUT, &format!("{path}/tags/prod")).json(&json!({ "version": "1.0.0" }))
            }
            Self::DeleteTag => acme.request(Method::DELETE, &format!("{path}/tags/prod")),
            Self::BeginUpload => {
                let announced = announcement("1.0.0", &self.files(round).weights_bytes());
                acme.request(Method::POST, &format!("{path}/uploads")).json(&announced)
            }
            Self::CompleteUpload => {
                completion(&acme, &format!("acme/{name}"), &field.upload, self.files(round).config_bytes())
            }
        };
        request.header("idempotency-key", format!("of {name}"))
    }

    /// Whether a repeated request may answer so.
    fn is_done_by(self, status: StatusCode) -> bool {
        match self {
            // It was done before the process ended, and nobody was told.
            Self::DeleteAdapter | Self::DeleteVersion | Self::DeleteTag => {
                status == StatusCode::NO_CONTENT || status == StatusCode::NOT_FOUND
            }
            _ => status.is_success(),
        }
    }

    /// Whether exactly that is so which was asked for.
    async fn check(self, field: &Field, round: u8) {
        let (acme, name) = (field.acme(), self.adapter(round));
        let path = format!("/adapters/acme/{name}");
        let of = async |path: &str| body(acme.get(path).await, StatusCode::OK).await;
        let status = async |path: &str| acme.get(path).await.status();
        let version = format!("{path}/versions/1.0.0");
        match self {
            Self::CreateTenant => assert_eq!(num_named(&field.admin(), "/tenants", &name).await, 1),
            Self::CreateKey => assert_eq!(num_named(&acme, "/keys", &name).await, 1),
            Self::RevokeKey => {
                let keys = of("/keys?limit=100").await;
                let key = keys["data"].as_array().unwrap().iter().find(|key| key["name"] == name).unwrap();
                assert!(key["revoked_at"].is_string(), "{key}");
            }
            Self::RotateSigningKey => {
                let token = acme.post("/auth/token", json!({})).await;
                let token = body(token, StatusCode::OK).await["access_token"].as_str().unwrap().to_owned();
                assert_eq!(field.process.user(&token).get("/adapters").await.status(), StatusCode::OK);
            }
            Self::CreateAdapter => assert_eq!(of(&path).await["name"], name),
            Self::UpdateAdapter => assert_eq!(of(&path).await["description"], "changed"),
            Self::DeleteAdapter => assert_eq!(status(&path).await, StatusCode::NOT_FOUND),
            Self::Publish | Self::CompleteUpload => {
                let versions = of(&format!("{path}/versions")).await;
                assert_eq!(versions["data"].as_array().unwrap().len(), 1, "{versions}");
                let weights = acme.get(&format!("{version}/files/adapter_model.safetensors")).await;
                assert_eq!(weights.bytes().await.unwrap(), self.files(round).weights_bytes());
            }
            Self::Yank => assert_eq!(of(&version).await["state"], "yanked"),
            Self::Unyank => assert_eq!(of(&version).await["state"], "ready"),
            Self::TakeDown => assert_eq!(of(&version).await["state"], "taken_down"),
            Self::DeleteVersion => {
                assert_eq!(status(&version).await, StatusCode::NOT_FOUND);
                assert!(of(&path).await["latest_version"].is_null());
            }
            Self::PutTag => assert_eq!(of(&format!("{path}/tags/prod")).await["version"], "1.0.0"),
            Self::DeleteTag => assert_eq!(status(&format!("{path}/tags/prod")).await, StatusCode::NOT_FOUND),
            Self::BeginUpload => {
                let uploads = of(&format!("{path}/uploads")).await;
                let [upload] = &uploads["data"].as_array().unwrap()[..] else { panic!("{uploads}") };
                let weights = self.files(round).weights_bytes();
                send_parts(&acme, &format!("acme/{name}"), upload, &weights, &[1]).await;
                let ended = acme.delete(&format!("{path}/uploads/{}", upload["id"].as_str().unwrap())).await;
                assert_eq!(ended.status(), StatusCode::NO_CONTENT);
            }
        }
    }
}

/// How many of a list have this name.
async fn num_named(user: &User, path: &str, name: &str) -> usize {
    let listed = body(user.get(&format!("{path}?limit=100")).await, StatusCode::OK).await;
    assert!(listed["next_cursor"].is_null());
    listed["data"].as_array().unwrap().iter().filter(|item| item["name"] == name).count()
}

#[tokio::test]
async fn publishing_ends_at_each_of_its_points_and_the_repeated_upload_makes_one_version() {
    let points = Field::new().await.through(Change::Publish).await;
    let expected = [
        // The key is claimed, then the number.
        "before_commit",
        "after_commit",
        "before_commit",
        "after_commit",
        // The blobs are counted on, then put in place: weights, configuration, manifest.
        "before_commit",
        "after_commit",
        "object_staged",
        "object_placed",
        "object_staged",
        "object_placed",
        "object_staged",
        "object_placed",
        // The version is visible.
        "before_commit",
        "after_commit",
    ];
    assert_eq!(points, expected);
}

#[tokio::test]
async fn deletions_end_at_each_of_their_points_and_leave_no_bytes() {
    let mut field = Field::new().await;
    let mut seen = BTreeSet::new();
    for change in [Change::DeleteVersion, Change::DeleteAdapter] {
        let points = field.through(change).await;
        let num_removed = points.iter().filter(|point| *point == "object_removed").count();
        // Weights and manifest; the configuration is that of others, which is found out in a transaction of its own.
        assert!(num_removed >= 2, "{change:?}: {points:?}");
        assert_eq!(points[..2], ["before_commit", "after_commit"], "{change:?}");
        seen.extend(points);
    }
    seen.extend(["object_staged", "object_placed"].map(str::to_owned));
    assert_eq!(seen, CrashPoint::ALL.map(|point| point.as_str().to_owned()).into(), "every point is tried");
}

#[tokio::test]
async fn changes_of_keys_tenants_and_adapters_end_at_each_of_their_points() {
    let mut field = Field::new().await;
    let changes = [Change::CreateTenant, Change::CreateKey, Change::RevokeKey, Change::RotateSigningKey];
    for change in changes.into_iter().chain([Change::CreateAdapter, Change::UpdateAdapter]) {
        check_commits(change, &field.through(change).await);
    }
}

#[tokio::test]
async fn changes_of_versions_and_tags_end_at_each_of_their_points() {
    let mut field = Field::new().await;
    for change in [Change::Yank, Change::Unyank, Change::TakeDown, Change::PutTag, Change::DeleteTag] {
        check_commits(change, &field.through(change).await);
    }
}

#[tokio::test]
async fn uploads_straight_to_the_store_end_at_each_of_their_points_and_go_on() {
    let mut field = Field::on(Some(S3Server::start().await)).await;
    let begun = field.through(Change::BeginUpload).await;
    let claimed_and_reserved = ["before_commit", "after_commit", "before_commit", "after_commit"];
    assert_eq!(begun[..4], claimed_and_reserved);
    assert_eq!(
        begun[4..],
        ["object_staged", "before_commit", "after_commit"],
        "begun in the store, left to the client"
    );
    let completed = field.through(Change::CompleteUpload).await;
    let expected = [
        // The key is claimed; what was sent is one object.
        "before_commit",
        "after_commit",
        "object_staged",
        // The blobs are counted on, then put in place: weights, configuration, manifest.
        "before_commit",
        "after_commit",
        "object_staged",
        "object_placed",
        "object_staged",
        "object_placed",
        "object_staged",
        "object_placed",
        // The version is visible.
        "before_commit",
        "after_commit",
    ];
    assert_eq!(completed, expected);
}

fn check_commits(change: Change, points: &[String]) {
    // These are one statement, without a transaction of its own.
    let is_one_statement = matches!(change, Change::RotateSigningKey | Change::DeleteTag);
    assert!(is_one_statement || !points.is_empty(), "{change:?}");
    assert!(points.len().is_multiple_of(2), "{change:?}: {points:?}");
    for pair in points.chunks(2) {
        assert_eq!(pair, ["before_commit", "after_commit"], "{change:?}");
    }
}
