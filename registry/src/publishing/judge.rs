//! Whether what was uploaded is an adapter for one of this installation's base models.

use souk_protocol::BaseModel;
use souk_protocol::manifest::CONFIG_FILE;
use souk_protocol::peft::{AdapterPlan, LoraConfig, Problems, WeightsIntake};

use crate::error::{Finding, RegistryError};

/// The plan of the adapter and the base model that it is for, or everything that is wrong with it.
pub(super) fn judge<'a>(
    config: &[u8],
    intake: WeightsIntake,
    bases: &'a [BaseModel],
) -> Result<(AdapterPlan, &'a BaseModel), RegistryError> {
    let Some(base) = base_to_judge_by(config, bases) else {
        let message = "this installation serves no base model that an adapter could be for".to_owned();
        let finding = Finding { code: "wrong_base".to_owned(), subject: CONFIG_FILE.to_owned(), message };
        return Err(RegistryError::Rejected(vec![finding]));
    };
    let plan = intake.finish(config, base).map_err(|problems| RegistryError::Rejected(findings(problems)))?;
    Ok((plan, base))
}

/// The base that the configuration names, or the first: an adapter that names no base, or another one, is judged by
/// that, and the judge says so.
fn base_to_judge_by<'a>(config: &[u8], bases: &'a [BaseModel]) -> Option<&'a BaseModel> {
    let last_segment = |name: &str| name.rsplit('/').next().unwrap_or_default().to_lowercase();
    let named = LoraConfig::parse(config).ok().and_then(|config| config.base_model);
    let is_named = |base: &&BaseModel| {
        named.as_deref().is_some_and(|named| {
            let mut names = base.aliases.iter().chain([&base.id]);
            names.any(|name| last_segment(name) == last_segment(named))
        })
    };
    bases.iter().find(is_named).or_else(|| bases.first())
}

fn findings(problems: Problems) -> Vec<Finding> {
    let mut findings: Vec<_> = problems
        .listed
        .into_iter()
        .map(|problem| Finding {
            // The code's serialised form is its stable name.
            code: serde_json::to_value(problem.code)
                .ok()
                .and_then(|code| code.as_str().map(str::to_owned))
                .unwrap_or_default(),
            subject: problem.subject,
            message: problem.message,
        })
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
