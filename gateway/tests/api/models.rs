//! `GET /v1/models` and `GET /v1/models/{id}`.

use souk_gateway::GatewayLimits;
use souk_queue::QueueConfig;

use crate::stack::{NUM_PUBLIC, OTHER_KEY, Stack, request, says};

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
