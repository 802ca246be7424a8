//! Opening the ports of a process and closing them.

use anyhow::Context as _;
use axum::Router;
use souk_http::serve::{Certificate, Listening, Server, ServerSettings, TlsSettings};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::routes;
use crate::terminal;

/// Opens the ports: one for everything, or one for everybody and one for operators. Says where they are. Whoever drops
/// them closes them.
///
/// # Errors
/// If an address is taken or there is no such address, or the certificate cannot be used.
pub(super) async fn listen(
    server: &Server,
    settings: &ServerSettings,
    router: Router,
) -> anyhow::Result<Vec<Listening>> {
    let open = |is_on: bool, tls: TlsSettings| is_on.then(|| Certificate::open(tls)).transpose();
    let for_operators = open(settings.tls.operators, settings.tls.clone())?;
    let for_everybody = open(settings.tls.is_on(), settings.tls.asking_nobody())?;
    let admin = match settings.admin_address() {
        Some(address) => Some(bind(&address, "server.admin_listen").await?),
        None => None,
    };
    let public = bind(&settings.listen, "server.listen").await?;
    let mut ports = Vec::new();
    let scheme = |certificate: &Option<Certificate>| if certificate.is_some() { "https" } else { "http" };
    let router = if let Some(listener) = admin {
        let scheme = scheme(&for_operators);
        let port = server.listen(listener, router.clone(), for_operators);
        let port = port.context("the operators' port has no address")?;
        terminal::line(&format!("operators on {scheme}://{}", port.address))?;
        ports.push(port);
        routes::public(router)
    } else {
        router
    };
    let scheme = scheme(&for_everybody);
    let port = server.listen(public, router, for_everybody).context("the port has no address")?;
    // Scripts wait for this line: from here on requests are answered.
    terminal::line(&format!("listening on {scheme}://{}", port.address))?;
    ports.push(port);
    Ok(ports)
}

async fn bind(address: &str, setting: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address} ({setting}); is another server there?"))
}

/// Closes all connections, those that hang at the end of `deadline`.
pub(super) async fn close(server: Server, deadline: Instant) {
    let hung = server.close(deadline).await;
    if hung > 0 {
        tracing::warn!(connections = hung, "Connections were still open and are cut off");
    }
}
