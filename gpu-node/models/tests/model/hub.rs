//! Fetching from a hub: a small server on this machine that answers as the hub does.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::DType;
use serde_json::json;
use souk_models::base::{self, BaseError, FetchConfig, LoadedBase};

use crate::tiny::{SMALL, TinyModel};

/// Serves the files of `folder` as the repository `maker/Tiny-Llama`, until the test ends.
struct Hub {
    address: String,
    num_requests: Arc<AtomicUsize>,
}

impl Hub {
    fn start(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let num_requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&num_requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::Relaxed);
                answer(&stream.unwrap(), &folder);
            }
        });
        Self { address, num_requests }
    }

    fn load(&self, source: &str, cache: &Path) -> Result<LoadedBase, BaseError> {
        let mut config = FetchConfig::new(cache.to_owned());
        config.hub_endpoint = Some(self.address.clone());
        base::load(&source.parse()?, &config, &mut |_| {})
    }
}

fn answer(mut stream: &TcpStream, folder: &Path) {
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    let request = lines.next().unwrap_or_default();
    let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let range =
        headers.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let path = request.split(' ').nth(1).unwrap_or_default();
    if path == "/api/models/maker/Tiny-Llama/revision/main" {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let siblings: Vec<_> = files.map(|name| json!({"rfilename": name})).collect();
        let body = json!({"sha": "c0ffee", "siblings": siblings}).to_string();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).unwrap();
        return;
    }
    let content =
        path.strip_prefix("/maker/Tiny-Llama/resolve/main/").and_then(|name| fs::read(folder.join(name)).ok());
    let (Some(content), Some((first, last))) = (content, range.as_ref().and_then(|range| range.split_once('-'))) else {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        return;
    };
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(content.len() - 1);
    let (len, size, tag) = (last + 1 - first, content.len(), souk_protocol::Digest::of(&content).hex());
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\ncontent-length: {len}\r\ncontent-range: bytes {first}-{last}/{size}\r\n\
         etag: \"{tag}\"\r\nx-repo-commit: c0ffee\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    // A client that has seen enough hangs up.
    let _ = stream.write_all(&content[first..=last]);
}

#[test]
fn a_model_comes_from_the_hub_once() {
    for num_shards in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let (repository, cache) = (folder.path().join("repository"), folder.path().join("cache"));
        TinyModel::random(SMALL, 2).write_folder(&repository, DType::F16, num_shards);
        let hub = Hub::start(repository);
        let base = hub.load("hf:maker/Tiny-Llama", &cache).unwrap();
        assert_eq!(base.model.id, "tiny-llama");
        assert_eq!(base.model.aliases, ["Tiny-Llama", "maker/Tiny-Llama"]);
        assert_eq!((base.model.shape, base.model.chat_template.as_deref()), (SMALL, Some("{{ messages }}")));

        let num_requests = hub.num_requests.load(Ordering::Relaxed);
        assert_eq!(hub.load("hf:maker/Tiny-Llama", &cache).unwrap().model, base.model);
        assert_eq!(hub.num_requests.load(Ordering::Relaxed), num_requests, "the second load needs no network");
    }
}

#[test]
fn what_the_hub_does_not_have_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, cache) = (folder.path().join("repository"), folder.path().join("cache"));
    TinyModel::random(SMALL, 2).write_folder(&repository, DType::F16, 1);
    fs::remove_file(repository.join("tokenizer.json")).unwrap();
    let hub = Hub::start(repository);
    let error = hub.load("hf:maker/Tiny-Llama", &cache).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json of maker/Tiny-Llama@main"), "{error}");
    let error = hub.load("hf:maker/Other", &cache).unwrap_err().to_string();
    assert!(error.contains("maker/Other") && error.contains("404"), "{error}");
}
