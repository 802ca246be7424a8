//! The server that is asked, with its tenants, their keys and their adapters.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use souk_protocol::Scope;
use souk_testkit::peft::{Files, Stored, Tensor, weights_file};

use crate::answer::Answer;
use crate::callers::{Caller, Port};
use crate::document::{Filled, Names, Route, Service};
use crate::expected::Expected;
use crate::stack::Stack;
use crate::subjects::Subject;

/// All that cells are asked of. Names count up, so that no cell meets what another has changed.
pub(crate) struct Field {
    stack: Stack,
    operators_url: String,
    http: Client,
    callers: Vec<(Caller, String)>,
    /// Keys of the tenants that have adapters.
    owners: BTreeMap<&'static str, String>,
    /// Adapters that cells only look at.
    looked_at: BTreeMap<Subject, String>,
    num_made: usize,
}

const ALL_BUT_ADMIN: [&str; 7] =
    ["inference", "adapters:read", "adapters:write", "keys:manage", "access:decide", "audit:read", "tenant:manage"];

/// The person whose key [`Caller::Person`] presents.
const PERSON: &str = "per_matrix";

impl Field {
    pub(crate) async fn new() -> Self {
        let stack = Stack::start_with(&[("SOUK_SERVER__ADMIN_LISTEN", "localhost:0")]);
        let operators_url = stack.operators_url();
        let (callers, owners, looked_at) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let mut field = Self { stack, operators_url, http: Client::new(), callers, owners, looked_at, num_made: 0 };
        for tenant in ["acme", "rival", "stranger"] {
            field.as_operator("tenants", json!({ "name": tenant })).await;
        }
        for tenant in ["acme", "rival"] {
            let (_, secret) = field.key(tenant, &ALL_BUT_ADMIN).await;
            field.owners.insert(tenant, secret);
        }
        for caller in Caller::all() {
            let key = field.key_of(caller).await;
            field.callers.push((caller, key));
        }
        for subject in Subject::ALL {
            let name = field.make(subject).await;
            field.looked_at.insert(subject, name);
        }
        // The short key lives for a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        field
    }

    /// Asks one cell; answers with the adapter's name, too.
    pub(crate) async fn ask(
        &mut self,
        route: &Route,
        caller: Caller,
        port: Port,
        subject: Subject,
        expected: Expected,
    ) -> (String, Answer) {
        let changes = route.service == Service::Registry && route.method != Method::GET && expected == Expected::Done;
        let adapter = match changes && route.names_an_adapter() {
            true => self.make(subject).await,
            false => self.looked_at[&subject].clone(),
        };
        let key = if changes && route.path.ends_with("/services/{id}") {
            self.as_operator("services", json!({ "name": "gateway-1" })).await["id"].as_str().unwrap().to_owned()
        } else if changes && route.path.contains("/keys/{id}") {
            let (id, _) = self.key(caller.tenant(), &[caller.gives()]).await;
            if caller.is_person() {
                self.give_to_person(&id).await;
            }
            id
        } else {
            // One that nobody may see, which is what it is to those who are refused before that matters.
            "key_0000000000".to_owned()
        };
        let request = match expected == Expected::Done && route.path.contains("{request}") {
            true => self.request_for(route, caller).await,
            false => "acr_0".to_owned(),
        };
        if changes && route.method == Method::DELETE && route.path.ends_with("/grants/{tenant}") {
            self.grant(&adapter, "stranger", None).await;
        }
        self.num_made += 1;
        let fresh = format!("n{}", self.num_made);
        let names = Names { adapter: adapter.clone(), key, request, fresh, scope: caller.gives() };
        let filled = route.fill(&names);
        (adapter, self.send(&filled, &route.method, caller, port).await)
    }

    /// Asks a path with another method and nothing in the body.
    pub(crate) async fn ask_with(&self, route: &Route, method: &Method, caller: Caller, port: Port) -> Answer {
        let adapter = self.looked_at[&Subject::Private].clone();
        let names = Names {
            adapter,
            key: "key_0".to_owned(),
            request: "acr_0".to_owned(),
            fresh: "n".to_owned(),
            scope: "inference",
        };
        let filled = Filled { json: None, is_upload: false, ..route.fill(&names) };
        self.send(&filled, method, caller, port).await
    }

    /// Asks a path of no route.
    pub(crate) async fn ask_path(&self, path: &str, method: &Method, caller: Caller, port: Port) -> Answer {
        let filled = Filled { path: path.to_owned(), query: Vec::new(), json: None, is_upload: false };
        self.send(&filled, method, caller, port).await
    }

    /// A service's key, and what it is exchanged for.
    pub(crate) async fn of_a_service(&self) -> [String; 2] {
        let made = self.as_operator("services", json!({ "name": "gateway-1" })).await;
        let key = made["secret"].as_str().unwrap().to_owned();
        let exchanged = created(self.registry(Method::POST, "internal/token", &key)).await;
        let token = exchanged["access_token"].as_str().unwrap().to_owned();
        [key, token]
    }

    /// Asks a route with whatever is presented.
    pub(crate) async fn ask_as(&self, route: &Route, presented: &str, port: Port) -> Answer {
        let adapter = self.looked_at[&Subject::Private].clone();
        let (key, request) = ("key_0".to_owned(), "acr_0".to_owned());
        let names = Names { adapter, key, request, fresh: "n".to_owned(), scope: "inference" };
        let filled = route.fill(&names);
        let base = if port == Port::Public { &self.stack.url } else { &self.operators_url };
        let mut request =
            self.http.request(route.method.clone(), format!("{base}{}", filled.path)).query(&filled.query);
        if let Some(body) = &filled.json {
            request = request.json(body);
        }
        Answer::read(request.bearer_auth(presented).send().await.expect("an answer")).await
    }

    async fn send(&self, filled: &Filled, method: &Method, caller: Caller, port: Port) -> Answer {
        let base = if port == Port::Public { &self.stack.url } else { &self.operators_url };
        let mut request = self.http.request(method.clone(), format!("{base}{}", filled.path)).query(&filled.query);
        if caller != Caller::Nobody {
            let (_, key) = self.callers.iter().find(|(one, _)| *one == caller).expect("every caller has one");
            request = request.bearer_auth(key);
        }
        if let Some(body) = &filled.json {
            request = request.json(body);
        }
        if filled.is_upload {
            request = request.multipart(form("2.0.0", files(0)));
        }
        Answer::read(request.send().await.expect("an answer")).await
    }

    async fn key_of(&self, caller: Caller) -> String {
        match caller {
            Caller::Nobody => String::new(),
            Caller::Garbage => "souk_what_this_is".to_owned(),
            Caller::Revoked => {
                let (id, secret) = self.key("acme", &ALL_BUT_ADMIN).await;
                let revoked = self.operator(Method::DELETE, &format!("keys/{id}")).send().await.unwrap();
                assert_eq!(revoked.status(), 204);
                secret
            }
            Caller::Expired => {
                let soon = time::OffsetDateTime::from(souk_protocol::wall_clock::now()) + Duration::from_secs(1);
                let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
                let key = json!({ "name": "short", "scopes": ALL_BUT_ADMIN, "tenant": "acme", "expires_at": soon });
                self.as_operator("keys", key).await["secret"].as_str().unwrap().to_owned()
            }
            Caller::Only(scope) => self.key("acme", &[scope.as_str()]).await.1,
            Caller::Owner => self.owners["acme"].clone(),
            Caller::Person => {
                let (id, secret) = self.key("acme", &["inference", "adapters:read"]).await;
                self.give_to_person(&id).await;
                secret
            }
            Caller::Decider => {
                let (id, secret) = self.key("acme", &["adapters:read", "access:decide"]).await;
                self.give_to_person(&id).await;
                secret
            }
            Caller::Stranger => self.key("stranger", &ALL_BUT_ADMIN).await.1,
            Caller::Operator => self.stack.admin_key.clone(),
        }
    }

    /// A new adapter with version 1.0.0, which the tag `prod` names; of what is absent, the name alone.
    async fn make(&mut self, subject: Subject) -> String {
        self.num_made += 1;
        let (owner, short) = (subject.owner(), format!("a{}", self.num_made));
        let name = format!("{owner}/{short}");
        if subject == Subject::Absent {
            return name;
        }
        let visibility = subject.visibility();
        let post = |path: &str| self.registry(Method::POST, path, &self.owners[owner]);
        created(post("adapters").json(&json!({ "name": short, "visibility": visibility }))).await;
        created(post(&format!("adapters/{name}/versions")).multipart(form("1.0.0", files(self.num_made)))).await;
        let tag = self.registry(Method::PUT, &format!("adapters/{name}/tags/prod"), &self.owners[owner]);
        created(tag.json(&json!({ "version": "1.0.0" }))).await;
        if subject.is_taken_down() {
            self.as_operator(&format!("adapters/{name}/versions/1.0.0/take-down"), json!({ "reason": "a test" })).await;
        }
        if subject.was_granted() {
            self.grant(&name, "acme", (!subject.is_granted()).then_some(1)).await;
        }
        name
    }

    /// Grants an adapter to a tenant, in the server's database, until a moment that may have passed.
    async fn grant(&self, adapter: &str, tenant: &str, expires_at_ms: Option<i64>) {
        let (owner, name) = adapter.split_once('/').unwrap();
        let expires = expires_at_ms.map_or_else(|| "NULL".to_owned(), |at_ms| at_ms.to_string());
        self.in_database(&format!(
            "INSERT INTO adapter_grants \
             (adapter_id, tenant_id, owner, name, expires_at_ms, note, granted_at_ms, granted_by) \
             SELECT a.id, t.id, a.owner, a.name, {expires}, '', 0, 'matrix' FROM adapters a, tenants t \
             WHERE a.owner = '{owner}' AND a.name = '{name}' AND t.name = '{tenant}'"
        ))
        .await;
    }

    /// The id of a request that the caller may take the route's step with.
    async fn request_for(&mut self, route: &Route, caller: Caller) -> String {
        let step = route.path.rsplit('/').next().unwrap();
        let is_of_owner = matches!(step, "approve" | "reject" | "revoke");
        // What is decided was asked for by a stranger; the caller's own is for what rival has.
        let (subject, asker) =
            if is_of_owner { (Subject::Gated, "stranger") } else { (Subject::OthersGated, caller.tenant()) };
        let (adapter, (_, key)) = (self.make(subject).await, self.key(asker, &["adapters:read"]).await);
        let path = format!("adapters/{adapter}/access-requests");
        let asked = created(self.registry(Method::POST, &path, &key).json(&json!({}))).await;
        let id = asked["id"].as_str().unwrap().to_owned();
        if step == "revoke" {
            self.as_operator(&format!("access-requests/{id}/approve"), json!({})).await;
        }
        id
    }

    /// Id and secret of a new key.
    async fn key(&self, tenant: &str, scopes: &[&str]) -> (String, String) {
        // Keys that may `admin` are made for the tenant of operators or for another; the table treats them alike.
        let made = self.as_operator("keys", json!({ "name": "k", "scopes": scopes, "tenant": tenant })).await;
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{made} has no {name}")).to_owned();
        (text("id"), text("secret"))
    }

    /// Makes a key the person's, in the server's database: it signs nobody in.
    async fn give_to_person(&self, key: &str) {
        self.in_database(&format!("UPDATE api_keys SET person_id = '{PERSON}' WHERE id = '{key}'")).await;
    }

    async fn in_database(&self, statement: &str) {
        let db = souk_registry::open_sqlite(&self.stack.data_dir().join("registry.sqlite")).await.unwrap();
        db.execute_unprepared(statement).await.unwrap();
        db.close().await.unwrap();
    }

    async fn as_operator(&self, path: &str, body: Value) -> Value {
        created(self.operator(Method::POST, path).json(&body)).await
    }

    fn operator(&self, method: Method, path: &str) -> RequestBuilder {
        self.registry(method, path, &self.stack.admin_key)
    }

    fn registry(&self, method: Method, path: &str, key: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/registry/v1/{path}", self.operators_url)).bearer_auth(key)
    }
}

async fn created(request: RequestBuilder) -> Value {
    let answer = request.send().await.expect("an answer");
    let (status, text) = (answer.status(), answer.text().await.expect("a body"));
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

/// Rank 1 on one projection of the first layer. Take-downs are of content, so each has its own.
fn files(number: usize) -> Files {
    let path = "layers.0.self_attn.q_proj";
    let mut a = Tensor::new(path, "lora_A.weight", Stored::F32, &[1, 576]);
    a.values[0] = number as f32;
    let b = Tensor::new(path, "lora_B.weight", Stored::F32, &[576, 1]);
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "bias": "none", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"], "layers_to_transform": [0],
    });
    Files { config: config.to_string().into_bytes(), weights: weights_file(&[a, b]) }
}

fn form(version: &str, files: Files) -> Form {
    Form::new()
        .text("version", version.to_owned())
        .part("adapter_config.json", Part::bytes(files.config))
        .part("adapter_model.safetensors", Part::bytes(files.weights))
}

/// The scopes that [`ALL_BUT_ADMIN`] names are those that there are.
#[test]
fn no_scope_is_left_out() {
    let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let named: Vec<&str> = ALL_BUT_ADMIN.into_iter().chain(["admin"]).collect();
    assert_eq!(all, named);
}
