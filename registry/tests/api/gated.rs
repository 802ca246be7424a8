//! Gated adapters: seen by all, called by those who asked and were granted access.

use reqwest::{Method, StatusCode};
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use souk_protocol::{AdapterRef, ResolveError};
use souk_registry::Withdrawn;

use crate::audit::{refuse_entries, state};
use crate::browser::persons_key;
use crate::support::{Stack, User, body, problem};

const ADAPTER: &str = "/adapters/acme/gated";

/// A gated adapter of acme with a form, a person of acme who decides, and a tenant that has nothing.
async fn gated(stack: &Stack) -> (User, User, User) {
    let acme = stack.tenant("acme").await;
    let asker = stack.tenant("asker").await;
    acme.make_adapter("gated", "gated").await;
    let mut files = crate::support::AdapterFiles::tiny(1).form("1.0.0");
    files = files.part("README.md", reqwest::multipart::Part::bytes(b"# Card".to_vec()));
    let sent = acme.request(Method::POST, &format!("{ADAPTER}/versions")).multipart(files).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::CREATED);
    let form = json!({ "questions": [
        { "name": "purpose", "label": "What for?", "kind": "text", "required": true },
        { "name": "terms", "label": "Do you accept the terms?", "kind": "checkbox", "required": true },
    ], "answer_within_days": 7 });
    body(acme.put(&format!("{ADAPTER}/gate"), form).await, StatusCode::OK).await;
    (acme, person(stack, "acme").await, asker)
}

/// A key of a person who decides.
async fn person(stack: &Stack, tenant: &str) -> User {
    persons_key(stack, tenant, &["adapters:read", "access:decide"]).await.0
}

async fn ask(asker: &User) -> Value {
    let answers = json!({ "answers": { "purpose": "To sort tickets.", "terms": true } });
    body(asker.post(&format!("{ADAPTER}/access-requests"), answers).await, StatusCode::CREATED).await
}

async fn step(user: &User, request: &Value, step: &str, with: Value) -> reqwest::Response {
    user.post(&format!("/access-requests/{}/{step}", request["id"].as_str().unwrap()), with).await
}

async fn resolves(stack: &Stack, user: &User) -> Result<(), ResolveError> {
    let reference: AdapterRef = "acme/gated".parse().unwrap();
    stack.registry.resolve(&stack.principal(user).await, &reference).await.map(|_| ())
}

#[tokio::test]
async fn all_see_a_gated_adapter_and_its_card_and_only_who_was_granted_access_its_files_and_calls() {
    let stack = Stack::start().await;
    let (_, decider, asker) = gated(&stack).await;
    let file = |name: &str| format!("{ADAPTER}/versions/1.0.0/files/{name}");
    for path in [ADAPTER.to_owned(), format!("{ADAPTER}/versions"), file("README.md"), format!("{ADAPTER}/gate")] {
        assert_eq!(asker.get(&path).await.status(), StatusCode::OK, "{path}");
    }
    for name in ["manifest.json", "adapter_model.safetensors", "nothing"] {
        problem(asker.get(&file(name)).await, StatusCode::FORBIDDEN, "access_needed").await;
    }
    assert!(matches!(resolves(&stack, &asker).await, Err(ResolveError::NotGranted(_))));
    let principal = stack.principal(&asker).await;
    assert!(stack.registry.list_models(&principal, 9).await.unwrap().models.is_empty(), "it cannot be called");
    let request = ask(&asker).await;
    assert_eq!((request["state"].as_str(), request["tenant"].as_str()), (Some("pending"), Some("asker")));
    let end = "2999-01-01T00:00:00Z";
    let approved = step(&decider, &request, "approve", json!({ "expires_at": end, "reason": "welcome" })).await;
    let approved = body(approved, StatusCode::OK).await;
    assert_eq!((&approved["state"], &approved["expires_at"]), (&json!("approved"), &json!(end)));
    resolves(&stack, &asker).await.unwrap();
    assert_eq!(asker.get(&file("manifest.json")).await.status(), StatusCode::OK);
    assert_eq!(stack.registry.list_models(&principal, 9).await.unwrap().models.len(), 1);
    // A grant that is over is none with the next query.
    stack.database().await.execute_unprepared("UPDATE adapter_grants SET expires_at_ms = 1").await.unwrap();
    assert!(matches!(resolves(&stack, &asker).await, Err(ResolveError::NotGranted(_))));
    problem(asker.get(&file("manifest.json")).await, StatusCode::FORBIDDEN, "access_needed").await;
    assert_eq!(ask(&asker).await["state"], "pending", "one may ask again");
}

#[tokio::test]
async fn a_request_has_the_answers_that_the_form_asks_for_and_one_waits_at_a_time() {
    let stack = Stack::start_with(|config| config.settings.max_access_requests_per_day = 2).await;
    let (acme, decider, asker) = gated(&stack).await;
    let path = format!("{ADAPTER}/access-requests");
    let wrong = json!({ "answers": { "purpose": 7, "more": "x" } });
    let answer = problem(asker.post(&path, wrong).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let subjects: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| &error["subject"]).collect();
    assert_eq!(subjects, ["answers.purpose", "answers.terms", "answers.more"]);
    problem(acme.post(&path, json!({})).await, StatusCode::CONFLICT, "already_granted").await;
    let request = ask(&asker).await;
    assert_eq!(request["answers"][0], json!({ "name": "purpose", "label": "What for?", "answer": "To sort tickets." }));
    let days = |text: &Value| {
        let moment =
            time::OffsetDateTime::parse(text.as_str().unwrap(), &time::format_description::well_known::Rfc3339);
        moment.unwrap().unix_timestamp() / 86400
    };
    assert_eq!(days(&request["due_at"]) - days(&request["asked_at"]), 7);
    let again = json!({ "answers": { "purpose": "x", "terms": true } });
    problem(asker.post(&path, again.clone()).await, StatusCode::CONFLICT, "already_exists").await;
    // Another form does not change what was answered.
    body(acme.put(&format!("{ADAPTER}/gate"), json!({ "questions": [] })).await, StatusCode::OK).await;
    let seen =
        body(decider.get(&format!("/access-requests/{}", request["id"].as_str().unwrap())).await, StatusCode::OK);
    assert_eq!(seen.await["answers"], request["answers"]);
    let withdrawn = body(step(&asker, &request, "withdraw", json!({})).await, StatusCode::OK).await;
    assert_eq!(withdrawn["state"], "withdrawn");
    body(asker.post(&path, json!({})).await, StatusCode::CREATED).await;
    let listed = body(asker.get("/access-requests?state=pending").await, StatusCode::OK).await;
    step(&asker, &listed["data"][0], "withdraw", json!({})).await;
    let refused = problem(asker.post(&path, json!({})).await, StatusCode::CONFLICT, "too_many").await;
    assert!(refused["detail"].as_str().unwrap().contains("max_access_requests_per_day is 2"), "{refused}");
}

#[tokio::test]
async fn persons_with_the_right_decide_and_operators_and_nobody_else() {
    let stack = Stack::start().await;
    let (acme, decider, asker) = gated(&stack).await;
    let request = ask(&asker).await;
    let service = stack.key_for("acme", &["adapters:read", "access:decide"]).await;
    let stranger = person(&stack, "asker").await;
    for (user, status, code) in [
        (&acme, StatusCode::FORBIDDEN, "scope_missing"),
        (&service, StatusCode::FORBIDDEN, "person_needed"),
        (&stranger, StatusCode::NOT_FOUND, "not_found"),
    ] {
        problem(step(user, &request, "approve", json!({})).await, status, code).await;
        problem(step(user, &request, "reject", json!({ "reason": "no" })).await, status, code).await;
    }
    let grant = service.put(&format!("{ADAPTER}/grants/asker"), json!({})).await;
    problem(grant, StatusCode::FORBIDDEN, "person_needed").await;
    let long = json!({ "reason": "x".repeat(1001) });
    problem(step(&decider, &request, "reject", long).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let rejected = step(&decider, &request, "reject", json!({ "reason": "not for tickets" })).await;
    assert_eq!(body(rejected, StatusCode::OK).await["state"], "rejected");
    let seen = body(asker.get("/access-requests").await, StatusCode::OK).await;
    assert_eq!(seen["data"][0]["reason"], "not for tickets");
    let second = ask(&asker).await;
    assert_eq!(
        body(step(&stack.admin, &second, "approve", json!({})).await, StatusCode::OK).await["state"],
        "approved"
    );
    let received = body(service.get("/access-requests/received?adapter=acme/gated").await, StatusCode::OK).await;
    assert_eq!(received["data"].as_array().unwrap().len(), 2);
    assert_eq!(received["data"][0]["id"], second["id"], "newest first");
    let by_state = body(service.get("/access-requests/received?state=rejected").await, StatusCode::OK).await;
    assert_eq!(by_state["data"][0]["id"], request["id"]);
    let operators = body(stack.admin.get("/access-requests/received?tenant=acme").await, StatusCode::OK).await;
    assert_eq!(operators["data"].as_array().unwrap().len(), 2);
    // Nobody else sees that there are any.
    let rival = stack.tenant("rival").await;
    let path = format!("/access-requests/{}", request["id"].as_str().unwrap());
    let absent = rival.get("/access-requests/acr_0").await;
    let absent = problem(absent, StatusCode::NOT_FOUND, "not_found").await["detail"].to_string();
    let hidden = problem(rival.get(&path).await, StatusCode::NOT_FOUND, "not_found").await["detail"].to_string();
    assert_eq!(hidden.replace(request["id"].as_str().unwrap(), "acr_0"), absent);
}

#[tokio::test]
async fn of_two_who_decide_at_once_one_does_and_the_other_hears_what_it_is() {
    let stack = Stack::start().await;
    let (_, decider, asker) = gated(&stack).await;
    let request = ask(&asker).await;
    let approve = || step(&decider, &request, "approve", json!({}));
    let reject = || step(&decider, &request, "reject", json!({ "reason": "no" }));
    let withdraw = || step(&asker, &request, "withdraw", json!({}));
    let (a, b, c, d) = tokio::join!(approve(), reject(), approve(), withdraw());
    let states = [a, b, c, d].map(|answer| answer.status());
    // Giving up what was granted meanwhile is a step of its own.
    let decided = states[..3].iter().filter(|status| **status == StatusCode::OK).count();
    assert!(decided <= 1, "{states:?}");
    assert!(states.iter().all(|status| [StatusCode::OK, StatusCode::CONFLICT].contains(status)), "{states:?}");
    let seen = body(asker.get("/access-requests").await, StatusCode::OK).await;
    let state = seen["data"][0]["state"].as_str().unwrap().to_owned();
    assert_ne!(state, "pending");
    let grants = stack.number("SELECT count(*) AS n FROM adapter_grants").await;
    assert_eq!(grants, i64::from(state == "approved"));
    for again in [approve().await, reject().await] {
        problem(again, StatusCode::CONFLICT, "wrong_state").await;
    }
}

#[tokio::test]
async fn what_was_granted_is_taken_back_by_either_side_and_ends_what_runs() {
    let stack = Stack::start().await;
    let (_, decider, asker) = gated(&stack).await;
    let mut listener = stack.registry.withdrawals();
    for (by, with) in [("revoke", json!({ "reason": "misuse" })), ("withdraw", json!({})), ("grant", json!({}))] {
        let request = ask(&asker).await;
        assert_eq!(step(&decider, &request, "approve", json!({})).await.status(), StatusCode::OK);
        resolves(&stack, &asker).await.unwrap();
        let answer = match by {
            "revoke" => step(&decider, &request, by, with).await,
            "withdraw" => step(&asker, &request, by, with).await,
            _ => decider.delete(&format!("{ADAPTER}/grants/asker")).await,
        };
        assert!(answer.status().is_success(), "{by}: {}", answer.status());
        assert!(matches!(listener.next().await, Some(Withdrawn::Access { .. })), "{by}");
        assert!(matches!(resolves(&stack, &asker).await, Err(ResolveError::NotGranted(_))), "{by}");
        let path = format!("/access-requests/{}", request["id"].as_str().unwrap());
        let state = body(asker.get(&path).await, StatusCode::OK).await["state"].clone();
        assert_eq!(state, if by == "withdraw" { "withdrawn" } else { "revoked" });
        problem(step(&decider, &request, "revoke", json!({})).await, StatusCode::CONFLICT, "wrong_state").await;
    }
    let told = |kind: &str| format!("SELECT count(*) AS n FROM outbox WHERE kind = '{kind}'");
    assert_eq!(stack.number(&told("access.requested")).await, 3);
    assert_eq!(stack.number(&told("access.decided")).await, 6);
}

#[tokio::test]
async fn the_owner_is_told_of_a_request_and_the_tenant_of_the_decision_and_each_chain_of_its_own_acts() {
    let stack = Stack::start().await;
    let (acme, decider, asker) = gated(&stack).await;
    let (owner, tenant) = (stack.principal(&acme).await.tenant, stack.principal(&asker).await.tenant);
    let request = ask(&asker).await;
    let id = request["id"].as_str().unwrap();
    step(&decider, &request, "approve", json!({})).await;
    let count = async |query: String| stack.number(&format!("SELECT count(*) AS n FROM {query}")).await;
    for (table, column, kind, whose) in [
        ("outbox", "kind", "access.requested", &owner),
        ("outbox", "kind", "access.decided", &tenant),
        ("audit_entries", "action", "access.requested", &tenant),
        ("audit_entries", "action", "access.approved", &owner),
    ] {
        let query = format!("{table} WHERE {column} = '{kind}' AND tenant_id = '{whose}' AND subject = '{id}'");
        assert_eq!(count(query.clone()).await, 1, "{query}");
    }
}

#[tokio::test]
async fn a_deleted_adapter_takes_its_grants_along_and_rejects_what_waits() {
    let stack = Stack::start().await;
    let (acme, _, asker) = gated(&stack).await;
    ask(&asker).await;
    assert_eq!(acme.delete(ADAPTER).await.status(), StatusCode::NO_CONTENT);
    let seen = body(asker.get("/access-requests").await, StatusCode::OK).await;
    let request = &seen["data"][0];
    assert_eq!(
        (request["state"].as_str(), request["reason"].as_str()),
        (Some("rejected"), Some("the adapter was deleted"))
    );
    assert_eq!(stack.number("SELECT count(*) AS n FROM adapter_gates").await, 0);
}

/// What the chain of a tenant says of access, in its order: action, subject, kind of the actor.
async fn entries_of(stack: &Stack, user: &User) -> Vec<[String; 3]> {
    let tenant = stack.principal(user).await.tenant;
    let db = stack.database().await;
    let query = format!(
        "SELECT action, subject, actor_kind FROM audit_entries \
         WHERE tenant_id = '{tenant}' AND action LIKE 'access.%' ORDER BY number"
    );
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap();
    rows.iter().map(|row| ["action", "subject", "actor_kind"].map(|column| row.try_get("", column).unwrap())).collect()
}

#[tokio::test]
async fn every_act_leaves_one_entry_in_the_chain_of_whose_act_it_is_and_a_refused_one_none() {
    let stack = Stack::start().await;
    let (acme, decider, asker) = gated(&stack).await;
    let (mut of_owner, mut of_asker) = (Vec::new(), Vec::new());
    let entry = |action: &str, subject: &Value, kind: &str| {
        [action.to_owned(), subject.as_str().unwrap().to_owned(), kind.to_owned()]
    };
    let adapter = json!("acme/gated");
    of_owner.push(entry("access.gate_set", &adapter, "key"));
    for (by, with, is_granted) in [
        ("reject", json!({ "reason": "not for tickets" }), false),
        ("withdraw", json!({}), false),
        ("revoke", json!({}), true),
    ] {
        let request = ask(&asker).await;
        of_asker.push(entry("access.requested", &request["id"], "key"));
        if is_granted {
            body(step(&decider, &request, "approve", json!({})).await, StatusCode::OK).await;
            of_owner.push(entry("access.approved", &request["id"], "person"));
        }
        let (user, chain, action, kind) = match by {
            "reject" => (&decider, &mut of_owner, "access.rejected", "person"),
            "withdraw" => (&asker, &mut of_asker, "access.request_withdrawn", "key"),
            _ => (&decider, &mut of_owner, "access.revoked", "person"),
        };
        body(step(user, &request, by, with.clone()).await, StatusCode::OK).await;
        chain.push(entry(action, &request["id"], kind));
        // It is over: neither side takes a further step.
        problem(step(user, &request, by, with).await, StatusCode::CONFLICT, "wrong_state").await;
        problem(step(&acme, &request, "approve", json!({})).await, StatusCode::FORBIDDEN, "scope_missing").await;
    }
    let grant = format!("{ADAPTER}/grants/asker");
    body(decider.put(&grant, json!({ "note": "by hand" })).await, StatusCode::OK).await;
    of_owner.push(entry("access.granted", &adapter, "person"));
    assert_eq!(decider.delete(&grant).await.status(), StatusCode::NO_CONTENT);
    of_owner.push(entry("access.withdrawn", &adapter, "person"));
    problem(decider.delete(&grant).await, StatusCode::NOT_FOUND, "not_found").await;
    assert_eq!(entries_of(&stack, &acme).await, of_owner);
    assert_eq!(entries_of(&stack, &asker).await, of_asker);
    // Nothing that somebody wrote is in them.
    for text in ["not for tickets", "To sort tickets", "by hand", "What for"] {
        let with_text = format!("SELECT count(*) AS n FROM audit_entries WHERE details LIKE '%{text}%'");
        assert_eq!(stack.number(&with_text).await, 0, "{text}");
    }
}

#[tokio::test]
async fn what_cannot_be_appended_is_not_done_to_access() {
    let stack = Stack::start().await;
    let (acme, decider, asker) = gated(&stack).await;
    let (friend, third) = (stack.tenant("friend").await, stack.tenant("third").await);
    let granted = ask(&friend).await;
    body(step(&decider, &granted, "approve", json!({})).await, StatusCode::OK).await;
    let waiting = ask(&asker).await;
    let db = stack.database().await;
    refuse_entries(&db).await;
    let before = state(&db).await;
    let (grants, answers) = (format!("{ADAPTER}/grants"), json!({ "purpose": "To sort tickets.", "terms": true }));
    let acts = [
        acme.request(Method::PUT, &format!("{ADAPTER}/gate")).json(&json!({ "questions": [] })),
        third.request(Method::POST, &format!("{ADAPTER}/access-requests")).json(&json!({ "answers": answers })),
        decider.request(Method::PUT, &format!("{grants}/third")).json(&json!({})),
        decider.request(Method::DELETE, &format!("{grants}/friend")),
    ];
    for act in acts {
        let answer = act.send().await.unwrap();
        problem(answer, StatusCode::INTERNAL_SERVER_ERROR, "internal").await;
    }
    for (user, request, by, with) in [
        (&decider, &waiting, "approve", json!({})),
        (&decider, &waiting, "reject", json!({ "reason": "no" })),
        (&asker, &waiting, "withdraw", json!({})),
        (&decider, &granted, "revoke", json!({})),
        (&friend, &granted, "withdraw", json!({})),
    ] {
        let answer = step(user, request, by, with).await;
        problem(answer, StatusCode::INTERNAL_SERVER_ERROR, "internal").await;
    }
    assert_eq!(state(&db).await, before);
    resolves(&stack, &friend).await.unwrap();
}
