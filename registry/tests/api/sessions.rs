//! Sessions: how they begin and end, what they are believed, and the pages around them.

use reqwest::header::{CONTENT_SECURITY_POLICY, COOKIE, ORIGIN, SET_COOKIE};
use reqwest::{Method, StatusCode};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::browser::{Browser, SESSION, end_of, invite};
use crate::support::{Stack, body, in_haste, problem, wait_until};

/// A link that the operator makes for somebody.
async fn link_for(stack: &Stack, person: &str) -> String {
    let made = stack.admin.post(&format!("/members/{person}/sign-in-link?tenant=acme"), json!({})).await;
    body(made, StatusCode::CREATED).await["link"].as_str().unwrap().to_owned()
}

async fn member(stack: &Stack, role: &str) -> Browser {
    if stack.number("SELECT count(*) AS n FROM tenants WHERE name = 'acme'").await == 0 {
        stack.tenant("acme").await;
    }
    Browser::of_member(stack, "acme", role).await
}

async fn execute(stack: &Stack, statement: &str) {
    stack.database().await.execute_unprepared(statement).await.unwrap();
}

#[tokio::test]
async fn a_link_signs_in_once_by_a_click_and_never_by_being_looked_at() {
    let stack = Stack::start().await;
    let person = member(&stack, "developer").await.person().await;
    let link = link_for(&stack, &person).await;
    let browser = Browser::new(&stack);
    for _ in 0..3 {
        let page = browser.open(&link).await;
        assert_eq!(page.status(), StatusCode::OK);
        assert!(page.headers().get(SET_COOKIE).is_none());
    }
    let fields = [("secret", end_of(&link))];
    let signed_in = browser.submit("/sign-in/link", &fields).await;
    let cookie = signed_in.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-souk-session=ses_"), "{cookie}");
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=604800"), "{cookie}");
    let page = signed_in.text().await.unwrap();
    assert!(page.contains("content=\"0;url=/sign-in/done\""), "a plain page leads on: {page}");
    assert_eq!(browser.person().await, person);
    let secret = browser.cookie(SESSION).unwrap();
    let stored = format!("SELECT count(*) AS n FROM sessions WHERE id = '{}'", secret.split('.').next().unwrap());
    assert_eq!(stack.number(&stored).await, 1);
    for other in [&browser, &Browser::new(&stack)] {
        assert_eq!(other.open(&link).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(other.submit("/sign-in/link", &fields).await.status(), StatusCode::NOT_FOUND);
    }
    // A new link takes the place of the one before, and each is good for its time alone.
    let (older, newer) = (link_for(&stack, &person).await, link_for(&stack, &person).await);
    assert_eq!(browser.open(&older).await.status(), StatusCode::NOT_FOUND);
    execute(&stack, "UPDATE sign_in_links SET expires_at_ms = 1").await;
    assert_eq!(browser.open(&newer).await.status(), StatusCode::GONE);
    assert_eq!(browser.submit("/sign-in/link", &[("secret", end_of(&newer))]).await.status(), StatusCode::GONE);
}

#[tokio::test]
async fn of_two_who_use_one_link_at_once_one_is_signed_in() {
    let first = Stack::start_with(in_haste).await;
    let person = member(&first, "developer").await.person().await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    for _ in 0..4 {
        let link = link_for(&first, &person).await;
        let fields = [("secret", end_of(&link))];
        let (one, other) = (Browser::new(&first), Browser::new(&second));
        let (at_one, at_other) =
            tokio::join!(one.submit("/sign-in/link", &fields), other.submit("/sign-in/link", &fields));
        let mut statuses = [at_one.status().as_u16(), at_other.status().as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404]);
    }
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_and_signs_nobody_in() {
    let stack = Stack::start().await;
    let browser = member(&stack, "publisher").await;
    let csrf = browser.session().await["csrf_token"].as_str().unwrap().to_owned();
    let other_token = member(&stack, "owner").await.session().await["csrf_token"].as_str().unwrap().to_owned();
    let ours = browser.origin.clone();
    let cases = [
        (None, None),
        (Some(ours.as_str()), None),
        (None, Some(csrf.as_str())),
        (Some("https://evil.example"), Some(csrf.as_str())),
        (Some("null"), Some(csrf.as_str())),
        (Some(ours.as_str()), Some(other_token.as_str())),
        (Some(ours.as_str()), Some("")),
    ];
    for (origin, token) in cases {
        for (method, path) in
            [(Method::POST, "/adapters"), (Method::DELETE, "/auth/session"), (Method::POST, "/auth/token")]
        {
            let mut call = browser.call(method, path).json(&json!({ "name": "x" }));
            if let Some(origin) = origin {
                call = call.header(ORIGIN, origin);
            }
            if let Some(token) = token {
                call = call.header("x-csrf-token", token);
            }
            problem(call.send().await.unwrap(), StatusCode::FORBIDDEN, "csrf").await;
        }
    }
    // With a key beside it, the cookie counts for nothing.
    let key = stack.key_for("acme", &["adapters:write"]).await;
    let call = browser.call(Method::POST, "/adapters").bearer_auth(&key.key).json(&json!({ "name": "x" }));
    assert_eq!(call.send().await.unwrap().status(), StatusCode::CREATED);
    let link = link_for(&stack, &browser.person().await).await;
    let invitation = invite(&stack, "acme", "a@example.com", "viewer").await;
    let victim = Browser::new(&stack);
    for origin in ["https://evil.example", "null", ""] {
        for (path, link) in [("/sign-in/link", &link), ("/sign-in/invitation", &invitation)] {
            let forged = victim.submit_from(origin, path, &[("secret", end_of(link))]).await;
            assert_eq!(forged.status(), StatusCode::FORBIDDEN, "{path} from {origin}");
        }
        let forged = browser.submit_from(origin, "/sign-in/out", &[("csrf", &csrf)]).await;
        assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    }
    let forged = browser.submit("/sign-in/out", &[("csrf", &other_token)]).await;
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    assert!(browser.is_signed_in().await && !victim.is_signed_in().await);
    assert_eq!(browser.submit("/sign-in/out", &[("csrf", &csrf)]).await.status(), StatusCode::OK);
    assert!(browser.cookie(SESSION).is_none() && !browser.is_signed_in().await);
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_and_in_any_case_after_its_time() {
    let stack = Stack::start().await;
    let (idle, old) = (member(&stack, "viewer").await, member(&stack, "viewer").await);
    let id = |browser: &Browser| browser.cookie(SESSION).unwrap().split('.').next().unwrap().to_owned();
    let age = |column: &str, ms: i64, browser: &Browser| {
        format!("UPDATE sessions SET {column} = {column} - {ms} WHERE id = '{}'", id(browser))
    };
    // Twelve hours and seven days, less a minute.
    let (almost_idle, almost_old) = (43_200_000 - 60_000, 604_800_000 - 60_000);
    execute(&stack, &age("used_at_ms", almost_idle, &idle)).await;
    let used = format!("SELECT used_at_ms AS n FROM sessions WHERE id = '{}'", id(&idle));
    let unused_at_ms = stack.number(&used).await;
    assert!(idle.is_signed_in().await);
    wait_until("the use is written", async || stack.number(&used).await != unused_at_ms).await;
    let used_at_ms = stack.number(&used).await;
    execute(&stack, &age("used_at_ms", 30_000, &idle)).await;
    assert!(idle.is_signed_in().await);
    assert_eq!(stack.number(&used).await, used_at_ms - 30_000, "the use is written once a minute");
    execute(&stack, &age("used_at_ms", 43_200_000, &idle)).await;
    problem(idle.get("/auth/session").await, StatusCode::UNAUTHORIZED, "session_over").await;
    execute(&stack, &age("expires_at_ms", almost_old, &old)).await;
    let token = old.change(Method::POST, "/auth/token", json!({})).await;
    let lives = body(token, StatusCode::OK).await["expires_in"].as_u64().unwrap();
    assert!((1..=60).contains(&lives), "a token lives no longer than its session: {lives}");
    execute(&stack, &age("expires_at_ms", 60_000, &old)).await;
    problem(old.get("/auth/session").await, StatusCode::UNAUTHORIZED, "session_over").await;
}

#[tokio::test]
async fn what_is_no_cookie_of_ours_signs_nobody_in() {
    let stack = Stack::start().await;
    let browser = member(&stack, "viewer").await;
    let good = browser.cookie(SESSION).unwrap();
    let (id, secret) = good.split_once('.').unwrap();
    let other = member(&stack, "owner").await.cookie(SESSION).unwrap();
    let swapped = format!("{id}.{}", other.split_once('.').unwrap().1);
    for bad in ["", "x", id, secret, &swapped, &format!("{good}="), &good.to_uppercase(), &"a".repeat(4000)] {
        browser.set_cookie(SESSION, bad);
        let refused = browser.get("/auth/session").await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{bad}");
    }
    let call = browser.client().get(format!("{}/auth/session", stack.base_url));
    problem(call.send().await.unwrap(), StatusCode::UNAUTHORIZED, "key_missing").await;
    // The session's own text is no key.
    problem(stack.user(&good).get("/auth/whoami").await, StatusCode::UNAUTHORIZED, "key_invalid").await;
}

#[tokio::test]
async fn signing_in_again_ends_the_session_that_was_presented() {
    let stack = Stack::start().await;
    let browser = member(&stack, "developer").await;
    let (before, token) = (browser.cookie(SESSION).unwrap(), stack.user(&browser.token().await));
    browser.sign_in(&link_for(&stack, &browser.person().await).await).await;
    assert_ne!(browser.cookie(SESSION).unwrap(), before);
    let old = Browser::new(&stack);
    old.set_cookie(SESSION, &before);
    problem(old.get("/auth/session").await, StatusCode::UNAUTHORIZED, "session_over").await;
    problem(token.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
}

#[tokio::test]
async fn a_person_sees_and_ends_their_sessions_and_nobody_elses() {
    let stack = Stack::start().await;
    let browser = member(&stack, "developer").await;
    let other = Browser::new(&stack);
    other.sign_in(&link_for(&stack, &browser.person().await).await).await;
    let stranger = member(&stack, "owner").await;
    let own = body(browser.get("/auth/sessions").await, StatusCode::OK).await["data"].as_array().unwrap().clone();
    let shown: Vec<_> = own.iter().map(|row| (row["is_this"].clone(), row["signed_in_by"].clone())).collect();
    assert_eq!(shown, [(json!(false), json!("link")), (json!(true), json!("invitation"))]);
    assert_eq!(own[0]["client"], "a test");
    let path = format!("/auth/sessions/{}", own[0]["id"].as_str().unwrap());
    problem(stranger.change(Method::DELETE, &path, Value::Null).await, StatusCode::NOT_FOUND, "not_found").await;
    let token = stack.user(&other.token().await);
    for _ in 0..2 {
        assert_eq!(browser.change(Method::DELETE, &path, Value::Null).await.status(), StatusCode::NO_CONTENT);
    }
    problem(other.get("/auth/session").await, StatusCode::UNAUTHORIZED, "session_over").await;
    problem(token.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    let out = browser.change(Method::DELETE, "/auth/session", Value::Null).await;
    assert_eq!((out.status(), browser.cookie(SESSION)), (StatusCode::NO_CONTENT, None));
}

#[tokio::test]
async fn a_sessions_token_has_the_roles_scopes_and_ends_with_it_at_every_registry() {
    let first = Stack::start_with(in_haste).await;
    let browser = member(&first, "developer").await;
    let token = browser.token().await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    let token = second.user(&token);
    let me = body(token.get("/auth/whoami").await, StatusCode::OK).await;
    assert_eq!((&me["scopes"], &me["role"]), (&json!(["inference", "adapters:read"]), &json!("developer")));
    assert_eq!(me["person"]["id"], browser.person().await.as_str());
    let wider = browser.change(Method::POST, "/auth/token", json!({ "scopes": ["keys:manage"] })).await;
    problem(wider, StatusCode::FORBIDDEN, "scope_not_held").await;
    // A token is no session, whosever it is.
    problem(token.get("/auth/sessions").await, StatusCode::FORBIDDEN, "session_needed").await;
    problem(first.admin.get("/auth/session").await, StatusCode::FORBIDDEN, "session_needed").await;
    browser.change(Method::DELETE, "/auth/session", Value::Null).await;
    wait_until("the second has heard", async || token.get("/adapters").await.status() == StatusCode::UNAUTHORIZED)
        .await;
}

#[tokio::test]
async fn a_session_acts_for_one_of_its_persons_tenants_and_one_of_an_owners_link_for_that_owners_alone() {
    let stack = Stack::start().await;
    let browser = member(&stack, "publisher").await;
    let person = browser.person().await;
    stack.tenant("rival").await;
    stack.tenant("other").await;
    let rivals = json!({ "secret": end_of(&invite(&stack, "rival", "p@example.com", "viewer").await) });
    let accepted = browser.change(Method::POST, "/invitations/accept", rivals).await;
    assert_eq!(accepted.status(), StatusCode::NO_CONTENT);
    let choose = async |browser: &Browser, tenant: &str| {
        browser.change(Method::POST, "/auth/session/tenant", json!({ "tenant": tenant })).await
    };
    assert_eq!(body(choose(&browser, "acme").await, StatusCode::OK).await["role"], "publisher");
    assert_eq!(browser.change(Method::POST, "/adapters", json!({ "name": "x" })).await.status(), StatusCode::CREATED);
    assert_eq!(body(choose(&browser, "rival").await, StatusCode::OK).await["role"], "viewer");
    let refused = browser.change(Method::POST, "/adapters", json!({ "name": "x" })).await;
    problem(refused, StatusCode::FORBIDDEN, "scope_missing").await;
    for tenant in ["other", "nobody"] {
        problem(choose(&browser, tenant).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    let owner = member(&stack, "owner").await;
    let made = owner.change(Method::POST, &format!("/members/{person}/sign-in-link"), json!({})).await;
    let made = body(made, StatusCode::CREATED).await;
    assert_eq!(made["is_confined"], true);
    let confined = Browser::new(&stack);
    confined.sign_in(made["link"].as_str().unwrap()).await;
    let session = confined.session().await;
    assert_eq!(session["tenants"], json!([{ "tenant": "acme", "role": "publisher" }]), "of others nothing is told");
    for tenant in ["rival", "other", "nobody"] {
        problem(choose(&confined, tenant).await, StatusCode::FORBIDDEN, "session_confined").await;
    }
    assert_eq!(choose(&confined, "acme").await.status(), StatusCode::OK);
    let seen = body(confined.get("/auth/sessions").await, StatusCode::OK).await;
    assert_eq!(seen["data"].as_array().unwrap().len(), 1, "nor of other sessions: {seen}");
    let own = browser.session().await["id"].as_str().unwrap().to_owned();
    let ended = confined.change(Method::DELETE, &format!("/auth/sessions/{own}"), Value::Null).await;
    problem(ended, StatusCode::NOT_FOUND, "not_found").await;
    let others = json!({ "secret": end_of(&invite(&stack, "other", "p@example.com", "viewer").await) });
    let refused = confined.change(Method::POST, "/invitations/accept", others).await;
    problem(refused, StatusCode::FORBIDDEN, "session_confined").await;
}

#[tokio::test]
async fn who_is_a_member_nowhere_is_told_so_and_can_use_an_invitation() {
    let stack = Stack::start().await;
    let browser = member(&stack, "viewer").await;
    let person = browser.person().await;
    execute(&stack, &format!("DELETE FROM members WHERE person_id = '{person}'")).await;
    let session = browser.session().await;
    assert_eq!((&session["tenant"], &session["tenants"]), (&Value::Null, &json!([])));
    for path in ["/adapters", "/auth/whoami", "/nothing"] {
        problem(browser.get(path).await, StatusCode::FORBIDDEN, "no_tenant").await;
    }
    let token = browser.change(Method::POST, "/auth/token", json!({})).await;
    problem(token, StatusCode::FORBIDDEN, "no_tenant").await;
    let page = browser.open("/sign-in/done").await.text().await.unwrap();
    assert!(page.contains("member of no tenant yet"), "{page}");
    browser.join(&invite(&stack, "acme", "v@example.com", "viewer").await).await;
    assert_eq!(browser.session().await["tenant"]["tenant"], "acme");
    assert_eq!(browser.person().await, person, "it is the same person");
}

#[tokio::test]
async fn a_browser_that_keeps_no_cookie_is_told_so() {
    let stack = Stack::start().await;
    let page = Browser::new(&stack).open("/sign-in/done").await;
    assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
    let page = page.text().await.unwrap();
    assert!(page.contains("did not keep the cookie") && page.contains("has no TLS"), "{page}");
    // One that does goes on where it wanted to, and nowhere else.
    let browser = member(&stack, "viewer").await;
    let done = browser.open("/sign-in/done?return_to=%2Fdocs%2F").await;
    assert_eq!((done.status(), done.headers()["location"].to_str().unwrap()), (StatusCode::SEE_OTHER, "/docs/"));
    for elsewhere in ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2F%5Cevil.example", "javascript%3Aalert(1)"]
    {
        let done = browser.open(&format!("/sign-in/done?return_to={elsewhere}")).await;
        assert_eq!(done.status(), StatusCode::OK, "{elsewhere}");
        let start = browser.open(&format!("/sign-in?return_to={elsewhere}")).await.text().await.unwrap();
        assert!(!start.contains("evil") && !start.contains("javascript"), "{start}");
    }
}

#[tokio::test]
async fn pages_run_no_script_whatever_people_and_tenants_are_called() {
    let stack = Stack::start().await;
    let browser = member(&stack, "viewer").await;
    let name = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let person = browser.person().await;
    let quoted = name.replace('\'', "''");
    execute(&stack, &format!("UPDATE persons SET name = '{quoted}' WHERE id = '{person}'")).await;
    let invitation = invite(&stack, "acme", "x@example.com", "viewer").await;
    let wrong = "/sign-in/link/%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned();
    for address in ["/sign-in/done".to_owned(), invitation, wrong, "/sign-in?return_to=/%3Cscript%3E".to_owned()] {
        let page = browser.open(&address).await;
        let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
        assert_eq!(page.headers()["referrer-policy"], "same-origin");
        assert_eq!(page.headers()["cache-control"], "no-store");
        let html = page.text().await.unwrap();
        assert!(!html.contains("<script") && !html.contains("<img"), "{address}: {html}");
    }
}

#[tokio::test]
async fn an_address_that_tries_too_often_waits_and_links_can_be_off() {
    let stack = Stack::start_with(|config| {
        config.sign_in.attempts_per_minute = 5;
        config.sign_in.links = false;
    })
    .await;
    stack.tenant("acme").await;
    let link = invite(&stack, "acme", "x@example.com", "viewer").await;
    let browser = Browser::new(&stack);
    let page = browser.open(&link).await.text().await.unwrap();
    assert!(!page.contains("<form"), "an invitation is used with a provider alone: {page}");
    let refused = browser.submit("/sign-in/invitation", &[("secret", end_of(&link))]).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let wrong = "/sign-in/link/lnk_00000000000000000000000000000000.AAAA";
    assert_eq!(browser.open(wrong).await.status(), StatusCode::CONFLICT, "links do not sign in");
    let statuses = [browser.open("/sign-in").await, browser.open("/sign-in").await, browser.open("/sign-in").await];
    assert_eq!(statuses.map(|answer| answer.status().as_u16()), [200, 200, 429]);
}

#[tokio::test]
async fn a_form_is_a_form_and_no_longer_than_one_has_to_be() {
    let stack = Stack::start().await;
    let browser = member(&stack, "viewer").await;
    let client = browser.client();
    let form = client.post(format!("{}/sign-in/link", browser.origin)).header(ORIGIN, &browser.origin);
    let as_json = form.try_clone().unwrap().json(&json!({ "secret": "x" })).send().await.unwrap();
    assert_eq!(as_json.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let typed = form.header("content-type", "application/x-www-form-urlencoded");
    let send = async |text: String| typed.try_clone().unwrap().body(text).send().await.unwrap().status();
    assert_eq!(send("secret=%ff&x=1".to_owned()).await, StatusCode::BAD_REQUEST);
    assert_eq!(send("".to_owned()).await, StatusCode::BAD_REQUEST);
    assert_eq!(send(format!("secret={}", "a".repeat(20_000))).await, StatusCode::PAYLOAD_TOO_LARGE);
    let put = client.put(format!("{}/sign-in", browser.origin)).send().await.unwrap();
    assert_eq!(put.status(), StatusCode::METHOD_NOT_ALLOWED);
    let page = client.get(format!("{}/sign-in", browser.origin)).header(COOKIE, "__Host-souk-session=x").send().await;
    assert_eq!(page.unwrap().status(), StatusCode::OK, "a session that is none is none");
}
