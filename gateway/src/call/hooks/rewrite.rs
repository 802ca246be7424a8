//! Puts what a hook made of a request in the place of what the caller asked for.

use souk_plugins::words::{Parameters, Request};

use super::checked::{Checked, CheckedInput};
use crate::call::ask::Ask;
use crate::call::prepare::{Input, Length};
use crate::request::WeightedAdapter;
use crate::request::completion::DEFAULT_MAX_TOKENS;

/// A request under way through its hooks.
pub(crate) struct Asked {
    /// What is to be done.
    pub(crate) ask: Ask,
    /// The same as hooks see it, by prompt.
    pub(crate) shown: Vec<Request>,
}

impl Asked {
    /// What a hook made of all the prompts, `None` of one that it left as it was: the model and the adapters that it names, if they
    /// are others than before; `base` is the base model's name.
    ///
    /// # Errors
    /// Why they cannot be one request.
    pub(crate) fn renamed(
        &self,
        made: &[Option<Checked>],
        base: &str,
    ) -> Result<Option<(String, Vec<WeightedAdapter>)>, String> {
        let Some(first) = made.iter().flatten().next() else { return Ok(None) };
        let rest = Rest::of(&first.request);
        let mut after = made.iter().zip(&self.shown).map(|(made, shown)| made.as_ref().map_or(shown, |it| &it.request));
        if after.any(|request| Rest::of(request) != rest) {
            return Err("it sets other parameters for one prompt of a request than for another".to_owned());
        }
        let makes_chat = |made: &Checked| matches!(made.input, CheckedInput::Chat(_));
        if made.len() > 1 && made.iter().flatten().any(makes_chat) {
            return Err("it makes messages of one prompt of several".to_owned());
        }
        let adapter = &first.request.adapter;
        Ok((*adapter != self.shown[0].adapter).then(|| self.names(adapter.clone(), base)))
    }

    /// The model and the adapters once the place that names the adapter names this one.
    fn names(&self, adapter: Option<String>, base: &str) -> (String, Vec<WeightedAdapter>) {
        let (model, adapters) = (&self.ask.model, &self.ask.params.adapters);
        match (adapters.as_slice(), adapter) {
            ([only], Some(id)) => (model.clone(), vec![WeightedAdapter { id, weight: only.weight }]),
            ([_], None) => (model.clone(), Vec::new()),
            (_, adapter) => (adapter.unwrap_or_else(|| base.to_owned()), adapters.clone()),
        }
    }

    /// Takes what a hook made. Says whether what is asked is another text.
    pub(crate) fn rewrite(&mut self, made: Vec<Option<Checked>>) -> bool {
        if let Some(first) = made.iter().flatten().next() {
            self.take_parameters(first);
        }
        let mut is_other = false;
        for (place, made) in made.into_iter().enumerate() {
            let Some(Checked { request, input, .. }) = made else { continue };
            if request.input != self.shown[place].input {
                self.take_input(place, input);
                is_other = true;
            }
            self.shown[place] = request;
        }
        is_other
    }

    fn take_input(&mut self, place: usize, input: CheckedInput) {
        match (&mut self.ask.input, input) {
            (Input::Prompts { prompts, .. }, CheckedInput::Text(prompt)) => prompts[place] = prompt,
            (input, CheckedInput::Chat(messages)) => *input = Input::Chat(messages),
            (input, CheckedInput::Text(prompt)) => *input = Input::Prompts { prompts: vec![prompt], echo: false },
        }
    }

    /// What the hook left as it was stays as the caller wrote it, to the last bit.
    fn take_parameters(&mut self, made: &Checked) {
        let (before, after) = (&self.shown[0], &made.request);
        let (old, new) = (&before.parameters, &after.parameters);
        let (params, read) = (&mut self.ask.params, &made.params);
        take(&old.temperature, &new.temperature, &mut params.temperature, read.temperature);
        take(&old.top_p, &new.top_p, &mut params.top_p, read.top_p);
        take(&old.top_k, &new.top_k, &mut params.top_k, read.top_k);
        take(&old.min_p, &new.min_p, &mut params.min_p, read.min_p);
        take(&old.frequency_penalty, &new.frequency_penalty, &mut params.frequency_penalty, read.frequency_penalty);
        take(&old.presence_penalty, &new.presence_penalty, &mut params.presence_penalty, read.presence_penalty);
        take(&old.repetition_penalty, &new.repetition_penalty, &mut params.repetition_penalty, read.repetition_penalty);
        take(&old.seed, &new.seed, &mut params.seed, read.seed);
        take(&old.stop, &new.stop, &mut params.stop, read.stop.clone());
        if before.constraint != after.constraint {
            params.constraint.clone_from(&read.constraint);
            if let Some(constraint) = &mut params.constraint {
                constraint.field.push_str(" (set by a hook)");
            }
        }
        if old.max_tokens != new.max_tokens {
            self.ask.length = match (new.max_tokens, &self.ask.input) {
                (Some(tokens), _) => Length::Wanted(tokens.into()),
                (None, Input::Chat(_)) => Length::Rest,
                (None, Input::Prompts { .. }) => Length::Default(DEFAULT_MAX_TOKENS),
            };
        }
    }
}

/// Takes what was read of a field that a hook has changed.
fn take<W: PartialEq, V>(before: &W, after: &W, value: &mut V, read: V) {
    if before != after {
        *value = read;
    }
}

/// What a request has beside what is asked.
#[derive(PartialEq)]
struct Rest<'a> {
    parameters: &'a Parameters,
    constraint: &'a Option<souk_plugins::words::Constraint>,
    adapter: &'a Option<String>,
}

impl<'a> Rest<'a> {
    fn of(request: &'a Request) -> Self {
        Self { parameters: &request.parameters, constraint: &request.constraint, adapter: &request.adapter }
    }
}
