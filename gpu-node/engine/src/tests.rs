//! The engine over the scripted runner: traces of steps, and properties over random arrivals.

mod activated;
mod constraint;
mod device_memory;
mod endings;
mod fairness;
mod lab;
mod prefix;
mod properties;
mod scoring;
mod speculation;
mod thread;
mod traces;
