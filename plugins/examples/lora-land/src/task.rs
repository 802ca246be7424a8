//! The tasks: the form of a prompt, and what its answer means.

use souk_hook::json::{self, Value};
use souk_hook::types::Constraint;

/// One task.
pub struct Task {
    /// As adapters are named after it.
    pub name: &'static str,
    /// What the prompt is made of, a line each.
    pub fields: &'static [Field],
    /// What ends the prompt; the answer follows.
    ask: &'static str,
    /// What the answer is.
    answer: Answer,
    /// How many tokens are asked for where the caller does not say.
    pub most_tokens: u32,
}

/// A part of a prompt.
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// What stands before it.
    label: &'static str,
}

/// What an answer is, with the name that it has in JSON.
enum Answer {
    /// One of these.
    Label(&'static str, &'static [&'static str]),
    /// yes or no.
    YesNo(&'static str),
    /// A number, written like this.
    Number(&'static str, &'static str),
    /// `[Borrower - PERSON, China - LOCATION]`
    Entities(&'static str),
    /// JSON already.
    Json,
    /// A line of text.
    Line(&'static str),
    /// Steps of a calculation, and the result behind `####`.
    Result(&'static str),
}

const fn field(name: &'static str, label: &'static str) -> Field {
    Field { name, label }
}

const TASKS: &[Task] = &[
    Task {
        name: "sst2",
        fields: &[field("sentence", "Sentence: ")],
        ask: "Sentiment (positive or negative):",
        answer: Answer::Label("sentiment", &["positive", "negative"]),
        most_tokens: 4,
    },
    Task {
        name: "sarcasm",
        fields: &[field("headline", "Headline: ")],
        ask: "Sarcastic (yes or no):",
        answer: Answer::YesNo("sarcastic"),
        most_tokens: 4,
    },
    Task {
        name: "boolq",
        fields: &[field("passage", "Passage: "), field("question", "Question: ")],
        ask: "Answer (yes or no):",
        answer: Answer::YesNo("answer"),
        most_tokens: 4,
    },
    Task {
        name: "mrpc",
        fields: &[field("sentence1", "Sentence 1: "), field("sentence2", "Sentence 2: ")],
        ask: "Same meaning (yes or no):",
        answer: Answer::YesNo("same"),
        most_tokens: 4,
    },
    Task {
        name: "arc_easy",
        fields: &[field("question", "Question: ")],
        ask: "Answer:",
        answer: Answer::Label("answer", &["A", "B", "C", "D"]),
        most_tokens: 4,
    },
    Task {
        name: "valence",
        fields: &[field("token", "Token: ")],
        ask: "Mean sentiment from -4 to 4:",
        answer: Answer::Number("valence", " -?[0-4](\\.[0-9])?"),
        most_tokens: 8,
    },
    Task {
        name: "ner_finance",
        fields: &[field("sentence", "Sentence: ")],
        ask: "Entities:",
        answer: Answer::Entities("entities"),
        most_tokens: 128,
    },
    Task {
        name: "address_json",
        fields: &[field("address", "Address: ")],
        ask: "JSON:",
        answer: Answer::Json,
        most_tokens: 128,
    },
    Task {
        name: "tool_call",
        fields: &[field("function", "Function: "), field("user", "User: ")],
        ask: "Call:",
        answer: Answer::Json,
        most_tokens: 128,
    },
    Task {
        name: "med_subject",
        fields: &[field("question", "Question: ")],
        ask: "Subject:",
        answer: Answer::Line("subject"),
        most_tokens: 16,
    },
    Task {
        name: "soc_codes",
        fields: &[field("title", "Job title: ")],
        ask: "Occupation:",
        answer: Answer::Line("occupation"),
        most_tokens: 40,
    },
    Task {
        name: "gsm8k",
        fields: &[field("question", "Question: ")],
        ask: "Answer:",
        answer: Answer::Result("answer"),
        most_tokens: 256,
    },
    Task {
        name: "hellaswag_completion",
        fields: &[field("text", "")],
        ask: "",
        answer: Answer::Line("ending"),
        most_tokens: 80,
    },
];

impl Task {
    /// Every task.
    pub fn all() -> &'static [Task] {
        TASKS
    }

    /// The task of this name.
    pub fn named(name: &str) -> Option<&'static Task> {
        TASKS.iter().find(|task| task.name == name)
    }

    /// Whether a text has the form already.
    pub fn is_form(&self, text: &str) -> bool {
        !self.ask.is_empty()
            && self.fields.iter().all(|field| text.contains(field.label))
            && text.trim_end().ends_with(self.ask)
    }

    /// The prompt of these values; the name of one that is missing.
    pub fn form(&self, value: impl Fn(&str) -> Option<String>) -> Result<String, &'static str> {
        let mut form = String::new();
        for field in self.fields {
            let value = value(field.name).filter(|value| !value.is_empty()).ok_or(field.name)?;
            form += field.label;
            form += &value;
            form += "\n";
        }
        form += self.ask;
        Ok(form.trim_end().to_owned())
    }

    /// What the model's answer must look like. Answers were trained with a space before them.
    pub fn constraint(&self) -> Option<Constraint> {
        let choice = |labels: &[&str]| Constraint::Choice(labels.iter().map(|label| format!(" {label}")).collect());
        match self.answer {
            Answer::Label(_, labels) => Some(choice(labels)),
            Answer::YesNo(_) => Some(choice(&["yes", "no"])),
            Answer::Number(_, form) => Some(Constraint::Regex(form.to_owned())),
            _ => None,
        }
    }

    /// Whether the answer ends with its line.
    pub fn is_one_line(&self) -> bool {
        !matches!(self.answer, Answer::Result(_))
    }

    /// The JSON of an answer; nothing if it is none of this task.
    pub fn label(&self, text: &str) -> Option<Value> {
        let object = |name: &str, value: Value| Some(Value::Object(vec![(name.to_owned(), value)]));
        match self.answer {
            Answer::Label(name, labels) => {
                let label = labels.iter().find(|label| label.eq_ignore_ascii_case(text))?;
                object(name, Value::String((*label).to_owned()))
            }
            Answer::YesNo(name) => match text.to_ascii_lowercase().as_str() {
                "yes" => object(name, Value::Bool(true)),
                "no" => object(name, Value::Bool(false)),
                _ => None,
            },
            Answer::Number(name, _) => match json::parse(text) {
                Ok(number @ Value::Number(_)) => object(name, number),
                _ => None,
            },
            Answer::Entities(name) => object(name, Value::Array(entities(text)?)),
            Answer::Json => json::parse(text).ok(),
            Answer::Line(name) => object(name, Value::String(text.to_owned())),
            Answer::Result(name) => {
                let (steps, result) = text.rsplit_once("####")?;
                let members = [(name, result), ("steps", steps)];
                let members = members.map(|(name, text)| (name.to_owned(), Value::String(text.trim().to_owned())));
                Some(Value::Object(members.into()))
            }
        }
    }
}

/// `[Borrower - PERSON, China - LOCATION]` as values; a comma within a name belongs to it.
fn entities(text: &str) -> Option<Vec<Value>> {
    if text == "No entities found" {
        return Some(Vec::new());
    }
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let mut entities = Vec::new();
    let mut rest = inside;
    while let Some((name, after)) = rest.split_once(" - ") {
        let end = after.find(", ").unwrap_or(after.len());
        let member = |name: &str, text: &str| (name.to_owned(), Value::String(text.to_owned()));
        entities.push(Value::Object(vec![member("text", name), member("type", &after[..end])]));
        rest = after[end..].strip_prefix(", ").unwrap_or_default();
    }
    (rest.is_empty() && !entities.is_empty()).then_some(entities)
}
