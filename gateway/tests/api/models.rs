//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde_json::json;
use souk_gateway::GatewayLimits;
use souk_queue::QueueConfig;

use crate::stack::{LISTED_KEY, NUM_PUBLIC, OTHER_KEY, Stack, request, says};

#[tokio::test]
async fn the_list_has_base_and_own_adapters() {
    let stack = Stack::start(says("")).await;
    let answer = stack.get("/v1/models").await;
    insta::assert_json_snapshot!("models", answer.json(), {".data[0].created" => "[created]"});
    let other = stack.send(request("GET", "/v1/models", OTHER_KEY, String::new())).await;
    assert_eq!(other.json()["data"].as_array().unwrap().len(), 1 + NUM_PUBLIC);
    assert!(!answer.headers.contains_key("link"), "there are no more");
}

#[tokio::test]
async fn a_list_that_is_cut_says_where_it_goes_on() {
    let limits = GatewayLimits { listed_models: NUM_PUBLIC - 1, ..GatewayLimits::default() };
    let stack = Stack::with(says(""), limits, QueueConfig::default()).await;
    let answer = stack.get("/v1/models").await;
    assert_eq!(answer.headers["link"], "</registry/v1/adapters?cursor=2>; rel=\"next\"");
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 2 + NUM_PUBLIC - 1);
    assert_eq!(answer.json()["object"], "list");
}

#[tokio::test]
async fn a_model_is_found_by_any_form_of_its_reference() {
    let stack = Stack::start(says("")).await;
    for path in
        ["/v1/models/acme/sst2", "/v1/models/acme%2Fsst2", "/v1/models/acme/sst2@1.2.0", "/v1/models/acme/sst2:prod"]
    {
        let answer = stack.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert_eq!((&answer.json()["owned_by"], &answer.json()["version"]), (&"acme".into(), &"1.2.0".into()));
    }
    insta::assert_json_snapshot!("model", stack.get("/v1/models/acme/sst2").await.json());
    assert_eq!(stack.get("/v1/models/tiny").await.json()["id"], "tiny");
    for path in ["/v1/models/nothing", "/v1/models/acme/nothing"] {
        let answer = stack.get(path).await;
        assert_eq!(answer.status, 404);
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains("nothing"));
    }
}

#[tokio::test]
async fn a_key_with_a_list_of_models_calls_those_and_hears_the_same_of_all_others() {
    let stack = Stack::start(says("hello")).await;
    let chat = async |model: &str, adapters: &[&str]| {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
        if !adapters.is_empty() {
            body["adapters"] = adapters.iter().map(|id| json!({"id": id})).collect();
        }
        let answer = stack.send(request("POST", "/v1/chat/completions", LISTED_KEY, body.to_string())).await;
        (answer.status.as_u16(), answer.json()["error"]["code"].as_str().map(str::to_owned))
    };
    for model in ["acme/sst2", "acme/sst2@1.2.0", "acme/sst2:prod"] {
        assert_eq!(chat(model, &[]).await, (200, None), "{model}");
    }
    // What is there, what is not, what was taken down and a registry that is down are one.
    for model in ["tiny", "nothing", "acme/new", "acme/nothing", "acme/bad", "acme/down", "other/x"] {
        assert_eq!(chat(model, &[]).await, (403, Some("model_not_allowed".to_owned())), "{model}");
    }
    // An adapter beside the base is a call of the base.
    assert_eq!(chat("tiny", &["acme/sst2"]).await, (403, Some("model_not_allowed".to_owned())));
    let get = async |path: &str| stack.send(request("GET", path, LISTED_KEY, String::new())).await;
    assert_eq!(get("/v1/models/acme/sst2").await.status, 200);
    for path in ["/v1/models/tiny", "/v1/models/acme/nothing"] {
        let answer = get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"]["param"].as_str()),
            (403, Some("model")),
            "{}",
            answer.text
        );
    }
    let listed = get("/v1/models").await.json();
    assert!(listed["data"].as_array().unwrap().iter().all(|model| model["id"] != "tiny"), "{listed}");
}
