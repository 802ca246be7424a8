//! What each role answers, what it needs to start, and how it ends.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use souk_testkit::certificates::Authority;

use crate::fleet::{Fleet, Process, described_base, done, free_address, souk};
use crate::stack::BASE;

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

async fn get(http: &Client, url: &str, path: &str) -> (u16, Value) {
    let answer = http.get(format!("{url}{path}")).send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_answers_its_own_routes_and_ends_in_good_order() {
    let mut fleet = Fleet::start().await;
    let (registry, gateway) = (fleet.registries[0].url.clone(), fleet.gateways[0].url.clone());
    let http = fleet.http.clone();
    assert_eq!(get(&http, &registry, "/ready").await, (200, json!({ "status": "ready" })));
    for url in [&registry, &gateway] {
        assert_eq!(get(&http, url, "/health").await, (200, json!({ "status": "ok" })));
        assert_eq!(get(&http, url, "/metrics").await.0, 200);
        assert_eq!(get(&http, url, "/docs/").await.0, 200);
    }
    let (status, told) = get(&http, &registry, "/v1/models").await;
    assert_eq!((status, &told["code"]), (404, &json!("not_found")), "{told}");
    let (status, told) = get(&http, &gateway, "/registry/v1/adapters").await;
    assert_eq!((status, &told["error"]["code"]), (404, &json!("unknown_url")), "{told}");
    for (url, own, others) in [(&registry, "registry", "gateway"), (&gateway, "gateway", "registry")] {
        let document = get(&http, url, &format!("/openapi/{own}.json")).await;
        assert!(document.0 == 200 && document.1["paths"].is_object());
        assert_eq!(get(&http, url, &format!("/openapi/{others}.json")).await.0, 404);
    }
    let bases = get(&http, &registry, "/registry/v1/base-models").await.1;
    assert_eq!(bases["data"][0]["id"], BASE);
    // A service's token opens nothing of a gateway, and neither does its key.
    let url = format!("{registry}/registry/v1/internal/token");
    let token = done(http.post(url).bearer_auth(&fleet.services_keys[0])).await;
    for presented in [token["access_token"].as_str().unwrap(), &fleet.services_keys[0]] {
        assert_eq!(fleet.look(&fleet.gateways[0], presented, BASE).await, 401);
    }

    // A gateway listens to it; it ends all the same, and the gateway goes on.
    let (_, key) = fleet.key().await;
    let (in_good_order, took) = fleet.registries[0].end();
    assert!(in_good_order && took < Duration::from_secs(20), "{took:?}\n{}", fleet.registries[0].log());
    assert_eq!(fleet.look(&fleet.gateways[0], &key, BASE).await, 200);
    let (in_good_order, took) = fleet.gateways[0].end();
    assert!(in_good_order && took < Duration::from_secs(20), "{took:?}\n{}", fleet.gateways[0].log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_operators_and_for_gateways_is_at_their_port_which_may_speak_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "souk");
    let own = authority.issue("localhost", "DNS:localhost,IP:127.0.0.1");
    let of_gateway = text(&authority.issue("gateway", "DNS:gateway").both);
    let (root, cert, key) = (text(&authority.root()), text(&own.cert), text(&own.key));
    let data = folder.path().join("data").display().to_string();
    let key_file = folder.path().join("admin.key").display().to_string();
    let base = described_base().display().to_string();
    let arguments =
        ["registry", "--listen", &free_address(), "--base", &base, "--data-dir", &data, "--admin-key-file", &key_file];
    let admin = free_address();
    let registry = Process::start(
        &arguments,
        &[
            ("SOUK_SERVER__ADMIN_LISTEN", admin.as_str()),
            ("SOUK_SERVER__TLS__CERT", &cert),
            ("SOUK_SERVER__TLS__KEY", &key),
            ("SOUK_SERVER__TLS__OPERATORS", "true"),
            // Services need a certificate too, and operators do not.
            ("SOUK_SERVER__TLS__CLIENT_CA", &root),
            ("SOUK_ENGINE__THREADS", "3"),
        ],
    );
    let operators = registry.operators_url().unwrap();
    assert_eq!(operators, format!("https://{admin}"));
    assert!(registry.log().contains("`souk registry` does not use: engine.threads"), "{}", registry.log());
    let trusted = reqwest::Certificate::from_pem(&std::fs::read(&root).unwrap()).unwrap();
    let http = Client::builder().tls_certs_merge([trusted]).build().unwrap();
    let admin_key = std::fs::read_to_string(key_file).unwrap().trim().to_owned();
    let post = |url: &str, path: &str, key: &str, body: Value| {
        http.post(format!("{url}/registry/v1/{path}")).bearer_auth(key).json(&body)
    };
    let made = done(post(&operators, "services", &admin_key, json!({ "name": "gateway-1" }))).await;
    let services_key = made["secret"].as_str().unwrap().to_owned();
    assert_eq!(get(&http, &operators, "/metrics").await.0, 200);
    // The port for everybody has neither.
    assert_eq!(get(&http, &registry.url, "/metrics").await.1["code"], "not_found");
    let hidden = post(&registry.url, "internal/token", &services_key, json!({})).send().await.unwrap();
    assert_eq!(hidden.status(), 404);

    let key_file = folder.path().join("registry-key");
    std::fs::write(&key_file, &services_key).unwrap();
    let node = folder.path().join("node").display().to_string();
    let registries = format!("https://localhost:{}", admin.rsplit_once(':').unwrap().1);
    let start = |root: &str, shown: &str| {
        let listen = free_address();
        let arguments =
            ["gateway", "--listen", &listen, "--model", BASE, "--data-dir", &node, "--registry", &registries];
        Process::start(
            &arguments,
            &[
                ("SOUK_GATEWAY__REGISTRIES_ROOT_CERT", root),
                ("SOUK_GATEWAY__REGISTRIES_CLIENT_CERT", shown),
                ("SOUK_GATEWAY__REGISTRY_KEY_FILE", key_file.to_str().unwrap()),
                ("SOUK_ENGINE__THREADS", "1"),
                ("SOUK_REGISTRY__PEPPER", ""),
            ],
        )
    };
    let gateway = start(&root, &of_gateway);
    let limit = Duration::from_secs(60);
    let ready = async || get(&http, &gateway.url, "/ready").await.0 == 200;
    crate::fleet::until("it reaches the registry by TLS", limit, ready).await;
    let unused = "`souk gateway` does not use: registry.hooks.install, registry.pepper";
    assert!(gateway.log().contains(unused), "{}", gateway.log());
    drop(gateway);
    // One that shows none of its own is refused, and both say why.
    let gateway = start(&root, "");
    let why = async || {
        let (_, told) = get(&http, &gateway.url, "/ready").await;
        gateway.log().contains("client_certificate_missing")
            && registry.log().contains("A service without a certificate is refused")
            && told["reason"] == "no registry has answered yet"
    };
    crate::fleet::until("both say why", limit, why).await;
    drop(gateway);
    // One that does not trust the certificate says so, and waits.
    let gateway = start("", &of_gateway);
    let told = async || gateway.log().to_lowercase().contains("certificate");
    crate::fleet::until("it says why", limit, told).await;
    let (status, told) = get(&http, &gateway.url, "/ready").await;
    assert_eq!((status, &told["reason"]), (503, &json!("no registry has answered yet")), "{told}");
}

#[test]
fn a_role_that_lacks_a_setting_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").display().to_string();
    let told = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = souk(&[arguments, &["--listen", "127.0.0.1:0", "--data-dir", &data]].concat(), variables);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let text = told(&["registry"], &[]);
    assert!(text.contains("registry.base_files must name at least one file"), "{text}");
    let absent = folder.path().join("absent.json").display().to_string();
    let text = told(&["registry", "--base", &absent], &[]);
    assert!(text.contains("registry.base_files") && text.contains("absent.json cannot be opened"), "{text}");
    let wrong = folder.path().join("wrong.json");
    std::fs::write(&wrong, "{}").unwrap();
    let text = told(&["registry", "--base", wrong.to_str().unwrap()], &[]);
    assert!(text.contains("wrong.json is not what `souk models describe` writes"), "{text}");
    let base = described_base().to_str().unwrap();
    let text = told(&["registry", "--base", base, "--base", base], &[]);
    assert!(text.contains("as another file does"), "{text}");
    let text = told(&["gateway"], &[]);
    assert!(text.contains("gateway.registries must list at least one registry"), "{text}");
    let text = told(&["gateway", "--registry", "http://127.0.0.1:1"], &[]);
    assert!(text.contains("gateway.registry_key or gateway.registry_key_file must be set"), "{text}");
    let text = told(&["gateway", "--registry", "127.0.0.1:1"], &[("SOUK_GATEWAY__REGISTRY_KEY", "souk_x")]);
    assert!(text.contains("`127.0.0.1:1` is not an address such as http://10.0.0.5:8081"), "{text}");
    assert!(!folder.path().join("data").exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_alone_judges_uploads_as_one_beside_a_model_does() {
    let fleet = Fleet::registries_alone(&[]).await;
    let single = crate::stack::Stack::start();
    for (name, example) in [("sst2", "sst2"), ("json", "address-json")] {
        fleet.push(example, &format!("admin/{name}@1.0.0"));
        single
            .push(&crate::stack::repository().join("examples/adapters").join(example), &format!("admin/{name}@1.0.0"));
        let path = format!("adapters/admin/{name}/versions/1.0.0");
        let apart = done(fleet.at_registry(1, Method::GET, &path)).await;
        let together = done(single.http().get(format!("{}/registry/v1/{path}", single.url))).await;
        for field in ["digest", "base_digest", "rank", "report"] {
            assert_eq!(apart[field], together[field], "{name}: {field}");
        }
    }
    let output = souk(
        &["push", crate::stack::repository().join("examples/train").to_str().unwrap(), "admin/none@1.0.0"],
        &[("SOUK_URL", &fleet.registries[0].url), ("SOUK_API_KEY", &fleet.admin_key)],
    );
    assert!(!output.status.success());
}
