//! The macro that makes a component of functions, and what it needs.

use std::cell::RefCell;

use crate::bindings::exports::souk::hooks::stream::GuestTransformer;
use crate::bindings::souk::hooks::log;
use crate::stream::{Ending, Opening, Piece, Step, Transformer};

/// Makes a hook of functions: each line that is given becomes an interface that the component exports, in this order.
///
/// ```ignore
/// souk_hook::hook! {
///     schema: include_str!("../config.schema.json"),   // what a configuration has to fit
///     prompt: on_prompt,                               // fn(types::Request) -> prompt::Outcome
///     answer: on_answer,                               // fn(answer::Whole) -> answer::Outcome
///     stream: Masks,                                   // impl stream::Transformer
/// }
/// ```
///
/// What it says of itself is what stands in its Cargo.toml: name, version and description.
#[macro_export]
macro_rules! hook {
    (
        $(schema: $schema:expr,)?
        $(prompt: $prompt:path,)?
        $(answer: $answer:path,)?
        $(stream: $stream:ty,)?
    ) => {
        #[doc(hidden)]
        struct SoukHook;

        $crate::__describe_section!();
        $crate::__export_souk_hooks_describe_0_1_0_cabi!(SoukHook with_types_in $crate::internals::describe);
        impl $crate::internals::describe::Guest for SoukHook {
            fn get() -> $crate::internals::describe::Description {
                $crate::internals::describe::Description {
                    name: env!("CARGO_PKG_NAME").into(),
                    version: env!("CARGO_PKG_VERSION").into(),
                    summary: env!("CARGO_PKG_DESCRIPTION").into(),
                    config_schema: None$(.or_else(|| Some($schema.into())))?,
                }
            }
        }

        $(
            $crate::__prompt_section!();
            $crate::__export_souk_hooks_prompt_0_1_0_cabi!(SoukHook with_types_in $crate::internals::prompt);
            impl $crate::internals::prompt::Guest for SoukHook {
                fn on_prompt(request: $crate::types::Request) -> $crate::prompt::Outcome {
                    $crate::internals::log_panics();
                    $prompt(request)
                }
            }
        )?

        $(
            $crate::__answer_section!();
            $crate::__export_souk_hooks_answer_0_1_0_cabi!(SoukHook with_types_in $crate::internals::answer);
            impl $crate::internals::answer::Guest for SoukHook {
                fn on_answer(answer: $crate::answer::Whole) -> $crate::answer::Outcome {
                    $crate::internals::log_panics();
                    $answer(answer)
                }
            }
        )?

        $(
            $crate::__stream_section!();
            $crate::__export_souk_hooks_stream_0_1_0_cabi!(SoukHook with_types_in $crate::internals::stream);
            impl $crate::internals::stream::Guest for SoukHook {
                type Transformer = $crate::internals::Running<$stream>;
            }
        )?
    };
}

/// A transformer as the component model sees it: behind a shared reference.
pub struct Running<T>(RefCell<T>);

impl<T: Transformer> GuestTransformer for Running<T> {
    fn new(opening: Opening) -> Self {
        log_panics();
        Self(RefCell::new(T::begin(opening)))
    }

    fn push(&self, piece: Piece) -> Step {
        self.0.borrow_mut().push(piece)
    }

    fn finish(&self, ending: Ending) -> Step {
        self.0.borrow_mut().finish(ending)
    }
}

/// Says in the hook's log where it panicked, which otherwise ends as a trap without a word.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string())));
}
