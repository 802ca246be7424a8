//! The pages that people sign in with: small, from the server, without scripts, and with a policy that lets none run
//! whatever is written into them.

use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::error::RegistryError;
use crate::http::problem::logged;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem;color:#1d1d1f;background:#fff}\
h1{font-size:1.4rem}a,button{font:inherit}button{padding:.5rem 1rem;border:1px solid #1d1d1f;border-radius:.3rem;background:#1d1d1f;color:#fff;cursor:pointer}\
li{margin:.5rem 0}form{margin:1rem 0}code{overflow-wrap:anywhere}@media(prefers-color-scheme:dark){body{color:#eee;background:#111}a{color:#9cf}}";

/// By which browsers know the one style that they may apply.
static STYLE_HASH: LazyLock<String> = LazyLock::new(|| STANDARD.encode(Sha256::digest(STYLE)));

/// A page.
pub(super) struct Page {
    status: StatusCode,
    title: String,
    body: String,
    /// The path to which the browser goes on by itself.
    next: Option<String>,
    /// Where beside us an answer to a form of it may lead.
    form_target: Option<String>,
}

/// Text in a page, whatever it has in it.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl Page {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, title: title.into(), body: String::new(), next: None, form_target: None }
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Goes on by itself. A cookie that the page sets goes along, since it is a page of ours that leads there.
    pub(super) fn leading_to(self, path: &str) -> Self {
        let page = Self { next: Some(path.to_owned()), ..self };
        page.link(path, "Continue")
    }

    /// Lets a form of the page lead to another origin, too.
    pub(super) fn with_form_to(self, origin: String) -> Self {
        Self { form_target: Some(origin), ..self }
    }

    /// A paragraph.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.write(format_args!("<p>{}</p>", Escaped(text)));
        self
    }

    /// A link in a paragraph.
    pub(super) fn link(mut self, to: &str, text: &str) -> Self {
        self.write(format_args!("<p><a href=\"{}\">{}</a></p>", Escaped(to), Escaped(text)));
        self
    }

    /// A form with hidden fields and one button, so that nothing happens that nobody clicked.
    pub(super) fn form(mut self, to: &str, fields: &[(&str, &str)], button: &str) -> Self {
        self.write(format_args!("<form method=\"post\" action=\"{}\">", Escaped(to)));
        for (name, value) in fields {
            self.write(format_args!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", Escaped(name), Escaped(value)));
        }
        self.write(format_args!("<button>{}</button></form>", Escaped(button)));
        self
    }

    fn write(&mut self, markup: fmt::Arguments<'_>) {
        self.body.write_fmt(markup).expect("writing to a string succeeds");
    }

    fn policy(&self) -> String {
        let form_target = self.form_target.as_deref().map(|origin| format!(" {origin}")).unwrap_or_default();
        format!(
            "default-src 'none'; style-src 'sha256-{}'; form-action 'self'{form_target}; base-uri 'none'; frame-ancestors 'none'",
            *STYLE_HASH
        )
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let next = self.next.as_deref().map(|path| {
            let path = Escaped(path);
            format!("<meta http-equiv=\"refresh\" content=\"0;url={path}\">")
        });
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">{}\
             <title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>{}</main></body></html>\n",
            next.unwrap_or_default(),
            self.body,
            title = Escaped(&self.title),
        );
        let policy = HeaderValue::try_from(self.policy()).expect("a policy is ASCII");
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, policy),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            // A page's address may hold a secret. Forms of ours say where they come from all the same.
            (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (self.status, headers, html).into_response()
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // What turns the direction of text around could pass one thing for another.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                character if character.is_control() => f.write_char('\u{fffd}')?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// What went wrong, as a page.
pub(super) struct Failed(pub(super) RegistryError);

impl<E: Into<RegistryError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let (status, _) = logged(&self.0);
        let mut sentence = self.0.to_string();
        if let Some(first) = sentence.get(..1).map(str::to_ascii_uppercase) {
            sentence.replace_range(..1, &first);
        }
        Page::new("That did not work")
            .with_status(status)
            .text(&format!("{sentence}."))
            .link("/sign-in", "Sign in")
            .into_response()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_are_text_wherever_they_stand() {
        let name = "\"><script>alert('x')</script>\u{202e}&\n";
        let page = Page::new(name).text(name).link(name, name).form(name, &[(name, name)], name);
        assert!(!page.body.contains("<script") && !page.body.contains('\u{202e}'));
        assert_eq!(page.body.matches("&lt;script&gt;").count(), 7);
        assert_eq!(page.body.matches('"').count() % 2, 0, "no attribute was closed: {}", page.body);
    }

    #[test]
    fn the_policy_lets_no_script_run_and_a_form_go_nowhere_else_but_where_it_says() {
        let policy = Page::new("x").policy();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(policy.contains("form-action 'self'; ") && !policy.contains("unsafe"), "{policy}");
        let policy = Page::new("x").with_form_to("http://127.0.0.1:1234".to_owned()).policy();
        assert!(policy.contains("form-action 'self' http://127.0.0.1:1234;"), "{policy}");
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_place(text in "\\PC{0,40}|[<>&\"'=/ a-z\\x00-\\x1f]{0,40}") {
            let escaped = Escaped(&text).to_string();
            prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\n', '\0']));
        }
    }
}
