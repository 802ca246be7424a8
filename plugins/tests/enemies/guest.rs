//! Hooks written by hand, in the text of WebAssembly: what no compiler would make.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Worlds with one export each, so that a hook need not have what it is not asked for.
const WORLDS: &str = "
    package enemies:worlds;
    world prompt-only { include souk:hooks/imports@0.1.0; export souk:hooks/prompt@0.1.0; }
    world answer-only { include souk:hooks/imports@0.1.0; export souk:hooks/answer@0.1.0; }
    world stream-only { include souk:hooks/imports@0.1.0; export souk:hooks/%stream@0.1.0; }
    world describe-only { include souk:hooks/imports@0.1.0; export souk:hooks/describe@0.1.0; }
";

/// What every hook here has: memory and a `realloc` that never frees.
const COMMON: &str = r#"
    (memory (export "memory") 2)
    (global $free (mut i32) (i32.const 65536))
    (func $realloc (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
        (global.set $free (i32.add (local.get $at) (local.get $size)))
        (block $fits
            (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
            (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
            unreachable)
        (local.get $at))
"#;

/// A component of a core module, whose exports say what it does: one of `prompt`, `answer`, `stream` and `describe`.
pub(crate) fn component(world: &str, module: &str) -> Vec<u8> {
    // Also of the tests of the whole, which include this file.
    let folders = ["wit/since-v0.1.0", "plugins/wit/since-v0.1.0"];
    let wit =
        folders.map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).into_iter().find(|wit| wit.is_dir());
    component_of(wit.unwrap().to_str().unwrap(), WORLDS, &format!("{world}-only"), module)
}

/// The same for an interface that lies elsewhere.
pub(crate) fn component_of(wit: &str, worlds: &str, world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_path(wit).unwrap();
    let package = resolve.push_str("worlds.wit", worlds).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(module).unwrap_or_else(|error| panic!("{error}\n{module}"));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// The core module of a hook whose `prompt` does `body` and gives back where its outcome is. 1024 and what follows is for outcomes.
pub(crate) fn prompt_module(imports: &str, rest: &str, body: &str) -> String {
    format!(
        r#"(module {imports} {COMMON} {rest}
            (func (export "souk:hooks/prompt@0.1.0#on-prompt") (param $request i32) (result i32) (local $n i32) {body}))"#
    )
}

/// A hook whose `prompt` does `body`.
pub(crate) fn prompt(body: &str) -> Vec<u8> {
    component("prompt", &prompt_module("", "", body))
}

/// The same with imports and more functions.
pub(crate) fn prompt_with(imports: &str, rest: &str, body: &str) -> Vec<u8> {
    component("prompt", &prompt_module(imports, rest, body))
}

/// Gives back `answered` with the text of `length` bytes at `at`, both instructions.
pub(crate) fn answered(at: &str, length: &str) -> String {
    format!(
        "(i32.store8 (i32.const 1024) (i32.const 2))
         (i32.store (i32.const 1032) {at})
         (i32.store (i32.const 1036) {length})
         (i32.const 1024)"
    )
}

/// Gives back `unchanged`.
pub(crate) const UNCHANGED: &str = "(i32.store8 (i32.const 1024) (i32.const 0)) (i32.const 1024)";

/// A hook with a stream whose `push` does `push` and gives back where its step is.
pub(crate) fn stream(rest: &str, push: &str) -> Vec<u8> {
    let module = format!(
        r#"(module
            (import "[export]souk:hooks/stream@0.1.0" "[resource-new]transformer" (func $new (param i32) (result i32)))
            (import "[export]souk:hooks/stream@0.1.0" "[resource-drop]transformer" (func $drop (param i32)))
            {COMMON} {rest}
            (global $pushed (mut i32) (i32.const 0))
            (func (export "souk:hooks/stream@0.1.0#[constructor]transformer") (param i32 i32 i32) (result i32)
                (call $new (i32.const 77)))
            (func (export "souk:hooks/stream@0.1.0#[method]transformer.push")
                (param $self i32) (param $text i32) (param $length i32) (param $tokens i32) (param $num_tokens i32) (result i32) (local $n i32)
                (global.set $pushed (i32.add (global.get $pushed) (i32.const 1)))
                {push})
            (func (export "souk:hooks/stream@0.1.0#[method]transformer.finish")
                (param $self i32) (param i32 i32 i32) (result i32)
                {SEND_NOTHING}))"#
    );
    component("stream", &module)
}

/// Gives back `send` with the piece's own text.
pub(crate) const SEND: &str = "(i32.store8 (i32.const 1024) (i32.const 0))
    (i32.store (i32.const 1028) (local.get $text)) (i32.store (i32.const 1032) (local.get $length)) (i32.const 1024)";
/// Gives back `send` with nothing.
pub(crate) const SEND_NOTHING: &str = "(i32.store8 (i32.const 1024) (i32.const 0))
    (i32.store (i32.const 1028) (i32.const 0)) (i32.store (i32.const 1032) (i32.const 0)) (i32.const 1024)";
