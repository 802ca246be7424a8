//! Compiles constraints for one base model, under limits.
//!
//! What happens when: a caller that leaves while its constraint waits leaves the line, and the work for one that leaves
//! later, or waits no longer, ends at the next look at whether it is wanted.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use llguidance::ParserFactory;
use llguidance::api::GrammarInit;
use souk_protocol::gate::{Cause, Gate, Pass, Refusal, Rules};
use souk_protocol::{BaseModel, ConstraintLimits, ConstraintSpec, TenantId, TokenId};
use tokio::sync::{OnceCell, oneshot};
use tokio::time::timeout;

use super::cache::{ANSWER_BYTES, Cache, Compiled, Verdict};
use super::endless::check_ends;
use super::error::ConstraintError;
use super::live::{Constraint, Held};
use super::machine::Machine;
use super::quiet::{THREAD_NAME, stay_quiet};
use super::source::grammar;
use super::vocabulary::prepare;
use super::wanted::Wanted;
use super::work;

/// Stack of a compiling thread. Rules that refer to one another make the compiler call itself once for each: some 7,000
/// fit into a source of 64 KiB and need about 30 MiB, so sources may be twice as long. Only what is touched becomes
/// memory.
const STACK_BYTES: usize = 128 << 20;
/// What a small schema's answer holds: the compiled lexer, in most cases far below 1 MiB, twice and what an answer may
/// grow by.
const SMALL_ANSWER_BYTES: u64 = ANSWER_BYTES as u64 + (2 << 20);
/// Compiled constraints up to this size are copied where they are, in well under a millisecond.
const INLINE_BYTES: usize = 128 << 10;
/// Turns specs into constraints. Cheap to clone. The vocabulary is prepared on first use, in about 0.2 s, and then
/// takes some 16 MiB for 49,152 tokens.
#[derive(Clone)]
pub struct ConstraintCompiler(Arc<CompilerState>);

struct CompilerState {
    base: Arc<BaseModel>,
    limits: ConstraintLimits,
    factory: OnceCell<Result<Arc<ParserFactory>, ConstraintError>>,
    /// The threads that compile.
    threads: Gate<TenantId>,
    /// Memory of the answers under way.
    live: Gate<TenantId>,
    /// What a thread that compiles does first.
    begin: fn(),
    cache: Mutex<Cache>,
}

impl ConstraintCompiler {
    /// A compiler for the vocabulary of `base`.
    #[must_use]
    pub fn new(base: Arc<BaseModel>, limits: ConstraintLimits) -> Self {
        Self::with_threads(base, limits, || {})
    }

    /// The same, where each thread that compiles does `begin` first: stand back for those that answer, for example.
    #[must_use]
    pub fn with_threads(base: Arc<BaseModel>, limits: ConstraintLimits, begin: fn()) -> Self {
        stay_quiet();
        let total = limits.max_concurrent_compiles as u64;
        // Two small answers of whoever has none.
        let (live, small) = (limits.max_live_bytes as u64, 2 * SMALL_ANSWER_BYTES);
        Self(Arc::new(CompilerState {
            base,
            limits,
            factory: OnceCell::new(),
            threads: Gate::new(Rules::with_an_eighth_kept(total, 1, total)),
            live: Gate::new(Rules::with_an_eighth_kept(live, small, live)),
            begin,
            cache: Mutex::new(Cache::new(limits.max_cached, limits.max_cached_bytes)),
        }))
    }

    /// A constraint that stands after `begun`, the beginning of an answer that another attempt has made.
    ///
    /// # Errors
    /// As for [`compile`](Self::compile); [`ConstraintError::NotAllowed`] if the beginning does not meet it.
    pub async fn compile_after(
        &self,
        tenant: &TenantId,
        spec: &Arc<ConstraintSpec>,
        begun: &[TokenId],
    ) -> Result<Constraint, ConstraintError> {
        let mut constraint = self.compile(tenant, spec).await?;
        if begun.is_empty() {
            return Ok(constraint);
        }
        let begun = begun.to_vec();
        let following = tokio::task::spawn_blocking(move || constraint.follow(&begun).map(|()| constraint));
        following.await.unwrap_or_else(|error| Err(ConstraintError::Internal(error.to_string())))
    }

    /// Compiles `spec` for a tenant, or takes what was compiled for it before. May be dropped at any point.
    ///
    /// # Errors
    /// [`ConstraintError`] within the limits' time, whatever the source.
    pub async fn compile(&self, tenant: &TenantId, spec: &Arc<ConstraintSpec>) -> Result<Constraint, ConstraintError> {
        let started = Instant::now();
        let result = self.begun(tenant, spec).await;
        metrics::histogram!("souk_constraint_compile_seconds", "kind" => spec.kind())
            .record(started.elapsed().as_secs_f64());
        match result {
            Ok(constraint) => Ok(constraint),
            Err(error) => {
                metrics::counter!("souk_constraint_errors_total", "reason" => error.word()).increment(1);
                Err(error)
            }
        }
    }

    /// A fresh answer, once there is memory for it.
    async fn begun(&self, tenant: &TenantId, spec: &Arc<ConstraintSpec>) -> Result<Constraint, ConstraintError> {
        let compiled = self.compiled(tenant, spec).await?;
        let held = self.0.live.wait(tenant, compiled.answer_bytes() as u64, self.0.limits.compile_timeout).await;
        let held = held.map_err(|refusal| busy("the memory of constraints under way is", &refusal))?;
        let held = Held::new(self.0.live.clone(), held);
        let base = Arc::clone(&self.0.base);
        let size_bytes = compiled.size_bytes;
        let begin = move || Constraint::new(&compiled, &base.eos_tokens, Some(held));
        if size_bytes <= INLINE_BYTES {
            return Ok(begin());
        }
        tokio::task::spawn_blocking(begin).await.map_err(|error| ConstraintError::Internal(error.to_string()))
    }

    /// Bytes that are held for answers under way.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.0.live.used()
    }

    async fn compiled(&self, tenant: &TenantId, spec: &Arc<ConstraintSpec>) -> Result<Arc<Compiled>, ConstraintError> {
        let (limit, given) = (self.0.limits.max_source_bytes, spec.source_bytes());
        if given > limit {
            return Err(ConstraintError::TooLong { limit, given });
        }
        let slot = self.cache().slot(tenant, spec, Instant::now());
        let result = if slot.initialized() { "hit" } else { "miss" };
        metrics::counter!("souk_constraint_cache_total", "result" => result).increment(1);
        let outcome = slot.get_or_try_init(|| self.compile_anew(tenant, spec)).await?;
        let kept = {
            let mut cache = self.cache();
            cache.trim();
            cache.size_bytes()
        };
        metrics::gauge!("souk_constraint_cached_bytes").set(kept as f64);
        outcome.result.clone()
    }

    /// Compiles on a thread of its own, whose stack is large enough. The error is one that is not worth remembering.
    async fn compile_anew(&self, tenant: &TenantId, spec: &Arc<ConstraintSpec>) -> Result<Verdict, ConstraintError> {
        let factory = self.factory().await?;
        let limit = self.0.limits.compile_timeout;
        let thread = self
            .0
            .threads
            .wait(tenant, 1, limit)
            .await
            .map_err(|refusal| busy("the threads that compile constraints are", &refusal))?;
        metrics::gauge!("souk_constraint_compiles").set(self.0.threads.used() as f64);
        let (wanted, want) = Wanted::new();
        let (sender, receiver) = oneshot::channel();
        let spec = Arc::clone(spec);
        let (base, limits, begin) = (Arc::clone(&self.0.base), self.0.limits, self.0.begin);
        let work = move || {
            begin();
            let result = build(&factory, &spec, &base, &limits, &wanted);
            // If nobody waits any more, the answer was "too slow".
            let _ = sender.send(result);
            drop::<Pass<TenantId>>(thread);
        };
        let thread = thread::Builder::new().name(THREAD_NAME.to_owned()).stack_size(STACK_BYTES).spawn(work);
        if let Err(error) = thread {
            tracing::warn!(%error, "cannot start a thread to compile a constraint");
            let what = "the threads that compile constraints are";
            return Err(ConstraintError::Busy { what, reason: "none can be started".to_owned(), is_share: false });
        }
        let result = match timeout(limit, receiver).await {
            Ok(Ok(result)) => result.map(Arc::new),
            Ok(Err(_)) => Err(ConstraintError::breaks_the_compiler()),
            Err(_) => Err(ConstraintError::TooSlow { limit }),
        };
        drop(want);
        metrics::gauge!("souk_constraint_compiles").set(self.0.threads.used() as f64);
        Ok(Verdict { result, at: Instant::now() })
    }

    /// The prepared vocabulary. Not counted against the time of the first constraint.
    async fn factory(&self) -> Result<Arc<ParserFactory>, ConstraintError> {
        let prepared = self.0.factory.get_or_init(|| async {
            let (base, limits) = (Arc::clone(&self.0.base), self.0.limits);
            match tokio::task::spawn_blocking(move || prepare(&base, &limits)).await {
                Ok(factory) => factory.map(Arc::new),
                Err(error) => Err(ConstraintError::Internal(error.to_string())),
            }
        });
        prepared.await.clone()
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn busy(what: &'static str, refusal: &Refusal) -> ConstraintError {
    ConstraintError::Busy { what, reason: refusal.to_string(), is_share: refusal.cause == Cause::Share }
}

/// Compiles and tries out. Blocks, for about a second at most whatever the source: each part of it is counted.
fn build(
    factory: &ParserFactory,
    spec: &ConstraintSpec,
    base: &BaseModel,
    limits: &ConstraintLimits,
    wanted: &Wanted,
) -> Result<Compiled, ConstraintError> {
    work::check_classes(spec)?;
    let source = GrammarInit::Serialized(grammar(spec)?);
    let (rules, lexer) =
        source.to_internal(Some(factory.tok_env().clone()), factory.limits().clone()).map_err(at_build)?;
    wanted.check()?;
    work::check(&lexer, factory.limits(), wanted)?;
    check_ends(&rules.optimize().compile(lexer.clone(), factory.limits()).map_err(at_build)?)?;
    wanted.check()?;
    let parser = factory.create_parser_from_init_default(GrammarInit::Internal(rules, lexer)).map_err(at_build)?;
    let lexer = parser.parser.lexer_stats();
    if lexer.num_bytes > limits.max_compiled_bytes {
        let (limit, given) = (limits.max_compiled_bytes, lexer.num_bytes);
        return Err(ConstraintError::TooComplex(format!("its lexer has {given} bytes of at most {limit}")));
    }
    let compiled = Compiled { machine: Machine::new(parser), size_bytes: lexer.num_bytes };
    Constraint::new(&compiled, &base.eos_tokens, None).try_out(wanted)?;
    Ok(compiled)
}

fn at_build(error: impl Display) -> ConstraintError {
    ConstraintError::at_build(&error.to_string())
}
