//! What hooks may call, each counted where it acts.

use wasmtime::Result;

use super::generated::souk::hooks::{clock, config, log, random, tokenize, types, variables};
use crate::state::State;

impl types::Host for State {}

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) -> Result<()> {
        Ok(self.write_line(level.into(), message)?)
    }
}

impl config::Host for State {
    fn get(&mut self) -> Result<String> {
        Ok(self.config()?)
    }
}

impl variables::Host for State {
    fn get(&mut self, name: String) -> Result<Option<String>> {
        Ok(self.variable(&name)?)
    }
}

impl clock::Host for State {
    fn now(&mut self) -> Result<u64> {
        Ok(self.clock_s()?)
    }
}

impl random::Host for State {
    fn bytes(&mut self, length: u32) -> Result<Vec<u8>> {
        Ok(self.random_bytes(length)?)
    }
}

impl tokenize::Host for State {
    fn count(&mut self, text: String) -> Result<u32> {
        Ok(self.count_tokens(&text)?)
    }
}
