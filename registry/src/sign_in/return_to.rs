//! Where a person goes on after signing in.

/// Longest path.
const MAX_CHARS: usize = 2000;

/// A path of this installation, with its query. It cannot lead to another host, whatever it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReturnTo(String);

impl ReturnTo {
    /// Reads a path; `None` for whatever else: an address of another host, also one that a browser only takes for such
    /// (`//host`, `/\host`), or text that no address has.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/?&=%:+,;@!$*()".contains(&byte);
        let is_path = text.starts_with('/') && !text.starts_with("//") && text.len() <= MAX_CHARS;
        (is_path && text.bytes().all(is_plain)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_of_ours_is_taken_and_nothing_that_leads_elsewhere() {
        for good in ["/", "/docs/", "/sign-in/cli?port=1&state=a%20b", "/a//b", "/@host", "/:80"] {
            assert_eq!(ReturnTo::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "docs",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/a\nb",
            "/ b",
            "/\tevil",
            "/a\"b",
            "/<b>",
            "/é",
            "/a#b",
        ] {
            assert_eq!(ReturnTo::parse(bad), None, "{bad}");
        }
        assert_eq!(ReturnTo::parse(&format!("/{}", "a".repeat(MAX_CHARS))), None);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_a_browser_looks_for_on_the_same_host(text in "[/\\\\a-z.:@?#%\\t ]{0,20}") {
            if let Some(path) = ReturnTo::parse(&text) {
                let base = reqwest::Url::parse("https://souk.example.com").unwrap();
                let led = base.join(path.as_str()).unwrap();
                prop_assert_eq!(led.origin(), base.origin());
            }
        }
    }
}
