//! What the owner of a gated adapter asks of who asks for access, and answers to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_protocol::reference::check_name_part;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, OneOf, Schema, Type};

use crate::error::{Finding, RegistryError};

/// Most questions of a form.
const MAX_QUESTIONS: usize = 20;
/// Longest question.
const MAX_LABEL_CHARS: usize = 500;
/// Most choices of a question, and the longest.
const MAX_CHOICES: usize = 20;
const MAX_CHOICE_CHARS: usize = 200;
/// Longest answer in words.
const MAX_ANSWER_CHARS: usize = 2000;

/// The questions, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Form(pub(crate) Vec<Question>);

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// What its answer is called: 1 to 64 of `a-z 0-9 - _ .`, begun by a letter or digit, each once in a form.
    #[schema(example = "purpose")]
    pub(crate) name: String,
    /// What is asked, in 1 to 500 characters.
    #[schema(example = "What will you use it for?")]
    pub(crate) label: String,
    /// How it is answered.
    pub(crate) kind: QuestionKind,
    /// Whether it has to be answered; a checkbox, whether it has to be checked.
    #[serde(default)]
    pub(crate) required: bool,
    /// What can be chosen, for `choice` alone: 2 to 20 texts of 1 to 200 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) choices: Vec<String>,
}

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum QuestionKind {
    /// In words, up to 2,000 characters.
    Text,
    /// With one of the choices.
    Choice,
    /// With true or false.
    Checkbox,
}

/// An answer with the question as it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Answer {
    /// The question's name.
    pub(crate) name: String,
    /// What was asked.
    pub(crate) label: String,
    /// A text, or true or false.
    #[schema(schema_with = text_or_flag)]
    pub(crate) answer: Value,
}

fn text_or_flag() -> Schema {
    let one_of = OneOf::builder().item(Object::with_type(Type::String)).item(Object::with_type(Type::Boolean));
    let described = one_of.description(Some("A text, or true or false."));
    described.examples(["To sort support tickets."]).build().into()
}

impl Form {
    /// A form as its column has it; what this program does not understand asks nothing.
    pub(crate) fn from_column(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    pub(crate) fn to_column(&self) -> String {
        serde_json::to_string(self).expect("a form has only text keys")
    }

    /// Ends a call that brings a form which cannot be asked.
    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        let mut findings = Vec::new();
        let given = self.0.len();
        if given > MAX_QUESTIONS {
            findings.push(Finding::field("questions", format!("at most {MAX_QUESTIONS} questions, given {given}")));
        }
        for (index, question) in self.0.iter().take(MAX_QUESTIONS).enumerate() {
            let subject = |field: &str| format!("questions[{index}].{field}");
            if let Err(error) = check_name_part("name", &question.name) {
                findings.push(Finding::field(subject("name"), error.to_string()));
            }
            if self.0[..index].iter().any(|other| other.name == question.name) {
                findings.push(Finding::field(subject("name"), format!("`{}` is the name of another", question.name)));
            }
            check_length(&subject("label"), &question.label, MAX_LABEL_CHARS, &mut findings);
            question.check_choices(&subject("choices"), &mut findings);
        }
        RegistryError::unless_valid(findings)
    }

    /// The answers to be kept, if all that has to be answered is, and as it was asked for.
    pub(crate) fn answered(&self, mut given: BTreeMap<String, Value>) -> Result<Vec<Answer>, RegistryError> {
        let (mut answers, mut findings) = (Vec::new(), Vec::new());
        for question in &self.0 {
            let answer = given.remove(&question.name).filter(|answer| !answer.is_null());
            match question.checked(answer) {
                Ok(Some(answer)) => {
                    let (name, label) = (question.name.clone(), question.label.clone());
                    answers.push(Answer { name, label, answer });
                }
                Ok(None) => {}
                Err(message) => findings.push(Finding::field(format!("answers.{}", question.name), message)),
            }
        }
        let unknown = given.keys().map(|name| name.chars().take(80).collect::<String>());
        findings.extend(unknown.map(|name| Finding::field(format!("answers.{name}"), "no question has this name")));
        RegistryError::unless_valid(findings)?;
        Ok(answers)
    }
}

impl Question {
    fn check_choices(&self, subject: &str, findings: &mut Vec<Finding>) {
        let given = self.choices.len();
        if self.kind != QuestionKind::Choice {
            if given > 0 {
                findings.push(Finding::field(subject, format!("none but for the kind `choice`, given {given}")));
            }
            return;
        }
        if !(2..=MAX_CHOICES).contains(&given) {
            findings.push(Finding::field(subject, format!("2 to {MAX_CHOICES} choices, given {given}")));
        }
        for (index, choice) in self.choices.iter().take(MAX_CHOICES).enumerate() {
            check_length(&format!("{subject}[{index}]"), choice, MAX_CHOICE_CHARS, findings);
            if self.choices[..index].contains(choice) {
                findings.push(Finding::field(format!("{subject}[{index}]"), "is there twice"));
            }
        }
    }

    /// The answer to be kept, `None` if it is left open; what is wrong with it, in words.
    fn checked(&self, answer: Option<Value>) -> Result<Option<Value>, String> {
        match (self.kind, answer) {
            (QuestionKind::Checkbox, Some(Value::Bool(checked))) if checked || !self.required => {
                Ok(Some(Value::Bool(checked)))
            }
            (QuestionKind::Checkbox, Some(Value::Bool(_)) | None) if self.required => Err("has to be checked".into()),
            (QuestionKind::Checkbox, Some(_)) => Err("true or false".into()),
            (_, None) if self.required => Err("has to be answered".into()),
            (_, None) => Ok(None),
            (QuestionKind::Text, Some(Value::String(text))) => {
                let given = text.chars().count();
                match (1..=MAX_ANSWER_CHARS).contains(&given) {
                    true => Ok(Some(Value::String(text))),
                    false => Err(format!("1 to {MAX_ANSWER_CHARS} characters, given {given}")),
                }
            }
            (QuestionKind::Choice, Some(Value::String(text))) if self.choices.contains(&text) => {
                Ok(Some(Value::String(text)))
            }
            (QuestionKind::Choice, Some(_)) => Err(format!("one of `{}`", self.choices.join("`, `"))),
            (QuestionKind::Text, Some(_)) => Err("a text".into()),
        }
    }
}

fn check_length(subject: &str, text: &str, limit: usize, findings: &mut Vec<Finding>) {
    let given = text.chars().count();
    if !(1..=limit).contains(&given) {
        findings.push(Finding::field(subject, format!("1 to {limit} characters, given {given}")));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn form() -> Form {
        serde_json::from_value(json!([
            { "name": "purpose", "label": "What for?", "kind": "text", "required": true },
            { "name": "size", "label": "How many are you?", "kind": "choice", "choices": ["few", "many"] },
            { "name": "terms", "label": "Do you accept the terms?", "kind": "checkbox", "required": true },
            { "name": "news", "label": "Do you want news?", "kind": "checkbox" },
        ]))
        .unwrap()
    }

    fn wrong(result: Result<impl std::fmt::Debug, RegistryError>) -> Vec<String> {
        match result.unwrap_err() {
            RegistryError::BadRequest { findings, .. } => {
                findings.into_iter().map(|finding| format!("{}: {}", finding.subject, finding.message)).collect()
            }
            other => panic!("{other}"),
        }
    }

    fn answered(answers: Value) -> Result<Vec<Answer>, RegistryError> {
        form().answered(serde_json::from_value(answers).unwrap())
    }

    #[test]
    fn answers_are_kept_with_their_questions_and_every_wrong_one_is_named() {
        let kept = answered(json!({ "purpose": "tickets", "size": "few", "terms": true, "news": null })).unwrap();
        let kept: Vec<_> = kept.iter().map(|answer| (answer.label.as_str(), answer.answer.clone())).collect();
        let expected = [
            ("What for?", json!("tickets")),
            ("How many are you?", json!("few")),
            ("Do you accept the terms?", json!(true)),
        ];
        assert_eq!(kept, expected);
        assert_eq!(
            wrong(answered(json!({}))),
            ["answers.purpose: has to be answered", "answers.terms: has to be checked"]
        );
        let all = json!({ "purpose": 7, "size": "huge", "terms": false, "news": "yes", "colour": "red" });
        assert_eq!(
            wrong(answered(all)),
            [
                "answers.purpose: a text",
                "answers.size: one of `few`, `many`",
                "answers.terms: has to be checked",
                "answers.news: true or false",
                "answers.colour: no question has this name",
            ]
        );
        let long = answered(json!({ "purpose": "x".repeat(2001), "terms": true }));
        assert_eq!(wrong(long), ["answers.purpose: 1 to 2000 characters, given 2001"]);
    }

    #[test]
    fn a_form_that_cannot_be_asked_is_refused_with_all_that_is_wrong() {
        form().check().unwrap();
        let bad: Form = serde_json::from_value(json!([
            { "name": "a", "label": "", "kind": "text", "choices": ["x"] },
            { "name": "a", "label": "b", "kind": "choice", "choices": ["x", "x"] },
            { "name": "A b", "label": "b", "kind": "choice", "choices": ["x"] },
        ]))
        .unwrap();
        let wrong = wrong(bad.check());
        for (subject, part) in [
            ("questions[0].label", "1 to 500 characters, given 0"),
            ("questions[0].choices", "given 1"),
            ("questions[1].name", "of another"),
            ("questions[1].choices[1]", "twice"),
            ("questions[2].name", "must be 1 to 64"),
            ("questions[2].choices", "2 to 20 choices, given 1"),
        ] {
            assert!(wrong.iter().any(|line| line.starts_with(subject) && line.contains(part)), "{subject}: {wrong:?}");
        }
        assert_eq!(wrong.len(), 6, "{wrong:?}");
    }

    proptest! {
        #[test]
        fn whatever_is_answered_is_kept_within_the_bounds_or_refused(
            purpose in "\\PC{0,30}", size in "few|many|other", terms in any::<bool>(), more in "[a-z]{0,4}",
        ) {
            let given = BTreeMap::from([
                ("purpose".to_owned(), json!(purpose)), ("size".to_owned(), json!(size)),
                ("terms".to_owned(), json!(terms)), (more, json!(null)),
            ]);
            if let Ok(answers) = form().answered(given) {
                prop_assert!(terms && size != "other" && !purpose.is_empty());
                prop_assert!(answers.iter().all(|answer| form().0.iter().any(|asked| asked.name == answer.name)));
            }
        }

        #[test]
        fn a_column_of_any_text_is_a_form_that_reads_back(text in "\\PC{0,60}|\\[.{0,40}\\]") {
            let form = Form::from_column(&text);
            prop_assert_eq!(Form::from_column(&form.to_column()), form);
        }
    }
}
