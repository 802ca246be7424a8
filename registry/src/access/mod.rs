//! Who may call whose adapters.
//!
//! A shared or gated adapter is called by its owner and by tenants that it was granted to. The owner grants a shared one to
//! whom it likes ([`grants`]); a gated one is seen by all, who ask for it ([`requests`]) by a form ([`form`]), and persons
//! decide ([`decide`]). What becomes of a request is one table ([`steps`]). Two who decide at once do so one after the other,
//! under the lock of the owner's tenant, and the second finds that it was decided. A grant that ends by its time is one no
//! more with the next query; one that is taken back ends what runs on it, as a take-down does, for that tenant alone.

mod decide;
mod form;
mod grants;
mod requests;
mod steps;

pub(crate) use decide::Decision;
pub(crate) use form::{Answer, Form, Question};
pub(crate) use grants::{GrantDetails, NewGate, NewGrant};
pub(crate) use requests::{Received, RequestDetails};
pub(crate) use steps::Step;
