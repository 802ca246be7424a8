//! How a program on a person's machine gets a key of theirs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode, Url};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::browser::Browser;
use crate::support::{Stack, body, in_haste, problem, wait_until};

pub(crate) const VERIFIER: &str = "a-text-that-the-program-has-made-up-and-nobody-knows";

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER))
}

fn asked(port: &str) -> [(&'static str, String); 4] {
    [
        ("port", port.to_owned()),
        ("state", "s-1".to_owned()),
        ("challenge", challenge()),
        ("name", "a <laptop>".to_owned()),
    ]
}

fn address(port: &str) -> String {
    format!("/sign-in/cli?{}", serde_urlencoded::to_string(asked(port)).unwrap())
}

/// Lets a program have a key of a developer's of acme; answers where the browser is sent.
pub(crate) async fn allow(browser: &Browser) -> Url {
    let page = browser.open(&address("4000")).await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("form-action 'self' http://127.0.0.1:4000;"), "{policy}");
    let html = page.text().await.unwrap();
    assert!(html.contains("a &lt;laptop&gt;") && html.contains("act for acme as developer"), "{html}");
    allow_named(browser, "a <laptop>").await
}

/// The same for whoever has the browser and a program that calls itself `name`, without a look at the page.
pub(crate) async fn allow_named(browser: &Browser, name: &str) -> Url {
    let csrf = browser.session().await["csrf_token"].as_str().unwrap().to_owned();
    let mut fields = asked("4000").to_vec();
    fields.retain(|(field, _)| *field != "name");
    fields.extend([("name", name.to_owned()), ("csrf", csrf)]);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let allowed = browser.submit("/sign-in/cli", &fields).await;
    assert_eq!(allowed.status(), StatusCode::SEE_OTHER, "{}", allowed.text().await.unwrap());
    Url::parse(allowed.headers()[LOCATION].to_str().unwrap()).unwrap()
}

pub(crate) fn code_in(url: &Url) -> String {
    url.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned()
}

pub(crate) async fn exchange(stack: &Stack, code: &str, verifier: &str) -> Response {
    stack
        .user("")
        .client
        .post(format!("{}/auth/login", stack.base_url))
        .json(&json!({ "code": code, "verifier": verifier }))
        .send()
        .await
        .unwrap()
}

async fn developer(stack: &Stack) -> Browser {
    stack.tenant("acme").await;
    Browser::of_member(stack, "acme", "developer").await
}

#[tokio::test]
async fn a_program_that_is_let_gets_a_key_of_the_persons_that_ends_when_the_person_leaves() {
    let first = Stack::start_with(in_haste).await;
    let browser = developer(&first).await;
    let owner = Browser::of_member(&first, "acme", "owner").await;
    let url = allow(&browser).await;
    assert_eq!((url.host_str(), url.port()), (Some("127.0.0.1"), Some(4000)));
    assert!(url.query_pairs().any(|(name, value)| name == "state" && value == "s-1"));
    let got = body(exchange(&first, &code_in(&url), VERIFIER).await, StatusCode::CREATED).await;
    assert_eq!(got["tenant"], "acme");
    let user = first.user(got["secret"].as_str().unwrap());
    let me = body(user.get("/auth/whoami").await, StatusCode::OK).await;
    let person = browser.person().await;
    assert_eq!((&me["person"]["id"], &me["role"]), (&json!(person), &json!("developer")));
    assert_eq!((&me["scopes"], &me["key"]), (&json!(["inference", "adapters:read"]), &got["id"]));
    // The browser may sign out; the key is the person's and not the session's.
    browser.change(Method::DELETE, "/auth/session", Value::Null).await;
    assert_eq!(user.get("/adapters").await.status(), StatusCode::OK);
    let token = body(user.post("/auth/token", json!({})).await, StatusCode::OK).await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    let token = second.user(token["access_token"].as_str().unwrap());
    assert_eq!(token.get("/adapters").await.status(), StatusCode::OK);
    let removed = owner.change(Method::DELETE, &format!("/members/{person}"), Value::Null).await;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    problem(user.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    problem(second.user(&user.key).get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    wait_until("the second has heard", async || token.get("/adapters").await.status() == StatusCode::UNAUTHORIZED)
        .await;
}

#[tokio::test]
async fn a_key_of_a_program_stays_within_the_tenants_policy() {
    let stack = Stack::start().await;
    let browser = developer(&stack).await;
    let manager = stack.key_for("acme", &["tenant:manage"]).await;
    let got_under = async |policy: Value| {
        body(manager.put("/policy", policy).await, StatusCode::OK).await;
        exchange(&stack, &code_in(&allow(&browser).await), VERIFIER).await
    };
    let bounded = json!({ "max_key_days": 1, "scopes": ["inference", "keys:manage"] });
    let got = body(got_under(bounded).await, StatusCode::CREATED).await;
    let expires = OffsetDateTime::parse(got["expires_at"].as_str().unwrap(), &Rfc3339).unwrap();
    let from_now = expires - OffsetDateTime::from(souk_protocol::wall_clock::now());
    assert!(from_now <= time::Duration::DAY && from_now > time::Duration::hours(23), "{from_now}");
    let user = stack.user(got["secret"].as_str().unwrap());
    let me = body(user.get("/auth/whoami").await, StatusCode::OK).await;
    assert_eq!(me["scopes"], json!(["inference"]), "what the role and the policy both allow");
    for policy in [json!({ "scopes": ["adapters:write"] }), json!({ "personal_keys": false })] {
        problem(got_under(policy).await, StatusCode::FORBIDDEN, "against_policy").await;
    }
    assert_eq!(stack.number("SELECT count(*) AS n FROM api_keys WHERE person_id IS NOT NULL").await, 1);
}

#[tokio::test]
async fn a_code_is_good_once_for_a_minute_and_for_the_program_that_asked() {
    let stack = Stack::start().await;
    let browser = developer(&stack).await;
    let unknown = |answer| problem(answer, StatusCode::NOT_FOUND, "not_found");
    let code = code_in(&allow(&browser).await);
    unknown(exchange(&stack, &code, "another verifier").await).await;
    unknown(exchange(&stack, &code, VERIFIER).await).await;
    let code = code_in(&allow(&browser).await);
    let (one, other) = tokio::join!(exchange(&stack, &code, VERIFIER), exchange(&stack, &code, VERIFIER));
    let mut statuses = [one.status().as_u16(), other.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 404]);
    let db = stack.database().await;
    let code = code_in(&allow(&browser).await);
    db.execute_unprepared("UPDATE login_codes SET expires_at_ms = 1").await.unwrap();
    unknown(exchange(&stack, &code, VERIFIER).await).await;
    for wrong in ["", "cod_1", "x".repeat(5000).as_str()] {
        unknown(exchange(&stack, wrong, VERIFIER).await).await;
    }
    // A session that ends takes along what it let and nobody has got yet.
    let code = code_in(&allow(&browser).await);
    browser.change(Method::DELETE, "/auth/session", Value::Null).await;
    unknown(exchange(&stack, &code, VERIFIER).await).await;
    assert_eq!(stack.number("SELECT count(*) AS n FROM api_keys WHERE name = 'a <laptop>'").await, 1);
}

#[tokio::test]
async fn who_is_not_signed_in_is_sent_to_do_so_and_nothing_is_given_to_other_hosts_or_pages() {
    let stack = Stack::start().await;
    let nobody = Browser::new(&stack);
    let sent = nobody.open(&address("4000")).await;
    assert_eq!(sent.status(), StatusCode::SEE_OTHER);
    let start = sent.headers()[LOCATION].to_str().unwrap().to_owned();
    assert!(start.starts_with("/sign-in?return_to=%2Fsign-in%2Fcli%3Fport%3D4000"), "{start}");
    let browser = developer(&stack).await;
    for wrong in ["0", "70000", "80@evil.example", "", "x"] {
        assert_eq!(browser.open(&address(wrong)).await.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
    let fields = |csrf: &str| {
        let mut fields = asked("4000").to_vec();
        fields.push(("csrf", csrf.to_owned()));
        fields
    };
    let csrf = browser.session().await["csrf_token"].as_str().unwrap().to_owned();
    for (origin, csrf) in [("https://evil.example", csrf.as_str()), (browser.origin.as_str(), "x"), ("null", &csrf)] {
        let fields = fields(csrf);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let forged = browser.submit_from(origin, "/sign-in/cli", &fields).await;
        assert_eq!(forged.status(), StatusCode::FORBIDDEN, "{origin}");
    }
    assert_eq!(stack.number("SELECT count(*) AS n FROM login_codes").await, 0);
}
