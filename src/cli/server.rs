//! What every command that talks to a server takes.

use clap::Args;

/// Where the server is and who calls.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Address of the server.
    #[arg(long, env = "SOUK_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub(crate) url: String,
    /// API key. Default: the one that `souk login` got for this server.
    #[arg(long, env = "SOUK_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
}
