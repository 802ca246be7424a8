//! Adapters: room on the device, loads, templates that they bring along.

use std::time::Duration;

use reqwest::multipart::Part;
use serde_json::json;

use crate::field::{Acts, Field, adapter, form};
use crate::form::scale;
use crate::harm::Harm;

/// Room for three large adapters and a bit: of rank 16 on q and v each takes 1.8 MiB, of rank 4 0.5.
const SMALL_ROOM: [(&str, &str); 5] = [
    ("SOUK_MEMORY__DEVICE_MB", "60"),
    ("SOUK_MEMORY__KV_FLOOR_MB", "48"),
    ("SOUK_MEMORY__ADAPTERS_FLOOR_MB", "6"),
    ("SOUK_ADAPTERS__DEVICE_MB", "6"),
    ("SOUK_ADAPTERS__HOST_MB", "12"),
];
/// Of the innocent's adapters.
const SMALL: usize = 4;
/// Of the others.
const LARGE: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_adapters_in_long_answers_leave_room_for_a_small_one() {
    let field = Field::start(&SMALL_ROOM);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    // One for each request, so that none is resident when it is asked for beside the others.
    for number in 0..2 {
        innocent.publish(&format!("small{number}"), "private", &adapter(SMALL, number)).await;
    }
    let mut large = Vec::new();
    for number in 0..6 {
        large.push(hostile.publish(&format!("large{number}"), "private", &adapter(LARGE, number)).await);
    }
    let alone = field.asks_for(&innocent, 1, "innocent/small0").await;
    let acts = Acts::begin(6, usize::MAX, move |number| {
        let (tenant, model) = (hostile.clone(), large[number % 6].clone());
        async move {
            // As long as the floor of K and V lets an answer be.
            tenant.generate(&model, "Once", scale(1500, 1900)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    field.rises_to("souk_engine_running_sequences", 2.0, Duration::from_secs(20)).await;
    let beside = field.asks_for(&innocent, Field::num_asked(), "innocent/small1").await;
    let act = "large adapters in long answers";
    Harm { act, num_acts: acts.num(), alone: &alone, beside: &beside }.told(&field.stack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adapters_that_are_loaded_in_turn_by_one_leave_anothers_load_its_turn() {
    let field = Field::start(&[SMALL_ROOM.as_slice(), &[("SOUK_ADAPTERS__DISK_MB", "0")]].concat());
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    for number in 0..2 {
        innocent.publish(&format!("small{number}"), "private", &adapter(SMALL, number)).await;
    }
    let num_large = scale(8, 24);
    let mut large = Vec::new();
    for number in 0..num_large {
        large.push(hostile.publish(&format!("large{number}"), "private", &adapter(LARGE, number as u8)).await);
    }
    let alone = field.asks_for(&innocent, 1, "innocent/small0").await;
    // Each is gone from memory when it is asked for again.
    let acts = Acts::begin(num_large, scale(300, 5000), move |number| {
        let (tenant, model) = (hostile.clone(), large[number % num_large].clone());
        async move {
            tenant.generate(&model, "Once", 1).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    field.rises_to("souk_adapter_loads_total", 4.0, Duration::from_secs(20)).await;
    let beside = field.asks_for(&innocent, Field::num_asked(), "innocent/small1").await;
    Harm { act: "loads without end", num_acts: acts.num(), alone: &alone, beside: &beside }.told(&field.stack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_templates_that_multiply_are_refused_and_hold_nobody_up() {
    let field = Field::start(&[]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let templates = [
        // Small for what a publication is tried with, square in what is asked.
        "{% for m in messages %}{% for i in range(m.content | length) %}{{ m.content }}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ messages[0].content }}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}\
         {{ ns.x }}{{ messages[0].content }}",
        "{% for m in messages %}{{ (m.content * 99999) * 9999 }}{% endfor %}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}{{ messages[0].content }}",
    ];
    let mut models = Vec::new();
    for (number, template) in templates.iter().enumerate() {
        let short = format!("template{number}");
        let made = hostile.post("/registry/v1/adapters", &json!({ "name": short, "visibility": "private" })).await;
        assert_eq!(made.status(), 201);
        let form =
            form("1.0.0", &adapter(SMALL, number as u8)).part("chat_template.jinja", Part::bytes(template.as_bytes()));
        let answer = hostile.upload(&short, form).await;
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
        assert!(status == 201 || status == 422, "{template}: {status} {text}");
        if status == 201 {
            models.push(format!("hostile/{short}"));
        }
    }
    println!("{} of {} templates were published", models.len(), templates.len());
    assert!(!models.is_empty(), "what is small at publication is published");
    let acts = Acts::begin(12, scale(150, 3000), move |number| {
        let (tenant, model) = (hostile.clone(), models[number % models.len()].clone());
        async move {
            let body = json!({
                "model": model, "max_tokens": 1, "messages": [{ "role": "user", "content": "many words ".repeat(500) }],
            });
            let answer = tenant.post("/v1/chat/completions", &body).await;
            let (status, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
            let is_fine = [200, 429, 503].contains(&status) || (status == 400 && text.contains("chat_template"));
            assert!(is_fine, "{model}: {status} {text:.300}");
        }
    });
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "templates that multiply", num_acts: acts.num(), alone: &alone, beside: &beside }.told(&field.stack);
}
