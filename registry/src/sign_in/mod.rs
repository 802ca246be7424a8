//! How a person signs in: with a provider of identities ([`provider`]), with a link that works once, with the link of an
//! invitation; and how `souk login` gets a key of a person who is signed in. There are no passwords.
//!
//! Each way ends with a session ([`crate::sessions`]) that takes the place of the one that was presented. Who may come in:
//! persons that are known, whoever has an open invitation, and with `registry.self_service` whoever a provider vouches for.
//! What is not known, over or not meant for the one who asks is answered alike for addresses that are known and that are not.

mod attempts;
mod codes;
mod links;
mod provider;
mod return_to;
mod settings;

pub(crate) use attempts::Attempts;
pub(crate) use codes::CodeRequest;
pub(crate) use links::Arrival;
pub use links::{HostLinkError, sign_in_link_on_host};
pub(crate) use provider::{ComingBack, LOGIN_TIME, Providers, Purpose};
pub(crate) use return_to::ReturnTo;
pub use settings::{ProviderSettings, SignInSettings};
