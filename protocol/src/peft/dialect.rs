//! Expressions in the dialect of Python's `re`, read for the engines that run them here. What Python knows and these
//! engines read differently is written in their way; what only they know is refused, since no trainer can have used it.

/// An expression that every reader takes alike.
#[derive(Debug)]
pub(super) struct Expression {
    /// The expression for the engines.
    pub(super) text: String,
    /// Whether it has what linear time cannot do: look-around, backreferences, atomic groups, conditionals.
    pub(super) needs_backtracking: bool,
    /// The expression with every such construct as a plain group or letter. Compiled it is at least as large as all
    /// parts that the backtracking engine compiles together, which has no limit of its own.
    pub(super) measured: String,
}

impl Expression {
    /// Reads `text`, or says what in it is not Python's or means different things to different readers.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        let mut reader = Reader {
            rest: text,
            expression: Self { text: String::new(), needs_backtracking: false, measured: String::new() },
        };
        while !reader.rest.is_empty() {
            reader.step()?;
        }
        Ok(reader.expression)
    }
}

const NOT_PYTHONS: &str = "it has an escape that Python's `re` does not know";
const UNKNOWN_GROUP: &str = "it has a kind of group that Python's `re` does not know";

struct Reader<'a> {
    rest: &'a str,
    expression: Expression,
}

impl Reader<'_> {
    fn step(&mut self) -> Result<(), &'static str> {
        match self.rest.as_bytes() {
            [b'\\', ..] => self.escape(),
            [b'[', ..] => self.class(),
            [b'(', b'?', ..] => self.group(),
            [b'(', b'*', ..] => Err(UNKNOWN_GROUP),
            [b'*' | b'+' | b'?' | b'}', b'+', ..] => {
                // Possessive.
                self.keep(1);
                self.special(1, "");
                Ok(())
            }
            _ => {
                self.keep(self.rest.chars().next().map_or(1, char::len_utf8));
                Ok(())
            }
        }
    }

    /// Takes `len` bytes as they are.
    fn keep(&mut self, len: usize) {
        let (taken, rest) = self.rest.split_at(len);
        self.expression.text.push_str(taken);
        self.expression.measured.push_str(taken);
        self.rest = rest;
    }

    /// Takes `len` bytes that need backtracking.
    fn special(&mut self, len: usize, measured: &str) {
        let (taken, rest) = self.rest.split_at(len);
        self.expression.text.push_str(taken);
        self.expression.measured.push_str(measured);
        self.expression.needs_backtracking = true;
        self.rest = rest;
    }

    fn escape(&mut self) -> Result<(), &'static str> {
        match &self.rest.as_bytes()[1..] {
            [] => Err("it ends with a backslash"),
            // The end of the text to Python; to others before a last line break too, which no path has.
            [b'Z', ..] => {
                self.expression.text.push_str(r"\z");
                self.expression.measured.push_str(r"\z");
                self.rest = &self.rest[2..];
                Ok(())
            }
            after @ [b'1'..=b'9', ..] => {
                let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
                if digits > 2 {
                    return Err("octal escapes are not supported");
                }
                self.special(1 + digits, "x");
                Ok(())
            }
            after => {
                let len = escape_len(after)?;
                self.keep(1 + len);
                Ok(())
            }
        }
    }

    fn class(&mut self) -> Result<(), &'static str> {
        let bytes = self.rest.as_bytes();
        let mut index = 1;
        if bytes.get(index) == Some(&b'^') {
            index += 1;
        }
        // A bracket that comes first is a member of the class to all readers.
        if bytes.get(index) == Some(&b']') {
            index += 1;
        }
        loop {
            match &bytes[index.min(bytes.len())..] {
                [] => return Err("unclosed character class"),
                [b']', ..] => break,
                [b'[', ..] => return Err("`[` inside a character class means different things to different readers"),
                [one @ (b'&' | b'-' | b'~' | b'|'), other, ..] if one == other => {
                    return Err("set operations in a character class (`&&`, `--`, `~~`) are not supported");
                }
                [b'\\', b'A' | b'B' | b'Z', ..] => return Err(NOT_PYTHONS),
                [b'\\', b'1'..=b'9', ..] => return Err("octal escapes are not supported"),
                [b'\\', after @ ..] => index += 1 + escape_len(after)?,
                _ => index += 1,
            }
        }
        self.keep(index + 1);
        Ok(())
    }

    fn group(&mut self) -> Result<(), &'static str> {
        // Within a look-around or a conditional stands at least a letter, so that repeating it has a size.
        const AS_GROUP: &str = "(?:x";
        let starts = |mark: &str| self.rest.starts_with(mark);
        if let Some(mark) = ["(?=", "(?!", "(?<=", "(?<!", "(?>"].into_iter().find(|mark| starts(mark)) {
            self.special(mark.len(), AS_GROUP);
            return Ok(());
        }
        if starts("(?P=") {
            let end = self.rest.find(')').ok_or("unclosed group")?;
            self.special(end + 1, "x");
            return Ok(());
        }
        if starts("(?(") {
            let end = self.rest.find(')').ok_or("unclosed group")?;
            self.special(end + 1, AS_GROUP);
            return Ok(());
        }
        if starts("(?#") {
            let end = self.rest.find(')').ok_or("unclosed group")?;
            self.rest = &self.rest[end + 1..];
            return Ok(());
        }
        if starts("(?P<") {
            self.keep("(?P<".len());
            return Ok(());
        }
        self.flags()
    }

    /// `(?i)`, `(?s-i:` and `(?:`.
    fn flags(&mut self) -> Result<(), &'static str> {
        let flags = self.rest[2..].find(|c: char| !matches!(c, 'a' | 'i' | 'm' | 's' | 'u' | '-'));
        let end = 2 + flags.ok_or("unclosed group")?;
        match self.rest.as_bytes()[end] {
            b':' | b')' => {
                // Paths are ASCII, so `a` and `u` make no difference, and others do not know them.
                let kept: String = self.rest[2..end].chars().filter(|flag| !matches!(flag, 'a' | 'u')).collect();
                let close = char::from(self.rest.as_bytes()[end]);
                let written = match (kept.as_str(), close) {
                    ("", ')') => String::new(),
                    (kept, close) => format!("(?{kept}{close}"),
                };
                self.expression.text.push_str(&written);
                self.expression.measured.push_str(&written);
                self.rest = &self.rest[end + 1..];
                Ok(())
            }
            b'x' | b'L' => Err("the flags `x` and `L` are not supported"),
            _ => Err(UNKNOWN_GROUP),
        }
    }
}

/// How many bytes an escape has behind its backslash, where all readers know it.
fn escape_len(after: &[u8]) -> Result<usize, &'static str> {
    let hex = |digits: usize| {
        let is_hex = after.get(1..=digits).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if is_hex { Ok(1 + digits) } else { Err(NOT_PYTHONS) }
    };
    match after {
        [b'b' | b'B', b'{', ..] => Err(NOT_PYTHONS),
        [
            b'A' | b'b' | b'B' | b'd' | b'D' | b's' | b'S' | b'w' | b'W' | b'a' | b'f' | b'n' | b'r' | b't' | b'v',
            ..,
        ] => Ok(1),
        [b'x', ..] => hex(2),
        [b'u', ..] => hex(4),
        [b'U', ..] => hex(8),
        [b'0', ..] => Err("octal escapes are not supported"),
        [byte, ..] if byte.is_ascii_alphanumeric() => Err(NOT_PYTHONS),
        // Word boundaries to one of the engines.
        [b'<' | b'>', ..] => Err("`\\<` and `\\>` mean different things to different readers; leave out the backslash"),
        [byte, ..] if byte.is_ascii() => Ok(1),
        _ => Err("it escapes a letter that needs none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_readers_take_alike_stays_as_it_is() {
        for text in [
            r".*\.(q|v)_proj",
            r"model\.layers\.[\d]{1,}\.(?:mlp)\b",
            "(?i)a|b",
            "(?P<part>a)[]a-z^]",
            r"\x61\u0062[\-\]]\-\.\ ",
            "(?s-i:.)",
        ] {
            let read = Expression::read(text).unwrap();
            assert_eq!((read.text.as_str(), read.needs_backtracking), (text, false));
            assert_eq!(read.measured, text);
        }
    }

    #[test]
    fn what_python_writes_in_its_own_way_is_rewritten() {
        for (text, written) in
            [(r"a\Z", r"a\z"), ("a(?#why)b", "ab"), ("(?u)a", "a"), ("(?ai)a", "(?i)a"), ("(?a:b)", "(?:b)")]
        {
            assert_eq!(Expression::read(text).unwrap().text, written);
        }
    }

    #[test]
    fn what_linear_time_cannot_do_is_measured_as_plain_groups() {
        for (text, measured) in [
            ("(?=a)b", "(?:xa)b"),
            ("(?<!a)b", "(?:xa)b"),
            (r"(a)\1", "(a)x"),
            ("(?P<n>a)(?P=n)", "(?P<n>a)x"),
            ("(a)?(?(1)b|c)", "(a)?(?:xb|c)"),
            ("(?>a)b++", "(?:xa)b+"),
        ] {
            let read = Expression::read(text).unwrap();
            assert_eq!((read.text.as_str(), read.measured.as_str()), (text, measured));
            assert!(read.needs_backtracking);
        }
    }

    #[test]
    fn what_python_does_not_know_is_refused() {
        for text in [
            r"\p{L}",
            r"\h",
            r"\K",
            r"\G",
            r"\R",
            r"\z",
            r"\g<1>",
            r"\k<a>",
            r"\<",
            r"\b{start}",
            "(?<name>a)",
            "(?|a)",
            "(?~a)",
            "(?&a)",
            "(?P>a)",
            "(*FAIL)",
            "[[a]b]",
            "[a&&b]",
            "[a",
            "(?x) a",
            r"\012",
            r"\123",
            r"[\1]",
            "\\",
            r"\é",
            "(?",
            "(?i",
        ] {
            assert!(Expression::read(text).is_err(), "{text}");
        }
    }
}
