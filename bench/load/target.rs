//! The server under load and how it wants to be asked.

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde_json::{Value, json};

/// How a server wants adapters named, and which extra fields it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Naming {
    /// `model` is the adapter's reference; knows `ignore_eos`.
    Souk,
    /// `model` is the adapter's name; knows `ignore_eos`.
    Vllm,
    /// `model` is the adapter's id, empty for the base model; knows `ignore_eos_token`.
    Lorax,
    /// `lora` lists the adapter's number with its scale beside the base model; knows `ignore_eos`.
    LlamaServer,
    /// `model` is the adapter's name; no field that OpenAI does not have.
    Openai,
}

/// The route that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Api {
    /// `/v1/completions`.
    Completions,
    /// `/v1/chat/completions`.
    Chat,
}

/// Where the server is and who calls.
#[derive(Clone)]
pub struct Server {
    /// With or without `/v1` at its end.
    pub url: String,
    /// `None` calls without a key.
    pub api_key: Option<String>,
}

/// How a server is to be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TargetConfig<'a> {
    pub(crate) url: &'a str,
    pub(crate) naming: Naming,
    pub(crate) api: Api,
    /// `None` takes the one that the server lists.
    pub(crate) base_model: Option<&'a str>,
    /// Answers go on to their full length.
    pub(crate) ignore_eos: bool,
    pub(crate) temperature: f64,
    pub(crate) stream: bool,
}

/// A server under load.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Address without a slash at the end.
    url: String,
    naming: Naming,
    api: Api,
    base_model: String,
    ignore_eos: bool,
    temperature: f64,
    pub(crate) stream: bool,
}

impl Target {
    /// The server at the address, asked for its base model where that is needed and not given.
    ///
    /// # Errors
    /// If the server cannot be reached or lists no model, or an adapter is not named as the server wants.
    pub(crate) async fn new(
        http: &reqwest::Client,
        config: TargetConfig<'_>,
        adapters: &[String],
        authorization: Option<&HeaderValue>,
    ) -> anyhow::Result<Self> {
        let url = config.url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let naming = config.naming;
        if naming == Naming::LlamaServer
            && let Some(name) = adapters.iter().find(|name| name.parse::<u32>().is_err())
        {
            bail!("llama-server numbers its adapters, so --adapters takes numbers such as {{0..15}}; given `{name}`");
        }
        // Where `model` names the adapter, nobody asks for the base model.
        let needs_base = adapters.is_empty() || naming == Naming::LlamaServer;
        let base_model = match config.base_model {
            Some(model) => model.to_owned(),
            None if needs_base && naming != Naming::Lorax => listed_model(http, &url, authorization).await?,
            None => String::new(),
        };
        Ok(Self {
            url,
            naming,
            api: config.api,
            base_model,
            ignore_eos: config.ignore_eos,
            temperature: config.temperature,
            stream: config.stream,
        })
    }

    /// Where requests go.
    pub(crate) fn generate_url(&self) -> String {
        let route = match self.api {
            Api::Completions => "/v1/completions",
            Api::Chat => "/v1/chat/completions",
        };
        format!("{}{route}", self.url)
    }

    /// The body of a request to `adapter`, or to the base model.
    pub(crate) fn body(&self, adapter: Option<&str>, prompt: &str, max_tokens: u32) -> Vec<u8> {
        let model = match (self.naming, adapter) {
            (Naming::LlamaServer, _) | (_, None) => &self.base_model,
            (_, Some(name)) => name,
        };
        let mut body = json!({ "model": model, "max_tokens": max_tokens, "temperature": self.temperature });
        match self.api {
            Api::Completions => body["prompt"] = prompt.into(),
            Api::Chat => body["messages"] = json!([{ "role": "user", "content": prompt }]),
        }
        if self.stream {
            body["stream"] = true.into();
            body["stream_options"] = json!({ "include_usage": true });
        }
        if self.naming == Naming::LlamaServer {
            // Adapters not listed get scale 0; without the field the scales of the server's start would apply.
            body["lora"] = match adapter.and_then(|name| name.parse::<u32>().ok()) {
                Some(id) => json!([{ "id": id, "scale": 1.0 }]),
                None => json!([]),
            };
        }
        if self.ignore_eos {
            match self.naming {
                Naming::Souk | Naming::Vllm | Naming::LlamaServer => body["ignore_eos"] = true.into(),
                Naming::Lorax => body["ignore_eos_token"] = true.into(),
                Naming::Openai => {}
            }
        }
        body.to_string().into_bytes()
    }
}

/// The first model listed that is not an adapter.
async fn listed_model(
    http: &reqwest::Client,
    url: &str,
    authorization: Option<&HeaderValue>,
) -> anyhow::Result<String> {
    let mut request = http.get(format!("{url}/v1/models"));
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let response = request
        .send()
        .await
        .with_context(|| format!("cannot reach {url}; is the server running, and is --url right?"))?;
    let status = response.status();
    if !status.is_success() {
        bail!("{url}/v1/models answered {status}; name the model with --base-model, or pass the right --api-key");
    }
    let models: Value = response.json().await.context("the list of models is not JSON")?;
    first_base_model(&models).context("the server lists no model; name one with --base-model")
}

/// vLLM gives adapters a `parent`; Souk's adapters have a tenant before a slash, which base models elsewhere may have
/// too.
fn first_base_model(models: &Value) -> Option<String> {
    let listed: Vec<&Value> = models.get("data")?.as_array()?.iter().collect();
    let is_adapter = |model: &Value| model.get("parent").is_some_and(|parent| !parent.is_null());
    let id = |model: &&Value| model.get("id").and_then(Value::as_str).map(str::to_owned);
    let bases: Vec<String> = listed.iter().filter(|model| !is_adapter(model)).filter_map(id).collect();
    bases.iter().find(|id| !id.contains('/')).or_else(|| bases.first()).cloned()
}

#[cfg(test)]
impl Target {
    pub(crate) fn for_tests(url: &str, naming: Naming, api: Api, stream: bool) -> Self {
        let base_model = "base".to_owned();
        Self { url: url.to_owned(), naming, api, base_model, ignore_eos: true, temperature: 0.0, stream }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(naming: Naming, adapter: Option<&str>) -> Value {
        let target = Target::for_tests("http://h", naming, Api::Completions, true);
        serde_json::from_slice(&target.body(adapter, "hello \"you\"", 8)).unwrap()
    }

    #[test]
    fn adapters_are_named_as_each_server_wants() {
        for naming in [Naming::Souk, Naming::Vllm, Naming::Lorax, Naming::Openai] {
            assert_eq!(body(naming, Some("acme/a"))["model"], "acme/a");
            assert_eq!(body(naming, None)["model"], "base");
            assert!(body(naming, Some("acme/a")).get("lora").is_none());
        }
        assert_eq!(body(Naming::LlamaServer, Some("3"))["lora"], json!([{ "id": 3, "scale": 1.0 }]));
        assert_eq!(body(Naming::LlamaServer, Some("3"))["model"], "base");
        assert_eq!(body(Naming::LlamaServer, None)["lora"], json!([]));
    }

    #[test]
    fn answers_run_to_their_length_where_the_server_knows_how() {
        assert_eq!(body(Naming::Souk, None)["ignore_eos"], true);
        assert_eq!(body(Naming::Lorax, None)["ignore_eos_token"], true);
        let plain = body(Naming::Openai, None);
        assert!(plain.as_object().unwrap().keys().all(|key| !key.contains("eos")));
        assert_eq!(plain["stream_options"]["include_usage"], true);
    }

    #[test]
    fn the_base_model_is_told_from_the_adapters() {
        let souk = json!({ "data": [{ "id": "acme/x@1" }, { "id": "smol" }] });
        assert_eq!(first_base_model(&souk).as_deref(), Some("smol"));
        let vllm = json!({ "data": [{ "id": "a0", "parent": "org/base" }, { "id": "org/base", "parent": null }] });
        assert_eq!(first_base_model(&vllm).as_deref(), Some("org/base"));
        assert_eq!(first_base_model(&json!({ "data": [] })), None);
        assert_eq!(first_base_model(&json!([1])), None);
    }
}
