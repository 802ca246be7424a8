//! What is asked: which adapter, for whom, how long a prompt and how long an answer.

use std::fmt;
use std::str::FromStr;

use super::random::{Choice, Generator};

/// The place of an adapter in the run's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdapterIndex(pub(crate) usize);

/// The place of a tenant in the run's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TenantIndex(pub(crate) usize);

/// A number of tokens, fixed or drawn from a range with both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length {
    pub(crate) least: u32,
    pub(crate) most: u32,
}

impl Length {
    /// Longest prompt or answer; a typing error should not make a prompt of a gigabyte.
    const LIMIT: u32 = 1_000_000;
}

impl fmt::Display for Length {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most {
            write!(formatter, "{}", self.least)
        } else {
            write!(formatter, "{}..{}", self.least, self.most)
        }
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.parse::<u32>().map_err(|_| "write a number or a range such as 64..256".to_owned());
        let (least, most) = match text.split_once("..") {
            Some((least, most)) => (number(least)?, number(most)?),
            None => (number(text)?, number(text)?),
        };
        if least == 0 || most < least || most > Self::LIMIT {
            return Err(format!("lengths run from 1 to {}, the smaller first", Self::LIMIT));
        }
        Ok(Self { least, most })
    }
}

/// One request to send.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// `None` asks the base model.
    pub(crate) adapter: Option<AdapterIndex>,
    /// The server has not met the adapter: nobody in this run asked for it before, and the run began cold.
    pub(crate) is_first_use: bool,
    pub(crate) tenant: TenantIndex,
    pub(crate) prompt: String,
    pub(crate) max_tokens: u32,
}

/// What a run draws its requests from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkloadConfig {
    pub(crate) num_adapters: usize,
    /// The adapters are touched before the load, which then has no first uses.
    pub(crate) begins_warm: bool,
    /// `None` chooses uniformly.
    pub(crate) zipf_exponent: Option<f64>,
    pub(crate) prompt_tokens: Length,
    pub(crate) output_tokens: Length,
    pub(crate) seed: u64,
}

/// Draws requests; the n-th one is the same whenever it is drawn.
#[derive(Debug)]
pub(crate) struct Workload {
    config: WorkloadConfig,
    generator: Generator,
    /// `None` if only the base model is asked.
    adapters: Option<Choice>,
    tenants: Choice,
    used: Vec<bool>,
}

impl Workload {
    /// Requests of tenants with these shares.
    pub(crate) fn new(config: WorkloadConfig, tenant_shares: impl IntoIterator<Item = f64>) -> Self {
        Self {
            config,
            generator: Generator::new(config.seed),
            adapters: (config.num_adapters > 0)
                .then(|| Choice::zipf(config.num_adapters, config.zipf_exponent.unwrap_or(0.0))),
            tenants: Choice::weighted(tenant_shares),
            used: vec![config.begins_warm; config.num_adapters],
        }
    }

    /// The next request; `tenant` is whose it is, drawn by share if `None`.
    pub(crate) fn draw(&mut self, tenant: Option<TenantIndex>) -> Order {
        let generator = &mut self.generator;
        let adapter = self.adapters.as_ref().map(|choice| AdapterIndex(choice.draw(generator)));
        let tenant = tenant.unwrap_or_else(|| TenantIndex(self.tenants.draw(generator)));
        let Length { least, most } = self.config.prompt_tokens;
        let prompt_tokens = generator.between(least, most);
        let Length { least, most } = self.config.output_tokens;
        let max_tokens = generator.between(least, most);
        let prompt = prompt(generator, prompt_tokens);
        let is_first_use = adapter.is_some_and(|AdapterIndex(index)| !std::mem::replace(&mut self.used[index], true));
        Order { adapter, is_first_use, tenant, prompt, max_tokens }
    }
}

/// A prompt of about `num_tokens` tokens. It begins at random, so that no server's prefix cache answers for the model.
fn prompt(generator: &mut Generator, num_tokens: u32) -> String {
    let mut text = String::with_capacity(num_tokens as usize * 6);
    for _ in 0..num_tokens {
        if !text.is_empty() {
            text.push(' ');
        }
        let last = u32::try_from(WORDS.len() - 1).expect("the list is short");
        text.push_str(WORDS[generator.between(0, last) as usize]);
    }
    text
}

/// Common words; with a space before it each is one token in the vocabularies of the GPT, Llama and SmolLM families.
const WORDS: [&str; 96] = [
    "the", "of", "and", "to", "in", "is", "that", "for", "was", "on", "are", "as", "with", "they", "be", "at", "one",
    "have", "this", "from", "or", "had", "by", "not", "but", "what", "some", "we", "can", "out", "other", "were",
    "all", "there", "when", "up", "use", "your", "how", "said", "an", "each", "she", "which", "do", "their", "time",
    "if", "will", "way", "about", "many", "then", "them", "would", "write", "like", "so", "these", "her", "long",
    "make", "thing", "see", "him", "two", "has", "look", "more", "day", "could", "go", "come", "did", "number",
    "sound", "no", "most", "people", "my", "over", "know", "water", "than", "call", "first", "who", "may", "down",
    "side", "been", "now", "find", "any", "new", "work",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> WorkloadConfig {
        WorkloadConfig {
            num_adapters: 10,
            begins_warm: false,
            zipf_exponent: Some(1.0),
            prompt_tokens: Length { least: 4, most: 9 },
            output_tokens: Length { least: 7, most: 7 },
            seed: 5,
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_requests() {
        let draw = |seed| {
            let mut workload = Workload::new(WorkloadConfig { seed, ..config() }, [1.0, 2.0]);
            (0..50).map(|_| format!("{:?}", workload.draw(None))).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn requests_stay_within_the_lengths_and_first_uses_are_first() {
        let mut workload = Workload::new(config(), [1.0]);
        let orders: Vec<Order> = (0..500).map(|_| workload.draw(Some(TenantIndex(0)))).collect();
        assert!(orders.iter().all(|order| (4..=9).contains(&order.prompt.split(' ').count())));
        assert!(orders.iter().all(|order| order.max_tokens == 7));
        for index in 0..10 {
            let uses: Vec<bool> = orders
                .iter()
                .filter(|order| order.adapter == Some(AdapterIndex(index)))
                .map(|order| order.is_first_use)
                .collect();
            assert!(uses[0] && uses[1..].iter().all(|first| !first), "{index}: {uses:?}");
        }
        let mut warm = Workload::new(WorkloadConfig { begins_warm: true, ..config() }, [1.0]);
        assert!((0..100).all(|_| !warm.draw(None).is_first_use));
    }

    #[test]
    fn without_adapters_the_base_model_is_asked() {
        let order = Workload::new(WorkloadConfig { num_adapters: 0, ..config() }, [1.0]).draw(None);
        assert_eq!((order.adapter, order.is_first_use), (None, false));
    }
}
