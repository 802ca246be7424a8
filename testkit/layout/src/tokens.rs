//! Paths in what syn leaves as tokens: arguments of macros and attributes.

use proc_macro2::{TokenStream, TokenTree};

/// The words of `a::b::c`.
pub(crate) type Words = Vec<String>;

/// The paths among the tokens, at any depth. A word alone counts only where it can hardly be a field or a variable:
/// when it is called, opens a block, has a capital, or is a macro.
pub(crate) fn paths(tokens: &TokenStream) -> Vec<Words> {
    let mut paths = Vec::new();
    collect(&tokens.clone().into_iter().collect::<Vec<_>>(), &mut paths);
    paths
}

/// What string literals name, as in `#[serde(default = "path")]`; for `with`, the functions that serde calls there.
pub(crate) fn quoted_paths(tokens: &TokenStream) -> Vec<Words> {
    let mut paths = Vec::new();
    for token in tokens.clone() {
        match token {
            TokenTree::Group(group) => paths.extend(quoted_paths(&group.stream())),
            TokenTree::Literal(literal) => {
                let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) else { continue };
                let Ok(path) = text.parse::<syn::Path>() else { continue };
                let words: Words = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                for function in ["serialize", "deserialize"] {
                    paths.push(words.iter().cloned().chain([function.to_owned()]).collect());
                }
                paths.push(words);
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
    paths
}

fn collect(tokens: &[TokenTree], paths: &mut Vec<Words>) {
    let mut at = 0;
    while at < tokens.len() {
        if let TokenTree::Group(group) = &tokens[at] {
            collect(&group.stream().into_iter().collect::<Vec<_>>(), paths);
        }
        let TokenTree::Ident(first) = &tokens[at] else {
            at += 1;
            continue;
        };
        let begin = at;
        let mut words = vec![first.to_string()];
        at += 1;
        while let Some(TokenTree::Ident(word)) = tokens.get(at + 2)
            && is_punct(tokens.get(at), ':')
            && is_punct(tokens.get(at + 1), ':')
        {
            words.push(word.to_string());
            at += 3;
        }
        let before = begin.checked_sub(1).and_then(|before| tokens.get(before));
        let is_member = ['.', '\'', ':'].iter().any(|sign| is_punct(before, *sign)) && !is_type_of(tokens, begin);
        if !is_member && (words.len() > 1 || stands_alone(&words[0], tokens.get(at))) {
            paths.push(words);
        }
    }
}

/// Whether `name: Type` and not `::name` is before the word.
fn is_type_of(tokens: &[TokenTree], at: usize) -> bool {
    let sign = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
    is_punct(sign(1), ':') && !is_punct(sign(2), ':')
}

fn stands_alone(word: &str, next: Option<&TokenTree>) -> bool {
    word.starts_with(char::is_uppercase) || is_punct(next, '!') || matches!(next, Some(TokenTree::Group(_)))
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}
