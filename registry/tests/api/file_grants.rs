//! Files of versions for nodes: with the grant that came in a job for them, and not without.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Response, StatusCode};
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use souk_protocol::internal::{Caller, GRANT_HEADER};
use souk_protocol::{Digest, wall_clock};
use souk_registry::INTERNAL;
use souk_testkit_s3::S3Server;

use crate::services::{ask, node, service, with_token};
use crate::support::{AdapterFiles, Stack, User, body, problem, s3_at};

/// A gateway, a node, and a tenant with a version.
struct Field {
    stack: Stack,
    gateway: User,
    node: User,
    acme: User,
    /// Of the version.
    digest: String,
    /// Of its files: configuration and weights.
    files: [Digest; 2],
}

impl Field {
    async fn on(stack: Stack) -> Self {
        let gateway = with_token(&stack, &service(&stack, "gateway-1").await.1).await;
        let node = with_token(&stack, &node(&stack, "node-1").await).await;
        let acme = stack.tenant("acme").await;
        acme.make_adapter("tone", "private").await;
        let published = acme.publish("acme/tone", "1.0.0", 1).await;
        let tiny = AdapterFiles::tiny(1);
        let files = [Digest::of(&tiny.config_bytes()), Digest::of(&tiny.weights_bytes())];
        let digest = published["digest"].as_str().unwrap().to_owned();
        Self { stack, gateway, node, acme, digest, files }
    }

    /// The grant that comes with what a name means.
    async fn grant(&self, reference: &str) -> String {
        let caller = Caller::from(&self.stack.principal(&self.acme).await);
        let question = json!({ "caller": caller, "reference": reference });
        let resolved = body(self.gateway.post("/internal/resolve", question).await, StatusCode::OK).await;
        resolved["found"]["grant"].as_str().unwrap().to_owned()
    }

    async fn fetch(&self, who: &User, file: &str, grant: Option<&str>) -> Response {
        let request = who.request(reqwest::Method::GET, &format!("/internal/files/{file}"));
        let request = grant.into_iter().fold(request, |request, grant| request.header(GRANT_HEADER, grant));
        request.send().await.unwrap()
    }
}

#[tokio::test]
async fn a_node_gets_the_files_of_the_version_that_its_grant_is_for_and_no_others() {
    let field = Field::on(Stack::start().await).await;
    let grant = field.grant("acme/tone@1.0.0").await;
    for file in [field.digest.clone(), field.files[0].to_string(), field.files[1].to_string()] {
        let fetched = field.fetch(&field.node, &file, Some(&grant)).await;
        assert_eq!(fetched.status(), StatusCode::OK, "{file}");
        assert_eq!(Digest::of(&fetched.bytes().await.unwrap()).to_string(), file);
        let without = field.fetch(&field.node, &file, None).await;
        problem(without, StatusCode::FORBIDDEN, "file_grant_missing").await;
        // A gateway with a node in its process has no more than a node.
        let without = field.fetch(&field.gateway, &file, None).await;
        problem(without, StatusCode::FORBIDDEN, "file_grant_missing").await;
    }
    // Another version's, of the same tenant.
    field.acme.publish("acme/tone", "2.0.0", 2).await;
    let other = field.grant("acme/tone@2.0.0").await;
    for file in [field.digest.clone(), field.files[1].to_string()] {
        let refused = field.fetch(&field.node, &file, Some(&other)).await;
        let told = problem(refused, StatusCode::FORBIDDEN, "file_grant_invalid").await;
        assert!(told["detail"].as_str().unwrap().contains(&file), "{told}");
    }
    // Nor does a grant do without a node's token.
    let nobody = field.stack.user(&grant);
    problem(field.fetch(&nobody, &field.digest, Some(&grant)).await, StatusCode::UNAUTHORIZED, "key_invalid").await;
    problem(field.fetch(&field.acme, &field.digest, Some(&grant)).await, StatusCode::UNAUTHORIZED, "key_invalid").await;
}

/// Signs claims with a key that the installation publishes.
async fn sign(stack: &Stack, claims: &Value) -> String {
    let pair = Ed25519KeyPair::generate().unwrap();
    let kid = "sig_of_a_test";
    let db = stack.database().await;
    // Before those of the registry itself, which signs with its newest.
    let created_at_ms = (wall_clock::since_epoch().as_millis() as i64) - 60_000;
    let values = [kid.into(), pair.public_key().as_ref().to_vec().into(), vec![0_u8].into(), created_at_ms.into()];
    let text = "INSERT INTO signing_keys (kid, public_key, sealed_private_key, seal_version, created_at_ms) \
                VALUES ($1, $2, $3, 1, $4)";
    let _ = db.execute_unprepared(&format!("DELETE FROM signing_keys WHERE kid = '{kid}'")).await.unwrap();
    db.execute_raw(Statement::from_sql_and_values(db.get_database_backend(), text, values)).await.unwrap();
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
    let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

#[tokio::test]
async fn a_grant_that_has_expired_or_is_none_of_this_installations_opens_nothing() {
    let field = Field::on(Stack::start().await).await;
    let good = field.grant("acme/tone@1.0.0").await;
    let part = good.split('.').nth(1).unwrap();
    let text = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, part).unwrap();
    let mut claims: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&claims["aud"], &claims["sub"]), (&json!("souk:files"), &json!(field.digest)));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["nbf"].as_u64().unwrap(), 900);
    let now = wall_clock::since_epoch().as_secs();
    claims["exp"] = json!(now - 11);
    claims["nbf"] = json!(now - 911);
    let expired = sign(&field.stack, &claims).await;
    let refused = field.fetch(&field.node, &field.digest, Some(&expired)).await;
    let told = problem(refused, StatusCode::FORBIDDEN, "file_grant_expired").await;
    assert!(told["detail"].as_str().unwrap().contains("900 s"), "{told}");

    let elsewhere = Field::on(Stack::start().await).await;
    let foreign = elsewhere.grant("acme/tone@1.0.0").await;
    for bad in [&foreign, &field.node.key, "eyJ.x.y", "", "x"] {
        let refused = field.fetch(&field.node, &field.digest, Some(bad)).await;
        problem(refused, StatusCode::FORBIDDEN, "file_grant_invalid").await;
    }
}

#[tokio::test]
async fn a_node_may_fetch_files_and_nothing_else_of_what_services_ask() {
    let field = Field::on(Stack::start().await).await;
    for route in INTERNAL {
        let refused = ask(&field.node, route).await;
        match route.1 {
            "/internal/token" => problem(refused, StatusCode::UNAUTHORIZED, "key_invalid").await,
            "/internal/files/{digest}" => problem(refused, StatusCode::FORBIDDEN, "file_grant_missing").await,
            _ => problem(refused, StatusCode::FORBIDDEN, "not_for_service").await,
        };
    }
    let listed = body(field.stack.admin.get("/services").await, StatusCode::OK).await;
    let kinds: Vec<_> = listed["data"].as_array().unwrap().iter().map(|one| (&one["name"], &one["kind"])).collect();
    assert!(kinds.contains(&(&json!("node-1"), &json!("node"))), "{kinds:?}");
    assert!(kinds.contains(&(&json!("gateway-1"), &json!("gateway"))), "{kinds:?}");
    let unknown = field.stack.admin.post("/services", json!({ "name": "x", "kind": "trainer" })).await;
    problem(unknown, StatusCode::BAD_REQUEST, "invalid_body").await;
}

#[tokio::test]
async fn a_service_that_was_made_before_there_were_kinds_is_a_gateway() {
    let stack = Stack::start().await;
    let (id, key) = service(&stack, "gateway-1").await;
    let db = stack.database().await;
    db.execute_unprepared(&format!("UPDATE services SET kind = NULL WHERE id = '{id}'")).await.unwrap();
    let token = with_token(&stack, &key).await;
    let asked = token.post("/internal/authenticate", json!({ "presented": "x" })).await;
    assert_eq!(body(asked, StatusCode::OK).await, "refused");
    // One of a newer program may nothing.
    db.execute_unprepared(&format!("UPDATE services SET kind = 'trainer' WHERE id = '{id}'")).await.unwrap();
    let token = with_token(&stack, &key).await;
    let asked = token.post("/internal/authenticate", json!({ "presented": "x" })).await;
    problem(asked, StatusCode::FORBIDDEN, "not_for_service").await;
}

#[tokio::test]
async fn a_bucket_is_read_at_an_address_that_is_good_for_that_file_alone() {
    let server = S3Server::start().await;
    let field = Field::on(Stack::start_with(|config| config.objects = s3_at(server.endpoint())).await).await;
    let grant = field.grant("acme/tone@1.0.0").await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let get = |url: String| client.get(url).bearer_auth(&field.node.key).header(GRANT_HEADER, &grant).send();
    let [_, weights] = field.files;
    let sent_on = get(format!("{}/internal/files/{weights}?direct", field.node.base_url())).await.unwrap();
    assert_eq!(sent_on.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(sent_on.headers()["cache-control"], "no-store");
    let address = sent_on.headers()["location"].to_str().unwrap().to_owned();
    assert!(address.starts_with(server.endpoint()), "{address}");
    // Without any key; and from a byte on.
    let read = reqwest::get(&address).await.unwrap();
    assert_eq!(read.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    let rest = reqwest::Client::new().get(&address).header("range", "bytes=100-").send().await.unwrap();
    assert_eq!(rest.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(rest.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes()[100..]);
    let [config, _] = field.files;
    let (of_weights, of_config) = (blob_name(&weights), blob_name(&config));
    let elsewhere = reqwest::get(address.replace(&of_weights, &of_config)).await.unwrap();
    assert!(elsewhere.status().is_client_error(), "{}", elsewhere.status());
    // Through the registry it is had all the same, and without a grant there is no address.
    let through = get(format!("{}/internal/files/{weights}", field.node.base_url())).await.unwrap();
    assert_eq!(through.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    let refused = client.get(format!("{}/internal/files/{weights}?direct", field.node.base_url()));
    let refused = refused.bearer_auth(&field.node.key).send().await.unwrap();
    problem(refused, StatusCode::FORBIDDEN, "file_grant_missing").await;
}

fn blob_name(digest: &Digest) -> String {
    digest.to_string().replace("sha256:", "")
}
