//! The task templates of LoRA Land: what an adapter was trained on is a text of a form of its own, and its answer a label.
//!
//! Callers send a plain text, alone or as the last message, and get JSON. Tasks that need more than a text take a JSON object of their
//! fields, or fields in the metadata. A text that has the form already goes through, and so does its answer.

mod task;

use souk_hook::json::{self, Value};
use souk_hook::stream::{Ending, Opening, Piece, Step, Transformer};
use souk_hook::types::{Input, Parameters, Request};
use souk_hook::{answer, hook, prompt};
use task::Task;

hook! {
    schema: include_str!("../config.schema.json"),
    prompt: on_prompt,
    answer: on_answer,
    stream: Labelling,
}

fn on_prompt(mut request: Request) -> prompt::Outcome {
    let Some(task) = task_of(&request) else {
        let names: Vec<&str> = Task::all().iter().map(|task| task.name).collect();
        let message = format!("no task: configure one of {}, or name the adapter after it", names.join(", "));
        return prompt::Outcome::refuse(400, message);
    };
    let text = match &request.input {
        Input::Text(text) => text.as_str(),
        Input::Messages(messages) => {
            let last = messages.iter().rev().find(|message| message.role == "user");
            last.and_then(|message| message.content.as_deref()).unwrap_or_default()
        }
    };
    if task.is_form(text) {
        request.input = Input::Text(text.to_owned());
        return prompt::Outcome::rewritten(request);
    }
    let given = json::parse(text).ok().filter(|value| matches!(value, Value::Object(_)));
    let last = task.fields.last().map_or("", |field| field.name);
    let value = |name: &str| {
        let in_object = given.as_ref().and_then(|object| object.get(name)).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let in_metadata = || request.metadata.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone());
        let as_text = || (name == last && given.is_none()).then(|| text.trim().to_owned());
        in_object.or_else(in_metadata).or_else(as_text)
    };
    match task.form(value) {
        Ok(form) => {
            set_parameters(&mut request.parameters, task);
            // What the caller says of the answer's form is not the label's.
            request.constraint = task.constraint();
            request.input = Input::Text(form);
            prompt::Outcome::Rewritten(prompt::Rewritten { request, carry: task.name.into() })
        }
        Err(missing) => {
            let fields: Vec<String> = task.fields.iter().map(|field| format!("\"{}\": ...", field.name)).collect();
            let message =
                format!("task {} needs {missing}: send {{{}}}, or metadata.{missing}", task.name, fields.join(", "));
            prompt::Outcome::refuse(400, message)
        }
    }
}

/// The configured one, or that of the adapter's name.
fn task_of(request: &Request) -> Option<&'static Task> {
    let config = souk_hook::config();
    if let Some(name) = config.get("task").and_then(Value::as_str) {
        return Task::named(name);
    }
    let reference = request.adapter.as_deref()?;
    let name = reference.rsplit('/').next()?.split(['@', ':']).next()?;
    Task::named(&name.replace('-', "_"))
}

fn set_parameters(parameters: &mut Parameters, task: &Task) {
    parameters.temperature.get_or_insert(0.0);
    parameters.max_tokens.get_or_insert(task.most_tokens);
    if task.is_one_line() && !parameters.stop.iter().any(|stop| stop == "\n") {
        parameters.stop.push("\n".to_owned());
    }
}

fn on_answer(answer: answer::Whole) -> answer::Outcome {
    match labelled(&answer.carry, &answer.text) {
        None => answer::Outcome::Unchanged,
        Some(Ok(json)) => answer::Outcome::Replaced(json),
        Some(Err(message)) => answer::Outcome::refuse(422, message),
    }
}

/// The JSON of an answer; nothing if its prompt was not made here.
fn labelled(carry: &[u8], text: &str) -> Option<Result<String, String>> {
    let task = std::str::from_utf8(carry).ok().and_then(Task::named)?;
    let refusal = || format!("the adapter's answer is none of task {}: {:?}", task.name, text.trim());
    Some(task.label(text.trim()).map(|json| json.to_string()).ok_or_else(refusal))
}

/// An answer on its way. What it means is known when it is all there.
struct Labelling {
    carry: Vec<u8>,
    text: String,
}

impl Transformer for Labelling {
    fn begin(opening: Opening) -> Self {
        Self { carry: opening.carry, text: String::new() }
    }

    fn push(&mut self, piece: Piece) -> Step {
        if self.carry.is_empty() {
            return Step::Send(piece.text);
        }
        self.text.push_str(&piece.text);
        Step::Send(String::new())
    }

    fn finish(&mut self, _ending: Ending) -> Step {
        match labelled(&self.carry, &self.text) {
            None => Step::Send(String::new()),
            Some(Ok(json)) => Step::Send(json),
            Some(Err(message)) => Step::refuse(422, message),
        }
    }
}
