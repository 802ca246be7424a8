//! A TCP proxy before a server, which does to connections what networks do: it closes them, resets them, holds bytes up, or
//! lets nothing through while they stay open. To those of one process alone, if that is wanted.

use std::fs;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Bytes that are passed on at once.
const PIECE_BYTES: usize = 16 * 1024;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are passed on.
    Pass,
    /// Each piece, of up to 16 KiB, is held for so long before it is passed on.
    Slow(Duration),
    /// They stay open, and nothing passes: as where a cable is pulled.
    Silent,
    /// They are closed, and new ones are too.
    Closed,
    /// The same by a reset, which throws away what was under way.
    Reset,
}

/// A proxy before one server. Ends with its connections when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// The server's address with the proxy's place in it.
    pub url: String,
    rules: watch::Sender<Rules>,
    accepted: Arc<AtomicU64>,
    _loop: AbortOnDropHandle<()>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rules {
    of_all: Mode,
    /// Of connections that a process has opened, by its id.
    of_processes: Vec<(u32, Mode)>,
}

impl Proxy {
    /// Opens one before a server, which need not be there yet: `scheme://host:port`. Call it within a tokio runtime.
    ///
    /// # Panics
    /// If the address has no scheme or there is no port to be had.
    #[must_use]
    pub fn before(server: &str) -> Self {
        let (scheme, target) = server.split_once("://").expect("a scheme before the address");
        let target = target.to_owned();
        let listener = StdListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket can be told");
        let url = format!("{scheme}://{}", listener.local_addr().expect("an address"));
        let listener = TcpListener::from_std(listener).expect("a tokio runtime");
        let (rules, told) = watch::channel(Rules { of_all: Mode::Pass, of_processes: Vec::new() });
        let accepted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            loop {
                let (client, from) = listener.accept().await.expect("a connection");
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(client, from, target.clone(), told.clone()));
            }
        });
        Self { url, rules, accepted, _loop: AbortOnDropHandle::new(accepting) }
    }

    /// What becomes of all connections from now on, those included that are open.
    pub fn set(&self, mode: Mode) {
        self.set_rules(Rules { of_all: mode, of_processes: Vec::new() });
    }

    /// What becomes of those that a process has opened or opens; those of others stay as they are.
    pub fn set_of(&self, process: u32, mode: Mode) {
        let mut rules = self.rules.borrow().clone();
        rules.of_processes.retain(|(other, _)| *other != process);
        rules.of_processes.push((process, mode));
        self.set_rules(rules);
    }

    /// Connections that came so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    fn set_rules(&self, rules: Rules) {
        self.rules.send_if_modified(|now| {
            let is_new = *now != rules;
            *now = rules;
            is_new
        });
    }
}

impl Rules {
    fn mode_of(&self, from: SocketAddr) -> Mode {
        let own = self.of_processes.iter().find(|(process, _)| has_connection(*process, from));
        own.map_or(self.of_all, |(_, mode)| *mode)
    }
}

async fn serve(mut client: TcpStream, from: SocketAddr, target: String, mut rules: watch::Receiver<Rules>) {
    let first = rules.borrow_and_update().clone();
    let mut now = first.mode_of(from);
    while now == Mode::Silent {
        let Some(mode) = next_mode(&mut rules, from).await else { return };
        now = mode;
    }
    let mut server = match now {
        Mode::Closed | Mode::Reset => return end(&[&client], now),
        _ => match TcpStream::connect(&target).await {
            Ok(server) => server,
            Err(_) => return,
        },
    };
    // Small pieces are passed on as they come, as a cable does.
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (mode, told) = watch::channel(now);
    let last = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let pumping =
            async { tokio::join!(pump(from_client, to_server, told.clone()), pump(from_server, to_client, told)) };
        let told_to_end = async {
            loop {
                match next_mode(&mut rules, from).await {
                    Some(last @ (Mode::Closed | Mode::Reset)) => return last,
                    Some(now) => drop(mode.send_replace(now)),
                    None => return Mode::Closed,
                }
            }
        };
        tokio::select! {
            _ = pumping => Mode::Closed,
            last = told_to_end => last,
        }
    };
    end(&[&client, &server], last);
}

/// What becomes of a connection when the rules change next; `None`: the proxy is gone.
async fn next_mode(rules: &mut watch::Receiver<Rules>, from: SocketAddr) -> Option<Mode> {
    rules.changed().await.ok()?;
    let now = rules.borrow_and_update().clone();
    Some(now.mode_of(from))
}

/// Has connections end as they should when they are dropped, which is next.
fn end(connections: &[&TcpStream], mode: Mode) {
    if mode == Mode::Reset {
        // One that is closed already stays so.
        connections.iter().for_each(|connection| drop(connection.set_zero_linger()));
    }
}

/// Passes bytes on in one direction to their end.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut mode: watch::Receiver<Mode>) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(num_bytes @ 1..) = from.read(&mut piece).await {
        loop {
            let now = *mode.borrow_and_update();
            match now {
                Mode::Pass => break,
                Mode::Slow(pause) => break tokio::time::sleep(pause).await,
                // Kept, so that no byte is lost when it goes on.
                _ if mode.changed().await.is_ok() => {}
                _ => return,
            }
        }
        if to.write_all(&piece[..num_bytes]).await.is_err() {
            return;
        }
    }
    // It may be gone altogether.
    to.shutdown().await.ok();
}

/// Whether one of a process's sockets has this address, as Linux tells it.
fn has_connection(process: u32, address: SocketAddr) -> bool {
    let table = fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap_or_default();
    let ends = format!(":{:04X}", address.port());
    let sockets = table.lines().filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let inode = columns.get(9).filter(|_| columns[1].ends_with(&ends))?;
        Some(PathBuf::from(format!("socket:[{inode}]")))
    });
    let sockets: Vec<_> = sockets.collect();
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    open.flatten().any(|one| fs::read_link(one.path()).is_ok_and(|what| sockets.contains(&what)))
}
