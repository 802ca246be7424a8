//! Signing in with a provider of identities: OpenID Connect's code flow with PKCE, state and nonce.
//!
//! The browser gets a cookie with an id and a secret; state, nonce and the code's verifier are made of that secret, so that
//! nobody can finish a sign-in who has not begun it, no token counts that was made for another, and the database has none of
//! them. The row of the sign-in is removed by the one who comes back: once.
//!
//! Only the pair of issuer and subject says who somebody is. An address tells nothing of that, however verified: who
//! was invited under an address may be another than who has it later. It is compared with that of an invitation, and shown.

mod client;
mod id_token;
mod login;

pub(crate) use client::Providers;
pub(crate) use login::{ComingBack, LOGIN_TIME, Purpose};
