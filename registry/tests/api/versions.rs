use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use souk_protocol::{AdapterRef, Digest, ResolveError};

use crate::support::{AdapterFiles, Stack, body, problem};

async fn resolve(stack: &Stack, user: &crate::support::User, reference: &str) -> Result<String, ResolveError> {
    let principal = stack.principal(user).await;
    let resolved = stack.registry.resolve(&principal, &reference.parse::<AdapterRef>().unwrap()).await?;
    Ok(resolved.version.to_string())
}

#[tokio::test]
async fn a_version_is_uploaded_shown_and_downloaded_as_it_was_sent() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let files = AdapterFiles::tiny(1);
    let form = files.form("1.0.0").text("README.md", "# Sentiment");
    let upload = acme.request(Method::POST, "/adapters/acme/sst2/versions").multipart(form).send().await.unwrap();
    let made = body(upload, StatusCode::CREATED).await;
    // One for both databases.
    insta::with_settings!({ prepend_module_to_snapshot => false }, {
        insta::assert_json_snapshot!(made, { ".created_at" => "[moment]" });
    });
    assert_eq!(body(acme.get("/adapters/acme/sst2/versions/1.0.0").await, StatusCode::OK).await, made);

    let path = "/adapters/acme/sst2/versions/1.0.0/files";
    let weights = acme.get(&format!("{path}/adapter_model.safetensors")).await;
    assert_eq!(weights.status(), StatusCode::OK);
    let etag = weights.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", Digest::of(&files.weights_bytes())));
    assert_eq!(weights.bytes().await.unwrap(), files.weights_bytes());
    let request =
        acme.request(Method::GET, &format!("{path}/adapter_model.safetensors")).header("if-none-match", &etag);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);
    assert_eq!(acme.get(&format!("{path}/adapter_config.json")).await.bytes().await.unwrap(), files.config_bytes());
    assert_eq!(acme.get(&format!("{path}/README.md")).await.text().await.unwrap(), "# Sentiment");
    let manifest = acme.get(&format!("{path}/manifest.json")).await.bytes().await.unwrap();
    assert_eq!(Digest::of(&manifest).to_string(), made["digest"].as_str().unwrap());
    problem(acme.get(&format!("{path}/..%2f..%2fregistry.sqlite")).await, StatusCode::NOT_FOUND, "not_found").await;
}

#[tokio::test]
async fn a_reference_chooses_the_version_that_its_form_promises() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    assert!(matches!(resolve(&stack, &acme, "acme/sst2").await, Err(ResolveError::NotFound(_))));
    for (seed, number) in [(1, "1.0.0"), (2, "1.10.0"), (3, "1.9.0"), (4, "2.0.0-rc.1")] {
        acme.publish("acme/sst2", number, seed).await;
    }
    let digest = body(acme.get("/adapters/acme/sst2/versions/1.9.0").await, StatusCode::OK).await["digest"].clone();
    let by_digest = format!("acme/sst2@{}", digest.as_str().unwrap());
    assert_eq!(resolve(&stack, &acme, "acme/sst2").await.unwrap(), "1.10.0");
    assert_eq!(resolve(&stack, &acme, "acme/sst2@2.0.0-rc.1").await.unwrap(), "2.0.0-rc.1");
    assert_eq!(resolve(&stack, &acme, &by_digest).await.unwrap(), "1.9.0");
    assert!(matches!(resolve(&stack, &acme, "acme/sst2@3.0.0").await, Err(ResolveError::NotFound(_))));

    let put = acme.put("/adapters/acme/sst2/tags/prod", json!({ "version": "1.0.0" })).await;
    assert_eq!(body(put, StatusCode::OK).await["id"], "acme/sst2:prod");
    assert_eq!(resolve(&stack, &acme, "acme/sst2:prod").await.unwrap(), "1.0.0");
    let put = acme.put("/adapters/acme/sst2/tags/prod", json!({ "version": "1.9.0" })).await;
    assert_eq!(put.status(), StatusCode::OK);
    assert_eq!(resolve(&stack, &acme, "acme/sst2:prod").await.unwrap(), "1.9.0");
    let got = body(acme.get("/adapters/acme/sst2/tags/prod").await, StatusCode::OK).await;
    assert_eq!((got["version"].as_str(), &got["digest"]), (Some("1.9.0"), &digest));
    let listed = body(acme.get("/adapters/acme/sst2/tags").await, StatusCode::OK).await;
    assert_eq!(listed["data"], json!([got]));
    let shown = body(acme.get("/adapters/acme/sst2/versions/1.9.0").await, StatusCode::OK).await;
    assert_eq!(shown["tags"], json!(["prod"]));

    let page = body(acme.get("/adapters/acme/sst2/versions?limit=3").await, StatusCode::OK).await;
    let numbers = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|item| item["version"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(numbers(&page), ["2.0.0-rc.1", "1.10.0", "1.9.0"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = acme.get(&format!("/adapters/acme/sst2/versions?limit=3&cursor={cursor}")).await;
    assert_eq!(numbers(&body(rest, StatusCode::OK).await), ["1.0.0"]);

    assert_eq!(acme.delete("/adapters/acme/sst2/tags/prod").await.status(), StatusCode::NO_CONTENT);
    assert!(matches!(resolve(&stack, &acme, "acme/sst2:prod").await, Err(ResolveError::NotFound(_))));
}

#[tokio::test]
async fn a_yanked_version_serves_only_those_who_pinned_it() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let made = acme.publish("acme/sst2", "1.0.0", 1).await;
    let by_digest = format!("acme/sst2@{}", made["digest"].as_str().unwrap());
    acme.put("/adapters/acme/sst2/tags/prod", json!({ "version": "1.0.0" })).await;
    let yanked = acme.post("/adapters/acme/sst2/versions/1.0.0/yank", json!({})).await;
    assert_eq!(body(yanked, StatusCode::OK).await["state"], "yanked");
    assert!(matches!(resolve(&stack, &acme, "acme/sst2").await, Err(ResolveError::NotFound(_))));
    assert!(matches!(resolve(&stack, &acme, "acme/sst2:prod").await, Err(ResolveError::NotFound(_))));
    assert_eq!(resolve(&stack, &acme, "acme/sst2@1.0.0").await.unwrap(), "1.0.0");
    assert_eq!(resolve(&stack, &acme, &by_digest).await.unwrap(), "1.0.0");
    let tagged = acme.put("/adapters/acme/sst2/tags/next", json!({ "version": "1.0.0" })).await;
    problem(tagged, StatusCode::CONFLICT, "wrong_state").await;
    let back = acme.post("/adapters/acme/sst2/versions/1.0.0/unyank", json!({})).await;
    assert_eq!(body(back, StatusCode::OK).await["state"], "ready");
    assert_eq!(resolve(&stack, &acme, "acme/sst2:prod").await.unwrap(), "1.0.0");
}

#[tokio::test]
async fn a_version_that_was_taken_down_stops_for_everybody_at_once() {
    let stack = Stack::start().await;
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let path = "/adapters/acme/sst2/versions/1.0.0";
    let reason = json!({ "reason": "stolen weights" });
    let refused = acme.post(&format!("{path}/take-down"), reason.clone()).await;
    problem(refused, StatusCode::FORBIDDEN, "scope_missing").await;
    let down = body(stack.admin.post(&format!("{path}/take-down"), reason).await, StatusCode::OK).await;
    assert_eq!((down["state"].as_str(), down["state_reason"].as_str()), (Some("taken_down"), Some("stolen weights")));
    assert!(matches!(resolve(&stack, &acme, "acme/sst2@1.0.0").await, Err(ResolveError::TakenDown(_))));
    assert!(matches!(resolve(&stack, &acme, "acme/sst2").await, Err(ResolveError::NotFound(_))));
    // To those who may not see the adapter it does not exist, taken down or not.
    assert!(matches!(resolve(&stack, &rival, "acme/sst2@1.0.0").await, Err(ResolveError::NotFound(_))));
    problem(acme.get(&format!("{path}/files/manifest.json")).await, StatusCode::GONE, "taken_down").await;
    problem(acme.post(&format!("{path}/unyank"), json!({})).await, StatusCode::CONFLICT, "wrong_state").await;
    assert_eq!(acme.delete(path).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_deleted_version_takes_its_bytes_with_it_and_keeps_its_number() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    acme.put("/adapters/acme/sst2/tags/prod", json!({ "version": "1.0.0" })).await;
    assert_eq!(stack.num_objects(), 3);
    assert_eq!(acme.delete("/adapters/acme/sst2/versions/1.0.0").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(stack.num_objects(), 0);
    problem(acme.get("/adapters/acme/sst2/versions/1.0.0").await, StatusCode::NOT_FOUND, "not_found").await;
    problem(acme.get("/adapters/acme/sst2/tags/prod").await, StatusCode::NOT_FOUND, "not_found").await;
    assert!(matches!(resolve(&stack, &acme, "acme/sst2@1.0.0").await, Err(ResolveError::NotFound(_))));
    let again = acme.upload("acme/sst2", "1.0.0", &AdapterFiles::tiny(1)).await;
    problem(again, StatusCode::CONFLICT, "retired").await;
}

#[tokio::test]
async fn the_same_content_is_stored_once_and_goes_with_its_last_user() {
    let stack = Stack::start().await;
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    acme.make_adapter("one", "private").await;
    rival.make_adapter("two", "private").await;
    let first = acme.publish("acme/one", "1.0.0", 1).await;
    let second = rival.publish("rival/two", "0.1.0", 1).await;
    assert_eq!(first["digest"], second["digest"]);
    assert_eq!(stack.num_objects(), 3);
    assert_eq!(acme.delete("/adapters/acme/one").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(stack.num_objects(), 3);
    let weights = rival.get("/adapters/rival/two/versions/0.1.0/files/adapter_model.safetensors").await;
    assert_eq!(weights.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    assert_eq!(rival.delete("/adapters/rival/two/versions/0.1.0").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(stack.num_objects(), 0);
}

#[tokio::test]
async fn the_list_of_models_has_what_a_tenant_can_call_and_nothing_else() {
    let stack = Stack::start().await;
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    for (name, visibility) in [("hidden", "private"), ("open", "public"), ("empty", "public")] {
        acme.make_adapter(name, visibility).await;
    }
    acme.publish("acme/hidden", "1.0.0", 1).await;
    acme.publish("acme/open", "1.0.0", 2).await;
    acme.publish("acme/open", "1.1.0", 3).await;
    let models = async |user| {
        let principal = stack.principal(user).await;
        let listed = stack.registry.list_models(&principal, 100).await.unwrap();
        assert_eq!(listed.more_after, None);
        listed.models.into_iter().map(|model| model.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(models(&acme).await, ["acme/hidden", "acme/open"]);
    assert_eq!(models(&rival).await, ["acme/open"]);
    let adapter = body(rival.get("/adapters/acme/open").await, StatusCode::OK).await;
    assert_eq!(adapter["latest_version"], "1.1.0");
}

#[tokio::test]
#[cfg_attr(not(has_shared), ignore = "needs ../shared/fixtures")]
async fn real_adapters_are_accepted_for_the_base_that_they_name() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let folders = std::fs::read_dir("../../shared/fixtures/adapters").unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        acme.make_adapter(&name, "private").await;
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
        let form = crate::support::form("1.0.0", read("adapter_config.json"), read("adapter_model.safetensors"));
        let path = format!("/adapters/acme/{name}/versions");
        let made =
            body(acme.request(Method::POST, &path).multipart(form).send().await.unwrap(), StatusCode::CREATED).await;
        assert_eq!(made["base_digest"], Digest::of(b"smollm2-135m-instruct").to_string(), "{name}");
    }
}
