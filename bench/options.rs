//! What the benchmarks in process share: their command line, and where the base model lies.

use std::path::{Path, PathBuf};

use serde_json::Value;
use souk_models::base::{self, BaseSource, FetchConfig, LoadedBase};

/// What the command line asks for; `SOUK_BENCH_THREADS` sets the compute threads.
pub(crate) struct Options {
    /// Everything very short, to see that it works.
    pub(crate) quick: bool,
    /// What is measured; all where nothing is named.
    pub(crate) only: Option<Vec<String>>,
    pub(crate) num_threads: usize,
    rounds: Option<u32>,
    json: Option<PathBuf>,
}

impl Options {
    pub(crate) fn read() -> Self {
        let arguments: Vec<String> = std::env::args().collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        let threads = std::env::var("SOUK_BENCH_THREADS").ok().and_then(|text| text.parse().ok());
        Self {
            quick: arguments.iter().any(|argument| argument == "--quick"),
            only: value("--only").map(|names| names.split(',').map(str::to_owned).collect()),
            num_threads: threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
            rounds: value("--rounds").and_then(|text| text.parse().ok()),
            json: value("--json").map(PathBuf::from),
        }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|names| names.iter().any(|one| one == name))
    }

    /// How often what is compared takes its turn, at least once.
    pub(crate) fn rounds(&self, standing: u32) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { standing }).max(1)
    }

    /// Writes the figures where that is asked for.
    pub(crate) fn write(&self, figures: &Value) {
        if let Some(path) = &self.json {
            std::fs::write(path, format!("{figures:#}\n")).expect("the file can be written");
        }
    }
}

/// SmolLM2-135M from the cache.
pub(crate) fn load_base() -> LoadedBase {
    let source: BaseSource = "smollm2-135m-instruct".parse().expect("a known model");
    base::load(&source, &FetchConfig::new(cache_dir()), &mut |_| {}).expect("run: make models")
}

fn cache_dir() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cache"));
    cache.or_else(home).expect("a home folder").join("souk")
}
