//! The proxy that cuts the network, on a server that says what it hears.

use std::time::Duration;

use souk_testkit::proxy::{Mode, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A server that says what it hears, and a connection to it by a proxy.
async fn echo() -> (Proxy, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = Proxy::before(&format!("tcp://{}", listener.local_addr().expect("an address")));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = client.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    let client = connect(&proxy).await;
    (proxy, client)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.url.trim_start_matches("tcp://")).await.expect("the proxy listens")
}

async fn says(client: &mut TcpStream, word: &[u8; 4]) -> bool {
    let mut heard = [0; 4];
    client.write_all(word).await.is_ok() && client.read_exact(&mut heard).await.is_ok() && heard == *word
}

#[tokio::test]
async fn bytes_pass_until_they_do_not_and_none_is_lost() {
    let (proxy, mut client) = echo().await;
    assert!(says(&mut client, b"one ").await);
    proxy.set(Mode::Silent);
    client.write_all(b"two ").await.expect("it stays open");
    let mut heard = [0; 4];
    let nothing = tokio::time::timeout(Duration::from_millis(100), client.read_exact(&mut heard)).await;
    assert!(nothing.is_err(), "{heard:?}");
    proxy.set(Mode::Slow(Duration::from_millis(5)));
    client.read_exact(&mut heard).await.expect("it goes on");
    assert_eq!(&heard, b"two ");
    assert!(says(&mut client, b"more").await);
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn connections_end_in_order_or_by_a_reset_and_new_ones_pass_when_it_is_over() {
    for (mode, is_reset) in [(Mode::Closed, false), (Mode::Reset, true)] {
        let (proxy, mut client) = echo().await;
        assert!(says(&mut client, b"one ").await);
        proxy.set(mode);
        let ended = client.read(&mut [0; 4]).await;
        assert_eq!(ended.is_err(), is_reset, "{ended:?}");
        let mut refused = connect(&proxy).await;
        assert!(!says(&mut refused, b"two ").await);
        proxy.set(Mode::Pass);
        let mut again = connect(&proxy).await;
        assert!(says(&mut again, b"more").await);
    }
}

#[tokio::test]
async fn those_of_one_process_are_told_from_others() {
    let (proxy, mut client) = echo().await;
    assert!(says(&mut client, b"one ").await);
    // That process has no such connection; this one has.
    proxy.set_of(1, Mode::Closed);
    assert!(says(&mut client, b"two ").await);
    proxy.set_of(std::process::id(), Mode::Closed);
    assert!(!says(&mut client, b"more").await);
    proxy.set(Mode::Pass);
    let mut again = connect(&proxy).await;
    assert!(says(&mut again, b"last").await);
}
