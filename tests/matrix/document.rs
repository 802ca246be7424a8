//! The routes as the OpenAPI documents list them, and requests that fill in what each asks for.

use std::fmt;

use reqwest::Method;
use serde_json::{Map, Value, json};
use souk_protocol::Digest;
use souk_registry::RULES;

use crate::stack::repository;

/// Whose route it is, which decides how it says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Gateway,
    Registry,
}

/// One method of one path.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) service: Service,
    pub(crate) method: Method,
    /// With names in braces, as the document has it.
    pub(crate) path: String,
    /// Whether a key is asked for.
    pub(crate) is_guarded: bool,
    /// Statuses that the document names: `200`, `4XX`.
    pub(crate) responses: Vec<String>,
    /// Names of its parameters, with where they are and whether they must be there.
    parameters: Vec<(String, String, bool)>,
    /// What the body may have, and what it must have; empty without a body.
    body: Option<Body>,
}

#[derive(Clone, Debug)]
struct Body {
    is_form: bool,
    /// Whether it is a list of objects.
    is_list: bool,
    properties: Vec<String>,
    required: Vec<String>,
}

/// What a request says, beside its method.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filled {
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) json: Option<Value>,
    /// Whether it brings an adapter's files.
    pub(crate) is_upload: bool,
}

/// What names stand for in a request.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// `owner/name` of an adapter.
    pub(crate) adapter: String,
    /// The id of a key that the caller may revoke.
    pub(crate) key: String,
    /// The id of a request for access that the caller may take a step with.
    pub(crate) request: String,
    /// What nothing is called yet.
    pub(crate) fresh: String,
    /// A scope that the caller can give away.
    pub(crate) scope: &'static str,
    /// The id of a member of the caller's tenant, a viewer.
    pub(crate) person: String,
    /// The id of one of the caller's sessions.
    pub(crate) session: String,
    /// The id of an open invitation of the caller's tenant.
    pub(crate) invitation: String,
    /// The end of the link of another tenant's invitation.
    pub(crate) secret: String,
}

impl Names {
    /// Names that nothing has, for an adapter.
    pub(crate) fn of_nothing(adapter: &str) -> Self {
        // Ones that nobody may see, which is what they are to those who are refused before that matters.
        let nothing = |prefix: &str| format!("{prefix}_0000000000");
        Self {
            adapter: adapter.to_owned(),
            key: nothing("key"),
            request: nothing("acr"),
            fresh: "n".to_owned(),
            scope: "inference",
            person: nothing("per"),
            session: nothing("ses"),
            invitation: nothing("inv"),
            secret: nothing("inv"),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Route {
    /// Whether it is about an adapter, which may be private or not be there.
    pub(crate) fn names_an_adapter(&self) -> bool {
        self.path.contains("{name}") || (self.service == Service::Gateway && self.has("model"))
    }

    fn has(&self, name: &str) -> bool {
        let in_body = self.body.as_ref().is_some_and(|body| body.properties.iter().any(|property| property == name));
        in_body || self.path == "/v1/models/{id}" || self.parameters.iter().any(|(parameter, ..)| parameter == name)
    }

    /// A request that lacks nothing.
    ///
    /// # Panics
    /// If the route asks for what this does not know, with its name: tell [`Route::parameter`] or [`Route::property`].
    pub(crate) fn fill(&self, names: &Names) -> Filled {
        let (mut path, mut query) = (self.path.clone(), Vec::new());
        for (name, place, is_required) in &self.parameters {
            let value = self.parameter(name, names);
            match (place.as_str(), value) {
                ("path", Some(value)) => path = path.replace(&format!("{{{name}}}"), &value),
                ("query", Some(value)) => query.push((name.clone(), value)),
                (_, None) if !is_required => {}
                _ => panic!("{self}: the matrix does not know what to give for the {place} parameter `{name}`"),
            }
        }
        assert!(!path.contains('{'), "{self}: a name in the path is no parameter of the document");
        let is_upload = self.body.as_ref().is_some_and(|body| body.is_form);
        let json = self.body.as_ref().filter(|body| !body.is_form).map(|body| self.json(body, names));
        Filled { path, query, json, is_upload }
    }

    fn parameter(&self, name: &str, names: &Names) -> Option<String> {
        let (owner, adapter) = names.adapter.split_once('/').expect("an adapter has an owner");
        let value = match (self.service, name) {
            (Service::Gateway, "id" | "model") => &format!("{}@1.0.0", names.adapter),
            (Service::Registry, "id") => &names.key,
            (Service::Registry, "person") => &names.person,
            (Service::Registry, "session") => &names.session,
            (Service::Registry, "invitation") => &names.invitation,
            (Service::Registry, "owner") if self.path.contains("{owner}") => owner,
            (Service::Registry, "name") => adapter,
            (Service::Registry, "version") => "1.0.0",
            (Service::Registry, "tag") => "prod",
            (Service::Registry, "request") => &names.request,
            (Service::Registry, "file") => "manifest.json",
            // One that nothing else is asked of.
            (Service::Registry, "tenant") if self.path.contains("{tenant}") => "stranger",
            (Service::Registry, "webhook") => "whk_0",
            (Service::Registry, "hook") => "h0",
            (Service::Registry, "at") => "route",
            (Service::Registry, "target") => "chat",
            (Service::Registry, "team") => "team_0",
            (Service::Registry, "level") => "member",
            (Service::Registry, "subject") => &names.person,
            (Service::Registry, "used_request") => "req_0",
            (Service::Registry, "delivery") => "dlv_0",
            (Service::Registry, "upload") => "upl_0",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn json(&self, body: &Body, names: &Names) -> Value {
        let mut object = Map::new();
        for property in &body.properties {
            match self.property(property, names) {
                Some(value) => drop(object.insert(property.clone(), value)),
                None => assert!(
                    !body.required.contains(property),
                    "{self}: the matrix does not know what to give for the field `{property}`"
                ),
            }
        }
        if body.is_list { json!([object]) } else { Value::Object(object) }
    }

    fn property(&self, name: &str, names: &Names) -> Option<Value> {
        let chat = self.path.contains("chat");
        Some(match (self.service, name) {
            (Service::Gateway, "model") => json!(format!("{}@1.0.0", names.adapter)),
            (Service::Gateway, "prompt") => json!("Once"),
            (Service::Gateway, "messages") if chat => json!([{ "role": "user", "content": "Hi" }]),
            (Service::Gateway, "max_tokens" | "max_completion_tokens") => json!(1),
            (Service::Gateway, "tokens") => json!([1, 2]),
            (Service::Registry, "name") => json!(names.fresh),
            // A policy without bounds, so that other cells make what keys they like.
            (Service::Registry, "scopes") if self.path.ends_with("/policy") => return None,
            (Service::Registry, "scopes") => json!([names.scope]),
            (Service::Registry, "token") => json!("no key"),
            (Service::Registry, "version") => json!("1.0.0"),
            // A name that never means anything.
            (Service::Registry, "url") => json!("https://hooks.invalid/"),
            (Service::Registry, "digest") => json!(Digest::of(b"a matrix").to_string()),
            (Service::Registry, "size_bytes") => json!(8),
            (Service::Registry, "parts") => json!([{ "number": 1, "digest": Digest::of(b"a matrix").to_string() }]),
            (Service::Registry, "reason" | "description") => json!("a matrix"),
            (Service::Registry, "questions" | "steps") => json!([]),
            // Of no pipeline: they are numbered from 1.
            (Service::Registry, "number") => json!(0),
            (Service::Registry, "limits") if self.path.ends_with("/hook-limits") => json!({ "max_fuel": 1_000_000 }),
            (Service::Registry, "limits") => json!({ "tokens_per_day": { "value": 100 } }),
            (Service::Registry, "role") => json!("viewer"),
            (Service::Registry, "email") => json!("m@example.com"),
            (Service::Registry, "secret") => json!(names.secret),
            (Service::Registry, "code" | "verifier") => json!("a matrix"),
            (Service::Registry, "tenant") if self.path.ends_with("/auth/session/tenant") => json!("acme"),
            _ => return None,
        })
    }
}

/// All of both documents, as CI compares them with the code.
pub(crate) fn routes() -> Vec<Route> {
    let read = |service, name: &str| {
        let text = std::fs::read_to_string(repository().join("openapi").join(name)).expect("the document is there");
        let document: Value = serde_json::from_str(&text).expect("it is JSON");
        routes_of(service, &document)
    };
    let (gateway, registry) = (read(Service::Gateway, "gateway.json"), read(Service::Registry, "registry.json"));
    assert_eq!(registry.len(), RULES.len(), "a row in the table of rights for each route");
    assert!(gateway.len() >= 10, "{} routes", gateway.len());
    gateway.into_iter().chain(registry).collect()
}

/// A route of every path.
pub(crate) fn one_of_each_path(routes: &[Route]) -> impl Iterator<Item = &Route> {
    let is_first = |at: usize| routes[..at].iter().all(|other| other.path != routes[at].path);
    routes.iter().enumerate().filter(move |(at, _)| is_first(*at)).map(|(_, route)| route)
}

fn routes_of(service: Service, document: &Value) -> Vec<Route> {
    let by_default = document.get("security");
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations").iter().filter(|(key, _)| is_method(key))
        {
            let security = operation.get("security").or(by_default).and_then(Value::as_array);
            let is_guarded = security.is_some_and(|ways| ways.iter().any(|way| way.get("api_key").is_some()));
            let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| {
                let text = |name: &str| parameter[name].as_str().expect("a parameter says it").to_owned();
                (text("name"), text("in"), parameter["required"] == true)
            });
            routes.push(Route {
                service,
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                is_guarded,
                responses: operation["responses"].as_object().expect("responses").keys().cloned().collect(),
                parameters: parameters.collect(),
                body: body_of(document, operation),
            });
        }
    }
    routes
}

fn is_method(key: &str) -> bool {
    ["get", "put", "post", "delete", "options", "head", "patch", "trace"].contains(&key)
}

fn body_of(document: &Value, operation: &Value) -> Option<Body> {
    let content = operation["requestBody"]["content"].as_object()?;
    let (kind, body) = content.iter().next().expect("a body has a type");
    let is_list = body["schema"]["type"] == "array";
    let (properties, required) = (Vec::new(), Vec::new());
    let mut found = Body { is_form: kind == "multipart/form-data", is_list, properties, required };
    assert!(found.is_form || kind == "application/json", "the matrix does not know how to send {kind}");
    let schema = if is_list { &body["schema"]["items"] } else { &body["schema"] };
    collect_properties(document, schema, &mut found);
    Some(found)
}

/// The properties of an object, of what it refers to, and of all that it is made of.
fn collect_properties(document: &Value, schema: &Value, body: &mut Body) {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        collect_properties(document, document.pointer(pointer).expect("it leads somewhere"), body);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        collect_properties(document, part, body);
    }
    body.properties.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    body.required.extend(required.map(str::to_owned));
}

#[test]
fn a_route_that_cannot_be_filled_is_named() {
    let document = json!({ "paths": { "/registry/v1/x/{frob}": { "get": {
        "parameters": [{ "name": "frob", "in": "path", "required": true }], "responses": { "200": {} },
    } } } });
    let route = routes_of(Service::Registry, &document).remove(0);
    let names = Names::of_nothing("a/b");
    let panic = std::panic::catch_unwind(|| route.fill(&names)).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("GET /registry/v1/x/{frob}") && message.contains("`frob`"), "{message}");
}
