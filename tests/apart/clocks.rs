//! The wall clocks of registries and gateways are set to other times while keys are revoked.

use std::time::Duration;

use reqwest::Method;

use crate::fleet::{Fleet, Process, done, set_by, until};
use crate::stack::BASE;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(has_faketime), ignore = "needs libfaketime: apt-get install faketime, touch Cargo.toml")]
async fn steps_of_the_clock_let_no_revoked_key_and_no_token_of_it_through() {
    let folder = tempfile::tempdir().unwrap();
    let (of_gateway, of_registries) = (folder.path().join("gateway"), folder.path().join("registries"));
    let mut fleet = Fleet::registries_alone(&set_by(&of_registries)).await;
    let gateway = fleet.gateway(0, &set_by(&of_gateway));
    fleet.gateways.push(gateway);
    fleet.until_ready().await;
    let gateway: &Process = &fleet.gateways[0];
    for (who, file) in [("the gateway's", &of_gateway), ("the registries'", &of_registries)] {
        for hours in [2, -3] {
            let (id, key) = fleet.key().await;
            let token = fleet.token(&key).await;
            for presented in [&key, &token] {
                until("it is let in", LIMIT, async || fleet.look(gateway, presented, BASE).await == 200).await;
            }
            std::fs::write(file, format!("{:+}", hours * 3600)).unwrap();
            done(fleet.at_registry(0, Method::DELETE, &format!("keys/{id}"))).await;
            let refused =
                async || fleet.look(gateway, &key, BASE).await == 401 && fleet.look(gateway, &token, BASE).await == 401;
            let after = until("both are refused", LIMIT, refused).await;
            println!("{who} clock set by {hours} h: refused after {after:?}");
            // Others are let in as before, and what is refused stays so.
            let (_, other) = fleet.key().await;
            until("others are let in", LIMIT, async || fleet.look(gateway, &other, BASE).await == 200).await;
            std::fs::write(file, "+0").unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            for presented in [&key, &token] {
                assert_eq!(fleet.look(gateway, presented, BASE).await, 401, "{who} {hours}\n{}", gateway.log());
            }
        }
    }
}
