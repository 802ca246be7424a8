//! Hooks: published, attached, resolved for gateways, and what is told of them.

mod attaching;
mod installing;
mod limits;
mod publishing;
mod told;

use reqwest::StatusCode;
use serde_json::{Value, json};
use souk_protocol::hooks::{CallerHooks, HookRoute, Standing, Step};

use crate::support::{Stack, User, body};

/// A key that manages the tenant.
async fn manager(stack: &Stack, tenant: &str) -> User {
    stack.key_for(tenant, &["tenant:manage", "adapters:read", "adapters:write", "access:decide", "usage:read"]).await
}

/// Attaches hooks as the only steps of a target; answers the pipeline.
async fn attach(user: &User, path: &str, hooks: &[&str]) -> Value {
    let steps: Vec<_> = hooks.iter().map(|hook| json!({ "hook": hook, "config": { "words": ["x"] } })).collect();
    body(user.put(path, json!({ "steps": steps })).await, StatusCode::OK).await
}

/// What a gateway hears that acts on a caller's chats: hook, number and standing.
async fn acting(stack: &Stack, user: &User) -> Vec<(String, String, Standing)> {
    let hooks = caller_hooks(stack, user).await;
    let shown = |step: &Step| (step.hook.to_string(), step.version.to_string(), step.standing);
    hooks.map(|hooks| hooks.steps(HookRoute::Chat).map(shown).collect()).unwrap_or_default()
}

async fn caller_hooks(stack: &Stack, user: &User) -> Option<CallerHooks> {
    let principal = stack.principal(user).await;
    let tree = stack.registry.limits_of_caller(&principal).await.unwrap().unwrap();
    tree.hooks.as_deref().cloned()
}
