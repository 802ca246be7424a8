//! Whether what was uploaded is an adapter for one of this installation's base models, and what is to be known of it.

use std::collections::BTreeMap;

use souk_protocol::base_name::{BaseName, base_to_judge_by};
use souk_protocol::chat::{CarriedFiles, CarriedTemplate};
use souk_protocol::manifest::{
    ADDED_TOKENS_FILE, ALLOW_NO_EFFECT_PART, BASE_PART, CONFIG_FILE, LEFT_OUT_PART, MAX_LEFT_OUT,
    MAX_LEFT_OUT_NAME_BYTES, TEMPLATE_FILE, TOKENIZER_CONFIG_FILE, WEIGHTS_FILE,
};
use souk_protocol::peft::{Effect, LoraConfig, MeasuredIntake, Problem, ProblemCode, Problems};
use souk_protocol::{BaseClaim, BaseModel, Digest};

use crate::error::{Finding, RegistryError, code_name};
use crate::report::{BaseReport, EffectReport, TemplateUse, VersionReport};

/// The most dead pairs that are named.
const MAX_NAMED_DEAD: usize = 8;

/// An adapter that can be served.
pub(crate) struct Judged {
    /// The base model that it is for.
    pub(crate) base: Digest,
    /// The highest rank among its pairs; 0 if it only replaces norms.
    pub(crate) rank: usize,
    /// Its own chat template.
    pub(crate) template: Option<String>,
    pub(crate) report: VersionReport,
}

/// Judges the weights that `intake` saw together with the small parts of the upload, by name.
///
/// # Errors
/// Fields that are malformed, or everything that is wrong with the adapter.
pub(crate) fn judge(
    parts: &BTreeMap<&'static str, Vec<u8>>,
    intake: MeasuredIntake,
    bases: &[BaseModel],
) -> Result<Judged, RegistryError> {
    let stated = Stated::read(parts)?;
    let config = parts.get(CONFIG_FILE).map(Vec::as_slice).unwrap_or_default();
    let given = LoraConfig::parse(config).ok().and_then(|config| config.base_model);
    let claim = stated.base.as_deref().map_or(BaseClaim::Unstated, BaseClaim::Stated);
    let Some(base) = base_to_judge_by(given.as_deref(), claim, bases) else {
        let message = "this installation serves no base model that an adapter could be for".to_owned();
        let finding = Finding { code: "wrong_base".to_owned(), subject: CONFIG_FILE.to_owned(), message };
        return Err(RegistryError::Rejected(vec![finding]));
    };
    let part = |name: &str| parts.get(name).map(Vec::as_slice);
    let carried = CarriedFiles {
        template: part(TEMPLATE_FILE),
        tokenizer_config: part(TOKENIZER_CONFIG_FILE),
        added_tokens: part(ADDED_TOKENS_FILE),
    };
    let (plan, effect, carried) = match (intake.judge(config, base, claim), carried.read(base)) {
        (Ok((plan, effect)), Ok(carried)) => (plan, effect, carried),
        (judged, carried) => {
            let problems = [judged.err(), carried.err()].into_iter().flatten();
            return Err(RegistryError::Rejected(problems.flat_map(findings).collect()));
        }
    };
    let mut warnings = Vec::new();
    match no_effect(&effect) {
        Some(problem) if effect.is_none() && !stated.allows_no_effect => {
            return Err(RegistryError::Rejected(findings(problem.into())));
        }
        problem => warnings.extend(problem),
    }
    let CarriedTemplate { source, is_the_bases, warnings: of_files } = carried;
    warnings.extend(of_files);
    let chat_template = match (&source, is_the_bases) {
        (Some(_), _) => TemplateUse::Own,
        (None, true) => TemplateUse::SameAsBase,
        (None, false) => TemplateUse::Base,
    };
    let read_as = given.as_deref().map(|given| BaseName::read(given).as_str().to_owned());
    Ok(Judged {
        base: base.digest,
        rank: plan.pairs.iter().map(|pair| pair.rank).max().unwrap_or(0),
        template: source,
        report: VersionReport {
            base: BaseReport { id: base.id.clone(), given, read_as, stated: stated.base },
            effect: EffectReport::of(&effect),
            chat_template,
            left_out: stated.left_out,
            warnings: warnings.into_iter().map(Into::into).collect(),
        },
    })
}

/// What the publisher says in the parts that are no files.
struct Stated {
    base: Option<String>,
    allows_no_effect: bool,
    left_out: Vec<String>,
}

impl Stated {
    fn read(parts: &BTreeMap<&'static str, Vec<u8>>) -> Result<Self, RegistryError> {
        let mut findings = Vec::new();
        let text = |name: &str| parts.get(name).map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        let base = text(BASE_PART).filter(|name| !name.is_empty());
        let allows_no_effect = match text(ALLOW_NO_EFFECT_PART).as_deref() {
            None | Some("" | "false") => false,
            Some("true") => true,
            Some(other) => {
                let shown: String = other.chars().take(40).collect();
                findings.push(Finding::field(ALLOW_NO_EFFECT_PART, format!("expected true or false, given `{shown}`")));
                false
            }
        };
        let left_out = text(LEFT_OUT_PART).filter(|list| !list.is_empty()).map(|list| {
            let names = serde_json::from_str::<Vec<String>>(&list).ok();
            names.filter(|names| {
                names.len() <= MAX_LEFT_OUT && names.iter().all(|name| name.len() <= MAX_LEFT_OUT_NAME_BYTES)
            })
        });
        if left_out == Some(None) {
            let message = format!(
                "expected a JSON list of at most {MAX_LEFT_OUT} names of at most {MAX_LEFT_OUT_NAME_BYTES} bytes each"
            );
            findings.push(Finding::field(LEFT_OUT_PART, message));
        }
        RegistryError::unless_valid(findings)?;
        Ok(Self { base, allows_no_effect, left_out: left_out.flatten().unwrap_or_default() })
    }
}

/// What to say of pairs that change nothing, if there are any.
fn no_effect(effect: &Effect) -> Option<Problem> {
    let (num_dead, num_pairs) = (effect.dead().count(), effect.pairs.len());
    if num_dead == 0 {
        return None;
    }
    let named: Vec<_> = effect.dead().take(MAX_NAMED_DEAD).map(|site| site.to_string()).collect();
    let more = num_dead.saturating_sub(MAX_NAMED_DEAD);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let only_magnitudes = if effect.has_magnitudes { ", or by their magnitudes (DoRA) alone" } else { "" };
    let (code, end) = if effect.is_none() {
        let end = "; was it saved before it was trained? If it is meant, publish it with the field `allow_no_effect` \
                   (`souk push --allow-no-effect`)";
        (ProblemCode::NoEffect, end)
    } else {
        (ProblemCode::DeadPairs, "")
    };
    let message = format!(
        "{num_dead} of {num_pairs} pairs change nothing{only_magnitudes}, since scale * B A vanishes: {}{more}{end}",
        named.join(", ")
    );
    Some(Problem::new(code, WEIGHTS_FILE, message))
}

fn findings(problems: Problems) -> Vec<Finding> {
    let mut findings: Vec<_> = problems
        .listed
        .into_iter()
        .map(|problem| Finding { code: code_name(problem.code), subject: problem.subject, message: problem.message })
        .collect();
    if problems.num_unlisted > 0 {
        findings.push(Finding {
            code: "more_problems".to_owned(),
            subject: String::new(),
            message: format!("and {} more problems like these", problems.num_unlisted),
        });
    }
    findings
}
