//! What compiling apart makes of what takes long, and of what comes back.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use souk_plugins::words::PromptOutcome;
use souk_plugins::{ArtifactError, CompileError, Compiler, EngineHash, LoadError, SealingKey, Tier, compile_here};
use souk_protocol::{Digest, TenantId};

use crate::guest::{UNCHANGED, prompt, prompt_with};
use crate::harness::{Harness, text};
use crate::uploads::long_function;

fn tenant() -> TenantId {
    TenantId::from_stored("owner")
}

#[tokio::test]
async fn what_the_child_compiles_runs_here() {
    let harness = Harness::new();
    let component = Bytes::from(prompt(UNCHANGED));
    let compiler = harness.compiler();
    assert_eq!(compiler.engine_hash(), harness.host.engine_hash());
    assert_eq!(EngineHash::of_this_executable(), harness.host.engine_hash());
    let sealed = compiler.compile(&tenant(), Tier::Usual, &component).await.unwrap();
    let digest = Digest::of(&component);
    harness.host.check_sealed(&digest, &sealed).unwrap();
    let hook = harness.host.load(&digest, async { Ok(sealed) }).await.unwrap();
    let (outcome, _) = hook.prompt(&harness.context(), text("x")).await.unwrap();
    assert_eq!(outcome, PromptOutcome::Unchanged);
    // Compiled here it comes out the same.
    assert_eq!(
        compile_here(&component, &harness.key).unwrap(),
        compiler.compile(&tenant(), Tier::Usual, &component).await.unwrap()
    );
}

#[tokio::test]
async fn what_takes_long_to_compile_ends_the_child_alone() {
    let mut harness = Harness::new();
    harness.settings.compile_processor = Duration::from_secs(1);
    let bomb = Bytes::from(prompt_with("", &long_function(600_000).repeat(4), UNCHANGED));
    let error = harness.compiler().compile(&tenant(), Tier::Usual, &bomb).await.unwrap_err();
    assert_eq!((error.clone(), error.is_of_component()), (CompileError::TookTooLong(1), true));
}

#[tokio::test]
async fn what_takes_much_memory_to_compile_ends_the_child_alone() {
    let mut harness = Harness::new();
    harness.settings.compile_memory_bytes = 24 << 20;
    let bomb = Bytes::from(prompt_with("", &long_function(600_000), UNCHANGED));
    let error = harness.compiler().compile(&tenant(), Tier::Usual, &bomb).await.unwrap_err();
    assert_eq!((error.clone(), error.is_of_component()), (CompileError::TookTooMuch(24), true));
}

#[tokio::test]
async fn what_takes_time_on_a_busy_machine_is_ended_and_not_the_components_part() {
    let mut harness = Harness::new();
    harness.settings.compile_timeout = Duration::ZERO;
    let component = Bytes::from(prompt(UNCHANGED));
    let error = harness.compiler().compile(&tenant(), Tier::Usual, &component).await.unwrap_err();
    assert!(!error.is_of_component(), "{error}");
}

#[tokio::test]
async fn what_the_compiler_does_not_take_is_told_in_its_words() {
    let harness = Harness::new();
    for bytes in [&b"no component"[..], b"", &wat::parse_str("(module)").unwrap()] {
        let error =
            harness.compiler().compile(&tenant(), Tier::Usual, &Bytes::copy_from_slice(bytes)).await.unwrap_err();
        assert!(matches!(&error, CompileError::Refused(words) if !words.is_empty()), "{error}");
    }
}

#[tokio::test]
async fn a_child_that_is_none_is_the_hosts_part() {
    let harness = Harness::new();
    let component = Bytes::from(prompt(UNCHANGED));
    for (program, arguments) in [("/nowhere", vec![]), ("/bin/false", vec![]), ("/bin/echo", vec!["+".into()])] {
        let compiler = Compiler::new(PathBuf::from(program), arguments, harness.settings.clone(), harness.key.clone());
        match compiler.compile(&tenant(), Tier::Usual, &component).await {
            Err(error) => assert!(matches!(error, CompileError::Failed(_)), "{program}: {error}"),
            // What it said is sealed as it came; the engine does not take it.
            Ok(sealed) => {
                let loaded = harness.host.load(&Digest::of(&component), async { Ok(sealed) }).await;
                assert_eq!(loaded.unwrap_err(), LoadError::Artifact(ArtifactError::Refused));
            }
        }
    }
}

#[tokio::test]
async fn what_was_sealed_for_another_engine_or_by_another_key_is_compiled_again() {
    let harness = Harness::new();
    let component = prompt(UNCHANGED);
    let digest = Digest::of(&component);
    let other_key = SealingKey::new(secrecy::SecretString::from("another key"));
    let theirs = compile_here(&component, &other_key).unwrap();
    let other_engine: EngineHash = Digest::of(b"another engine").hex().parse().unwrap();
    let older = harness.key.seal(&digest, &other_engine, b"of another engine");
    for (sealed, error) in [(theirs, ArtifactError::Seal), (older, ArtifactError::OtherEngine)] {
        assert_eq!(harness.host.check_sealed(&digest, &sealed), Err(error));
        let loaded = harness.host.load(&digest, async { Ok(sealed) }).await;
        assert_eq!(loaded.unwrap_err(), LoadError::Artifact(error));
    }
    assert!(harness.host.resident(&digest).is_none());
    harness.hook(&component).await;
    assert!(harness.host.resident(&digest).is_some());
    harness.host.forget(&digest);
    assert!(harness.host.resident(&digest).is_none());
}

#[tokio::test]
async fn many_who_want_a_hook_at_once_load_it_once() {
    let harness = Harness::new();
    let component = prompt(UNCHANGED);
    let (digest, sealed) = (Digest::of(&component), compile_here(&component, &harness.key).unwrap());
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let load = || {
        harness.host.load(&digest, async {
            asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(sealed.clone())
        })
    };
    let (first, second, third) = tokio::join!(load(), load(), load());
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    assert_eq!(asked.into_inner(), 1);
}

/// What an export is called is not what it is.
#[tokio::test]
async fn exports_of_other_types_are_found_before_anything_is_called() {
    let harness = Harness::new();
    let lies = r#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $p (export "on-prompt" (func $f)))
        (export "souk:hooks/prompt@0.1.0" (instance $p)))"#;
    let component = wat::parse_str(lies).unwrap();
    harness.check(&component).unwrap();
    let hook = harness.load(&component).await.unwrap();
    let failed = hook.start(&harness.context()).await.unwrap_err();
    assert_eq!(failed.kind, souk_plugins::HookErrorKind::CannotStart);
    // An import of another type is found as it is loaded.
    let lies = r#"(component
        (import "souk:hooks/log@0.1.0" (instance (export "write" (func (param "message" string)))))
        (instance $p)
        (export "souk:hooks/prompt@0.1.0" (instance $p)))"#;
    let component = wat::parse_str(lies).unwrap();
    harness.check(&component).unwrap();
    assert!(matches!(harness.load(&component).await.unwrap_err(), LoadError::DoesNotFit(_)));
}
