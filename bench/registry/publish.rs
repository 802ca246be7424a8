//! Publishing: how long an adapter of ten megabytes takes until it can be called, and how much memory the server takes while
//! a gigabyte comes.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::stream;
use reqwest::multipart::{Form, Part};
use serde_json::{Map, Value, json};
use souk_protocol::Digest;

use crate::server::{Place, Server, User};
use crate::{BASE, at};

/// Modules of a layer of the base with the widths that they take and give.
const MODULES: [(&str, usize, usize); 7] = [
    ("self_attn.q_proj", 576, 576),
    ("self_attn.k_proj", 576, 192),
    ("self_attn.v_proj", 576, 192),
    ("self_attn.o_proj", 576, 576),
    ("mlp.gate_proj", 576, 1536),
    ("mlp.up_proj", 576, 1536),
    ("mlp.down_proj", 1536, 576),
];
const NUM_LAYERS: usize = 30;
/// About ten megabytes in F32.
const RANK: usize = 8;
/// Bytes that are sent at a time.
const CHUNK: usize = 64 << 10;

/// Prints how long publishing takes in each place.
pub(crate) async fn times(souk: &Path, rounds: usize) -> anyhow::Result<()> {
    println!("\n| an adapter of ten megabytes, from the first byte to ready, ms | p50 | longest |");
    println!("| --- | ---: | ---: |");
    for place in [Place::Sqlite, Place::Postgres, Place::Bucket].into_iter().filter(|place| place.is_there()) {
        let server = Server::start(souk, place, &[]).await?;
        let acme = server.tenant("acme").await?;
        acme.post("/registry/v1/adapters", json!({ "name": "timed" })).await?;
        let mut took = Vec::new();
        for round in 0..rounds {
            let weights = weights(RANK, round as u8);
            let form = Form::new().text("version", format!("1.{round}.0")).part("adapter_config.json", config(RANK));
            let form = form.part("adapter_model.safetensors", Part::bytes(weights));
            let began = Instant::now();
            let made = publish(&acme, "timed/versions", form).await?;
            ensure!(made["state"] == "ready", "{made}");
            took.push(began.elapsed());
        }
        took.sort_unstable();
        println!("| {} | {:.0} | {:.0} |", place.as_str(), at(&took, 50), at(&took, 100));
    }
    Ok(())
}

/// Prints how much memory an upload of so many bytes takes. No base that is served has an adapter so large, so all of it is
/// taken and then rejected for its ranks.
pub(crate) async fn memory(souk: &Path, bytes: usize) -> anyhow::Result<()> {
    println!("\n| MiB of memory while {} MiB come | before | peak | more |", bytes >> 20);
    println!("| --- | ---: | ---: | ---: |");
    let settings = [("SOUK_REGISTRY__MAX_ADAPTER_BYTES", "2147483648")];
    for (place, is_direct) in [(Place::Sqlite, false), (Place::Bucket, false), (Place::Bucket, true)] {
        let server = Server::start(souk, place, &settings).await?;
        let acme = server.tenant("acme").await?;
        acme.post("/registry/v1/adapters", json!({ "name": "large" })).await?;
        let weights = Large::of(bytes);
        let before = server.forget_the_peak()?;
        let refused = if is_direct { send_direct(&acme, &weights).await? } else { send(&acme, &weights).await? };
        ensure!(refused["code"] == "adapter_rejected", "{refused}");
        let (peak, way) = (server.peak()?, if is_direct { ", straight to the bucket" } else { "" });
        println!("| {}{way} | {before} | {peak} | {} |", place.as_str(), peak.saturating_sub(before));
    }
    Ok(())
}

async fn send(acme: &User, weights: &Large) -> anyhow::Result<Value> {
    let form = Form::new().text("version", "1.0.0").part("adapter_config.json", config(weights.rank));
    let body = reqwest::Body::wrap_stream(stream::iter(weights.chunks().map(Ok::<_, std::io::Error>)));
    let part = Part::stream_with_length(body, weights.len as u64);
    publish(acme, "large/versions", form.part("adapter_model.safetensors", part)).await
}

async fn send_direct(acme: &User, weights: &Large) -> anyhow::Result<Value> {
    let uploads = "/registry/v1/adapters/acme/large/uploads";
    let announced = json!({ "version": "1.0.0", "digest": weights.digest().to_string(), "size_bytes": weights.len });
    let upload = acme.post(uploads, announced).await?;
    let (id, part_bytes) =
        (upload["id"].as_str().context("an id")?, upload["part_bytes"].as_u64().context("a length")?);
    let (part_bytes, mut chunks) = (usize::try_from(part_bytes)?, weights.chunks());
    let (mut number, mut begun) = (0, Vec::new());
    loop {
        number += 1;
        while begun.len() < part_bytes
            && let Some(chunk) = chunks.next()
        {
            begun.extend_from_slice(&chunk);
        }
        if begun.is_empty() {
            break;
        }
        // All parts but the last have the length that the registry says.
        let rest = begun.split_off(part_bytes.min(begun.len()));
        let part = std::mem::replace(&mut begun, rest);
        let asked = json!({ "parts": [{ "number": number, "digest": Digest::of(&part).to_string() }] });
        let address = acme.post(&format!("{uploads}/{id}/parts"), asked).await?["data"][0].clone();
        let mut request = acme.http.put(address["url"].as_str().context("an address")?);
        let headers = address["headers"].as_object().context("headers")?;
        for (name, value) in headers.iter().filter(|(name, _)| *name != "content-length") {
            request = request.header(name, value.as_str().unwrap_or_default());
        }
        request.body(part).send().await?.error_for_status()?;
    }
    publish(
        acme,
        &format!("large/uploads/{id}/complete"),
        Form::new().part("adapter_config.json", config(weights.rank)),
    )
    .await
}

async fn publish(acme: &User, below: &str, form: Form) -> anyhow::Result<Value> {
    let url = format!("{}/registry/v1/adapters/acme/{below}", acme.url);
    let answer = acme.http.post(url).bearer_auth(&acme.key).multipart(form).send().await?;
    Ok(serde_json::from_str(&answer.text().await?)?)
}

fn config(rank: usize) -> Part {
    let modules: Vec<_> = MODULES.iter().map(|(name, ..)| name.rsplit('.').next().unwrap_or_default()).collect();
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": BASE, "r": rank, "lora_alpha": rank,
        "target_modules": modules,
    });
    Part::bytes(config.to_string().into_bytes())
}

/// A safetensors header of pairs of this rank on all modules, and how many bytes of numbers follow it.
fn header(rank: usize) -> (Vec<u8>, usize) {
    let (mut header, mut end) = (Map::new(), 0);
    for layer in 0..NUM_LAYERS {
        for (module, takes, gives) in MODULES {
            for (half, shape) in [("A", [rank, takes]), ("B", [gives, rank])] {
                let begin = end;
                end += shape[0] * shape[1] * 4;
                let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, end] });
                header.insert(format!("base_model.model.model.layers.{layer}.{module}.lora_{half}.weight"), entry);
            }
        }
    }
    let header = Value::Object(header).to_string().into_bytes();
    ([&(header.len() as u64).to_le_bytes()[..], &header].concat(), end)
}

/// A whole file of small numbers, unlike those of other seeds.
fn weights(rank: usize, seed: u8) -> Vec<u8> {
    let (mut file, len) = header(rank);
    let number = (f32::from(seed) + 1.0) / 1024.0;
    file.extend(number.to_le_bytes().into_iter().cycle().take(len));
    file
}

/// A file that is made as it is sent.
struct Large {
    rank: usize,
    head: Bytes,
    len: usize,
}

impl Large {
    /// One of about so many bytes.
    fn of(bytes: usize) -> Self {
        let rank = bytes / header(1).1;
        let (head, len) = header(rank);
        Self { rank, len: head.len() + len, head: head.into() }
    }

    fn chunks(&self) -> impl Iterator<Item = Bytes> + use<> {
        let chunk = Bytes::from(0.001_f32.to_le_bytes().repeat(CHUNK / 4));
        let left = self.len - self.head.len();
        let whole = std::iter::repeat_n(chunk.clone(), left / CHUNK);
        std::iter::once(self.head.clone()).chain(whole).chain(std::iter::once(chunk.slice(..left % CHUNK)))
    }

    fn digest(&self) -> Digest {
        use sha2::Digest as _;
        let mut sha256 = sha2::Sha256::new();
        self.chunks().for_each(|chunk| sha256.update(&chunk));
        Digest::from_bytes(sha256.finalize().into())
    }
}
