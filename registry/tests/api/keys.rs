use reqwest::StatusCode;
use secrecy::SecretString;
use serde_json::json;
use souk_registry::{ApiKey, RegistryConfig};

use crate::support::{Stack, body, config_in, problem};

#[tokio::test]
async fn the_first_start_makes_an_admin_key_and_the_next_does_not() {
    let stack = Stack::start().await;
    let key = stack.admin.key.clone();
    assert!(key.starts_with("souk_"));
    assert!(stack.registry.bootstrap().await.unwrap().is_none());
    let principal = stack.registry.authenticate(&key).await.unwrap();
    assert_eq!(principal.tenant_name, souk_registry::ADMIN_TENANT);
}

#[tokio::test]
async fn an_installation_without_a_usable_admin_key_gets_a_new_one_at_the_next_start() {
    let stack = Stack::start().await;
    let id = stack.principal(&stack.admin).await.key;
    assert_eq!(stack.admin.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    let key = stack.registry.bootstrap().await.unwrap().unwrap();
    assert_eq!(stack.user(key.expose()).get("/tenants").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_pepper_of_the_settings_serves_the_keys_that_were_made_under_it() {
    let pepper = SecretString::from(format!("1:{}", "ab".repeat(32)));
    let stack = Stack::start_with(|config| config.settings.pepper = pepper.clone()).await;
    assert!(!stack.folder.path().join("key-pepper").exists());
    let key = stack.admin.key.clone();
    let folder = stack.kill().await;
    let again = Stack::start_in(folder, |config| config.settings.pepper = pepper).await;
    assert_eq!(again.user(&key).get("/tenants").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_admin_key_is_made_on_the_host_beside_a_running_registry() {
    let stack = Stack::start().await;
    let config = config_in(stack.folder.path());
    let key = souk_registry::recover_admin_key(&config).await.unwrap();
    let recovered = stack.user(key.expose());
    assert_eq!(recovered.get("/tenants").await.status(), StatusCode::OK);
    let listed = body(recovered.get("/keys").await, StatusCode::OK).await;
    let names: Vec<_> = listed["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"recovered admin key") && names.contains(&"first admin key"), "{names:?}");
    // What was lost is revoked with it, and the next start makes no further key.
    let lost = stack.principal(&stack.admin).await.key;
    assert_eq!(recovered.delete(&format!("/keys/{lost}")).await.status(), StatusCode::NO_CONTENT);
    assert!(stack.registry.bootstrap().await.unwrap().is_none());
}

#[tokio::test]
async fn no_admin_key_is_made_where_it_could_not_be_used() {
    let stack = Stack::start().await;
    let nowhere = tempfile::tempdir().unwrap();
    let error = souk_registry::recover_admin_key(&RegistryConfig::new(nowhere.path())).await.unwrap_err();
    assert!(error.to_string().contains("not the data folder of an installation"), "{error}");
    assert_eq!(std::fs::read_dir(nowhere.path()).unwrap().count(), 0, "looking makes no database");
    std::fs::remove_file(stack.folder.path().join("key-pepper")).unwrap();
    let error = souk_registry::recover_admin_key(&config_in(stack.folder.path())).await.unwrap_err();
    assert!(error.to_string().contains("restore it from a backup"), "{error}");
    let listed = body(stack.admin.get("/keys").await, StatusCode::OK).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_without_a_valid_key_is_401_and_says_which_scheme_to_use() {
    let stack = Stack::start().await;
    let broken = format!("{}{}", &stack.admin.key[..20], &ApiKey::generate().expose()[20..]);
    let unknown = ApiKey::generate().expose().to_owned();
    // The id of a key that was just used, another secret, and a checksum that matches.
    assert_eq!(stack.admin.get("/adapters").await.status(), StatusCode::OK);
    let forged = with_checksum(&format!("{}{}", &stack.admin.key[..18], "x".repeat(40)));
    assert!(ApiKey::parse(&forged).is_ok());
    for key in ["garbage", &broken, &unknown, &forged] {
        let answer = stack.user(key).get("/adapters").await;
        assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"souk\"");
        problem(answer, StatusCode::UNAUTHORIZED, "key_invalid").await;
    }
    let client = reqwest::Client::new();
    let answer = client.get(format!("{}/adapters", stack.base_url)).send().await.unwrap();
    problem(answer, StatusCode::UNAUTHORIZED, "key_missing").await;
    let answer = client.get(format!("{}/base-models", stack.base_url)).send().await.unwrap();
    assert_eq!(body(answer, StatusCode::OK).await["data"][0]["id"], "tiny-base");
}

pub(crate) fn with_checksum(body: &str) -> String {
    const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let crc = crc32fast::hash(body.as_bytes());
    let digit = |power: u32| char::from(BASE62[(crc / 62_u32.pow(power) % 62) as usize]);
    format!("{body}{}", (0..6).rev().map(digit).collect::<String>())
}

#[tokio::test]
async fn revocation_is_effective_at_once_though_the_key_was_just_used() {
    let stack = Stack::start().await;
    let user = stack.tenant("acme").await;
    assert_eq!(user.get("/adapters").await.status(), StatusCode::OK);
    let id = stack.principal(&user).await.key;
    assert_eq!(stack.admin.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    problem(user.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
}

#[tokio::test]
async fn an_expired_key_stops_working_by_itself() {
    let stack = Stack::start().await;
    let soon = time::OffsetDateTime::from(souk_protocol::wall_clock::now()) + time::Duration::milliseconds(1500);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let request = json!({ "name": "short", "scopes": ["admin"], "expires_at": soon });
    let made = body(stack.admin.post("/keys", request).await, StatusCode::CREATED).await;
    let user = stack.user(made["secret"].as_str().unwrap());
    assert!(made["expires_at"].is_string());
    tokio::time::sleep(std::time::Duration::from_millis(1600)).await;
    problem(user.get("/tenants").await, StatusCode::UNAUTHORIZED, "key_expired").await;
}

#[tokio::test]
async fn a_missing_scope_is_403_and_named() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    let reader = stack.key_for("acme", &["adapters:read"]).await;
    assert_eq!(reader.get("/adapters").await.status(), StatusCode::OK);
    let answer = problem(reader.get("/keys").await, StatusCode::FORBIDDEN, "scope_missing").await;
    assert!(answer["detail"].as_str().unwrap().contains("`keys:manage`"), "{answer}");
    let answer = reader.post("/adapters", json!({ "name": "x" })).await;
    let answer = problem(answer, StatusCode::FORBIDDEN, "scope_missing").await;
    assert!(answer["detail"].as_str().unwrap().contains("`adapters:write`"), "{answer}");
}

#[tokio::test]
async fn a_key_grants_no_more_than_it_has_and_nothing_to_other_tenants() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    stack.tenant("rival").await;
    let answer = acme.post("/keys", json!({ "name": "up", "scopes": ["admin"] })).await;
    problem(answer, StatusCode::FORBIDDEN, "scope_not_held").await;
    let answer = acme.post("/keys", json!({ "name": "x", "scopes": ["inference"], "tenant": "rival" })).await;
    problem(answer, StatusCode::FORBIDDEN, "scope_missing").await;
    problem(acme.get("/keys?tenant=rival").await, StatusCode::FORBIDDEN, "scope_missing").await;
    let rival = stack.key_for("rival", &["inference"]).await;
    let id = stack.principal(&rival).await.key;
    problem(acme.delete(&format!("/keys/{id}")).await, StatusCode::NOT_FOUND, "not_found").await;
    assert!(stack.registry.authenticate(&rival.key).await.is_ok());
}

#[tokio::test]
async fn a_listed_key_shows_everything_but_its_secret() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    assert_eq!(acme.get("/keys").await.status(), StatusCode::OK);
    // The use is noted in the background.
    let listed = loop {
        let listed = body(acme.get("/keys").await, StatusCode::OK).await;
        if listed["data"][0]["last_used_at"].is_string() {
            break listed;
        }
    };
    let secret_part = &acme.key[18..];
    assert!(!listed.to_string().contains(secret_part));
    insta::assert_json_snapshot!(listed, {
        ".data[].id" => "[id]", ".data[].last_four" => "[last_four]",
        ".data[].created_at" => "[moment]", ".data[].last_used_at" => "[moment]",
    }, @r#"
    {
      "data": [
        {
          "id": "[id]",
          "name": "test",
          "kind": "service",
          "person": null,
          "scopes": [
            "inference",
            "adapters:read",
            "adapters:write",
            "keys:manage"
          ],
          "models": null,
          "team": null,
          "last_four": "[last_four]",
          "created_at": "[moment]",
          "expires_at": null,
          "revoked_at": null,
          "last_used_at": "[moment]",
          "made_by": null,
          "revoked_by": null,
          "revoked_for": null,
          "replaced_by": null
        }
      ],
      "next_cursor": null
    }
    "#);
}

#[tokio::test]
async fn a_body_with_several_wrong_fields_hears_of_all_of_them() {
    let stack = Stack::start().await;
    let request = json!({ "name": "", "scopes": ["inference", "root"], "expires_at": "2020-01-01T00:00:00Z" });
    let answer = problem(stack.admin.post("/keys", request).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    insta::assert_json_snapshot!(answer, @r#"
    {
      "type": "urn:souk:problem:invalid_fields",
      "title": "Bad Request",
      "status": 400,
      "code": "invalid_fields",
      "detail": "the body has 3 invalid field(s)",
      "errors": [
        {
          "code": "invalid_value",
          "subject": "name",
          "message": "1 to 100 characters, given 0"
        },
        {
          "code": "invalid_value",
          "subject": "scopes[1]",
          "message": "unknown scope `root`; scopes are inference, adapters:read, adapters:write, keys:manage, access:decide, audit:read, usage:read, tenant:manage, admin"
        },
        {
          "code": "invalid_value",
          "subject": "expires_at",
          "message": "a moment in the future"
        }
      ]
    }
    "#);
}
