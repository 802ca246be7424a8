//! `souk login`, `souk logout`, `souk whoami`: a key of a person's for this machine.
//!
//! The browser does the signing in. It comes back to a port of the loopback address (RFC 8252) with a code, which is worth
//! something only together with what this process has made up (PKCE): another program that sees the code can do nothing.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Client as Http, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::{LoginArgs, ServerArgs};
use crate::client::Client;
use crate::credentials::{Credential, Credentials};
use crate::terminal;

/// How long the browser may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a connection to the port may take to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Longest head of a request of the browser.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What the code is exchanged for.
#[derive(Deserialize)]
struct Got {
    secret: String,
    id: String,
    tenant: String,
    expires_at: String,
}

pub(crate) async fn log_in(arguments: LoginArgs) -> anyhow::Result<ExitCode> {
    let url = arguments.url.trim_end_matches('/');
    let credentials = Credentials::read()?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on the loopback address")?;
    let port = listener.local_addr().context("the port has no address")?.port().to_string();
    let (verifier, state) = (random(), random());
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    let name = arguments.name.unwrap_or_else(name_of_host);
    let pairs = [("port", port.as_str()), ("state", &state), ("challenge", &challenge), ("name", &name)];
    let mut address = reqwest::Url::parse(url).context("--url is no address")?.join("/sign-in/cli")?;
    address.query_pairs_mut().extend_pairs(pairs);
    terminal::note("Open this address to sign in:");
    if arguments.json {
        terminal::note(address.as_str());
    } else {
        terminal::line(address.as_str())?;
    }
    if !arguments.no_browser {
        open_browser(address.as_str());
    }
    let code = tokio::time::timeout(PATIENCE, code_at(&listener, &state));
    let code = code.await.context("nobody signed in within ten minutes; run `souk login` again")??;
    let request = json!({ "code": code, "verifier": verifier });
    let answer = Http::new().post(format!("{url}/registry/v1/auth/login")).json(&request).send().await;
    let answer = answer.with_context(|| format!("cannot reach {url}"))?;
    if answer.status() != StatusCode::CREATED {
        bail!("the server did not take the code ({}); run `souk login` again", answer.status());
    }
    let got: Got = answer.json().await.context("the server's answer is not understood")?;
    let credential = Credential { key: got.secret, id: got.id, tenant: got.tenant.clone() };
    let id = credential.id.clone();
    let file = credentials.keep(url, credential)?;
    if arguments.json {
        let Got { tenant, expires_at, .. } = got;
        terminal::json(&json!({ "key": id, "tenant": tenant, "expires_at": expires_at, "file": file }))?;
        return Ok(ExitCode::SUCCESS);
    }
    terminal::line(&format!(
        "Signed in for {} until {}; the key is in {}",
        got.tenant,
        got.expires_at,
        file.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn log_out(server: ServerArgs) -> anyhow::Result<ExitCode> {
    // Forgotten first: should the server not be reached, the key expires by itself, and can be revoked elsewhere.
    let Some(credential) = Credentials::read()?.take(&server.url)? else {
        terminal::line("Nobody is signed in here")?;
        return Ok(ExitCode::SUCCESS);
    };
    let client = Client::with_key(&server.url, credential.key)?;
    let revoked = client.send(client.request(Method::DELETE, &format!("/registry/v1/keys/{}", credential.id))).await;
    revoked.with_context(|| {
        format!("the key is forgotten here and was not revoked; revoke {} elsewhere", credential.id)
    })?;
    terminal::line(&format!("Signed out, and revoked {}", credential.id))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn who_am_i(server: ServerArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let client = Client::new(&server)?;
    let me: Value = client.json(client.request(Method::GET, "/registry/v1/auth/whoami")).await?;
    if as_json {
        terminal::line(&serde_json::to_string_pretty(&me)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |pointer: &str| me.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let scopes: Vec<&str> =
        me.get("scopes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let person =
        [text("/person/name"), text("/person/email"), text("/person/id")].into_iter().find(|text| !text.is_empty());
    let rows = [
        ("person", person.unwrap_or_else(|| "none: the key is a service's".to_owned())),
        ("role", text("/role")),
        ("tenant", text("/tenant")),
        ("key", text("/key")),
        ("scopes", scopes.join(" ")),
    ];
    let rows: Vec<Vec<String>> = rows.map(|(what, value)| vec![what.to_owned(), value]).into();
    terminal::table(&["WHAT", "VALUE"], &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for the browser; answers the code that it brings. Others that connect to the port are told that there is nothing.
async fn code_at(listener: &TcpListener, state: &str) -> anyhow::Result<String> {
    loop {
        let (mut connection, _) = listener.accept().await.context("the port was closed")?;
        let Ok(Some(target)) = tokio::time::timeout(REQUEST_TIME, target_of(&mut connection)).await else { continue };
        let outcome = Outcome::of(&target, state);
        // The browser may be gone; what it brought counts.
        answer(&mut connection, &outcome).await.ok();
        match outcome {
            Outcome::Code(code) => return Ok(code),
            Outcome::Refused => bail!("the sign-in was refused in the browser"),
            Outcome::Nothing => {}
        }
    }
}

/// What a request to the port is.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Code(String),
    Refused,
    /// It is not ours.
    Nothing,
}

impl Outcome {
    fn of(target: &str, state: &str) -> Self {
        let Ok(address) = reqwest::Url::parse("http://127.0.0.1").and_then(|base| base.join(target)) else {
            return Self::Nothing;
        };
        let value =
            |name: &str| address.query_pairs().find(|(given, _)| given == name).map(|(_, value)| value.into_owned());
        match (value("state"), value("code")) {
            (Some(given), code) if given == state => code.map_or(Self::Refused, Self::Code),
            _ => Self::Nothing,
        }
    }
}

/// The target in a request's first line; `None` for what is no such request.
async fn target_of(connection: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut some = [0; 1024];
        let read = connection.read(&mut some).await.ok().filter(|read| *read > 0)?;
        head.extend_from_slice(&some[..read]);
        if head.len() > MAX_HEAD_BYTES {
            return None;
        }
    }
    let text = String::from_utf8(head).ok()?;
    let target = text.lines().next()?.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
    target.starts_with('/').then(|| target.to_owned())
}

async fn answer(connection: &mut TcpStream, outcome: &Outcome) -> std::io::Result<()> {
    let (status, text) = match outcome {
        Outcome::Code(_) => ("200 OK", "You are signed in. You can close this page and go back to the terminal."),
        Outcome::Refused => ("200 OK", "Nobody was signed in. You can close this page."),
        Outcome::Nothing => ("404 Not Found", "There is nothing here."),
    };
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(text.as_bytes()).await?;
    connection.shutdown().await
}

/// 256 bits that nobody guesses, as text.
fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What this machine is called.
fn name_of_host() -> String {
    let said = Command::new("uname").arg("-n").stdin(Stdio::null()).output();
    let name = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    let name: String = name.trim().chars().filter(|character| !character.is_control()).take(64).collect();
    if name.is_empty() { "souk login".to_owned() } else { name }
}

/// Asks the desktop to open an address. Where there is none, the address was printed.
fn open_browser(address: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(program);
    drop(command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_counts_with_the_state_that_was_made_up_here_alone() {
        let of = |target: &str| Outcome::of(target, "s1");
        assert_eq!(of("/?code=cod_1.x&state=s1"), Outcome::Code("cod_1.x".to_owned()));
        assert_eq!(of("/?state=s1"), Outcome::Refused);
        for target in
            ["/", "/favicon.ico", "/?code=x", "/?code=x&state=s2", "/?code=x&state=", "//evil.example/?code=x"]
        {
            assert_eq!(of(target), Outcome::Nothing, "{target}");
        }
    }

    #[tokio::test]
    async fn what_comes_to_the_port_and_is_no_sign_in_is_sent_away_and_waited_past() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let code = tokio::spawn(async move { code_at(&listener, "s1").await });
        let ask = async |bytes: &[u8]| {
            let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            connection.write_all(bytes).await.unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await.ok();
            answer
        };
        for other in [&b"GET /favicon.ico HTTP/1.1\r\n\r\n"[..], b"GET /?code=x&state=s2 HTTP/1.1\r\n\r\n"] {
            assert!(ask(other).await.starts_with("HTTP/1.1 404"));
        }
        assert_eq!(ask(b"\xff\xff\r\n\r\n").await, "");
        assert_eq!(ask(&vec![b'a'; MAX_HEAD_BYTES + 1]).await, "");
        let answer = ask(b"GET /?code=good&state=s1 HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(code.await.unwrap().unwrap(), "good");
    }
}
