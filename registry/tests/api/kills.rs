//! A registry that is killed at random moments while clients publish, delete, tag, make and rotate keys, invite and grant.
//! After each start every client finds what it was told is done, repeats what it was not told of, and has it once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use souk_testkit::Random;

use crate::process::{Process, Start};
use crate::support::{AdapterFiles, User, body, config_in};
use crate::whole::{check_chains, check_whole};

/// Says how often the registry is killed.
const KILLS: &str = "SOUK_KILLS";
/// Says which random numbers are drawn; each run says its own.
const SEED: &str = "SOUK_KILLS_SEED";
/// Short, since what each kill leaves is waited for.
const LEASE: Duration = Duration::from_millis(300);
/// The longest time from the first request to the kill, in milliseconds.
const LONGEST_MS: u64 = 200;
const CLIENTS: usize = 4;
/// Versions that a client keeps of its adapter. Their weights are of fewer kinds, so that clients share bytes.
const MOST_VERSIONS: usize = 5;
const WEIGHTS: u64 = 4;
/// Tenants that may be granted access.
const GRANTED: [&str; 3] = ["one", "three", "two"];

/// Something that a client does.
#[derive(Clone, Debug)]
enum Act {
    Publish { number: String, weights: u8 },
    Delete { number: String },
    Yank { number: String },
    Unyank { number: String },
    PutTag { tag: String, number: String },
    DeleteTag { tag: String },
    MakeKey { name: String },
    RevokeKey { name: String, id: String },
    RotateKey { name: String, id: String },
    MakeAdapter { name: String },
    DeleteAdapter { name: String },
    Invite { email: String },
    RevokeInvitation { email: String, id: String },
    PutGrant { tenant: &'static str },
    DeleteGrant { tenant: &'static str },
}

/// What a client was told is so.
struct Client {
    key: String,
    adapter: String,
    random: Random,
    num_acts: u64,
    /// Of its adapter, by number: the weights, and whether it is yanked.
    versions: BTreeMap<String, (u8, bool)>,
    tags: BTreeMap<String, String>,
    /// By name, with ids.
    keys: BTreeMap<String, String>,
    adapters: BTreeSet<String>,
    /// Open ones by address, with ids.
    invitations: BTreeMap<String, String>,
    /// Tenants that may call its adapter.
    grants: BTreeSet<&'static str>,
    /// What it asked for and was not told of, with its Idempotency-Key.
    pending: Option<(Act, String)>,
}

impl Client {
    /// Does one thing after another until the registry is gone.
    async fn work(&mut self, user: &User) {
        loop {
            if self.pending.is_none() {
                self.num_acts += 1;
                self.pending = Some((self.choose(), format!("{}-{}", self.adapter, self.num_acts)));
            }
            if self.carry_out(user, false).await.is_err() {
                return;
            }
        }
    }

    /// Repeats what was cut off, and compares everything with what it was told.
    async fn look(&mut self, user: &User) {
        if self.pending.is_some() {
            self.carry_out(user, true).await.unwrap();
        }
        let path = format!("/adapters/acme/{}", self.adapter);
        let versions = listed(user, &format!("{path}/versions")).await.into_iter().map(|version| {
            let number = version["version"].as_str().unwrap().to_owned();
            (number, version["state"] == "yanked")
        });
        let known = self.versions.iter().map(|(number, (_, is_yanked))| (number.clone(), *is_yanked));
        assert_eq!(versions.collect::<BTreeMap<_, _>>(), known.collect(), "versions of {}", self.adapter);
        let text = |value: &Value, field: &str| value[field].as_str().unwrap().to_owned();
        let tags = listed(user, &format!("{path}/tags")).await;
        let tags: BTreeMap<_, _> = tags.iter().map(|tag| (text(tag, "tag"), text(tag, "version"))).collect();
        assert_eq!(tags, self.tags, "tags of {}", self.adapter);
        let own = format!("{}-", self.adapter);
        let mut usable = BTreeMap::new();
        for key in listed(user, "/keys").await {
            if text(&key, "name").starts_with(&own) && key["revoked_at"].is_null() {
                let other = usable.insert(text(&key, "name"), text(&key, "id"));
                assert_eq!(other, None, "a key was made twice");
            }
        }
        assert_eq!(usable, self.keys, "keys of {}", self.adapter);
        let adapters = listed(user, "/adapters").await;
        let adapters = adapters.iter().map(|adapter| text(adapter, "name")).filter(|name| name.starts_with(&own));
        assert_eq!(adapters.collect::<BTreeSet<_>>(), self.adapters, "adapters of {}", self.adapter);
        let mut open = BTreeMap::new();
        for invitation in listed(user, "/invitations").await {
            if text(&invitation, "email").starts_with(&own) && invitation["state"] == "open" {
                let other = open.insert(text(&invitation, "email"), text(&invitation, "id"));
                assert_eq!(other, None, "somebody was asked twice");
            }
        }
        assert_eq!(open, self.invitations, "invitations of {}", self.adapter);
        let grants = listed(user, &format!("{path}/grants")).await;
        let grants: Vec<_> = grants.iter().map(|grant| text(grant, "tenant")).collect();
        assert_eq!(grants, self.grants.iter().copied().collect::<Vec<_>>(), "grants of {}", self.adapter);
        for (number, (weights, _)) in &self.versions {
            let file = user.get(&format!("{path}/versions/{number}/files/adapter_model.safetensors")).await;
            assert_eq!(file.bytes().await.unwrap(), AdapterFiles::tiny(*weights).weights_bytes());
        }
    }

    /// Sends what is pending until it is answered for good; an error says that the registry is gone.
    async fn carry_out(&mut self, user: &User, mut is_repeated: bool) -> Result<(), reqwest::Error> {
        let (act, key) = self.pending.clone().unwrap();
        let begun = Instant::now();
        loop {
            let answer = act.request(user, &self.adapter).header("idempotency-key", &key).send().await?;
            let status = answer.status();
            let text = answer.text().await?;
            let answer: Value = serde_json::from_str(&text).unwrap_or_default();
            let code = answer["code"].as_str().unwrap_or_default();
            if status.is_success() || (is_repeated && act.was_done(status)) {
                self.pending = None;
                self.note(act, &answer);
                return Ok(());
            }
            // Claims and numbers of what was killed, and writers that wait for each other.
            let waits = [
                "idempotency_in_flight",
                "upload_in_progress",
                "busy",
                "lease_lost",
                "connection_lost",
                "overloaded",
                "share_taken",
            ];
            assert!(waits.contains(&code), "{act:?}: {status} {text}");
            assert!(begun.elapsed() < Duration::from_secs(60), "{act:?}: {status} {text}");
            // What such an answer was given to may have been done.
            is_repeated |= code == "connection_lost";
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn note(&mut self, act: Act, answer: &Value) {
        let id = || answer["id"].as_str().unwrap().to_owned();
        match act {
            Act::Publish { number, weights } => _ = self.versions.insert(number, (weights, false)),
            Act::Delete { number } => {
                self.versions.remove(&number);
                self.tags.retain(|_, tagged| *tagged != number);
            }
            Act::Yank { number } => self.versions.get_mut(&number).unwrap().1 = true,
            Act::Unyank { number } => self.versions.get_mut(&number).unwrap().1 = false,
            Act::PutTag { tag, number } => _ = self.tags.insert(tag, number),
            Act::DeleteTag { tag } => _ = self.tags.remove(&tag),
            // The new one goes by the old one's name.
            Act::MakeKey { name } | Act::RotateKey { name, .. } => _ = self.keys.insert(name, id()),
            Act::RevokeKey { name, .. } => _ = self.keys.remove(&name),
            Act::MakeAdapter { name } => _ = self.adapters.insert(name),
            Act::DeleteAdapter { name } => _ = self.adapters.remove(&name),
            Act::Invite { email } => _ = self.invitations.insert(email, id()),
            Act::RevokeInvitation { email, .. } => _ = self.invitations.remove(&email),
            Act::PutGrant { tenant } => _ = self.grants.insert(tenant),
            Act::DeleteGrant { tenant } => _ = self.grants.remove(tenant),
        }
    }

    fn choose(&mut self) -> Act {
        let name = format!("{}-{}", self.adapter, self.num_acts);
        let publish = Act::Publish { number: format!("1.{}.0", self.num_acts), weights: self.draw(WEIGHTS) as u8 };
        let some = self.draw(self.versions.len().max(1) as u64);
        let Some((number, (_, is_yanked))) = self.versions.iter().nth(some) else { return publish };
        let (number, is_yanked) = (number.clone(), *is_yanked);
        if self.versions.len() >= MOST_VERSIONS {
            return Act::Delete { number };
        }
        match self.draw(17) {
            0..4 => publish,
            4 => Act::Delete { number },
            5 if is_yanked => Act::Unyank { number },
            5 => Act::Yank { number },
            6 if !is_yanked => Act::PutTag { tag: format!("t{}", self.draw(3)), number },
            6 | 7 if !self.tags.is_empty() => Act::DeleteTag { tag: self.tags.keys().next().unwrap().clone() },
            8 if self.keys.len() < 3 => Act::MakeKey { name },
            8 | 9 => match self.keys.iter().next() {
                Some((name, id)) => Act::RevokeKey { name: name.clone(), id: id.clone() },
                None => Act::MakeKey { name },
            },
            10 if self.adapters.len() < 3 => Act::MakeAdapter { name },
            10 | 11 => match self.adapters.first() {
                Some(name) => Act::DeleteAdapter { name: name.clone() },
                None => Act::MakeAdapter { name },
            },
            12 => match self.keys.iter().next() {
                Some((name, id)) => Act::RotateKey { name: name.clone(), id: id.clone() },
                None => Act::MakeKey { name },
            },
            13 if self.invitations.len() < 3 => Act::Invite { email: format!("{name}@example.com") },
            13 | 14 => match self.invitations.iter().next() {
                Some((email, id)) => Act::RevokeInvitation { email: email.clone(), id: id.clone() },
                None => Act::Invite { email: format!("{name}@example.com") },
            },
            15 | 16 => {
                let tenant = GRANTED[self.draw(GRANTED.len() as u64)];
                if self.grants.contains(tenant) { Act::DeleteGrant { tenant } } else { Act::PutGrant { tenant } }
            }
            _ => publish,
        }
    }

    fn draw(&mut self, limit: u64) -> usize {
        self.random.below(limit) as usize
    }
}

impl Act {
    fn request(&self, user: &User, adapter: &str) -> RequestBuilder {
        let path = format!("/adapters/acme/{adapter}");
        let post = |path: &str| user.request(Method::POST, path);
        match self {
            Self::Publish { number, weights } => {
                post(&format!("{path}/versions")).multipart(AdapterFiles::tiny(*weights).form(number))
            }
            Self::Delete { number } => user.request(Method::DELETE, &format!("{path}/versions/{number}")),
            Self::Yank { number } => post(&format!("{path}/versions/{number}/yank")),
            Self::Unyank { number } => post(&format!("{path}/versions/{number}/unyank")),
            Self::PutTag { tag, number } => {
                user.request(Method::PUT, &format!("{path}/tags/{tag}")).json(&json!({ "version": number }))
            }
            Self::DeleteTag { tag } => user.request(Method::DELETE, &format!("{path}/tags/{tag}")),
            Self::MakeKey { name } => post("/keys").json(&json!({ "name": name, "scopes": ["adapters:read"] })),
            Self::RevokeKey { id, .. } => user.request(Method::DELETE, &format!("/keys/{id}")),
            Self::MakeAdapter { name } => post("/adapters").json(&json!({ "name": name })),
            Self::DeleteAdapter { name } => user.request(Method::DELETE, &format!("/adapters/acme/{name}")),
            Self::RotateKey { id, .. } => post(&format!("/keys/{id}/rotate")).json(&json!({ "overlap_s": 0 })),
            Self::Invite { email } => post("/invitations").json(&json!({ "email": email, "role": "viewer" })),
            Self::RevokeInvitation { id, .. } => user.request(Method::DELETE, &format!("/invitations/{id}")),
            Self::PutGrant { tenant } => {
                user.request(Method::PUT, &format!("{path}/grants/{tenant}")).json(&json!({ "note": "a test" }))
            }
            Self::DeleteGrant { tenant } => user.request(Method::DELETE, &format!("{path}/grants/{tenant}")),
        }
    }

    /// Whether this answer to a repeated request says that the first did it.
    fn was_done(&self, status: StatusCode) -> bool {
        let is_removal = matches!(
            self,
            Self::Delete { .. } | Self::DeleteTag { .. } | Self::DeleteAdapter { .. } | Self::DeleteGrant { .. }
        );
        is_removal && status == StatusCode::NOT_FOUND
    }
}

/// All items of a list, in pages.
async fn listed(user: &User, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = body(user.get(&format!("{path}?limit=100{cursor}")).await, StatusCode::OK).await;
        items.extend(page["data"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { return items };
        cursor = format!("&cursor={next}");
    }
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var_os(variable).map(|text| text.to_str().unwrap().parse().unwrap())
}

async fn clients(process: &Process, seed: u64) -> Vec<Client> {
    let admin = process.user(&process.key);
    assert_eq!(admin.post("/tenants", json!({ "name": "acme" })).await.status(), StatusCode::CREATED);
    for tenant in GRANTED {
        assert_eq!(admin.post("/tenants", json!({ "name": tenant })).await.status(), StatusCode::CREATED);
    }
    let scopes = ["adapters:read", "adapters:write", "keys:manage", "tenant:manage", "access:decide"];
    let request = json!({ "name": "test", "scopes": scopes, "tenant": "acme" });
    let made = body(admin.post("/keys", request).await, StatusCode::CREATED).await;
    let key = made["secret"].as_str().unwrap().to_owned();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let adapter = format!("c{number}");
        process.user(&key).make_adapter(&adapter, "shared").await;
        clients.push(Client {
            key: key.clone(),
            adapter,
            random: Random::new(seed.wrapping_add(number as u64)),
            num_acts: 0,
            versions: BTreeMap::new(),
            tags: BTreeMap::new(),
            keys: BTreeMap::new(),
            adapters: BTreeSet::new(),
            invitations: BTreeMap::new(),
            grants: BTreeSet::new(),
            pending: None,
        });
    }
    clients
}

#[tokio::test]
async fn killed_at_any_moment_a_registry_has_done_what_it_said_and_does_the_rest_once() {
    // On PostgreSQL a start takes longer, and most of what is tried is the same.
    let num_kills = number_in(KILLS).unwrap_or(if crate::ON_POSTGRES { 25 } else { 100 });
    let seed = number_in(SEED).unwrap_or_else(|| u64::from(std::process::id()));
    println!("{SEED}={seed}");
    let folder = tempfile::tempdir().unwrap();
    drop(config_in(folder.path()));
    let start = Start { lease: Some(LEASE), ..Start::default() };
    let mut process = Process::start(folder.path(), start).await;
    let admin = process.key.clone();
    let mut clients = clients(&process, seed).await;
    let mut random = Random::new(!seed);
    let mut num_cut_off = 0_u64;
    for _ in 0..num_kills {
        let users: Vec<_> = clients.iter().map(|client| process.user(&client.key)).collect();
        let after = Duration::from_millis(random.below(LONGEST_MS));
        let work = clients.iter_mut().zip(&users).map(|(client, user)| client.work(user));
        let kill = async {
            tokio::time::sleep(after).await;
            process.signal("KILL");
        };
        futures::future::join(futures::future::join_all(work), kill).await;
        num_cut_off += clients.iter().filter(|client| client.pending.is_some()).count() as u64;
        let next = Process::start(folder.path(), start).await;
        drop(std::mem::replace(&mut process, next));
        let users: Vec<_> = clients.iter().map(|client| process.user(&client.key)).collect();
        let looks = clients.iter_mut().zip(&users).map(|(client, user)| client.look(user));
        futures::future::join_all(looks).await;
        check_whole(folder.path()).await;
        let num_entries = check_chains(&process.user(&admin)).await;
        let num_acts: u64 = clients.iter().map(|client| client.num_acts).sum();
        assert!(num_entries.unsigned_abs() > num_acts, "{num_acts} acts have left {num_entries} entries");
    }
    let num_acts: u64 = clients.iter().map(|client| client.num_acts).sum();
    println!("{num_kills} kills, {num_acts} acts, {num_cut_off} of them cut off");
    assert!(num_acts > num_cut_off, "nothing was ever done between two kills");
}
