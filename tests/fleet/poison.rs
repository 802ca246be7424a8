//! A job that brings down each node that takes it.

use crate::field::{Field, LIMIT};
use crate::fleet::until;
use crate::stack::BASE;
use crate::streams::question;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_kills_each_node_that_takes_it_is_given_up_and_others_go_on() {
    let mut field = Field::start(1, 2).await;
    let body = question(BASE, 60);
    let text = field.undisturbed(&body).await;
    let mut poison = field.answer(0, &question(BASE, 8000)).await;
    poison.read(2).await;
    let request = poison.request.clone();
    let mut bystander = None;
    for delivery in 1..=3 {
        let node = field.busy_node().await;
        if delivery == 3 {
            // It may be on the same node, and has that loss behind it then.
            bystander = Some(field.answer(0, &body).await);
        }
        field.nodes[node].kill();
        if delivery < 3 {
            let before = poison.num_pieces;
            poison.read(before + 2).await;
            field.nodes[node].restart();
            field.until_ready(2).await;
        }
    }
    let error = poison.breaks_off().await;
    assert_eq!(error["code"], "given_up", "{error}");
    assert!(error["message"].as_str().is_some_and(|why| why.contains("3 times")), "{error}");
    field.ends_as(bystander.unwrap(), &text).await;
    // Free: it was ours. And among the dead letters with its reason.
    let charged = field.charged(&request).await;
    assert_eq!(charged["jobs"].as_array().map(Vec::len), Some(1), "{charged}");
    assert_eq!(charged["jobs"][0]["charged_output_tokens"], 0, "{charged}");
    let gateway = &field.fleet.gateways[0];
    let buried = async || field.figure(gateway, "souk_queue_dead_letters").await == 1.0;
    until("it is a dead letter", LIMIT, buried).await;
    let (status, told, _) = field.ask(0, &body).await;
    assert_eq!((status, told["choices"][0]["text"].as_str()), (200, Some(text.as_str())), "{told}");
}
