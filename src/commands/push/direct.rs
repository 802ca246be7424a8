//! Weights that go straight to the object store, where the server's store takes them: a part at a time, each of which can
//! be sent again. What was interrupted goes on where it was: the server lists the uploads that can still be completed.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use futures::stream::TryChunksError;
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use indicatif::ProgressBar;
use reqwest::Method;
use reqwest::multipart::Form;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use souk_protocol::{AdapterRef, Digest};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::tries::{Failed, Refusal, kept, retry, understood};
use crate::client::Client;
use crate::terminal;

/// Parts that are on their way at once, and of which the addresses are asked for together. Those and the next ones are in
/// memory meanwhile: each is 8 MiB by the server's default.
const AT_ONCE: usize = 4;
/// How often a connection to the object store is tried where nothing was ever taken: then there is another way.
const TRIES_TO_REACH: u32 = 3;
/// How long such a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// What to do where it was not completed.
const GO_ON: &str = "the upload was not completed; give the same command again to go on with it";
/// Bytes that are read at a time to be hashed.
const HASH_BYTES: usize = 1 << 20;

/// An upload as the server tells of it.
#[derive(Clone, Debug, Deserialize)]
struct Upload {
    id: String,
    version: String,
    digest: String,
    size_bytes: u64,
    part_bytes: u64,
    num_parts: u64,
}

#[derive(Deserialize)]
struct Status {
    is_whole: bool,
    parts: Vec<Arrived>,
}

#[derive(Deserialize)]
struct Arrived {
    number: u64,
    digest: String,
}

#[derive(Deserialize)]
struct Addresses {
    data: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    number: u64,
    url: String,
    headers: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Upload>,
    next_cursor: Option<String>,
}

/// No connection to the object store comes about, and nothing of the weights is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutOfReach {
    /// Host and port.
    pub(super) store: String,
}

impl fmt::Display for OutOfReach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot reach the object store at {} from here", self.store)
    }
}

/// A part that is to be sent.
struct Part {
    /// From 1.
    number: u64,
    digest: String,
    bytes: Bytes,
}

/// Weights that are being sent, or were.
pub(super) struct Sending<'a> {
    client: &'a Client,
    /// The path of the upload.
    path: String,
    upload: Upload,
    /// For addresses that are the store's: the key does not go there.
    store: reqwest::Client,
    /// Whether the store has taken a part, now or before an interruption.
    is_within_reach: AtomicBool,
    weights: PathBuf,
    bar: ProgressBar,
}

impl<'a> Sending<'a> {
    /// Begins an upload of these weights, or finds the one that was interrupted; `None`: the server takes none. With
    /// `start_over` another upload of the same number is ended first.
    pub(super) async fn begin(
        client: &'a Client,
        reference: &AdapterRef,
        version: &str,
        weights: &Path,
        start_over: bool,
        bar: ProgressBar,
    ) -> anyhow::Result<Option<Self>> {
        let uploads = format!("/registry/v1/adapters/{}/uploads", reference.name);
        // Before the file is read, which takes a while for a large one.
        let Some(known) = known(client, &uploads).await? else { return Ok(None) };
        let (digest, size_bytes) = digest_of(weights).await?;
        // A number is reserved by one upload at a time.
        let mut found = known.into_iter().find(|upload| upload.version == version);
        if let Some(earlier) = found.take_if(|_| start_over) {
            client.send(client.request(Method::DELETE, &format!("{uploads}/{}", earlier.id))).await?;
        }
        if let Some(other) = found.as_ref().filter(|upload| upload.digest != digest || upload.size_bytes != size_bytes)
        {
            let id = &other.id;
            bail!(
                "{reference} is being uploaded with other weights (upload {id}); `--start-over` ends that and begins anew"
            );
        }
        let upload = match found {
            Some(upload) => upload,
            None => match begin(client, &uploads, version, &digest, size_bytes).await? {
                Some(upload) => upload,
                None => return Ok(None),
            },
        };
        let store = reqwest::Client::builder().connect_timeout(CONNECT_TIME).build();
        let store = store.context("cannot set up the HTTP client")?;
        let path = format!("{uploads}/{}", upload.id);
        let is_within_reach = AtomicBool::new(false);
        Ok(Some(Self { client, path, upload, store, is_within_reach, weights: weights.to_owned(), bar }))
    }

    /// Sends the parts that have not arrived.
    ///
    /// # Errors
    /// Of the kind [`OutOfReach`] where the weights have to go another way.
    pub(super) async fn send(&self) -> anyhow::Result<()> {
        let status: Status = self.client.json(self.client.request(Method::GET, &self.path)).await?;
        if status.is_whole {
            self.bar.inc(self.upload.size_bytes);
            return Ok(());
        }
        let arrived: HashMap<_, _> = status.parts.into_iter().map(|part| (part.number, part.digest)).collect();
        if !arrived.is_empty() {
            self.is_within_reach.store(true, Ordering::SeqCst);
            let (there, all) = (arrived.len(), self.upload.num_parts);
            terminal::note(&format!("Goes on with an upload that was interrupted: {there} of {all} parts are there."));
        }
        // While parts are on their way the next ones are read, and their addresses asked for.
        let read = stream::iter(1..=self.upload.num_parts).then(|number| self.read(number)).try_filter(|part| {
            let is_there = arrived.get(&part.number) == Some(&part.digest);
            if is_there {
                self.bar.inc(part.bytes.len() as u64);
            }
            future::ready(!is_there)
        });
        let addressed = read.try_chunks(AT_ONCE).map_err(|TryChunksError(_, error)| error);
        let addressed = addressed.and_then(async |parts| {
            let addresses = retry(async || self.addresses(&parts).await).await?;
            Ok(stream::iter(parts.into_iter().zip(addresses).map(Ok)))
        });
        let sent = addressed.try_flatten().map_ok(|(part, address)| self.send_part(part, address));
        sent.try_buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    /// Ends the upload, so that its number is free for the weights to come another way.
    pub(super) async fn give_up(self) -> anyhow::Result<()> {
        self.client.send(self.client.request(Method::DELETE, &self.path)).await?;
        Ok(())
    }

    /// Makes the version of it. `form` makes the small parts, once for each try.
    pub(super) async fn complete(&self, form: impl AsyncFn() -> anyhow::Result<Form>) -> anyhow::Result<Value> {
        let path = format!("{}/complete", self.path);
        retry(async || {
            // With one key for all tries, so that a lost answer is heard again.
            let request = self.client.request(Method::POST, &path).header("idempotency-key", &self.upload.id);
            let request = request.multipart(form().await.map_err(Failed::finally)?);
            match request.send().await {
                Ok(answer) => understood(answer).await,
                Err(error) => Err(Failed::for_now(anyhow::Error::new(error).context(GO_ON))),
            }
        })
        .await
    }

    async fn send_part(&self, part: Part, address: Address) -> anyhow::Result<()> {
        let number = part.number;
        let (parts, mut address) = ([part], Some(address));
        let mut num_tries = 0;
        let sent = retry(async || {
            num_tries += 1;
            let answer = match address.take() {
                // What is refused may be the address, which has lain here for a while.
                Some(first) => self.put(&first, parts[0].bytes.clone()).await.map_err(Failed::but_once),
                // Asked for anew: one that has expired is no use.
                None => {
                    let addresses = self.addresses(&parts).await?;
                    self.put(&addresses[0], parts[0].bytes.clone()).await
                }
            };
            answer
                .map_err(|failed| if num_tries >= TRIES_TO_REACH { failed.finally_if::<OutOfReach>() } else { failed })
        });
        sent.await.with_context(|| format!("part {number} was not sent"))?;
        self.is_within_reach.store(true, Ordering::SeqCst);
        self.bar.inc(parts[0].bytes.len() as u64);
        Ok(())
    }

    /// Where these parts are to be sent, in their order.
    async fn addresses(&self, parts: &[Part]) -> Result<Vec<Address>, Failed> {
        let part = |part: &Part| json!({ "number": part.number, "digest": part.digest });
        let asked = json!({ "parts": parts.iter().map(part).collect::<Vec<_>>() });
        let request = self.client.request(Method::POST, &format!("{}/parts", self.path)).json(&asked);
        let answer = request.send().await.context("cannot reach the server").map_err(Failed::for_now)?;
        let addresses: Addresses = understood(answer).await?;
        if !addresses.data.iter().map(|address| address.number).eq(parts.iter().map(|part| part.number)) {
            return Err(Failed::finally(anyhow!("the server's answer has other parts than were asked for")));
        }
        Ok(addresses.data)
    }

    async fn put(&self, address: &Address, bytes: Bytes) -> Result<(), Failed> {
        let mut request = self.store.put(&address.url).body(bytes);
        for (name, value) in address.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length")) {
            request = request.header(name, value);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() && !self.is_within_reach.load(Ordering::SeqCst) => {
                let store = reqwest::Url::parse(&address.url).context("the address of the object store is none");
                let store = store.map_err(Failed::finally)?;
                let port = store.port().map(|port| format!(":{port}")).unwrap_or_default();
                let store = format!("{}{port}", store.host_str().unwrap_or_default());
                return Err(Failed::for_now(anyhow::Error::new(error.without_url()).context(OutOfReach { store })));
            }
            // Without the address, which lets others send this part.
            Err(error) => {
                let error = anyhow::Error::new(error.without_url());
                return Err(Failed::for_now(error.context("the connection to the object store broke")));
            }
        };
        kept(answer).await
    }

    async fn read(&self, number: u64) -> anyhow::Result<Part> {
        let mut file = File::open(&self.weights).await?;
        file.seek(std::io::SeekFrom::Start((number - 1) * self.upload.part_bytes)).await?;
        let mut bytes = Vec::new();
        file.take(self.upload.part_bytes).read_to_end(&mut bytes).await?;
        Ok(Part { number, digest: Digest::of(&bytes).to_string(), bytes: bytes.into() })
    }
}

/// The uploads that can still be completed; `None`: the server's objects are in a folder, or it has no such routes.
async fn known(client: &Client, uploads: &str) -> anyhow::Result<Option<Vec<Upload>>> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let request = client.request(Method::GET, &format!("{uploads}?limit=100{cursor}"));
        let answer = request.send().await.context("cannot reach the server")?;
        if !answer.status().is_success() {
            return Refusal::read(answer).await.unless_unavailable();
        }
        let page: Page = answer.json().await.context("the server's answer is not understood")?;
        found.extend(page.data);
        let Some(next) = page.next_cursor else { return Ok(Some(found)) };
        cursor = format!("&cursor={next}");
    }
}

/// `None` as for [`known`]: an older server lists no uploads where its objects are in a folder.
async fn begin(
    client: &Client,
    uploads: &str,
    version: &str,
    digest: &str,
    size_bytes: u64,
) -> anyhow::Result<Option<Upload>> {
    let asked = json!({ "version": version, "digest": digest, "size_bytes": size_bytes });
    let answer = client.request(Method::POST, uploads).json(&asked).send().await.context("cannot reach the server")?;
    if answer.status().is_success() {
        return Ok(Some(answer.json().await.context("the server's answer is not understood")?));
    }
    Refusal::read(answer).await.unless_unavailable()
}

/// SHA-256 and length of a file.
async fn digest_of(path: &Path) -> anyhow::Result<(String, u64)> {
    let mut file = File::open(path).await.with_context(|| format!("cannot open {}", path.display()))?;
    let (mut sha256, mut size_bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        match file.read(&mut buffer).await? {
            0 => return Ok((Digest::from_bytes(sha256.finalize().into()).to_string(), size_bytes)),
            len => {
                sha256.update(&buffer[..len]);
                size_bytes += len as u64;
            }
        }
    }
}
