//! Objects in a folder and in a bucket: one suite for both, then what only a bucket can meet with.

mod stores;
mod suite;

mod both;
mod direct;
mod faults;
mod folder;
mod misconfigured;
