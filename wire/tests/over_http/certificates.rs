//! Nodes that show certificates, and gateways that ask for them.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use souk_http::serve::TlsSettings;
use souk_queue::{Closed, EventSinks as _};
use souk_testkit::certificates::{Authority, Issued};
use souk_wire::{Dialer, HttpDial, SettingsError, WireSettings};

use crate::{GOOD, Gateway, Keeper, closed, dialer_with, finished, next, pool, settings, tokens, until};
use souk_testkit::proxy::{Mode, Proxy};

/// A gateway that asks nodes for certificates of this authority, which has signed its own too.
async fn asking(authority: &Authority) -> Gateway {
    let own = authority.issue("gateway", "IP:127.0.0.1");
    let (cert, key, client_ca) = (own.cert, own.key, authority.root());
    Gateway::start_with(TlsSettings { cert, key, operators: true, client_ca }).await
}

fn showing(authority: &Authority, shown: Option<&Issued>) -> WireSettings {
    let client_cert = shown.map_or_else(Default::default, |shown| shown.both.clone());
    WireSettings { root_cert: authority.root(), client_cert, ..settings() }
}

/// What a node is told that may not come in.
async fn told(gateway: &Gateway, dialer: &Dialer) -> String {
    let (job, _events) = gateway.listen();
    match closed(dialer.sink(&gateway.reply_to(&gateway.url), &job, 1).as_ref()).await {
        Closed::Unreachable(told) => told,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_gateway_that_asks_for_certificates_takes_events_from_those_that_show_one() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "others"));
    let gateway = asking(&ours).await;
    let node = ours.issue("node", "DNS:node");
    let (with, _) = dialer_with(GOOD, &showing(&ours, Some(&node)), pool());
    let (job, mut events) = gateway.listen();
    let sink = with.sink(&gateway.reply_to(&gateway.url), &job, 1);
    sink.send(tokens(0, 1)).unwrap();
    sink.send(finished()).unwrap();
    assert_eq!(next(&mut events).await.1, tokens(0, 1));
    assert_eq!(next(&mut events).await.1, finished());
    let (without, _) = dialer_with(GOOD, &showing(&ours, None), pool());
    let why = told(&gateway, &without).await;
    assert!(why.contains("client_certificate_missing") && why.contains("wire.client_cert"), "{why}");
    let foreign = others.issue("foreign", "DNS:node");
    let (foreign, _) = dialer_with(GOOD, &showing(&ours, Some(&foreign)), pool());
    let why = told(&gateway, &foreign).await;
    assert!(why.contains("UnknownCA"), "{why}");
    assert_eq!(gateway.receiver.num_streams(), 1, "that of the one who showed a good one");
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_shown_at_the_next_dial_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "others"));
    let gateway = asking(&ours).await;
    let shown = others.issue("node", "DNS:node");
    let (dialer, _) = dialer_with(GOOD, &showing(&ours, Some(&shown)), pool());
    assert!(told(&gateway, &dialer).await.contains("UnknownCA"));
    std::fs::copy(ours.issue("node", "DNS:node").both, &shown.both).unwrap();
    let proxy = Proxy::before(&gateway.url.replace("https://", "http://"));
    let through_it = gateway.reply_to(&proxy.url.replace("http://", "https://"));
    for _ in 0..2 {
        let (job, mut events) = gateway.listen();
        let sink = dialer.sink(&through_it, &job, 1);
        sink.send(finished()).unwrap();
        assert_eq!(next(&mut events).await.1, finished());
        proxy.set(Mode::Closed);
        until("the stream has ended", || gateway.receiver.num_streams() == 0 && dialer.num_streams() == 0).await;
        proxy.set(Mode::Pass);
        std::fs::write(&shown.both, "half a certificate").unwrap();
    }
    assert_eq!(proxy.accepted(), 2);
}

#[test]
fn files_of_certificates_that_cannot_be_used_are_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing.pem");
    std::fs::write(&nothing, "nothing").unwrap();
    let keeper = || Arc::new(Keeper { first: GOOD, num_asked: AtomicUsize::new(0) });
    for (setting, settings) in [
        ("wire.root_cert", WireSettings { root_cert: nothing.clone(), ..settings() }),
        ("wire.client_cert", WireSettings { client_cert: nothing.clone(), ..settings() }),
    ] {
        let Err(error) = HttpDial::new(&settings, keeper()) else { panic!("{setting}") };
        assert!(matches!(error, SettingsError::Certificates { .. }));
        assert!(error.to_string().starts_with(setting) && error.to_string().contains("nothing.pem"), "{error}");
    }
}
