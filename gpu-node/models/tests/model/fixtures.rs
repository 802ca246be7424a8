//! The real base model with the reference adapters, teacher-forced over the reference's own tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use souk_models::adapter::pack;
use souk_models::base::{LlamaWeights, LoadedBase};
use souk_models::llama::LlamaRunner;
use souk_protocol::manifest::{CONFIG_FILE, WEIGHTS_FILE};
use souk_protocol::peft::AdapterPlan;
use souk_protocol::{BaseModel, Digest};
use souk_runner::{DeviceAdapter, ModelRunner};

use crate::driver::{Adapters, Sequence, argmax, load, log_softmax, run_alone, run_together, runner};

/// Positions where the reference's own choice is closer than this are a toss-up.
const LEAST_MARGIN: f64 = 0.05;
/// Share of the other positions in which our first choice must be the reference's.
const LEAST_AGREEMENT: f64 = 0.97;
/// Most that the logprob of the reference's first choice may differ, on average.
const MOST_DIFFERENCE: f64 = 0.05;

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    top5: Vec<Top>,
}

#[derive(Deserialize)]
struct Top {
    ids: Vec<u32>,
    logprobs: Vec<f64>,
}

/// How near our logits are to a reference.
#[derive(Default)]
struct Parity {
    num_positions: usize,
    num_clear: usize,
    num_agreed: usize,
    sum_difference: f64,
}

impl Parity {
    fn agreement(&self) -> f64 {
        self.num_agreed as f64 / self.num_clear as f64
    }

    fn difference(&self) -> f64 {
        self.sum_difference / self.num_positions as f64
    }

    fn holds(&self) -> bool {
        self.agreement() >= LEAST_AGREEMENT && self.difference() <= MOST_DIFFERENCE
    }

    fn print(&self, name: &str) {
        let (agreed, clear) = (self.num_agreed, self.num_clear);
        println!("{name:<28} {agreed:>5}/{clear:<4} {:>7.2} %  {:.5}", 100.0 * self.agreement(), self.difference());
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/adapters")
}

/// The cached base model.
pub(crate) fn smollm2() -> LoadedBase {
    let cache = std::env::var_os("SOUK_CACHE_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
        std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("souk")
    });
    let path = cache.join("models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.exists(), "{} is missing; run: make models", path.display());
    load(&path, &cache).expect("the cached model is sound")
}

fn expected(name: &str) -> Expected {
    let path = fixtures().join(format!("{name}.expected.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Feeds every case of a fixture with `adapters` and compares with what the reference said.
fn parity(runner: &mut LlamaRunner, expected: &Expected, adapters: &Adapters) -> Parity {
    let mut sequences: Vec<_> = expected
        .cases
        .iter()
        .map(|case| {
            let known = &case.greedy_ids[..case.greedy_ids.len() - 1];
            let mut sequence = Sequence::new([&case.prompt_ids[..], known].concat(), &[]);
            sequence.adapters = Arc::clone(adapters);
            sequence
        })
        .collect();
    let chunk = runner.limits().max_rows / sequences.len();
    run_together(runner, &mut sequences, |_, _| chunk);
    let mut parity = Parity::default();
    for (case, sequence) in expected.cases.iter().zip(&sequences) {
        let answers = &sequence.logits[case.prompt_ids.len() - 1..];
        assert_eq!(answers.len(), case.top5.len());
        for (logits, top) in answers.iter().zip(&case.top5) {
            let first = top.ids[0];
            parity.num_positions += 1;
            parity.sum_difference += (log_softmax(logits)[first as usize] - top.logprobs[0]).abs();
            if top.logprobs[0] - top.logprobs[1] > LEAST_MARGIN {
                parity.num_clear += 1;
                parity.num_agreed += usize::from(argmax(logits) == first);
            }
        }
    }
    parity
}

#[test]
#[cfg_attr(not(has_shared), ignore = "needs ../shared/fixtures")]
fn the_base_model_answers_as_the_reference_does() {
    let base = smollm2();
    assert_eq!(base.model.id, "smollm2-135m-instruct");
    let mut runner = runner(&Arc::new(base.weights), 2);
    let parity = parity(&mut runner, &expected("base"), &Adapters::from([]));
    parity.print("base");
    assert!(parity.holds());
}

#[test]
#[cfg_attr(not(has_shared), ignore = "needs ../shared/fixtures")]
fn every_reference_adapter_answers_as_the_reference_does_and_not_without_it() {
    let LoadedBase { model, weights } = smollm2();
    let weights = Arc::new(weights);
    let mut runner = runner(&weights, 2);
    println!("{:<28} {:>20}  mean |logprob difference|", "adapter", "first choice agrees");
    let mut failures = Vec::new();
    for name in adapter_names() {
        let expected = expected(&name);
        let adapter = fixture_adapter(&name, &model, &weights);
        let with = parity(&mut runner, &expected, &Adapters::from([(adapter, 1.0)]));
        let without = parity(&mut runner, &expected, &Adapters::from([]));
        with.print(&name);
        without.print(&format!("{name}, ignored"));
        if !with.holds() {
            failures.push(format!("{name} does not answer as the reference does"));
        }
        if without.holds() {
            failures.push(format!("{name}: the criterion does not see that the adapter is ignored"));
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
#[cfg_attr(not(has_shared), ignore = "needs ../shared/fixtures")]
fn the_real_model_gives_the_same_bits_alone_and_with_every_adapter_in_the_batch() {
    let LoadedBase { model, weights } = smollm2();
    let weights = Arc::new(weights);
    let names = adapter_names();
    let adapters: Vec<_> = names.iter().map(|name| fixture_adapter(name, &model, &weights)).collect();
    let prompt = &expected("base").cases[0].prompt_ids;
    let sequences = || -> Vec<Sequence> {
        let base = Sequence::new(prompt.repeat(4), &[]);
        let adapted = adapters.iter().map(|adapter| Sequence::new(prompt.repeat(4), &[(adapter, 1.0)]));
        [base].into_iter().chain(adapted).collect()
    };
    let (mut one, mut two) = (runner(&weights, 1), runner(&weights, 2));
    let alone: Vec<_> = sequences().into_iter().map(|sequence| run_alone(&mut one, sequence)).collect();
    let mut together = sequences();
    run_together(&mut two, &mut together, |index, step| 1 + (index + step) % 5);
    for (index, (alone, together)) in alone.iter().zip(&together).enumerate() {
        let bits = |rows: &[Vec<f32>]| rows.iter().flatten().map(|logit| logit.to_bits()).collect::<Vec<_>>();
        assert!(bits(alone) == bits(&together.logits), "sequence {index} differs in the batch");
    }
}

fn adapter_names() -> Vec<String> {
    let entries = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(!names.is_empty(), "there are fixtures");
    names
}

/// Checks and packs a fixture as the store does.
fn fixture_adapter(name: &str, model: &BaseModel, weights: &LlamaWeights) -> Arc<DeviceAdapter> {
    let folder = fixtures().join(name);
    let config = fs::read(folder.join(CONFIG_FILE)).unwrap();
    let file = fs::read(folder.join(WEIGHTS_FILE)).unwrap();
    let plan = AdapterPlan::check(&config, &file, file.len() as u64, model).expect(name);
    let data = &file[plan.data_start as usize..];
    Arc::new(Arc::new(pack(Digest::of(&file), &plan, data, weights).expect(name)).on_cpu())
}
