//! Clients that do not take what they asked for.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::field::{Acts, CONNECTIONS, Field, IN_FLIGHT, Waits};
use crate::form::{is_full, scale};
use crate::harm::Harm;
use crate::raw::{connect, http2_post, http2_without_window, request, swallow};
use crate::stack::BASE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_answers_on_shut_http2_windows_take_no_place_from_others_and_are_reset_in_time() {
    let (places, streams) = if is_full() { ("512", 128) } else { ("48", 16) };
    let field = Field::start(&[("SOUK_GATEWAY__MAX_IN_FLIGHT", places)]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let body = json!({ "model": BASE, "prompt": "One", "max_tokens": 1, "stream": true }).to_string();
    let num_connections = scale(3, 4);
    let mut held = Vec::new();
    for number in 0..num_connections {
        let mut stream = connect(&field, number).await;
        let mut bytes = http2_without_window();
        for id in 0..streams {
            bytes.extend(http2_post(&hostile, 2 * id + 1, "/v1/completions", body.as_bytes(), body.len()));
        }
        stream.write_all(&bytes).await.expect("the server reads");
        held.push(tokio::spawn(async move { swallow(&mut stream).await }));
    }
    let num_acts = num_connections * streams as usize;
    field.rises_to(IN_FLIGHT, num_acts as f64 / 2.0, Duration::from_secs(30)).await;
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "one-token answers on HTTP/2 windows of 0", num_acts, alone: &alone, beside: &beside }
        .told(&field.stack);
    field.falls_to(IN_FLIGHT, 0.0, Duration::from_secs(Waits::of_this_form().stall_s)).await;
    assert!(field.stack.metric("souk_http_streams_cut_off_total").await > 0.0);
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_long_answers_loses_them_and_its_places_in_time() {
    let field = Field::start(&[("SOUK_QUEUE__MAX_QUEUED", "4096"), ("SOUK_GATEWAY__MAX_IN_FLIGHT", "1200")]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let num_acts = scale(20, 1000);
    // Some megabytes of log probabilities, which no buffer of the kernel takes.
    let body = json!({
        "model": BASE, "prompt": "One", "max_tokens": scale(40, 200), "stream": true, "logprobs": 20,
        "ignore_eos": true,
    });
    let mut held = Vec::new();
    for number in 0..num_acts {
        let mut stream = connect(&field, number).await;
        stream.write_all(&request(&hostile, "/v1/completions", &body)).await.expect("the server reads");
        held.push(stream);
    }
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "streams that nobody reads", num_acts, alone: &alone, beside: &beside }.told(&field.stack);
    // What was answered within the kernel's buffers is over, and its connection then idle.
    let waits = Waits::of_this_form();
    let generated = Duration::from_secs(scale(20, 900) as u64);
    field.falls_to(IN_FLIGHT, 0.0, generated + Duration::from_secs(waits.stall_s)).await;
    field.falls_to(CONNECTIONS, 4.0, Duration::from_secs(waits.stall_s + waits.idle_s)).await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_at_every_stage_give_every_place_back() {
    let field = Field::start(&[]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let body = json!({ "model": BASE, "prompt": "One", "max_tokens": 400, "stream": true, "ignore_eos": true });
    let whole = request(&hostile, "/v1/completions", &body);
    let address = field.stack.url.trim_start_matches("http://").to_owned();
    let mut acts = Acts::begin(8, scale(120, 1000), move |number| {
        let (whole, address) = (whole.clone(), address.clone());
        async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
            // Seven stages: before and within the head, before and within the body, before, at and after the first token.
            let stage = number % 7;
            let body_at = whole.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
            let len = [0, 20, body_at, whole.len() - 5, whole.len(), whole.len(), whole.len()][stage];
            stream.write_all(&whole[..len]).await.ok();
            let pause = Duration::from_millis([0, 0, 2, 2, 0, 50, 300][stage]);
            tokio::time::sleep(pause).await;
        }
    });
    let beside = field.asks(&innocent, Field::num_asked()).await;
    acts.end().await;
    Harm { act: "clients that leave at every stage", num_acts: acts.num(), alone: &alone, beside: &beside }
        .told(&field.stack);
    for figure in [IN_FLIGHT, "souk_queue_queued_jobs", "souk_queue_running_jobs", "souk_engine_running_sequences"] {
        field.falls_to(figure, 0.0, Duration::from_secs(5)).await;
    }
    field.falls_to("souk_gateway_reading_body_bytes", 0.0, Duration::from_secs(5)).await;
}
