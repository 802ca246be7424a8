//! Reading what a tenant used: sums ([`sums`]), requests with what each was charged and why ([`requests`]), and all of them as
//! lines of CSV ([`export`]). A caller sees its own tenant's; rows and sums have ids, and names stand beside them as
//! they are now and as far as the caller may know them ([`names`]).

mod asked;
mod names;

mod completions;
mod export;
mod requests;
mod sums;

pub(crate) use asked::{Asked, By};
pub(crate) use completions::{CompletionBucket, CompletionsRequest};
pub(crate) use names::{Names, digests};
pub(crate) use requests::{UsedRequest, hooks_of, rule_of};
pub(crate) use sums::SumsRequest;
