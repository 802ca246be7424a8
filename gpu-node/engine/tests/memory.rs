//! What compiling a stranger's constraint takes of memory, and what is left of it. A test of its own, since it counts what
//! the whole process allocates.

use std::sync::Arc;

use souk_engine::constraint::{Constraint, ConstraintCompiler, ConstraintLimits};
use souk_protocol::{BaseModel, ConstraintSpec, TenantId, TokenId, TokenizerSpec};
use souk_testkit::CountingAllocator;
use souk_testkit::base::{self, SMALL, byte_alphabet};

/// Most that compiling one takes, as docs/constraints.md says.
const MAX_COMPILING_BYTES: usize = 40 << 20;
/// Tokens of an answer that is followed.
const NUM_TOKENS: usize = 1000;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

const EOS: TokenId = 256;

fn bytes_base() -> BaseModel {
    let mut base = base::base("tiny", SMALL);
    base.shape.vocab_size = 257;
    base.eos_tokens = vec![EOS];
    let tokens = byte_alphabet().iter().map(char::to_string).chain(["<|end|>".to_owned()]).collect();
    let (control_tokens, merges, pre) = (vec![EOS], Vec::new(), "gpt-2".to_owned());
    base.tokenizer = TokenizerSpec::ByteLevelBpe { tokens, control_tokens, merges, pre };
    base
}

fn hostile() -> Vec<(&'static str, ConstraintSpec)> {
    let regex = |source: String| ConstraintSpec::Regex(source);
    let lark = |source: String| ConstraintSpec::Grammar(source);
    let json = |source: String| ConstraintSpec::JsonSchema(source);
    let list = |num: usize, separator: &str, item: &dyn Fn(usize) -> String| {
        (0..num).map(item).collect::<Vec<_>>().join(separator)
    };
    let references = list(1900, ",", &|i| format!(r##""{i}":{{"items":{{"$ref":"#/$defs/{}"}}}}"##, i + 1));
    vec![
        ("classes", regex(r"\w".repeat(30_000))),
        ("as many classes as may be", regex(r"\w".repeat(2_000))),
        ("other classes", regex(list(1_900, "", &|i| format!(r"\w\x{{{:x}}}", 0x4e00 + i)))),
        ("classes in either case", regex(format!("(?i){}", r"\PL".repeat(190)))),
        (
            "ranges",
            regex(list(4_000, "", &|i| {
                format!("[{}-\\u{{10ffff}}]", char::from_u32(0x4e00 + i as u32).unwrap_or_default())
            })),
        ),
        ("alternatives", regex(list(6_000, "|", &|i| format!("{}", i * 7919)))),
        ("optional letters", regex("a?".repeat(690))),
        ("repetitions", regex("((((a{1,100}){1,100}){1,100}){1,100}){1,100}".to_owned())),
        ("an exponential automaton", lark("start: A\nA: /(.|\\n)*[ab][a-z]{30}/".to_owned())),
        ("an ambiguous grammar", lark("start: start start | \"a\" | ".to_owned())),
        ("a huge repetition of a rule", lark("start: x{1,1000000}\nx: \"a\"{1,1000000}".to_owned())),
        (
            "many rules",
            lark(format!("start: r0\n{}\nr4000: \"x\"", list(4_000, "\n", &|i| format!("r{i}: \"a\" r{}", i + 1)))),
        ),
        (
            "properties",
            json(format!(
                r#"{{"type":"object","properties":{{{}}}}}"#,
                list(2_000, ",", &|i| format!(r#""p{i}":{{"type":"integer"}}"#))
            )),
        ),
        ("an enumeration", json(format!(r#"{{"enum":[{}]}}"#, list(8_000, ",", &|i| i.to_string())))),
        ("empty lists", json(format!(r#"{{"enum":[{}]}}"#, vec!["[]"; 20_000].join(",")))),
        ("references", json(format!(r##"{{"$ref":"#/$defs/0","$defs":{{{references},"1900":{{}}}}}}"##))),
        (
            "products",
            json(format!(
                r#"{{"allOf":[{}]}}"#,
                list(9, ",", &|i| format!(r#"{{"anyOf":[{{"required":["a{i}"]}},{{"required":["b{i}"]}}]}}"#))
            )),
        ),
    ]
}

/// Goes on with what is allowed, not always the same.
fn follow(constraint: &mut Constraint) {
    let mut state = 1_u64;
    for _ in 0..NUM_TOKENS {
        let Ok(words) = constraint.allowed() else { return };
        let allowed = (0..EOS).filter(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1).collect::<Vec<_>>();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let Some(&token) = allowed.get((state >> 33) as usize % allowed.len().max(1)) else { return };
        if constraint.accept(token).is_err() {
            return;
        }
    }
}

#[test]
fn compiling_and_following_take_bounded_memory_and_give_it_back() {
    let limits = ConstraintLimits { max_cached: 2, ..ConstraintLimits::default() };
    let compiler = ConstraintCompiler::new(Arc::new(bytes_base()), limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let tenant = TenantId::from_stored("acme");
    let compile = |spec: ConstraintSpec| runtime.block_on(compiler.compile(&tenant, &Arc::new(spec)));
    compile(ConstraintSpec::JsonObject).unwrap();
    let before = ALLOCATOR.used();
    for (name, spec) in hostile() {
        let mut constraint = None;
        let compiling = ALLOCATOR.peak(|| constraint = Some(compile(spec)));
        let (answer, max_answer) = match constraint.unwrap() {
            Ok(mut constraint) => (ALLOCATOR.peak(|| follow(&mut constraint)), constraint.max_bytes()),
            Err(_) => (0, 0),
        };
        println!(
            "{name}: {} KiB to compile, {} KiB beside its copy for an answer of at most {} KiB",
            compiling >> 10,
            answer >> 10,
            max_answer >> 10
        );
        assert!(compiling <= MAX_COMPILING_BYTES, "{name}: {compiling} bytes of at most {MAX_COMPILING_BYTES}");
        // Half of what is beyond the constant is the copy.
        assert!(answer <= max_answer, "{name}: {answer} bytes of at most {max_answer}");
    }
    let kept = ALLOCATOR.used().saturating_sub(before);
    let limit = limits.max_cached_bytes + (8 << 20);
    assert!(kept <= limit, "{kept} bytes are kept of at most {limit}");
}
