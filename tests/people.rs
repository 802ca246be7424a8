//! People as they meet the product: the commands, the pages and a browser's part of `souk login`, played by the test.

mod stack;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::header::{LOCATION, ORIGIN, SET_COOKIE};
use reqwest::redirect::Policy;
use serde_json::Value;
use stack::Stack;

/// A command as its user runs it, with a home of its own and no key in the environment.
fn souk(stack: &Stack, home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_souk"));
    command.args(arguments).env("SOUK_URL", &stack.url).env("XDG_CONFIG_HOME", home).env_remove("SOUK_API_KEY");
    command
}

fn run(mut command: Command) -> String {
    let output = command.output().expect("the executable runs");
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the output is text")
}

/// A page's hidden fields.
fn fields(html: &str) -> Vec<(String, String)> {
    let inputs = html.split("<input type=\"hidden\" name=\"").skip(1);
    let unescaped = |text: &str| {
        text.replace("&#39;", "'")
            .replace("&quot;", "\"")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&")
    };
    let pair = |input: &str| {
        let (name, rest) = input.split_once("\" value=\"").expect("it has a value");
        (unescaped(name), unescaped(rest.split_once('"').expect("it ends").0))
    };
    inputs.map(pair).collect()
}

/// A browser with a session, of whoever the link is for.
async fn join(stack: &Stack, link: &str) -> (reqwest::Client, String) {
    let client = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
    let page = client.get(link).send().await.expect("an answer").text().await.expect("a page");
    let answer = submit(&client, &stack.url, "", "/sign-in/invitation", &fields(&page)).await;
    assert_eq!(answer.status(), 200);
    let cookie = answer.headers()[SET_COOKIE].to_str().expect("text").split(';').next().expect("a pair").to_owned();
    (client, cookie)
}

async fn submit(
    client: &reqwest::Client,
    url: &str,
    cookie: &str,
    path: &str,
    fields: &[(String, String)],
) -> reqwest::Response {
    let mut body = reqwest::Url::parse("http://form/").expect("an address");
    body.query_pairs_mut().extend_pairs(fields);
    let form = client.post(format!("{url}{path}")).header(ORIGIN, url).header("cookie", cookie);
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    form.body(body.query().unwrap_or_default().to_owned()).send().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_signs_in_a_terminal_and_signs_out() {
    let stack = Stack::start();
    stack.souk(&["tenants", "create", "acme"]);
    let link = stack.souk(&["members", "invite", "ada@example.com", "--role", "owner", "--tenant", "acme"]);
    let (client, cookie) = join(&stack, link.trim()).await;
    let home = tempfile::tempdir().expect("a folder");

    let refused = souk(&stack, home.path(), &["whoami"]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("run `souk login`"));
    let said = log_in(&stack, home.path(), (&client, &cookie), &[]).await;
    assert!(said.starts_with("Signed in for acme until "), "{said}");

    let file = home.path().join("souk/credentials.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("the file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let me: Value = serde_json::from_str(&run(souk(&stack, home.path(), &["whoami", "--json"]))).expect("JSON");
    assert_eq!((&me["role"], &me["person"]["email"]), (&"owner".into(), &"ada@example.com".into()));
    assert!(run(souk(&stack, home.path(), &["whoami"])).contains("ada@example.com"));

    // The other commands use the key.
    take_an_invitation_back(&stack, home.path()).await;
    let bob = run(souk(&stack, home.path(), &["members", "invite", "bob@example.com", "--role", "viewer"]));
    join(&stack, bob.trim()).await;
    let members: Value =
        serde_json::from_str(&run(souk(&stack, home.path(), &["members", "list", "--json"]))).expect("JSON");
    let bob = members.as_array().expect("a list").iter().find(|member| member["email"] == "bob@example.com");
    let bob = bob.expect("he is a member")["person"].as_str().expect("an id").to_owned();
    let table = run(souk(&stack, home.path(), &["members", "list"]));
    assert!(table.starts_with("PERSON") && table.contains("viewer") && table.contains(&bob), "{table}");
    assert!(run(souk(&stack, home.path(), &["members", "role", &bob, "publisher"])).contains("publisher"));
    let link = run(souk(&stack, home.path(), &["members", "link", &bob]));
    assert!(link.starts_with(&format!("{}/sign-in/link/lnk_", stack.url)), "{link}");
    let data = stack.data_dir();
    let data = data.to_str().expect("text");
    let on_host = ["members", "link", "bob@example.com", "--host", "--public-url", &stack.url, "--data-dir", data];
    let link = run(souk(&stack, home.path(), &on_host));
    let page = client.get(link.trim()).send().await.expect("an answer");
    assert_eq!(page.status(), 200);
    run(souk(&stack, home.path(), &["members", "remove", &bob]));
    assert!(!run(souk(&stack, home.path(), &["members", "list"])).contains(&bob));

    assert!(run(souk(&stack, home.path(), &["logout"])).starts_with("Signed out, and revoked "));
    assert!(!std::fs::read_to_string(&file).expect("the file").contains("souk_"));
    assert!(!souk(&stack, home.path(), &["whoami"]).output().expect("it runs").status.success());
    assert!(run(souk(&stack, home.path(), &["logout"])).contains("Nobody is signed in"));

    // For programs: which key, and where it is, but not the key.
    let said = log_in(&stack, home.path(), (&client, &cookie), &["--json"]).await;
    let said: Value = serde_json::from_str(&said).expect("JSON and nothing else");
    let me: Value = serde_json::from_str(&run(souk(&stack, home.path(), &["whoami", "--json"]))).expect("JSON");
    assert_eq!(
        (&said["tenant"], &said["key"], said.as_object().expect("an object").len()),
        (&"acme".into(), &me["key"], 4)
    );
    assert_eq!(said["file"], file.to_str().expect("text"));
}

/// A browser's part of `souk login`; answers what the command prints beside the address.
async fn log_in(stack: &Stack, home: &Path, (client, cookie): (&reqwest::Client, &str), more: &[&str]) -> String {
    let mut login = souk(stack, home, &[&["login", "--no-browser", "--name", "ada's laptop"], more].concat());
    let mut login = login.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut notes = BufReader::new(login.stderr.take().expect("piped")).lines();
    let mut lines = BufReader::new(login.stdout.take().expect("piped")).lines();
    notes.next().expect("a line").expect("text");
    let address = if more.contains(&"--json") { notes.next() } else { lines.next() };
    let address = address.expect("a line").expect("text");
    let page = client.get(&address).header("cookie", cookie).send().await.expect("an answer");
    let page = page.text().await.expect("a page");
    assert!(page.contains("ada&#39;s laptop"), "{page}");
    let allowed = submit(client, &stack.url, cookie, "/sign-in/cli", &fields(&page)).await;
    let back = allowed.headers()[LOCATION].to_str().expect("text").to_owned();
    let shown = client.get(back).send().await.expect("the command answers").text().await.expect("a text");
    assert!(shown.contains("You are signed in"), "{shown}");
    let said: Vec<String> = lines.map(|line| line.expect("text")).collect();
    assert!(login.wait().expect("it ends").success());
    said.join("\n")
}

/// An owner lists invitations and takes one back, whose link is then worth nothing.
async fn take_an_invitation_back(stack: &Stack, home: &Path) {
    let invite = ["members", "invite", "eve@example.com", "--role", "owner", "--json"];
    let made: Value = serde_json::from_str(&run(souk(stack, home, &invite))).expect("JSON");
    let (id, link) = (made["id"].as_str().expect("an id"), made["link"].as_str().expect("a link"));
    let row = || {
        let table = run(souk(stack, home, &["members", "invitations"]));
        let row = table.lines().find(|line| line.starts_with(id)).expect("it is listed");
        row.split_whitespace().take(4).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row(), [id, "eve@example.com", "owner", "open"]);
    assert!(run(souk(stack, home, &["members", "uninvite", id])).contains(id));
    assert_eq!(row(), [id, "eve@example.com", "owner", "revoked"]);
    let listed: Value =
        serde_json::from_str(&run(souk(stack, home, &["members", "invitations", "--json"]))).expect("JSON");
    let states: Vec<_> = listed.as_array().expect("a list").iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["accepted", "revoked"]);
    assert_eq!(reqwest::get(link).await.expect("an answer").status(), 410);
    // Who was let in stays: an invitation that was used cannot be taken back.
    let used = listed[0]["id"].as_str().expect("an id");
    let refused = souk(stack, home, &["members", "uninvite", used]).output().expect("it runs");
    assert!(!refused.status.success(), "{refused:?}");
}
