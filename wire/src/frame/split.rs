//! Frames out of bytes that come in pieces.

use bytes::{Buf as _, Bytes, BytesMut};

use super::reader::Malformed;
use super::words::MAX_FRAME_BYTES;

/// Room that is kept between frames.
const KEPT_BYTES: usize = 16 << 10;

/// Cuts a stream of bytes into frames. Holds one frame at most that is not whole.
#[derive(Debug, Default)]
pub struct Splitter {
    bytes: BytesMut,
}

impl Splitter {
    /// Takes bytes in as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, its kind first; `None` where more has to come.
    ///
    /// # Errors
    /// [`Malformed`] if the frame is longer than [`MAX_FRAME_BYTES`] or empty. Nothing good follows then.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(length) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(Malformed::TooLong { what: "a frame", given: length as u64, limit: MAX_FRAME_BYTES });
        }
        if length == 0 {
            return Err(Malformed::Cut("a frame's kind"));
        }
        if self.bytes.len() < 4 + length {
            return Ok(None);
        }
        self.bytes.advance(4);
        let frame = self.bytes.split_to(length).freeze();
        if self.bytes.is_empty() && length > KEPT_BYTES {
            // A large frame was the exception: its room goes with it.
            self.bytes = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// Bytes of a frame that is not whole yet.
    #[must_use]
    pub fn num_unread(&self) -> usize {
        self.bytes.len()
    }
}
