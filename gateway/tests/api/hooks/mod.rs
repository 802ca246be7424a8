//! Hooks on the road of a call, with real components in the real host.

mod answers;
mod bad;
mod house;
mod order;
mod prompts;
mod streams;
mod take_downs;
mod usage;
