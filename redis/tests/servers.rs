//! The way to one server, to a cluster, and behind a sentinel.

#![cfg(has_redis)]
#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::borrow::Cow;
use std::time::Duration;

use redis::{Cmd, cmd, from_redis_value};
use secrecy::SecretString;
use souk_redis::{Fault, Library, Live, RedisSettings, SentinelTls, Servers};
use souk_testkit::redis::{Cluster, Redis, Sentinel};

const LIBRARY: &str = "#!lua name=souk_test_1
redis.register_function('souk_test_1_count', function(keys) return redis.call('INCR', keys[1]) end)";

fn servers(settings: &RedisSettings) -> Servers {
    let settings = RedisSettings {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        ..settings.clone()
    };
    Servers::new(&settings, Library { code: Cow::Borrowed(LIBRARY) }).unwrap()
}

fn count(tag: &str) -> impl Fn(&Live) -> Cmd {
    let key = format!("souk:{{{tag}}}:n");
    move |_| {
        let mut command = cmd("FCALL");
        command.arg("souk_test_1_count").arg(1).arg(&key);
        command
    }
}

/// What the function counts for a tag.
async fn counted(servers: &Servers, tag: &str) -> Result<u64, Fault> {
    Ok(from_redis_value(servers.call(tag, count(tag)).await?)?)
}

#[tokio::test]
async fn a_server_that_is_emptied_has_its_functions_again() {
    let server = Redis::that_forgets();
    let servers = servers(&RedisSettings::at(server.url()));
    assert!(!servers.is_connected());
    assert_eq!(counted(&servers, "a").await.unwrap(), 1);
    assert_eq!(counted(&servers, "a").await.unwrap(), 2);
    server.cli(&["FLUSHALL"]);
    server.cli(&["FUNCTION", "FLUSH"]);
    assert_eq!(counted(&servers, "a").await.unwrap(), 1);
    assert!(servers.is_connected());
}

#[tokio::test]
async fn a_connection_is_new_once_and_knows_the_servers_process() {
    let mut server = Redis::that_forgets();
    let servers = servers(&RedisSettings::at(server.url()));
    let first = servers.live("a").await.unwrap();
    assert!(first.is_new() && !first.is_new());
    assert!(!servers.live("a").await.unwrap().is_new(), "it is the same");
    server.kill();
    assert!(counted(&servers, "a").await.is_err());
    server.start();
    tokio::time::sleep(Duration::from_millis(150)).await;
    counted(&servers, "a").await.unwrap();
    assert_ne!(servers.live("a").await.unwrap().run(), first.run());
}

#[tokio::test]
async fn a_user_and_a_password_come_from_the_url_the_settings_or_a_file() {
    let server = Redis::that_forgets();
    server.cli(&["ACL", "SETUSER", "souk", "on", ">hunter2", "~souk:*", "+@all"]);
    server.cli(&["ACL", "SETUSER", "default", "off"]);
    let (bare, user) = (RedisSettings::at(server.url()), "souk".to_owned());
    let refused = counted(&servers(&bare), "a").await.unwrap_err();
    assert!(!refused.to_string().contains("hunter2"), "{refused}");
    let in_url = RedisSettings::at(server.url().replace("redis://", "redis://souk:hunter2@"));
    assert_eq!(counted(&servers(&in_url), "a").await.unwrap(), 1);
    let in_settings = RedisSettings { user: user.clone(), password: SecretString::from("hunter2"), ..bare.clone() };
    assert_eq!(counted(&servers(&in_settings), "a").await.unwrap(), 2);
    let file = std::env::temp_dir().join(format!("souk-redis-password-{}", std::process::id()));
    std::fs::write(&file, "hunter2\n").unwrap();
    let in_file = RedisSettings { user, password_file: file.clone(), ..bare };
    assert_eq!(counted(&servers(&in_file), "a").await.unwrap(), 3);
    std::fs::remove_file(&file).unwrap();
    let gone = counted(&servers(&in_file), "a").await.unwrap_err();
    assert!(gone.to_string().contains("redis.password_file cannot be read"), "{gone}");
}

#[tokio::test]
async fn a_certificate_is_trusted_by_the_roots_that_the_settings_name() {
    let server = Redis::that_nobody_trusts();
    let bare = RedisSettings::at(server.url());
    let refused = counted(&servers(&bare), "a").await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    let trusted = RedisSettings { root_certificate: server.certificate(), ..bare };
    let servers = servers(&trusted);
    assert_eq!(counted(&servers, "a").await.unwrap(), 1);
    let mut own = servers.own("a").await.unwrap();
    own.ask(&cmd("PING")).await.unwrap();
}

#[tokio::test]
async fn the_server_of_a_cluster_that_has_a_tag_is_found_and_remembered() {
    let cluster = Cluster::of_three();
    let [first, second, _] = cluster.servers() else { panic!("three") };
    let one = RedisSettings { cluster: true, ..RedisSettings::at(first.url()) };
    let servers_of_one = servers(&one);
    for tag in 0..30 {
        assert_eq!(counted(&servers_of_one, &format!("t{tag}")).await.unwrap(), 1);
    }
    let with_keys = cluster.servers().iter().filter(|server| !server.cli(&["KEYS", "*"]).trim().is_empty());
    assert_eq!(with_keys.count(), 3);
    // A read that blocks goes where the calls went.
    for tag in 0..30 {
        let mut read = cmd("GET");
        read.arg(format!("souk:{{t{tag}}}:n"));
        let mut own = servers_of_one.own(&format!("t{tag}")).await.unwrap();
        let said: u64 = from_redis_value(own.ask(&read).await.unwrap()).unwrap();
        assert_eq!(said, 1);
    }
    // Where the URL's server is away, another says where things are.
    let unused = "redis://127.0.0.1:1";
    let further = vec![format!("127.0.0.1:{}", second.port())];
    let other = servers(&RedisSettings { cluster: true, addresses: further, ..RedisSettings::at(unused) });
    let mut num_failed = 0;
    for tag in 0..30 {
        match counted(&other, &format!("t{tag}")).await {
            Ok(counted) => assert_eq!(counted, 2),
            Err(_) => num_failed += 1,
        }
    }
    assert!(num_failed <= 1, "{num_failed}: only the first asks who is away");
}

#[tokio::test]
async fn a_sentinel_says_where_the_master_is() {
    let (first, second) = (Redis::that_forgets(), Redis::that_forgets());
    let sentinel = Sentinel::of(&first);
    let settings = RedisSettings {
        sentinel_master: "souk".to_owned(),
        addresses: vec!["127.0.0.1:1".to_owned(), sentinel.address()],
        ..RedisSettings::at("redis://nobody.invalid")
    };
    assert_eq!(counted(&servers(&settings), "a").await.unwrap(), 1);
    assert_eq!(first.cli(&["GET", "souk:{a}:n"]).trim(), "1");
    let both = servers(&settings);
    assert_eq!(counted(&both, "a").await.unwrap(), 2);
    // A master that becomes a replica refuses to write. Its callers then ask the sentinel, which names another.
    second.cli(&["SET", "souk:{a}:n", "40"]);
    first.cli(&["REPLICAOF", "127.0.0.1", &second.port().to_string()]);
    assert!(counted(&both, "a").await.is_err(), "it is a replica now");
    sentinel.names(&second);
    assert_eq!(counted(&both, "a").await.unwrap(), 41);
    let unknown = RedisSettings { sentinel_master: "other".to_owned(), ..settings };
    let refused = counted(&servers(&unknown), "a").await.unwrap_err();
    assert!(refused.to_string().contains("no sentinel knows a master named \"other\""), "{refused}");
}

#[tokio::test]
async fn sentinels_have_users_passwords_and_certificates_of_their_own() {
    let master = Redis::that_forgets();
    let sentinel = Sentinel::with_password_and_tls(&master, "swordfish");
    let settings = RedisSettings {
        sentinel_master: "souk".to_owned(),
        addresses: vec![sentinel.address()],
        sentinel_password: SecretString::from("swordfish"),
        sentinel_tls: SentinelTls::On,
        sentinel_root_certificate: sentinel.certificate(),
        ..RedisSettings::at("redis://nobody.invalid")
    };
    assert_eq!(counted(&servers(&settings), "a").await.unwrap(), 1, "the master itself has neither");
    sentinel.cli(&["ACL", "SETUSER", "souk", "on", ">hunter2", "+@all"]);
    let file = std::env::temp_dir().join(format!("souk-sentinel-password-{}", std::process::id()));
    std::fs::write(&file, "hunter2\n").unwrap();
    let by_user = RedisSettings {
        sentinel_user: "souk".to_owned(),
        sentinel_password: SecretString::from(""),
        sentinel_password_file: file.clone(),
        ..settings.clone()
    };
    assert_eq!(counted(&servers(&by_user), "a").await.unwrap(), 2);
    std::fs::remove_file(&file).unwrap();
    for (settings, why) in [
        (RedisSettings { sentinel_password: SecretString::from("wrong"), ..settings.clone() }, "uthentication failed"),
        (RedisSettings { sentinel_password: SecretString::from(""), ..settings.clone() }, "uthentication"),
        (RedisSettings { sentinel_root_certificate: std::path::PathBuf::new(), ..settings }, "certificate"),
        (by_user, "redis.sentinel_password_file cannot be read"),
    ] {
        let refused = counted(&servers(&settings), "a").await.unwrap_err().to_string();
        assert!(refused.contains(why) && !refused.contains("swordfish"), "{refused}");
    }
}
