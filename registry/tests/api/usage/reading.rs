//! What callers read of what was used: sums, requests, lines of CSV, and OpenAI's route.

use reqwest::StatusCode;
use serde_json::{Value, json};
use souk_protocol::{Digest, Outcome, PersonId, RequestRecord, TeamId, TenantId};
use souk_testkit::usage::{job, request};

use super::{DAY, HOUR, NOON, rich};
use crate::browser::Browser;
use crate::support::{Stack, User, body, problem};

const RANGE: &str = "from=2026-11-14&to=2026-11-18";

struct Field {
    stack: Stack,
    acme: TenantId,
    /// The key that asked, by its id.
    key: String,
    reader: User,
    rival: User,
    /// A request with two answers and one that broke.
    rich: RequestRecord,
    /// The digest of `acme/tone@1.0.0`.
    tone: String,
}

impl Field {
    async fn new() -> Self {
        let stack = Stack::start().await;
        let user = stack.tenant("acme").await;
        stack.tenant("rival").await;
        let of = stack.principal(&user).await;
        user.make_adapter("tone", "private").await;
        let tone = user.publish("acme/tone", "1.0.0", 1).await["digest"].as_str().unwrap().to_owned();
        let (acme, key) = (of.tenant, of.key.to_string());
        let rich = rich(&acme, &key, NOON);
        let mut with_adapter = request(&acme, &key, NOON + HOUR, (100, 50));
        with_adapter.jobs[0].adapters = vec![tone.parse().unwrap()];
        with_adapter.model = "acme/tone".to_owned();
        let mut unknown = request(&acme, "key_gone", NOON + 2 * DAY, (7, 0));
        unknown.jobs[0].outcome = Outcome::CallerLeft;
        unknown.jobs[0].usage.prefill_began = true;
        unknown.jobs[0].adapters = vec![Digest::of(b"never seen")];
        unknown.model = "=cmd()".to_owned();
        let others = request(&TenantId::from_stored("ten_x"), "key_1", NOON, (1000, 1000));
        stack.registry.write_usage(&[rich.clone(), with_adapter, unknown, others]).await.unwrap();
        let (reader, rival) =
            (stack.key_for("acme", &["usage:read"]).await, stack.key_for("rival", &["usage:read"]).await);
        Self { stack, acme, key, reader, rival, rich, tone }
    }

    async fn sums(&self, query: &str) -> Value {
        body(self.reader.get(&format!("/usage?{RANGE}&{query}")).await, StatusCode::OK).await
    }
}

/// Some fields of each item.
fn fields(page: &Value, names: &[&str]) -> Vec<Value> {
    page["data"].as_array().unwrap().iter().map(|item| names.iter().map(|name| item[*name].clone()).collect()).collect()
}

#[tokio::test]
async fn sums_are_by_time_and_by_whatever_else_is_asked_for() {
    let field = Field::new().await;
    let charged = ["begins_at", "requests", "jobs", "charged_input_tokens", "charged_output_tokens"];
    let days = field.sums("").await;
    let first = json!(["2026-11-15T00:00:00Z", 2, 4, 110, 57]);
    assert_eq!(fields(&days, &charged), [first.clone(), json!(["2026-11-17T00:00:00Z", 1, 1, 7, 0])]);
    assert_eq!(
        (&days["totals"]["requests"], &days["totals"]["charged_input_tokens"], &days["from"], &days["to"]),
        (&json!(3), &json!(117), &json!("2026-11-14T00:00:00Z"), &json!("2026-11-18T00:00:00Z"))
    );
    assert_eq!(fields(&field.sums("bucket=month").await, &charged), [json!(["2026-11-01T00:00:00Z", 3, 5, 117, 57])]);
    let hours = field.sums("bucket=hour").await;
    assert_eq!(hours["totals"], days["totals"]);
    let times: Vec<_> = fields(&hours, &["begins_at", "ends_at", "jobs"]);
    assert_eq!(times[0], json!(["2026-11-15T12:00:00Z", "2026-11-15T13:00:00Z", 3]));
    assert_eq!(times.len(), 3);

    let by_all = field.sums("bucket=month&group_by=key,member,team,base,adapter,outcome").await;
    assert_eq!(by_all["data"].as_array().unwrap().len(), 5, "{by_all}");
    let by_key = field.sums("bucket=month&group_by=key").await;
    let of_key = fields(&by_key, &["key_id", "key_name", "requests"]);
    assert!(
        of_key.contains(&json!([field.key, "test", 2])) && of_key.contains(&json!(["key_gone", null, 1])),
        "{by_key}"
    );
    let by_adapter = field.sums("bucket=month&group_by=adapter").await;
    let named = fields(&by_adapter, &["adapters", "jobs"]);
    assert!(named.contains(&json!([[{ "digest": field.tone, "name": "acme/tone@1.0.0" }], 1])), "{by_adapter}");
    assert!(named.contains(&json!([[], 3])), "{by_adapter}");
    assert_eq!(fields(&field.sums("group_by=outcome").await, &["outcome"]).len(), 4);

    for (filter, jobs) in [
        (format!("key={}", field.key), 4),
        ("key=none".to_owned(), 0),
        ("member=per_1".to_owned(), 3),
        ("team=team_1".to_owned(), 3),
        ("adapter=acme/tone".to_owned(), 1),
        ("adapter=acme/tone@1.0.0".to_owned(), 1),
        ("adapter=acme/tone@2.0.0".to_owned(), 0),
        ("adapter=acme/none".to_owned(), 0),
        (format!("adapter={}", field.tone), 1),
        (format!("base={}", Digest::of(b"tiny-base")), 5),
        ("outcome=stop".to_owned(), 2),
    ] {
        for bucket in ["day", "hour"] {
            let found = field.sums(&format!("bucket={bucket}&{filter}")).await;
            assert_eq!(found["totals"]["jobs"], jobs, "{filter}");
        }
    }
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = field.sums(&format!("group_by=key,outcome,adapter&limit=1{cursor}")).await;
        assert_eq!(page["totals"], days["totals"], "all, not the page");
        pages.extend(page["data"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(pages, *field.sums("group_by=key,outcome,adapter").await["data"].as_array().unwrap());
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_its_limits() {
    let field = Field::new().await;
    for (query, told) in [
        ("bucket=year", "`bucket` is hour, day or month; given `year`"),
        ("group_by=key,colour", "given `colour`"),
        ("group_by=key,key", "each once; given `key`"),
        ("from=2026-11-31", "`from` is a day (2026-11-29)"),
        ("from=2026-11-16&to=2026-11-16", "`from` is not before `to`"),
        ("from=2026-01&to=2026-11&bucket=hour", "takes at most 31 days between `from` and `to`, given 304"),
        ("outcome=good", "`outcome` is one of stop, length,"),
        ("adapter=tone", "owner/name@version or a digest"),
        ("adapter=acme/tone:prod", "owner/name@version or a digest"),
        ("limit=101", "`limit` is 1 to 100, given 101"),
        ("cursor=AAAA", "`cursor` is not one"),
        ("colour=red", "unknown field `colour`"),
    ] {
        let refused =
            problem(field.reader.get(&format!("/usage?{query}")).await, StatusCode::BAD_REQUEST, "invalid_query");
        let detail = refused.await["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(told), "{query}: {detail}");
    }
    let refused = field.reader.get("/usage/requests?cursor=eA").await;
    problem(refused, StatusCode::BAD_REQUEST, "invalid_query").await;
}

#[tokio::test]
async fn a_receipt_says_who_asked_what_was_charged_and_by_which_rule() {
    let field = Field::new().await;
    let path = format!("/usage/{}", field.rich.request);
    let receipt = body(field.reader.get(&path).await, StatusCode::OK).await;
    assert_eq!(receipt["id"], field.rich.request.as_str());
    assert_eq!((&receipt["key_id"], &receipt["key_name"]), (&json!(field.key), &json!("test")));
    assert_eq!((&receipt["member_id"], &receipt["member_email"]), (&json!("per_1"), &Value::Null));
    assert_eq!((&receipt["charged_input_tokens"], &receipt["charged_output_tokens"]), (&json!(10), &json!(7)));
    let rules: Vec<_> = receipt["jobs"].as_array().unwrap().iter().map(|job| job["rule"].as_str().unwrap()).collect();
    assert_eq!(
        rules,
        [
            "the answer came to its end: prompt and delivered tokens are charged",
            "the answer came to its end: prompt and delivered tokens are charged; the prompt counts in another job of the request",
            "an error of ours: free",
        ]
    );
    // Another tenant's is not there, in the words of what never was.
    let hidden = problem(field.rival.get(&path).await, StatusCode::NOT_FOUND, "not_found").await;
    let absent = problem(field.rival.get("/usage/req_none").await, StatusCode::NOT_FOUND, "not_found").await;
    assert_eq!(hidden["detail"].as_str().unwrap().replace(field.rich.request.as_str(), "req_none"), absent["detail"]);
    let of_acme = field.stack.admin.get(&format!("{path}?tenant=acme")).await;
    assert_eq!(body(of_acme, StatusCode::OK).await, receipt);
    problem(field.rival.get(&format!("{path}?tenant=acme")).await, StatusCode::FORBIDDEN, "scope_missing").await;
    problem(field.stack.key_for("acme", &["inference"]).await.get(&path).await, StatusCode::FORBIDDEN, "scope_missing")
        .await;

    let list = body(field.reader.get(&format!("/usage/requests?{RANGE}")).await, StatusCode::OK).await;
    let models: Vec<_> = list["data"].as_array().unwrap().iter().map(|one| one["model"].as_str().unwrap()).collect();
    assert_eq!(models, ["=cmd()", "acme/tone", "tiny-base"], "the newest first");
    assert_eq!(list["data"][2], receipt);
    for (filter, num) in [("adapter=acme/tone", 1), ("outcome=broken", 1), ("member=per_1", 1), ("key=none", 0)] {
        let found = body(field.reader.get(&format!("/usage/requests?{RANGE}&{filter}")).await, StatusCode::OK).await;
        assert_eq!(found["data"].as_array().unwrap().len(), num, "{filter}");
    }
}

#[tokio::test]
async fn an_address_is_shown_to_who_manages_the_tenant_as_long_as_its_owner_is_a_member() {
    let field = Field::new().await;
    let member = Browser::of_member(&field.stack, "acme", "developer").await;
    let person = member.person().await;
    let mut record = request(&field.acme, "ses_1", NOON, (1, 1));
    record.person = Some(PersonId::from_stored(&person));
    record.team = Some(TeamId::from_stored("team_1"));
    field.stack.registry.write_usage(std::slice::from_ref(&record)).await.unwrap();
    let path = format!("/usage/{}", record.request);
    let manager = field.stack.key_for("acme", &["usage:read", "tenant:manage"]).await;
    let shown = async |user: &User| body(user.get(&path).await, StatusCode::OK).await["member_email"].clone();
    assert!(shown(&manager).await.as_str().unwrap().contains('@'));
    assert_eq!(shown(&field.reader).await, Value::Null);
    let lines = manager.get(&format!("/usage/export?{RANGE}")).await.text().await.unwrap();
    assert!(lines.contains(&person) && !lines.contains("@example"), "{lines}");
    assert_eq!(manager.delete(&format!("/members/{person}")).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(shown(&manager).await, Value::Null);
}

#[tokio::test]
async fn an_export_has_a_line_for_each_job_and_no_formula() {
    let field = Field::new().await;
    let more: Vec<_> =
        (0..1100).map(|number| request(&field.acme, "key_m", NOON + DAY + number % 50, (1, 1))).collect();
    for some in more.chunks(500) {
        field.stack.registry.write_usage(some).await.unwrap();
    }
    let answer = field.reader.get(&format!("/usage/export?{RANGE}")).await;
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    let text = answer.text().await.unwrap();
    let lines: Vec<_> = text.split("\r\n").filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1 + 5 + 1100);
    let columns: Vec<_> = lines[0].split(',').collect();
    let cell = |line: &str, name: &str| {
        line.split(',').nth(columns.iter().position(|column| *column == name).unwrap()).unwrap().to_owned()
    };
    let sum = |name: &str| lines[1..].iter().map(|line| cell(line, name).parse::<u64>().unwrap()).sum::<u64>();
    assert_eq!((sum("charged_input_tokens"), sum("charged_output_tokens")), (117 + 1100, 57 + 1100));
    assert!(text.contains(",\"'=cmd()\","), "{text}");
    assert!(lines[1..4].iter().all(|line| line.starts_with(field.rich.request.as_str())), "the oldest first");
    let unique: std::collections::BTreeSet<_> = lines.iter().collect();
    assert_eq!(unique.len(), lines.len());
    let none = field.rival.get(&format!("/usage/export?{RANGE}")).await.text().await.unwrap();
    assert_eq!(none.lines().count(), 1);
}

#[tokio::test]
async fn openais_route_has_a_bucket_for_each_day_also_without_usage() {
    let field = Field::new().await;
    let url = field.stack.base_url.replace("/registry/v1", "/v1/organization/usage/completions");
    let get = async |user: &User, query: &str| {
        user.client.get(format!("{url}?{query}")).bearer_auth(&user.key).send().await.unwrap()
    };
    let start = (NOON - NOON % DAY) / 1000;
    let query = format!("start_time={start}&end_time={}&group_by=model&group_by=api_key_id", start + 4 * 86_400);
    let page = body(get(&field.reader, &query).await, StatusCode::OK).await;
    assert_eq!((&page["object"], &page["has_more"], &page["next_page"]), (&json!("page"), &json!(false), &Value::Null));
    let buckets = page["data"].as_array().unwrap();
    let sizes: Vec<_> = buckets.iter().map(|bucket| bucket["results"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [2, 0, 1, 0]);
    assert_eq!(
        (&buckets[1]["start_time"], &buckets[1]["end_time"]),
        (&json!(start + 86_400), &json!(start + 2 * 86_400))
    );
    let of_tone =
        buckets[0]["results"].as_array().unwrap().iter().find(|one| one["model"] == "acme/tone@1.0.0").unwrap();
    let expected = json!({
        "object": "organization.usage.completions.result", "input_tokens": 100, "output_tokens": 50,
        "input_cached_tokens": 0, "input_audio_tokens": 0, "output_audio_tokens": 0, "num_model_requests": 1,
        "project_id": null, "user_id": null, "api_key_id": field.key, "model": "acme/tone@1.0.0", "batch": null,
    });
    assert_eq!(*of_tone, expected);

    // In pages of one, and hour by hour, it is the same.
    let (mut paged, mut next) = (Vec::new(), String::new());
    loop {
        let page = body(get(&field.reader, &format!("{query}&limit=1{next}")).await, StatusCode::OK).await;
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(after) = page["next_page"].as_str() else { break };
        next = format!("&page={after}");
    }
    assert_eq!(paged, *buckets);
    let hours = format!("start_time={start}&end_time={}&bucket_width=1h&limit=24", start + 86_400);
    let hours = body(get(&field.reader, &hours).await, StatusCode::OK).await;
    let used: Vec<_> = hours["data"].as_array().unwrap().iter().filter(|hour| hour["results"] != json!([])).collect();
    assert_eq!((hours["data"].as_array().unwrap().len(), used.len()), (24, 2));
    assert_eq!(used[0]["results"][0]["input_tokens"], 10);
    for (filter, requests) in [
        ("models[]=acme/tone", 1),
        ("models[]=acme/tone&models[]=acme/none", 1),
        ("models[]=none", 0),
        ("project_ids=team_1", 1),
        ("user_ids=per_1", 1),
        ("api_key_ids=key_gone", 1),
        ("batch=true", 0),
    ] {
        let query = format!("start_time={start}&end_time={}&{filter}", start + 4 * 86_400);
        let found = body(get(&field.reader, &query).await, StatusCode::OK).await;
        let num = |bucket: &Value| bucket["results"][0]["num_model_requests"].as_u64().unwrap_or_default();
        assert_eq!(found["data"].as_array().unwrap().iter().map(num).sum::<u64>(), requests, "{filter}");
    }

    let wrong = get(&field.reader, "start_time=x").await;
    assert_eq!(wrong.headers()["content-type"], "application/json");
    let wrong = body(wrong, StatusCode::BAD_REQUEST).await;
    assert_eq!(
        (&wrong["error"]["type"], &wrong["error"]["code"]),
        (&json!("invalid_request_error"), &json!("invalid_query"))
    );
    let unknown = body(get(&field.stack.user("souk_x"), &query).await, StatusCode::UNAUTHORIZED).await;
    assert_eq!(unknown["error"]["code"], "invalid_api_key");
    let inference = field.stack.key_for("acme", &["inference"]).await;
    let refused = body(get(&inference, &query).await, StatusCode::FORBIDDEN).await;
    assert_eq!(
        (&refused["error"]["type"], &refused["error"]["code"]),
        (&json!("permission_error"), &json!("scope_missing"))
    );
    let others = body(get(&field.rival, &query).await, StatusCode::OK).await;
    assert!(others["data"].as_array().unwrap().iter().all(|bucket| bucket["results"] == json!([])));
}

#[tokio::test]
async fn a_cached_token_is_no_more_than_an_input_token() {
    let field = Field::new().await;
    let mut record = request(&field.acme, "key_c", NOON, (10, 1));
    record.jobs.push(job(&field.acme, &record.request, 1, Outcome::Stop, (10, 1)));
    record.jobs.iter_mut().for_each(|job| job.usage.cached_tokens = 9);
    field.stack.registry.write_usage(&[record]).await.unwrap();
    let url = field.stack.base_url.replace("/registry/v1", "/v1/organization/usage/completions");
    let start = (NOON - NOON % DAY) / 1000;
    let asked = format!("{url}?start_time={start}&limit=1&api_key_ids=key_c");
    let page =
        body(field.reader.client.get(asked).bearer_auth(&field.reader.key).send().await.unwrap(), StatusCode::OK);
    let result = page.await["data"][0]["results"][0].clone();
    assert_eq!((&result["input_tokens"], &result["input_cached_tokens"]), (&json!(10), &json!(10)));
}
