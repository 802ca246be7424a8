//! Wall clocks of a node, a gateway and Redis are set to other times while answers run.

use std::path::{Path, PathBuf};
use std::process::Command;

use souk_testkit::redis::Redis;

use crate::field::Field;
use crate::fleet::set_by;
use crate::stack::{BASE, repository};
use crate::streams::question;

/// A library that sets the clock of a Redis, which libfaketime cannot; `None` where there is no C compiler.
fn of_redis(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (repository().join("tests/fleet/clock.c"), folder.join("clock.so"));
    let built = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(has_faketime), ignore = "needs libfaketime: apt-get install faketime, touch Cargo.toml")]
async fn steps_of_the_clocks_of_a_fleet_cut_no_answer_and_charge_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let [redis_clock, gateway_clock, node_clock] = ["redis", "gateway", "node"].map(|name| folder.path().join(name));
    let library = of_redis(folder.path());
    let redis = match &library {
        Some(library) => Redis::with_variables(&[
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("CLOCK_OFFSET_FILE", redis_clock.to_str().unwrap()),
        ]),
        None => {
            println!("there is no cc, and the clock of Redis stays as it is");
            Redis::that_forgets()
        }
    };
    let mut field = Field::start_with(&[], redis, 0, 0).await;
    let gateway = field.gateway(0, &set_by(&gateway_clock));
    field.fleet.gateways.push(gateway);
    let node = field.node(0, &set_by(&node_clock));
    field.nodes.push(node);
    field.until_ready(1).await;
    let body = question(BASE, 80);
    let text = field.undisturbed(&body).await;
    for (who, file) in [("Redis'", &redis_clock), ("the gateway's", &gateway_clock), ("the node's", &node_clock)] {
        for hours in [1, -1, 0] {
            let mut answer = field.answer(0, &body).await;
            answer.read(4).await;
            std::fs::write(file, format!("{:+}", hours * 3600)).unwrap();
            field.ends_as(answer, &text).await;
            let (status, told, _) = field.ask(0, &question(BASE, 3)).await;
            assert_eq!(status, 200, "{who} clock at {hours:+} h: {told}\n{}", field.logs());
        }
    }
    let lost = field.figure(&field.fleet.gateways[0], "souk_gateway_attempts_lost_total").await;
    assert_eq!(lost, 0.0, "{}", field.logs());
}
