//! E-mail addresses, as far as they have to be understood: to be shown, and to be compared with what a provider of
//! identities vouches for. No mail is sent.

use std::fmt;

/// Longest address that can be sent to (RFC 5321).
const MAX_CHARS: usize = 254;
const MAX_LOCAL_CHARS: usize = 64;

/// An address in small letters: to whom mail goes is told by no capital.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Email(String);

impl Email {
    /// Reads an address of letters, digits and the signs that need no quotes.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let given = text.chars().count();
        if given > MAX_CHARS {
            return Err(format!("an e-mail address of at most {MAX_CHARS} characters, given {given}"));
        }
        let refused = || format!("an e-mail address such as ada@example.com, given `{text}`");
        let (local, domain) = text.rsplit_once('@').ok_or_else(refused)?;
        let is_atom = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte))
        };
        let is_label = |part: &str| {
            let inside = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            (1..=63).contains(&part.len()) && inside && !part.starts_with('-') && !part.ends_with('-')
        };
        let is_good = local.len() <= MAX_LOCAL_CHARS
            && local.split('.').all(is_atom)
            && domain.contains('.')
            && domain.split('.').all(is_label);
        if is_good { Ok(Self(text.to_ascii_lowercase())) } else { Err(refused()) }
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_read_in_small_letters_and_what_is_none_is_told() {
        assert_eq!(Email::parse("Ada.Lovelace+souk@Example.COM").unwrap().to_string(), "ada.lovelace+souk@example.com");
        for bad in
            ["", "@", "a@b", "a@b.", "a@.b", "a@-b.c", "a b@c.d", "<a@b.c>", "a@b.c\n", "a..b@c.d", "é@b.c", "a\"@b.c"]
        {
            let error = Email::parse(bad).unwrap_err();
            assert!(error.contains(&format!("given `{bad}`")), "{error}");
        }
        let error = Email::parse(&format!("a@{}.example", "b".repeat(250))).unwrap_err();
        assert_eq!(error, "an e-mail address of at most 254 characters, given 260");
    }

    proptest! {
        #[test]
        fn what_is_read_reads_again_as_itself_and_has_no_sign_of_a_page(text in "\\PC{0,40}|[A-Za-z0-9.+_-]{1,10}@[a-zA-Z0-9.-]{1,20}") {
            if let Ok(email) = Email::parse(&text) {
                prop_assert_eq!(Email::parse(&email.to_string()), Ok(email.clone()));
                prop_assert!(!email.to_string().contains(['<', '>', '"', ' ', '\n', '\0']));
            }
        }
    }
}
