//! What a key may do, as the columns of its row have it: names with spaces between.

use souk_protocol::{AllowedModels, Scope, Scopes};

pub(crate) fn scopes_to_column(scopes: &Scopes) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
}

/// A name that this program does not know grants nothing: a newer program may have written it.
pub(crate) fn scopes_from_column(text: &str) -> Scopes {
    text.split_whitespace().filter_map(|name| name.parse::<Scope>().ok()).collect()
}

pub(crate) fn models_to_column(models: &AllowedModels) -> String {
    models.patterns().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// A pattern that this program does not know allows nothing.
pub(crate) fn models_from_column(text: &str) -> AllowedModels {
    AllowedModels::new(text.split_whitespace().filter_map(|pattern| pattern.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_an_unknown_word_grants_nothing() {
        let scopes: Scopes = Scope::ALL.into_iter().collect();
        assert_eq!(scopes_from_column(&scopes_to_column(&scopes)), scopes);
        assert_eq!(scopes_from_column("inference of:later"), [Scope::Inference].into());
        let models = AllowedModels::new(["tiny", "acme/*", "acme/sst2@1.0.0"].map(|text| text.parse().unwrap()).into());
        assert_eq!(models_from_column(&models_to_column(&models)), models);
        assert_eq!(models_from_column("acme/** !x:y/z").patterns(), []);
    }
}
