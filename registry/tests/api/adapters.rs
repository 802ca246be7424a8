use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Stack, body, problem};

#[tokio::test]
async fn an_adapter_is_made_shown_changed_and_deleted_and_its_name_is_never_given_again() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let request = json!({ "name": "sst2", "description": "Sentiment of a sentence." });
    let made = body(acme.post("/adapters", request.clone()).await, StatusCode::CREATED).await;
    insta::assert_json_snapshot!(made, { ".created_at" => "[moment]", ".updated_at" => "[moment]" }, @r#"
    {
      "id": "acme/sst2",
      "owner": "acme",
      "name": "sst2",
      "visibility": "private",
      "description": "Sentiment of a sentence.",
      "latest_version": null,
      "created_at": "[moment]",
      "updated_at": "[moment]"
    }
    "#);
    problem(acme.post("/adapters", request.clone()).await, StatusCode::CONFLICT, "already_exists").await;
    let changed =
        body(acme.patch("/adapters/acme/sst2", json!({ "visibility": "public" })).await, StatusCode::OK).await;
    assert_eq!(
        (changed["visibility"].as_str(), changed["description"].as_str()),
        (Some("public"), request["description"].as_str())
    );
    assert_eq!(acme.delete("/adapters/acme/sst2").await.status(), StatusCode::NO_CONTENT);
    problem(acme.get("/adapters/acme/sst2").await, StatusCode::NOT_FOUND, "not_found").await;
    problem(acme.post("/adapters", request).await, StatusCode::CONFLICT, "retired").await;
    assert_eq!(body(acme.get("/adapters").await, StatusCode::OK).await["data"], json!([]));
}

#[tokio::test]
async fn a_list_goes_through_all_pages_once_and_shows_what_the_caller_may_see() {
    let stack = Stack::start().await;
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    for name in ["a", "b", "c"] {
        acme.make_adapter(name, "private").await;
        rival.make_adapter(name, "public").await;
    }
    let mut seen = Vec::new();
    let mut path = "/adapters?limit=2".to_owned();
    loop {
        let page = body(acme.get(&path).await, StatusCode::OK).await;
        seen.extend(page["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/adapters?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["acme/a", "acme/b", "acme/c", "rival/a", "rival/b", "rival/c"]);
    let references = async |path: &str| -> Vec<String> {
        let page = body(rival.get(path).await, StatusCode::OK).await;
        page["data"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(references("/adapters").await, ["rival/a", "rival/b", "rival/c"]);
    assert!(references("/adapters?owner=acme").await.is_empty());
    assert!(references("/adapters?visibility=private").await.is_empty());
}

#[tokio::test]
async fn a_search_means_its_text_as_it_stands_in_any_case() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    for (name, description) in
        [("sst2", "Sentiment, 100% local"), ("under_score", "x"), ("underXscore".to_lowercase().as_str(), "y")]
    {
        let made = acme.post("/adapters", json!({ "name": name, "description": description })).await;
        assert_eq!(made.status(), StatusCode::CREATED);
    }
    let found = async |text: &str| -> Vec<Value> {
        let page = acme.request(Method::GET, "/adapters").query(&[("search", text)]).send().await.unwrap();
        let page = body(page, StatusCode::OK).await;
        page["data"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect()
    };
    assert_eq!(found("SENTIMENT").await, ["sst2"]);
    assert_eq!(found("100%").await, ["sst2"]);
    assert_eq!(found("der_sc").await, ["under_score"]);
    assert!(found("'; DROP TABLE adapters; --").await.is_empty());
}

#[tokio::test]
async fn another_tenants_public_adapter_can_be_seen_and_not_changed() {
    let stack = Stack::start().await;
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    acme.make_adapter("open", "public").await;
    assert_eq!(rival.get("/adapters/acme/open").await.status(), StatusCode::OK);
    problem(rival.delete("/adapters/acme/open").await, StatusCode::FORBIDDEN, "not_owner").await;
    let answer = rival.patch("/adapters/acme/open", json!({ "description": "mine" })).await;
    problem(answer, StatusCode::FORBIDDEN, "not_owner").await;
    assert_eq!(acme.patch("/adapters/acme/open", json!({ "visibility": "private" })).await.status(), StatusCode::OK);
    problem(rival.get("/adapters/acme/open").await, StatusCode::NOT_FOUND, "not_found").await;
}

#[tokio::test]
async fn a_body_that_breaks_the_rules_is_a_problem() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let send = async |text: String, content_type: &str| {
        let request = acme.request(Method::POST, "/adapters").header("content-type", content_type).body(text);
        request.send().await.unwrap()
    };
    let json = "application/json";
    problem(send("{".into(), json).await, StatusCode::BAD_REQUEST, "malformed_json").await;
    problem(send(r#"{"name":5}"#.into(), json).await, StatusCode::BAD_REQUEST, "invalid_body").await;
    let unknown =
        problem(send(r#"{"name":"a","colour":1}"#.into(), json).await, StatusCode::BAD_REQUEST, "invalid_body").await;
    assert!(unknown["detail"].as_str().unwrap().contains("colour"), "{unknown}");
    problem(send("{}".into(), "text/plain").await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type").await;
    let large = format!(r#"{{"name":"a","description":"{}"}}"#, "x".repeat(70_000));
    let large = problem(send(large, json).await, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
    assert!(large["detail"].as_str().unwrap().contains("65536"), "{large}");
    let answer = acme.post("/adapters", json!({ "name": "Not Allowed", "description": "x".repeat(4001) })).await;
    let answer = problem(answer, StatusCode::BAD_REQUEST, "invalid_fields").await;
    assert_eq!(answer["errors"].as_array().unwrap().len(), 2, "{answer}");
}

#[tokio::test]
async fn a_path_method_or_query_that_does_not_exist_is_a_problem() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let answer = problem(acme.get("/nothing/here").await, StatusCode::NOT_FOUND, "not_found").await;
    assert!(answer["detail"].as_str().unwrap().contains("/registry/v1/nothing/here"), "{answer}");
    problem(acme.delete("/adapters").await, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
    for query in ["limit=0", "limit=1000", "limit=x", "colour=red", "cursor=!!", "visibility=secret"] {
        problem(acme.get(&format!("/adapters?{query}")).await, StatusCode::BAD_REQUEST, "invalid_query").await;
    }
}

#[tokio::test]
async fn a_tenant_name_is_taken_once_and_only_an_operator_makes_one() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let again = stack.admin.post("/tenants", json!({ "name": "acme" })).await;
    problem(again, StatusCode::CONFLICT, "already_exists").await;
    problem(acme.post("/tenants", json!({ "name": "b" })).await, StatusCode::FORBIDDEN, "scope_missing").await;
    problem(acme.get("/tenants").await, StatusCode::FORBIDDEN, "scope_missing").await;
    let listed = body(stack.admin.get("/tenants").await, StatusCode::OK).await;
    let names: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|tenant| tenant["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["acme", "admin"]);
}
