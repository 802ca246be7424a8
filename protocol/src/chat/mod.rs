//! Conversations as one text: a chat template of the base model or of a version, and what keeps users' text from being
//! read as control tokens. Registry and gateway share it: what is checked on upload is what renders later.

pub mod carried;
pub mod disarm;
pub mod template;

pub use carried::{CarriedFiles, CarriedTemplate};
pub use disarm::Marker;
pub use template::{ChatTemplate, Rendered, TemplateError, TemplateLimits, TemplateMessage};
