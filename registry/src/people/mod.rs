//! Persons, and what they are in which tenant.
//!
//! A person is a row with an id that others refer to; name and address may be taken out of it. A person may be a member of
//! several tenants, in each with one role ([`Role`]), and comes in by an invitation or, where the operator lets them, by
//! making a tenant. A tenant that has members keeps an owner among them.
//!
//! Who leaves, or is given a role with fewer scopes, acts with nothing that was made before: all sessions of theirs end
//! and their own keys of that tenant, in the transaction of the change, and within a second everywhere else, since both
//! are withdrawals ([`crate::withdrawals`]). Keys of services stay: they are nobody's.

mod email;
mod invitations;
mod members;
mod persons;
mod role;
mod secret;

pub(crate) use email::Email;
pub(crate) use invitations::{InvitationRequest, Proof};
pub(crate) use members::MemberDetails;
pub use role::Role;
pub(crate) use secret::Secret;
