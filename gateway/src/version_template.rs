//! A chat template that a version of an adapter brings along. It is a stranger's program: rendered under
//! [`TemplateLimits::of_strangers`], never on a thread that serves others.

use souk_protocol::chat::{ChatTemplate, Rendered, TemplateError, TemplateLimits, TemplateMessage};

use crate::error::ApiError;

/// A template of a version.
pub(crate) struct VersionTemplate {
    /// `owner/name@version`, for messages.
    version: String,
    /// The source, for clients that render it themselves.
    pub(crate) source: String,
    template: ChatTemplate,
}

impl VersionTemplate {
    /// Compiles the template of `version`, which is its name in messages.
    ///
    /// # Errors
    /// The template does not compile; an upload would have been refused, so it was published by an older release.
    pub(crate) fn compile(version: String, source: String, bos: String, eos: String) -> Result<Self, ApiError> {
        match ChatTemplate::new(&source, bos, eos, TemplateLimits::of_strangers()) {
            Ok(template) => Ok(Self { version, source, template }),
            Err(error) => Err(ApiError::VersionTemplate { version, reason: error.reason(), is_limit: false }),
        }
    }

    /// Renders a conversation, with control tokens from the template alone.
    pub(crate) fn render(
        &self,
        messages: &[TemplateMessage],
        add_generation_prompt: bool,
        controls: &[String],
    ) -> Result<Rendered, ApiError> {
        self.template.render(messages, add_generation_prompt, controls).map_err(|error| match error {
            // The template's own words are about the messages.
            refused @ (TemplateError::Refused(_) | TemplateError::NoMarker) => refused.into(),
            failed => self.failure(&failed),
        })
    }

    fn failure(&self, error: &TemplateError) -> ApiError {
        ApiError::VersionTemplate { version: self.version.clone(), reason: error.reason(), is_limit: error.is_limit() }
    }
}
