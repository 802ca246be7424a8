//! Numbers and texts as bytes.

use super::words::MAX_FRAME_BYTES;

/// Bytes that are no frame. The stream that they came on ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Something is longer than it may be.
    #[error("{what} has {given} bytes or parts, and at most {limit} are allowed")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it says that it is.
        given: u64,
        /// How long it may be.
        limit: usize,
    },
    /// The frame ends in the middle of something.
    #[error("the frame ends in the middle of {0}")]
    Cut(&'static str),
    /// The frame goes on after its end.
    #[error("{0} bytes follow the end of a frame")]
    Trailing(usize),
    /// A number stands for nothing, or is not allowed here.
    #[error("{what} cannot be {given}")]
    Value {
        /// What the number is.
        what: &'static str,
        /// The number.
        given: u64,
    },
    /// A text is not UTF-8, or not what its place asks for.
    #[error("{0} is no text that can be read")]
    Text(&'static str),
}

/// Reads a frame's content from its beginning to its end.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(content: &'a [u8]) -> Self {
        Self { left: content }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// That nothing follows.
    pub(super) const fn end(&self) -> Result<(), Malformed> {
        if self.left.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.left.len())) }
    }

    pub(super) fn bytes(&mut self, what: &'static str, num_bytes: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, left) = self.left.split_at_checked(num_bytes).ok_or(Malformed::Cut(what))?;
        self.left = left;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (bytes, left) = self.left.split_first_chunk::<N>().ok_or(Malformed::Cut(what))?;
        self.left = left;
        Ok(*bytes)
    }

    /// A varint of at most 32 bits.
    pub(super) fn number(&mut self, what: &'static str) -> Result<u32, Malformed> {
        let mut value = 0u64;
        for place in 0..5 {
            let byte = self.byte(what)?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| Malformed::Value { what, given: value });
            }
        }
        Err(Malformed::Value { what, given: value })
    }

    /// The length of a list or a text, at most `limit`. Each part of it takes a byte at least, so nobody can ask for room
    /// for more than the frame holds.
    pub(super) fn length(&mut self, what: &'static str, limit: usize) -> Result<usize, Malformed> {
        let given = self.number(what)? as usize;
        if given > limit {
            return Err(Malformed::TooLong { what, given: given as u64, limit });
        }
        if given > self.left.len() { Err(Malformed::Cut(what)) } else { Ok(given) }
    }

    pub(super) fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, Malformed> {
        let length = self.length(what, limit)?;
        std::str::from_utf8(self.bytes(what, length)?).map_err(|_| Malformed::Text(what))
    }

    pub(super) fn flag(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            given => Err(Malformed::Value { what, given: given.into() }),
        }
    }

    pub(super) fn float(&mut self, what: &'static str) -> Result<f32, Malformed> {
        self.array(what).map(f32::from_le_bytes)
    }
}

/// A varint.
pub(super) fn put_number(to: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// A length.
pub(super) fn put_length(to: &mut Vec<u8>, length: usize) {
    debug_assert!(length <= MAX_FRAME_BYTES, "lengths are bounded by who writes");
    put_number(to, u32::try_from(length).unwrap_or(u32::MAX));
}

/// A text, cut to `limit` bytes at the end of a character.
pub(super) fn put_text(to: &mut Vec<u8>, text: &str, limit: usize) {
    let text = &text[..text.floor_char_boundary(limit)];
    put_length(to, text.len());
    to.extend_from_slice(text.as_bytes());
}
