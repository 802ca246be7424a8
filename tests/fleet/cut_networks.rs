//! The network between two kinds of processes is cut: connections end, or stay and nothing comes through. Answers go on to the
//! text that they would have had, are charged once, and what did not need that network is not touched.

use souk_testkit::proxy::Mode;

use crate::field::{Field, LIMIT};
use crate::fleet::{Process, until};
use crate::stack::BASE;
use crate::streams::question;

/// Tokens of an answer that takes long enough for something to be cut in the middle.
const LONG: u32 = 100;

/// Attempts of which a gateway could read no more.
const LOST: &str = "souk_gateway_attempts_lost_total";
/// Jobs that a node took.
const TAKEN: &str = "souk_queue_wait_seconds_count";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_cut_off_from_all_nodes_and_comes_back_goes_on_and_another_notices_nothing() {
    let field = Field::on_cables(2, 2, &[]).await;
    let (gateway, cable) = (&field.fleet.gateways[0], &field.cables().gateways[0].cable);
    let body = question(BASE, LONG);
    let text = field.undisturbed(&body).await;
    for mode in [Mode::Closed, Mode::Reset, Mode::Silent] {
        let num_lost = field.figure(gateway, LOST).await;
        let (mut cut, mut other) = tokio::join!(field.answer(0, &body), field.answer(1, &body));
        tokio::join!(cut.read(4), other.read(4));
        cable.set(mode);
        let sees_it = async || field.figure(gateway, LOST).await > num_lost;
        let after = until("the gateway sees it", LIMIT, sees_it).await;
        println!("{mode:?}: seen after {after:?}");
        cable.set(Mode::Pass);
        tokio::join!(field.ends_as(cut, &text), field.ends_as(other, &text));
    }
    assert_eq!(field.figure(&field.fleet.gateways[1], LOST).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_reach_a_gateway_any_more_leaves_its_answers_to_one_that_does() {
    let field = Field::on_cables(1, 2, &[]).await;
    let cable = &field.cables().gateways[0].cable;
    let body = question(BASE, LONG);
    let text = field.undisturbed(&body).await;
    let mut answer = field.answer(0, &body).await;
    answer.read(4).await;
    let node = field.busy_node().await;
    cable.set_of(field.nodes[node].id(), Mode::Silent);
    field.ends_as(answer, &text).await;
    // It lives, as the queue sees it, and takes jobs. Each is answered by the other.
    for _ in 0..4 {
        let (status, answer, _) = field.ask(0, &question(BASE, 4)).await;
        assert_eq!(status, 200, "{answer}\n{}", field.logs());
    }
    cable.set(Mode::Pass);
    let (status, answer, _) = field.ask(0, &body).await;
    assert_eq!((status, answer["choices"][0]["text"].as_str()), (200, Some(text.as_str())), "{}", field.logs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_reach_redis_answers_on_until_its_lease_and_another_goes_on() {
    let field = Field::on_cables(1, 2, &[("SOUK_QUEUE__LEASE_S", "3")]).await;
    let cable = &field.cables().redis;
    let body = question(BASE, 150);
    let text = field.undisturbed(&body).await;
    for mode in [Mode::Closed, Mode::Silent] {
        let mut answer = field.answer(0, &body).await;
        answer.read(4).await;
        let node = field.busy_node().await;
        let other = &field.nodes[1 - node];
        let num_before = field.figure(other, TAKEN).await;
        cable.set_of(field.nodes[node].id(), mode);
        let before = answer.num_pieces;
        answer.read(before + 4).await;
        // Its lease lapses, also where it has said all by then; the other takes the job. For a while, or by turns, both answer.
        let taken = async || field.figure(other, TAKEN).await > num_before;
        until("the other takes it", LIMIT, taken).await;
        field.ends_as(answer, &text).await;
        cable.set(Mode::Pass);
        field.until_ready(2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_does_not_reach_redis_ends_what_runs_and_refuses_the_rest() {
    let field = Field::on_cables(2, 1, &[]).await;
    let cable = &field.cables().redis;
    let body = question(BASE, LONG);
    let text = field.undisturbed(&body).await;
    for mode in [Mode::Closed, Mode::Silent] {
        let mut answer = field.answer(0, &body).await;
        answer.read(4).await;
        cable.set_of(field.fleet.gateways[0].id(), mode);
        let (status, told, says_when) = field.ask(0, &question(BASE, 3)).await;
        assert!(status == 503 && says_when, "{mode:?}: {status} {told}");
        let (status, told, _) = field.ask(1, &question(BASE, 3)).await;
        assert_eq!(status, 200, "{told}");
        field.ends_as(answer, &text).await;
        cable.set(Mode::Pass);
        let again = async || field.ask(0, &question(BASE, 3)).await.0 == 200;
        until("it answers again", LIMIT, again).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_registries_what_runs_goes_on_who_is_known_is_served_for_a_while_and_nobody_else() {
    let field = Field::on_cables(1, 1, &[("SOUK_GATEWAY__RIGHTS_STALE_S", "60")]).await;
    let (body, short) = (question(BASE, LONG), question(BASE, 3));
    let text = field.undisturbed(&body).await;
    let gateway: &Process = &field.fleet.gateways[0];
    for mode in [Mode::Closed, Mode::Silent] {
        // Made now, and not known to the gateway.
        let (_, stranger) = field.fleet.key().await;
        let mut answer = field.answer(0, &body).await;
        answer.read(4).await;
        field.cables().registries.iter().for_each(|cable| cable.set(mode));
        let (status, told, _) = field.ask(0, &short).await;
        assert_eq!(status, 200, "{mode:?}: a caller that is known: {told}\n{}", gateway.log());
        let (status, told, says_when) = field.fleet.complete(gateway, &stranger, &short).await;
        assert!(status == 503 && says_when, "{mode:?}: one that is not: {status} {told}");
        assert_eq!(told["error"]["code"], "unavailable", "{told}");
        let request = answer.request.clone();
        let (went_on, usage) = answer.finish().await;
        assert_eq!(went_on, text, "{}", gateway.log());
        field.cables().registries.iter().for_each(|cable| cable.set(Mode::Pass));
        let let_in = async || field.fleet.complete(gateway, &stranger, &short).await.0 == 200;
        until("who was not known is let in", LIMIT, let_in).await;
        // What could not be written meanwhile is.
        field.is_charged_once(&request, &usage).await;
    }
}
