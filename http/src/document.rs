//! Completing OpenAPI documents that are made from code.

use serde_json::Value;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{Content, OpenApi, RefOr};

/// Every operation of a document, with its path and its method in capitals.
pub fn operations(document: &mut OpenApi) -> impl Iterator<Item = (&str, &'static str, &mut Operation)> {
    document.paths.paths.iter_mut().flat_map(|(path, item)| {
        let PathItem { get, put, post, delete, patch, .. } = item;
        let methods = [("GET", get), ("PUT", put), ("POST", post), ("DELETE", delete), ("PATCH", patch)];
        let path = path.as_str();
        methods.into_iter().filter_map(move |(method, operation)| Some((path, method, operation.as_mut()?)))
    })
}

/// Gives requests and successes their examples: `examples` is a JSON object with, for each operation's id, what of
/// `request` (the body), `answer` (the body of a success) and `text` (where that is no JSON) the operation has.
///
/// # Panics
/// If `examples` is no such object: it is a part of the program.
pub fn give_examples(document: &mut OpenApi, examples: &str) {
    let examples: Value = serde_json::from_str(examples).expect("examples are JSON");
    for (_, _, operation) in operations(document) {
        let of = &examples[operation.operation_id.as_deref().unwrap_or_default()];
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            body.content.values_mut().for_each(|content| give(content, &of["request"]));
        }
        let successes = operation.responses.responses.iter_mut().filter(|(status, _)| status.starts_with('2'));
        for (_, response) in successes {
            let RefOr::T(response) = response else { continue };
            for (kind, content) in &mut response.content {
                give(content, &of[if kind == "application/json" { "answer" } else { "text" }]);
            }
        }
    }
}

fn give(content: &mut RefOr<Content>, example: &Value) {
    if let RefOr::T(content) = content
        && !example.is_null()
    {
        content.example = Some(example.clone());
    }
}

/// Types of answers that are no text.
const BYTES: [&str; 2] = ["application/octet-stream", "application/wasm"];

/// All that a document lacks: a summary, a description, an id of its own or a tag of an operation, the description of a tag
/// or a response, the example of a body.
#[must_use]
pub fn lacks(document: &mut OpenApi) -> Vec<String> {
    let tags: Vec<_> = document.tags.iter().flatten().map(|tag| tag.name.clone()).collect();
    let (mut lacks, mut ids) = (Vec::new(), Vec::new());
    for (path, method, operation) in operations(document) {
        let mut lack = |what: &str| lacks.push(format!("{method} {path}: {what}"));
        let has = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.trim().is_empty());
        if !has(&operation.summary) {
            lack("a summary");
        }
        if !has(&operation.description) {
            lack("a description");
        }
        match &operation.operation_id {
            Some(id) if !ids.contains(id) => ids.push(id.clone()),
            _ => lack("an id of its own"),
        }
        let own = operation.tags.iter().flatten();
        if own.clone().count() != 1 || !own.clone().all(|tag| tags.contains(tag)) {
            lack("one tag that the document describes");
        }
        if let Some(RefOr::T(body)) = &operation.request_body
            && !body.content.values().all(has_example)
        {
            lack("an example of the request");
        }
        for (status, response) in &operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            if response.description.trim().is_empty() {
                lack(&format!("the description of {status}"));
            }
            // Bytes have none that would say anything.
            let texts = response.content.iter().filter(|(kind, _)| !BYTES.contains(&kind.as_str()));
            if status.starts_with('2') && !texts.map(|(_, content)| content).all(has_example) {
                lack(&format!("an example of {status}"));
            }
        }
    }
    lacks
}

fn has_example(content: &RefOr<Content>) -> bool {
    matches!(content, RefOr::T(content) if content.example.is_some())
}
