//! Every crash point of every change, once: the process exits there, another starts on the same data, nothing is half
//! done, the chains have no hole, and the repeated request makes one thing.
#![cfg(debug_assertions)]

mod access;
mod adapters;
mod change;
mod erasure;
mod forms;
mod hooks;
mod keys;
mod limits;
mod people;
mod usage;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use souk_protocol::Scope;
use souk_registry::{Action, CRASHED, CrashPoint};
use souk_testkit_s3::S3Server;
use tempfile::TempDir;

use crate::browser::Browser;
use crate::process::{Process, Start};
use crate::support::{User, body, config_in, database_of, number_of, wait_until};
use crate::whole::{check_chains, check_whole, check_whole_on};
use change::Change;

/// Short, since what each crash leaves is waited for.
const LEASE: Duration = Duration::from_millis(300);

/// Points that a transaction passes: before and after its commit.
const POINTS_OF_ONE: usize = 2;

/// A registry whose process ends where it is told to.
struct Field {
    folder: TempDir,
    /// Where the objects are, if not in the folder.
    server: Option<S3Server>,
    /// How many points are left until it ends.
    left: PathBuf,
    process: Process,
    admin: String,
    /// Keys by what they are of: a tenant, or a person.
    keys: BTreeMap<&'static str, String>,
    /// Changes that were begun.
    num_changes: u8,
    made: Made,
}

/// What the preparation of a change has made for its request.
#[derive(Default)]
struct Made {
    id: String,
    /// A key's secret, or an invitation's, or a code.
    secret: String,
    upload: Value,
    delivery: String,
    browser: Option<Browser>,
    csrf_token: String,
    /// Of a pipeline that is gone back to.
    number: i64,
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
        let (admin, keys) = (process.key.clone(), BTreeMap::new());
        let made = Made::default();
        let mut field = Self { folder, server, left, process, admin, keys, num_changes: 0, made };
        let acme = field.make_tenant("acme").await;
        field.keys.insert("acme", acme);
        field
    }

    /// A new tenant; answers a key that may do everything there.
    async fn make_tenant(&self, name: &str) -> String {
        let made = self.admin().post("/tenants", json!({ "name": name })).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        let scopes = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).map(Scope::as_str);
        self.make_key(name, &scopes.collect::<Vec<_>>()).await
    }

    /// A key that the operator makes.
    async fn make_key(&self, tenant: &str, scopes: &[&str]) -> String {
        let request = json!({ "name": "test", "scopes": scopes, "tenant": tenant });
        let made = body(self.admin().post("/keys", request).await, StatusCode::CREATED).await;
        made["secret"].as_str().unwrap().to_owned()
    }

    fn admin(&self) -> User {
        self.process.user(&self.admin)
    }

    fn acme(&self) -> User {
        self.user("acme")
    }

    fn user(&self, of: &str) -> User {
        self.process.user(&self.keys[of])
    }

    /// Whoever has the key that the preparation made.
    fn maker(&self) -> User {
        self.process.user(&self.made.secret)
    }

    async fn number(&self, query: &str) -> i64 {
        let db = database_of(self.folder.path()).await;
        let number = number_of(&db, query).await;
        db.close().await.unwrap();
        number
    }

    /// Makes the change again and again, each time with the process ending at the next point, until it ends at none.
    /// Answers the points.
    async fn through(&mut self, action: Action) -> Vec<String> {
        let mut points = Vec::new();
        for round in 1.. {
            self.num_changes += 1;
            self.made = Made::default();
            let change = Change { action, number: self.num_changes };
            change.prepare(self).await;
            let request = change.request(self);
            std::fs::write(&self.left, round.to_string()).unwrap();
            let sent = request.send().await;
            let goes_on = action == Action::ReportLeakedKeys && sent.is_ok();
            if let Ok(answer) = sent
                && !(goes_on && self.ends_later(round).await)
            {
                std::fs::remove_file(&self.left).unwrap();
                assert!(answer.status().is_success(), "{change:?}: {}", answer.text().await.unwrap());
                change.check(self).await;
                self.check_whole().await;
                break;
            }
            points.push(self.start_again(&format!("{change:?} in round {round}")).await);
            check_chains(&self.admin()).await;
            // What is left to a client is there until that completes or ends it.
            if !adapters::UPLOADS.contains(&action) {
                self.check_whole().await;
            }
            self.repeat(change).await;
            change.check(self).await;
            self.check_whole().await;
        }
        points
    }

    /// Starts another process after the one that has ended at a point; answers the point.
    async fn start_again(&mut self, what: &str) -> String {
        let next = Process::start(self.folder.path(), start(&self.left, self.server.as_ref())).await;
        let ended = std::mem::replace(&mut self.process, next).ended().await;
        assert_eq!(ended, Some(CRASHED), "{what} ended otherwise than at a point");
        std::fs::read_to_string(self.left.with_extension("at")).unwrap()
    }

    /// Waits, where the answer comes before all is done, until one transaction has passed its points or the process has
    /// ended at one of them; answers whether it has ended.
    async fn ends_later(&mut self, round: usize) -> bool {
        let done = round.checked_sub(POINTS_OF_ONE).filter(|left| *left > 0);
        let is_done = |left: Option<usize>| done.is_some() && left == done;
        wait_until("what was answered goes on", async || self.has_ended() || is_done(self.num_left())).await;
        self.has_ended()
    }

    fn has_ended(&mut self) -> bool {
        self.process.child.try_wait().unwrap().is_some()
    }

    /// How many points are left until the process ends; `None` while that is written.
    fn num_left(&self) -> Option<usize> {
        std::fs::read_to_string(&self.left).unwrap().trim().parse().ok()
    }

    async fn check_whole(&self) {
        match &self.server {
            Some(server) => check_whole_on(self.folder.path(), server).await,
            None => check_whole(self.folder.path()).await,
        }
        check_chains(&self.admin()).await;
    }

    /// Sends the same request again, until the one that was cut off is ended.
    async fn repeat(&self, change: Change) {
        wait_until("the repeated request is carried out", async || {
            let answer = change.request(self).send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            let answer: Value = serde_json::from_str(&text).unwrap_or_default();
            let code = answer["code"].as_str();
            let is_done = status.is_success() || (code.is_some() && code == change.code_of_done());
            let waits = matches!(code, Some("idempotency_in_flight" | "upload_in_progress" | "lease_lost"));
            assert!(is_done || waits, "{change:?}: {status} {text}");
            is_done
        })
        .await;
    }
}

fn start<'a>(left: &'a Path, server: Option<&'a S3Server>) -> Start<'a> {
    Start { lease: Some(LEASE), crash_file: Some(left), s3_endpoint: server.map(S3Server::endpoint) }
}

/// Items of a list that is one page.
async fn listed(user: &User, path: &str) -> Vec<Value> {
    let separator = if path.contains('?') { '&' } else { '?' };
    let page = body(user.get(&format!("{path}{separator}limit=100")).await, StatusCode::OK).await;
    assert!(page["next_cursor"].is_null(), "{path}");
    page["data"].as_array().unwrap().clone()
}

/// How many of a list have this text there.
async fn num_with(user: &User, path: &str, field: &str, text: &str) -> usize {
    listed(user, path).await.iter().filter(|item| item[field] == text).count()
}

#[tokio::test]
async fn publishing_ends_at_each_of_its_points_and_the_repeated_upload_makes_one_version() {
    let points = Field::new().await.through(adapters::PUBLISHING[0]).await;
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
async fn publishing_a_hook_ends_at_each_of_its_points_and_the_repeated_upload_makes_one_version() {
    let points = Field::new().await.through(hooks::PUBLISHING[0]).await;
    let expected = [
        // The key is claimed, then the number, and what it is compiled to is counted on.
        "before_commit",
        "after_commit",
        "before_commit",
        "after_commit",
        "before_commit",
        "after_commit",
        // Component and artifact are put in place.
        "object_staged",
        "object_placed",
        "object_staged",
        "object_placed",
        // The version can be attached.
        "before_commit",
        "after_commit",
    ];
    assert_eq!(points, expected);
}

#[tokio::test]
async fn deletions_of_hooks_end_at_each_of_their_points_and_leave_no_bytes() {
    let mut field = Field::new().await;
    for action in hooks::DELETIONS {
        let points = field.through(action).await;
        let num_removed = points.iter().filter(|point| *point == "object_removed").count();
        assert_eq!(num_removed, 2, "component and artifact: {action:?}: {points:?}");
    }
}

#[tokio::test]
async fn changes_of_hooks_and_pipelines_end_at_each_of_their_points() {
    check_commits(&hooks::TEXTS).await;
}

#[tokio::test]
async fn deletions_end_at_each_of_their_points_and_leave_no_bytes() {
    let mut field = Field::new().await;
    let mut seen = BTreeSet::new();
    for action in adapters::DELETIONS {
        let points = field.through(action).await;
        let num_removed = points.iter().filter(|point| *point == "object_removed").count();
        // Weights and manifest; the configuration is that of others, which is found out in a transaction of its own.
        assert!(num_removed >= 2, "{action:?}: {points:?}");
        assert_eq!(points[..2], ["before_commit", "after_commit"], "{action:?}");
        seen.extend(points);
    }
    seen.extend(["object_staged", "object_placed"].map(str::to_owned));
    assert_eq!(seen, CrashPoint::ALL.map(|point| point.as_str().to_owned()).into(), "every point is tried");
}

#[tokio::test]
async fn uploads_straight_to_the_store_end_at_each_of_their_points_and_go_on() {
    let mut field = Field::on(Some(S3Server::start().await)).await;
    let [begin, complete, abort] = adapters::UPLOADS;
    let begun = field.through(begin).await;
    let claimed_and_reserved = ["before_commit", "after_commit", "before_commit", "after_commit"];
    assert_eq!(begun[..4], claimed_and_reserved);
    assert_eq!(
        begun[4..],
        ["object_staged", "before_commit", "after_commit"],
        "begun in the store, left to the client"
    );
    let completed = field.through(complete).await;
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
    assert_eq!(field.through(abort).await, ["before_commit", "after_commit"]);
}

#[tokio::test]
async fn changes_of_adapters_versions_and_tags_end_at_each_of_their_points() {
    check_commits(&adapters::TEXTS).await;
}

#[tokio::test]
async fn changes_of_keys_tenants_and_services_end_at_each_of_their_points() {
    check_commits(&keys::ACTIONS).await;
}

#[tokio::test]
async fn changes_of_access_end_at_each_of_their_points() {
    check_commits(&access::ACTIONS).await;
}

#[tokio::test]
async fn changes_of_members_end_at_each_of_their_points() {
    check_commits(&people::OF_MEMBERS).await;
}

#[tokio::test]
async fn what_a_person_does_ends_at_each_of_its_points() {
    check_commits(&people::OF_PERSONS).await;
}

#[tokio::test]
async fn joining_by_the_form_of_a_page_ends_at_each_of_its_points_and_makes_one_member() {
    forms::check_joining(&mut Field::new().await).await;
}

#[tokio::test]
async fn an_erasure_of_a_tenant_ends_at_each_of_its_points_and_the_next_collector_goes_on() {
    erasure::check(&mut Field::new().await).await;
}

#[tokio::test]
async fn changes_of_teams_and_limits_end_at_each_of_their_points() {
    check_commits(&limits::ACTIONS).await;
}

#[tokio::test]
async fn changes_of_webhooks_end_at_each_of_their_points() {
    check_commits(&webhooks::ACTIONS).await;
}

#[tokio::test]
async fn writing_what_was_used_ends_at_each_of_its_points_and_what_is_sent_again_counts_once() {
    let mut field = Field::new().await;
    assert_eq!(usage::check(&mut field).await, ["before_commit", "after_commit"]);
}

/// Changes that are one transaction, after one that claims an Idempotency-Key where a route takes one.
async fn check_commits(actions: &[Action]) {
    let mut field = Field::new().await;
    for action in actions {
        let points = field.through(*action).await;
        let num_transactions = if takes_key(*action) { 2 } else { 1 };
        assert_eq!(points, ["before_commit", "after_commit"].repeat(num_transactions), "{action:?}");
    }
}

fn takes_key(action: Action) -> bool {
    matches!(
        action,
        Action::CreateTenant
            | Action::CreateService
            | Action::CreateKey
            | Action::RotateKey
            | Action::CreateAdapter
            | Action::CreateHook
            | Action::CreateInvitation
            | Action::CreateSignInLink
            | Action::RequestAccess
            | Action::CreateTeam
            | Action::CreateWebhook
            | Action::ReplayDelivery
    )
}
