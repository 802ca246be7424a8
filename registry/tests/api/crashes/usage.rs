//! Writing what was used: a gateway that hears no answer sends it again, and it counts once.

use reqwest::{Method, StatusCode};
use serde_json::json;
use souk_protocol::TenantId;
use souk_registry::check_usage;
use souk_testkit::usage::request;

use super::{Field, check_whole};
use crate::support::{User, body, config_in};

/// Ends the process at each point of writing; answers the points.
pub(super) async fn check(field: &mut Field) -> Vec<String> {
    let made = field.admin().post("/services", json!({ "name": "gateway-1" })).await;
    let key = body(made, StatusCode::CREATED).await["secret"].as_str().unwrap().to_owned();
    let tenant = TenantId::from_stored("ten_1");
    let mut points = Vec::new();
    for round in 1_i64.. {
        let gateway = gateway(field, &key).await;
        let used = json!({ "requests": [request(&tenant, "key_1", 0, (10, 5))] });
        std::fs::write(&field.left, round.to_string()).unwrap();
        let sent = gateway.request(Method::POST, "/internal/usage").json(&used).send().await;
        let is_over = sent.is_ok();
        let answer = match sent {
            Ok(answer) => {
                std::fs::remove_file(&field.left).unwrap();
                answer
            }
            Err(_) => {
                points.push(field.start_again(&format!("usage in round {round}")).await);
                let gateway = self::gateway(field, &key).await;
                gateway.post("/internal/usage", used.clone()).await
            }
        };
        let totals = body(answer, StatusCode::OK).await;
        let expected = json!([15 * round, round]);
        for total in totals["totals"].as_array().unwrap() {
            assert_eq!(json!([total["amount"], total["version"]]), expected, "{total}");
        }
        assert_eq!(field.number("SELECT count(*) AS n FROM usage_jobs").await, round);
        let found = check_usage(&config_in(field.folder.path()), false).await.unwrap();
        assert!(found.is_clean(), "{found:?}");
        check_whole(field.folder.path()).await;
        if is_over {
            break;
        }
    }
    points
}

/// The gateway, with a token of the process that runs now.
async fn gateway(field: &Field, key: &str) -> User {
    let exchanged = field.process.user(key).request(Method::POST, "/internal/token").send().await.unwrap();
    let token = body(exchanged, StatusCode::OK).await["access_token"].as_str().unwrap().to_owned();
    field.process.user(&token)
}
