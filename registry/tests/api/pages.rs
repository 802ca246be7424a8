//! Every list of the document in pages of one, while rows are put in before, between and behind: what was there from the
//! start is seen once, whatever else comes.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::StatusCode;
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use souk_protocol::hooks::{HookLine, HookTold};
use souk_protocol::{HookVersionId, TenantId};
use souk_testkit_s3::S3Server;

use crate::browser::{Browser, invite};
use crate::components::component;
use crate::support::{AdapterFiles, Stack, User, announcement, body, s3_at};

/// Lists that are facts about the installation, as long as the operator made them, and a person's sessions, of which no
/// more than fifty live.
const WHOLE: [&str; 3] = ["/base-models", "/auth/jwks", "/auth/sessions"];
/// Lists that grow by the hour alone: `audit` has their pages.
const BY_THE_HOUR: [&str; 1] = ["/audit/heads"];

struct Field {
    stack: Stack,
    _server: S3Server,
    acme: User,
    /// Who may read and manage the tenant, and decide on access.
    manager: User,
    /// Whose adapters others ask for.
    partner: User,
    /// The id of one.
    webhook: String,
}

/// Paths of lists, with whether each can be asked for in pages.
fn lists() -> Vec<(String, bool)> {
    let document = serde_json::to_value(souk_registry::openapi()).unwrap();
    let mut lists = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let Some(operation) = operations.get("get") else { continue };
        let id = operation["operationId"].as_str().unwrap();
        if id.starts_with("list_") {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let has =
                |name: &str| parameters.iter().any(|parameter| parameter["name"] == name && parameter["in"] == "query");
            lists.push((path.strip_prefix("/registry/v1").unwrap().to_owned(), has("limit") && has("cursor")));
        }
    }
    lists
}

impl Field {
    async fn new() -> Self {
        let server = S3Server::start().await;
        let stack = Stack::start_with(|config| {
            config.objects = s3_at(server.endpoint());
            // Nothing is sent meanwhile.
            config.settings.webhooks.look_every = Duration::from_secs(3600);
            config.settings.webhooks.max_endpoints_per_tenant = 100;
        })
        .await;
        let acme = stack.tenant("acme").await;
        let manager = stack
            .key_for("acme", &["tenant:manage", "adapters:read", "audit:read", "usage:read", "access:decide"])
            .await;
        let hook = json!({ "url": "https://hooks.invalid/", "kinds": ["version.ready"] });
        let hook = body(manager.post("/webhooks", hook).await, StatusCode::CREATED).await;
        let webhook = id_of(&hook);
        let partner = stack.tenant("partner").await;
        acme.make_adapter("pages", "private").await;
        acme.make_adapter("gated", "gated").await;
        for number in ["50.0.0", "51.0.0", "52.0.0"] {
            acme.publish("acme/pages", number, 1).await;
        }
        acme.make_hook("pages", "shared").await;
        acme.publish_hook("acme/pages", "50.0.0", 1).await;
        Self { stack, _server: server, acme, manager, partner, webhook }
    }

    /// Puts a row into a list; `place` is where its name or number lies among others.
    async fn put_into(&self, path: &str, place: u32) {
        let (admin, acme) = (&self.stack.admin, &self.acme);
        let name = format!("m{place:03}");
        let made = match path {
            "/tenants" => admin.post(path, json!({ "name": name })).await,
            "/services" => admin.post(path, json!({ "name": name })).await,
            "/webhooks" => self.manager.post(path, json!({ "url": format!("https://hooks.invalid/{name}") })).await,
            // A version is an entry and, for the webhook, a delivery.
            "/audit" | "/webhooks/{webhook}/deliveries" => {
                let number = format!("{place}.{}.0", path.len());
                acme.upload("acme/pages", &number, &AdapterFiles::tiny(1)).await
            }
            "/keys" => acme.post(path, json!({ "name": name, "scopes": ["inference"] })).await,
            "/adapters" => acme.post(path, json!({ "name": name })).await,
            "/adapters/{owner}/{name}/versions" => {
                acme.upload("acme/pages", &format!("{place}.1.0"), &AdapterFiles::tiny(1)).await
            }
            "/adapters/{owner}/{name}/tags" => {
                acme.put(&format!("/adapters/acme/pages/tags/{name}"), json!({ "version": "50.0.0" })).await
            }
            "/adapters/{owner}/{name}/uploads" => {
                acme.post("/adapters/acme/pages/uploads", announcement(&format!("{place}.2.0"), b"weights")).await
            }
            "/adapters/{owner}/{name}/grants" => {
                self.stack.tenant(&format!("granted-{name}")).await;
                self.manager.put(&format!("/adapters/acme/pages/grants/granted-{name}"), json!({})).await
            }
            "/hooks" => acme.post(path, json!({ "name": name })).await,
            "/hooks/{owner}/{hook}/versions" => {
                acme.upload_hook("acme/pages", &format!("{place}.1.0"), component(1)).await
            }
            "/hooks/{owner}/{hook}/grants" => {
                self.stack.tenant(&format!("given-{name}")).await;
                self.manager.put(&format!("/hooks/acme/pages/grants/given-{name}"), json!({})).await
            }
            "/hooks/{owner}/{hook}/lines" => return self.have_said(&name).await,
            "/pipelines" => {
                let key = acme.post("/keys", json!({ "name": name, "scopes": ["inference"] })).await;
                let path = format!("/pipelines/key/{}", id_of(&body(key, StatusCode::CREATED).await));
                self.manager.put(&path, steps(&name)).await
            }
            "/pipelines/{at}/{target}/history" => self.manager.put("/pipelines/route/chat", steps(&name)).await,
            "/adapters/{owner}/{name}/versions/{version}/pipeline/history" => {
                acme.put("/adapters/acme/pages/versions/50.0.0/pipeline", steps(&name)).await
            }
            "/members" => {
                let link = invite(&self.stack, "acme", &format!("{name}@example.com"), "viewer").await;
                Browser::new(&self.stack).join(&link).await;
                return;
            }
            "/teams" => self.manager.post(path, json!({ "name": name })).await,
            "/limits" => {
                let key = body(
                    acme.post("/keys", json!({ "name": name, "scopes": ["inference"] })).await,
                    StatusCode::CREATED,
                );
                let path = format!("/limits/key/{}", id_of(&key.await));
                self.manager.patch(&path, json!({ "limits": { "requests_per_minute": { "value": place } } })).await
            }
            "/usage/requests" => {
                let of = self.stack.principal(acme).await;
                let ago_ms = u64::from(place) * 1000;
                let now_ms = u64::try_from(souk_protocol::wall_clock::since_epoch().as_millis()).unwrap();
                let used = souk_testkit::usage::request(&of.tenant, of.key.as_str(), now_ms - ago_ms, (1, 1));
                self.stack.registry.write_usage(&[used]).await.unwrap();
                return;
            }
            "/invitations" => {
                let asked = json!({ "email": format!("{name}@example.com"), "role": "viewer" });
                self.manager.post("/invitations", asked).await
            }
            "/access-requests" => {
                self.partner.make_adapter(&name, "gated").await;
                acme.post(&format!("/adapters/partner/{name}/access-requests"), json!({})).await
            }
            "/access-requests/received" => {
                let asker = self.stack.tenant(&format!("asker-{name}")).await;
                asker.post("/adapters/acme/gated/access-requests", json!({})).await
            }
            _ => panic!("{path} is a list that this test does not know how to fill"),
        };
        assert!(made.status().is_success(), "{path}: {}", made.text().await.unwrap());
    }

    /// Has the hook say something.
    async fn have_said(&self, text: &str) {
        let db = self.stack.database().await;
        let query = Statement::from_string(db.get_database_backend(), "SELECT min(id) AS id FROM hook_versions");
        let id: String = db.query_one_raw(query).await.unwrap().unwrap().try_get("", "id").unwrap();
        let line = HookLine {
            version: HookVersionId::from_stored(id),
            tenant: TenantId::from_stored("ten_1"),
            at_ms: 1,
            request: None,
            what: HookTold::Log { level: "info".to_owned(), text: text.to_owned() },
        };
        self.stack.registry.write_hook_lines(&[line]).await.unwrap();
    }

    async fn page(&self, path: &str, query: &str) -> Value {
        let user = match path {
            "/tenants" | "/services" => &self.stack.admin,
            _ if path.starts_with("/audit") || path.starts_with("/webhooks") => &self.manager,
            "/teams" | "/limits" | "/usage/requests" => &self.manager,
            _ if path.starts_with("/pipelines") => &self.manager,
            _ if path.ends_with("/grants")
                || path.ends_with("/received")
                || path.ends_with("/members")
                || path.ends_with("/invitations") =>
            {
                &self.manager
            }
            _ => &self.acme,
        };
        let path = path.replace("{owner}", "acme").replace("{name}", "pages").replace("{webhook}", &self.webhook);
        let path = path.replace("{hook}", "pages").replace("{version}", "50.0.0");
        let path = path.replace("{at}", "route").replace("{target}", "chat");
        body(user.get(&format!("{path}?{query}")).await, StatusCode::OK).await
    }
}

/// Steps that no other change has.
fn steps(word: &str) -> Value {
    json!({ "steps": [{ "hook": "acme/pages@50.0.0", "config": { "words": [word] } }] })
}

fn id_of(item: &Value) -> String {
    // Entries have a number within their chain, pipelines one within their target, grants the tenant that they are to, members the
    // person, limits the subject, lines a text.
    if item["steps"].is_array() {
        return format!("{} {} {}", item["at"], item["target"], item["number"]);
    }
    if item["number"].is_number() {
        return item["number"].to_string();
    }
    let id = ["id", "tenant", "person", "subject", "text"].iter().find_map(|name| item[*name].as_str());
    id.unwrap().to_owned()
}

#[tokio::test]
async fn what_was_in_a_list_from_the_start_is_seen_once_while_others_are_put_in() {
    let field = Field::new().await;
    let lists = lists();
    assert!(lists.len() >= 8, "{lists:?}");
    for (path, is_paged) in lists {
        if WHOLE.contains(&path.as_str()) {
            continue;
        }
        assert!(is_paged, "{path} has no `limit` and `cursor`");
        if BY_THE_HOUR.contains(&path.as_str()) {
            continue;
        }
        for place in [40, 60, 80] {
            field.put_into(&path, place).await;
        }
        let whole = field.page(&path, "limit=100").await;
        assert!(whole["next_cursor"].is_null(), "{path}");
        let from_the_start: BTreeSet<_> = whole["data"].as_array().unwrap().iter().map(id_of).collect();
        assert!(from_the_start.len() >= 3, "{path}: {whole}");
        let (mut seen, mut cursor, mut num_pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = field.page(&path, &format!("limit=1{cursor}")).await;
            let data = page["data"].as_array().unwrap();
            assert_eq!(data.len(), 1, "{path}: {page}");
            seen.push(id_of(&data[0]));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
            // Before all others, between them, and behind them, for as long as the walk could be kept from its end.
            if num_pages < 3 {
                for place in [10 + num_pages, 70 + num_pages, 90 + num_pages] {
                    field.put_into(&path, place).await;
                }
            }
            num_pages += 1;
            assert!(num_pages < 100, "{path} has no end");
        }
        let once: BTreeSet<_> = seen.iter().cloned().collect();
        assert_eq!(once.len(), seen.len(), "{path} repeats: {seen:?}");
        let missed: Vec<_> = from_the_start.difference(&once).collect();
        assert!(missed.is_empty(), "{path} misses {missed:?}");
    }
}
