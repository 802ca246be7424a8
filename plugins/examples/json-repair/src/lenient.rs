//! Reads what was meant to be JSON.

use souk_hook::json::Value;

/// Deeper is not read: a hook's stack is small.
const MOST_LEVELS: usize = 64;

/// The first object or array of a text, whatever is around it; nothing if there is none.
pub fn parse(text: &str) -> Option<Value> {
    let start = begins(text)?;
    let mut reader = Reader { text: &text[start..], at: 0 };
    reader.value(0)
}

/// Where it begins: in a fence if there is one, else at the first bracket.
fn begins(text: &str) -> Option<usize> {
    let bracket = |from: usize| text[from..].find(['{', '[']).map(|at| from + at);
    let fence = text.find("```").and_then(|fence| bracket(fence + 3));
    fence.or_else(|| bracket(0))
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, expected: &str) -> bool {
        let is_next = self.rest().starts_with(expected);
        self.at += if is_next { expected.len() } else { 0 };
        is_next
    }

    /// Space and comments.
    fn space(&mut self) {
        loop {
            let rest = self.rest();
            let end = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            } else {
                rest.len() - rest.trim_start().len()
            };
            if end == 0 {
                return;
            }
            self.at += end;
        }
    }

    fn value(&mut self, level: usize) -> Option<Value> {
        if level > MOST_LEVELS {
            return None;
        }
        match self.next()? {
            '{' => self.object(level),
            '[' => self.array(level),
            '"' | '\'' | '“' | '”' | '‘' | '’' | '`' => Some(Value::String(self.string())),
            _ => Some(self.bare()),
        }
    }

    fn object(&mut self, level: usize) -> Option<Value> {
        let mut members: Vec<(String, Value)> = Vec::new();
        self.at += 1;
        loop {
            self.space();
            if self.take(",") {
                continue;
            }
            // The end, or what was cut off before it.
            if self.take("}") || self.rest().is_empty() {
                return Some(Value::Object(members));
            }
            // A bracket of another kind closes what is around this; it is left for that.
            if self.rest().starts_with(']') {
                return Some(Value::Object(members));
            }
            let name = match self.next()? {
                '"' | '\'' | '“' | '”' | '‘' | '’' | '`' => self.string(),
                _ => self.word(&[':', '}', ',']).to_owned(),
            };
            self.space();
            if !self.take(":") && !self.take("=>") && !self.take("=") {
                // A name without a value was cut off, or is no name.
                if self.rest().is_empty() {
                    return Some(Value::Object(members));
                }
                if name.is_empty() {
                    self.skip_character();
                }
                continue;
            }
            self.space();
            if self.rest().is_empty() {
                return Some(Value::Object(members));
            }
            let value = if self.rest().starts_with([',', '}']) { Value::Null } else { self.value(level + 1)? };
            match members.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => members.push((name, value)),
            }
        }
    }

    fn array(&mut self, level: usize) -> Option<Value> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.space();
            if self.take(",") {
                continue;
            }
            if self.take("]") || self.rest().is_empty() || self.rest().starts_with('}') {
                return Some(Value::Array(items));
            }
            let before = self.at;
            items.push(self.value(level + 1)?);
            if self.at == before {
                items.pop();
                self.skip_character();
            }
        }
    }

    fn skip_character(&mut self) {
        self.at += self.next().map_or(0, char::len_utf8);
    }

    /// A text in quotes of any kind, with line ends in it if it has some; up to the end where the quote is missing.
    fn string(&mut self) -> String {
        let open = self.next().unwrap_or('"');
        self.at += open.len_utf8();
        let mut text = String::new();
        while let Some(character) = self.next() {
            self.at += character.len_utf8();
            match character {
                '\\' => self.escape(&mut text),
                _ if closes(open, character) && self.is_end_of_string() => break,
                other => text.push(other),
            }
        }
        text
    }

    /// A quote that is followed by what cannot follow a string was meant as a character of it.
    fn is_end_of_string(&self) -> bool {
        let rest = self.rest().trim_start();
        let is_spaced = rest.len() < self.rest().len();
        rest.is_empty()
            || rest.starts_with([',', ':', '}', ']', '='])
            || (is_spaced && rest.starts_with(['"', '\'', '/']))
    }

    fn escape(&mut self, text: &mut String) {
        let Some(character) = self.next() else { return };
        self.at += character.len_utf8();
        match character {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'u' => {
                let first = self.hex();
                let code = match first {
                    Some(high @ 0xD800..=0xDBFF) if self.take("\\u") => {
                        self.hex().map(|low| 0x10000 + ((high - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF))
                    }
                    code => code,
                };
                text.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            other => text.push(other),
        }
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4)?;
        let code = u32::from_str_radix(digits, 16).ok()?;
        self.at += 4;
        Some(code)
    }

    /// A text without quotes, up to one of these or the line's end.
    fn word(&mut self, ends: &[char]) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|character: char| ends.contains(&character) || character == '\n').unwrap_or(rest.len());
        self.at += end;
        rest[..end].trim()
    }

    /// A number or a word of JSON, of Python or of JavaScript; anything else is a text without quotes.
    fn bare(&mut self) -> Value {
        let word = self.word(&[',', '}', ']']);
        match word {
            "true" | "True" | "TRUE" => Value::Bool(true),
            "false" | "False" | "FALSE" => Value::Bool(false),
            "null" | "None" | "NULL" | "undefined" | "NaN" | "" => Value::Null,
            _ => number(word).unwrap_or_else(|| Value::String(word.to_owned())),
        }
    }
}

fn closes(open: char, character: char) -> bool {
    match open {
        '“' | '”' => matches!(character, '“' | '”'),
        '‘' | '’' => matches!(character, '‘' | '’'),
        _ => character == open,
    }
}

/// A number as JSON writes it: `.5`, `+1`, `1.` and `1_000` are numbers elsewhere.
fn number(word: &str) -> Option<Value> {
    let digits = word.trim_start_matches('+').replace('_', "");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let whole = if digits.starts_with('.') { "0" } else { "" };
    let fraction = if digits.ends_with('.') { "0" } else { "" };
    let written = format!("{sign}{whole}{digits}{fraction}");
    matches!(souk_hook::json::parse(&written), Ok(Value::Number(_))).then_some(Value::Number(written))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_was_meant_is_read() {
        for (text, meant) in [
            ("Sure!\n```json\n{\"a\": 1}\n```\nThat is it.", r#"{"a":1}"#),
            ("{'a': 'it''s', b: True, \"c\": None,}", r#"{"a":"it''s","b":true,"c":null}"#),
            ("{\"a\": [1, 2, {\"b\": \"cut o", r#"{"a":[1,2,{"b":"cut o"}]}"#),
            ("{\"a\": 1 // one\n \"b\": 2}", r#"{"a":"1 // one","b":2}"#),
            ("{\"a\": 1, // one\n \"b\": 2}", r#"{"a":1,"b":2}"#),
            ("{\"a\": \"say \"hello\" please\"}", r#"{"a":"say \"hello\" please"}"#),
            ("{\"a\": \"b\" \"c\": \"d\"\n\"e\": [1 2]}", r#"{"a":"b","c":"d","e":["1 2"]}"#),
            ("{\"a\": \"two\nlines\"}", r#"{"a":"two\nlines"}"#),
            ("[.5, +1, 1., -2e3, 1_000, one two]", r#"[0.5,1,1.0,-2e3,1000,"one two"]"#),
            ("{“a”: “b”}", r#"{"a":"b"}"#),
            ("{\"a\": 1, \"a\": 2, \"b\"", r#"{"a":2}"#),
            ("{\"a\": , \"b\":", r#"{"a":null}"#),
            ("[{\"a\": 1]", r#"[{"a":1}]"#),
            ("{\"a\": \"\\ud83d\\ude00\\q\"}", r#"{"a":"😀q"}"#),
        ] {
            assert_eq!(parse(text).map(|value| value.to_string()).as_deref(), Some(meant), "{text}");
        }
    }

    #[test]
    fn any_text_comes_to_an_end() {
        assert_eq!(parse("no JSON here"), None);
        assert_eq!(parse(&"[".repeat(10_000)), None);
        for text in
            ["{:", "{{", "[}", "{]", "[:]", "{,,,", "{=>", "{\"", "[\\", "{é", "{\"\\u12", "{\"a\"\u{301}:1}", "/*{"]
        {
            parse(text);
            souk_hook::json::parse(&parse(text).map_or("null".into(), |value| value.to_string())).unwrap();
        }
    }
}
