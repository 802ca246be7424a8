//! A lost admin key: a new one is made on the host, with the server running and without.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use std::os::unix::fs::PermissionsExt as _;

use stack::Stack;

fn recover(stack: &Stack, more: &[&str]) -> std::process::Output {
    let data_dir = stack.data_dir();
    stack.souk_output(&[&["keys", "recover", "--data-dir", data_dir.to_str().unwrap()], more].concat())
}

/// The id in a key: the 12 characters after `souk_`.
fn id_of(key: &str) -> &str {
    &key[5..17]
}

#[test]
fn a_running_server_takes_the_new_key_at_once_and_the_lost_one_can_be_revoked() {
    let mut stack = Stack::start();
    // The server has looked at keys before.
    stack.souk(&["keys", "list"]);
    let made = recover(&stack, &[]);
    let (stdout, stderr) = (String::from_utf8(made.stdout).unwrap(), String::from_utf8(made.stderr).unwrap());
    assert!(made.status.success(), "{stderr}");
    let (lost, key) = (stack.admin_key.clone(), stdout.trim().to_owned());
    let audited =
        stderr.lines().any(|line| line.contains("Made an admin key on the host") && line.contains(id_of(&key)));
    assert!(audited && !stderr.contains(&key), "{stderr}");

    stack.admin_key = key;
    let listed = stack.souk(&["keys", "list"]);
    assert!(listed.contains("recovered admin key") && listed.contains(id_of(&lost)), "{listed}");
    stack.souk(&["keys", "revoke", id_of(&lost)]);
    stack.souk(&["tenants", "create", "acme"]);
    let key = std::mem::replace(&mut stack.admin_key, lost);
    assert!(!stack.souk_output(&["keys", "list"]).status.success(), "the lost key is revoked");
    assert_ne!(key, stack.admin_key);
}

#[test]
fn without_a_server_the_key_is_made_too_and_a_file_keeps_it_from_others() {
    let mut stack = Stack::start();
    stack.kill();
    let file = stack.data_dir().join("recovered.key");
    std::fs::write(
        &file,
        "an older and much longer text than a key, which others could read and which must not be left over",
    )
    .unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let made = recover(&stack, &["--admin-key-file", file.to_str().unwrap()]);
    let key = std::fs::read_to_string(&file).unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(!String::from_utf8(made.stdout).unwrap().contains(key.trim()), "a key in a file is not printed");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    stack.restart();
    stack.admin_key = key.trim().to_owned();
    assert!(stack.souk(&["keys", "list"]).contains(id_of(&key)));
}

#[test]
fn a_folder_that_is_no_installation_is_refused_and_stays_empty() {
    let stack = Stack::start();
    let folder = tempfile::tempdir().unwrap();
    let refused = stack.souk_output(&["keys", "recover", "--data-dir", folder.path().to_str().unwrap()]);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && stderr.contains("not the data folder of an installation"), "{stderr}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    // Without the pepper no key would ever be valid, so none is made.
    std::fs::rename(stack.data_dir().join("key-pepper"), folder.path().join("key-pepper")).unwrap();
    let refused = recover(&stack, &[]);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && stderr.contains("key-pepper") && stderr.contains("backup"), "{stderr}");
    assert!(!stack.data_dir().join("key-pepper").exists());
}
