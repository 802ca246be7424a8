//! The engine over the scripted runner: traces of steps, and properties over random arrivals.

mod activated;
mod constraint;
mod endings;
mod fairness;
mod lab;
mod memory;
mod prefix;
mod properties;
mod scoring;
mod speculation;
mod thread;
mod traces;
