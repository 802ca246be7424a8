//! More is asked than may wait.

use futures::future::join_all;

use crate::field::Field;
use crate::stack::BASE;
use crate::streams::question;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_into_the_queue_is_told_when_to_come_back_and_is_let_in_then() {
    let mut field = Field::start(0, 0).await;
    // A tenant's part is little at one gateway, and all there is at the other.
    for (number, most) in [(0, ("SOUK_QUEUE__MAX_QUEUED_PER_TENANT", "2")), (1, ("SOUK_QUEUE__MAX_QUEUED", "4"))] {
        let gateway = field.gateway(number, &[most]);
        field.fleet.gateways.push(gateway);
    }
    let node = field.node(0, &[("SOUK_ENGINE__MAX_SEQUENCES", "1"), ("SOUK_ENGINE__MAX_REQUESTS", "1")]);
    field.nodes.push(node);
    field.until_ready(1).await;
    let body = question(BASE, 24);
    let text = field.undisturbed(&body).await;
    for gateway in [0, 1] {
        let answers = join_all((0..8).map(|_| field.ask(gateway, &body))).await;
        let (mut num_answered, mut refused) = (0, Vec::new());
        for (status, told, says_when) in answers {
            if status == 200 {
                assert_eq!(told["choices"][0]["text"], text.as_str());
                num_answered += 1;
                continue;
            }
            assert!(says_when, "{status} {told}");
            refused.push((status, told["error"]["code"].as_str().unwrap().to_owned()));
        }
        println!("gateway {gateway}: {num_answered} answered, {refused:?}");
        assert!(num_answered >= 2, "what fits is answered");
        let expected = if gateway == 0 { (429, "rate_limit_exceeded") } else { (503, "overloaded") };
        assert!(refused.iter().any(|(status, code)| (*status, code.as_str()) == expected), "{refused:?}");
        let (status, told, _) = field.ask(gateway, &body).await;
        assert_eq!((status, told["choices"][0]["text"].as_str()), (200, Some(text.as_str())), "{told}");
    }
}
