//! The adapter manifest: what a version is made of. Its digest is the version's identity.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// File name of the adapter's configuration in the PEFT format.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File name of the adapter's weights in the PEFT format.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// File name of a version's own chat template.
pub const TEMPLATE_FILE: &str = "chat_template.jinja";
/// File name of the tokenizer's settings, which may have a chat template in them.
pub const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
/// File name of the tokens that a trainer added.
pub const ADDED_TOKENS_FILE: &str = "added_tokens.json";
/// File name of the model card.
pub const CARD_FILE: &str = "README.md";

/// Longest manifest that is read. The format has about 400 bytes.
pub const MAX_MANIFEST_BYTES: u64 = 4096;

/// Part of an upload: the base model by the publisher's word, where the configuration's own name says nothing.
pub const BASE_PART: &str = "base";
/// Part of an upload: `true` lets in an adapter that changes nothing.
pub const ALLOW_NO_EFFECT_PART: &str = "allow_no_effect";
/// Part of an upload: names of files of the folder that were not sent, as a JSON list, for the report.
pub const LEFT_OUT_PART: &str = "left_out";
/// Most files that an upload names as left out.
pub const MAX_LEFT_OUT: usize = 256;
/// Longest name of a file that was left out, in bytes.
pub const MAX_LEFT_OUT_NAME_BYTES: usize = 255;
/// Longest `tokenizer_config.json` or `added_tokens.json`. Real ones have 1 KiB to 1.2 MiB.
pub const MAX_TOKENIZER_FILE_BYTES: u64 = 4 << 20;
/// Longest chat template of a version.
pub const MAX_TEMPLATE_BYTES: usize = 64 << 10;

/// One file of a version, by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Length of the file.
    pub size_bytes: u64,
}

/// What a version is made of. The model card is left out on purpose: correcting it must not change what is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterManifest {
    /// Digest of the base model that the adapter was trained on.
    pub base: Digest,
    /// The version's own chat template; left out where it has none, or the base's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<FileEntry>,
    /// `adapter_config.json`.
    pub config: FileEntry,
    /// Format generation of this manifest; 1.
    pub schema: u32,
    /// `adapter_model.safetensors`.
    pub weights: FileEntry,
}

impl AdapterManifest {
    /// A manifest of the current schema, without a chat template.
    #[must_use]
    pub const fn new(base: Digest, config: FileEntry, weights: FileEntry) -> Self {
        Self { base, chat_template: None, config, schema: 1, weights }
    }

    /// The canonical bytes: JSON with the fields in alphabetical order and no white space.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        // Fields are declared in alphabetical order, which is the order that serde writes them in.
        serde_json::to_vec(self).expect("a manifest has only strings and integers")
    }

    /// The version's identity.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical_bytes())
    }
}

/// Where a content-addressed blob lives below the root of a folder store: `sha256/ab/abcdef…`.
#[must_use]
pub fn blob_path(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("sha256/{}/{hex}", &hex[..2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_changes_with_every_part_and_with_nothing_else() {
        let entry = |text: &[u8]| FileEntry { digest: Digest::of(text), size_bytes: text.len() as u64 };
        let manifest = AdapterManifest::new(Digest::of(b"base"), entry(b"config"), entry(b"weights"));
        assert_eq!(manifest.digest(), manifest.clone().digest());
        let other_base = AdapterManifest::new(Digest::of(b"other"), entry(b"config"), entry(b"weights"));
        let other_weights = AdapterManifest::new(Digest::of(b"base"), entry(b"config"), entry(b"other"));
        assert_ne!(manifest.digest(), other_base.digest());
        assert_ne!(manifest.digest(), other_weights.digest());
        let with_template = AdapterManifest { chat_template: Some(entry(b"template")), ..manifest.clone() };
        assert_ne!(manifest.digest(), with_template.digest());
        let text = String::from_utf8(manifest.canonical_bytes()).unwrap();
        assert!(text.starts_with(r#"{"base":"sha256:"#) && !text.contains(' ') && !text.contains("chat"), "{text}");
    }
}
