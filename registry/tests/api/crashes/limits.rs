//! Changes of teams and of what tenants, teams, members and keys may use.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use souk_registry::Action;

use super::change::Change;
use super::people::member;
use super::{Field, listed, num_with};
use crate::support::body;

pub(super) const ACTIONS: [Action; 7] = [
    Action::CreateTeam,
    Action::DeleteTeam,
    Action::AddTeamMember,
    Action::RemoveTeamMember,
    Action::SetLimits,
    Action::SetAnswers,
    Action::SetTenantLimits,
];

pub(super) async fn prepare(change: Change, field: &mut Field) {
    if matches!(change.action, Action::CreateTeam | Action::SetAnswers | Action::SetTenantLimits) {
        return;
    }
    let made = field.acme().post("/teams", json!({ "name": change.name() })).await;
    field.made.id = body(made, StatusCode::CREATED).await["id"].as_str().unwrap().to_owned();
    match change.action {
        Action::DeleteTeam => {
            let limits = json!({ "limits": { "tokens_per_day": { "value": 1 } } });
            let set = field.acme().patch(&format!("/limits/team/{}", field.made.id), limits).await;
            assert_eq!(set.status(), StatusCode::OK);
            add(field).await;
        }
        Action::AddTeamMember => field.made.secret = person(field).await,
        Action::RemoveTeamMember => add(field).await,
        _ => {}
    }
}

/// Makes a member and puts them into the team.
async fn add(field: &mut Field) {
    field.made.secret = person(field).await;
    let added = field.acme().put(&of_team(field), Value::Null).await;
    assert_eq!(added.status(), StatusCode::NO_CONTENT);
}

/// The id of a new member of acme.
async fn person(field: &Field) -> String {
    member(field, "developer").await.person().await
}

fn of_team(field: &Field) -> String {
    format!("/teams/{}/members/{}", field.made.id, field.made.secret)
}

/// A number that no other change has.
fn limits(change: Change) -> Value {
    json!({ "limits": { "tokens_per_day": { "value": change.number, "soft": 0 }, "requests_per_minute": { "value": 7 } } })
}

pub(super) fn request(change: Change, field: &Field) -> RequestBuilder {
    let (acme, admin, id) = (field.acme(), field.admin(), &field.made.id);
    match change.action {
        Action::CreateTeam => acme.request(Method::POST, "/teams").json(&json!({ "name": change.name() })),
        Action::DeleteTeam => acme.request(Method::DELETE, &format!("/teams/{id}")),
        Action::AddTeamMember => acme.request(Method::PUT, &of_team(field)),
        Action::RemoveTeamMember => acme.request(Method::DELETE, &of_team(field)),
        Action::SetLimits => acme.request(Method::PATCH, &format!("/limits/team/{id}")).json(&limits(change)),
        Action::SetAnswers => {
            let answers = json!({ "output_ceiling": change.number, "keeps_answers": true });
            acme.request(Method::PATCH, "/limits/answers").json(&answers)
        }
        Action::SetTenantLimits => admin.request(Method::PATCH, "/tenants/acme/limits").json(&limits(change)),
        other => panic!("{other:?} is not of limits"),
    }
}

pub(super) async fn check(change: Change, field: &Field) {
    let (acme, id) = (field.acme(), &field.made.id);
    let count = async |of: String| field.number(&format!("SELECT count(*) AS n FROM {of}")).await;
    let subject = async |id: &str| {
        let all = listed(&acme, "/limits").await;
        all.into_iter().find(|one| one["subject"] == id).unwrap()
    };
    match change.action {
        Action::CreateTeam => assert_eq!(num_with(&acme, "/teams", "name", &change.name()).await, 1),
        Action::DeleteTeam => {
            assert_eq!(num_with(&acme, "/teams", "id", id).await, 0);
            assert_eq!(count(format!("limits WHERE subject_id = '{id}'")).await, 0);
            assert_eq!(count(format!("members WHERE team_id = '{id}'")).await, 0);
        }
        Action::AddTeamMember | Action::RemoveTeamMember => {
            let members = count(format!("members WHERE team_id = '{id}'")).await;
            assert_eq!(members, i64::from(change.action == Action::AddTeamMember));
        }
        Action::SetLimits => {
            let set = &subject(id).await["limits"];
            assert_eq!(
                (&set["tokens_per_day"]["value"], &set["tokens_per_day"]["soft"]),
                (&json!(change.number), &json!(0))
            );
            assert_eq!(set["requests_per_minute"]["value"], 7);
        }
        Action::SetAnswers => {
            let first = &listed(&acme, "/limits").await[0]["tenant"];
            assert_eq!(first, &json!({ "gate_weight": 1, "output_ceiling": change.number, "keeps_answers": true }));
        }
        Action::SetTenantLimits => {
            let first = &listed(&acme, "/limits").await[0]["limits"];
            assert_eq!(first["tokens_per_day"]["value"], json!(change.number));
        }
        other => panic!("{other:?} is not of limits"),
    }
}
