//! A person's browser, as far as it matters: it keeps cookies, says where its forms come from, and follows nothing by itself.

use std::collections::BTreeMap;
use std::sync::Mutex;

use reqwest::header::{COOKIE, ORIGIN, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use souk_protocol::PersonId;

use crate::support::{Stack, User, body};

pub(crate) const SESSION: &str = "__Host-souk-session";

pub(crate) struct Browser {
    client: Client,
    /// Of the server, and so of its pages.
    pub(crate) origin: String,
    cookies: Mutex<BTreeMap<String, String>>,
}

impl Browser {
    /// One that has never been anywhere.
    pub(crate) fn new(stack: &Stack) -> Self {
        Self::at_address(&stack.base_url)
    }

    /// The same with a server of which the API's address is known.
    pub(crate) fn at_address(base_url: &str) -> Self {
        let client = Client::builder().redirect(Policy::none()).user_agent("a test").build().unwrap();
        let origin = base_url.strip_suffix("/registry/v1").unwrap().to_owned();
        Self { client, origin, cookies: Mutex::default() }
    }

    /// One of a new member of the tenant.
    pub(crate) async fn of_member(stack: &Stack, tenant: &str, role: &str) -> Self {
        let browser = Self::new(stack);
        let link = invite(stack, tenant, &format!("{role}@example.com"), role).await;
        browser.join(&link).await;
        browser
    }

    /// The same person's with another registry, which has another address.
    pub(crate) fn at(&self, stack: &Stack) -> Self {
        self.moved_to(&stack.base_url)
    }

    /// The same where the API's address is known.
    pub(crate) fn moved_to(&self, base_url: &str) -> Self {
        let other = Self::at_address(base_url);
        *other.cookies.lock().unwrap() = self.cookies.lock().unwrap().clone();
        other
    }

    /// Without its cookies.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.lock().unwrap().get(name).cloned()
    }

    pub(crate) fn set_cookie(&self, name: &str, value: &str) {
        self.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    /// Asks for an address of the server: a path, or a whole link.
    pub(crate) async fn open(&self, address: &str) -> Response {
        self.send(self.client.get(self.whole(address))).await
    }

    /// Sends a form of one of the server's pages.
    pub(crate) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.submit_from(&self.origin, path, fields).await
    }

    /// The same where the server may end meanwhile.
    pub(crate) async fn try_submit(&self, path: &str, fields: &[(&str, &str)]) -> reqwest::Result<Response> {
        self.try_send(self.form(&self.origin, path, fields)).await
    }

    /// Sends a form of a page of `origin`.
    pub(crate) async fn submit_from(&self, origin: &str, path: &str, fields: &[(&str, &str)]) -> Response {
        self.send(self.form(origin, path, fields)).await
    }

    fn form(&self, origin: &str, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let form = serde_urlencoded::to_string(fields).unwrap();
        let request = self.client.post(self.whole(path)).header(ORIGIN, origin);
        request.header("content-type", "application/x-www-form-urlencoded").body(form)
    }

    /// Opens an invitation and clicks.
    pub(crate) async fn join(&self, link: &str) {
        let page = self.open(link).await;
        assert_eq!(page.status(), StatusCode::OK, "{}", page.text().await.unwrap());
        let joined = self.submit("/sign-in/invitation", &[("secret", end_of(link))]).await;
        assert_eq!(joined.status(), StatusCode::OK, "{}", joined.text().await.unwrap());
    }

    /// Opens a link that signs in and clicks.
    pub(crate) async fn sign_in(&self, link: &str) {
        let signed_in = self.submit("/sign-in/link", &[("secret", end_of(link))]).await;
        assert_eq!(signed_in.status(), StatusCode::OK, "{}", signed_in.text().await.unwrap());
    }

    /// Calls the API with the session alone, as a page of another site could.
    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.with_cookies(self.client.request(method, format!("{}/registry/v1{path}", self.origin)))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.call(Method::GET, path).send().await.unwrap()
    }

    /// Calls the API as a page of the server does.
    pub(crate) async fn change(&self, method: Method, path: &str, request: Value) -> Response {
        let session = self.session().await;
        let csrf = session["csrf_token"].as_str().unwrap();
        let call = self.call(method, path).header(ORIGIN, &self.origin).header("x-csrf-token", csrf);
        let call = if request.is_null() { call } else { call.json(&request) };
        self.send(call).await
    }

    /// Who is signed in.
    pub(crate) async fn session(&self) -> Value {
        body(self.get("/auth/session").await, StatusCode::OK).await
    }

    pub(crate) async fn person(&self) -> String {
        self.session().await["person"]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn is_signed_in(&self) -> bool {
        self.get("/auth/session").await.status() == StatusCode::OK
    }

    /// What the session is exchanged for.
    pub(crate) async fn token(&self) -> String {
        let answer = self.change(Method::POST, "/auth/token", json!({})).await;
        body(answer, StatusCode::OK).await["access_token"].as_str().unwrap().to_owned()
    }

    async fn send(&self, request: RequestBuilder) -> Response {
        self.try_send(request).await.unwrap()
    }

    async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Response> {
        // What has its cookies already sends them once.
        let request = request.build().unwrap();
        let has_cookies = request.headers().contains_key(COOKIE);
        let request = RequestBuilder::from_parts(self.client.clone(), request);
        let request = if has_cookies { request } else { self.with_cookies(request) };
        let answer = request.send().await?;
        let mut cookies = self.cookies.lock().unwrap();
        for set in answer.headers().get_all(SET_COOKIE) {
            let (name, rest) = set.to_str().unwrap().split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if rest.ends_with("Max-Age=0") {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        drop(cookies);
        Ok(answer)
    }

    fn with_cookies(&self, request: RequestBuilder) -> RequestBuilder {
        let cookies = self.cookies.lock().unwrap();
        let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { request } else { request.header(COOKIE, pairs.join("; ")) }
    }

    fn whole(&self, address: &str) -> String {
        if address.starts_with('/') { format!("{}{address}", self.origin) } else { address.to_owned() }
    }
}

/// A key of a person's who is an owner of the tenant; its scopes are what it may do.
pub(crate) async fn persons_key(stack: &Stack, tenant: &str, scopes: &[&str]) -> (User, PersonId) {
    let person = Browser::of_member(stack, tenant, "owner").await.person().await;
    let person = PersonId::from_stored(&person);
    (key_of(stack, tenant, scopes, &person).await, person)
}

/// One more key of a person's. It was made by the operator, and not with the person's session, so that it goes with
/// neither.
pub(crate) async fn key_of(stack: &Stack, tenant: &str, scopes: &[&str], person: &PersonId) -> User {
    let user = stack.key_for(tenant, scopes).await;
    let id = stack.principal(&user).await.key;
    let update = format!("UPDATE api_keys SET person_id = '{person}' WHERE id = '{id}'");
    stack.database().await.execute_unprepared(&update).await.unwrap();
    user
}

/// The operator asks an address; answers the link.
pub(crate) async fn invite(stack: &Stack, tenant: &str, email: &str, role: &str) -> String {
    let request = json!({ "email": email, "role": role, "tenant": tenant });
    let made = body(stack.admin.post("/invitations", request).await, StatusCode::CREATED).await;
    made["link"].as_str().unwrap().to_owned()
}

/// The secret in a link.
pub(crate) fn end_of(link: &str) -> &str {
    link.rsplit('/').next().unwrap()
}
