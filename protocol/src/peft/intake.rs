//! Checks a weights file while it arrives, holding its header and nothing else.

use super::config::LoraConfig;
use super::effect::{Effect, EffectSums};
use super::plan::AdapterPlan;
use super::problem::{ProblemList, Problems};
use super::range;
use super::scan::WeightsScan;
use super::tensors::{LENGTH_BYTES, TensorHeader};
use crate::{BaseClaim, BaseModel};

/// Takes `adapter_model.safetensors` in pieces, in order. A file of another format, or with a header that is wrong,
/// is refused as soon as the pieces show it; the rest comes out at the end.
#[derive(Debug)]
pub struct WeightsIntake {
    file_len: u64,
    /// Whether it measures what the adapter does, which takes a while where ranks are high.
    measures: bool,
    state: State,
}

/// An intake that also measures what the adapter does, for its publisher.
#[derive(Debug)]
pub struct MeasuredIntake(WeightsIntake);

#[derive(Debug)]
enum State {
    /// Bytes so far; at most up to the header's end.
    Header(Vec<u8>),
    Data(Box<Data>),
}

#[derive(Debug)]
struct Data {
    header: TensorHeader,
    scan: WeightsScan,
}

impl WeightsIntake {
    /// An intake that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { file_len: 0, measures: false, state: State::Header(Vec::new()) }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// What is wrong with the header. The upload may be broken off; the intake is of no further use.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Problems> {
        self.file_len += piece.len() as u64;
        match &mut self.state {
            State::Data(data) => data.scan.push(piece),
            State::Header(start) => {
                let rest = fill(start, piece, LENGTH_BYTES);
                if start.len() < LENGTH_BYTES {
                    return Ok(());
                }
                // The header's length is checked before as much as it says is kept.
                let needed = TensorHeader::bytes_needed(start)?;
                let rest = fill(start, rest, needed);
                if start.len() < needed {
                    return Ok(());
                }
                let header = TensorHeader::parse(start)?;
                let mut scan = WeightsScan::new(&header, self.measures);
                scan.push(rest);
                self.state = State::Data(Box::new(Data { header, scan }));
            }
        }
        Ok(())
    }

    /// Ends the file and judges an adapter that was judged when it was published: `config` is all of
    /// `adapter_config.json`.
    ///
    /// # Errors
    /// Everything that is wrong with either file.
    pub fn finish(self, config: &[u8], base: &BaseModel) -> Result<AdapterPlan, Problems> {
        self.end(config, base, BaseClaim::Settled).map(|(plan, _)| plan)
    }

    fn end(self, config: &[u8], base: &BaseModel, claim: BaseClaim<'_>) -> Result<(AdapterPlan, EffectSums), Problems> {
        let mut problems = ProblemList::default();
        let (header, scan) = match self.state {
            State::Header(start) => {
                // A header that ends with the file describes no data.
                let plan = AdapterPlan::check_claimed(config, &start, self.file_len, base, claim)?;
                return Ok((plan, EffectSums::default()));
            }
            State::Data(data) => (data.header, data.scan),
        };
        let config = LoraConfig::read(config, &mut problems);
        if let Err(problem) = header.check_file_len(self.file_len) {
            problems.push(problem);
        }
        let plan = AdapterPlan::match_up(config.as_ref(), &header, base, claim, &mut problems);
        match scan.finish() {
            Ok(sums) => problems.into_result((plan, sums)),
            Err(found) => {
                problems.append(found);
                Err(problems.into_problems().expect("a number that is not finite is a problem"))
            }
        }
    }
}

impl MeasuredIntake {
    /// An intake that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(WeightsIntake { measures: true, ..WeightsIntake::new() })
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// As for [`WeightsIntake::push`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Problems> {
        self.0.push(piece)
    }

    /// Ends the file and judges the adapter: `config` is all of `adapter_config.json`. Comes with what the adapter
    /// does, even if that is nothing.
    ///
    /// # Errors
    /// Everything that is wrong with either file, and with what `claim` says of the base.
    pub fn judge(
        self,
        config: &[u8],
        base: &BaseModel,
        claim: BaseClaim<'_>,
    ) -> Result<(AdapterPlan, Effect), Problems> {
        let (plan, sums) = self.0.end(config, base, claim)?;
        let mut problems = ProblemList::default();
        range::check(&plan, &sums, &mut problems);
        let effect = sums.of_plan(&plan);
        problems.into_result((plan, effect))
    }
}

impl Default for MeasuredIntake {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for WeightsIntake {
    fn default() -> Self {
        Self::new()
    }
}

/// Moves the front of `piece` to `start` until that has `len` bytes, and returns what is left of the piece.
fn fill<'a>(start: &mut Vec<u8>, piece: &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = piece.split_at(len.saturating_sub(start.len()).min(piece.len()));
    start.extend_from_slice(taken);
    rest
}
