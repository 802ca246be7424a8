//! Connections that keep no rules but their own.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::field::{Field, Tenant};

/// A connection from one of 250 addresses of this machine, none of them the innocent's.
pub(crate) async fn connect(field: &Field, number: usize) -> TcpStream {
    let to: SocketAddr = field.stack.url.split_once("://").expect("a URL").1.parse().expect("an address");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("the option is there");
    let from = [127, 66, 1, u8::try_from(number % 250 + 1).expect("below 251")];
    socket.bind((from, 0).into()).expect("all of 127.0.0.0/8 is this machine's");
    socket.connect(to).await.expect("the server listens")
}

/// The head of a POST of JSON.
pub(crate) fn head(tenant: &Tenant, path: &str, len: usize) -> String {
    let key = &tenant.key;
    format!(
        "POST {path} HTTP/1.1\r\nhost: souk\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {len}\r\n\r\n"
    )
}

/// A POST of JSON, whole.
pub(crate) fn request(tenant: &Tenant, path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    (head(tenant, path, body.len()) + &body).into_bytes()
}

/// Reads until the server hangs up; a reset counts as that.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first bytes of an HTTP/2 connection, whose streams have windows of nothing.
pub(crate) fn http2_without_window() -> Vec<u8> {
    // INITIAL_WINDOW_SIZE is setting 4.
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat()
}

/// A POST of JSON on a stream of HTTP/2, which announces `len` bytes, has those of `body` and ends if they are all.
pub(crate) fn http2_post(tenant: &Tenant, stream: u32, path: &str, body: &[u8], len: usize) -> Vec<u8> {
    // Of HPACK's table: POST, http, the names of path, authority, authorization, content-type, content-length.
    let mut head = vec![0x83, 0x86];
    for (name, value) in [
        (&[0x04][..], path),
        (&[0x01], "souk"),
        (&[0x0f, 0x08], &format!("Bearer {}", tenant.key)),
        (&[0x0f, 0x10], "application/json"),
        (&[0x0f, 0x0d], &len.to_string()),
    ] {
        head.extend(name);
        head.push(u8::try_from(value.len()).ok().filter(|len| *len < 127).expect("a short value"));
        head.extend(value.as_bytes());
    }
    let ends = u8::from(body.len() == len);
    [frame(1, 0b100, stream, &head), frame(0, ends, stream, body)].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Reads what comes and throws it away, so that the connection's own window never closes.
pub(crate) async fn swallow(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).await.is_ok_and(|len| len > 0) {}
}

/// Writes one byte each so often until the server hangs up.
pub(crate) async fn drip(stream: &mut TcpStream, every: std::time::Duration) {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        while writer.write_all(b"y").await.is_ok() {
            tokio::time::sleep(every).await;
        }
    };
    let read = async {
        let mut bytes = [0; 1024];
        while reader.read(&mut bytes).await.is_ok_and(|len| len > 0) {}
    };
    tokio::select! { () = write => {} () = read => {} }
}
