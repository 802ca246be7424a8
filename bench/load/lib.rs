//! `souk bench`: puts a load on an OpenAI-compatible server and reports what came back. The rest of this package
//! measures too: [`fleet`] simulates routing (`souk bench fleet`), `engine/`, `adapters/` and `sampler.rs` in process, and `page/` runs all of it and writes
//! docs/benchmarks.md.
//!
//! Begin with [`run`]. A [`workload`] says what is asked, [`target`] how the server wants to be asked, [`drive`] when;
//! [`exchange`] sends one request and reads its answer, [`record`] sums up, [`report`] tells. What this does not do:
//! judge the text of the answers.
//!
//! How it measures. In an open loop latencies count from the instant that the plan wanted the request sent, so that a
//! server that stalls cannot hide its stall by delaying the next request. In a closed loop they count from the sending.
//! Requests sent in the warm-up are not counted; requests sent within the measured span are waited for and counted
//! whole; tokens count in the span in which they came. Gaps are those between chunks as they reached the driver.

mod arguments;
mod compare;
mod drive;
mod exchange;
mod fairness;
pub mod fleet;
mod histogram;
mod machine;
mod names;
mod progress;
mod random;
mod record;
mod report;
mod sse;
mod target;
mod tenants;
mod workload;

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use arguments::AdapterState;
use drive::{Bounds, Driver, Ending, Load};
use exchange::Sender;
use machine::{CpuClock, Machine};
use random::Arrivals;
use record::{Record, Span};
use report::Setup;
use target::{Naming, Target, TargetConfig};
use workload::{AdapterIndex, TenantIndex, Workload, WorkloadConfig};

pub use self::arguments::BenchArgs;
pub use self::compare::compare;
pub use self::report::Report;
pub use self::report::html::page;
pub use self::report::table::lines;
pub use self::target::Server;

/// Adapters touched at a time before a warm run: enough to overlap loads, too few to queue.
const TOUCHED_AT_ONCE: usize = 4;
/// Length of a run that names neither a duration nor a number of requests.
const DEFAULT_DURATION: Duration = Duration::from_secs(30);

/// Who watches a run.
pub trait Watch {
    /// What is being done now, in words; it changes twice a second while the load is on.
    fn says(&self, text: &str);
}

/// Puts the load on `server` that the flags describe and reports; ends early when `interrupt` is ready.
///
/// # Errors
/// If the flags contradict each other, the server cannot be reached, or an adapter does not answer before a warm run.
pub async fn run(
    server: &Server,
    arguments: &BenchArgs,
    interrupt: impl Future<Output = ()>,
    watch: &impl Watch,
) -> anyhow::Result<Report> {
    let sender = sender(server, arguments).await?;
    let workload = workload(arguments, &sender);
    let load = load(arguments, &sender)?;
    let setup = setup(arguments, &sender)?;
    tokio::pin!(interrupt);
    if arguments.adapter_state == AdapterState::Warm {
        tokio::select! {
            touched = touch_all(&sender, watch) => touched?,
            () = &mut interrupt => bail!("interrupted before the load began"),
        }
    }
    watch.says("warm-up");
    let start = Instant::now();
    let record = Record::new(
        span(arguments, start),
        sender.tenants.len(),
        if arguments.per_adapter { sender.adapters.len() } else { 0 },
    );
    let bounds = Bounds { num_requests: arguments.requests, drain: Duration::from_secs_f64(arguments.drain_s) };
    let clock = CpuClock::start();
    let driver = Driver::new(sender, bounds, workload, record);
    let (record, ending) =
        driver.run(load, interrupt, |record| watch.says(&progress::text(record, Instant::now()))).await;
    let driver_cpu_share = clock.and_then(|clock| clock.share_since(start.elapsed()));
    Ok(Report::new(setup, &record, ending == Ending::Interrupted, driver_cpu_share))
}

async fn sender(server: &Server, arguments: &BenchArgs) -> anyhow::Result<Sender> {
    let adapters = names::expand(&arguments.adapters)?;
    let tenants = tenants::tenants(&arguments.tenants, server.api_key.as_deref())?;
    // A proxy between the driver and the server would be measured too.
    let http = reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(10))
        .pool_max_idle_per_host(idle_connections(arguments.naming))
        .build()
        .context("cannot set up the HTTP client")?;
    let config = TargetConfig {
        url: &server.url,
        naming: arguments.naming,
        api: arguments.api,
        base_model: arguments.base_model.as_deref(),
        ignore_eos: !arguments.stop_at_eos,
        temperature: arguments.temperature,
        stream: !arguments.no_stream,
    };
    let target = Target::new(&http, config, &adapters, tenants[0].authorization.as_ref()).await?;
    let url = target.generate_url();
    let url = url.parse().with_context(|| format!("`{url}` is not an address"))?;
    let request_timeout = Duration::from_secs_f64(arguments.request_timeout_s);
    Ok(Sender { http, target, url, adapters, tenants, request_timeout })
}

fn workload(arguments: &BenchArgs, sender: &Sender) -> Workload {
    let config = WorkloadConfig {
        num_adapters: sender.adapters.len(),
        begins_warm: arguments.adapter_state == AdapterState::Warm,
        zipf_exponent: arguments.zipf,
        prompt_tokens: arguments.prompt_tokens,
        output_tokens: arguments.output_tokens,
        seed: arguments.seed,
    };
    Workload::new(config, sender.tenants.iter().map(|tenant| tenant.share))
}

fn load(arguments: &BenchArgs, sender: &Sender) -> anyhow::Result<Load> {
    if let Some(per_second) = arguments.rate {
        let arrivals = Box::new(Arrivals::new(arguments.arrivals, per_second, arguments.seed));
        return Ok(Load::Open { arrivals, max_in_flight: arguments.max_in_flight as usize });
    }
    let by_tenant = tenants::users_by_share(arguments.users as usize, &sender.tenants)?;
    let users = by_tenant
        .into_iter()
        .enumerate()
        .flat_map(|(tenant, count)| std::iter::repeat_n(TenantIndex(tenant), count))
        .collect();
    Ok(Load::Closed { users })
}

fn span(arguments: &BenchArgs, start: Instant) -> Span {
    let begin = start + Duration::from_secs_f64(arguments.warm_up_s);
    let duration = match (arguments.duration_s, arguments.requests) {
        (Some(seconds), _) => Some(Duration::from_secs_f64(seconds)),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_DURATION),
    };
    Span { begin, end: duration.map(|duration| begin + duration) }
}

async fn touch_all(sender: &Sender, watch: &impl Watch) -> anyhow::Result<()> {
    if sender.adapters.is_empty() {
        return Ok(());
    }
    watch.says("touching the adapters");
    let touch = |index| async move {
        sender.touch(AdapterIndex(index)).await.map_err(|(failure, message)| {
            let name = &sender.adapters[index];
            anyhow::anyhow!("adapter {name} does not answer: {message} ({})", report::failure_name(&failure))
        })
    };
    let touched = futures::stream::iter((0..sender.adapters.len()).map(touch)).buffer_unordered(TOUCHED_AT_ONCE);
    touched.try_collect::<()>().await
}

/// The facts that a reader needs to judge or repeat the run; no keys.
fn setup(arguments: &BenchArgs, sender: &Sender) -> anyhow::Result<Setup> {
    let load = match arguments.rate {
        None => format!("closed loop, {} users", arguments.users),
        Some(rate) => {
            let pattern = value_name(&arguments.arrivals);
            format!("open loop, {rate} requests/s, {pattern} arrivals, at most {} in flight", arguments.max_in_flight)
        }
    };
    let adapters = match (sender.adapters.len(), arguments.zipf) {
        (0, _) => "none: the base model".to_owned(),
        (count, zipf) => {
            let law = zipf.map_or_else(|| "uniform".to_owned(), |exponent| format!("Zipf {exponent}"));
            let state = value_name(&arguments.adapter_state);
            format!("{count}, {law}, {state} at the start: {}", arguments.adapters.join(", "))
        }
    };
    let ending = if arguments.stop_at_eos { "may end early" } else { "to full length where the server knows how" };
    let settings = [
        ("load", load),
        ("adapters", adapters),
        // Without a user and password that the address may have.
        ("endpoint", format!("{}{}", sender.url.origin().ascii_serialization(), sender.url.path())),
        ("naming", value_name(&arguments.naming)),
        ("prompt", format!("about {} tokens", arguments.prompt_tokens)),
        ("answer", format!("{} tokens at temperature {}, {ending}", arguments.output_tokens, arguments.temperature)),
        ("streaming", if arguments.no_stream { "no" } else { "yes" }.to_owned()),
        ("warm-up", format!("{} s", arguments.warm_up_s)),
        ("seed", arguments.seed.to_string()),
    ];
    #[expect(clippy::disallowed_methods, reason = "a report says to people when it was made")]
    let now = OffsetDateTime::now_utc();
    // Whole seconds are enough to tell runs apart.
    let now = now.replace_nanosecond(0).unwrap_or(now);
    Ok(Setup {
        name: arguments.name.clone(),
        started_at: now.format(&Rfc3339).context("the clock is beyond year 9999")?,
        settings: settings.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        machine: Machine::read(),
        tenants: sender.tenants.iter().map(|tenant| (tenant.name.clone(), tenant.share, tenant.weight)).collect(),
        adapters: sender.adapters.clone(),
    })
}

/// A flag's value as it is written.
fn value_name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// How many connections wait for their next request. llama-server closes one after so many requests or seconds without
/// a word, and what is on its way then is lost, so each request to it gets a connection of its own.
const fn idle_connections(naming: Naming) -> usize {
    if matches!(naming, Naming::LlamaServer) { 0 } else { usize::MAX }
}

#[cfg(test)]
mod tests;
