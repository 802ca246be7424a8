//! The hooks that an installation begins with, and putting them there.

use bytes::Bytes;
use semver::Version;
use souk_registry::{OperatorsHook, Registry};
use tokio_util::task::AbortOnDropHandle;

use crate::config::Config;

/// A hook, what it is for, its version and its component, which `make guests` builds of `plugins/examples`. Whoever changes one gives
/// it another version.
const HOOKS: [(&str, &str, [u64; 3], &[u8]); 7] = [
    (
        "json-repair",
        "Makes valid JSON of an answer that is nearly that, and holds it to a schema.",
        [1, 0, 0],
        include_bytes!("../../plugins/tests/guests/json-repair.wasm"),
    ),
    (
        "length-guard",
        "Bounds how long a conversation and an answer may be.",
        [1, 0, 0],
        include_bytes!("../../plugins/tests/guests/length-guard.wasm"),
    ),
    (
        "lora-land",
        "The task templates of LoRA Land: a plain text becomes the prompt that an adapter was trained on, its label becomes JSON.",
        [1, 0, 0],
        include_bytes!("../../plugins/tests/guests/lora-land.wasm"),
    ),
    (
        "pii-mask",
        "Masks e-mail addresses, telephone, card and account numbers before the model and puts them back into the answer.",
        [1, 0, 0],
        include_bytes!("../../plugins/tests/guests/pii-mask.wasm"),
    ),
    (
        "prompt-template",
        "Makes the prompt of a template with variables and few-shot examples, all in its configuration.",
        [1, 0, 0],
        include_bytes!("../../plugins/tests/guests/prompt-template.wasm"),
    ),
    (
        "stop-words",
        "Words that an answer must not have: they are masked, or the answer ends, or is refused.",
        [1, 0, 0],
        include_bytes!("../../plugins/tests/guests/stop-words.wasm"),
    ),
    (
        "system-guard",
        "Puts the system prompt first, keeps others' out, and keeps an answer from telling it.",
        [1, 0, 0],
        include_bytes!("../../plugins/tests/guests/system-guard.wasm"),
    ),
];

/// Begins to put them there, unless the settings say not to; dropping the answer ends it. A later start goes on.
pub(super) fn install(config: &Config, registry: &Registry) -> Option<AbortOnDropHandle<()>> {
    if !config.registry.hooks.install {
        return None;
    }
    let registry = registry.clone();
    // Not waited for: each is compiled, and nobody's request needs them yet.
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        match registry.install_hooks(&hooks()).await {
            Ok(0) => {}
            Ok(num_made) => tracing::info!(num_made, "Installed {num_made} hooks for all tenants"),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "Hooks that an installation begins with are missing; the next start tries again");
            }
        }
    })))
}

fn hooks() -> Vec<OperatorsHook> {
    let hook =
        |(name, description, [major, minor, patch], component): (&str, &str, [u64; 3], &'static [u8])| OperatorsHook {
            name: name.to_owned(),
            description: description.to_owned(),
            version: Version::new(major, minor, patch),
            component: Bytes::from_static(component),
        };
    HOOKS.into_iter().map(hook).collect()
}
