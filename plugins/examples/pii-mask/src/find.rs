//! Where a text has personal data: by form, and by check digits where there are any, so that order numbers stay what they are.

use std::ops::Range;

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// An address of e-mail.
    Email,
    /// An account, whose check digits are right.
    Iban,
    /// A card, whose check digit is right.
    Card,
    /// A telephone.
    Phone,
    /// An address of a machine.
    Ip,
}

impl Kind {
    /// Each of them, in the order in which they are looked for.
    pub const ALL: [Self; 5] = [Self::Email, Self::Iban, Self::Card, Self::Ip, Self::Phone];

    /// As it stands in a mask.
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "EMAIL",
            Self::Iban => "IBAN",
            Self::Card => "CARD",
            Self::Phone => "PHONE",
            Self::Ip => "IP",
        }
    }

    /// How long what begins here is, if it is one.
    fn length(self, text: &str) -> Option<usize> {
        match self {
            Self::Email => email(text),
            Self::Iban => iban(text),
            Self::Card => card(text),
            Self::Phone => phone(text),
            Self::Ip => ip(text),
        }
    }
}

/// One find.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub range: Range<usize>,
}

/// All finds, from left to right, none within another and none that begins within a word.
pub fn find(text: &str, kinds: &[Kind]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut is_within_word = false;
    while let Some(next) = text[at..].chars().next() {
        let may_begin = !is_within_word && (next.is_ascii_alphanumeric() || matches!(next, '+' | '('));
        let hit = if may_begin { first(&text[at..], kinds) } else { None };
        if let Some((kind, length)) = hit {
            found.push(Found { kind, range: at..at + length });
            at += length;
        } else {
            at += next.len_utf8();
        }
        is_within_word = hit.is_none() && (next.is_alphanumeric() || next == '_');
    }
    found
}

fn first(text: &str, kinds: &[Kind]) -> Option<(Kind, usize)> {
    kinds.iter().find_map(|kind| kind.length(text).map(|length| (*kind, length)))
}

/// The length of what consists of such characters of ASCII. It is bounded, since a hook's time is.
fn run(text: &str, most: usize, is_part: impl Fn(char) -> bool) -> usize {
    text.bytes().take(most).take_while(|byte| byte.is_ascii() && is_part(char::from(*byte))).count()
}

fn ends_word(rest: &str) -> bool {
    !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_')
}

fn email(text: &str) -> Option<usize> {
    let local = run(text, 65, |character| character.is_ascii_alphanumeric() || "._%+-".contains(character));
    let domain_start = local + 1;
    if !(1..=64).contains(&local) || !text[local..].starts_with('@') || text[..local].ends_with('.') {
        return None;
    }
    let domain =
        run(&text[domain_start..], 254, |character| character.is_ascii_alphanumeric() || ".-".contains(character));
    // A full stop after it ends the sentence and not the address.
    let domain = text[domain_start..][..domain].trim_end_matches(['.', '-']);
    let (_, last) = domain.rsplit_once('.')?;
    let is_domain = last.len() >= 2
        && last.chars().all(|character| character.is_ascii_alphabetic())
        && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-'));
    (is_domain && ends_word(&text[domain_start + domain.len()..])).then_some(domain_start + domain.len())
}

fn iban(text: &str) -> Option<usize> {
    let head = text.as_bytes().get(..4)?;
    if !(head[..2].iter().all(u8::is_ascii_uppercase) && head[2..].iter().all(u8::is_ascii_digit)) {
        return None;
    }
    // Groups of capitals and digits with a space between; the longest that the check digits fit.
    let mut ends = Vec::new();
    let mut at = 0;
    loop {
        at += run(&text[at..], 43, |character| character.is_ascii_uppercase() || character.is_ascii_digit());
        if ends_word(&text[at..]) {
            ends.push(at);
        }
        let goes_on = text[at..].starts_with(' ')
            && text[at + 1..].starts_with(|next: char| next.is_ascii_uppercase() || next.is_ascii_digit());
        if !goes_on || at > 42 {
            break;
        }
        at += 1;
    }
    ends.into_iter().rev().find(|end| is_iban(&text[..*end]))
}

fn is_iban(text: &str) -> bool {
    let characters: Vec<u32> = text.chars().filter_map(|character| character.to_digit(36)).collect();
    if !(15..=34).contains(&characters.len()) {
        return false;
    }
    let rotated = characters[4..].iter().chain(&characters[..4]);
    rotated.fold(0, |rest, value| if *value < 10 { (rest * 10 + value) % 97 } else { (rest * 100 + value) % 97 }) == 1
}

/// Digits with separators between them: how long, and which digits.
fn digits(text: &str, separators: &str, most: usize) -> (usize, Vec<u32>) {
    let mut digits = Vec::new();
    let mut end = 0;
    let mut separators_before = 0;
    for (at, character) in text.char_indices() {
        if let Some(digit) = character.to_digit(10) {
            digits.push(digit);
            end = at + 1;
            separators_before = 0;
        } else if separators.contains(character) && separators_before < 2 {
            separators_before += 1;
        } else {
            break;
        }
        if digits.len() > most {
            break;
        }
    }
    (end, digits)
}

fn card(text: &str) -> Option<usize> {
    let (end, digits) = digits(text, " -", 19);
    let is_card = text.starts_with(|first: char| first.is_ascii_digit())
        && (13..=19).contains(&digits.len())
        && ends_word(&text[end..])
        && digits.iter().any(|digit| *digit != 0);
    let sum: u32 = digits.iter().rev().enumerate().map(|(index, digit)| doubled(*digit, index % 2 == 1)).sum();
    (is_card && sum.is_multiple_of(10)).then_some(end)
}

fn doubled(digit: u32, is_doubled: bool) -> u32 {
    match digit * if is_doubled { 2 } else { 1 } {
        value if value > 9 => value - 9,
        value => value,
    }
}

/// With a country's code, or with a 0 or an area's code and separators: a bare number may be anything.
fn phone(text: &str) -> Option<usize> {
    let (end, digits) = digits(text, " -./()", 15);
    let is_grouped = text[..end].contains([' ', '-', '.', '/', '(']);
    let is_phone = match text.as_bytes()[0] {
        b'+' => {
            let (end, digits) = self::digits(&text[1..], " -./()", 15);
            return ((8..=15).contains(&digits.len()) && ends_word(&text[end + 1..])).then_some(end + 1);
        }
        b'(' => is_grouped && (9..=12).contains(&digits.len()),
        b'0' => (9..=13).contains(&digits.len()),
        _ => is_american(&text[..end]),
    };
    (is_phone && ends_word(&text[end..])).then_some(end)
}

/// Three digits, three and four.
fn is_american(text: &str) -> bool {
    let groups: Vec<&str> = text.split([' ', '-', '.']).collect();
    matches!(groups.as_slice(), [area, exchange, line] if area.len() == 3 && exchange.len() == 3 && line.len() == 4)
        && text.chars().all(|character| character.is_ascii_digit() || " -.".contains(character))
}

fn ip(text: &str) -> Option<usize> {
    let length = run(text, 16, |character| character.is_ascii_digit() || character == '.');
    let address = text[..length].trim_end_matches('.');
    let is_address = address.parse::<std::net::Ipv4Addr>().is_ok() && ends_word(&text[address.len()..]);
    is_address.then_some(address.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&'static str, &str)> {
        find(text, &Kind::ALL).into_iter().map(|found| (found.kind.name(), &text[found.range])).collect()
    }

    #[test]
    fn what_tells_of_a_person_is_found_whole() {
        for (text, kind, original) in [
            ("write to ann.b+c@mail.example.org.", "EMAIL", "ann.b+c@mail.example.org"),
            ("(ann@example.org)", "EMAIL", "ann@example.org"),
            ("IBAN DE89 3704 0044 0532 0130 00, please", "IBAN", "DE89 3704 0044 0532 0130 00"),
            ("GB82WEST12345698765432", "IBAN", "GB82WEST12345698765432"),
            ("card 4111 1111 1111 1111!", "CARD", "4111 1111 1111 1111"),
            ("call +49 (30) 123456-78 now", "PHONE", "+49 (30) 123456-78"),
            ("Tel.030/1234567", "PHONE", "030/1234567"),
            ("555-867-5309", "PHONE", "555-867-5309"),
            ("(555) 867-5309", "PHONE", "(555) 867-5309"),
            ("from 192.168.0.1.", "IP", "192.168.0.1"),
        ] {
            assert_eq!(found(text), [(kind, original)], "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            "order 4111111111111112",
            "GB82WEST12345698765431",
            "in 2024-01-02 and 12345678",
            "a@b, @example.org, ann@localhost",
            "version 1.2.3 of x86_64",
            "1 + 1 = 2 (two)",
            "",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn any_text_is_walked_through() {
        for text in ["é+", "+", "(", "+é", "0é", "DE", "DE12", "a@é.de", "0 0 0 0 0", "😀0123456789😀"] {
            found(text);
        }
        assert_eq!(found(&"a.".repeat(50_000)), []);
    }
}
