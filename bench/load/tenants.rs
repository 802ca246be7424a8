//! The tenants of a run: their keys, their part of the load and what they are entitled to.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use reqwest::header::HeaderValue;

/// A tenant as written on the command line: `NAME:SHARE[:WEIGHT]=KEY`.
#[derive(Clone)]
pub(crate) struct TenantArgument {
    name: String,
    share: f64,
    weight: f64,
    /// The key itself, or `@` and the file that has it.
    key: String,
}

impl fmt::Debug for TenantArgument {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.name, self.share, self.weight)
    }
}

impl FromStr for TenantArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const SHAPE: &str = "write NAME:SHARE=KEY or NAME:SHARE:WEIGHT=KEY";
        let (left, key) = text.split_once('=').ok_or(SHAPE)?;
        let mut parts = left.split(':');
        let (Some(name), Some(share)) = (parts.next(), parts.next()) else { return Err(SHAPE.to_owned()) };
        let weight = parts.next();
        if name.is_empty() || key.is_empty() || parts.next().is_some() {
            return Err(SHAPE.to_owned());
        }
        let number = |text: &str| match text.parse::<f64>() {
            Ok(number) if number > 0.0 && number <= 1e6 => Ok(number),
            _ => Err(format!("`{text}` is not a number above 0 and at most 1000000")),
        };
        let weight = weight.map_or(Ok(1.0), number)?;
        Ok(Self { name: name.to_owned(), share: number(share)?, weight, key: key.to_owned() })
    }
}

/// A tenant that takes part in a run.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    /// Its part of the users or arrivals, relative to the others'.
    pub(crate) share: f64,
    /// The part of the service that it is entitled to, relative to the others'.
    pub(crate) weight: f64,
    /// `Bearer` and the key; `None` calls without a key.
    pub(crate) authorization: Option<HeaderValue>,
}

/// The tenants named, or one with `api_key`.
///
/// # Errors
/// If a key file cannot be read or a key cannot be sent in a header.
pub(crate) fn tenants(arguments: &[TenantArgument], api_key: Option<&str>) -> anyhow::Result<Vec<Tenant>> {
    if arguments.is_empty() {
        let authorization = api_key.map(bearer).transpose()?;
        return Ok(vec![Tenant { name: "default".to_owned(), share: 1.0, weight: 1.0, authorization }]);
    }
    let tenant = |argument: &TenantArgument| {
        let key = match argument.key.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read the key in {file}"))?,
            None => argument.key.clone(),
        };
        let authorization = Some(bearer(key.trim()).with_context(|| format!("tenant {}", argument.name))?);
        Ok(Tenant { name: argument.name.clone(), share: argument.share, weight: argument.weight, authorization })
    };
    arguments.iter().map(tenant).collect()
}

fn bearer(key: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).context("the API key has characters no key has")?;
    value.set_sensitive(true);
    Ok(value)
}

/// How many of `num_users` each tenant gets: by share, at least one each, the largest remainders first.
///
/// # Errors
/// If there are fewer users than tenants.
pub(crate) fn users_by_share(num_users: usize, tenants: &[Tenant]) -> anyhow::Result<Vec<usize>> {
    ensure!(
        num_users >= tenants.len(),
        "{} tenants need at least as many users; --users is {num_users}",
        tenants.len()
    );
    let total: f64 = tenants.iter().map(|tenant| tenant.share).sum();
    let spare = num_users - tenants.len();
    let exact: Vec<f64> = tenants.iter().map(|tenant| num_users as f64 * tenant.share / total - 1.0).collect();
    // Beyond the one each, users go one by one to the tenant that is furthest below its exact part.
    let mut extra = vec![0usize; tenants.len()];
    for _ in 0..spare {
        let neediest = (0..tenants.len())
            .max_by(|a, b| (exact[*a] - extra[*a] as f64).total_cmp(&(exact[*b] - extra[*b] as f64)).then(b.cmp(a)))
            .expect("there is at least one tenant");
        extra[neediest] += 1;
    }
    Ok(extra.into_iter().map(|count| count + 1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(share: f64) -> Tenant {
        Tenant { name: String::new(), share, weight: 1.0, authorization: None }
    }

    fn split(num_users: usize, shares: &[f64]) -> anyhow::Result<Vec<usize>> {
        users_by_share(num_users, &shares.iter().map(|share| tenant(*share)).collect::<Vec<_>>())
    }

    #[test]
    fn users_are_split_by_share_and_nobody_is_left_out() {
        assert_eq!(split(16, &[3.0, 1.0]).unwrap(), [12, 4]);
        assert_eq!(split(10, &[1.0, 1.0, 1.0]).unwrap(), [4, 3, 3]);
        assert_eq!(split(8, &[1000.0, 1.0]).unwrap(), [7, 1]);
        assert!(split(1, &[1.0, 1.0]).is_err());
    }

    #[test]
    fn tenants_are_read_and_their_keys_never_printed() {
        let argument: TenantArgument = "acme:3:2=secret=x".parse().unwrap();
        assert_eq!((argument.share, argument.weight, argument.key.as_str()), (3.0, 2.0, "secret=x"));
        assert!(!format!("{argument:?}").contains("secret"));
        let built = tenants(&[argument], None).unwrap();
        assert!(!format!("{built:?}").contains("secret"));
        assert_eq!(built[0].authorization.as_ref().unwrap(), "Bearer secret=x");
        for text in ["", "acme", "acme=k", "acme:0=k", "acme:x=k", "acme:1:1:1=k", ":1=k", "a:1=", "a:NaN=k"] {
            assert!(text.parse::<TenantArgument>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_may_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from-file\n").unwrap();
        let argument: TenantArgument = format!("acme:1=@{}", file.path().display()).parse().unwrap();
        assert_eq!(tenants(&[argument], None).unwrap()[0].authorization.as_ref().unwrap(), "Bearer from-file");
    }
}
