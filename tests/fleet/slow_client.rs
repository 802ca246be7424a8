//! A client takes a byte now and then. Its own answer is complete all the same, and nobody else waits for it.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::field::{Field, LIMIT};
use crate::fleet::{Process, until};
use crate::stack::BASE;
use crate::streams::question;

/// Sends a request whose answer ends with the connection, over one that holds as little as it can.
async fn ask_slowly(gateway: &Process, key: &str, body: &serde_json::Value) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    let address = gateway.url.strip_prefix("http://").unwrap();
    let mut connection = socket.connect(address.parse().unwrap()).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "POST /v1/completions HTTP/1.0\r\nhost: souk\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    connection
}

fn text_of(answer: &str) -> String {
    let events = answer.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let pieces = events.map(|event| serde_json::from_str::<serde_json::Value>(event).unwrap());
    pieces.map(|piece| piece["choices"][0]["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_a_byte_now_and_then_slows_neither_its_node_nor_others_and_gets_all() {
    let mut field = Field::start(0, 0).await;
    field.add(1, 1, &[("SOUK_SERVER__STALL_TIMEOUT_MS", "300000")]).await;
    let (gateway, node) = (&field.fleet.gateways[0], &field.nodes[0]);
    // With alternatives each token is some hundred bytes, more in all than sockets hold.
    let mut body = question(BASE, 300);
    (body["logprobs"], body["stream"]) = (json!(5), json!(true));
    let whole = {
        let mut connection = ask_slowly(gateway, &field.key, &body).await;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let short = question(BASE, 40);
    let text = field.undisturbed(&short).await;
    let before = gateway.resident_kib();
    let mut slow = ask_slowly(gateway, &field.key, &body).await;
    let mut taken = vec![slow.read_u8().await.unwrap()];
    let other = field.answer(0, &short).await;
    let reads = async {
        while taken.len() < whole.len() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            taken.push(slow.read_u8().await.unwrap());
        }
    };
    let others_end = async {
        field.ends_as(other, &text).await;
        // The node is done with it as well.
        let idle = async || field.figure(node, "souk_engine_running_sequences").await == 0.0;
        until("the node has said all", LIMIT, idle).await;
    };
    tokio::select! {
        () = reads => {}
        () = others_end => {}
    }
    let grown = gateway.resident_kib().saturating_sub(before);
    println!("{} of {} bytes were taken by then; the gateway had grown by {grown} KiB", taken.len(), whole.len());
    assert!(taken.len() < whole.len() / 2, "the node waited for its client");
    assert!(grown < 64 * 1024, "{grown} KiB");
    assert_eq!(field.figure(gateway, "souk_wire_streams_ended_total").await, 0.0, "{}", gateway.log());
    slow.read_to_end(&mut taken).await.unwrap();
    let slow = String::from_utf8(taken).unwrap();
    assert!(slow.trim_end().ends_with("[DONE]"), "{}", &slow[slow.len().saturating_sub(300)..]);
    assert_eq!(text_of(&slow), text_of(&whole));
}
