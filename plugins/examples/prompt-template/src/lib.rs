//! Prompts of a template, variables and few-shot examples, all of which stand in the configuration.

mod template;

use souk_hook::json::Value;
use souk_hook::types::{Input, Message, Parameters, Request};
use souk_hook::{hook, prompt::Outcome, variables};
use template::Unknown;

hook! {
    schema: include_str!("../config.schema.json"),
    prompt: on_prompt,
}

fn on_prompt(mut request: Request) -> Outcome {
    let config = souk_hook::config();
    let form = Form { config: &config, metadata: &request.metadata };
    let input = match &request.input {
        Input::Messages(messages) => form.messages(messages).map(Input::Messages),
        Input::Text(text) => form.text(text).map(Input::Text),
    };
    match input {
        Ok(input) => {
            request.input = input;
            set_parameters(&mut request.parameters, &config);
            Outcome::rewritten(request)
        }
        Err(Unknown(name)) => {
            let message = if form.may_come_from_caller(&name) {
                format!("the prompt's template needs metadata.{name}")
            } else {
                format!(
                    "the prompt's template needs {name}, which nobody gave a value: set it as a variable or in the hook's values"
                )
            };
            Outcome::refuse(400, message)
        }
    }
}

/// What the configuration makes of a request.
struct Form<'a> {
    config: &'a Value,
    metadata: &'a [(String, String)],
}

impl Form<'_> {
    fn messages(&self, messages: &[Message]) -> Result<Vec<Message>, Unknown> {
        let mut all = Vec::with_capacity(messages.len() + 3);
        if let Some(system) = self.system()? {
            all.push(Message::new("system", system));
        }
        // What the conversation says as its own system comes before the examples, for these are turns of it.
        let own = messages.iter().take_while(|message| matches!(message.role.as_str(), "system" | "developer")).count();
        all.extend_from_slice(&messages[..own]);
        for (input, output) in self.examples()? {
            all.push(Message::new("user", input));
            all.push(Message::new("assistant", output));
        }
        let examples_end = all.len();
        all.extend_from_slice(&messages[own..]);
        if let Some(last) = all[examples_end..].iter_mut().rev().find(|message| message.role == "user") {
            let content = last.content.take().unwrap_or_default();
            last.content = Some(self.fill("input", "{{input}}", &content)?);
        }
        Ok(all)
    }

    fn text(&self, text: &str) -> Result<String, Unknown> {
        let separator = self.config.get("separator").and_then(Value::as_str).unwrap_or("\n\n");
        let mut parts = Vec::new();
        parts.extend(self.system()?);
        for (input, output) in self.examples()? {
            parts.push(input + &output);
        }
        parts.push(self.fill("input", "{{input}}", text)?);
        Ok(parts.join(separator))
    }

    fn system(&self) -> Result<Option<String>, Unknown> {
        let system = self.config.get("system").and_then(Value::as_str);
        system.map(|system| template::fill(system, |name| self.value(name))).transpose()
    }

    fn examples(&self) -> Result<Vec<(String, String)>, Unknown> {
        let examples = self.config.get("examples").map(Value::items).unwrap_or_default();
        let filled = examples.iter().map(|example| {
            let input = self.fill("input", "{{input}}", example.text("input"))?;
            Ok((input, self.fill("output", "{{output}}", example.text("output"))?))
        });
        filled.collect()
    }

    /// The template of a name, in which the variable of the same name is `own`.
    fn fill(&self, name: &str, otherwise: &str, own: &str) -> Result<String, Unknown> {
        let template = self.config.get(name).and_then(Value::as_str).unwrap_or(otherwise);
        template::fill(template, |asked| if asked == name { Some(own.to_owned()) } else { self.value(asked) })
    }

    /// The caller's, where it may give it, then the tenant's, then the configuration's.
    fn value(&self, name: &str) -> Option<String> {
        let given = self.metadata.iter().find(|(given, _)| given == name && self.may_come_from_caller(name));
        given
            .map(|(_, value)| value.clone())
            .or_else(|| variables::get(name))
            .or_else(|| self.config.get("values")?.get(name)?.as_str().map(str::to_owned))
    }

    fn may_come_from_caller(&self, name: &str) -> bool {
        self.config.texts("from_metadata").iter().any(|allowed| allowed == name)
    }
}

fn set_parameters(parameters: &mut Parameters, config: &Value) {
    let Some(given) = config.get("parameters") else { return };
    let number = |name: &str| given.get(name).and_then(Value::as_f64).map(|number| number as f32);
    parameters.temperature = parameters.temperature.or(number("temperature"));
    parameters.top_p = parameters.top_p.or(number("top_p"));
    parameters.max_tokens = parameters.max_tokens.or(given.get("max_tokens").and_then(Value::as_u32));
    for stop in given.texts("stop") {
        if !parameters.stop.contains(&stop) {
            parameters.stop.push(stop);
        }
    }
}
