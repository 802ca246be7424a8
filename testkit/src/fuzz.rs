//! A driver for parsers of bytes from outside: it changes the kept inputs of a target and keeps what the parser answers
//! in a way that none did before.
//!
//! ```text
//! fuzz("peft_config", |bytes| match LoraConfig::parse(bytes) { Ok(_) => "sound".into(), Err(e) => e.to_string() })
//! ```
//!
//! The inputs of a target are the lines of `fuzz/<target>.txt`, where what is not printable is escaped (`\n`, `\x00`). In
//! every run of the tests all of them are parsed, and as many changed ones as fit into a fifth of a second. With `FUZZ_S`
//! it goes on for so many seconds and, with `FUZZ_KEEP`, adds what it found, cut down as far as the answer stays the same.
//! What makes the parser panic is cut down and kept too, as a test that fails until it is mended.
//!
//! An answer is the text that the target returns, without its numbers: the message of an error serves. So no coverage of
//! code is measured, and it runs with the compiler that builds the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Random;

/// How long changed inputs are tried in a run of all tests.
const IN_TESTS: Duration = Duration::from_millis(200);
/// Longest input.
const MAX_BYTES: usize = 8 << 10;
/// What one target may keep; all of them together stay below 200 KB.
const MAX_KEPT_BYTES: usize = 7 << 10;
/// Most that one run adds.
const MAX_FOUND: usize = 64;
/// Answers are told apart by so much of them.
const ANSWER_CHARS: usize = 100;
/// What breaks parsers, beside what the kept inputs are made of.
const EDGES: [&str; 20] = [
    "0",
    "-1",
    "-0",
    "1e999",
    "5e-324",
    "18446744073709551616",
    "9223372036854775807",
    "4294967295",
    "NaN",
    "null",
    "\"",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "é",
    "\0",
    "[[[[[[[[[[[[[[[[",
    "{\"\":",
    "\r\n",
    "%ff",
];

/// Feeds the target `name`. `parse` may answer anything and must not panic; what it asserts is part of the target.
///
/// # Panics
/// If it panics, with the shortest input that was found to do so; if no input is kept, or one cannot be read or written.
#[expect(clippy::disallowed_methods, reason = "how long tests run is no setting of the server")]
pub fn fuzz(name: &str, mut parse: impl FnMut(&[u8]) -> String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(format!("{name}.txt"));
    let seconds = std::env::var("FUZZ_S").ok().map(|seconds| seconds.parse().expect("FUZZ_S is seconds"));
    let mut run = Run::new(&file, &mut parse);
    run.go_on_for(seconds.map_or(IN_TESTS, Duration::from_secs));
    if let Some(input) = run.panicked {
        let input = shortened(&input, |bytes| catch_unwind(AssertUnwindSafe(|| parse(bytes))).is_err());
        if seconds.is_some() {
            add(&file, std::slice::from_ref(&input));
        }
        panic!("{name} panics on {}", input.escape_ascii());
    }
    if seconds.is_some() {
        let mut line = String::new();
        write!(line, "{name}: {} inputs, {} answers, ", run.num_inputs, run.answers.len()).expect("a string takes it");
        write!(line, "slowest {:?} on {}", run.slowest.0, brief(&run.slowest.1)).expect("a string takes it");
        say(&line);
        if std::env::var_os("FUZZ_KEEP").is_some() {
            let until = Instant::now() + Duration::from_secs(seconds.unwrap_or_default()) / 4;
            keep(&file, run.answers, until, &mut parse);
        }
    }
}

/// One run over a target.
struct Run<'a, F> {
    parse: &'a mut F,
    random: Random,
    /// What is changed: the kept inputs, and those with new answers.
    pool: Vec<Vec<u8>>,
    /// What the pool is made of: its words and numbers.
    words: Vec<Vec<u8>>,
    /// An input for each answer, the shortest that came.
    answers: BTreeMap<String, Vec<u8>>,
    num_inputs: u64,
    slowest: (Duration, Vec<u8>),
    panicked: Option<Vec<u8>>,
}

impl<'a, F: FnMut(&[u8]) -> String> Run<'a, F> {
    /// Parses what is kept.
    fn new(file: &Path, parse: &'a mut F) -> Self {
        let pool = kept(file);
        let words: BTreeSet<Vec<u8>> = pool.iter().flat_map(|input| words_of(input)).collect();
        let edges = EDGES.iter().map(|edge| edge.as_bytes().to_vec());
        let mut run = Self {
            parse,
            random: Random::new(7),
            words: words.into_iter().chain(edges).collect(),
            answers: BTreeMap::new(),
            num_inputs: 0,
            slowest: (Duration::ZERO, Vec::new()),
            panicked: None,
            pool: pool.clone(),
        };
        for input in pool {
            run.feed(&input);
        }
        run
    }

    fn go_on_for(&mut self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time && self.panicked.is_none() {
            let input = self.changed();
            if self.feed(&input) {
                self.pool.push(input);
            }
        }
    }

    /// Parses an input; says whether the answer is new.
    fn feed(&mut self, input: &[u8]) -> bool {
        self.num_inputs += 1;
        let began = Instant::now();
        let answer = catch_unwind(AssertUnwindSafe(|| (self.parse)(input)));
        let took = began.elapsed();
        if took > self.slowest.0 {
            self.slowest = (took, input.to_vec());
        }
        let Ok(answer) = answer else {
            self.panicked.get_or_insert_with(|| input.to_vec());
            return false;
        };
        let known = self.answers.entry(kind_of(&answer));
        let is_new = matches!(known, std::collections::btree_map::Entry::Vacant(_));
        let shortest = known.or_insert_with(|| input.to_vec());
        if input.len() < shortest.len() {
            *shortest = input.to_vec();
        }
        is_new
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.random.below(limit as u64)).expect("below a usize")
    }

    /// An input of the pool with a few changes.
    fn changed(&mut self) -> Vec<u8> {
        let at = self.below(self.pool.len());
        let mut bytes = self.pool[at].clone();
        for _ in 0..=self.below(5) {
            self.change(&mut bytes);
        }
        bytes.truncate(MAX_BYTES);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(16)).min(bytes.len());
        match self.below(9) {
            0 => drop(bytes.drain(at..end)),
            1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            2 if at < bytes.len() => bytes[at] = self.random.bytes(1)[0],
            3 => {
                let piece = bytes[at..end].repeat(1 + self.below(40));
                drop(bytes.splice(at..at, piece));
            }
            4 => {
                // The rest of another.
                let other = self.below(self.pool.len());
                let from = self.below(self.pool[other].len() + 1);
                bytes.truncate(at);
                bytes.extend(&self.pool[other][from..]);
            }
            5 => bytes.truncate(at),
            kind => {
                // A word in another's place, or between two.
                let word = self.below(self.words.len());
                let word = self.words[word].clone();
                let place = if kind == 6 { at..at } else { word_at(bytes, at) };
                drop(bytes.splice(place, word));
            }
        }
    }
}

/// An answer as it is told from others: without numbers, and not all of it.
fn kind_of(answer: &str) -> String {
    let mut kind = String::new();
    for character in answer.chars() {
        let character = if character.is_ascii_digit() { '#' } else { character };
        if !(character == '#' && kind.ends_with('#')) {
            kind.push(character);
        }
    }
    kind.chars().take(ANSWER_CHARS).collect()
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn words_of(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let words = bytes.split(|byte| !is_of_word(*byte));
    words.filter(|word| (1..=40).contains(&word.len())).map(<[u8]>::to_vec)
}

/// The word around a place.
fn word_at(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let begin = bytes[..at].iter().rposition(|byte| !is_of_word(*byte)).map_or(0, |place| place + 1);
    let len = bytes[at..].iter().position(|byte| !is_of_word(*byte));
    begin..len.map_or(bytes.len(), |len| at + len)
}

/// The input with all cut out that `is_same` does without: halves first, then smaller and smaller pieces.
fn shortened(input: &[u8], mut is_same: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let mut piece = bytes.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < bytes.len() {
            let without = [&bytes[..at], &bytes[(at + piece).min(bytes.len())..]].concat();
            if is_same(&without) {
                bytes = without;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    bytes
}

/// Adds the inputs of new answers, shortened while there is time, as long as there is room for them.
fn keep(file: &Path, answers: BTreeMap<String, Vec<u8>>, until: Instant, parse: &mut impl FnMut(&[u8]) -> String) {
    // What is cut down may panic where the whole did not; then it is not the same.
    let mut answer_to = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| kind_of(&parse(bytes)))).ok();
    let known: BTreeSet<String> = kept(file).iter().filter_map(|input| answer_to(input)).collect();
    let mut new = Vec::new();
    for (answer, input) in answers.into_iter().filter(|(answer, _)| !known.contains(answer)) {
        let is_same = |bytes: &[u8]| Instant::now() < until && answer_to(bytes).as_ref() == Some(&answer);
        new.push(shortened(&input, is_same));
    }
    new.sort_by_key(Vec::len);
    new.truncate(MAX_FOUND);
    let mut room = MAX_KEPT_BYTES.saturating_sub(std::fs::metadata(file).map_or(0, |meta| meta.len() as usize));
    new.retain(|input| {
        let len = escaped(input).len() + 1;
        let fits = len <= room;
        room -= if fits { len } else { room };
        fits
    });
    add(file, &new);
}

/// The inputs of a file.
fn kept(file: &Path) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(!text.is_empty(), "{} has no input to begin with", file.display());
    text.lines().map(unescaped).collect()
}

fn add(file: &Path, inputs: &[Vec<u8>]) {
    let mut text = std::fs::read_to_string(file).expect("the file was read before");
    inputs.iter().for_each(|input| text += &(escaped(input) + "\n"));
    std::fs::write(file, text).expect("the file can be written");
}

/// Without the escapes of quotes, which a line does not need.
fn escaped(input: &[u8]) -> String {
    input.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

fn unescaped(line: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), line.as_bytes());
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b'r', after @ ..]) => (b'\r', after),
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (digits.unwrap_or_else(|| panic!("two digits after \\x in {line}")), after)
            }
            (b'\\', [other, after @ ..]) => (*other, after),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

fn brief(input: &[u8]) -> String {
    input[..input.len().min(120)].escape_ascii().to_string()
}

#[expect(clippy::print_stdout, reason = "what a long run is for")]
fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics on a nine behind `abc`.
    fn parse(bytes: &[u8]) -> String {
        let at = bytes.windows(3).position(|three| three == b"abc");
        assert!(at.is_none_or(|at| bytes.get(at + 3) != Some(&b'9')), "the planted fault");
        if at.is_some() { "found".to_owned() } else { format!("{} bytes", bytes.len()) }
    }

    fn file_of(inputs: &[&[u8]]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        add(file.path(), &inputs.iter().map(|input| input.to_vec()).collect::<Vec<_>>());
        file
    }

    #[test]
    fn every_byte_comes_back_from_a_line() {
        let all: Vec<u8> = (0..=u8::MAX).chain(*b"\\x4\\\\n\"'\\\"").collect();
        assert!(!escaped(&all).contains('\n'));
        assert_eq!(kept(file_of(&[&all, b"", b"\\"]).path()), [all, Vec::new(), b"\\".to_vec()]);
    }

    #[test]
    fn what_panics_is_found_and_cut_down_to_what_it_takes() {
        let file = file_of(&[b"some text, ab, and 9", b"xyz abcd 1"]);
        let mut planted = parse;
        let mut run = Run::new(file.path(), &mut planted);
        run.go_on_for(Duration::from_secs(20));
        let input = run.panicked.expect("the fault is found");
        let input = shortened(&input, |bytes| catch_unwind(|| parse(bytes)).is_err());
        assert_eq!(input, b"abc9");
    }

    #[test]
    fn what_answers_as_nothing_did_is_kept_once_and_short() {
        let file = file_of(&[b"12345"]);
        let mut parse =
            |bytes: &[u8]| if bytes.contains(&b'"') { "quoted".to_owned() } else { format!("{}", bytes.len()) };
        for _ in 0..2 {
            let mut run = Run::new(file.path(), &mut parse);
            run.go_on_for(Duration::from_millis(300));
            let answers = run.answers;
            assert_eq!(answers.keys().collect::<Vec<_>>(), ["#", "quoted"]);
            keep(file.path(), answers, Instant::now() + Duration::from_secs(20), &mut parse);
        }
        assert_eq!(kept(file.path()), [b"12345".to_vec(), b"\"".to_vec()]);
    }
}
