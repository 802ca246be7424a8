//! What is added to the OpenAPI document that is made from the handlers: examples, and of the errors those that can occur.

use serde_json::Value;
use souk_http::document::{give_examples, operations};
use utoipa::IntoResponses as _;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use super::middleware::PREFIX;
use super::problem::Problems;
use crate::rights::{Needs, RULES};

/// A request and an answer of each operation, by its id.
const EXAMPLES: &str = include_str!("examples.json");

/// Completes a document that has all routes.
pub(super) fn complete(document: &mut OpenApi) {
    // What a handler says in words of its own stays.
    let common = Problems::responses();
    let schemas = serde_json::to_value(&document.components).expect("a document is JSON");
    for (path, method, operation) in operations(document) {
        let occurring = Occurring::of(path, method, operation, &schemas["schemas"]);
        operation
            .responses
            .responses
            .retain(|status, answer| occurring.has(status) || common.get(status) != Some(answer));
    }
    give_examples(document, EXAMPLES);
}

/// What decides which errors an operation can answer with.
struct Occurring {
    is_guarded: bool,
    /// Whether it says which: in its path, its query, its body or a header.
    says_something: bool,
    /// Whether it names something that may not be there.
    names_something: bool,
    has_body: bool,
    /// Whether a body is read, if only to be ignored.
    reads_body: bool,
    changes: bool,
    /// Whether it is about uploads that go straight to the store, which takes a bucket.
    is_of_upload: bool,
    is_kept: bool,
    is_judged: bool,
}

impl Occurring {
    fn of(path: &str, method: &str, operation: &Operation, schemas: &Value) -> Self {
        let below = path.strip_prefix(PREFIX).unwrap_or(path);
        let rule = RULES.iter().find(|rule| rule.method == method && rule.path == below);
        let parameters: Vec<_> = operation
            .parameters
            .iter()
            .flatten()
            .filter_map(|parameter| if let RefOr::T(parameter) = parameter { Some(parameter) } else { None })
            .collect();
        let body = serde_json::to_value(&operation.request_body).expect("a document is JSON");
        let fields = body["content"].as_object().into_iter().flatten().filter_map(|(_, content)| {
            let name = content["schema"]["$ref"].as_str()?.rsplit('/').next()?;
            schemas[name]["properties"].as_object()
        });
        let names_a_tenant = parameters.iter().any(|parameter| parameter.name == "tenant")
            || fields.into_iter().any(|fields| fields.contains_key("tenant"));
        let is_form = body["content"]["multipart/form-data"].is_object();
        Self {
            is_guarded: rule.is_none_or(|rule| rule.needs != Needs::Nothing),
            says_something: !parameters.is_empty() || !body.is_null(),
            names_something: path.contains('{') || names_a_tenant,
            has_body: !body.is_null(),
            reads_body: matches!(method, "POST" | "PUT" | "PATCH"),
            changes: method != "GET",
            is_of_upload: below.contains("/uploads"),
            is_kept: parameters
                .iter()
                .any(|parameter| parameter.parameter_in == ParameterIn::Header && parameter.name == "Idempotency-Key"),
            is_judged: is_form,
        }
    }

    fn has(&self, status: &str) -> bool {
        match status {
            "400" => self.says_something,
            "401" | "403" => self.is_guarded,
            "404" => self.names_something,
            "408" | "413" => self.reads_body,
            "409" => self.changes || self.is_of_upload,
            "415" => self.has_body,
            "422" => self.is_kept || self.is_judged,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use souk_http::document::lacks;

    #[test]
    fn every_operation_says_what_it_is_for_and_shows_a_request_and_an_answer() {
        assert_eq!(lacks(&mut crate::openapi()), Vec::<String>::new());
    }

    #[test]
    fn an_operation_names_the_errors_that_can_occur_and_no_others() {
        let document = serde_json::to_value(crate::openapi()).unwrap();
        let statuses = |path: &str, method: &str| {
            let responses = &document["paths"][format!("/registry/v1{path}")][method]["responses"];
            responses.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(statuses("/auth/jwks", "get"), ["200", "429", "5XX"]);
        assert_eq!(statuses("/tenants", "get"), ["200", "400", "401", "403", "429", "5XX"]);
        let created = ["201", "400", "401", "403", "408", "409", "413", "415", "422", "429", "5XX"];
        assert_eq!(statuses("/tenants", "post"), created);
        assert_eq!(
            statuses("/adapters/{owner}/{name}", "delete"),
            ["204", "400", "401", "403", "404", "409", "429", "5XX"]
        );
    }
}
