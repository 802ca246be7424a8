//! Who belongs to a tenant, and signs in: `souk members` and `souk login`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::server::ServerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum MembersCommand {
    /// List the members of your tenant.
    List {
        #[command(flatten)]
        of: OfTenant,
    },
    /// Ask somebody to become a member, and print the link for them, once. No mail is sent.
    Invite {
        #[command(flatten)]
        of: OfTenant,
        /// Whom to ask.
        email: String,
        /// What they become: owner, publisher, developer, billing or viewer.
        #[arg(long, value_name = "ROLE")]
        role: String,
    },
    /// List the invitations of your tenant, with what has become of them.
    Invitations {
        #[command(flatten)]
        of: OfTenant,
    },
    /// Take an invitation back: its link is worth nothing from then on.
    Uninvite {
        #[command(flatten)]
        of: OfTenant,
        /// The invitation's id, as listed.
        invitation: String,
    },
    /// Give a member another role.
    Role {
        #[command(flatten)]
        of: OfTenant,
        /// The person's id, as listed.
        person: String,
        /// owner, publisher, developer, billing or viewer.
        role: String,
    },
    /// Remove a member. Sessions and own keys end with it; keys of services stay.
    Remove {
        #[command(flatten)]
        of: OfTenant,
        /// The person's id, as listed.
        person: String,
    },
    /// Make a link that signs a member in, once, and print it.
    Link {
        #[command(flatten)]
        of: OfTenant,
        /// The person's id, as listed; with --host also an e-mail address.
        person: String,
        /// Make it on the server's own host: needs no key, but the data folder, and signs in for all of the person's tenants.
        #[arg(long)]
        host: bool,
        /// With --host, where browsers reach the server. Default: the setting server.public_url.
        #[arg(long, value_name = "URL", requires = "host")]
        public_url: Option<String>,
        /// With --host, folder of the database, as `souk serve` has it. Default: the setting data.dir.
        #[arg(long, value_name = "FOLDER", requires = "host")]
        data_dir: Option<PathBuf>,
    },
}

/// Of which tenant, and how to print.
#[derive(Debug, Args)]
pub(crate) struct OfTenant {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The tenant, by name (admin only). Default: your own.
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Address of the server.
    #[arg(long, env = "SOUK_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub(crate) url: String,
    /// What the key is called. Default: the name of this machine.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Print the address and open no browser.
    #[arg(long)]
    pub(crate) no_browser: bool,
    /// Print JSON when it is done, without the key; the address to open is printed on standard error.
    #[arg(long)]
    pub(crate) json: bool,
}
