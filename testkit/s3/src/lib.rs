//! A real S3 server for tests: `s3s-fs` behind `s3s`, which checks signatures, in the test's own process on a free port
//! of the loopback address. Where `s3s-fs` is more lenient than S3 ([`strict`]) it is made as strict, and it can be
//! told to fail ([`Fault`]).
//!
//! Nothing of the product depends on this crate, and `make demo` does not build it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fault;
mod strict;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use fault::Fault;
use fault::{Answer, Planned};
use strict::{Strict, Uploads};

/// The bucket that the server has.
pub const BUCKET: &str = "souk-objects";
/// The id of its only access key.
pub const ACCESS_KEY_ID: &str = "SOUKTESTKEY";
/// The key's secret.
pub const SECRET_ACCESS_KEY: &str = "not-a-secret-at-all";

/// A running server. Dropped, it is gone with all that it holds.
pub struct S3Server {
    endpoint: String,
    service: S3Service,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// What requests look at.
struct State {
    folder: PathBuf,
    /// Removes the folder in the end, where that is wanted.
    _temporary: Option<TempDir>,
    uploads: Arc<Uploads>,
    faults: Mutex<Vec<Planned>>,
    /// The region that requests must be signed for, if only one is right.
    region: Mutex<Option<String>>,
    /// Method, path and query of every request.
    seen: Mutex<Vec<String>>,
}

impl S3Server {
    /// Starts a server with one empty bucket.
    ///
    /// # Panics
    /// If there is no port or no folder to be had.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        Self::start_at("127.0.0.1:0", path, Some(folder)).await
    }

    /// Starts a server at an address that keeps its bucket in a folder, where it finds it again.
    ///
    /// # Panics
    /// If the address is taken or the folder cannot be used.
    pub async fn start_in(folder: &Path, address: &str) -> Self {
        Self::start_at(address, folder.to_owned(), None).await
    }

    /// Serves until it is [stopped](Self::stop).
    pub async fn ended(&mut self) {
        (&mut self.task).await.ok();
    }

    async fn start_at(address: &str, folder: PathBuf, temporary: Option<TempDir>) -> Self {
        std::fs::create_dir_all(folder.join(BUCKET)).unwrap();
        let uploads = Arc::new(Uploads::default());
        let store = Strict::new(FileSystem::new(&folder).unwrap(), uploads.clone());
        let mut service = S3ServiceBuilder::new(store);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let service = service.build();
        let listener = TcpListener::bind(address).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (faults, region, seen) = (Mutex::default(), Mutex::default(), Mutex::default());
        let state = State { folder, _temporary: temporary, uploads, faults, region, seen };
        let state = Arc::new(state);
        let task = tokio::spawn(listen(listener, service.clone(), state.clone()));
        Self { endpoint, service, state, task }
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Lets the next `times` requests of `method`, whose path and query contain `part`, meet with a fault.
    pub fn fail(&self, method: &'static str, part: &'static str, times: usize, fault: Fault) {
        self.state.faults.lock().unwrap().push(Planned { method, part, times, fault });
    }

    /// How many requests are still to meet with a fault.
    #[must_use]
    pub fn num_faults_left(&self) -> usize {
        self.state.faults.lock().unwrap().iter().map(|planned| planned.times).sum()
    }

    /// Lets no request meet with a fault any more but those that do already.
    pub fn heal(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    /// Makes lists end after so many entries, to be gone on with.
    pub fn page_by(&self, entries: usize) {
        self.state.uploads.page_by(entries);
    }

    /// From now on `If-None-Match` means nothing, as with servers that do not know it.
    pub fn ignore_conditions(&self) {
        self.state.uploads.ignore_conditions();
    }

    /// From now on requests must be signed for this region.
    pub fn be_in(&self, region: &str) {
        *self.state.region.lock().unwrap() = Some(region.to_owned());
    }

    /// The names of all objects that begin with `start`.
    #[must_use]
    pub fn names(&self, start: &str) -> Vec<String> {
        let mut names = Vec::new();
        let bucket = self.state.folder.join(BUCKET);
        let mut folders = vec![bucket.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    names.push(path.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        names.retain(|name| name.starts_with(start));
        names.sort_unstable();
        names
    }

    /// Changes the bytes of an object behind the server's back.
    pub fn damage(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.state.folder.join(BUCKET).join(name), bytes).unwrap();
    }

    /// Removes an object behind the server's back.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.state.folder.join(BUCKET).join(name)).unwrap();
    }

    /// How many multipart uploads are neither complete nor ended.
    #[must_use]
    pub fn num_running_uploads(&self) -> usize {
        self.state.uploads.len()
    }

    /// How many requests of `method` had a path and query with `part` in them.
    #[must_use]
    pub fn num_requests(&self, method: &str, part: &str) -> usize {
        let seen = self.state.seen.lock().unwrap();
        seen.iter().filter(|line| line.strip_prefix(method).is_some_and(|rest| rest.contains(part))).count()
    }

    /// Ends the server, as a crash would: what runs breaks off, and nothing answers.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// Starts it again after [`Self::stop`], at the same address and with what it had.
    ///
    /// # Panics
    /// If its port is taken.
    pub async fn start_again(&mut self) {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        // The old listener goes when its task does.
        self.task.abort();
        (&mut self.task).await.unwrap_err();
        let listener = TcpListener::bind(address).await.unwrap();
        self.task = tokio::spawn(listen(listener, self.service.clone(), self.state.clone()));
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, service: S3Service, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (service, state) = (service.clone(), state.clone());
        connections.spawn(async move {
            let answer = service_fn(move |request| answer(service.clone(), state.clone(), request));
            // A connection that breaks is the client's to tell of.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(service: S3Service, state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Answer>> {
    let line = format!("{} {}", request.method(), request.uri());
    state.seen.lock().unwrap().push(line.clone());
    let fault = fault::next(&mut state.faults.lock().unwrap(), &line);
    if let Some(answer) = elsewhere(&state, &request) {
        return Ok(answer);
    }
    if let Some(answer) = fault.as_ref().map(Fault::instead) {
        match answer {
            fault::Instead::Answer(answer) => {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.frame().await {}
                return Ok(answer);
            }
            fault::Instead::Break => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            fault::Instead::Never => std::future::pending().await,
            fault::Instead::GoOn => {}
        }
    }
    let answer = service.call(request.map(s3s::Body::from)).await;
    let answer = answer.map_err(|error| io::Error::other(format!("{error:?}")))?;
    let answer = answer.map(|body| body.map_err(|error| io::Error::other(error.to_string())).boxed_unsync());
    match fault {
        Some(fault) => fault.spoil(answer),
        None => Ok(answer),
    }
}

/// What S3 answers to a request that is signed for another region.
fn elsewhere(state: &State, request: &Request<Incoming>) -> Option<Response<Answer>> {
    let region = state.region.lock().unwrap().clone()?;
    let signed = request.headers().get("authorization")?.to_str().ok()?;
    // Credential=<key>/<date>/<region>/s3/aws4_request
    let given = signed.split('/').nth(2)?;
    let message = format!("The authorization header is malformed; the region '{given}' is wrong; expecting '{region}'");
    (given != region).then(|| fault::error(400, "AuthorizationHeaderMalformed", &message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_starts_again_at_its_address_and_says_at_once_that_this_is_taken() {
        let mut server = S3Server::start().await;
        for _ in 0..3 {
            server.stop();
            server.start_again().await;
        }
        let address = server.endpoint().strip_prefix("http://").unwrap().to_owned();
        tokio::net::TcpStream::connect(&address).await.unwrap();
        server.stop();
        while !server.task.is_finished() {
            tokio::task::yield_now().await;
        }
        let _taken = TcpListener::bind(&address).await.unwrap();
        let failed = tokio::spawn(async move { server.start_again().await }).await.unwrap_err();
        let told = failed.into_panic().downcast::<String>().unwrap();
        assert!(told.contains("AddrInUse"), "{told}");
    }
}
