//! Which adapters are asked for most, as gateways say it, so that a node that starts may have them before anybody asks it.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use souk_protocol::{Digest, Fetchable};

/// Most adapters that a gateway names: some 100 KB with their grants, which is said a few times a minute.
pub const MOST_POPULAR_NAMED: usize = 128;

/// How long it is believed what a gateway has said of them. Grants live for 15 minutes, of which they have to have some left.
pub const POPULAR_FOR: Duration = Duration::from_secs(60);

/// An adapter that a gateway's requests ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Popular {
    /// The version, with the latest grant for its files.
    pub adapter: Fetchable,
    /// How many jobs have asked for it lately, by a count that fades; only compared.
    pub jobs: f64,
}

/// What several gateways say, together: at most `most`, the most asked for first, each once.
pub(crate) fn most_popular(said: impl IntoIterator<Item = Popular>, most: usize) -> Vec<Fetchable> {
    let mut sums: HashMap<Digest, Popular> = HashMap::new();
    for one in said {
        // A count that is none counts for nothing.
        let jobs = if one.jobs.is_finite() { one.jobs.max(0.0) } else { 0.0 };
        match sums.get_mut(&one.adapter.digest) {
            Some(sum) => {
                sum.jobs += jobs;
                sum.adapter.grant = one.adapter.grant.or(sum.adapter.grant.take());
            }
            None => drop(sums.insert(one.adapter.digest, Popular { jobs, ..one })),
        }
    }
    let mut sums: Vec<_> = sums.into_values().collect();
    // By digest where they are even, so that all nodes hear the same.
    sums.sort_unstable_by(|a, b| b.jobs.total_cmp(&a.jobs).then(a.adapter.digest.cmp(&b.adapter.digest)));
    sums.truncate(most);
    sums.into_iter().map(|one| one.adapter).collect()
}

/// What gateways have said, as it is kept as texts. One that is not understood is another version's, and left out.
pub(crate) fn read(texts: &[String]) -> Vec<Popular> {
    texts.iter().filter_map(|text| serde_json::from_str::<Vec<Popular>>(text).ok()).flatten().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use souk_protocol::FileGrant;

    use super::*;

    fn popular(name: u8, jobs: f64, grant: Option<&str>) -> Popular {
        let grant = grant.map(FileGrant::new);
        Popular { adapter: Fetchable { digest: Digest::of(&[name]), grant }, jobs }
    }

    #[test]
    fn what_gateways_say_is_summed_and_a_grant_is_anybodys() {
        let said = [
            popular(1, 3.0, Some("a")),
            popular(2, 4.0, None),
            popular(3, 1.0, None),
            popular(1, 2.0, None),
            popular(4, f64::NAN, None),
        ];
        let most = most_popular(said.clone(), 2);
        assert_eq!(most, [popular(1, 0.0, Some("a")).adapter, popular(2, 0.0, None).adapter]);
        assert_eq!(most_popular(said, 9).len(), 4);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,80}", jobs in any::<f64>()) {
            let good = serde_json::to_string(&[popular(1, 2.0, None)]).unwrap_or_default();
            let said = read(&[text, good, format!("[{{\"adapter\":{{\"digest\":\"x\"}},\"jobs\":{jobs}}}]")]);
            prop_assert!(most_popular(said, 8).len() <= 8);
        }
    }
}
