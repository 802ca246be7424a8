//! What limits let in and refuse, and what their callers are told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use souk_protocol::{GenerateJob, JobEvent, JobFailure, Limit, Mode, Policy};
use souk_testkit::Random;

use crate::stack::{Around, HttpAnswer, Script, Stack, Step, answer, says, tokenizer};

const TEXT: &str = "/v1/completions";
/// Six tokens, the ending one included.
const SAYING: &str = "hello world";

/// A request of one prompt of `prompt_tokens` and at most `max_tokens`.
fn text(prompt_tokens: usize, max_tokens: u32) -> Value {
    json!({"model": "tiny", "prompt": vec![5; prompt_tokens], "max_tokens": max_tokens})
}

fn header<'a>(answer: &'a HttpAnswer, name: &str) -> &'a str {
    answer.headers.get(name).unwrap_or_else(|| panic!("no {name}: {answer:?}")).to_str().unwrap()
}

#[tokio::test]
async fn a_budget_lets_in_what_fits_whole_and_returns_what_was_not_used() {
    let around = Around::limited(&[(Policy::TokensPerMonth, 40)]);
    let stack = Stack::within(around, says(SAYING)).await;
    // 10 and at most 20 are held, 10 and 6 are used.
    let first = stack.post(TEXT, text(10, 20)).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(
        (header(&first, "x-ratelimit-limit-tokens"), header(&first, "x-ratelimit-remaining-tokens")),
        ("40", "10")
    );
    assert!(header(&first, "ratelimit-policy").starts_with("\"tenant.tokens_per_month\";q=40;qu=\"tokens\""));
    assert!(header(&first, "ratelimit").starts_with("\"tenant.tokens_per_month\";r=10;t="));
    stack.around.rows.wait_for(1).await;
    assert_eq!(stack.around.rows.charged(), (10, 6));
    let second = stack.post(TEXT, text(10, 13)).await;
    assert_eq!(second.status, 200, "16 of 40 are used: {}", second.text);
    stack.around.rows.wait_for(2).await;
    let spent = stack.post(TEXT, text(3, 6)).await;
    let error = &spent.json()["error"];
    assert_eq!((spent.status.as_u16(), error["code"].as_str()), (429, Some("insufficient_quota")), "{error}");
    let violated = &error["violated_policies"][0];
    let seen = ["level", "policy", "limit", "used", "held", "asked"].map(|field| violated[field].clone());
    let expected = [json!("tenant"), json!("tokens_per_month"), json!(40), json!(32), json!(0), json!(9)];
    assert_eq!(seen, expected);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("32 tokens are used") && message.contains("may use 9"), "{message}");
    let wait: u64 = header(&spent, "retry-after").parse().unwrap();
    assert!((1..=31 * 86_400).contains(&wait), "until the month is over: {wait}");
    assert_eq!(header(&spent, "x-ratelimit-remaining-tokens"), "8");
    let never = stack.post(TEXT, text(30, 20)).await;
    assert_eq!(never.status, 400, "{}", never.text);
    assert_eq!(never.json()["error"]["code"], "request_exceeds_limit");
    assert_eq!(header(&never, "x-should-retry"), "false");
    let fits = stack.post(TEXT, text(3, 5)).await;
    assert_eq!(fits.status, 200, "exactly what is left: {}", fits.text);
    assert_eq!(header(&fits, "x-ratelimit-remaining-tokens"), "0");
}

#[tokio::test]
async fn a_budget_is_never_overshot_by_requests_at_the_same_time_and_all_of_it_can_be_used() {
    let around = Around::limited(&[(Policy::TokensPerDay, 100)]);
    // Of 8 tokens each: 2 and 6.
    let stack = Arc::new(Stack::within(around, says(SAYING)).await);
    let mut used = 0;
    for _ in 0..4 {
        let asking = (0..8).map(|_| {
            let stack = Arc::clone(&stack);
            tokio::spawn(async move { stack.post(TEXT, text(2, 6)).await.status.as_u16() })
        });
        let statuses: Vec<u16> = futures::future::join_all(asking).await.into_iter().map(Result::unwrap).collect();
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
        used += statuses.iter().filter(|status| **status == 200).count();
        stack.around.rows.wait_for(used).await;
        assert!(used * 8 <= 100, "{used} were let in");
    }
    assert_eq!(used, 12);
    assert_eq!(stack.around.rows.charged(), (24, 72));
}

#[tokio::test]
async fn who_is_refused_has_used_nothing_and_leaves_no_row() {
    let around = Around::limited(&[(Policy::TokensPerMonth, 30)]);
    let stack = Stack::within(around, Arc::new(|_: &GenerateJob, _| vec![Step::Hang])).await;
    let holding = {
        let (router, body) = (stack.router.clone(), text(10, 15).to_string());
        tokio::spawn(async move {
            use tower::ServiceExt as _;
            router.oneshot(crate::stack::request("POST", TEXT, crate::stack::KEY, body)).await
        })
    };
    let mut stack = stack;
    stack.jobs.recv().await.unwrap();
    let refused = stack.post(TEXT, text(3, 3)).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    let violated = &refused.json()["error"]["violated_policies"][0];
    assert_eq!((&violated["used"], &violated["held"]), (&json!(0), &json!(25)));
    assert_eq!(header(&refused, "retry-after"), "1", "what is held may be free soon");
    assert_eq!(stack.accounting.num_holding(), 1);
    // The client leaves: its prompt is charged, since a node began to read it.
    holding.abort();
    let rows = stack.around.rows.wait_for(1).await;
    assert_eq!(rows[0].jobs[0].outcome.as_str(), "caller_left");
    for _ in 0..500 {
        if stack.accounting.num_holding() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((stack.accounting.num_holding(), stack.accounting.num_unwritten()), (0, 0));
    assert_eq!(stack.around.limits.holdings(), 0, "no reservation stays");
}

#[tokio::test]
async fn a_submission_that_the_queue_refuses_gives_back_everything_and_leaves_no_row() {
    let around = Around::limited(&[(Policy::TokensPerMonth, 30)]);
    // No node serves the model.
    let stack = Stack::alone_within(around).await;
    let answer = stack.post(TEXT, text(10, 15)).await;
    assert_eq!(answer.json()["error"]["code"], "no_node", "{}", answer.text);
    assert_eq!(header(&answer, "x-ratelimit-remaining-tokens"), "5", "an answer that reserved says so, even this one");
    for _ in 0..500 {
        if stack.around.limits.holdings() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stack.around.limits.holdings(), 0);
    stack.accounting.close(Duration::from_secs(5)).await;
    assert_eq!(stack.around.rows.all(), []);
}

#[tokio::test]
async fn a_shadowed_limit_refuses_nothing_and_is_told_in_header_and_row() {
    let around = Around::limited(&[(Policy::TokensPerDay, 5)]);
    around.change_tree(|tree| {
        tree.levels[0].limits.values_mut().for_each(|limit| limit.mode = Mode::Shadow);
    });
    let stack = Stack::within(around, says(SAYING)).await;
    // What the day has used is looked up beside the first, which does not wait for it.
    let (mut answer, mut num_sent) = (stack.post(TEXT, text(10, 20)).await, 1);
    while !answer.headers.contains_key("x-souk-limits-shadowed") {
        assert!(answer.status == 200 && num_sent < 100, "{}", answer.text);
        answer = stack.post(TEXT, text(10, 20)).await;
        num_sent += 1;
    }
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(header(&answer, "x-souk-limits-shadowed"), "\"tenant.tokens_per_day\"");
    let rows = stack.around.rows.wait_for(num_sent).await;
    assert_eq!(
        rows[num_sent - 1].shadowed.iter().map(|shadowed| shadowed.policy).collect::<Vec<_>>(),
        [Policy::TokensPerDay]
    );
    let metrics = stack.get("/metrics").await.text;
    let name = "souk_gateway_limits_shadowed_total{policy=\"tokens_per_day\",level=\"tenant\"}";
    assert!(metrics.contains(name), "{metrics}");
}

#[tokio::test]
async fn the_ceiling_of_answers_cuts_what_is_wanted_and_what_is_reserved() {
    let around = Around::limited(&[(Policy::TokensPerMonth, 1000)]);
    around.change_tree(|tree| tree.output_ceiling = Some(3));
    let mut stack = Stack::within(around, says(SAYING)).await;
    for (path, body) in [
        (TEXT, text(10, 20)),
        ("/v1/chat/completions", json!({"model": "tiny", "messages": [{"role": "user", "content": "hello"}]})),
    ] {
        let answer = stack.post(path, body).await;
        assert_eq!(answer.json()["choices"][0]["finish_reason"], "length", "{}", answer.text);
        assert_eq!(answer.json()["usage"]["completion_tokens"], 3);
        assert_eq!(stack.jobs.recv().await.unwrap().max_tokens, 3);
    }
    stack.around.rows.wait_for(2).await;
    assert_eq!(stack.around.rows.charged().1, 6);
}

#[tokio::test]
async fn limits_that_nobody_can_look_up_refuse_those_whom_they_bind_and_nobody_else() {
    let around = Around::limited(&[(Policy::TokensPerMonth, 1000)]);
    around.rows.go_away(true);
    let stack = Stack::within(around, says(SAYING)).await;
    let refused = stack.post(TEXT, text(10, 20)).await;
    assert_eq!((refused.status.as_u16(), header(&refused, "retry-after")), (503, "1"), "{}", refused.text);
    let other =
        stack.send(crate::stack::request("POST", TEXT, crate::stack::OTHER_KEY, text(10, 20).to_string())).await;
    assert_eq!(other.status, 200, "{}", other.text);
    stack.around.rows.go_away(false);
    assert_eq!(stack.post(TEXT, text(10, 20)).await.status, 200);
}

#[tokio::test]
async fn requests_per_minute_are_counted_and_told() {
    // A bucket begins empty with its store: within a minute not all of it can be there.
    let around = Around::limited(&[(Policy::RequestsPerMinute, 60_000)]);
    let stack = Stack::within(around, says(SAYING)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let answer = stack.post(TEXT, text(2, 2)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(header(&answer, "x-ratelimit-limit-requests"), "60000");
    let remaining: u64 = header(&answer, "x-ratelimit-remaining-requests").parse().unwrap();
    assert!(remaining < 60_000, "{remaining}");
    assert!(header(&answer, "x-ratelimit-reset-requests").ends_with('s'));
    let around = Around::limited(&[(Policy::RequestsPerMinute, 1)]);
    let stack = Stack::within(around, says(SAYING)).await;
    let refused = stack.post(TEXT, text(2, 2)).await;
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded", "{}", refused.text);
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

/// Waits until nothing is held, here and at the store.
async fn until_nothing_is_held(stack: &Stack) {
    for _ in 0..500 {
        if stack.accounting.num_holding() + stack.accounting.num_unwritten() + stack.around.limits.holdings() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} and {} requests hold something", stack.accounting.num_holding(), stack.around.limits.holdings());
}

#[tokio::test]
async fn while_the_store_of_limits_is_away_who_has_none_is_served_and_held_for_when_it_is_back() {
    let around = Around::limited(&[(Policy::TokensPerMonth, 1000)]);
    let mut stack = Stack::within(around, Arc::new(|_: &GenerateJob, _| vec![Step::Hang])).await;
    stack.around.limits.go_away(true);
    let refused = stack.post(TEXT, text(10, 20)).await;
    assert_eq!((refused.status.as_u16(), header(&refused, "retry-after")), (503, "1"), "{}", refused.text);
    let other = {
        let (router, body) = (stack.router.clone(), text(10, 15).to_string());
        tokio::spawn(async move {
            use tower::ServiceExt as _;
            router.oneshot(crate::stack::request("POST", TEXT, crate::stack::OTHER_KEY, body)).await
        })
    };
    stack.jobs.recv().await.unwrap();
    stack.accounting.renew().await;
    assert_eq!((stack.accounting.num_holding(), stack.around.limits.holdings()), (1, 0));
    stack.around.limits.go_away(false);
    stack.accounting.renew().await;
    assert_eq!(stack.around.limits.holdings(), 1);
    other.abort();
    stack.around.rows.wait_for(1).await;
    until_nothing_is_held(&stack).await;
}

#[tokio::test]
async fn while_the_store_of_limits_is_away_limits_that_refuse_no_request_refuse_none() {
    let around = Around::limited(&[(Policy::VersionsPerDay, 1), (Policy::TrainingTokensPerMonth, 1)]);
    around.change_tree(|tree| {
        let shadow = Limit { value: 1, soft: None, mode: Mode::Shadow };
        tree.levels[0].limits.extend([(Policy::TokensPerDay, shadow), (Policy::RequestsPerMinute, shadow)]);
    });
    let stack =
        Stack::within(around, ends(2, || Step::Send(JobEvent::Failed(JobFailure::Internal("no".to_owned()))))).await;
    stack.around.limits.go_away(true);
    let served = stack.post(TEXT, text(10, 20)).await;
    assert_eq!(served.status, 500, "it came to the node: {}", served.text);
    stack.around.change_tree(|tree| {
        let limit = Limit { value: 1000, soft: None, mode: Mode::Enforce };
        tree.levels[0].limits.insert(Policy::RequestsPerMinute, limit);
    });
    let refused = stack.post(TEXT, text(10, 20)).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
}

#[tokio::test]
async fn a_client_that_leaves_as_it_waits_for_a_store_that_goes_away_leaves_nothing_held() {
    let around = Around::limited(&[(Policy::TokensPerMonth, 1000)]);
    let stack = Stack::within(around, Arc::new(|_: &GenerateJob, _| vec![Step::Hang])).await;
    stack.around.limits.stall(true);
    let asking = {
        let (router, body) = (stack.router.clone(), text(10, 20).to_string());
        tokio::spawn(async move {
            use tower::ServiceExt as _;
            router.oneshot(crate::stack::request("POST", TEXT, crate::stack::KEY, body)).await
        })
    };
    while stack.accounting.num_holding() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stack.around.limits.go_away(true);
    asking.abort();
    stack.around.limits.stall(false);
    until_nothing_is_held(&stack).await;
}

#[tokio::test]
async fn a_store_that_lost_its_data_is_told_again_what_is_held_and_what_was_settled_while_it_was_away() {
    let around = Around::limited(&[(Policy::TokensPerMonth, 100)]);
    let mut stack = Stack::within(around, Arc::new(|_: &GenerateJob, _| vec![Step::Hang])).await;
    let holding = {
        let (router, body) = (stack.router.clone(), text(10, 80).to_string());
        tokio::spawn(async move {
            use tower::ServiceExt as _;
            router.oneshot(crate::stack::request("POST", TEXT, crate::stack::KEY, body)).await
        })
    };
    stack.jobs.recv().await.unwrap();
    stack.around.limits.lose();
    assert_eq!(stack.around.limits.holdings(), 0);
    stack.accounting.renew().await;
    assert_eq!(stack.around.limits.holdings(), 1);
    let refused = stack.post(TEXT, text(10, 10)).await;
    assert_eq!(refused.status, 429, "90 of 100 are held: {}", refused.text);
    stack.around.limits.go_away(true);
    stack.around.rows.go_away(true);
    holding.abort();
    while stack.accounting.num_unwritten() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stack.around.limits.go_away(false);
    stack.accounting.renew().await;
    let refused = stack.post(TEXT, text(10, 90)).await;
    assert_eq!(refused.status, 429, "10 of 100 are used and stay held: {}", refused.text);
    stack.around.rows.go_away(false);
    stack.around.rows.wait_for(1).await;
    until_nothing_is_held(&stack).await;
    assert_eq!(stack.around.rows.charged(), (10, 0));
}

/// Ends after `num_tokens` by `step`.
fn ends(num_tokens: usize, step: fn() -> Step) -> Script {
    Arc::new(move |job, _| {
        let mut steps = answer(job, &tokenizer().encode(SAYING).unwrap());
        steps.truncate(1 + num_tokens);
        steps.push(step());
        steps
    })
}

#[tokio::test]
async fn what_is_free_returns_to_its_budget() {
    let around = Around::limited(&[(Policy::TokensPerMonth, 30)]);
    let failed: Script = ends(2, || Step::Send(JobEvent::Failed(JobFailure::Internal("no".to_owned()))));
    let stack = Stack::within(around, failed).await;
    for number in 1..=3 {
        let answer = stack.post(TEXT, text(10, 20)).await;
        assert_eq!(answer.status, 500, "all of the budget is there each time: {}", answer.text);
        stack.around.rows.wait_for(number).await;
    }
    assert_eq!(stack.around.rows.charged(), (0, 0));
}

/// Answers at once, slowly, or not to the end, as `max_tokens` says.
fn in_many_ways() -> Script {
    Arc::new(|job: &GenerateJob, _| {
        let mut steps = answer(job, &tokenizer().encode(SAYING).unwrap());
        match job.max_tokens % 4 {
            0 => steps.into_iter().flat_map(|step| [step, Step::Wait(Duration::from_millis(2))]).collect(),
            1 => {
                steps.truncate(2);
                steps.push(Step::Send(JobEvent::Failed(JobFailure::Internal("no".to_owned()))));
                steps
            }
            _ => steps,
        }
    })
}

#[tokio::test]
async fn whatever_callers_do_a_budget_is_never_overshot_and_what_is_left_of_it_is_what_its_rows_leave() {
    const BUDGET: u64 = 150;
    for seed in 0..12 {
        let around = Around::limited(&[(Policy::TokensPerMonth, BUDGET)]);
        let stack = Arc::new(Stack::within(around, in_many_ways()).await);
        let mut random = Random::new(seed);
        let callers = (0..40).map(|_| {
            let mut body = text(1 + random.below(6) as usize, 1 + random.below(8) as u32);
            body["n"] = json!(1 + random.below(2));
            body["stream"] = json!(random.below(2) == 0);
            let patience = match random.below(3) {
                0 => Duration::from_millis(random.below(12)),
                _ => Duration::from_secs(60),
            };
            let (stack, wait) = (Arc::clone(&stack), Duration::from_millis(random.below(40)));
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                // Who loses patience leaves.
                let answer = tokio::time::timeout(patience, stack.post(TEXT, body)).await.ok()?;
                assert!([200, 429, 500].contains(&answer.status.as_u16()), "{}", answer.text);
                (answer.status == 429).then_some(())
            })
        });
        let refused = futures::future::join_all(callers.collect::<Vec<_>>()).await;
        let num_refused = refused.into_iter().filter(|refused| *refused.as_ref().unwrap() == Some(())).count();
        stack.gateway.drain().await;
        stack.accounting.close(Duration::from_secs(10)).await;
        assert_eq!((stack.accounting.num_unwritten(), stack.accounting.num_holding()), (0, 0), "{seed}");
        let (input, output) = stack.around.rows.charged();
        let left =
            BUDGET.checked_sub(input + output).unwrap_or_else(|| panic!("{seed}: {input} and {output} are used"));
        assert!(num_refused > 0 || left > 0);
        // Another gateway on the same rows: exactly what they leave can be reserved.
        let next = Stack::within(stack.around.after_a_kill(), says(SAYING)).await;
        let more = next.post(TEXT, text(1, u32::try_from(left).unwrap())).await;
        assert_eq!(more.status, 429, "{seed}: {}", more.text);
        if left > 1 {
            let all = next.post(TEXT, text(1, u32::try_from(left - 1).unwrap())).await;
            assert_eq!(all.status, 200, "{seed}: {}", all.text);
        }
    }
}
