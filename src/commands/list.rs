//! `souk list`: the base model and the adapters that the key may use.

use std::process::ExitCode;

use reqwest::Method;
use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;
use serde_json::json;

use crate::cli::ListArgs;
use crate::client::Client;
use crate::terminal;

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    owned_by: String,
}

/// A page of the registry.
#[derive(Deserialize)]
struct Adapters {
    data: Vec<Adapter>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Adapter {
    owner: String,
    name: String,
    /// Without one there is nothing to call by this name.
    latest_version: Option<String>,
}

pub(crate) async fn run(arguments: ListArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.server)?;
    let answer = client.send(client.request(Method::GET, "/v1/models")).await?;
    let next = next_page(answer.headers());
    let models: Models = answer.json().await?;
    let mut rows: Vec<Vec<String>> = models.data.into_iter().map(|model| vec![model.id, model.owned_by]).collect();
    if let Some(next) = &next
        && arguments.all
    {
        read_pages(&client, next, &mut rows).await?;
    }
    if arguments.json {
        let models: Vec<_> = rows.iter().map(|row| json!({ "id": row[0], "owner": row[1] })).collect();
        terminal::json(&models)?;
    } else {
        terminal::table(&["MODEL", "OWNER"], &rows)?;
    }
    if next.is_some() && !arguments.all {
        let more = "There are more public adapters; `souk list --all` lists them.";
        // What reads the JSON is not to meet with it.
        if arguments.json { terminal::note(more) } else { terminal::line(more)? }
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds what is in the registry from the page `first` on. The caller's own are in the list already.
async fn read_pages(client: &Client, first: &str, rows: &mut Vec<Vec<String>>) -> anyhow::Result<()> {
    let known: std::collections::HashSet<_> = rows.iter().map(|row| row[0].clone()).collect();
    let mut path = first.to_owned();
    loop {
        let page: Adapters = client.json(client.request(Method::GET, &path)).await?;
        for Adapter { owner, name, .. } in page.data.into_iter().filter(|adapter| adapter.latest_version.is_some()) {
            let id = format!("{owner}/{name}");
            if !known.contains(&id) {
                rows.push(vec![id, owner]);
            }
        }
        let Some(cursor) = page.next_cursor else { return Ok(()) };
        let without = path.split("&cursor=").next().unwrap_or_default();
        path = format!("{without}&cursor={cursor}");
    }
}

/// The path in `Link: <path>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (path, rest) = link.strip_prefix('<')?.split_once('>')?;
    (rest.trim_start_matches([';', ' ']) == "rel=\"next\"" && path.starts_with('/')).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_a_path_of_the_same_server() {
        let next = |link: &str| next_page(&HeaderMap::from_iter([(LINK, link.parse().unwrap())]));
        assert_eq!(
            next("</registry/v1/adapters?cursor=x>; rel=\"next\"").as_deref(),
            Some("/registry/v1/adapters?cursor=x")
        );
        assert_eq!(next("<https://elsewhere.example/>; rel=\"next\""), None, "the key is sent to nobody else");
        assert_eq!(next("</x>; rel=\"prev\""), None);
        assert_eq!(next("x"), None);
    }
}
