//! Telling whether an export is what was appended, line by line in memory that does not grow. It asks nobody: whoever has an
//! export and heads that were published can do it anywhere.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::hash::{FIRST, hash_of};
use super::line::{Entry, FORMAT, First, Last, written};

/// Longest line that is read: an entry that names all keys of a tenant or all versions of a content has some hundred
/// kilobytes.
const MAX_LINE_BYTES: usize = 16 << 20;

/// A head as it was published: the end of a chain at some hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadLine {
    /// The chain that it is of.
    pub chain: String,
    /// The number of its last entry then.
    pub number: i64,
    /// The hash of that entry.
    pub hash: String,
}

/// Takes the lines of an export in order.
#[derive(Debug)]
pub struct AuditVerifier {
    /// Hashes by chain and number, as they were published.
    heads: BTreeMap<(String, i64), String>,
    num_lines: u64,
    at: At,
}

/// How far it is.
#[derive(Debug)]
enum At {
    Begin,
    Entries(Chain),
    End(Chain),
}

#[derive(Debug)]
struct Chain {
    name: String,
    /// What the export begins after.
    after: i64,
    number: i64,
    hash: String,
    /// Heads that were met.
    num_heads: usize,
}

/// What a good export has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedAudit {
    /// The chain.
    pub chain: String,
    /// Number of the first entry.
    pub first: i64,
    /// Number of the last entry; one less than `first` if there is none.
    pub last: i64,
    /// The last entry's hash.
    pub hash: String,
    /// How many of the heads were met: what came before the highest of them is as it was when that was published.
    pub num_heads: usize,
}

/// The first thing in an export that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    /// A line that no export has.
    #[error("line {line} was changed: it is not written as an export writes it")]
    Line {
        /// From 1.
        line: u64,
    },
    /// An entry whose hash is not over it and the entry before.
    #[error("entry {number} was changed, or the entry before it was exchanged: its hash is over something else")]
    Changed {
        /// Its number.
        number: i64,
    },
    /// Entries are left out.
    #[error("entry {number} is missing: entry {found} stands in its place")]
    Missing {
        /// The first that is missing.
        number: i64,
        /// The one that comes instead.
        found: i64,
    },
    /// An entry that has no place where it stands.
    #[error("entry {found} was put in at line {line}, where entry {number} belongs")]
    PutIn {
        /// The number that belongs there.
        number: i64,
        /// The number that is there.
        found: i64,
        /// From 1.
        line: u64,
    },
    /// The export stops before it says that it ends.
    #[error("the export is cut off after entry {last}: the line that ends it is missing")]
    CutOff {
        /// The last entry that is there; 0 for none.
        last: i64,
    },
    /// The end is of another entry than the last.
    #[error("the export is cut off after entry {last}: its end is of entry {end}")]
    OtherEnd {
        /// The last entry that is there.
        last: i64,
        /// What the end says.
        end: i64,
    },
    /// Something follows the end.
    #[error("line {line} was put in behind the end")]
    BehindEnd {
        /// From 1.
        line: u64,
    },
    /// A published head that is of this chain is not in the export.
    #[error("the chain is cut off after entry {last}: a head was published of entry {head}")]
    BelowHead {
        /// The last entry that is there.
        last: i64,
        /// The head's.
        head: i64,
    },
    /// A published head has another hash than the entry.
    #[error("entry {number} has another hash than its published head: what is before it was written anew")]
    OtherThanHead {
        /// The entry's and the head's.
        number: i64,
    },
    /// The beginning is not there and no head says that it may not be.
    #[error("the entries up to {after} are missing, and no published head is of entry {after}")]
    BeginsLate {
        /// The last that is missing.
        after: i64,
    },
}

impl AuditVerifier {
    /// Holds exports to these heads, whichever chain they are of. Without any, what was rewritten as a whole or left out at
    /// either end cannot be told.
    #[must_use]
    pub fn new(heads: impl IntoIterator<Item = HeadLine>) -> Self {
        let heads = heads.into_iter().map(|head| ((head.chain, head.number), head.hash)).collect();
        Self { heads, num_lines: 0, at: At::Begin }
    }

    /// Takes the next line, with its end.
    ///
    /// # Errors
    /// [`AuditFault`].
    pub fn line(&mut self, line: &[u8]) -> Result<(), AuditFault> {
        self.num_lines += 1;
        let last = match &self.at {
            At::Begin => 0,
            At::Entries(chain) | At::End(chain) => chain.number,
        };
        if line.last() != Some(&b'\n') && line.len() <= MAX_LINE_BYTES {
            return Err(AuditFault::CutOff { last });
        }
        self.at = match std::mem::replace(&mut self.at, At::Begin) {
            At::Begin => At::Entries(self.begin(line)?),
            At::Entries(chain) => self.follow(chain, line)?,
            At::End(_) => return Err(AuditFault::BehindEnd { line: self.num_lines }),
        };
        Ok(())
    }

    /// All lines were there.
    ///
    /// # Errors
    /// [`AuditFault`].
    pub fn finish(self) -> Result<VerifiedAudit, AuditFault> {
        let chain = match self.at {
            At::End(chain) => chain,
            At::Entries(chain) => return Err(AuditFault::CutOff { last: chain.number }),
            At::Begin => return Err(AuditFault::CutOff { last: 0 }),
        };
        let of_chain = (chain.name.clone(), i64::MIN)..=(chain.name.clone(), i64::MAX);
        if let Some(((_, head), _)) = self.heads.range(of_chain).next_back()
            && *head > chain.number
        {
            return Err(AuditFault::BelowHead { last: chain.number, head: *head });
        }
        let Chain { name, after, number, hash, num_heads } = chain;
        Ok(VerifiedAudit { chain: name, first: after + 1, last: number, hash, num_heads })
    }

    fn begin(&self, line: &[u8]) -> Result<Chain, AuditFault> {
        let first: First = self.read(line)?;
        if first.souk_audit != FORMAT || first.after < 0 {
            return Err(AuditFault::Line { line: self.num_lines });
        }
        let First { chain: name, after, after_hash: hash, .. } = first;
        let mut chain = Chain { name, after, number: after, hash, num_heads: 0 };
        if after == 0 {
            let is_first = chain.hash == FIRST;
            return if is_first { Ok(chain) } else { Err(AuditFault::Line { line: self.num_lines }) };
        }
        self.compare_with_head(&mut chain)?;
        // Where heads are known, what is older than all of them may be gone, and nothing else.
        if chain.num_heads == 0 && self.heads.keys().any(|(of, _)| *of == chain.name) {
            return Err(AuditFault::BeginsLate { after });
        }
        Ok(chain)
    }

    fn follow(&self, mut chain: Chain, line: &[u8]) -> Result<At, AuditFault> {
        if line.starts_with(br#"{"end":"#) {
            let Last { end, hash } = self.read(line)?;
            if end != chain.number || hash != chain.hash {
                return Err(AuditFault::OtherEnd { last: chain.number, end });
            }
            return Ok(At::End(chain));
        }
        let entry: Entry = self.read(line)?;
        let (number, found) = (chain.number + 1, entry.number);
        if found > number {
            return Err(AuditFault::Missing { number, found });
        }
        if found < number {
            return Err(AuditFault::PutIn { number, found, line: self.num_lines });
        }
        let row = entry.into_row(&chain.name);
        if hash_of(&chain.hash, &row) != row.hash {
            return Err(AuditFault::Changed { number });
        }
        (chain.number, chain.hash) = (number, row.hash);
        self.compare_with_head(&mut chain)?;
        Ok(At::Entries(chain))
    }

    fn compare_with_head(&self, chain: &mut Chain) -> Result<(), AuditFault> {
        match self.heads.get(&(chain.name.clone(), chain.number)) {
            Some(hash) if *hash != chain.hash => Err(AuditFault::OtherThanHead { number: chain.number }),
            Some(_) => {
                chain.num_heads += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What a line says, if it is written as an export writes it to the byte.
    fn read<T: DeserializeOwned + Serialize>(&self, line: &[u8]) -> Result<T, AuditFault> {
        let fault = || AuditFault::Line { line: self.num_lines };
        if line.len() > MAX_LINE_BYTES {
            return Err(fault());
        }
        let read: T = serde_json::from_slice(line).map_err(|_| fault())?;
        if written(&read).as_bytes() == line { Ok(read) } else { Err(fault()) }
    }
}

#[cfg(test)]
mod tests;
