//! Generation 0.1.0.

mod generated {
    #![allow(clippy::all, missing_docs, unsafe_code, dead_code, reason = "the macro's own code is wasmtime's to judge")]

    wasmtime::component::bindgen!({
        path: "wit/since-v0.1.0",
        world: "full-hook",
        imports: { default: trappable },
        exports: { default: async },
    });
}

mod convert;
mod imports;

use std::collections::BTreeSet;

use wasmtime::component::{HasSelf, Instance, InstancePre, Linker, ResourceAny};
use wasmtime::{Result, Store};

use self::generated::FullHook;
use self::generated::exports::souk::hooks::{answer, describe, prompt, stream};
use crate::error::HookErrorKind;
use crate::generation::PACKAGE;
use crate::intake::Export;
use crate::state::{State, Stop};
use crate::words;

/// The version that names end with.
const VERSION: &str = "0.1.0";

/// Lets hooks import what is offered.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    FullHook::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Where in a component its exports are. Which there are says what it does.
pub(crate) struct Bindings {
    prompt: Option<prompt::GuestIndices>,
    answer: Option<answer::GuestIndices>,
    stream: Option<stream::GuestIndices>,
    describe: Option<describe::GuestIndices>,
}

/// A stream's resource in its hook.
pub(crate) struct Transformer {
    guest: stream::Guest,
    resource: ResourceAny,
}

impl Bindings {
    /// Looks for the exports of a component.
    pub(crate) fn new(component: &InstancePre<State>) -> Result<Self> {
        let has = |export: Export| {
            let name = format!("{PACKAGE}/{}@{VERSION}", export.as_str());
            component.component().get_export_index(None, &name).is_some()
        };
        Ok(Self {
            prompt: has(Export::Prompt).then(|| prompt::GuestIndices::new(component)).transpose()?,
            answer: has(Export::Answer).then(|| answer::GuestIndices::new(component)).transpose()?,
            stream: has(Export::Stream).then(|| stream::GuestIndices::new(component)).transpose()?,
            describe: has(Export::Describe).then(|| describe::GuestIndices::new(component)).transpose()?,
        })
    }

    /// What there is.
    pub(crate) fn exports(&self) -> BTreeSet<Export> {
        let has = [self.prompt.is_some(), self.answer.is_some(), self.stream.is_some(), self.describe.is_some()];
        Export::ALL.into_iter().zip(has).filter_map(|(export, has)| has.then_some(export)).collect()
    }

    /// Looks at all exports of an instance: are their types those of the interface?
    pub(crate) fn check(&self, store: &mut Store<State>, instance: &Instance) -> Result<()> {
        self.prompt.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?;
        self.answer.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?;
        self.stream.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?;
        self.describe.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?;
        Ok(())
    }

    pub(crate) async fn prompt(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        request: words::Request,
    ) -> Result<words::PromptOutcome> {
        let guest = exported(self.prompt.as_ref())?.load(&mut *store, instance)?;
        Ok(guest.call_on_prompt(store, &request.into()).await?.into())
    }

    pub(crate) async fn answer(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        answer: words::Answer,
    ) -> Result<words::AnswerOutcome> {
        let guest = exported(self.answer.as_ref())?.load(&mut *store, instance)?;
        Ok(guest.call_on_answer(store, &answer.into()).await?.into())
    }

    pub(crate) async fn describe(&self, store: &mut Store<State>, instance: &Instance) -> Result<words::Description> {
        let guest = exported(self.describe.as_ref())?.load(&mut *store, instance)?;
        Ok(guest.call_get(store).await?.into())
    }

    pub(crate) async fn open(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        opening: words::Opening,
    ) -> Result<Transformer> {
        let guest = exported(self.stream.as_ref())?.load(&mut *store, instance)?;
        let resource = guest.transformer().call_constructor(store, &opening.into()).await?;
        Ok(Transformer { guest, resource })
    }
}

impl Transformer {
    pub(crate) async fn push(&self, store: &mut Store<State>, piece: words::Piece) -> Result<words::Step> {
        Ok(self.guest.transformer().call_push(store, self.resource, &piece.into()).await?.into())
    }

    pub(crate) async fn finish(&self, store: &mut Store<State>, ending: words::Ending) -> Result<words::Step> {
        Ok(self.guest.transformer().call_finish(store, self.resource, ending.into()).await?.into())
    }
}

fn exported<T>(found: Option<&T>) -> Result<&T, Stop> {
    found.ok_or(Stop(HookErrorKind::NotExported))
}
