//! `souk chat`.

use std::path::PathBuf;

use clap::Args;

use super::server::ServerArgs;

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Base model id or adapter reference. Default: the server's base model.
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Send the message as a plain completion prompt, without the chat template.
    #[arg(long)]
    pub(crate) raw: bool,
    /// Most tokens of the answer.
    #[arg(long, default_value_t = 256, value_name = "COUNT")]
    pub(crate) max_tokens: u32,
    /// 0 always takes the likeliest token; larger values vary more.
    #[arg(long, default_value_t = 0.0, value_name = "0..2")]
    pub(crate) temperature: f32,
    #[command(flatten)]
    pub(crate) form: FormArgs,
    /// What to say. Without it, read lines from standard input and keep the conversation.
    pub(crate) message: Option<String>,
}

/// What every answer of a chat must look like: at most one of these.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct FormArgs {
    /// Answer with JSON that conforms to the JSON schema in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json_schema: Option<PathBuf>,
    /// Answer with a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Answer with text that this regular expression matches from beginning to end.
    #[arg(long, value_name = "REGEX")]
    pub(crate) regex: Option<String>,
    /// Answer with a text of the grammar in this file (Lark, as in docs/api.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) grammar: Option<PathBuf>,
    /// Answer with one of these texts; give the flag once for each.
    #[arg(long = "choice", value_name = "TEXT")]
    pub(crate) choices: Vec<String>,
}
