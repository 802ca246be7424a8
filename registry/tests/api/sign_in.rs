//! Signing in with a provider of identities: a mock of one, and one of our own that says whatever a test wants. What a token
//! must be is tested beside its reader.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use souk_protocol::wall_clock;
use souk_registry::{ProviderSettings, RegistryConfig};
use souk_testkit::oidc::MockProvider;

use crate::browser::{Browser, end_of, invite};
use crate::own_provider::{OwnProvider, Said};
use crate::support::{Stack, body, problem};

const LOGIN: &str = "__Host-souk-login";

fn provider(url: &str) -> ProviderSettings {
    ProviderSettings {
        title: "Example".to_owned(),
        url: url.to_owned(),
        client_id: "souk".to_owned(),
        client_secret: "hush & more".into(),
        client_secret_file: "".into(),
    }
}

fn with_provider(config: &mut RegistryConfig, url: &str) {
    config.sign_in.attempts_per_minute = 10_000;
    config.sign_in.providers.insert("example".to_owned(), provider(url));
}

fn query_of(address: &str) -> BTreeMap<String, String> {
    Url::parse(address).unwrap().query_pairs().into_owned().collect()
}

fn location(answer: &Response) -> String {
    answer.headers()[LOCATION].to_str().unwrap().to_owned()
}

/// Begins a sign-in; answers the provider's address.
async fn begin(browser: &Browser, query: &str) -> String {
    let answer = browser.open(&format!("/sign-in/provider/example{query}")).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{}", answer.text().await.unwrap());
    location(&answer)
}

/// What somebody is sent back with by the mock, who says who they are there.
async fn let_in(address: &str, subject: &str) -> String {
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let form = serde_urlencoded::to_string([("sub", subject)]).unwrap();
    let request = client.post(address).header("content-type", "application/x-www-form-urlencoded").body(form);
    location(&request.send().await.unwrap())
}

/// The whole way, by a mock.
async fn sign_in(browser: &Browser, subject: &str, query: &str) -> Response {
    let address = begin(browser, query).await;
    browser.open(&let_in(&address, subject).await).await
}

const CONNECT: &str = "/sign-in/provider/example/connect";

/// Lets the provider know who is signed in.
async fn connect(browser: &Browser, subject: &str) -> Response {
    let csrf = browser.session().await["csrf_token"].as_str().unwrap().to_owned();
    let page = browser.submit(CONNECT, &[("csrf", &csrf)]).await;
    assert_eq!(page.status(), StatusCode::OK);
    let html = page.text().await.unwrap();
    let address = html.split("<a href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    browser.open(&let_in(&address, subject).await).await
}

fn people() -> [Value; 3] {
    let person = |sub: &str, email: &str, is_verified: bool| json!({ "sub": sub, "email": email, "email_verified": is_verified, "name": format!("{sub} <of> Example") });
    [
        person("ada", "Ada@Example.com", true),
        person("eve", "ada@example.com", false),
        person("bob", "bob@example.com", true),
    ]
}

#[tokio::test]
async fn who_was_invited_signs_in_with_the_provider_that_vouches_for_the_address_and_then_without_an_invitation() {
    let mock = MockProvider::start(&people());
    let stack = Stack::start_with(|config| with_provider(config, &mock.url)).await;
    stack.tenant("acme").await;
    let link = invite(&stack, "acme", "ada@example.com", "developer").await;
    let query = format!("?invitation={}", end_of(&link));
    let start = Browser::new(&stack).open("/sign-in").await.text().await.unwrap();
    assert!(start.contains("/sign-in/provider/example") && start.contains("Sign in with Example"), "{start}");
    // Of somebody else, and of one whose address the provider does not vouch for.
    for subject in ["bob", "eve"] {
        let browser = Browser::new(&stack);
        let refused = sign_in(&browser, subject, &query).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{subject}");
        assert!(refused.text().await.unwrap().contains("for another address"));
        assert!(!browser.is_signed_in().await);
    }
    assert_eq!(stack.number("SELECT count(*) AS n FROM persons").await, 0, "nobody came in");
    let ada = Browser::new(&stack);
    let landed = sign_in(&ada, "ada", &query).await;
    assert_eq!(landed.status(), StatusCode::OK);
    assert!(landed.text().await.unwrap().contains("0;url=/sign-in/done"));
    assert!(ada.cookie(LOGIN).is_none(), "the cookie of the sign-in is gone");
    let session = ada.session().await;
    assert_eq!(session["tenant"], json!({ "tenant": "acme", "role": "developer" }));
    let person = &session["person"];
    assert_eq!((&person["email"], &person["email_is_verified"]), (&json!("ada@example.com"), &json!(true)));
    assert_eq!(person["name"], "ada <of> Example");
    let page = ada.open("/sign-in/done").await.text().await.unwrap();
    assert!(page.contains("ada &lt;of&gt; Example"), "{page}");
    // From another browser, and where she wanted to.
    let elsewhere = Browser::new(&stack);
    let landed = sign_in(&elsewhere, "ada", "?return_to=%2Fdocs%2F").await;
    assert!(landed.text().await.unwrap().contains("return_to=%2Fdocs%2F"));
    assert_eq!(elsewhere.person().await, person["id"].as_str().unwrap());
    // Signed in, she can use a further invitation only of her own address.
    stack.tenant("rival").await;
    for (email, status) in [("bob@example.com", StatusCode::FORBIDDEN), ("ada@example.com", StatusCode::NO_CONTENT)] {
        let link = invite(&stack, "rival", email, "viewer").await;
        let accepted = ada.change(Method::POST, "/invitations/accept", json!({ "secret": end_of(&link) })).await;
        assert_eq!(accepted.status(), status, "{email}");
    }
}

#[tokio::test]
async fn who_is_not_invited_is_told_the_same_whether_the_address_is_known_or_not() {
    let mock = MockProvider::start(&people());
    let stack = Stack::start_with(|config| with_provider(config, &mock.url)).await;
    stack.tenant("acme").await;
    // Known by a link, and by an open invitation, and not at all.
    Browser::new(&stack).join(&invite(&stack, "acme", "ada@example.com", "viewer").await).await;
    invite(&stack, "acme", "bob@example.com", "viewer").await;
    let mut told = Vec::new();
    for subject in ["ada", "bob", "nobody@example.com"] {
        let browser = Browser::new(&stack);
        let refused = sign_in(&browser, subject, "").await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{subject}");
        told.push(refused.text().await.unwrap());
        assert!(!browser.is_signed_in().await);
    }
    assert!(told[0].contains("not known here") && told[0] == told[1] && told[1] == told[2], "{told:?}");
}

#[tokio::test]
async fn whoever_the_provider_lets_in_comes_in_and_makes_a_tenant_where_people_may() {
    let mock = MockProvider::start(&people());
    let stack = Stack::start_with(|config| {
        with_provider(config, &mock.url);
        config.settings.self_service = true;
    })
    .await;
    let eve = Browser::new(&stack);
    assert_eq!(sign_in(&eve, "eve", "").await.status(), StatusCode::OK);
    let session = eve.session().await;
    assert_eq!((&session["tenant"], &session["person"]["email_is_verified"]), (&Value::Null, &json!(false)));
    let made = eve.change(Method::POST, "/auth/tenants", json!({ "name": "eves" })).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    assert_eq!(eve.change(Method::POST, "/adapters", json!({ "name": "x" })).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_sign_in_is_finished_once_by_the_browser_that_began_it_and_with_what_belongs_to_it() {
    let mock = MockProvider::start(&people());
    let stack = Stack::start_with(|config| {
        with_provider(config, &mock.url);
        config.settings.self_service = true;
    })
    .await;
    let ada = Browser::new(&stack);
    let address = begin(&ada, "").await;
    let asked = query_of(&address);
    assert_eq!((asked["response_type"].as_str(), asked["scope"].as_str()), ("code", "openid email profile"));
    assert_eq!((asked["client_id"].as_str(), asked["code_challenge_method"].as_str()), ("souk", "S256"));
    assert_eq!(asked["redirect_uri"], format!("{}/sign-in/provider/example/callback", ada.origin));
    let back = let_in(&address, "ada").await;
    let refused = async |browser: &Browser, back: &str| {
        let answer = browser.open(back).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{back}");
        assert!(!browser.is_signed_in().await);
    };
    // Another browser has no cookie, or that of a sign-in of its own.
    let mallory = Browser::new(&stack);
    refused(&mallory, &back).await;
    begin(&mallory, "").await;
    refused(&mallory, &back).await;
    // The cookie of one sign-in with what belongs to another.
    let (state, cookie) = (&asked["state"], ada.cookie(LOGIN).unwrap());
    let without = back.split("&state=").next().unwrap().to_owned();
    let wrong = ["", "x", &state[..state.len() - 1], &state.to_uppercase()];
    for back in wrong.map(|wrong| back.replace(state.as_str(), wrong)).into_iter().chain([without]) {
        ada.set_cookie(LOGIN, &cookie);
        refused(&ada, &back).await;
        assert!(ada.cookie(LOGIN).is_none(), "a failed one takes the cookie away");
    }
    // From the beginning, and then twice.
    let back = let_in(&begin(&ada, "").await, "ada").await;
    let cookie = ada.cookie(LOGIN).unwrap();
    assert_eq!(ada.open(&back).await.status(), StatusCode::OK);
    let other = Browser::new(&stack);
    other.set_cookie(LOGIN, &cookie);
    refused(&other, &back).await;
    // The code is worth nothing in another sign-in either: the mock takes it once.
    let mine = begin(&mallory, "").await;
    let code = query_of(&back)["code"].clone();
    let stolen =
        format!("{}/sign-in/provider/example/callback?code={code}&state={}", ada.origin, query_of(&mine)["state"]);
    refused(&mallory, &stolen).await;
    // Too late.
    let back = let_in(&begin(&mallory, "").await, "ada").await;
    let db = stack.database().await;
    sea_orm::ConnectionTrait::execute_unprepared(&db, "UPDATE logins SET expires_at_ms = 1").await.unwrap();
    refused(&mallory, &back).await;
}

#[tokio::test]
async fn a_person_who_came_by_a_link_connects_a_provider_and_nobody_elses_account() {
    let mock = MockProvider::start(&people());
    let stack = Stack::start_with(|config| with_provider(config, &mock.url)).await;
    stack.tenant("acme").await;
    let browser = Browser::of_member(&stack, "acme", "viewer").await;
    let other = Browser::of_member(&stack, "acme", "viewer").await;
    let person = browser.person().await;
    assert_eq!(connect(&browser, "ada").await.status(), StatusCode::OK);
    assert_eq!(browser.person().await, person);
    let entry =
        format!("SELECT count(*) AS n FROM audit_entries WHERE action = 'person.connected' AND subject = '{person}'");
    assert_eq!(stack.number(&entry).await, 1);
    let again = Browser::new(&stack);
    assert_eq!(sign_in(&again, "ada", "").await.status(), StatusCode::OK);
    assert_eq!(again.person().await, person, "known by the provider now");
    assert_eq!(again.session().await["person"]["email"], "ada@example.com");
    assert_eq!(connect(&other, "ada").await.status(), StatusCode::FORBIDDEN);
    assert_ne!(other.person().await, person);
    let nobody = Browser::new(&stack).submit(CONNECT, &[("csrf", "x")]).await;
    assert_eq!(nobody.status(), StatusCode::FORBIDDEN);
    // Another site can lead a browser to the address, and knows no token.
    for browser in [&browser, &other] {
        assert_eq!(browser.submit(CONNECT, &[("csrf", "x")]).await.status(), StatusCode::FORBIDDEN);
        assert_eq!(browser.open(CONNECT).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    assert_eq!(Browser::new(&stack).open("/sign-in/provider/another").await.status(), StatusCode::NOT_FOUND);
}

/// The whole way, with changed claims.
async fn sign_in_at(provider: &OwnProvider, browser: &Browser, kid: &str, changes: Value) -> Response {
    let asked = query_of(&begin(browser, "").await);
    provider.issue(kid, &asked["nonce"], &changes);
    let back = format!("/sign-in/provider/example/callback?code=c&state={}", asked["state"]);
    browser.open(&back).await
}

async fn with_own_provider() -> (OwnProvider, Stack) {
    let provider = OwnProvider::start().await;
    let stack = Stack::start_with(|config| {
        with_provider(config, &provider.url);
        config.settings.self_service = true;
    })
    .await;
    (provider, stack)
}

#[tokio::test]
async fn a_token_that_is_not_of_this_sign_in_lets_nobody_in() {
    let (provider, stack) = with_own_provider().await;
    let browser = Browser::new(&stack);
    let now = wall_clock::since_epoch().as_secs();
    for changes in [
        json!({ "nonce": "another" }),
        json!({ "iss": "https://login.example.com" }),
        json!({ "aud": "another" }),
        json!({ "aud": ["souk", "another"] }),
        json!({ "exp": now - 120 }),
        json!({ "sub": "" }),
    ] {
        let refused = sign_in_at(&provider, &browser, "k1", changes.clone()).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{changes}");
        assert!(!browser.is_signed_in().await);
    }
    let asked = query_of(&begin(&browser, "").await);
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "iss": provider.url, "aud": "souk", "sub": "ada", "exp": now + 300, "iat": now, "nonce": asked["nonce"] });
    let unsigned = format!("{}.{}.", part(json!({ "alg": "none", "kid": "k1" })), part(claims));
    provider.say(|said, _| said.tokens = json!({ "access_token": "a", "id_token": unsigned }));
    let back = format!("/sign-in/provider/example/callback?code=c&state={}", asked["state"]);
    assert_eq!(browser.open(&back).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(stack.number("SELECT count(*) AS n FROM persons").await, 0);
    assert_eq!(sign_in_at(&provider, &browser, "k1", json!({})).await.status(), StatusCode::OK);
    assert!(browser.is_signed_in().await);
}

#[tokio::test]
async fn the_provider_is_asked_with_the_verifier_and_the_secret_and_only_when_it_has_to_be() {
    let (provider, stack) = with_own_provider().await;
    let browser = Browser::new(&stack);
    let address = begin(&browser, "").await;
    assert!(address.starts_with(&format!("{}/authorize?tenant=1&response_type=code", provider.url)), "{address}");
    let asked = query_of(&address);
    provider.issue("k1", &asked["nonce"], &json!({}));
    let back = format!("/sign-in/provider/example/callback?code=c%2F1&state={}", asked["state"]);
    assert_eq!(browser.open(&back).await.status(), StatusCode::OK);
    let (headers, form) = provider.said.lock().unwrap().asked.take().unwrap();
    let form: BTreeMap<String, String> = serde_urlencoded::from_str(&form).unwrap();
    assert_eq!((form["grant_type"].as_str(), form["code"].as_str()), ("authorization_code", "c/1"));
    assert_eq!(form["redirect_uri"], asked["redirect_uri"]);
    assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"])), asked["code_challenge"]);
    let basic = headers["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap();
    assert_eq!(STANDARD.decode(basic).unwrap(), b"souk:hush+%26+more");
    for _ in 0..3 {
        assert_eq!(sign_in_at(&provider, &Browser::new(&stack), "k1", json!({})).await.status(), StatusCode::OK);
    }
    let counted = || {
        let said = provider.said.lock().unwrap();
        (said.num_metadata, said.num_keys)
    };
    assert_eq!(counted(), (1, 1), "metadata and keys are kept");
    // A key that is not known is asked for, but not each time that one is named.
    let refused = sign_in_at(&provider, &browser, "k2", json!({})).await;
    assert_eq!((refused.status(), counted()), (StatusCode::FORBIDDEN, (1, 1)));
    assert_eq!(stack.number("SELECT count(*) AS n FROM persons").await, 1, "it is one person");
}

#[tokio::test]
async fn a_provider_that_is_not_what_it_says_is_not_used() {
    let wrong: [fn(&mut Said, &str); 6] = [
        |said, _| said.metadata["issuer"] = json!("https://login.example.com"),
        |said, _| said.metadata["token_endpoint"] = json!("ftp://x"),
        |said, _| said.metadata["authorization_endpoint"] = json!("javascript:alert(1)"),
        |said, _| drop(said.metadata.as_object_mut().unwrap().remove("jwks_uri")),
        |said, _| said.metadata["more"] = json!("x".repeat(300_000)),
        |said, _| said.keys = json!([]),
    ];
    for change in wrong {
        let (provider, stack) = with_own_provider().await;
        provider.say(change);
        let page = Browser::new(&stack).open("/sign-in/provider/example").await;
        assert_eq!(page.status(), StatusCode::FORBIDDEN);
        assert!(page.text().await.unwrap().contains("does not answer as a provider does"));
        // Who comes a moment later does not ask again, nor wait in line to do so.
        let again = Browser::new(&stack).open("/sign-in/provider/example").await;
        assert_eq!((again.status(), provider.said.lock().unwrap().num_metadata), (StatusCode::FORBIDDEN, 1));
    }
    let (provider, stack) = with_own_provider().await;
    provider.say(|said, _| said.metadata["authorization_response_iss_parameter_supported"] = json!(true));
    let browser = Browser::new(&stack);
    let refused = sign_in_at(&provider, &browser, "k1", json!({})).await;
    assert!(refused.text().await.unwrap().contains("another provider sent it back"), "one that says who it is must");
    for (iss, status) in [("https://evil.example", StatusCode::FORBIDDEN), (provider.url.as_str(), StatusCode::OK)] {
        let asked = query_of(&begin(&browser, "").await);
        provider.issue("k1", &asked["nonce"], &json!({}));
        let iss = serde_urlencoded::to_string([("iss", iss)]).unwrap();
        let back = format!("/sign-in/provider/example/callback?code=c&state={}&{iss}", asked["state"]);
        assert_eq!(browser.open(&back).await.status(), status);
    }
    let asked = query_of(&begin(&browser, "").await);
    let iss = serde_urlencoded::to_string([("iss", &provider.url)]).unwrap();
    let back = format!("/sign-in/provider/example/callback?error=%3Cscript%3E&state={}&{iss}", asked["state"]);
    let page = browser.open(&back).await.text().await.unwrap();
    assert!(page.contains("it answered `script`") && !page.contains("<script"), "{page}");
    let me = browser.get("/auth/whoami").await;
    problem(me, StatusCode::FORBIDDEN, "no_tenant").await;
    let session = body(browser.get("/auth/session").await, StatusCode::OK).await;
    assert_eq!(session["person"]["email"], Value::Null);
}
