//! A value written again without white space, its numbers and escapes in one form.

use std::fmt;
use std::io;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::text::TextVisitor;

/// Writes what it reads.
pub(super) struct Compact<'b>(pub(super) &'b mut Counted);

impl<'a> DeserializeSeed<'a> for Compact<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Compact<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.value(&())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.0.value(&value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.0.value(&value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.0.value(&value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.0.value(&value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.0.value(value)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut items: S) -> Result<(), S::Error> {
        self.0.sign(b"[");
        let begin = self.0.len;
        loop {
            let before = self.0.len;
            if before > begin {
                self.0.sign(b",");
            }
            if items.next_element_seed(Compact(self.0))?.is_none() {
                self.0.take_back(self.0.len - before);
                break;
            }
        }
        self.0.sign(b"]");
        Ok(())
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        self.0.sign(b"{");
        let mut is_first = true;
        while let Some(name) = map.next_key_seed(TextVisitor)? {
            if !std::mem::replace(&mut is_first, false) {
                self.0.sign(b",");
            }
            self.0.value::<M::Error>(&*name)?;
            self.0.sign(b":");
            map.next_value_seed(Compact(self.0))?;
        }
        self.0.sign(b"}");
        Ok(())
    }
}

/// Bytes up to a number of them, and how many there were.
pub(super) struct Counted {
    bytes: Vec<u8>,
    len: usize,
    most: usize,
}

impl Counted {
    pub(super) const fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), len: 0, most }
    }

    /// What was kept, and how many bytes there were.
    pub(super) fn finish(self) -> (String, usize) {
        (String::from_utf8(self.bytes).unwrap_or_default(), self.len)
    }

    fn value<E: serde::de::Error>(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(self, value).map_err(E::custom)
    }

    fn sign(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if self.len <= self.most {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn take_back(&mut self, num: usize) {
        self.len -= num;
        self.bytes.truncate(self.len);
    }
}

impl io::Write for &mut Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sign(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
