//! The flags of `souk bench`; `--help` is written here.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::random::ArrivalPattern;
use super::target::{Api, Naming};
use super::tenants::TenantArgument;
use super::workload::Length;

#[derive(Debug, Args)]
#[expect(missing_docs, reason = "clap would show it in place of the command's own")]
pub struct BenchArgs {
    /// Compare results written with --json instead of running: every figure as a ratio to the first file's.
    #[arg(long, num_args = 2.., value_name = "FILE", conflicts_with_all = ["json", "html", "rate", "duration_s", "requests"])]
    pub compare: Vec<PathBuf>,

    /// Closed loop: this many users, each with one request in flight. Bounds the server's batch: 16 users give it at
    /// most 16 sequences.
    #[arg(long, default_value_t = 16, value_name = "COUNT", help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) users: u32,
    /// Open loop instead: this many requests a second, sent on schedule whether or not earlier ones are answered.
    /// Latency counts from the scheduled instant, so that a stall of the server is not hidden.
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "users", help_heading = "Load", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// Open loop: equal gaps, or exponential gaps as of independent users.
    #[arg(long, value_enum, default_value_t = ArrivalPattern::Poisson, help_heading = "Load")]
    pub(crate) arrivals: ArrivalPattern,
    /// Open loop: most requests in flight. Later ones wait in the driver and their latency counts the wait. Bounds the
    /// driver's open connections.
    #[arg(long, default_value_t = 1024, value_name = "COUNT", help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) max_in_flight: u32,
    /// Seconds to measure, after the warm-up. Default: 30, or no bound when --requests is given.
    #[arg(long, value_name = "SECONDS", help_heading = "Load", value_parser = positive)]
    pub(crate) duration_s: Option<f64>,
    /// Measured requests to send. With --duration-s, whichever is reached first ends the run.
    #[arg(long, value_name = "COUNT", help_heading = "Load", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// Seconds of load before measuring begins; the requests sent in them are not counted.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS", help_heading = "Load", value_parser = not_negative)]
    pub(crate) warm_up_s: f64,
    /// Seconds to wait at the end for requests in flight; those still unanswered count as failed.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS", help_heading = "Load", value_parser = not_negative)]
    pub(crate) drain_s: f64,
    /// Seconds after which one request counts as failed.
    #[arg(long, default_value_t = 300.0, value_name = "SECONDS", help_heading = "Load", value_parser = positive)]
    pub(crate) request_timeout_s: f64,
    /// Seed of every random choice: the same seed sends the same requests in the same order.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", help_heading = "Load")]
    pub(crate) seed: u64,

    /// How the server wants its adapters named.
    #[arg(long, value_enum, default_value_t = Naming::Souk, help_heading = "Requests")]
    pub(crate) naming: Naming,
    /// Which route to call. `completions` sends the prompt as it is; `chat` adds the tokens of the chat template.
    #[arg(long, value_enum, default_value_t = Api::Completions, help_heading = "Requests")]
    pub(crate) api: Api,
    /// Model to call where no adapter is. Default: what the server lists; empty for LoRAX.
    #[arg(long, value_name = "MODEL", help_heading = "Requests")]
    pub(crate) base_model: Option<String>,
    /// Adapters, separated by commas; {0..15} stands for a range, {000..999} for one with leading zeros. For example
    /// acme/a{0..15}@1.0.0 for Souk, {0..15} (adapter numbers) for llama-server. Default: the base model only.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Requests")]
    pub(crate) adapters: Vec<String>,
    /// Choose adapters by a Zipf law with this exponent, the first name most often: with 1.0 the n-th of them is asked
    /// for 1/n times as often as the first. Default: all equally often.
    #[arg(long, value_name = "EXPONENT", requires = "adapters", help_heading = "Requests", value_parser = not_negative)]
    pub(crate) zipf: Option<f64>,
    /// `warm` sends one short request to each adapter before the load; `cold` lets the load meet them unloaded and
    /// reports the time to first token of first uses by itself, those in the warm-up included.
    #[arg(long, value_enum, default_value_t = AdapterState::Warm, help_heading = "Requests")]
    pub(crate) adapter_state: AdapterState,
    /// Tokens of each prompt, about: one number, or a range such as 64..256 drawn uniformly.
    #[arg(long, default_value = "128", value_name = "LENGTH", help_heading = "Requests")]
    pub(crate) prompt_tokens: Length,
    /// Tokens of each answer at most: one number or a range.
    #[arg(long, default_value = "64", value_name = "LENGTH", help_heading = "Requests")]
    pub(crate) output_tokens: Length,
    /// Let the model end its answers. Default: answers go on to --output-tokens where the server knows how (every
    /// naming but `openai`), so that runs are comparable.
    #[arg(long, help_heading = "Requests")]
    pub(crate) stop_at_eos: bool,
    /// 0 always takes the likeliest token.
    #[arg(long, default_value_t = 0.0, value_name = "0..2", help_heading = "Requests", value_parser = not_negative)]
    pub(crate) temperature: f64,
    /// Ask for whole answers. There is then no time to first token and none between chunks.
    #[arg(long, help_heading = "Requests")]
    pub(crate) no_stream: bool,
    /// A tenant that takes part: NAME:SHARE=KEY or NAME:SHARE:WEIGHT=KEY, where KEY may be @FILE; repeatable. SHARE is
    /// its part of the users or arrivals, WEIGHT (default 1) the part of the service that it is entitled to, by which
    /// the fairness index judges. Default: one tenant with --api-key.
    #[arg(long = "tenant", value_name = "TENANT", help_heading = "Requests")]
    pub(crate) tenants: Vec<TenantArgument>,

    /// What the run is called in its reports.
    #[arg(long, default_value = "run", value_name = "TEXT", help_heading = "Reports")]
    pub(crate) name: String,
    /// Add a line for each adapter.
    #[arg(long, help_heading = "Reports")]
    pub(crate) per_adapter: bool,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub json: Option<PathBuf>,
    /// Write the result as one HTML page that needs nothing else.
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub html: Option<PathBuf>,
}

/// Whether the server has met the adapters before the load begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AdapterState {
    /// Each adapter is asked once first.
    Warm,
    /// The load is the first to ask.
    Cold,
}

/// Seconds beyond which no run makes sense; keeps sums of instants in range.
const MOST: f64 = 1e9;

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match not_negative(text)? {
        0.0 => Err("must be more than 0".to_owned()),
        number => Ok(number),
    }
}

pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=MOST).contains(&number) { Ok(number) } else { Err(format!("must be from 0 to {MOST}")) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parse(words: &[&str]) -> Result<BenchArgs, String> {
        Line::try_parse_from([&["bench"], words].concat()).map(|line| line.bench).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_ranges_and_numbers_are_read() {
        let bench = parse(&["--adapters", "a/x,a/y{0..2}", "--zipf", "1.1", "--prompt-tokens", "8..32"]).unwrap();
        assert_eq!(bench.adapters, ["a/x", "a/y{0..2}"]);
        assert_eq!(bench.zipf, Some(1.1));
        assert_eq!(bench.prompt_tokens, Length { least: 8, most: 32 });
    }

    #[test]
    fn numbers_out_of_range_and_contradictions_are_refused() {
        for words in [
            &["--rate", "0"][..],
            &["--rate", "NaN"],
            &["--rate", "-1"],
            &["--rate", "inf"],
            &["--users", "0"],
            &["--users", "4", "--rate", "2"],
            &["--zipf", "1"],
            &["--prompt-tokens", "9..3"],
            &["--prompt-tokens", "0"],
            &["--compare", "one.json"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
