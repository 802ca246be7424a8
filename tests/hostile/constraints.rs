//! Constraints that are costly to compile.

use serde_json::json;

use crate::field::{Acts, Field, Tenant};
use crate::form::scale;
use crate::harm::{Harm, Seen};
use crate::stack::BASE;

/// Answers that must be one field, none of which was compiled before.
async fn asks_for_a_field(innocent: &Tenant, round: &str, num: usize) -> Seen {
    let mut seen = Seen::default();
    for number in 0..num {
        let field = format!("{round}{number}");
        let schema = json!({
            "type": "object", "properties": { field.clone(): { "type": "integer" } }, "required": [field],
            "additionalProperties": false,
        });
        let body = json!({ "model": BASE, "prompt": "JSON:", "max_tokens": 8, "guided_json": schema });
        let asked = std::time::Instant::now();
        let answer = innocent.post("/v1/completions", &body).await;
        match answer.status().as_u16() {
            200 => seen.waits.push(asked.elapsed()),
            status => seen.refusals.push(format!("{status} {}", answer.text().await.unwrap_or_default())),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costly_constraints_of_one_tenant_leave_anothers_one_field_schema_its_turn() {
    let field = Field::start(&[]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = asks_for_a_field(&innocent, "alone", Field::num_asked()).await;
    let acts = Acts::begin(25, scale(300, 5000), move |number| {
        let tenant = hostile.clone();
        // Each is another, so that none is found compiled.
        let constraint = match number % 3 {
            0 => json!({ "guided_regex": format!("({number}|[a-z]{{1,40}}){{1,60}}(x|y|zz){{20,90}}") }),
            1 => {
                let properties = (0..150)
                    .map(|at| (format!("p{number}_{at}"), json!({ "type": "string", "pattern": "^(a|b){1,30}$" })));
                let properties: serde_json::Map<_, _> = properties.collect();
                json!({ "guided_json": { "type": "object", "properties": properties } })
            }
            _ => json!({ "guided_regex": format!("(?:[^{number}]{{0,200}}){{0,200}}b") }),
        };
        async move {
            let mut body = json!({ "model": BASE, "prompt": "One", "max_tokens": 2 });
            body.as_object_mut().expect("an object").extend(constraint.as_object().expect("an object").clone());
            drop(tenant.post("/v1/completions", &body).await.bytes().await);
        }
    });
    let beside = asks_for_a_field(&innocent, "beside", Field::num_asked()).await;
    let act = "costly constraints (whole answers of a one-field schema)";
    Harm { act, num_acts: acts.num(), alone: &alone, beside: &beside }.told(&field.stack);
}
