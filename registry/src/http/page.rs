//! Lists in pages. A cursor is the sort key of the last item seen, so that a list that grows meanwhile neither repeats
//! nor skips what was there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use souk_protocol::AdapterName;
use utoipa::{IntoParams, ToSchema};

use super::middleware::PREFIX;
use crate::error::RegistryError;
use crate::slice::{Slice, wrong_cursor};

const DEFAULT_LIMIT: u64 = 20;
const MAX_LIMIT: u64 = 100;
/// Longest name of a tenant, an adapter or a tag.
pub(crate) const MAX_NAME_CHARS: usize = 64;
/// Longest cursor: of all that sums of usage are taken apart by, with sixteen adapters, it has fewer.
const MAX_CURSOR_CHARS: usize = 3000;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// The items, in order.
    pub(crate) data: Vec<T>,
    /// Ask for the next page with this as `cursor`; null on the last page.
    pub(crate) next_cursor: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Items per page, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

impl PageQuery {
    pub(crate) fn new(limit: Option<u64>, cursor: Option<String>) -> Self {
        Self { limit, cursor }
    }

    /// The same for the rules.
    pub(crate) fn slice(&self) -> Result<Slice, RegistryError> {
        Ok(Slice { after: self.after()?, limit: self.limit()? })
    }

    fn limit(&self) -> Result<u64, RegistryError> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if (1..=MAX_LIMIT).contains(&limit) {
            return Ok(limit);
        }
        Err(RegistryError::bad_request("invalid_query", format!("`limit` is 1 to {MAX_LIMIT}, given {limit}")))
    }

    /// The sort key after which the page begins.
    fn after(&self) -> Result<Option<String>, RegistryError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        check_length("cursor", Some(cursor), MAX_CURSOR_CHARS)?;
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
        let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        key.map(Some).ok_or_else(wrong_cursor)
    }
}

/// The cursor of the page that begins after what has this sort key.
pub(crate) fn cursor_after(sort_key: &str) -> String {
    URL_SAFE_NO_PAD.encode(sort_key)
}

/// Path of the page with the public adapters after this one, by owner and name.
#[must_use]
pub fn public_adapters_after(name: &AdapterName) -> String {
    let cursor = cursor_after(&format!("{}/{}", name.owner(), name.name()));
    format!("{PREFIX}/adapters?visibility=public&limit={MAX_LIMIT}&cursor={cursor}")
}

/// Refuses a parameter of the query that is longer than anything which it could mean.
pub(crate) fn check_length(name: &str, given: Option<&str>, limit: usize) -> Result<(), RegistryError> {
    let num_chars = given.map_or(0, |text| text.chars().count());
    if num_chars <= limit {
        return Ok(());
    }
    Err(RegistryError::bad_request(
        "invalid_query",
        format!("`{name}` has at most {limit} characters, given {num_chars}"),
    ))
}

impl<T> Page<T> {
    /// Makes a page of `limit` items from rows that were read with one more, which tells whether a page follows.
    pub(crate) fn from_rows<R>(
        mut rows: Vec<R>,
        limit: u64,
        sort_key: impl Fn(&R) -> String,
        item: impl Fn(R) -> T,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more);
        let next_cursor = last.map(|row| cursor_after(&sort_key(row)));
        Self { data: rows.into_iter().map(item).collect(), next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_with_a_cursor_only_if_another_follows() {
        let page = |rows: Vec<i32>| Page::from_rows(rows, 2, ToString::to_string, |row| row);
        assert_eq!(page(vec![1, 2]).next_cursor, None);
        let first = page(vec![1, 2, 3]);
        assert_eq!(first.data, [1, 2]);
        let next = PageQuery::new(None, first.next_cursor);
        assert_eq!(next.after().unwrap().as_deref(), Some("2"));
    }

    #[test]
    fn a_limit_or_cursor_out_of_range_is_refused() {
        for limit in [0, 101] {
            assert!(PageQuery::new(Some(limit), None).limit().is_err());
        }
        assert!(PageQuery::new(None, Some("%%%".to_owned())).after().is_err());
    }
}
