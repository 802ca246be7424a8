//! Registries are killed: one of two, both, and in the middle of uploads.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use crate::fleet::{Fleet, Process, done, until};
use crate::stack::{BASE, repository};

/// `gateway.rights_stale_s`.
const STALE: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(60);

fn question(model: &str) -> Value {
    json!({ "model": model, "prompt": "Once", "max_tokens": 1, "temperature": 0 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_registry_may_die_and_when_both_are_dead_what_was_known_is_served_for_five_seconds() {
    let mut fleet = Fleet::start().await;
    fleet.push("sst2", "admin/sst2@1.0.0");
    let (_, key) = fleet.key().await;
    let token = fleet.token(&key).await;
    for number in [0, 1] {
        fleet.registries[number].kill();
        let killed = Instant::now();
        let mut num_answered = 0;
        while killed.elapsed() < STALE + Duration::from_secs(2) {
            for gateway in &fleet.gateways {
                let (status, answer, _) = fleet.complete(gateway, &key, &question("admin/sst2@1.0.0")).await;
                assert_eq!(status, 200, "{answer}\n{}", gateway.log());
                num_answered += 1;
            }
        }
        println!("registry {number} dead: {num_answered} answers, none refused");
        fleet.registries[number].restart();
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }

    fleet.registries.iter_mut().for_each(Process::kill);
    let killed = Instant::now();
    let mut last_served = [Duration::ZERO; 2];
    while killed.elapsed() < STALE + Duration::from_secs(2) {
        for (number, gateway) in fleet.gateways.iter().enumerate() {
            let at = killed.elapsed();
            for presented in [&key, &token] {
                let (status, answer, says_when) =
                    fleet.complete(gateway, presented, &question("admin/sst2@1.0.0")).await;
                match status {
                    200 => last_served[number] = at,
                    503 => assert!(says_when && answer["error"]["code"] == "unavailable", "{answer}"),
                    other => panic!("{other} {answer}"),
                }
            }
        }
    }
    println!("both dead: the last answers that were let in began after {last_served:?}");
    assert!(last_served.iter().all(|last| !last.is_zero() && *last <= STALE), "{last_served:?}");
    for gateway in &fleet.gateways {
        let (status, told) = fleet.ready(gateway).await;
        assert_eq!((status, &told["status"]), (503, &json!("waiting_for_registries")), "{told}");
        assert!(told["reason"].as_str().unwrap().starts_with("no registry has answered for "), "{told}");
    }
    fleet.registries[1].restart();
    let began = Instant::now();
    for gateway in &fleet.gateways {
        let served = async || fleet.complete(gateway, &key, &question(BASE)).await.0 == 200;
        until("it goes on by itself", LIMIT, served).await;
    }
    println!("with one back both gateways served again after {:?}", began.elapsed());
    fleet.until_ready().await;
}

/// An upload that has sent half of its weights and waits for the word.
fn half_an_upload() -> (Form, tokio::sync::oneshot::Sender<()>) {
    let folder = repository().join("examples/adapters/sarcasm");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let mut weights = read("adapter_model.safetensors");
    let rest = weights.split_off(weights.len() / 2);
    let (go_on, told) = tokio::sync::oneshot::channel::<()>();
    let (mut write, pipe) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        if write.write_all(&weights).await.is_ok() && told.await.is_ok() {
            write.write_all(&rest).await.ok();
        } else {
            // Neither more nor an end.
            std::future::pending::<()>().await;
        }
    });
    let form = Form::new()
        .text("version", "1.0.0")
        .part("adapter_config.json", Part::bytes(read("adapter_config.json")))
        .part("adapter_model.safetensors", Part::stream(reqwest::Body::wrap_stream(ReaderStream::new(pipe))));
    (form, go_on)
}

/// What is staged below a data folder.
fn num_staged(home: &Path) -> usize {
    std::fs::read_dir(home.join("data/objects/staging")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_dies_in_an_upload_of_its_own_or_of_the_other_leaves_nothing_half_done() {
    let haste = [("SOUK_REGISTRY__LEASE_S", "2"), ("SOUK_REGISTRY__COLLECT_EVERY_S", "1")];
    let mut fleet = Fleet::registries_alone(&haste).await;
    let staged = |home: &Path| num_staged(home);
    uploads_and_kills(&mut fleet, async |fleet: &Fleet| staged(fleet.home.path())).await;
}

#[cfg(has_postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_on_postgresql_and_a_bucket() {
    let stores = crate::fleet::Stores::start().await;
    let mut settings = stores.settings();
    settings.extend([("SOUK_REGISTRY__LEASE_S", "2"), ("SOUK_REGISTRY__COLLECT_EVERY_S", "1")]);
    // Small parts, so that half of the weights are some.
    settings.push(("SOUK_OBJECTS__PART_MB", "5"));
    let mut fleet = Fleet::registries_alone(&settings).await;
    uploads_and_kills(&mut fleet, async |_: &Fleet| stores.bucket.names("prod/staging/").len()).await;
}

async fn uploads_and_kills(fleet: &mut Fleet, num_staged: impl AsyncFn(&Fleet) -> usize) {
    let publish = |fleet: &Fleet, number: usize, name: &str, form: Form| {
        let path = format!("adapters/admin/{name}/versions");
        fleet.at_registry(number, Method::POST, &path).multipart(form).send()
    };
    for name in ["theirs", "own"] {
        let request = json!({ "name": name, "visibility": "private" });
        done(fleet.at_registry(0, Method::POST, "adapters").json(&request)).await;
    }
    // The other dies: the upload does not notice.
    let (form, go_on) = half_an_upload();
    let upload = tokio::spawn(publish(fleet, 1, "theirs", form));
    tokio::time::sleep(Duration::from_millis(500)).await;
    fleet.registries[0].kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    go_on.send(()).unwrap();
    let published = upload.await.unwrap().unwrap();
    assert_eq!(published.status(), StatusCode::CREATED, "{}", fleet.registries[1].log());
    fleet.registries[0].restart();

    // Its own: no version, and the number is free once the lease has lapsed.
    let (form, _never) = half_an_upload();
    let upload = tokio::spawn(publish(fleet, 1, "own", form));
    tokio::time::sleep(Duration::from_millis(500)).await;
    fleet.registries[1].kill();
    assert!(upload.await.unwrap().is_err(), "its client is told");
    let versions = done(fleet.at_registry(0, Method::GET, "adapters/admin/own/versions")).await;
    assert_eq!(versions["data"], json!([]));
    let again = async || {
        let (form, go_on) = half_an_upload();
        go_on.send(()).unwrap();
        publish(&*fleet, 0, "own", form).await.unwrap().status() == StatusCode::CREATED
    };
    let after = until("the number is free", LIMIT, again).await;
    println!("the same number could be published {after:?} after its registry was killed");
    let after = until("nothing staged is left", LIMIT, async || num_staged(&*fleet).await == 0).await;
    println!("what it had staged was gone {after:?} later");
    fleet.registries[1].restart();
    let folder = fleet.home.path().join("data").display().to_string();
    for number in [0, 1] {
        let path = "adapters/admin/own/versions/1.0.0/files/adapter_model.safetensors";
        let bytes = fleet.at_registry(number, Method::GET, path).send().await.unwrap().bytes().await.unwrap();
        let expected = std::fs::read(repository().join("examples/adapters/sarcasm/adapter_model.safetensors")).unwrap();
        assert!(bytes == expected, "at registry {number} of {folder}");
    }
}
