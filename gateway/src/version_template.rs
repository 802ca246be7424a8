//! A chat template that a version of an adapter brings along. It is a stranger's program: rendered under
//! [`TemplateLimits::of_strangers`], never on a thread that serves others.
//!
//! What is kept is its source. A compiled one takes up to 4 MiB, and is there while it is rendered alone.

use souk_protocol::chat::{ChatTemplate, Rendered, TemplateError, TemplateLimits, TemplateMessage};

use crate::error::ApiError;

/// A template of a version.
pub(crate) struct VersionTemplate {
    /// `owner/name@version`, for messages.
    version: String,
    /// The source, for clients that render it themselves.
    pub(crate) source: String,
    bos: String,
    eos: String,
}

impl VersionTemplate {
    /// The template of `version`, which is its name in messages.
    pub(crate) fn new(version: String, source: String, (bos, eos): (String, String)) -> Self {
        Self { version, source, bos, eos }
    }

    /// Compiles the template and renders a conversation, with control tokens from the template alone.
    pub(crate) fn render(
        &self,
        messages: &[TemplateMessage],
        add_generation_prompt: bool,
        controls: &[String],
    ) -> Result<Rendered, ApiError> {
        let (bos, eos) = (self.bos.clone(), self.eos.clone());
        let template = ChatTemplate::new(&self.source, bos, eos, TemplateLimits::of_strangers());
        // An upload would have been refused, so an older release published it.
        let template = template.map_err(|error| self.failure(&error))?;
        template.render(messages, add_generation_prompt, controls).map_err(|error| match error {
            // The template's own words are about the messages.
            refused @ (TemplateError::Refused(_) | TemplateError::NoMarker) => refused.into(),
            failed => self.failure(&failed),
        })
    }

    fn failure(&self, error: &TemplateError) -> ApiError {
        ApiError::VersionTemplate { version: self.version.clone(), reason: error.reason(), is_limit: error.is_limit() }
    }
}
