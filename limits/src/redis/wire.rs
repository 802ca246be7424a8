//! What is said to the functions, as JSON, and what they answer.

use std::iter::once;
use std::time::Duration;

use redis::{FromRedisValue as _, Value};
use serde::Serialize;
use souk_protocol::{Limit, Mode, PeriodKey, Policy, RequestId, Subject, TenantId, Total, TotalKey, Unit};
use souk_redis::Fault;

use crate::budgets;
use crate::error::{LimitsError, ReserveError};
use crate::words::{Amounts, Ask, Held, MAX_BUDGET, Reserved, Standing, Violation, value_of};

/// What a limit says.
const REFUSES: u64 = 1;
const UNKNOWN: u64 = 2;

/// Amounts in the order of the places that [`place`] says.
type WireAmounts = [u64; 4];

/// What many requests have in common: fields and levels. Lists and not objects, so that it is short; the functions read the same one
/// once.
type WireTree = (WireFields, Vec<WireLevel>);

/// Each a period and a unit by name, and then the unit's place.
type WireFields = Vec<serde_json::Value>;

/// A level's subject, and its limits.
type WireLevel = (String, Vec<WireLimit>);

/// The unit's place, which says which rate it is, value, 1 for one in shadow mode, and the field of a budget; empty of rates.
type WireLimit = (u8, u64, u8, String);

#[derive(Serialize)]
struct WireHeld {
    id: String,
    amounts: WireAmounts,
    lost_ms: u64,
    fields: WireFields,
    subjects: Vec<String>,
    settled: bool,
}

#[derive(Serialize)]
struct WireCounted {
    totals: Vec<WireTotal>,
    written: Vec<String>,
}

#[derive(Serialize)]
struct WireTotal {
    subject: String,
    field: String,
    amount: u64,
    version: u64,
}

/// What a function said of one limit.
struct Line {
    verdict: u64,
    numbers: [i64; 3],
}

/// Under what a request is held.
pub(super) fn id(tenant: &TenantId, request: &RequestId) -> String {
    format!("{tenant}/{request}")
}

/// What a request used: its id and four amounts.
pub(super) fn used(tenant: &TenantId, request: &RequestId, used: Amounts) -> Vec<String> {
    once(id(tenant, request)).chain(wire_amounts(used).map(|amount| amount.to_string())).collect()
}

/// A request: its id, four amounts, after how long what it used is lost, and its tree as JSON.
pub(super) fn ask(ask: &Ask) -> Result<Vec<String>, LimitsError> {
    let limit = |(&policy, &limit): (&Policy, &Limit)| -> WireLimit {
        let unit = policy.unit();
        let field = PeriodKey::of(policy, ask.at_ms).map(|period| field(period, unit)).unwrap_or_default();
        (place(unit), value_of(policy, limit), u8::from(limit.mode == Mode::Shadow), field)
    };
    let levels = ask.tree.levels.iter().map(|level| -> WireLevel {
        let limits = level.limits.iter().filter(|(policy, _)| is_counted_here(**policy));
        (subject(&level.subject), limits.map(limit).collect())
    });
    let tree: WireTree = (fields(ask), levels.collect());
    let mut args = used(&ask.tenant, &ask.request, ask.amounts);
    args.push(budgets::lost_after_ms(ask.at_ms).to_string());
    args.push(serde_json::to_string(&tree)?);
    Ok(args)
}

/// What is held, as JSON.
pub(super) fn held(held: &[&Held]) -> Result<String, LimitsError> {
    let held = held.iter().map(|Held { ask, is_settled }| WireHeld {
        id: id(&ask.tenant, &ask.request),
        amounts: wire_amounts(ask.amounts),
        lost_ms: budgets::lost_after_ms(ask.at_ms),
        fields: fields(ask),
        subjects: ask.tree.levels.iter().map(|level| subject(&level.subject)).collect(),
        settled: *is_settled,
    });
    Ok(serde_json::to_string(&held.collect::<Vec<_>>())?)
}

/// Totals and what they count, as JSON.
pub(super) fn counted(tenant: &TenantId, totals: &[Total], written: &[RequestId]) -> Result<String, LimitsError> {
    let totals = totals.iter().map(|Total { key, amount, version }| WireTotal {
        subject: subject(&key.subject),
        field: field(key.period, key.unit),
        amount: (*amount).min(MAX_BUDGET),
        version: *version,
    });
    let written = written.iter().map(|request| id(tenant, request));
    Ok(serde_json::to_string(&WireCounted { totals: totals.collect(), written: written.collect() })?)
}

/// What came of a request.
pub(super) fn said(ask: &Ask, said: &Value) -> Result<Reserved, ReserveError> {
    let unexpected = || LimitsError::from(Fault::Unexpected(format!("{said:?}").chars().take(300).collect()));
    let (status, wait_ms, lines, shadowed) =
        <(u64, u64, Vec<i64>, Vec<i64>)>::from_redis_value_ref(said).map_err(|_| unexpected())?;
    let ((lines, []), (shadowed, [])) = (lines.as_chunks::<4>(), shadowed.as_chunks::<4>()) else {
        return Err(unexpected().into());
    };
    let limits: Vec<_> = ask.tree.limits().filter(|(_, policy, _)| is_counted_here(*policy)).collect();
    if limits.len() != lines.len() {
        return Err(unexpected().into());
    }
    let judged: Vec<_> = limits
        .iter()
        .copied()
        .zip(lines.iter().map(|&[verdict, numbers @ ..]| Line { verdict: number(verdict), numbers }))
        .collect();
    let unknown = || {
        let unknown = judged.iter().filter(|(_, line)| line.verdict == UNKNOWN);
        unknown.filter_map(|((subject, policy, _), _)| total_key(ask, subject, *policy)).collect()
    };
    match status {
        0 => Ok(Reserved {
            standings: judged
                .iter()
                .filter(|((_, _, limit), _)| limit.mode == Mode::Enforce)
                .filter_map(|(limit, line)| standing(ask, *limit, line))
                .collect(),
            // Limits that have gone since a request was first asked for have nobody to be told of.
            shadowed: shadowed
                .iter()
                .filter_map(|&[place, ref numbers @ ..]| {
                    let limit = limits.get(usize::try_from(place).ok()?)?;
                    Some(violation(ask, *limit, *numbers))
                })
                .collect(),
            unknown: unknown(),
        }),
        1 => {
            let refuses = |limit: &Limit, line: &Line| line.verdict == REFUSES && limit.mode == Mode::Enforce;
            let violations = judged.iter().filter(|((_, _, limit), line)| refuses(limit, line));
            Err(ReserveError::Refused(violations.map(|(limit, line)| violation(ask, *limit, line.numbers)).collect()))
        }
        2 => Err(ReserveError::TotalsUnknown(unknown())),
        3 => Err(ReserveError::Gathering { retry_after: Duration::from_millis(wait_ms) }),
        _ => Err(unexpected().into()),
    }
}

fn standing(ask: &Ask, (subject, policy, limit): (&Subject, Policy, Limit), line: &Line) -> Option<Standing> {
    let (value, [first, second, third]) = (value_of(policy, limit), line.numbers.map(number));
    let (remaining, resets_in) = match PeriodKey::of(policy, ask.at_ms) {
        None => (first, Duration::from_millis(second)),
        Some(_) if third == 0 => return None,
        Some(period) => (value.saturating_sub(first.saturating_add(second)), budgets::until_end(period, ask.at_ms)),
    };
    Some(Standing { subject: subject.clone(), policy, limit: value, remaining, resets_in })
}

fn violation(ask: &Ask, (subject, policy, limit): (&Subject, Policy, Limit), numbers: [i64; 3]) -> Violation {
    let (value, asked) = (value_of(policy, limit), ask.amounts.of(policy.unit()));
    let (used, held, retry_after) = match PeriodKey::of(policy, ask.at_ms) {
        None => {
            // -1 says that it will never do.
            let wait = u64::try_from(numbers[2]).ok().map(Duration::from_millis);
            (value.saturating_sub(number(numbers[0])), 0, wait)
        }
        Some(period) => {
            let [used, held, _] = numbers.map(number);
            (used, held, budgets::retry_after(used, asked, value, period, ask.at_ms))
        }
    };
    Violation { subject: subject.clone(), policy, limit: value, used, held, asked, retry_after }
}

fn total_key(ask: &Ask, subject: &Subject, policy: Policy) -> Option<TotalKey> {
    let period = PeriodKey::of(policy, ask.at_ms)?;
    Some(TotalKey { subject: subject.clone(), period, unit: policy.unit() })
}

/// Versions are counted where they are published.
fn is_counted_here(policy: Policy) -> bool {
    policy.unit() != Unit::Versions
}

fn number(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn wire_amounts(Amounts { requests, input_tokens, output_tokens, training_tokens }: Amounts) -> WireAmounts {
    [requests, input_tokens, output_tokens, training_tokens].map(|amount| amount.min(MAX_BUDGET))
}

/// Where a unit is among amounts, as the functions count; tokens of both kinds are added up there.
const fn place(unit: Unit) -> u8 {
    match unit {
        Unit::Requests => 1,
        Unit::InputTokens => 2,
        Unit::OutputTokens => 3,
        Unit::TrainingTokens => 4,
        Unit::Tokens => 5,
        // Counted elsewhere, and never said.
        Unit::Versions => 0,
    }
}

fn fields(ask: &Ask) -> WireFields {
    let held = budgets::held(ask.amounts, ask.at_ms);
    held.flat_map(|(period, unit, _)| [field(period, unit).into(), place(unit).into()]).collect()
}

fn field(period: PeriodKey, unit: Unit) -> String {
    format!("{period}/{unit}")
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Member(tenant, person) => format!("member:{tenant}/{person}"),
        _ => format!("{}:{}", subject.level(), subject.id()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;
    use souk_protocol::{KeyId, LevelLimits, LimitTree, PersonId};

    use super::*;

    /// Anything that a server may answer.
    pub(in crate::redis) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            Just(Value::Okay),
            any::<i64>().prop_map(Value::Int),
            (-1..5_i64).prop_map(Value::Int),
            any::<bool>().prop_map(Value::Boolean),
            "first|ended|running|[a-z]{0,8}".prop_map(|text| Value::BulkString(text.into_bytes())),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(3, 40, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Value::Array))
    }

    fn one_ask() -> Ask {
        let tenant = TenantId::from_stored("ten_1");
        let limit = |value, mode| Limit { value, soft: None, mode };
        let limits: BTreeMap<_, _> = [
            (Policy::RequestsPerMinute, limit(5, Mode::Enforce)),
            (Policy::TokensPerMonth, limit(u64::MAX, Mode::Shadow)),
            (Policy::VersionsPerDay, limit(1, Mode::Enforce)),
        ]
        .into();
        let levels = vec![LevelLimits { subject: Subject::Tenant(tenant.clone()), limits }];
        let tree = LimitTree { levels, gate_weight: 1, output_ceiling: None, keeps_answers: false, hooks: None };
        let amounts = Amounts { requests: 1, input_tokens: u64::MAX, output_tokens: 2, training_tokens: 0 };
        let at_ms = 1_795_953_600_000;
        Ask { request: RequestId::from_stored("req_1"), tenant, tree: Arc::new(tree), amounts, at_ms }
    }

    fn lines(lines: &[[i64; 4]]) -> Value {
        Value::Array(lines.as_flattened().iter().copied().map(Value::Int).collect())
    }

    #[test]
    fn a_request_is_said_with_its_budgets_and_without_what_is_counted_elsewhere() {
        let said = ask(&one_ask()).unwrap();
        let (tree, numbers) = said.split_last().unwrap();
        let most = MAX_BUDGET.to_string();
        assert_eq!(numbers, ["ten_1/req_1", "1", &most, "2", "0", "216000000"]);
        let tree: serde_json::Value = serde_json::from_str(tree).unwrap();
        let expected = serde_json::json!([
            ["2026-11-29/tokens", 5, "2026-11/tokens", 5],
            [["tenant:ten_1", [[1, 5, 0, ""], [5, MAX_BUDGET, 1, "2026-11/tokens"],]]],
        ]);
        assert_eq!(tree, expected);
    }

    #[test]
    fn no_two_subjects_have_one_name() {
        let (tenant, person) = (TenantId::from_stored("a"), PersonId::from_stored("a"));
        let of_key = Subject::Key(KeyId::from_stored("a"));
        let names = [Subject::Tenant(tenant.clone()), Subject::Member(tenant, person), of_key].map(|one| subject(&one));
        assert_eq!(names, ["tenant:a", "member:a/a", "key:a"]);
    }

    #[test]
    fn an_answer_is_read_with_the_limits_that_were_asked_about() {
        let answer = |status, verdict| {
            let said = [lines(&[[verdict, 4, 12_000, 0], [0, 70, 30, 1]]), lines(&[[1, 90, 10, 1]])];
            Value::Array([Value::Int(status), Value::Int(5)].into_iter().chain(said).collect())
        };
        let reserved = said(&one_ask(), &answer(0, 0)).unwrap();
        assert_eq!(
            reserved.standings.iter().map(|one| one.remaining).collect::<Vec<_>>(),
            [4],
            "a shadow is no standing"
        );
        assert_eq!((reserved.shadowed[0].used, reserved.shadowed[0].held), (90, 10));
        let Err(ReserveError::Refused(refused)) = said(&one_ask(), &answer(1, 1)) else { panic!("it was refused") };
        assert_eq!((refused.len(), refused[0].used, refused[0].policy), (1, 1, Policy::RequestsPerMinute));
        let gathering = said(&one_ask(), &answer(3, 0)).unwrap_err();
        let wait = Duration::from_millis(5);
        assert!(matches!(gathering, ReserveError::Gathering { retry_after } if retry_after == wait));
    }

    proptest! {
        #[test]
        fn no_answer_of_a_server_breaks_the_reader(value in any_value()) {
            drop(said(&one_ask(), &value));
        }

        #[test]
        fn no_numbers_of_a_server_break_the_reader(
            status in 0..5_i64,
            wait in any::<i64>(),
            judged in prop::collection::vec(any::<i64>(), 7..10),
            shadowed in prop::collection::vec(any::<[i64; 4]>(), 0..3),
        ) {
            let judged = Value::Array(judged.into_iter().map(Value::Int).collect());
            let parts = [Value::Int(status), Value::Int(wait), judged, lines(&shadowed)];
            drop(said(&one_ask(), &Value::Array(parts.to_vec())));
        }
    }
}
