//! What callers present: keys, tokens and sessions, and how each is come by.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use souk_http::token::LEEWAY;
use souk_registry::Role;

use super::{ALL_BUT_ADMIN, Field, created};
use crate::callers::{Caller, Port};
use crate::document::Filled;

/// Where browsers reach the server, as far as it knows.
pub(super) const PUBLIC_URL: &str = "https://souk.example.com";
/// How long what is to be over lives.
pub(super) const SHORT: Duration = Duration::from_secs(1);
/// After so long a token of a key that lives for [`SHORT`] counts nowhere: clocks may differ, and seconds are whole.
pub(super) const OVER_AFTER: Duration = SHORT.saturating_add(LEEWAY).saturating_add(Duration::from_secs(1));

/// What a caller presents.
#[derive(Clone, Debug)]
pub(super) enum Presented {
    Key(String),
    /// A session's id, its cookie, and its token.
    Session {
        id: String,
        cookie: String,
        csrf: String,
    },
}

impl Field {
    pub(super) async fn presented_by(&self, caller: Caller) -> Presented {
        match caller {
            Caller::Session(role) => self.session("acme", role).await,
            Caller::SessionOver => {
                let session = self.session("acme", Role::Owner).await;
                let out = Filled {
                    path: "/registry/v1/auth/session".to_owned(),
                    query: Vec::new(),
                    json: None,
                    is_upload: false,
                };
                assert!(!self.send(&out, &Method::DELETE, &session, Port::Operators).await.is_refused());
                session
            }
            Caller::SessionToken => {
                let session = self.session("acme", Role::Owner).await;
                self.token_of(&session).await
            }
            _ => Presented::Key(self.key_of(caller).await),
        }
    }

    /// What a session is exchanged for.
    pub(super) async fn token_of(&self, session: &Presented) -> Presented {
        let Presented::Session { cookie, csrf, .. } = session else { unreachable!("it is a session") };
        let request = self.http.post(format!("{}/registry/v1/auth/token", self.stack.url));
        let request = request.header("cookie", cookie).header("origin", PUBLIC_URL);
        Presented::Key(token_in(&created(request.header("x-csrf-token", csrf).json(&json!({}))).await))
    }

    /// A session of a new member.
    pub(super) async fn session(&self, tenant: &str, role: Role) -> Presented {
        let (_, secret) = self.invite(tenant, role).await;
        let request = self.http.post(format!("{}/sign-in/invitation", self.stack.url)).header("origin", PUBLIC_URL);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(format!("secret={secret}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let set = answer.headers()["set-cookie"].to_str().unwrap();
        let cookie = set.split(';').next().unwrap().to_owned();
        let session = self.who(&cookie).await;
        let text = |name: &str| session[name].as_str().unwrap().to_owned();
        Presented::Session { id: text("id"), csrf: text("csrf_token"), cookie }
    }

    /// Who has a cookie.
    pub(super) async fn who(&self, cookie: &str) -> Value {
        created(self.http.get(format!("{}/registry/v1/auth/session", self.stack.url)).header("cookie", cookie)).await
    }

    /// The id of the person who has a cookie.
    pub(super) async fn person_of(&self, cookie: &str) -> String {
        self.who(cookie).await["person"]["id"].as_str().unwrap().to_owned()
    }

    /// Id and secret of a new invitation.
    pub(super) async fn invite(&self, tenant: &str, role: Role) -> (String, String) {
        let asked = json!({ "email": "m@example.com", "role": role, "tenant": tenant });
        let made = self.as_operator("invitations", asked).await;
        let secret = made["link"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        (made["id"].as_str().unwrap().to_owned(), secret)
    }

    pub(super) async fn key_of(&self, caller: Caller) -> String {
        match caller {
            Caller::Session(_) | Caller::SessionOver | Caller::SessionToken => unreachable!("it has no key"),
            Caller::Nobody => String::new(),
            Caller::Garbage => "souk_what_this_is".to_owned(),
            Caller::Revoked => {
                let (id, secret) = self.key("acme", &ALL_BUT_ADMIN).await;
                let revoked = self.operator(Method::DELETE, &format!("keys/{id}")).send().await.unwrap();
                assert_eq!(revoked.status(), 204);
                secret
            }
            Caller::Expired => self.short_key().await,
            Caller::Token => self.exchange(&self.owners["acme"]).await,
            Caller::OperatorsToken => self.exchange(&self.stack.admin_key).await,
            Caller::TokenTampered => tampered(&self.exchange(&self.owners["acme"]).await),
            // It lives as long as its key.
            Caller::TokenExpired => self.exchange(&self.short_key().await).await,
            Caller::Only(scope) => self.key("acme", &[scope.as_str()]).await.1,
            Caller::Owner => self.owners["acme"].clone(),
            Caller::Person => {
                let (id, secret) = self.key("acme", &["inference", "adapters:read"]).await;
                self.give_to(&self.person, &id).await;
                secret
            }
            Caller::Decider => {
                let (id, secret) = self.key("acme", &["adapters:read", "access:decide"]).await;
                self.give_to(&self.person, &id).await;
                secret
            }
            Caller::Stranger => self.key("stranger", &ALL_BUT_ADMIN).await.1,
            Caller::Operator => self.stack.admin_key.clone(),
        }
    }

    /// What a key is exchanged for.
    pub(super) async fn exchange(&self, key: &str) -> String {
        token_in(&created(self.registry(Method::POST, "auth/token", key).json(&json!({}))).await)
    }

    /// A key of acme's that lives for [`SHORT`].
    pub(super) async fn short_key(&self) -> String {
        let soon = time::OffsetDateTime::from(souk_protocol::wall_clock::now()) + SHORT;
        let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
        let key = json!({ "name": "short", "scopes": ALL_BUT_ADMIN, "tenant": "acme", "expires_at": soon });
        self.as_operator("keys", key).await["secret"].as_str().unwrap().to_owned()
    }

    /// Id and secret of a new key.
    pub(super) async fn key(&self, tenant: &str, scopes: &[&str]) -> (String, String) {
        // Keys that may `admin` are made for the tenant of operators or for another; the table treats them alike.
        let made = self.as_operator("keys", json!({ "name": "k", "scopes": scopes, "tenant": tenant })).await;
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{made} has no {name}")).to_owned();
        (text("id"), text("secret"))
    }

    /// Makes a key a person's, in the server's database: the operator makes services' alone.
    pub(super) async fn give_to(&self, person: &str, key: &str) {
        self.in_database(&format!("UPDATE api_keys SET person_id = '{person}' WHERE id = '{key}'")).await;
    }
}

fn token_in(exchanged: &Value) -> String {
    exchanged["access_token"].as_str().unwrap().to_owned()
}

/// The same token with another letter in the middle of its signature, and so another byte.
fn tampered(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (before, rest) = signature.split_at(signature.len() / 2);
    let other = if rest.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{before}{other}{}", &rest[1..])
}
