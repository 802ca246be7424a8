//! An answer, and what can be wrong with it.

use std::collections::BTreeMap;

use reqwest::Response;
use serde_json::Value;

use crate::document::{Route, Service};
use crate::expected::Expected;

/// Headers that differ from answer to answer.
const UNLIKE: [&str; 3] = ["date", "x-request-id", "content-length"];

/// What came back. Two are equal if a caller cannot tell them apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    body: String,
    /// The id of the request, which the body may repeat.
    request_id: String,
}

impl Answer {
    pub(crate) async fn read(response: Response) -> Self {
        let status = response.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let request_id = response.headers().get("x-request-id").map(text).unwrap_or_default();
        let kept = response.headers().iter().filter(|(name, _)| !UNLIKE.contains(&name.as_str()));
        let headers = kept.map(|(name, value)| (name.to_string(), text(value))).collect();
        Self { status, headers, body: response.text().await.unwrap(), request_id }
    }

    /// Whether it says that the caller has made a mistake.
    pub(crate) const fn is_refused(&self) -> bool {
        matches!(self.status, 400..=499)
    }

    /// The same with `name` and the request's id taken out, to be compared.
    pub(crate) fn without(mut self, name: &str) -> Self {
        if !self.request_id.is_empty() {
            self.body = self.body.replace(&self.request_id, "ID");
        }
        self.request_id.clear();
        let (owner, short) = name.split_once('/').unwrap_or(("-", name));
        for (text, stands_for) in [(name, "NAME"), (short, "SHORT"), (owner, "OWNER")] {
            if !text.is_empty() {
                self.body = self.body.replace(text, stands_for);
            }
        }
        self
    }

    /// All that is wrong with it for a cell that is to answer `expected`.
    pub(crate) fn faults(&self, route: &Route, expected: Expected) -> impl Iterator<Item = String> {
        let rights = match expected {
            Expected::Done => (!(200..300).contains(&self.status)).then(|| self.shown("a success")),
            Expected::Refused(status, code) => self.refusal_faults((status, code)).next(),
        };
        let named = route.responses.iter().any(|named| is_named(named, self.status));
        // Where nothing is, no document says how.
        let may_lack = matches!(expected, Expected::Refused(404, Some("unknown_url")));
        let document = (!named && !may_lack).then(|| self.shown(&format!("one of {:?}", route.responses)));
        let ours = (self.status >= 500).then(|| self.shown("never a failure of ours"));
        rights.into_iter().chain(document).chain(ours).chain(self.envelope_faults(route))
    }

    /// Whether it says no with another status or code.
    pub(crate) fn refusal_faults(&self, (status, code): (u16, Option<&str>)) -> impl Iterator<Item = String> + use<> {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let given = body.get("code").or_else(|| body["error"].get("code")).and_then(Value::as_str);
        let is_right = self.status == status && given == code;
        (!is_right).then(|| self.shown(&format!("{status} {code:?}"))).into_iter()
    }

    /// Whether a refusal has not the shape that the service's refusals have.
    pub(crate) fn envelope_faults(&self, route: &Route) -> impl Iterator<Item = String> + use<> {
        let refuses = self.status >= 400;
        let content_type = self.headers.get("content-type").map(String::as_str);
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let is_right = match route.service {
            Service::Gateway => {
                let keys = body["error"].as_object().map(|error| error.keys().map(String::as_str).collect::<Vec<_>>());
                content_type == Some("application/json")
                    && keys.as_deref() == Some(&["message", "type", "param", "code"])
                    && ["message", "type"].iter().all(|key| body["error"][key].is_string())
            }
            Service::Registry => {
                content_type == Some("application/problem+json")
                    && ["type", "title", "code", "detail"].iter().all(|key| body[key].is_string())
                    && body["status"] == self.status
            }
        };
        let names_itself = self.request_id.starts_with("req_");
        let envelope = (refuses && !is_right).then(|| self.shown("the envelope"));
        envelope.into_iter().chain((!names_itself).then(|| self.shown("an x-request-id")))
    }

    fn shown(&self, instead: &str) -> String {
        let body: String = self.body.chars().take(300).collect();
        format!("{} {body}, not {instead}", self.status)
    }
}

/// Whether `404` is covered by `404`, `4XX`.
fn is_named(named: &str, status: u16) -> bool {
    named.parse() == Ok(status) || (named.ends_with("XX") && named.starts_with(&(status / 100).to_string()))
}

#[test]
fn every_kind_of_fault_is_said() {
    let routes = crate::document::routes();
    let route = routes.iter().find(|route| route.path == "/registry/v1/tenants").unwrap();
    let header = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let body = r#"{"type":"urn:x","title":"x","status":403,"code":"scope_missing","detail":"x"}"#;
    let good = Answer {
        status: 403,
        headers: header("content-type", "application/problem+json"),
        body: body.to_owned(),
        request_id: "req_1".to_owned(),
    };
    let num_faults = |answer: &Answer, expected| answer.faults(route, expected).count();
    let refused = Expected::Refused(403, Some("scope_missing"));
    assert_eq!(num_faults(&good, refused), 0);
    assert_eq!(num_faults(&good, Expected::Done), 1, "another end");
    assert_eq!(num_faults(&good, Expected::Refused(403, Some("not_owner"))), 1, "another code");
    assert_eq!(num_faults(&Answer { request_id: String::new(), ..good.clone() }, refused), 1, "no id");
    let as_text = Answer { headers: header("content-type", "text/plain"), ..good.clone() };
    assert_eq!(num_faults(&as_text, refused), 1, "another envelope");
    assert_eq!(num_faults(&Answer { status: 418, ..good.clone() }, refused), 3, "undocumented");
    assert_ne!(good.clone().without("a/b"), Answer { body: body.replace("x", "a/c"), ..good }.without("a/b"));
}
