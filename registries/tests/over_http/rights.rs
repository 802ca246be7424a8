//! Who calls, what names mean, lists, templates and files, as a gateway apart is told them.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use souk_gateway::{AuthError, Catalog as _};
use souk_protocol::limits::Policy;
use souk_protocol::{AdapterManifest, Digest, FileEntry, Scope};
use souk_registries::{KeySource, Registries, Settings, SettingsError};
use souk_testkit::proxy::Mode;
use tokio::io::AsyncReadExt as _;

use crate::field::{Field, done, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_apart_is_told_what_one_in_the_registrys_process_is() {
    let field = Field::with(2).await;
    let (id, key) = field.tenant("acme").await;
    let (_, rivals) = field.tenant("rival").await;
    let digest = field.publish(&key, "acme/tone", "1.0.0", 1.0).await;
    let apart = field.gateway();
    apart.ready().await;

    let principal = apart.principal(&key).await.unwrap();
    assert_eq!(principal, field.registries[0].registry.authenticate(&key).await.unwrap());
    assert_eq!((principal.key.as_str(), principal.tenant_name.as_str()), (&*id, "acme"));
    assert!(principal.may(Scope::Inference) && !principal.may(Scope::Admin));
    let token = field.token(&key).await;
    assert_eq!(apart.principal(&token).await.unwrap(), principal);
    for nothing in ["", "souk_x", "eyJ.x.y", field.services_key(), &token[..token.len() - 2]] {
        assert!(matches!(apart.catalog.authenticate(nothing).await, Err(AuthError::Invalid)), "{nothing}");
    }

    assert_eq!(apart.version(&principal, "acme/tone").await.unwrap(), "1.0.0");
    let resolved = apart.catalog.resolve(&principal, &"acme/tone@1.0.0".parse().unwrap()).await.unwrap();
    assert_eq!(resolved.digest.to_string(), digest);
    let rival = apart.principal(&rivals).await.unwrap();
    let hidden = apart.version(&rival, "acme/tone").await.unwrap_err();
    assert_eq!(hidden, apart.version(&rival, "acme/none").await.unwrap_err().replace("none", "tone"));
    let name = "acme/tone".parse().unwrap();
    assert_eq!(apart.catalog.resolve_for_operator(&"acme/tone".parse().unwrap()).await.unwrap(), resolved);
    assert_eq!(apart.catalog.entry(&principal, &name).await.unwrap().owner, "acme");
    assert!(apart.catalog.entry(&rival, &name).await.is_err());
    let listed = apart.catalog.list(&principal, 10).await.unwrap();
    assert_eq!(listed.entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["acme/tone"]);
    assert_eq!(apart.catalog.chat_template(&resolved).await.unwrap(), None);

    let tree = apart.catalog.limits(&principal).await.unwrap();
    assert_eq!(Some(&*tree), field.registries[0].registry.limits_of_caller(&principal).await.unwrap().as_ref());
    assert_eq!((tree.levels.len(), tree.gate_weight), (2, 1), "the tenant's and the key's");
    let gone = souk_protocol::Principal { key: souk_protocol::KeyId::from_stored("000000000000"), ..principal };
    assert!(matches!(apart.catalog.limits(&gone).await, Err(AuthError::Invalid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_known_within_a_second_and_believed_while_no_registry_answers() {
    let field = Field::with(2).await;
    let (_, key) = field.tenant("acme").await;
    let apart = field.gateway();
    apart.ready().await;
    let principal = apart.principal(&key).await.unwrap();
    let limit = async || {
        let tree = apart.catalog.limits(&principal).await.ok()?;
        Some(tree.levels[0].limits.get(&Policy::RequestsPerMinute).map(|limit| limit.value))
    };
    assert_eq!(limit().await, Some(None));
    for value in [60, 30] {
        let limits = json!({ "limits": { "requests_per_minute": { "value": value } } });
        field.operator(Method::PATCH, "tenants/acme/limits", limits).await;
        let after = until("it is known", Duration::from_secs(20), async || limit().await == Some(Some(value))).await;
        println!("a limit was known {after:?} after it was set");
    }
    for registry in &field.registries {
        registry.proxy.set(Mode::Closed);
    }
    assert_eq!(limit().await, Some(Some(30)), "as it was known last");
    until("it is believed no more", Duration::from_secs(20), async || limit().await.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_verified_without_asking_and_keys_that_are_rotated_are_known() {
    let field = Field::with(1).await;
    let (_, key) = field.tenant("acme").await;
    let apart = field.gateway();
    apart.ready().await;
    let token = field.token(&key).await;
    apart.principal(&token).await.unwrap();
    let connections = field.registries[0].proxy.accepted();
    for _ in 0..100 {
        apart.principal(&token).await.unwrap();
    }
    assert!(field.registries[0].proxy.accepted() <= connections + 1);
    // Signed with one that the gateway has not seen: it asks for keys again, at most once a second, or for the token.
    for _ in 0..3 {
        field.operator(Method::POST, "auth/signing-keys", json!({})).await;
        let token = field.token(&key).await;
        assert!(apart.principal(&token).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_known_within_a_second() {
    let field = Field::with(2).await;
    let (_, key) = field.tenant("acme").await;
    let apart = field.gateway();
    apart.ready().await;
    let principal = apart.principal(&key).await.unwrap();
    assert!(apart.version(&principal, "acme/tone").await.is_err());
    for (number, version) in ["1.0.0", "2.0.0", "3.0.0"].into_iter().enumerate() {
        field.publish(&key, "acme/tone", version, number as f32 + 1.0).await;
        let known = async || apart.version(&principal, "acme/tone").await.as_deref() == Ok(version);
        let after = until(version, Duration::from_secs(20), known).await;
        println!("{version} was found {after:?} after it was published");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_breaks_off_goes_on_at_the_next_registry() {
    let field = Field::with(2).await;
    let (_, key) = field.tenant("acme").await;
    let digest: Digest = field.publish(&key, "acme/tone", "1.0.0", 1.0).await.parse().unwrap();
    let apart = field.gateway();
    let registries = apart.catalog.registries();
    let grant = async |version: &Digest| field.registries[0].registry.grant_files(version).await.unwrap();
    let of_version = grant(&digest).await;
    let mut manifest = Vec::new();
    registries.open(&digest, &of_version, false).await.unwrap().unwrap().read_to_end(&mut manifest).await.unwrap();
    assert_eq!(Digest::of(&manifest), digest);
    let nothing = Digest::of(b"x");
    assert!(registries.open(&nothing, &grant(&nothing).await, false).await.unwrap().is_none());
    let refused = registries.open(&nothing, &of_version, false).await.err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(refused.to_string().contains("file_grant_invalid"), "{refused}");

    // A version with a large file, of which a part has come when each registry in turn is cut off.
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        let path = field.folder().join("objects").join(souk_protocol::manifest::blob_path(&digest));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        FileEntry { digest, size_bytes: bytes.len() as u64 }
    };
    let large: Vec<u8> = (0..32_u32 << 20).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let weights = put(&large);
    let digest = weights.digest;
    let version = put(&AdapterManifest::new(nothing, put(b"{}"), weights).canonical_bytes());
    let mut open = registries.open(&digest, &grant(&version.digest).await, true).await.unwrap().unwrap();
    let mut bytes = vec![0; 1 << 20];
    open.read_exact(&mut bytes).await.unwrap();
    for number in [0, 1] {
        field.registries[number].proxy.set(Mode::Closed);
        field.registries[1 - number].proxy.set(Mode::Pass);
        let mut more = vec![0; 8 << 20];
        open.read_exact(&mut more).await.unwrap();
        bytes.extend(more);
    }
    open.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(Digest::of(&bytes), digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_in_a_file_can_be_replaced_and_a_wrong_one_lets_nobody_in() {
    let field = Field::with(1).await;
    let (_, tenants) = field.tenant("acme").await;
    let file = field.folder().join("registry-key");
    let apart = field.gateway_with(KeySource::File(file.clone()));
    assert!(matches!(apart.catalog.authenticate(&tenants).await, Err(AuthError::Unavailable(_))), "no file yet");
    std::fs::write(&file, &tenants).unwrap();
    assert!(matches!(apart.catalog.authenticate(&tenants).await, Err(AuthError::Unavailable(_))), "a tenant's key");
    std::fs::write(&file, format!("{}\n", field.services_key())).unwrap();
    let limit = Duration::from_secs(20);
    until("it is let in", limit, async || apart.principal(&tenants).await.is_some()).await;

    // Another follows, and the first is revoked.
    let made = field.operator(Method::POST, "services", json!({ "name": "gateway-1" })).await;
    std::fs::write(&file, made["secret"].as_str().unwrap()).unwrap();
    let listed = done(field.request(0, Method::GET, "services", &field.admin_key)).await;
    let old = listed["data"].as_array().unwrap().iter().find(|one| one["id"] != made["id"]).unwrap();
    let path = format!("services/{}", old["id"].as_str().unwrap());
    done(field.request(0, Method::DELETE, &path, &field.admin_key)).await;
    for _ in 0..20 {
        assert!(apart.principal(&tenants).await.is_some());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn settings_with_which_no_registry_can_be_reached_are_refused() {
    let settings = |addresses: &[&str]| Settings {
        section: "gateway",
        addresses: addresses.iter().map(|one| (*one).to_owned()).collect(),
        root_cert: None,
        client_cert: None,
        key: KeySource::Text(String::new().into()),
        stale: Duration::ZERO,
        id_of_key: |_| None,
    };
    assert!(matches!(Registries::new(&settings(&[])), Err(SettingsError::NoRegistry { .. })));
    assert!(matches!(Registries::new(&settings(&["a:1"])), Err(SettingsError::Address { .. })));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.pem");
    let with_root = || Settings { root_cert: Some(path.clone()), ..settings(&["https://a:1"]) };
    let absent = Registries::new(&with_root()).err().unwrap().to_string();
    assert!(absent.contains("gateway.registries_root_cert") && absent.contains("root.pem"), "{absent}");
    std::fs::write(&path, "no certificate").unwrap();
    assert!(matches!(Registries::new(&with_root()), Err(SettingsError::Certificates { .. })));
}
