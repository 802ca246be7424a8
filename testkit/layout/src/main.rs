//! Lists the circles of files of every crate of this workspace, or of that whose Cargo.toml is given; fails if there is
//! one.

#![expect(clippy::print_stdout, reason = "the program prints what it found")]

use std::process::ExitCode;

use souk_layout::workspace::Workspace;

fn main() -> anyhow::Result<ExitCode> {
    let workspace = match std::env::args_os().nth(1) {
        Some(manifest) => Workspace::of(manifest.as_ref())?,
        None => Workspace::own()?,
    };
    let mut num_circles = 0;
    for package in &workspace.packages {
        for root in package.roots() {
            for circle in souk_layout::circles(root)? {
                num_circles += 1;
                println!("{}: a circle of {} files", package.name, circle.files.len());
                for edge in &circle.edges {
                    println!("  {edge}");
                }
            }
        }
    }
    println!("{num_circles} circles of files in {} packages", workspace.packages.len());
    Ok(if num_circles == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
