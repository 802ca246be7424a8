//! What one gateway and one request may use: the section `[gateway]` of the settings.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use souk_protocol::ConstraintLimits;
use souk_protocol::settings::{self, Checks, mebibytes, seconds};

use crate::text::TemplateLimits;

/// Bounds on requests. Each is checked before the work that it bounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayLimits {
    /// Bytes of the longest request body; longer ones are answered 413. The default holds the 8192 tokens of the demo's
    /// model some fifty times over.
    pub max_body_bytes: usize,
    /// Bytes of bodies that may be held at once, from the first byte until their texts have become tokens, or with `echo`
    /// until the answer has ended; past it, and past the tenant's share of it, requests are refused before their body is
    /// read.
    pub max_reading_bytes: usize,
    /// How long a client may take to send its body; then 408.
    #[serde(rename = "body_timeout_s", deserialize_with = "seconds::deserialize")]
    pub body_timeout: Duration,
    /// Requests that may be under way at once, streams included; past it 503, past a tenant's share of it 429. Each
    /// holds its parsed body, its prompt and up to its answer in memory: some 100 KiB at 8192 tokens, so the default is
    /// about 50 MiB.
    pub max_in_flight: usize,
    /// Long texts that are worked on at once, of each tenant one: bodies that are parsed, prompts that are rendered and
    /// encoded. Each takes up to eight times the longest body of memory.
    pub max_concurrent_texts: usize,
    /// How long an answer may take from the arrival of its request, waiting included. Travels with the job as its
    /// deadline.
    #[serde(rename = "request_timeout_s", deserialize_with = "seconds::deserialize")]
    pub request_timeout: Duration,
    /// How long a request for a base model without a node waits for one, in the queue; zero: it is refused at once.
    #[serde(rename = "wait_for_node_s", deserialize_with = "seconds::deserialize")]
    pub wait_for_node: Duration,
    /// Silence on a stream after which a comment is sent, so that proxies keep the connection.
    #[serde(rename = "keep_alive_s", deserialize_with = "seconds::deserialize")]
    pub keep_alive: Duration,
    /// Messages in one chat.
    pub max_messages: usize,
    /// Prompts in one completion request.
    pub max_prompts: usize,
    /// Choices (`n`) for one prompt.
    pub max_choices: u32,
    /// Prompts times choices: the jobs of one request.
    pub max_jobs: usize,
    /// Adapters that may act on one request together.
    pub max_adapters: usize,
    /// Stop strings in one request.
    pub max_stops: usize,
    /// Bytes of the longest stop string.
    pub max_stop_bytes: usize,
    /// Entries in `logit_bias`.
    pub max_logit_biases: usize,
    /// Alternatives reported per token.
    pub max_top_logprobs: u8,
    /// Public adapters of other tenants in the list of models.
    pub listed_models: usize,
    /// Addresses of the installation's registries, for a gateway that runs apart; the operators' ports. The next is asked
    /// where one fails.
    pub registries: Vec<String>,
    /// A file of certificates (PEM) of authorities that are trusted for them beside the system's; empty: none.
    pub registries_root_cert: PathBuf,
    /// A file with the certificates and the key (PEM) that is shown to them; empty: none.
    pub registries_client_cert: PathBuf,
    /// The key that this gateway exchanges for tokens to call them; empty: it is in a file.
    #[serde(deserialize_with = "secret")]
    pub registry_key: SecretString,
    /// The file of that key, which is read at each exchange.
    pub registry_key_file: PathBuf,
    /// Where the nodes are that this gateway's requests go to.
    pub nodes: NodesAre,
    /// Descriptions of the base models that nodes apart serve, as `souk models describe` writes them.
    pub base_files: Vec<PathBuf>,
    /// The address at which nodes apart reach this gateway's operators' port.
    pub advertise: String,
    /// How long what is known of rights is believed since it was confirmed last, while no registry answers.
    #[serde(rename = "rights_stale_s", deserialize_with = "seconds::deserialize")]
    pub rights_stale: Duration,
    /// Bytes of usage that may wait for the database in the journal; past it 503.
    #[serde(rename = "journal_mb", deserialize_with = "mebibytes::deserialize")]
    pub journal_bytes: u64,
    /// Bytes of whole answers that are kept for repeats of their requests.
    #[serde(rename = "kept_answers_mb", deserialize_with = "mebibytes::deserialize")]
    pub kept_answer_bytes: usize,
    /// Caps the model's own context length in tokens, prompt and answer together. `None` leaves the model's. It is what
    /// the nodes have room for, and no setting.
    #[serde(skip)]
    pub context_tokens: Option<usize>,
    /// What constraints may cost, which has a section of its own: here the gateway's part of it counts.
    #[serde(skip)]
    pub constraints: ConstraintLimits,
    /// What rendering a chat template may use; no setting.
    #[serde(skip)]
    pub template: TemplateLimits,
}

/// Where nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodesAre {
    /// One, in the gateway's process, with the queue in its memory.
    Inside,
    /// In processes of their own, with the queue in a Redis.
    Apart,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        settings::defaults("gateway")
    }
}

impl GatewayLimits {
    /// Checks that each value can be used, alone and with the others.
    pub fn check(&self, checks: &mut Checks) {
        checks.within("gateway.max_body_bytes", self.max_body_bytes, 1024..=1 << 30);
        // An eighth is a reserve for small bodies.
        let room = self.max_reading_bytes - self.max_reading_bytes / 8;
        let key = "seven eighths of gateway.max_reading_bytes";
        checks.no_more_than("gateway.max_body_bytes", self.max_body_bytes, key, room);
        checks.within("gateway.body_timeout_s", self.body_timeout.as_secs(), 1..=3600);
        let (wait, timeout) = (self.wait_for_node.as_secs(), self.request_timeout.as_secs());
        checks.no_more_than("gateway.wait_for_node_s", wait, "gateway.request_timeout_s", timeout);
        checks.within("gateway.max_in_flight", self.max_in_flight, 1..=1 << 20);
        checks.within("gateway.max_concurrent_texts", self.max_concurrent_texts, 1..=1024);
        checks.within("gateway.request_timeout_s", self.request_timeout.as_secs(), 1..=86_400);
        checks.within("gateway.keep_alive_s", self.keep_alive.as_secs(), 1..=3600);
        checks.at_least("gateway.max_messages", self.max_messages, 1);
        checks.at_least("gateway.max_prompts", self.max_prompts, 1);
        checks.within("gateway.max_choices", self.max_choices, 1..=1 << 20);
        checks.at_least("gateway.max_jobs", self.max_jobs, 1);
        // The key of a day's sums has all of their digests, and a database has a bound for keys.
        checks.within("gateway.max_adapters", self.max_adapters, 1..=16);
        checks.at_least("gateway.max_stop_bytes", self.max_stop_bytes, 1);
        checks.within("gateway.listed_models", self.listed_models, 1..=100_000);
        let key = self.registry_key.expose_secret();
        checks.rule(key.is_empty() || self.registry_key_file.as_os_str().is_empty(), || {
            let file = self.registry_key_file.display();
            format!(
                "gateway.registry_key and gateway.registry_key_file are both set, the latter to {file}; set one of them"
            )
        });
        if self.nodes == NodesAre::Apart {
            let given = &self.advertise;
            checks.rule(is_address(given), || {
                format!(
                    "gateway.advertise must be where nodes reach this gateway, as http://10.0.0.5:8081; given `{given}`"
                )
            });
            // Files are fetched with what came with the request, which is good for as long.
            let (key, most) = ("the 15 minutes that grants of files are good for, less one", 14 * 60);
            checks.no_more_than("gateway.request_timeout_s", self.request_timeout.as_secs(), key, most);
        }
        checks.within("gateway.kept_answers_mb", self.kept_answer_bytes >> 20, 1..=1 << 20);
        checks.within("gateway.journal_mb", self.journal_bytes >> 20, 1..=1 << 20);
        checks.within("gateway.rights_stale_s", self.rights_stale.as_secs(), 0..=60);
    }
}

/// Whether a text is a scheme, a host and perhaps a port.
fn is_address(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else { return false };
    text.parse::<axum::http::Uri>()
        .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none())
        && !rest.trim_end_matches('/').contains(['/', '@'])
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_for_registries_has_one_place_and_is_never_shown() {
        let problems = |limits: &GatewayLimits| {
            let mut checks = Checks::default();
            limits.check(&mut checks);
            checks.finish().err().map(|error| error.to_string())
        };
        let mut limits = GatewayLimits { registry_key: "souk_1".to_owned().into(), ..GatewayLimits::default() };
        assert_eq!(problems(&limits), None);
        assert!(!format!("{limits:?}").contains("souk_1"));
        limits.registry_key_file = "/run/secrets/registry-key".into();
        assert!(problems(&limits).unwrap().contains("both set, the latter to /run/secrets/registry-key"));
        limits.registry_key_file = PathBuf::new();
        limits.rights_stale = Duration::from_secs(61);
        assert_eq!(problems(&limits).unwrap(), "gateway.rights_stale_s must be at most 60; given 61");
    }

    #[test]
    fn nodes_apart_need_an_address_and_requests_that_end_before_grants_do() {
        let problems = |limits: &GatewayLimits| {
            let mut checks = Checks::default();
            limits.check(&mut checks);
            checks.finish().err().map_or_else(String::new, |error| error.to_string())
        };
        let mut limits = GatewayLimits { nodes: NodesAre::Apart, ..GatewayLimits::default() };
        for good in ["http://10.0.0.5:8081", "https://gateway-1.internal/", "http://[::1]:80"] {
            good.clone_into(&mut limits.advertise);
            assert_eq!(problems(&limits), "", "{good}");
        }
        for bad in ["", "10.0.0.5:8081", "ftp://a", "http://", "http://a/b", "http://a?b", "http://u:p@a", "http://a b"]
        {
            bad.clone_into(&mut limits.advertise);
            assert!(problems(&limits).contains(&format!("given `{bad}`")), "{bad}");
        }
        limits.nodes = NodesAre::Inside;
        assert_eq!(problems(&limits), "", "what is not used is not looked at");
        "http://a:1".clone_into(&mut limits.advertise);
        (limits.nodes, limits.request_timeout) = (NodesAre::Apart, Duration::from_secs(900));
        assert!(problems(&limits).contains("gateway.request_timeout_s") && problems(&limits).contains("900"));
    }

    #[test]
    fn the_defaults_are_those_of_the_page_and_can_be_used() {
        let mut checks = Checks::default();
        GatewayLimits::default().check(&mut checks);
        assert_eq!(checks.finish(), Ok(()));
    }
}
