//! Why a node's stream is not taken: what the node is told, and what the gateway notes.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use souk_http::problem::Problem;
use souk_protocol::PoolId;

use crate::frame::{OLDEST_VERSION, VERSION};

/// Why a node's stream is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its token is missing or not good.
    #[error("the token is not accepted: {0}")]
    Token(String),
    /// It does not say who it is.
    #[error("{0}")]
    Hello(String),
    /// It speaks another version of the frames.
    #[error("the node speaks version {given} of the frames, and this gateway versions {OLDEST_VERSION} to {VERSION}")]
    Version {
        /// The node's.
        given: u16,
    },
    /// It runs a base model that the gateway does not serve.
    #[error("the node runs the base model {}, and this gateway serves {}", .given.0, listed(.served))]
    Base {
        /// The node's.
        given: PoolId,
        /// The gateway's.
        served: Vec<PoolId>,
    },
    /// A newer stream of the node is open.
    #[error("stream {given} of the node comes after stream {newest}, which is open")]
    Stale {
        /// Its number.
        given: u64,
        /// The newest one's.
        newest: u64,
    },
    /// The gateway stops.
    #[error("the gateway is shutting down")]
    Closing,
}

impl Refused {
    /// The word for figures, and for programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Hello(_) => "hello",
            Self::Version { .. } => "version",
            Self::Base { .. } => "base",
            Self::Stale { .. } => "stale",
            Self::Closing => "closing",
        }
    }

    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Token(_) => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::Hello(_) => (StatusCode::BAD_REQUEST, "no_hello"),
            Self::Version { .. } => (StatusCode::CONFLICT, "other_version"),
            Self::Base { .. } => (StatusCode::CONFLICT, "other_base"),
            Self::Stale { .. } => (StatusCode::CONFLICT, "stale_stream"),
            Self::Closing => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        Problem::new(status, code, self.to_string()).into_response()
    }
}

fn listed(pools: &[PoolId]) -> String {
    pools.iter().map(|pool| pool.0.to_string()).collect::<Vec<_>>().join(", ")
}
