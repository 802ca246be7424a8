use souk_http::cors::CorsOrigins;

use secrecy::ExposeSecret as _;

use super::*;

fn load(variables: &[(&str, &str)]) -> anyhow::Result<Config> {
    Config::load(None, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn the_compiled_in_defaults_are_complete_and_valid() {
    let config = load(&[]).unwrap();
    assert_eq!(config.server.listen, "127.0.0.1:8080");
    assert_eq!(config.model.source, "smollm2-135m-instruct");
}

/// The page as a table, changed.
fn page(change: impl FnOnce(&mut toml::Table)) -> String {
    let mut page = toml::from_str(PAGE).unwrap();
    change(&mut page);
    toml::to_string(&page).unwrap()
}

#[test]
fn every_default_is_on_the_page_and_nowhere_else() {
    let whole: toml::Table = toml::from_str(PAGE).unwrap();
    for (section, keys) in &whole {
        let keys = keys.as_table().unwrap();
        for key in keys.keys() {
            let without = page(|page| drop(page[section].as_table_mut().unwrap().remove(key)));
            let error = Config::read(&without, None, HashMap::new()).expect_err(&format!("{section}.{key}"));
            assert!(format!("{error:#}").contains(key), "{section}.{key}: {error:#}");
        }
        let with = page(|page| drop(page[section].as_table_mut().unwrap().insert("another".to_owned(), 1.into())));
        let error = Config::read(&with, None, HashMap::new()).expect_err(section);
        assert!(format!("{error:#}").contains("another"), "{section}: {error:#}");
    }
}

#[test]
fn what_tests_of_crates_take_for_defaults_is_what_a_server_runs_with() {
    let config = load(&[]).unwrap();
    assert_eq!(config.server, ServerSettings::default());
    assert_eq!(config.constraints, ConstraintLimits::default());
    assert_eq!(config.queue, QueueConfig::default());
    assert_eq!(config.wire, WireSettings::default());
    assert_eq!(config.memory, MemorySettings::default());
    assert_eq!(config.engine, EngineConfig::default());
    assert_eq!(config.adapters, AdapterSettings::default());
    assert_eq!(format!("{:?}", config.gateway), format!("{:?}", GatewayLimits::default()));
    assert_eq!(format!("{:?}", config.hooks), format!("{:?}", HookSettings::default()));
    assert_eq!(format!("{:?}", config.registry), format!("{:?}", RegistrySettings::default()));
    assert_eq!(config.limits, LimitSettings::default());
    assert_eq!(format!("{:?}", config.sign_in), format!("{:?}", SignInSettings::default()));
}

#[test]
fn a_variable_wins_over_the_defaults_and_command_variables_are_left_alone() {
    let variables = [("SOUK_ENGINE__THREADS", "3"), ("SOUK_API_KEY", "secret"), ("SOUK_LOG__FORMAT", "json")];
    let config = load(&variables).unwrap();
    assert_eq!(config.engine.threads, 3);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn what_a_role_does_not_read_is_told() {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(
        file.path(),
        "[registry]\npepper = \"\"\n[registry.database]\nurl = \"\"\n[gateway]\nregistries = [\"http://a:1\"]\nmax_body_bytes = 4194304\n[sign_in]\nlinks = false\n",
    )
    .unwrap();
    let variables = [("SOUK_ENGINE__THREADS".to_owned(), "6".to_owned())];
    let config = Config::load(Some(file.path()), variables.into_iter()).unwrap();
    let unused = |role| config.unused_by(role).collect::<Vec<_>>();
    let of_registries = ["registry.database.url", "registry.pepper", "sign_in.links"];
    assert_eq!(unused(Role::Gateway), of_registries);
    assert_eq!(unused(Role::GatewayApart), [&["engine.threads"][..], &of_registries].concat());
    let of_gateways = ["gateway.max_body_bytes", "gateway.registries"];
    assert_eq!(unused(Role::Node), [&of_gateways[..], &of_registries].concat());
    assert_eq!(unused(Role::Registry), [&["engine.threads"][..], &of_gateways].concat());
    assert_eq!(unused(Role::All), ["gateway.registries"]);
    assert!(load(&[]).unwrap().unused_by(Role::Gateway).next().is_none(), "defaults are not given");
}

#[test]
fn every_section_is_read_by_some_role_alone() {
    let page: toml::Table = toml::from_str(PAGE).unwrap();
    for section in page.keys() {
        let key = format!("{section}.any");
        assert!(Role::ALL.iter().filter(|role| **role != Role::All).any(|role| role.uses(&key)), "{section}");
    }
}

#[test]
fn registries_are_a_list_in_the_environment_too() {
    let config = load(&[("SOUK_GATEWAY__REGISTRIES", "http://a:1,http://b:2")]).unwrap();
    assert_eq!(config.gateway.registries, ["http://a:1", "http://b:2"]);
    assert_eq!(load(&[("SOUK_GATEWAY__REGISTRIES", "http://a:1")]).unwrap().gateway.registries.len(), 1);
}

#[test]
fn a_node_is_called_what_the_settings_say_or_like_nobody_else() {
    let named = load(&[("SOUK_NODE__ID", "node-1.eu_2")]).unwrap().node;
    assert_eq!(named.node_id().as_str(), "node-1.eu_2");
    let unnamed = load(&[]).unwrap().node;
    assert_ne!(unnamed.node_id(), unnamed.node_id());
    for bad in ["Node 1", "-a", &"a".repeat(65)] {
        let error = format!("{:#}", load(&[("SOUK_NODE__ID", bad)]).unwrap_err());
        assert!(error.contains("node.id") && error.contains(bad), "{error}");
    }
}

#[test]
fn the_key_of_a_node_has_one_place_and_is_never_shown() {
    let key = ("SOUK_NODE__REGISTRY_KEY", "007");
    let config = load(&[key, ("SOUK_NODE__REGISTRIES", "http://a:1,http://b:2")]).unwrap();
    assert_eq!(config.node.registries, ["http://a:1", "http://b:2"]);
    assert!(!format!("{config:?}").contains("007"));
    let error = format!("{:#}", load(&[key, ("SOUK_NODE__REGISTRY_KEY_FILE", "/run/k")]).unwrap_err());
    assert!(error.contains("node.registry_key_file are both set, the latter to /run/k"), "{error}");
}

#[test]
fn a_secret_is_a_text_whatever_it_looks_like() {
    for password in ["007", "true", "1e3", "a,b"] {
        let config = load(&[("SOUK_REGISTRY__DATABASE__PASSWORD", password)]).unwrap();
        assert_eq!(config.registry.database.password.expose_secret(), password);
    }
}

#[test]
fn a_provider_of_identities_can_be_in_the_environment_and_its_secret_is_a_text() {
    let variable = |name: &str| format!("SOUK_SIGN_IN__PROVIDERS__EXAMPLE__{name}");
    let names = ["URL", "CLIENT_ID", "CLIENT_SECRET"].map(variable);
    let values = ["https://login.example.com", "1234", "007"];
    let variables: Vec<_> = names.iter().map(String::as_str).zip(values).collect();
    let config = load(&variables).unwrap();
    let provider = &config.sign_in.providers["example"];
    assert_eq!((provider.client_id.as_str(), provider.client_secret.expose_secret()), ("1234", "007"));
    let error =
        format!("{:#}", load(&[(names[0].as_str(), "http://login.example.com"), (&names[1], "x")]).unwrap_err());
    assert!(error.contains("sign_in.providers.example.url must begin with https://"), "{error}");
}

#[test]
fn the_address_of_redis_is_a_secret_and_has_its_scheme() {
    let config = load(&[("SOUK_REDIS__URL", "redis://:hunter2@10.0.0.5:6379/0")]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let error = format!("{:#}", load(&[("SOUK_REDIS__URL", "10.0.0.5:hunter2")]).unwrap_err());
    assert!(error.contains("redis.url must begin with redis://") && !error.contains("hunter2"), "{error}");
    let error = format!("{:#}", load(&[("SOUK_REDIS__RESPONSE_TIMEOUT_MS", "0")]).unwrap_err());
    assert!(error.contains("redis.response_timeout_ms must be at least 1; given 0"), "{error}");
}

#[test]
fn a_typo_and_a_value_out_of_range_are_errors_that_name_the_key() {
    let text = |variables: &[(&str, &str)]| format!("{:#}", load(variables).unwrap_err());
    assert!(text(&[("SOUK_ENGINE__THREAD", "3")]).contains("thread"));
    assert!(text(&[("SOUK_ENGINE__MAX_SEQUENCES", "0")]).contains("engine.max_sequences must be at least 1; given 0"));
    assert!(text(&[("SOUK_ENGINE__THREADS", "many")]).contains("threads"));
    assert!(text(&[("SOUK_SERVER__THREADS", "1025")]).contains("server.threads must be at most 1024; given 1025"));
    assert!(
        text(&[("SOUK_CONSTRAINTS__MAX_MASK_WORK", "0")])
            .contains("constraints.max_mask_work must be at least 1; given 0")
    );
    assert!(
        text(&[("SOUK_CONSTRAINTS__MAX_SOURCE_BYTES", "131073")])
            .contains("constraints.max_source_bytes must be at most 131072; given 131073")
    );
}

#[test]
fn pinned_adapters_are_references_in_a_file_and_in_the_environment() {
    let config = load(&[("SOUK_ADAPTERS__PINNED", "acme/tone,acme/sql:prod")]).unwrap();
    let names: Vec<_> = config.adapters.pinned.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["acme/tone", "acme/sql:prod"]);
    let error = format!("{:#}", load(&[("SOUK_ADAPTERS__PINNED", "tone")]).unwrap_err());
    assert!(error.contains("`tone` is not an adapter reference"), "{error}");
}

#[test]
fn pages_of_other_origins_are_a_list_and_one_that_is_no_origin_is_named() {
    assert_eq!(load(&[]).unwrap().cors.origins, CorsOrigins::Off);
    assert_eq!(load(&[("SOUK_CORS__ORIGINS", "*")]).unwrap().cors.origins, CorsOrigins::Any);
    let config = load(&[("SOUK_CORS__ORIGINS", "https://app.example.com,http://localhost:3000")]).unwrap();
    assert!(matches!(config.cors.origins, CorsOrigins::List(list) if list.len() == 2));
    let error = load(&[("SOUK_CORS__ORIGINS", "https://app.example.com,https://app.example.com/page")]).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("`https://app.example.com/page` is not an origin"), "{error}");
    assert!(error.contains("cors.origins"), "{error}");
}

#[test]
fn a_file_wins_over_the_defaults_and_a_variable_over_the_file() {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(file.path(), "[engine]\nthreads = 5\nmax_sequences = 7\n").unwrap();
    let variables = [("SOUK_ENGINE__THREADS".to_owned(), "6".to_owned())];
    let config = Config::load(Some(file.path()), variables.into_iter()).unwrap();
    assert_eq!((config.engine.threads, config.engine.max_sequences), (6, 7));
}

#[test]
fn any_bytes_of_a_settings_file_are_read_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    souk_testkit::fuzz("settings", |bytes| {
        std::fs::write(&path, bytes).unwrap();
        match Config::read(PAGE, Some(&path), HashMap::new()) {
            Ok(_) => "valid".to_owned(),
            Err(error) => format!("{error:#}").replace(path.to_str().unwrap(), "").chars().skip(68).collect(),
        }
    });
}
