//! Text as values, as RFC 8259 says and nothing beyond it.

use std::fmt;

use super::Value;

/// Deeper is refused: a hook's stack is small.
const MOST_LEVELS: usize = 64;

/// A text that is not JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct NotJson {
    /// The byte at which it stops being.
    pub at: usize,
}

impl fmt::Display for NotJson {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "not JSON at byte {}", self.at)
    }
}

impl std::error::Error for NotJson {}

/// Reads a text that is one value, with nothing but space around it.
pub fn parse(text: &str) -> Result<Value, NotJson> {
    let mut reader = Reader { text, at: 0 };
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    if reader.at == text.len() { Ok(value) } else { Err(reader.wrong()) }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self) -> NotJson {
        NotJson { at: self.at }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Whether this comes next; then it is taken.
    fn takes(&mut self, expected: &str) -> bool {
        let is_next = self.text.as_bytes()[self.at..].starts_with(expected.as_bytes());
        self.at += if is_next { expected.len() } else { 0 };
        is_next
    }

    fn value(&mut self, level: usize) -> Result<Value, NotJson> {
        if level > MOST_LEVELS {
            return Err(self.wrong());
        }
        match self.byte() {
            Some(b'{') => self.object(level),
            Some(b'[') => self.array(level),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.takes("true") => Ok(Value::Bool(true)),
            _ if self.takes("false") => Ok(Value::Bool(false)),
            _ if self.takes("null") => Ok(Value::Null),
            _ => Err(self.wrong()),
        }
    }

    fn object(&mut self, level: usize) -> Result<Value, NotJson> {
        let mut members = Vec::new();
        self.at += 1;
        self.space();
        if self.takes("}") {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            if self.byte() != Some(b'"') {
                return Err(self.wrong());
            }
            let name = self.string()?;
            self.space();
            if !self.takes(":") {
                return Err(self.wrong());
            }
            self.space();
            members.push((name, self.value(level + 1)?));
            self.space();
            if self.takes("}") {
                return Ok(Value::Object(members));
            }
            if !self.takes(",") {
                return Err(self.wrong());
            }
        }
    }

    fn array(&mut self, level: usize) -> Result<Value, NotJson> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        if self.takes("]") {
            return Ok(Value::Array(items));
        }
        loop {
            self.space();
            items.push(self.value(level + 1)?);
            self.space();
            if self.takes("]") {
                return Ok(Value::Array(items));
            }
            if !self.takes(",") {
                return Err(self.wrong());
            }
        }
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.wrong()) }
    }

    fn number(&mut self) -> Result<Value, NotJson> {
        let start = self.at;
        self.takes("-");
        if !self.takes("0") {
            self.digits()?;
        }
        if self.takes(".") {
            self.digits()?;
        }
        if self.takes("e") || self.takes("E") {
            let _ = self.takes("+") || self.takes("-");
            self.digits()?;
        }
        Ok(Value::Number(self.text[start..self.at].to_owned()))
    }

    fn string(&mut self) -> Result<String, NotJson> {
        let mut text = String::new();
        self.at += 1;
        loop {
            let start = self.at;
            while matches!(self.byte(), Some(byte) if byte != b'"' && byte != b'\\' && byte >= b' ') {
                self.at += 1;
            }
            text.push_str(&self.text[start..self.at]);
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                _ => return Err(self.wrong()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NotJson> {
        let byte = self.byte().ok_or_else(|| self.wrong())?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                let code = match first {
                    0xD800..=0xDBFF if self.takes("\\u") => {
                        let second = self.hex()?;
                        0x10000 + ((first - 0xD800) << 10) + (second.wrapping_sub(0xDC00) & 0x3FF)
                    }
                    code => code,
                };
                // Half a pair is no character; it is shown as what stands for one.
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(self.wrong()),
        })
    }

    fn hex(&mut self) -> Result<u32, NotJson> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or_else(|| self.wrong())?;
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [r#"{"a":[1,-2.50e+3,"x\n\"\\"],"b":{"c":null},"d":true}"#, "[]", "0", r#""é😀""#] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse(r#" "\u00e9\ud83d\ude00\ud83d" "#).unwrap(), Value::String("é😀\u{fffd}".into()));
    }

    #[test]
    fn what_is_not_json_is_refused_where_it_stops_being() {
        for (text, at) in [("", 0), ("[1,]", 3), ("{'a':1}", 1), ("01", 1), ("\"a\nb\"", 2), ("nul", 0), ("1 2", 2)] {
            assert_eq!(parse(text), Err(NotJson { at }), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
