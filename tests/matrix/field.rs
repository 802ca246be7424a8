//! The server that is asked, with its tenants, their keys and their adapters.

mod presented;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use souk_protocol::Scope;
use souk_registry::Role;
use souk_testkit::peft::{Files, Stored, Tensor, weights_file};
use tokio::time::Instant;

use crate::answer::Answer;
use crate::callers::{Caller, Port};
use crate::document::{Filled, Names, Route, Service};
use crate::expected::Expected;
use crate::stack::Stack;
use crate::subjects::Subject;
use presented::{OVER_AFTER, PUBLIC_URL, Presented, SHORT};

/// All that cells are asked of. Names count up, so that no cell meets what another has changed.
pub(crate) struct Field {
    stack: Stack,
    operators_url: String,
    http: Client,
    callers: Vec<(Caller, Presented)>,
    /// Keys of the tenants that have adapters.
    owners: BTreeMap<&'static str, String>,
    /// Adapters that cells only look at.
    looked_at: BTreeMap<Subject, String>,
    /// The publisher of acme whose keys [`Caller::Person`] and [`Caller::Decider`] present.
    person: String,
    /// When what [`Caller::TokenExpired`] presents counts nowhere any more.
    token_over_at: Instant,
    num_made: usize,
}

const ALL_BUT_ADMIN: [&str; 8] = [
    "inference",
    "adapters:read",
    "adapters:write",
    "keys:manage",
    "access:decide",
    "audit:read",
    "usage:read",
    "tenant:manage",
];

impl Field {
    pub(crate) async fn new() -> Self {
        let stack = Stack::start_with(&[
            ("SOUK_SERVER__ADMIN_LISTEN", "localhost:0"),
            ("SOUK_SERVER__PUBLIC_URL", PUBLIC_URL),
            ("SOUK_SIGN_IN__ATTEMPTS_PER_MINUTE", "1000000"),
            ("SOUK_REGISTRY__SELF_SERVICE", "true"),
            ("SOUK_REGISTRY__MAX_MEMBERS_PER_TENANT", "100000"),
        ]);
        let operators_url = stack.operators_url();
        let mut field = Self {
            stack,
            operators_url,
            http: Client::new(),
            callers: Vec::new(),
            owners: BTreeMap::new(),
            looked_at: BTreeMap::new(),
            person: String::new(),
            token_over_at: Instant::now(),
            num_made: 0,
        };
        for tenant in ["acme", "rival", "stranger"] {
            field.as_operator("tenants", json!({ "name": tenant })).await;
        }
        for tenant in ["acme", "rival"] {
            let (_, secret) = field.key(tenant, &ALL_BUT_ADMIN).await;
            field.owners.insert(tenant, secret);
        }
        let Presented::Session { cookie, .. } = field.session("acme", Role::Publisher).await else {
            unreachable!("it is a session")
        };
        field.person = field.person_of(&cookie).await;
        for caller in Caller::all() {
            let presented = field.presented_by(caller).await;
            field.callers.push((caller, presented));
        }
        field.token_over_at = Instant::now() + OVER_AFTER;
        for subject in Subject::ALL {
            let name = field.make(subject).await;
            field.looked_at.insert(subject, name);
        }
        tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
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
        self.num_made += 1;
        let mut names =
            Names { fresh: format!("n{}", self.num_made), scope: caller.gives(), ..Names::of_nothing(&adapter) };
        if expected == Expected::Done && route.path.contains("{request}") {
            names.request = self.request_for(route, caller).await;
        }
        let presented = self.known(caller).await;
        let (presented, names) =
            if changes { self.stage(route, caller, presented, names).await } else { (presented, names) };
        let filled = route.fill(&names);
        (adapter, self.send(&filled, &route.method, &presented, port).await)
    }

    /// Makes what the cell is to change, so that no other meets it changed.
    async fn stage(
        &self,
        route: &Route,
        caller: Caller,
        mut presented: Presented,
        mut names: Names,
    ) -> (Presented, Names) {
        if let Caller::Session(role) = caller {
            // What is done with a session is done with one of its own.
            presented = self.session("acme", role).await;
            names.secret = self.invite("rival", Role::Viewer).await.1;
        }
        let mut person = self.person.clone();
        if let (Caller::Session(_), Presented::Session { id, cookie, .. }) = (caller, &presented) {
            names.session.clone_from(id);
            person = self.person_of(cookie).await;
        }
        if route.path.ends_with("/services/{id}") {
            let service = self.as_operator("services", json!({ "name": "gateway-1" })).await;
            names.key = service["id"].as_str().unwrap().to_owned();
        } else if route.path.contains("/keys/{id}") {
            names.key = self.key(caller.tenant(), &[caller.gives()]).await.0;
            if caller.is_person() {
                self.give_to(&person, &names.key).await;
            }
        }
        if route.method == Method::DELETE && route.path.ends_with("/grants/{tenant}") {
            self.grant(&names.adapter, "stranger", None).await;
        }
        if route.path.contains("{person}") || route.path.contains("{subject}") {
            let Presented::Session { cookie, .. } = self.session(caller.tenant(), Role::Viewer).await else {
                unreachable!("it is a session")
            };
            names.person = self.person_of(&cookie).await;
        }
        if route.path.contains("{invitation}") {
            names.invitation = self.invite(caller.tenant(), Role::Viewer).await.0;
        }
        (presented, names)
    }

    /// Asks a path with another method and nothing in the body.
    pub(crate) async fn ask_with(&self, route: &Route, method: &Method, caller: Caller, port: Port) -> Answer {
        let adapter = self.looked_at[&Subject::Private].clone();
        let filled = Filled { json: None, is_upload: false, ..route.fill(&Names::of_nothing(&adapter)) };
        self.send(&filled, method, &self.known(caller).await, port).await
    }

    /// Asks a path of no route.
    pub(crate) async fn ask_path(&self, path: &str, method: &Method, caller: Caller, port: Port) -> Answer {
        let filled = Filled { path: path.to_owned(), query: Vec::new(), json: None, is_upload: false };
        self.send(&filled, method, &self.known(caller).await, port).await
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
        let filled = route.fill(&Names::of_nothing(&self.looked_at[&Subject::Private]));
        let filled = Filled { is_upload: false, ..filled };
        self.send(&filled, &route.method, &Presented::Key(presented.to_owned()), port).await
    }

    /// What a caller presents, once it is what it is to be.
    async fn known(&self, caller: Caller) -> Presented {
        if caller == Caller::TokenExpired {
            tokio::time::sleep_until(self.token_over_at).await;
        }
        self.callers.iter().find(|(one, _)| *one == caller).expect("every caller has one").1.clone()
    }

    async fn send(&self, filled: &Filled, method: &Method, presented: &Presented, port: Port) -> Answer {
        let base = if port == Port::Public { &self.stack.url } else { &self.operators_url };
        let mut request = self.http.request(method.clone(), format!("{base}{}", filled.path)).query(&filled.query);
        request = match presented {
            Presented::Key(key) if key.is_empty() => request,
            Presented::Key(key) => request.bearer_auth(key),
            Presented::Session { cookie, csrf, .. } => {
                request.header("cookie", cookie).header("origin", PUBLIC_URL).header("x-csrf-token", csrf)
            }
        };
        if let Some(body) = &filled.json {
            request = request.json(body);
        }
        if filled.is_upload {
            request = request.multipart(form("2.0.0", files(0)));
        }
        Answer::read(request.send().await.expect("an answer")).await
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
